"""What a study's rows are checked for before any trial runs."""

import numpy as np
import pandas as pd
import pytest

import tunekit as tk
from tunekit.errors import DataError, MetricError
from tunekit.study.blend import judged_together
from tunekit.study.prepared import UNSEEN, prepare


def clicks(classes: list[str]) -> tk.Table:
    """Clicks in order of time."""
    rows = len(classes)
    return tk.Table(
        pd.DataFrame({"day": np.arange(rows), "x": np.arange(rows) % 7, "clicked": classes}),
        target="clicked",
        time="day",
    )


def test_test_rows_of_one_class_are_refused_before_the_search_where_the_metric_needs_two():
    data = clicks(["yes", "no"] * 40 + ["no"] * 20).load()
    with pytest.raises(DataError, match=r"the test rows can't be judged.*only one class"):
        prepare(data, tk.TimeSplit(3), "roc_auc", 0)
    assert len(prepare(data, tk.TimeSplit(3), "accuracy", 0).folds) == 3, "accuracy can be computed"


def test_a_validation_part_of_one_class_is_refused_by_its_fold():
    data = clicks(["yes", "no"] * 24 + ["no"] * 16 + ["yes", "no"] * 18).load()
    with pytest.raises(DataError, match="the validation rows of fold 2 can't be judged"):
        prepare(data, tk.TimeSplit(4), "average_precision", 0)


def test_probes_have_a_gap_in_each_column_unseen_levels_and_a_row_of_nothing():
    frame = pd.DataFrame({"x": np.arange(60.0) / 2, "kind": ["a", "b", "c"] * 20, "y": np.arange(60.0)})
    probes = prepare(tk.Table(frame, target="y").load(), tk.KFold(3), "rmse", 0).probes
    assert np.isnan(probes["x"]).sum() == 2, "one gap of its own, and the row of nothing"
    assert (probes["kind"] == "").sum() == 2
    assert (probes["kind"] == UNSEEN).sum() == 1
    assert np.isnan(probes["x"][-1])
    assert probes["kind"][-1] == ""


def test_test_rows_of_a_group_or_of_overlapping_windows_are_judged_together():
    frame = pd.DataFrame({"patient": np.arange(200) // 5, "x": np.arange(200) % 7, "y": np.arange(200.0)})
    of_patients = prepare(tk.Table(frame, target="y", group="patient").load(), tk.GroupKFold(3, test=0.2), "rmse", 0)
    group = judged_together(of_patients)
    assert group is not None
    assert len(np.unique(group)) == len(group) / 5

    def blocks(delay: int) -> list[int] | None:
        counts = pd.DataFrame({"day": np.arange(300), "count": np.arange(300.0) % 11})
        series = tk.Series(counts, target="count", time="day", lookback=5, delay=delay).load()
        found = judged_together(prepare(series, tk.TimeSplit(3, test=0.2), "rmse", 0))
        return None if found is None else list(np.bincount(found))

    found = blocks(delay=4)
    assert found is not None
    assert set(found[:-1]) == {4}
    assert blocks(delay=10) is None, "six blocks tell too little"
    alone = prepare(tk.Table(frame[["x", "y"]], target="y").load(), tk.KFold(3, test=0.2), "rmse", 0)
    assert judged_together(alone) is None


def test_groups_that_a_split_in_time_does_not_keep_together_are_told_of():
    frame = pd.DataFrame({"day": np.arange(60), "who": ["a", "b", "c"] * 20})
    frame["x"], frame["y"] = frame["day"] % 7 / 3, frame["day"] / 7
    data = tk.Table(frame, target="y", time="day", group="who").load()
    notices = prepare(data, None, "rmse", 0).data.notices
    assert any(one.startswith("3 of 3 groups have rows that train and later ones that judge") for one in notices)
    frame["who"] = np.arange(60) // 5
    whole = prepare(tk.Table(frame, target="y", group="who").load(), None, "rmse", 0).data
    assert not any("groups have rows" in one for one in whole.notices)


@pytest.mark.parametrize("task", ["regression", "binary", "multiclass", "several"])
def test_a_function_that_should_be_large_is_not_made_small(task: str):
    names = {"regression": 60, "binary": 2, "multiclass": 3}
    targets = {name: np.arange(60) % size for name, size in names.items()}
    frame = pd.DataFrame({"x": np.arange(60.0) / 3, **targets, "regression": targets["regression"] / 7})
    target = list(names) if task == "several" else task
    data = tk.Table(frame.drop(columns=[] if task == "several" else set(names) - {task}), target=target).load()

    def hit(target, predictions):
        shares = predictions if predictions.ndim > 1 else np.stack([1 - predictions, predictions], axis=1)
        return (target == (predictions if target.max() > 2 else shares.argmax(axis=1))).mean()

    def missed(target, predictions):
        return 1 - hit(target, predictions)

    with pytest.raises(MetricError, match=r"'hit'.* is 1 for right .*expected tk.Metric\('hit', hit, 'maximize'\)"):
        prepare(data, tk.KFold(2), hit, 0)
    prepare(data, tk.KFold(2), missed, 0)
    prepare(data, tk.KFold(2), tk.Metric("hit", hit, "maximize"), 0)


def test_errors_as_shares_of_zero_are_refused():
    frame = pd.DataFrame({"x": np.arange(60) % 7 / 3, "y": np.arange(60.0) / 7})
    data = tk.Table(frame, target="y").load()
    with pytest.raises(MetricError, match=r"'mape' divides by the target, which is 0 in 1 of 60 rows; .* metric='mae'"):
        prepare(data, tk.KFold(2), "mape", 0)
    prepare(tk.Table(frame.assign(y=frame["y"] + 1), target="y").load(), tk.KFold(2), "mape", 0)
