"""The search's own cost, and how well it keeps its budget: one search on Ames housing, MLflow on.

Per trial, what is counted is the time from the end of a worker's trial to the end of its next one in which nothing is
built, fitted or predicted: asking the driver, starting the process, waiting for answers, recording, mirroring. With
--without-mlflow, nothing is mirrored: what that takes off is what MLflow costs the search.

With --tracking, the search runs without MLflow, and its trials are then written into an MLflow store of their own, as
the search's thread would: how much computing each one takes, which a busy machine changes less than what a clock tells;
"per_trial" is with what goes to the parent run every now and then.

Run: python benchmarks/overhead.py --budget 10m --json overhead.json
     python benchmarks/overhead.py --budget 10m --without-mlflow
     python benchmarks/overhead.py --budget 1m --tracking
"""

import argparse
import heapq
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tunekit.study import load_study, parse_duration
from tunekit.tracking import Observer, StudyFacts
from tunekit.tracking.mlflow import GATHER_SECONDS, QUIET
from tunekit.trial import Trial

STUDY = Path(__file__).parents[1] / "studies" / "ames.py"


def measure(study_file: Path, budget: str, workers: int | None, *, mlflow: bool = True) -> dict[str, float]:
    """Search once in a folder of its own."""
    seconds = parse_duration(budget)
    assert seconds is not None
    with tempfile.TemporaryDirectory() as root:
        study = load_study(study_file)
        begun = time.monotonic()
        observers = None if mlflow else [Recorder()]
        summary = study.run(budget=budget, root=root, workers=workers, observers=observers).summary
        elapsed = time.monotonic() - begun
        paths = (Path(root) / "studies" / study.name / "trials").glob("*/trial.json")
        trials = [json.loads(path.read_text()) for path in paths]
    return {
        "budget_seconds": seconds,
        "elapsed_seconds": elapsed,
        "budget_used": elapsed / seconds,
        "trials": len(summary["trials"]),
        **per_trial(trials),
        **{f"own_{name}": value for name, value in summary["overhead"].items()},
    }


class Recorder(Observer):
    """Keeps what an observer is told of a search."""

    def __init__(self) -> None:
        self.facts: StudyFacts | None = None
        self.trials: list[Trial] = []

    def study_started(self, facts: StudyFacts, trials: Sequence[Trial]) -> None:
        """Keep the facts."""
        self.facts = facts

    def trial_ended(self, trial: Trial) -> None:
        """Keep the trial."""
        self.trials.append(trial)


def of_tracking(study_file: Path, budget: str, workers: int | None) -> dict[str, float]:
    """Milliseconds that MLflow computes for each trial, for the parent run each time, and once at the end."""
    os.environ.update(QUIET)
    from tunekit.tracking.mirror import Mirror

    recorder = Recorder()
    with tempfile.TemporaryDirectory() as root:
        result = load_study(study_file).run(budget=budget, root=root, workers=workers, observers=[recorder])
        facts, trials = recorder.facts, recorder.trials
        assert facts is not None
        mirror = Mirror(Path(root) / "mirror", None, True)
        mirror.start(facts, trials[:2])  # what is imported and made by the first is no cost of the others
        mirror.flush()
        others = trials[2:]
        steps: dict[str, list[Callable[[], None]]] = {
            "a_trial": [partial(mirror.trial, trial) for trial in others],
            "parent": [mirror.flush],
            "end": [partial(mirror.end, result.summary)],
        }
        found = {"trials": len(trials), "epochs_of_a_trial": statistics.mean(len(trial.curve) for trial in trials)}
        for name, calls in steps.items():
            begun, computed = time.monotonic(), time.process_time()
            for call in calls:
                call()
            found[f"mlflow_cpu_ms_{name}"] = 1000 * (time.process_time() - computed) / len(calls)
            found[f"mlflow_ms_{name}"] = 1000 * (time.monotonic() - begun) / len(calls)
        every = others[-1].started + others[-1].seconds - others[0].started
        parents = every / GATHER_SECONDS * found["mlflow_cpu_ms_parent"]
        found["mlflow_cpu_ms_per_trial"] = found["mlflow_cpu_ms_a_trial"] + parents / len(others)
    return found


def per_trial(trials: list[dict[str, Any]]) -> dict[str, float]:
    """Milliseconds per trial in which its worker did not work on it; interrupted trials are left out."""
    trials = sorted((one for one in trials if one["state"] != "interrupted"), key=lambda one: one["started"])
    within = [one["seconds"] - one["fit_seconds"] for one in trials]
    between: list[float] = []
    free: list[float] = []
    for one in trials:
        if free and free[0] <= one["started"]:
            between.append(one["started"] - heapq.heappop(free))
        heapq.heappush(free, one["started"] + one["seconds"])
    return {
        "own_ms_within_a_trial_median": 1000 * statistics.median(within),
        "own_ms_between_trials_median": 1000 * statistics.median(between),
        "own_ms_per_trial": 1000 * (statistics.median(within) + statistics.median(between)),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", default="10m")
    parser.add_argument("--study", type=Path, default=STUDY)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--without-mlflow", action="store_true", help="the same search without it")
    parser.add_argument("--tracking", action="store_true", help="what MLflow alone costs")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    make = of_tracking if arguments.tracking else partial(measure, mlflow=not arguments.without_mlflow)
    figures = make(arguments.study, arguments.budget, arguments.workers)
    for name, figure in figures.items():
        print(f"{name:30} {figure:10.3f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))
