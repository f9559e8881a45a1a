"""Quality at an equal budget: tunekit, AutoGluon's `best_quality`, FLAML with its ensemble, and plain tuned XGBoost.

Each system runs alone, in a process and an environment of its own, on the same rows, budget and cores, and leaves its
predictions of rows whose target it has not seen. What was measured stays in the cache, and is not measured again.

Run, from the repository: python -m benchmarks.quality --install
Then:                     python -m benchmarks.quality --budget 2m --json quality.json
"""

import argparse
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.quality.environments import SYSTEMS, install
from benchmarks.quality.report import report
from benchmarks.quality.running import Heat
from benchmarks.quality.tables import SOURCES, told_of
from tunekit.study import parse_duration


def default_cache() -> Path:
    """In the user's cache directory: some gigabytes."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tunekit-quality"


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", default="2m", help="of each fit, such as 2m")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=SOURCES, default=list(SOURCES), help="names of tables")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--cache", type=Path, default=default_cache(), help="for environments, splits and results")
    parser.add_argument("--install", action="store_true", help="make the systems' environments, and end")
    parser.add_argument("--report", action="store_true", help="run nothing, print what has been measured")
    parser.add_argument(
        "--known",
        type=Path,
        nargs="+",
        default=[],
        help="of --json, earlier: its heats of these cores are not run again",
    )
    parser.add_argument("--json", type=Path, help="where to write the figures")
    return parser.parse_args()


def known(files: Iterable[Path], seconds: float | None, cores: int) -> dict[Heat, dict[str, Any]]:
    """What earlier runs measured with the same budget and cores, but for what failed.

    Args:
        files: that `--json` wrote.
        seconds: the budget.
        cores: for each system.
    """
    told = [json.loads(file.read_text()) for file in files]
    return {
        Heat(one["system"], one["table"], one["seed"], seconds or 0.0, cores): one
        for run in told
        if (run["budget"], run["cores"]) == (seconds, cores)
        for one in run["heats"]
        if not one["error"]
    }


def main() -> None:
    """Run what has not been measured yet, and print all of it."""
    given = arguments()
    cache = given.cache.absolute()
    if given.install:
        for system in given.systems:
            install(system, cache)
        return
    seconds = parse_duration(given.budget)
    found = []
    earlier = known(given.known, seconds, given.cores)
    for seed in given.seeds:  # all tables of one seed first: an early look is a fair one
        for table in given.only:
            for system in given.systems:
                heat = Heat(system, table, seed, seconds or 0.0, given.cores)
                measured = earlier.get(heat) or heat.known(cache)
                if measured is None and not given.report:
                    measured = heat.run(cache)
                    told = measured["error"] or f"{measured['score']:,.5g} in {measured['fit_seconds']:.0f} s"
                    print(f"{table}, seed {seed}, {system}: {told}", flush=True)
                found += [] if measured is None else [measured]
    print(f"\nBudget {given.budget}, {given.cores} cores.\n\n{report(found, given.systems)}\n")
    for table in given.only:
        folder = cache / "splits" / table / str(given.seeds[0])
        if folder.exists():
            print(told_of(table, folder))
    if given.json:
        given.json.write_text(json.dumps({"budget": seconds, "cores": given.cores, "heats": found}, indent=1))


if __name__ == "__main__":
    main()
