"""What one proposal costs, by driver and by the number of trials before it: medians, in milliseconds, in memory.

The space has eight dimensions, two of them asked for in half of the trials only. The first proposal of a process, which
imports the library, isn't counted. A driver that takes longer than a few seconds at one size is not asked at the next.

Run: python benchmarks/drivers.py --json drivers.json
"""

import argparse
import json
import statistics
import time
import warnings
from pathlib import Path

import optuna

from tunekit.drivers import DRIVERS, ProposalSampler
from tunekit.errors import StudyError

SIZES = (10, 100, 1000)
TOO_LONG = 5.0
SHARE = 0.02
"""What proposals may take of the time of a trial."""


def ask(study: optuna.Study) -> optuna.Trial:
    """One trial with all its values."""
    trial = study.ask()
    trial.suggest_float("lr", 1e-5, 1e-1, log=True)
    trial.suggest_int("units", 8, 512, log=True)
    trial.suggest_float("dropout", 0.0, 0.5, step=0.1)
    trial.suggest_categorical("activation", ["relu", "selu", "gelu"])
    trial.suggest_float("decay", 1e-6, 1e-2, log=True)
    if trial.suggest_int("layers", 1, 4) > 2:
        trial.suggest_int("units_2", 8, 512, log=True)
        trial.suggest_float("dropout_2", 0.0, 0.5, step=0.1)
    return trial


def history(size: int) -> list[optuna.trial.FrozenTrial]:
    """So many trials at random, with made-up scores."""
    study = optuna.create_study(sampler=ProposalSampler(DRIVERS["random"], 7, "net"))
    for _ in range(size):
        trial = ask(study)
        numbers = [value for value in trial.params.values() if not isinstance(value, str)]
        study.tell(trial, sum(numbers) % 10)
    return study.trials


def milliseconds(name: str, size: int, proposals: int) -> float:
    """The median cost of a proposal after so many trials."""
    study = optuna.create_study(sampler=ProposalSampler(DRIVERS[name], 7, "net"))
    study.add_trials(history(size))
    taken = []
    for _ in range(proposals):
        begun = time.perf_counter()
        trial = ask(study)
        taken.append(time.perf_counter() - begun)
        study.tell(trial, 5.0)
        if taken[-1] > TOO_LONG:
            break
    return 1000 * statistics.median(taken)


def measure(names: list[str], proposals: int) -> dict[str, dict[str, float | str]]:
    """Milliseconds by driver and size, or why there is no figure."""
    figures: dict[str, dict[str, float | str]] = {}
    for name in names:
        figures[name] = {}
        try:
            DRIVERS[name].check()
        except StudyError as error:
            figures[name] = {"missing": str(error)}
            continue
        study = optuna.create_study(sampler=ProposalSampler(DRIVERS[name], 7, "net"))
        ask(study)  # the first one imports the library; the study keeps KerasTuner's process until the last one
        for size in SIZES:
            figures[name][str(size)] = taken = milliseconds(name, size, proposals)
            if taken > 1000 * TOO_LONG:
                break
    return figures


def shown(figure: float | str | None) -> str:
    """A cell of the table."""
    return f"{figure:9.1f}" if isinstance(figure, float) else f"{'too long':>9}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drivers", nargs="+", default=list(DRIVERS), choices=list(DRIVERS), metavar="NAME")
    parser.add_argument("--proposals", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    figures = measure(arguments.drivers, arguments.proposals)
    print(f"{'ms a proposal, after':22}" + "".join(f"{size:>9}" for size in SIZES) + "   under 2% of trials of")
    for name, row in figures.items():
        if "missing" in row:
            print(f"{name:22}   {row['missing']}")
            continue
        middle = row.get("100")
        least = f"{middle / SHARE / 1000:9.1f} s, after 100" if isinstance(middle, float) else ""
        print(f"{name:22}" + "".join(shown(row.get(str(size))) for size in SIZES) + f"   {least}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))
