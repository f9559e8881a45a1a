"""KerasTuner's oracles in a process of their own: `python -m tunekit.drivers.oracles PARENT`.

Importing KerasTuner imports TensorFlow: some 15 s and 800 MB, which are to stay out of the process that runs the
search. A request and its answer are one line of JSON each; a request holds all that an oracle may know.

- request: {"algorithm": "bayesian" or "random", "seed", "startup", "axes": {name: [kind, low, high, log]},
  "trials": [{"positions": {name: position}, "loss": number or null, "running": true or false}]}
- answer: {"positions": {name: position}}, without any if the oracle finds nothing new; or {"error": traceback}
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import signal
import sys
import threading
import time
import traceback
from typing import Any

import numpy as np


def main(parent: int) -> None:
    """Answer until the one who asks is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the conductor's to handle
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    with contextlib.suppress(Exception):  # a failure is told in answer to each request
        importlib.import_module("keras_tuner.oracles")
    for line in sys.stdin:
        try:
            answer: dict[str, Any] = {"positions": propose(json.loads(line))}
        except Exception:
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def propose(request: dict[str, Any]) -> dict[str, Any]:
    """What a fresh oracle proposes after it was shown the history."""
    from keras_tuner import Objective
    from keras_tuner.oracles import BayesianOptimizationOracle, RandomSearchOracle

    facts: dict[str, Any] = {
        "objective": Objective("loss", "min"),
        "seed": request["seed"] % (2**31 - 1) + 1,  # it takes 0 for none
        "hyperparameters": _space(request["axes"]),
    }
    if request["algorithm"] == "random":
        oracle = RandomSearchOracle(**facts)
    else:
        oracle = BayesianOptimizationOracle(**facts, num_initial_points=request["startup"])
    running = [past for past in request["trials"] if past["running"]]
    for past in request["trials"]:
        if not past["running"]:
            _show(oracle, past, request["axes"])
    if running and any(past["loss"] is not None for past in request["trials"]):
        oracle.gpr.fit(*oracle._vectorize_trials())  # it guesses the scores of running trials by what it fitted last
    if request["algorithm"] == "bayesian":
        predict_quickly(oracle.gpr)
    for past in running:
        _show(oracle, past, request["axes"])
    proposed = oracle.populate_space(f"{len(oracle.trials)}")["values"] or {}
    return {name: value.item() if hasattr(value, "item") else value for name, value in proposed.items()}


def predict_quickly(gpr: Any) -> None:
    """Let a fitted Gaussian process predict one row without scikit-learn's checks and copies.

    The oracle looks for the best point by thousands of such predictions, one after another; these take a seventh of the
    time and are equal to the last digits: Rasmussen and Williams 2006, algorithm 2.1 and, for Matern 5/2, (4.17).
    """
    usual, fit = gpr.predict, gpr.fit
    known: dict[str, Any] = {}

    def refit(x: Any, y: Any) -> Any:
        known.clear()
        return fit(x, y)

    def predict(x: Any, return_std: bool = False) -> Any:
        if len(x) != 1 or not return_std or not hasattr(gpr, "L_"):
            return usual(x, return_std=return_std)
        if not known:
            known["scale"] = gpr.kernel_.length_scale
            known["rows"] = gpr.X_train_ / known["scale"]
            known["inverse"] = np.linalg.inv(gpr.L_)
        away = np.sqrt(5.0 * ((known["rows"] - x[0] / known["scale"]) ** 2).sum(axis=1))
        alike = (1.0 + away + away**2 / 3.0) * np.exp(-away)
        mean = gpr._y_train_std * (alike @ gpr.alpha_) + gpr._y_train_mean
        left = max(1.0 - float(((known["inverse"] @ alike) ** 2).sum()), 0.0)
        return np.reshape(mean, 1), np.reshape(gpr._y_train_std * math.sqrt(left), 1)

    gpr.fit, gpr.predict = refit, predict


def _space(axes: dict[str, list[Any]]) -> Any:
    from keras_tuner import HyperParameters

    hp = HyperParameters()
    for name, (kind, low, high, log) in axes.items():
        if kind == "choice":
            hp.Choice(name, list(range(high + 1)), ordered=False)
        else:
            (hp.Float if kind == "float" else hp.Int)(name, low, high, sampling="log" if log else "linear")
    return hp


def _show(oracle: Any, past: dict[str, Any], axes: dict[str, list[Any]]) -> None:
    from keras_tuner.engine.trial import Trial

    hp = _space({name: axes[name] for name in past["positions"]})
    hp.values = dict(past["positions"])
    ended = "FAILED" if past["loss"] is None else "COMPLETED"
    trial = Trial(hyperparameters=hp, trial_id=f"{len(oracle.trials)}", status="RUNNING" if past["running"] else ended)
    trial.score = past["loss"]
    oracle.trials[trial.trial_id] = trial
    oracle._record_values(trial)
    if past["running"]:
        oracle.ongoing_trials[trial.trial_id] = trial


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
