"""Runs one system on one split, watched from outside."""

import json
import os
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from benchmarks.memory import Watch
from benchmarks.quality.environments import command
from benchmarks.quality.tables import judged, write_split

PATIENCE = 600.0
"""Seconds over twice its budget after which a system is ended."""

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Heat:
    """One system on one split.

    Args:
        system: its name.
        table: the table's.
        seed: of the split and of the system.
        seconds: the budget.
        cores: for the system.
    """

    system: str
    table: str
    seed: int
    seconds: float
    cores: int

    def place(self, cache: Path) -> Path:
        """Where what it leaves is kept."""
        return cache / "results" / f"{self.seconds:g}s-{self.cores}-cores" / self.table / str(self.seed) / self.system

    def known(self, cache: Path) -> dict[str, Any] | None:
        """What was measured earlier; None if nothing was, or it failed."""
        path = self.place(cache) / "measured.json"
        measured: dict[str, Any] | None = json.loads(path.read_text()) if path.exists() else None
        return None if measured is None or measured["error"] else measured

    def run(self, cache: Path) -> dict[str, Any]:
        """Run it, judge its predictions, and keep the figures; its models go."""
        folder = self.place(cache)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        split = cache / "splits" / self.table / str(self.seed)
        task = write_split(self.table, self.seed, split)
        task |= {"seconds": self.seconds, "cores": self.cores, "seed": self.seed}
        (folder / "task.json").write_text(json.dumps(task, indent=1))
        measured = self._watched(cache, folder)
        if not measured["error"]:
            try:
                truth = pd.read_parquet(split / "truth.parquet")
                facts = json.loads((folder / "facts.json").read_text())
                measured |= {"score": judged(self.table, truth, folder / "predictions.npz"), **facts}
            except (OSError, ValueError) as error:
                measured["error"] = str(error)
        (folder / "measured.json").write_text(json.dumps(measured, indent=1))
        for model in ("model", "whole"):  # hundreds of megabytes each
            shutil.rmtree(folder / model, ignore_errors=True)
        return measured

    def _watched(self, cache: Path, folder: Path) -> dict[str, Any]:
        """Run the system's process to its end: how it ended, how long it took, and what memory it held."""
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.cores), "PYTHONPATH": str(REPOSITORY)}
        begun = time.monotonic()
        with (folder / "log.txt").open("w") as log:
            process = subprocess.Popen(
                command(self.system, cache, folder), cwd=folder, env=environment, stdout=log, stderr=log
            )
        watch, over = Watch(psutil.Process(process.pid)), threading.Event()
        thread = threading.Thread(target=watch.until, args=(over,))
        thread.start()
        error = None
        try:
            code = process.wait(2 * self.seconds + PATIENCE)
            error = None if code == 0 else f"exit code {code}: {_last_line(folder / 'log.txt')}"
        except subprocess.TimeoutExpired:
            error = f"not done {PATIENCE:.0f} s after twice its budget"
        finally:
            end_all(process)
            over.set()
            thread.join()
        return {
            "system": self.system,
            "table": self.table,
            "seed": self.seed,
            "error": error,
            "seconds": time.monotonic() - begun,
            "peak_bytes": watch.peak,
        }


def end_all(process: "subprocess.Popen[bytes]") -> None:
    """End a process that still runs, and its children."""
    if process.poll() is not None:
        return
    for one in [*psutil.Process(process.pid).children(recursive=True), process]:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "it said nothing"
