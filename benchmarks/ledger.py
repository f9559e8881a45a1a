"""What the ledger alone costs a trial: medians in milliseconds, by the number of trials that ended before.

A trial is a start, five values, their settling, three reports that are judged by the median rule, a conductor's look
around (heartbeats, the dead, the others), and its end with its record. Nothing is trained. PostgreSQL is measured if an
address is given, or if a server can be started here; one that is started here syncs to disk as it would in earnest.

Run: python benchmarks/ledger.py --json ledger.json
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunekit.drivers import ProposalSampler, find_driver
from tunekit.ledger import Ledger
from tunekit.space import Dimension, HyperParameters
from tunekit.stopping import FOLD_STEP, Median
from tunekit.trial import State

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

SIZES = (10, 100, 1000)
REPORTS = 3
PARTS = ("start", "values", "settle", "reports", "others", "end")


def space() -> list[Dimension]:
    """Five dimensions."""
    hp = HyperParameters()
    hp.Int("units", 32, 512, step=2, sampling="log", default=64)
    hp.Float("lr", 1e-4, 1e-1, sampling="log", default=1e-3)
    hp.Choice("activation", ["relu", "selu", "gelu"])
    hp.Int("layers", 1, 4)
    hp.Float("dropout", 0.0, 0.5)
    return hp.space


class Stopwatch:
    """Seconds of this process and of the clock, by part."""

    def __init__(self) -> None:
        self.cpu: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        self.wall: dict[str, float] = dict.fromkeys(PARTS, 0.0)

    def of(self, part: str, act: Callable[[], Any]) -> Any:
        """What an act gives; its time is added to the part's."""
        cpu, wall = time.process_time(), time.perf_counter()
        result = act()
        self.cpu[part] += time.process_time() - cpu
        self.wall[part] += time.perf_counter() - wall
        return result


def trial(ledger: Ledger, dimensions: list[Dimension]) -> Stopwatch:
    """One trial from start to end."""
    watch = Stopwatch()
    running = watch.of("start", lambda: ledger.start("net", time.time()))
    watch.of("values", lambda: [ledger.suggest(running, dimension) for dimension in dimensions])
    watch.of("settle", lambda: ledger.settle(running))
    running.trial.score = score = 1.0 + running.trial.number * 7919 % 1000 / 1000
    watch.of("reports", lambda: [ledger.worth_more(running, score, FOLD_STEP + fold) for fold in range(REPORTS)])
    watch.of("others", lambda: ledger.beat([running]))
    watch.of("others", ledger.adopt_stale)
    watch.of("others", ledger.refresh)
    running.trial.state = State.COMPLETE
    watch.of("end", lambda: ledger.end(running))
    return watch


def measure(storage: str | None, driver: str, trials: int) -> dict[str, dict[str, float]]:
    """Milliseconds of a trial by the number of trials before it: in all, and by part."""
    figures = {}
    dimensions, ended = space(), 0
    with tempfile.TemporaryDirectory() as root:
        ledger = Ledger(Path(root), f"benchmark-{time.time_ns()}", storage)
        ledger.open({"direction": "minimize"}, seed=7)
        ledger.add_family("net", ProposalSampler(find_driver(driver), 7, "net"), Median(), [])
        try:
            for size in SIZES:
                watches = [trial(ledger, dimensions) for _ in range(size - ended + trials)][-trials:]
                ended = size + trials
                figures[str(size)] = {
                    "cpu": 1000 * statistics.median(sum(watch.cpu.values()) for watch in watches),
                    "wall": 1000 * statistics.median(sum(watch.wall.values()) for watch in watches),
                    **{part: 1000 * statistics.median(watch.wall[part] for watch in watches) for part in PARTS},
                }
        finally:
            ledger.close()
    return figures


def everywhere(storage: str | None, driver: str, trials: int) -> dict[str, Any]:
    """Figures by database, or why there are none."""
    figures: dict[str, Any] = {"SQLite": measure(None, driver, trials)}
    if storage is not None:
        figures["PostgreSQL"] = measure(storage, driver, trials)
        return figures
    try:
        from postgres import CannotStart, running_server  # type: ignore[import-not-found]
    except ImportError as error:
        figures["PostgreSQL"] = {"missing": str(error)}
        return figures
    try:
        with running_server(fsync=True) as server:
            figures["PostgreSQL"] = measure(server.new_database(), driver, trials)
    except CannotStart as error:
        figures["PostgreSQL"] = {"missing": str(error)}
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", help="address of a PostgreSQL database; gets a study of its own")
    parser.add_argument("--driver", default="random")
    parser.add_argument("--trials", type=int, default=30, help="measured at each size")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    figures = everywhere(arguments.storage, arguments.driver, arguments.trials)
    print(f"{'ms a trial, after':20}{'CPU':>8}{'wall':>8}   of which" + "".join(f"{part:>9}" for part in PARTS))
    for name, rows in figures.items():
        if "missing" in rows:
            print(f"{name}: {rows['missing']}")
            continue
        for size, row in rows.items():
            parts = "".join(f"{row[part]:9.2f}" for part in PARTS)
            print(f"{f'{name}, {size} trials':20}{row['cpu']:8.2f}{row['wall']:8.2f}{'':11}{parts}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))
