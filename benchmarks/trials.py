"""Trials per minute: the same net, space, data, epochs and batch size under KerasTuner, Optuna with `fit`, and tunekit.

scikit-learn's digits, one validation part, 20 epochs of batches of 32, random search. Each contender gets the same wall
clock, start-up included; trials that ended in it count. Scores are validation accuracies.

Run: python benchmarks/trials.py --seconds 120 --json trials.json
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

EPOCHS, BATCH, SEED = 20, 32, 0


def build(hp):
    """One to three layers of 16 to 128 units."""
    import keras

    model = keras.Sequential([keras.Input((64,))])
    for _ in range(hp.Int("layers", 1, 3)):
        model.add(keras.layers.Dense(hp.Int("units", 16, 128, step=16), activation="relu"))
    model.add(keras.layers.Dense(10, activation="softmax"))
    rate = hp.Float("lr", 1e-4, 1e-2, sampling="log")
    model.compile(keras.optimizers.Adam(rate), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def digits() -> tuple[np.ndarray, ...]:
    """Training and validation parts: 80% and 20%, images scaled to 0..1."""
    images, numbers = load_digits(return_X_y=True)
    return tuple(train_test_split(images.astype("float32") / 16, numbers, test_size=0.2, random_state=SEED))


def keras_tuner(seconds: float) -> list[float]:
    """KerasTuner's RandomSearch in this process."""
    begun = time.monotonic()
    import keras
    import keras_tuner

    x, valid_x, y, valid_y = digits()
    scores: list[float] = []

    class Deadline(keras_tuner.RandomSearch):
        """Counts what ends in time."""

        def on_trial_end(self, trial) -> None:
            super().on_trial_end(trial)
            if time.monotonic() - begun > seconds:
                raise KeyboardInterrupt
            scores.append(trial.score)

    with tempfile.TemporaryDirectory() as folder:
        tuner = Deadline(
            build, objective="val_accuracy", max_trials=10_000, seed=SEED, directory=folder, project_name="digits"
        )
        try:
            tuner.search(x, y, epochs=EPOCHS, batch_size=BATCH, validation_data=(valid_x, valid_y), verbose=0)
        except KeyboardInterrupt:
            keras.backend.clear_session()
    return scores


def optuna_fit(seconds: float) -> list[float]:
    """The loop that people write by hand: Optuna's random sampler around `model.fit`."""
    begun = time.monotonic()
    import keras
    import optuna

    x, valid_x, y, valid_y = digits()

    class Suggest:
        """The factory's `hp`, answered by an Optuna trial."""

        def __init__(self, trial) -> None:
            self.trial = trial

        def Int(self, name, low, high, step=1):
            return self.trial.suggest_int(name, low, high, step=step)

        def Float(self, name, low, high, sampling):
            return self.trial.suggest_float(name, low, high, log=sampling == "log")

    def objective(trial) -> float:
        keras.backend.clear_session()
        history = build(Suggest(trial)).fit(
            x, y, epochs=EPOCHS, batch_size=BATCH, validation_data=(valid_x, valid_y), verbose=0
        )
        return float(max(history.history["val_accuracy"]))

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=SEED))
    scores: list[float] = []
    while True:
        study.optimize(objective, n_trials=1)
        if time.monotonic() - begun > seconds:
            return scores
        scores.append(study.trials[-1].values[0])


def tunekit(seconds: float, workers: int) -> list[float]:
    """A search of tunekit with its ledger and MLflow on."""
    import tunekit as tk
    from tunekit.tracking.mlflow import MlflowObserver

    images, numbers = load_digits(return_X_y=True)
    frame = pd.DataFrame(images / 16, columns=[f"pixel_{i}" for i in range(64)]).assign(number=numbers)
    family = tk.Keras(build, epochs=EPOCHS, patience=EPOCHS, batch_size=BATCH)
    study = tk.Study(
        "digits",
        data=tk.Table(frame, target="number"),
        metric="accuracy",
        families=[family],
        split=tk.Holdout(test=0.01, valid=0.2),
        driver=tk.drivers.Random(),
        stopper=tk.NeverStop(),
        seed=SEED,
    )
    with tempfile.TemporaryDirectory() as root:
        mirror = MlflowObserver(Path(root))
        summary = study.run(budget=seconds, workers=workers, root=root, observers=[mirror]).summary
    return [trial["score"] for trial in summary["trials"] if trial["state"] == "complete"]


CONTENDERS = {
    "KerasTuner RandomSearch": lambda seconds: keras_tuner(seconds),
    "Optuna and model.fit": lambda seconds: optuna_fit(seconds),
    "tunekit, 1 worker": lambda seconds: tunekit(seconds, 1),
    "tunekit, 2 workers": lambda seconds: tunekit(seconds, 2),
}


def contest(name: str, seconds: float) -> list[float]:
    """One contender in a process of its own: neither inherits what another has loaded."""
    command = [sys.executable, __file__, "--seconds", str(seconds), "--contender", name]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    scores: list[float] = json.loads(told.splitlines()[-1])
    return scores


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--contender", choices=CONTENDERS)
    arguments = parser.parse_args()
    if arguments.contender:
        print(json.dumps(CONTENDERS[arguments.contender](arguments.seconds)))
        sys.exit()
    found = {name: contest(name, arguments.seconds) for name in CONTENDERS}
    slowest = max(len(found["KerasTuner RandomSearch"]), 1)
    print(f"{'':24} {'trials':>7} {'per minute':>11} {'times KT':>9} {'median':>7} {'best':>7}")
    for name, scores in found.items():
        rate = len(scores) / arguments.seconds * 60
        middle, best = (statistics.median(scores), max(scores)) if scores else (float("nan"), float("nan"))
        print(f"{name:24} {len(scores):7} {rate:11.1f} {len(scores) / slowest:9.1f} {middle:7.3f} {best:7.3f}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"seconds": arguments.seconds, "scores": found}, indent=1))
