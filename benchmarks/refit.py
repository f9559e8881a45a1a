"""One model a member, fitted on all rows, against its five models of folds: what `--refit` costs, and what it saves.

For each table of `benchmarks/quality` and each seed, one search with a budget on four fifths of the rows; its blend is
exported both ways, and both bundles predict the fifth that was set apart.

Run, from the repository: python -m benchmarks.refit --budget 100s --only ames Sacramento attrition
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import tunekit as tk
from benchmarks.quality.tables import SOURCES, judged, write_split

ROWS = 50
"""That are predicted one by one to tell the latency."""


def compare(table: str, seed: int, budget: str, workers: int | None) -> dict[str, Any]:
    """Search once, export twice: scores on rows apart, milliseconds of one row, and megabytes, by way."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        task = write_split(table, seed, folder / "split")
        train, test, truth = (
            pd.read_parquet(folder / "split" / f"{part}.parquet") for part in ("train", "test", "truth")
        )
        folds = tk.KFold(5, test=0.05) if task["kind"] == "regression" else tk.StratifiedKFold(5, test=0.05)
        data = tk.Table(train, target=task["target"])
        study = tk.Study("refit", data=data, metric=task["metric"], split=folds, seed=seed)
        result = study.run(budget=budget, root=folder / "mlruns", workers=workers, observers=[])
        found: dict[str, Any] = {"table": table, "seed": seed, "members": len(result.summary["ensemble"]["members"])}
        for way, refit in (("folds", False), ("refit", True)):
            written = result.export(folder / way, refit=refit)
            bundle = tk.Bundle.load(written)
            predict = bundle.predict if task["kind"] == "regression" else bundle.predict_proba
            classes = [str(one) for one in getattr(bundle, "classes", None) or ()]
            predicted = predict(test)
            order = np.argsort(classes)
            kept = predicted[:, order] if classes else predicted
            np.savez(folder / f"{way}.npz", predictions=kept, classes=np.array(sorted(classes), dtype=np.str_))
            took = []
            for row in range(min(ROWS, len(test))):
                begun = time.perf_counter()
                predict(test.iloc[[row]])
                took.append(time.perf_counter() - begun)
            found |= {
                way: judged(table, truth, folder / f"{way}.npz"),
                f"{way}_ms": 1000 * statistics.median(took),
                f"{way}_mb": (written / "model.onnx").stat().st_size / 1e6,
            }
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", default="2m")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", choices=SOURCES, default=list(SOURCES), help="names of tables")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    figures = []
    print("| table | seed | metric | members | folds | refit | one row | size |\n|---|---|---|---|---|---|---|---|")
    for seed in given.seeds:
        for table in given.only:
            one = compare(table, seed, given.budget, given.workers)
            figures.append(one)
            cells = [table, seed, SOURCES[table].metric, one["members"], f"{one['folds']:,.5g}", f"{one['refit']:,.5g}"]
            cells += [
                f"{one['folds_ms']:.2f} -> {one['refit_ms']:.2f} ms",
                f"{one['folds_mb']:.1f} -> {one['refit_mb']:.1f} MB",
            ]
            print(f"| {' | '.join(map(str, cells))} |", flush=True)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1))
