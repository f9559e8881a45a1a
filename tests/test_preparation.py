"""Preparation: learnt from training rows only, and applied to any row."""

import datetime as dt
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tunekit.data import Column, Encoded, Folds, KFold, Preparation, Schema, Table, TimeSplit
from tunekit.data.preparation import CLIP, LAYOUTS, MOST_HOT
from tunekit.data.schema import CALENDAR, calendar
from tunekit.study.prepared import Prepared, prepare

ROWS = 60


def frame(rows: int = ROWS, seed: int = 0) -> pd.DataFrame:
    """Numbers with gaps, a flag, a date and two categories, one with gaps and a rare level."""
    random = np.random.default_rng(seed)
    kind = random.choice(np.array(["a", "b", "c", None], dtype=object), rows)
    kind[7] = "rare"
    return pd.DataFrame(
        {
            "size": random.normal(50, 20, rows),
            "gappy": np.where(random.random(rows) < 0.3, np.nan, random.lognormal(0, 1, rows)),
            "constant": np.full(rows, 4.0),
            "flag": random.random(rows) < 0.1,
            "when": pd.Timestamp("2020-01-01") + pd.to_timedelta(random.integers(0, 999, rows), unit="h"),
            "kind": kind,
            "town": random.choice(["x", "y"], rows),
            "y": random.normal(10, 3, rows),
        }
    )


def fitted(prepared: Prepared, number: int) -> Preparation:
    """As a trial fits it: see `Fold.preparation`."""
    train, _ = prepared.folds.pairs[number]
    rows = prepared.schema.encode(prepared.data.columns).take(train)
    return Preparation.fit(rows, prepared.schema.cardinalities, prepared.data.target[train])


def same(one: Preparation, other: Preparation) -> None:
    for field in fields(Preparation):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name), err_msg=field.name)


def changed(table: pd.DataFrame, rows: np.ndarray) -> pd.DataFrame:
    """The table with every value of these rows moved far away: other numbers, gaps, levels that no other row has."""
    moved = table.copy().astype({"flag": float, "kind": object, "town": object})
    moved.loc[rows, ["size", "gappy", "constant", "y"]] = [[1e6, -1e6, 77.0, -1e5]] * len(rows)
    moved.loc[rows, "flag"] = np.nan
    moved.loc[rows, "when"] = pd.Timestamp("1900-01-01")
    moved.loc[rows, ["kind", "town"]] = ["only here", None]
    return moved


def as_data(table: pd.DataFrame, **options: Any) -> Any:
    kinds = {"flag": "boolean", "constant": "number"}
    return Table(table, target="y", kinds=kinds, **options).load()


@pytest.mark.parametrize(("split", "time"), [(KFold(3), None), (TimeSplit(3), "when")])
def test_test_rows_move_nothing(split, time) -> None:
    table = frame()
    before = prepare(as_data(table, time=time), split, "rmse", seed=1)
    moved = changed(table, before.folds.test)
    if time:
        moved["when"] = table["when"]  # the time decides who is a test row
    after = prepare(as_data(moved, time=time), split, "rmse", seed=1)
    np.testing.assert_array_equal(after.folds.test, before.folds.test)
    assert after.schema == before.schema, "a level that only test rows have is no level"
    assert "only here" in set(after.data.columns["kind"])
    for number in range(3):
        same(fitted(after, number), fitted(before, number))


def test_validation_rows_move_no_preparation() -> None:
    table = frame()
    before = prepare(as_data(table), KFold(3), "rmse", seed=1)
    for number, (_, valid) in enumerate(before.folds.pairs):
        after = prepare(as_data(changed(table, valid)), KFold(3), "rmse", seed=1)
        one, other = fitted(before, number), fitted(after, number)
        for name in ("center", "factor", "gaps", "target_center", "target_scale"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
        # Levels are storage: the list may grow by the text, but in this fold it stands for "unseen".
        levels = after.schema.categorical[0].levels
        code = levels.index("only here") + 1
        assert other.lookup[other.offsets[0] + code] == len(levels) + 1
        assert len(one.hot) == len(other.hot), "and no feature was made for it"


def test_a_training_row_does_move_them() -> None:
    """The tests above would pass on constants: a training row must show."""
    table = frame()
    before = prepare(as_data(table), KFold(3), "rmse", seed=1)
    after = prepare(as_data(changed(table, before.folds.pairs[0][0][:20])), KFold(3), "rmse", seed=1)
    one, other = fitted(before, 0), fitted(after, 0)
    assert (one.center != other.center).any()
    assert (one.factor != other.factor).any()
    assert one.target_center != other.target_center
    assert one.target_scale != other.target_scale
    assert not np.array_equal(one.lookup, other.lookup)
    assert set(one.gaps) < set(other.gaps)


def test_trials_never_see_the_targets_of_test_rows(tmp_path: Path) -> None:
    table = frame()
    prepared = prepare(as_data(table), KFold(3), "rmse", seed=1)
    store = prepared.write(tmp_path)
    development = prepared.folds.development
    np.testing.assert_array_equal(store.array("target"), table["y"].to_numpy()[development])
    tests = prepared.folds.test
    np.testing.assert_array_equal(store.unlabelled.numbers[: len(tests), 0], table["size"].to_numpy()[tests])
    for number, (train, valid) in enumerate(prepared.folds.pairs):
        np.testing.assert_array_equal(development[store.array(f"train_{number}")], train)
        np.testing.assert_array_equal(development[store.array(f"valid_{number}")], valid)
    written = np.concatenate([np.load(path).ravel().astype(float) for path in tmp_path.glob("*.npy")])
    assert not np.isin(table["y"].to_numpy()[tests], written).any()


# Layouts.  Two numbers (the second with gaps), one constant; two categories.

NUMBERS = np.array(
    [[1.0, np.nan, 7.0], [2.0, 10.0, 7.0], [3.0, 20.0, 7.0], [4.0, np.nan, 7.0], [5.0, 30.0, 7.0]],
)
CODES = np.array([[1, 1], [1, 2], [2, 1], [2, 2], [0, 3]], dtype=np.int32)
CARDINALITIES = (5, 5)  # missing, three levels, unseen
TARGET = np.array([1.0, 2.0, 3.0, 4.0, 10.0])

TRAIN = Encoded(NUMBERS, CODES)
NEW = Encoded(np.array([[3.0, np.nan, np.nan], [np.nan, 20.0, 9.0]]), np.array([[3, 0], [4, 4]], dtype=np.int32))


@pytest.fixture
def preparation() -> Preparation:
    return Preparation.fit(TRAIN, CARDINALITIES, TARGET)


def test_statistics_are_robust(preparation) -> None:
    np.testing.assert_array_equal(preparation.center, [3, 20, 7])
    np.testing.assert_array_equal(preparation.factor, [1 / 2, 1 / 10, 0])
    np.testing.assert_array_equal(preparation.gaps, [1])
    np.testing.assert_array_equal(preparation.offsets, [0, 5])
    # Column 0: levels 1 and 2 have two rows, "missing" has one and is known, 3 has none.  Column 1: 3 has one row.
    np.testing.assert_array_equal(preparation.lookup, [0, 1, 2, 4, 4, 4, 1, 2, 4, 4])
    assert preparation.target_center == TARGET.mean()
    assert preparation.target_scale == TARGET.std()


def test_layout_columns(preparation) -> None:
    arrays = preparation.apply(NEW, "columns")
    assert list(arrays) == ["numbers", "codes"]
    assert arrays["numbers"].dtype == np.float32
    assert arrays["codes"].dtype == np.int32
    # Missing becomes 0, where it means something with an indicator; a constant column says nothing.
    np.testing.assert_array_equal(arrays["numbers"], [[0, 0, 0, 1], [0, 0, 0, 0]])
    np.testing.assert_array_equal(arrays["codes"], [[4, 4], [4, 4]])


def test_layout_flat(preparation) -> None:
    np.testing.assert_array_equal(preparation.hot, [[0, 0], [0, 1], [0, 2], [1, 1], [1, 2]])
    features = preparation.apply(TRAIN, "flat")["features"]
    assert features.dtype == np.float32
    hot = [[0, 1, 0, 1, 0], [0, 1, 0, 0, 1], [0, 0, 1, 1, 0], [0, 0, 1, 0, 1], [1, 0, 0, 0, 0]]
    np.testing.assert_array_equal(features[:, 4:], hot)
    np.testing.assert_array_equal(features[:, :4], preparation.apply(TRAIN, "columns")["numbers"])
    assert not preparation.apply(NEW, "flat")["features"][:, 4:].any(), "unseen is none of them"


def test_of_thousands_of_levels_the_most_frequent_get_a_column() -> None:
    levels = MOST_HOT + 50
    codes = np.repeat(np.arange(1, levels + 1), [2] * 50 + [3] * MOST_HOT)  # the first 50 levels are the rarer ones
    rows = Encoded(np.zeros((len(codes), 0)), codes[:, None].astype(np.int32))
    one = Preparation.fit(rows, (levels + 2,))
    assert one.hot[:, 1].tolist() == list(range(51, levels + 1))
    assert one.apply(rows, "flat")["features"].shape == (len(codes), MOST_HOT)
    assert (one.apply(rows, "columns")["codes"][:, 0] == codes).all(), "embeddings still have a row for every level"


def test_layout_ordinal(preparation) -> None:
    features = preparation.apply(TRAIN, "ordinal")["features"]
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features[:, 4:], [[1, 1], [1, 2], [2, 1], [2, 2], [0, 4]])


def test_layout_native(preparation) -> None:
    features = preparation.apply(TRAIN, "native")["features"]
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features[:, :3], NUMBERS)
    np.testing.assert_array_equal(features[:, 3:], [[1, 1], [1, 2], [2, 1], [2, 2], [np.nan, np.nan]])
    assert np.isnan(preparation.apply(NEW, "native")["features"][:, 3:]).all()


def test_an_unknown_layout_is_refused(preparation) -> None:
    with pytest.raises(
        ValueError, match="layout 'wide' is unknown; expected one of columns, flat, plain, ordinal, native"
    ):
        preparation.apply(NEW, "wide")


def test_large_numbers_are_clipped_smoothly(preparation) -> None:
    far = np.array([[3.0 + distance, 20.0, 7.0] for distance in (0, 2, 4, 1e3, 1e12, 1e30, -1e30)])
    scaled = preparation.apply(Encoded(far, np.zeros((len(far), 2), dtype=np.int32)), "columns")["numbers"][:, 0]
    expected = [0, 1 / np.sqrt(1 + 1 / 9), 2 / np.sqrt(1 + 4 / 9), CLIP, CLIP, CLIP, -CLIP]
    # Within float32's precision; 500 / sqrt(1 + (500 / 3)^2) is 3 up to 5e-5.
    np.testing.assert_allclose(scaled, expected, atol=1e-4)


def test_a_column_with_one_frequent_value_is_scaled_by_its_range() -> None:
    numbers = np.array([[0.0]] * 9 + [[8.0]])
    learnt = Preparation.fit(Encoded(numbers, np.empty((10, 0), dtype=np.int32)), ())
    assert learnt.center[0] == 0
    assert learnt.factor[0] == 2 / 8


def test_a_column_without_training_values() -> None:
    numbers = np.full((4, 1), np.nan)
    learnt = Preparation.fit(Encoded(numbers, np.empty((4, 0), dtype=np.int32)), ())
    new = Encoded(np.array([[np.nan], [5.0]]), np.empty((2, 0), dtype=np.int32))
    np.testing.assert_array_equal(learnt.apply(new, "columns")["numbers"], [[0, 1], [0, 0]])


def test_no_target_and_a_constant_target() -> None:
    free = Preparation.fit(TRAIN, CARDINALITIES)
    assert (free.target_center, free.target_scale) == (0.0, 1.0)
    constant = Preparation.fit(TRAIN, CARDINALITIES, np.full(5, 3.0))
    assert (constant.target_center, constant.target_scale) == (3.0, 1.0)


@pytest.mark.parametrize(("numbers", "codes"), [(3, 0), (0, 2), (3, 2)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_mix_of_columns(numbers, codes, layout) -> None:
    rows = Encoded(NUMBERS[:, :numbers], CODES[:, :codes])
    learnt = Preparation.fit(rows, CARDINALITIES[:codes])
    for some in (rows, rows.take(np.array([], dtype=np.int64)), rows.take(np.array([2, 2]))):
        for array in learnt.apply(some, layout).values():
            assert array.shape[0] == len(some)
            assert array.ndim == 2
            assert layout == "native" or np.isfinite(array).all()


def test_round_trip_without_pickle(preparation, tmp_path: Path) -> None:
    np.savez(tmp_path / "preparation.npz", allow_pickle=False, **preparation.to_arrays())
    with np.load(tmp_path / "preparation.npz", allow_pickle=False) as arrays:
        read = Preparation.from_arrays(arrays)
    same(read, preparation)
    assert type(read.target_center) is float
    for layout in LAYOUTS:
        for name, array in preparation.apply(NEW, layout).items():
            np.testing.assert_array_equal(read.apply(NEW, layout)[name], array)


# Encoding is storage: nothing in it depends on which rows train.


def test_codes_of_levels() -> None:
    schema = Schema((Column("kind", "category"), Column("size", "number")))
    typed = {"kind": np.array(["b", "", "a", "b"], dtype=object), "size": np.array([1.0, 2.0, np.nan, 4.0])}
    levelled = schema.with_levels(typed)
    assert levelled.categorical[0].levels == ("a", "b")
    assert levelled.cardinalities == (4,)
    encoded = levelled.encode({"kind": np.array(["b", "", "a", "z"], dtype=object), "size": typed["size"]})
    assert encoded.codes.tolist() == [[2], [0], [1], [3]]
    np.testing.assert_array_equal(encoded.numbers[:, 0], typed["size"])


def test_a_date_becomes_six_numbers() -> None:
    schema = Schema((Column("size", "number"), Column("when", "date")))
    assert schema.number_features == ("size", *(f"when:{part}" for part in CALENDAR))
    rows = schema.typed({"when": ["2024-05-31 12:30", None], "size": [1, 2], "ignored": [0, 0]})
    expected = [[1, 19874, 2024, 5, 31, 4, 12], [2, *[np.nan] * 6]]
    np.testing.assert_array_equal(schema.encode(rows).numbers, expected)


def calendar_of(moment: dt.datetime) -> list[int]:
    days = (moment.date() - dt.date(1970, 1, 1)).days
    return [days, moment.year, moment.month, moment.day, moment.weekday(), moment.hour]


def test_the_calendar_is_that_of_datetime() -> None:
    random = np.random.default_rng(0)
    first, last = dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59)
    span = int((last - first).total_seconds())
    moments = [first + dt.timedelta(seconds=int(one)) for one in random.integers(0, span + 1, 3000)]
    edges = [first, last, dt.datetime(1970, 1, 1), dt.datetime(1969, 12, 31, 23, 59, 59)]
    for year in (1600, 1700, 1896, 1900, 1904, 1968, 1970, 2000, 2023, 2024, 2100, 2400):
        leap = dt.date(year, 3, 1) - dt.timedelta(days=1)
        edges += [dt.datetime.combine(leap, dt.time(23, 59, 59)), dt.datetime(year, 3, 1), dt.datetime(year, 1, 1)]
        edges += [dt.datetime(year, 12, 31, 23)]
    moments += edges
    seconds = np.array([(moment - dt.datetime(1970, 1, 1)).total_seconds() for moment in moments])
    parts = np.stack(calendar(seconds, np.floor), axis=1)
    np.testing.assert_array_equal(parts, [calendar_of(moment) for moment in moments])


def test_absent_columns_are_named() -> None:
    from tunekit.errors import DataError

    schema = Schema((Column("size", "number"), Column("when", "date")))
    with pytest.raises(DataError, match=r"1 column\(s\) are missing: when; expected every column"):
        schema.typed({"size": [1.0]})


def test_development_rows_are_all_but_test_rows() -> None:
    folds = Folds(np.array([9]), ((np.array([4, 1]), np.array([2])), (np.array([2, 4]), np.array([1]))))
    assert folds.development.tolist() == [1, 2, 4]
