"""The search's own cost, and how well it keeps its budget: one search on Ames housing, MLflow on.

Run: python benchmarks/overhead.py --budget 10m --json overhead.json
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from tunekit.study import load_study, parse_duration

STUDY = Path(__file__).parents[1] / "studies" / "ames.py"


def measure(budget: str) -> dict[str, float]:
    """Search once in a folder of its own."""
    seconds = parse_duration(budget)
    assert seconds is not None
    with tempfile.TemporaryDirectory() as root:
        begun = time.monotonic()
        summary = load_study(STUDY).run(budget=budget, root=root).summary
        elapsed = time.monotonic() - begun
    return {
        "budget_seconds": seconds,
        "elapsed_seconds": elapsed,
        "budget_used": elapsed / seconds,
        "trials": len(summary["trials"]),
        **{f"own_{name}": value for name, value in summary["overhead"].items()},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", default="10m")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    figures = measure(arguments.budget)
    for name, figure in figures.items():
        print(f"{name:22} {figure:10.3f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))
