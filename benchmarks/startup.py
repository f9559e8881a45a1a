"""How long the command line takes to answer, against an empty Python: medians of runs in turn, after a warm-up.

Run: python benchmarks/startup.py
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "tunekit --help": [sys.executable, "-m", "tunekit", "--help"],
    "import tunekit.bundle": [sys.executable, "-c", "import tunekit.bundle"],
}


def seconds(command: list[str]) -> float:
    """Wall-clock time of one run."""
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def measure(runs: int) -> dict[str, float]:
    """Median seconds per command."""
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for run in range(runs + 1):
        for name, command in COMMANDS.items():
            took = seconds(command)
            if run:
                taken[name].append(took)
    return {name: statistics.median(times) for name, times in taken.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    figures = measure(arguments.runs)
    empty = figures["python -c pass"]
    for name, figure in figures.items():
        print(f"{name:24} {figure:7.3f} s   {figure / empty:6.1f} x an empty Python")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))
