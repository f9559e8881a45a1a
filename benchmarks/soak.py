"""Does it hold? 300 trials of trees and nets: first undisturbed, then under random kills of whatever runs.

The first search shows how memory goes over the trials. In the second, every few seconds a random process of the search
is ended by SIGKILL: a trial's, a process server or the conductor itself, which is then started again, until all trials
are done. A trial is lost if its record was once on disk and is not in the ledger in the end; it is doubled if two runs
stand for it, in the ledger or in MLflow.

Run: python benchmarks/soak.py --trials 300 --json soak.json
"""

import argparse
import json
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil

STUDY = '''
import numpy as np
import pandas as pd
import tunekit as tk

random = np.random.default_rng(0)
x = random.normal(size=(400, 6))
frame = pd.DataFrame(x, columns=list("abcdef")).assign(y=x[:, 0] * x[:, 1] + x[:, 2] + random.normal(size=400) / 5)


class Net(tk.MLP):
    """Ends soon."""

    epochs = 12


study = tk.Study(
    "soak",
    data=tk.Table(frame, target="y"),
    families=[tk.Linear(), tk.XGBoost(), Net()],
    split=tk.Holdout(test=0.2, valid=0.2),
    driver="random",
)
'''

MB = 1e6


class Search:
    """`tunekit search` in a process, watched from outside."""

    def __init__(self, folder: Path, trials: int) -> None:
        self.trials_folder = folder / "mlruns" / "studies" / "soak" / "trials"
        command = [sys.executable, "-m", "tunekit", "search", "study.py", "--trials", str(trials), "--workers", "2"]
        with (folder / "search.log").open("a") as log:
            self.process = psutil.Popen(command, cwd=folder, stdout=log, stderr=log)

    def members(self) -> dict[str, list[psutil.Process]]:
        """Its processes by what they are."""
        try:
            servers = [one for one in self.process.children() if "tunekit.executors.zygote" in one.cmdline()]
            trials = [child for server in servers for child in server.children()]
        except psutil.NoSuchProcess:
            return {}
        return {"conductor": [self.process], "server": servers, "trial": trials}

    def memory(self) -> tuple[float, float]:
        """MB of the conductor, and of everything (shared pages counted once)."""
        members = [one for group in self.members().values() for one in group]
        every = []
        for one in members:
            try:
                every.append(one.memory_full_info().pss)
            except psutil.Error:
                continue
        try:
            return self.process.memory_info().rss / MB, sum(every) / MB
        except psutil.NoSuchProcess:
            return 0.0, 0.0

    def records(self) -> set[int]:
        """Numbers of the trials whose record is on disk."""
        return {int(path.parent.name.split("-")[0]) for path in self.trials_folder.glob("*/trial.json")}


def undisturbed(folder: Path, trials: int) -> dict[str, Any]:
    """Memory over the trials of one search."""
    search = Search(folder, trials)
    samples: list[tuple[int, float, float]] = []
    while search.process.poll() is None:
        done = len(search.records())
        if done >= 10 and (not samples or done >= samples[-1][0] + 10):
            samples.append((done, *search.memory()))
        time.sleep(0.5)
    assert search.process.returncode == 0, (folder / "search.log").read_text()[-2000:]
    early, late = samples[: max(1, len(samples) // 4)], samples[-max(1, len(samples) // 4) :]

    def middle(part: list[tuple[int, float, float]], column: int) -> float:
        return statistics.median(sample[column] for sample in part)

    return {
        "conductor_mb_first_quarter": middle(early, 1),
        "conductor_mb_last_quarter": middle(late, 1),
        "all_mb_first_quarter": middle(early, 2),
        "all_mb_last_quarter": middle(late, 2),
        "samples": samples,
    }


def disturbed(folder: Path, trials: int, every: float, seed: int) -> dict[str, Any]:
    """Random kills until all trials are done."""
    dice = random.Random(seed)
    kills: Counter[str] = Counter()
    seen: set[int] = set()
    search = Search(folder, trials)
    starts, conductor_mb = 1, 0.0
    while True:
        time.sleep(dice.uniform(0.2, 2 * every))
        seen |= search.records()
        conductor_mb = max(conductor_mb, search.memory()[0])
        if search.process.poll() is None:
            role = dice.choices(["trial", "server", "conductor"], [12, 2, 1])[0]
            victims = search.members().get(role, [])
            if victims:
                try:
                    dice.choice(victims).kill()
                    kills[role] += 1
                except psutil.NoSuchProcess:
                    continue
        elif search.process.returncode == 0:
            break
        else:
            assert search.process.returncode == -9, (folder / "search.log").read_text()[-2000:]
            search = Search(folder, trials)
            starts += 1
    seen |= search.records()
    return {"kills": dict(kills), "starts": starts, "conductor_mb_most": conductor_mb, **judged(folder, seen)}


def judged(folder: Path, seen: set[int]) -> dict[str, Any]:
    """What became of the trials whose record was ever seen."""
    command = [sys.executable, "-m", "tunekit", "show", "study.py", "--json"]
    told = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout
    trials = json.loads(told)["trials"]
    numbers = Counter(trial["number"] for trial in trials)
    records = {
        record["number"]: record
        for path in (folder / "mlruns/studies/soak/trials").glob("*/trial.json")
        for record in [json.loads(path.read_text())]
    }
    interrupted = [record for record in records.values() if record["state"] == "interrupted"]
    repeated = {(one["family"], one["retry_of"]): one for one in records.values() if one["retry_of"] is not None}
    waiting = 0
    for one in interrupted:
        first = one["index"] if one["retry_of"] is None else one["retry_of"]
        again = repeated.get((one["family"], first))
        waiting += again is None or any(again["values"].get(name) != value for name, value in one["values"].items())
    with closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as connection:
        runs = connection.execute(
            "SELECT value, status FROM runs JOIN tags USING (run_uuid) WHERE key = 'tunekit.trial'"
        ).fetchall()
        running = connection.execute("SELECT count(*) FROM runs WHERE status = 'RUNNING'").fetchone()[0]
    mirrored = Counter(int(value) for value, _ in runs)
    return {
        "trials": len(trials),
        "states": dict(Counter("interrupted" if one["interrupted"] else one["state"] for one in trials)),
        "lost": len(seen - set(numbers)),
        "doubled": sum(1 for count in numbers.values() if count > 1),
        "interrupted_not_run_again_with_the_same_values": waiting,
        "mlflow_doubled": sum(1 for count in mirrored.values() if count > 1),
        "mlflow_missing": len(set(numbers) - set(mirrored)),
        "mlflow_left_running": running,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--kill-every", type=float, default=4.0, help="seconds between kills, on average")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=["undisturbed", "disturbed"])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    figures: dict[str, Any] = {}
    for phase in ["undisturbed", "disturbed"]:
        if arguments.only not in (None, phase):
            continue
        with tempfile.TemporaryDirectory() as name:
            (Path(name) / "study.py").write_text(STUDY)
            if phase == "undisturbed":
                figures[phase] = undisturbed(Path(name), arguments.trials)
            else:
                figures[phase] = disturbed(Path(name), arguments.trials, arguments.kill_every, arguments.seed)
        print(phase)
        for key, figure in figures[phase].items():
            if key != "samples":
                print(f"  {key:48} {figure}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))
