"""Memory of a search, in all of its processes together: what Linux calls the proportional set size.

A page that several processes share, such as TensorFlow's code or the rows that all of them map, is counted once.

Run: python benchmarks/memory.py studies/flights.py --budget 5m --json memory.json
Or, on a table that is made for it, of so many rows in a Parquet file: python benchmarks/memory.py --rows 5000000
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow
from pyarrow import parquet

EVERY = 0.25
"""Seconds between two looks."""

ROW_GROUP = 250_000

MB = 1e6


class Watch:
    """Looks at a process and all of its descendants until it ends.

    Args:
        process: the first of them.

    Attributes:
        peak: of all together, in bytes.
        at: what each process held at that moment: its command's name, its bytes, and of these, those of mapped files.
        largest: what one process held at most, in bytes.
        seconds: when the peak was.
    """

    def __init__(self, process: psutil.Process) -> None:
        self.peak = self.largest = 0
        self.at: list[tuple[str, int, int]] = []
        self.seconds = 0.0
        self._process = process
        self._begun = time.monotonic()

    def look(self) -> None:
        """Look once."""
        held = list(self._held())
        total = sum(size for _, size, _ in held)
        self.largest = max([self.largest, *(size for _, size, _ in held)])
        if total > self.peak:
            self.peak, self.at, self.seconds = total, held, time.monotonic() - self._begun

    def until(self, over: threading.Event) -> None:
        """Look until it is over."""
        while not over.wait(EVERY):
            self.look()

    def _held(self) -> Iterator[tuple[str, int, int]]:
        try:
            family = [self._process, *self._process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in family:
            try:
                lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:]
                facts = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
                yield process.name(), facts["Pss"], facts.get("Pss_File", 0)
            except (OSError, psutil.NoSuchProcess):  # it has ended meanwhile
                continue


def measure(command: list[str], folder: Path) -> Watch:
    """Run a command to its end and watch it."""
    with subprocess.Popen(command, cwd=folder) as process:
        watch, over = Watch(psutil.Process(process.pid)), threading.Event()
        thread = threading.Thread(target=watch.until, args=(over,))
        thread.start()
        code = process.wait()
        over.set()
        thread.join()
    if code:
        sys.exit(f"{' '.join(command)} ended with exit code {code}")
    return watch


STUDY = '''"""A made table."""

import tunekit as tk

study = tk.Study(
    "made",
    data=tk.Table("made.parquet", target="y", kinds={"note": "drop"}),
    families=[tk.Baseline(), tk.Linear(), tk.XGBoost()],
)
'''


def make(folder: Path, rows: int) -> Path:
    """Write a study and its table, some rows at a time: 12 numbers, 4 categories, and a column of texts to drop."""
    rng = np.random.default_rng(0)
    effect = rng.normal(size=3000)
    writer: Any = None
    for start in range(0, rows, ROW_GROUP):
        count = min(ROW_GROUP, rows - start)
        numbers = rng.normal(size=(count, 12))
        codes = {f"category_{size}": rng.integers(0, size, count) for size in (5, 50, 500, 3000)}
        y = numbers @ np.linspace(-1, 1, 12) + effect[codes["category_3000"]] + rng.normal(size=count)
        columns: dict[str, Any] = {f"number_{number}": numbers[:, number] for number in range(12)}
        columns |= {name: np.char.add("level ", code.astype(str)) for name, code in codes.items()}
        columns |= {"note": np.char.add("row ", (start + np.arange(count)).astype(str)), "y": y}
        table = pyarrow.table(columns)
        writer = writer or parquet.ParquetWriter(folder / "made.parquet", table.schema)
        writer.write_table(table)
    writer.close()
    (folder / "study.py").write_text(STUDY)
    print(f"made.parquet: {rows:,} rows, {(folder / 'made.parquet').stat().st_size / MB:,.0f} MB")
    return folder / "study.py"


def main() -> None:
    """Search, export, and print what was held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, nargs="?")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--budget", default="5m")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if (arguments.study is None) == (arguments.rows is None):
        parser.error("expected a study file, or --rows")
    tunekit = [sys.executable, "-m", "tunekit"]
    workers = ["--workers", str(arguments.workers)] if arguments.workers else []
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        made = make(Path(folder), arguments.rows) if arguments.study is None else arguments.study
        study = str(made.resolve())
        for name, more in {
            "search": ["search", study, "--budget", arguments.budget, *workers],
            "export": ["export", study, "-o", "model"],
        }.items():
            begun = time.monotonic()
            watch = measure([*tunekit, *more], Path(folder))
            figures[name] = {
                "seconds": round(time.monotonic() - begun, 1),
                "peak_mb": round(watch.peak / MB),
                "largest_process_mb": round(watch.largest / MB),
            }
            print(f"{name}: {figures[name]}, after {watch.seconds:.0f} s:")
            for process, held, mapped in sorted(watch.at, key=lambda one: -one[1]):
                print(f"  {process:20} {held / MB:8.0f} MB, of which {mapped / MB:6.0f} MB are files")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
