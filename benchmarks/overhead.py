"""The search's own cost, and how well it keeps its budget: one search on Ames housing, MLflow on.

Per trial, what is counted is the time from the end of a worker's trial to the end of its next one in which nothing is
built, fitted or predicted: asking the driver, starting the process, waiting for answers, recording, mirroring.

Run: python benchmarks/overhead.py --budget 10m --json overhead.json
"""

import argparse
import heapq
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from tunekit.study import load_study, parse_duration

STUDY = Path(__file__).parents[1] / "studies" / "ames.py"


def measure(study_file: Path, budget: str, workers: int | None) -> dict[str, float]:
    """Search once in a folder of its own."""
    seconds = parse_duration(budget)
    assert seconds is not None
    with tempfile.TemporaryDirectory() as root:
        study = load_study(study_file)
        begun = time.monotonic()
        summary = study.run(budget=budget, root=root, workers=workers).summary
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
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    figures = measure(arguments.study, arguments.budget, arguments.workers)
    for name, figure in figures.items():
        print(f"{name:30} {figure:10.3f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))
