"""Nothing leaks: targets without meaning can't be predicted, and the targets of test rows are nowhere near a trial."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from searches import attrition, houses, penguins  # type: ignore[import-not-found]

import tunekit as tk
from tunekit.study import Result
from tunekit.study.prepared import Prepared

pytestmark = pytest.mark.usefixtures("kept_servers")

GOOD = [tk.Baseline(), tk.Linear(), tk.XGBoost(), tk.Forest()]


def search(table: pd.DataFrame, target: str, root: Path, **options: Any) -> Result:
    study = tk.Study("small", data=tk.Table(table, target=target), families=GOOD, seed=5, **options)
    result: Result = study.run(trials=6, workers=2, root=root, observers=[])
    return result


@pytest.mark.parametrize(
    ("table", "target", "options"),
    [
        (houses(400), "Sale_Price", {"split": tk.KFold(3)}),
        (attrition(400), "Attrition", {"metric": "roc_auc", "split": tk.StratifiedKFold(3)}),
        pytest.param(penguins(), "species", {"split": tk.StratifiedKFold(3)}, marks=pytest.mark.slow),
    ],
    ids=["regression", "binary", "multiclass"],
)
def test_shuffled_targets_score_like_the_baseline(tmp_path, table, target, options) -> None:
    shuffled = table.assign(**{target: np.random.default_rng(5).permutation(table[target])})
    summary = search(shuffled, target, tmp_path, **options).summary
    ensemble = summary["ensemble"]
    # Judged by 95% intervals, so two or three seeds of a hundred would disagree by chance; this one is fixed.
    assert ensemble["verdict"].startswith("No model is reliably better than the baseline")
    sign = 1 if summary["direction"] == "minimize" else -1
    for trial in summary["trials"]:
        # Out of fold, chance moves the ROC AUC of 50 positives among 320 rows by 0.04 (its standard error), so that of
        # the best of six by less than 0.1, a fifth of the baseline's 0.5; it moves the others by a smaller share.
        assert sign * trial["score"] > sign * summary["baseline"] - 0.2 * abs(summary["baseline"]), trial["family"]


@pytest.mark.slow
def test_a_column_that_leaks_would_be_seen(tmp_path) -> None:
    """The counterpart: what the test above rules out is what a leak would look like."""
    table = houses(400)
    shuffled = np.random.default_rng(5).permutation(table["Sale_Price"])
    noise = np.random.default_rng(6).normal(0, 20_000, len(table))
    leaking = table.assign(Sale_Price=shuffled, leak=shuffled + noise)
    summary = search(leaking, "Sale_Price", tmp_path, split=tk.KFold(3)).summary
    assert not summary["ensemble"]["verdict"].startswith("No model is reliably better")
    assert summary["ensemble"]["oof_score"] < 0.5 * summary["baseline"]  # noise of 20,000 against a spread of 80,000


@pytest.fixture(params=[(houses(), "Sale_Price"), (attrition(), "Attrition")], ids=["regression", "binary"])
def stored(request, tmp_path) -> tuple[Prepared, Path]:
    """Rows as trials get them."""
    table, target = request.param
    prepared = tk.Study("small", data=tk.Table(table, target=target), seed=5).prepare()
    prepared.write(tmp_path)
    return prepared, tmp_path


def test_the_store_is_the_same_whatever_the_targets_of_test_rows_are(stored, tmp_path) -> None:
    """No bit of a test target reaches any file that a trial reads."""
    prepared, folder = stored
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    target = prepared.data.target.copy()
    target[prepared.folds.test] = np.nan
    blind = dataclasses.replace(prepared, data=dataclasses.replace(prepared.data, target=target))
    other = tmp_path / "blind"
    blind.write(other)
    assert {path.name: path.read_bytes() for path in other.iterdir()} == before


def test_the_store_holds_no_test_target(stored) -> None:
    prepared, folder = stored
    development, test = prepared.folds.development, prepared.folds.test
    arrays = {path.stem: np.load(path, allow_pickle=False) for path in folder.glob("*.npy")}
    assert {path.suffix for path in folder.iterdir()} == {".npy", ".json"}
    np.testing.assert_array_equal(arrays["target"], prepared.data.target[development])
    for number in range(len(prepared.folds)):
        rows = np.concatenate([arrays[f"train_{number}"], arrays[f"valid_{number}"]])
        assert len(np.unique(rows)) == len(rows), "a row trains and judges"
        assert rows.max() < len(development)
    if prepared.data.task == "regression":
        hidden = set(prepared.data.target[test]) - set(prepared.data.target[development])
        assert len(hidden) > 20  # prices that only test rows have
        for name, array in arrays.items():
            assert not hidden & set(array.ravel().tolist()), name
        facts = (folder / "facts.json").read_text()
        assert not [price for price in hidden if f"{price:.0f}" in facts]
    assert set(json.loads((folder / "facts.json").read_text())) == {
        "task",
        "outputs",
        "cardinalities",
        "folds",
        "arrays",
        "array_names",
        "columns",
        "streamed",
        "targets",
        "class_weight",
        "text_columns",
        "scaled_by",
        "naive",
        "anchor",
        "logarithm",
    }


def test_a_trial_leaves_no_trace_of_a_test_target(tmp_path) -> None:
    """With other targets on the test rows, every trial is the same to the bit; only the judgement differs."""
    table = houses(200)
    study = tk.Study("small", data=tk.Table(table, target="Sale_Price"), families=GOOD[:3], split=tk.KFold(2))
    test = study.prepare().folds.test
    found = []
    for number, prices in enumerate([table["Sale_Price"].to_numpy(), table["Sale_Price"].to_numpy()[::-1]]):
        changed = table["Sale_Price"].to_numpy().copy()
        changed[test] = prices[test]
        study.data = tk.Table(table.assign(Sale_Price=changed), target="Sale_Price")
        root = tmp_path / str(number)
        found.append((study.run(trials=4, workers=1, root=root, observers=[]).summary, root))
    (one, root), (other, other_root) = found

    def told(summary: dict[str, Any]) -> list[Any]:
        return [[trial[name] for name in ("family", "values", "score", "fold_scores")] for trial in summary["trials"]]

    assert told(one) == told(other)
    members = [{name: member[name] for name in ("trial", "weight")} for member in one["ensemble"]["members"]]
    assert members == [{name: member[name] for name in ("trial", "weight")} for member in other["ensemble"]["members"]]
    assert one["ensemble"]["oof_score"] == other["ensemble"]["oof_score"]
    assert one["ensemble"]["test_score"] != other["ensemble"]["test_score"]
    for path in (root / "studies" / "small" / "trials").rglob("predictions.npz"):
        same = other_root / path.relative_to(root)
        with np.load(path) as mine, np.load(same) as theirs:
            for name in ("valid", "unlabelled"):
                np.testing.assert_array_equal(mine[name], theirs[name])
