"""What the studies find: each is searched and exported as a user would, and shown as a row of the README's table.

Run: python benchmarks/gallery.py                    every study, with the budget that its first lines name
     python benchmarks/gallery.py --readme README.md  the same, and write the table into the README
     python benchmarks/gallery.py --trials 6         a few trials each: does every study still run?
"""

import argparse
import ast
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from memory import MB, measure  # type: ignore[import-not-found]  # the benchmark beside this one

STUDIES = Path(__file__).parents[1] / "studies"
BEGIN, END = "<!-- gallery: made by `make gallery` -->", "<!-- end of the gallery -->"
HEAD = (
    "| study | rows that judge | families in the blend | its score there (95%) | best single | cheap reference | "
    "baseline | is the blend worth it? | time, memory |\n|---|---|---|---|---|---|---|---|---|"
)
MOST_MB = 4000
"""What all processes of a search may hold together: a laptop has that much to spare."""

QUICK = "90s"
"""Of a run with few trials: those that take longer end with what they have learnt."""


def studies() -> list[Path]:
    """The files that declare a study."""
    return [path for path in sorted(STUDIES.glob("*.py")) if re.search(r"^study = ", path.read_text(), flags=re.M)]


def told(path: Path) -> tuple[str, str]:
    """What a study is about, and the budget that its docstring names."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    budget = re.search(r"--budget (\w+)", text)
    return text.split(". ")[0].split(".\n")[0].split("\n")[0], budget[1] if budget else "5m"


def run(path: Path, effort: list[str], folder: Path) -> dict[str, Any]:
    """Search, show and export; the summary with the seconds and the memory that it took."""
    command = [str(Path(sys.executable).parent / "tunekit")]
    root = ["--root", str(folder / "mlruns")]
    begun = time.monotonic()
    watch = measure([*command, "search", str(path), *effort, *root], folder)
    seconds = time.monotonic() - begun
    if watch.peak > MOST_MB * MB:
        sys.exit(f"the search of {path.name} held {watch.peak / MB:,.0f} MB; expected at most {MOST_MB:,}: {watch.at}")
    shown = subprocess.run(
        [*command, "show", str(path), "--json", *root], check=True, cwd=folder, capture_output=True, text=True
    )
    bundle = folder / f"{path.stem}-model"
    subprocess.run([*command, "export", str(path), "-o", str(bundle), "--force", *root], check=True, cwd=folder)
    size = sum(file.stat().st_size for file in bundle.iterdir()) / 1e6
    return {**json.loads(shown.stdout), "seconds": seconds, "memory_mb": watch.peak / MB, "bundle_mb": size}


def row(path: Path, summary: dict[str, Any]) -> str:
    """A row of the table."""
    ensemble = summary["ensemble"]
    weights: dict[str, float] = defaultdict(float)
    for member in ensemble["members"]:
        weights[member["family"]] += member["weight"]
    members = ", ".join(f"{name} {weight:.0%}" for name, weight in sorted(weights.items(), key=lambda one: -one[1]))
    low, high = ensemble["test_interval"]
    single, cheap, baseline = ensemble["best_single"], ensemble["cheap"], ensemble["test_baseline"]
    cells = [
        f"`studies/{path.name}`: {told(path)[0][0].lower()}{told(path)[0][1:]}",
        f"{ensemble['test_rows']:,}",
        members,
        f"{summary['metric']} {figure(ensemble['test_score'])} ({figure(low)} to {figure(high)})",
        f"{single['family']} {figure(single['test_score'])}",
        "the same" if cheap is None else f"{cheap['family']} {figure(cheap['test_score'])}",
        "" if baseline is None else figure(baseline),
        worth(ensemble),
        f"{summary['seconds'] / 60:.1f} min, {len(summary['trials'])} trials, {summary['memory_mb'] / 1000:.1f} GB",
    ]
    return f"| {' | '.join(cells)} |"


def worth(ensemble: dict[str, Any]) -> str:
    """Whether the blend beats the best single model and the cheap reference, by more than noise."""
    if len(ensemble["members"]) == 1:
        return "one model is enough"
    rivals = {f"{ensemble['best_single']['family']} alone": ensemble["gain_interval"]}
    if ensemble["cheap"] is not None:
        rivals[f"{ensemble['cheap']['family']}, the cheap one"] = ensemble["cheap"]["gain_interval"]
    better = [name for name, (_, high) in rivals.items() if high < 0]
    alike = [name for name, (low, high) in rivals.items() if low <= 0 <= high]
    if better:
        return f"no: reliably worse than {' and '.join(better)}"
    return f"within the noise of {' and '.join(alike)}" if alike else "yes: reliably better than each"


def figure(value: float) -> str:
    """A score in four digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def main() -> None:
    """Run the studies and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, help="of each study, instead of its budget")
    parser.add_argument("--only", nargs="*", help="names of studies, such as ames")
    parser.add_argument("--readme", type=Path, help="where to write the table, between its marks")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args()
    found: dict[str, Any] = {}
    rows = []
    chosen = [path for path in studies() if not given.only or path.stem in given.only]
    with tempfile.TemporaryDirectory() as folder:
        for path in chosen:
            budget = told(path)[1]
            few = ["--trials", str(given.trials), "--budget", QUICK]
            effort = ["--budget", budget] if given.trials is None else few
            print(f"\n=== {path.stem}: tunekit search studies/{path.name} {' '.join(effort)}", flush=True)
            found[path.stem] = run(path, effort, Path(folder))
            rows.append(row(path, found[path.stem]))
    when = datetime.datetime.now(datetime.UTC).date().isoformat()
    effort_told = "each study's own budget" if given.trials is None else f"{given.trials} trials each"
    note = f"By `make gallery` on {os.cpu_count()} cores, {when}: {effort_told}."
    table = "\n".join([HEAD, *rows, "", note])
    print(f"\n{table}")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))
    if given.readme:
        text = given.readme.read_text(encoding="utf-8")
        before, rest = text.split(BEGIN)
        given.readme.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
