"""Typed columns: every way in which a caller may hold a value, one meaning."""

import datetime as dt
import tracemalloc
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tunekit.bundle.columns import category_text, is_missing, raw_columns, typed_column
from tunekit.errors import DataError

MISSING: list[Any] = [None, np.nan, pd.NA, pd.NaT, "", "  ", float("nan"), np.datetime64("NaT")]
NAN = float("nan")
NOON = 1717156800.0  # 2024-05-31 12:00 UTC


@pytest.mark.parametrize("value", MISSING)
def test_nothing_is_nothing_in_every_spelling(value) -> None:
    assert is_missing(value)
    assert category_text(value) == ""
    for kind in ("number", "boolean", "date"):
        assert np.isnan(typed_column([value], kind, "x")[0])
    assert typed_column([value], "category", "x").tolist() == [""]


@pytest.mark.parametrize("value", [0, 0.0, False, "0", "nan", "None", b"", np.float32(0), Decimal(0)])
def test_something_is_not_nothing(value) -> None:
    assert not is_missing(value)


@pytest.mark.parametrize(
    "values",
    [
        [1, 2.5, None],
        ["1", " 2.5 ", ""],
        (np.int64(1), np.float32(2.5), np.nan),
        np.array([1, 2.5, np.nan]),
        np.array(["1", "2.5", ""]),
        np.array([1, 2.5, None], dtype=object),
        pd.Series([1, 2.5, None]),
        pd.Series([1, 2.5, None], dtype="Float64"),
        pd.Series(["1", "2.5", None], dtype="str"),
        pd.Series([Decimal("1"), Decimal("2.5"), None]),
        pd.Series([1, 2.5, None], index=[7, 8, 7]),
    ],
)
def test_numbers(values) -> None:
    typed = typed_column(values, "number", "x")
    assert typed.dtype == np.float64
    np.testing.assert_array_equal(typed, [1.0, 2.5, NAN])


@pytest.mark.parametrize(
    "values",
    [
        [True, False, None],
        ["yes", "No", ""],
        ["TRUE", "f", None],
        [1, 0, None],
        [1.0, 0.0, NAN],
        pd.Series([True, False, None], dtype="boolean"),
        pd.Series([True, False, None], dtype=object),
        pd.Series([1, 0, None], dtype="Int64"),
    ],
)
def test_booleans(values) -> None:
    np.testing.assert_array_equal(typed_column(values, "boolean", "x"), [1.0, 0.0, NAN])


@pytest.mark.parametrize("values", [np.array([True, False]), pd.Series([True, False])])
def test_booleans_without_gaps(values) -> None:
    for kind in ("boolean", "number"):
        np.testing.assert_array_equal(typed_column(values, kind, "x"), [1.0, 0.0])


@pytest.mark.parametrize(
    "values",
    [
        ["2024-05-31 12:00", None],
        ["2024-05-31T12:00:00Z", ""],
        ["2024/05/31T14:00:00+02:00", None],
        ["2024-05-31 10:30:00-0130", None],
        [dt.datetime(2024, 5, 31, 12), None],
        [dt.datetime(2024, 5, 31, 14, tzinfo=dt.timezone(dt.timedelta(hours=2))), pd.NaT],
        [pd.Timestamp("2024-05-31 12:00"), pd.NaT],
        [np.datetime64("2024-05-31T12:00"), np.datetime64("NaT")],
        np.array(["2024-05-31T12:00", "NaT"], dtype="datetime64[s]"),
        pd.to_datetime(pd.Series(["2024-05-31 12:00", None])),
        pd.to_datetime(pd.Series(["2024-05-31 14:00", None])).dt.tz_localize("Etc/GMT-2"),
    ],
)
def test_dates(values) -> None:
    np.testing.assert_array_equal(typed_column(values, "date", "x"), [NOON, NAN])


def test_days_and_early_dates() -> None:
    typed = typed_column(["2024/05/31", dt.date(1969, 12, 31), "1900-01-01"], "date", "x")
    np.testing.assert_array_equal(typed, [NOON - 43_200, -86_400, -2_208_988_800])


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (["a", " b ", None], ["a", " b ", ""]),
        ([1, 2.0, 2.5], ["1", "2", "2.5"]),
        ([True, np.False_], ["True", "False"]),
        (np.array([3.0, NAN]), ["3", ""]),
        (np.array([3, 4], dtype=np.int8), ["3", "4"]),
        (np.array(["a", ""]), ["a", ""]),
        (pd.Series(["a", None], dtype="category"), ["a", ""]),
        (pd.Series([1, None], dtype="Int64"), ["1", ""]),
        (pd.Series(["a", None], dtype="str"), ["a", ""]),
        (pd.Series([3, 4], dtype="category"), ["3", "4"]),
    ],
)
def test_categories(values, texts) -> None:
    typed = typed_column(values, "category", "x")
    assert typed.dtype == object
    assert typed.tolist() == texts
    assert all(type(text) is str for text in typed)


@pytest.mark.parametrize("kind", ["number", "boolean", "date", "category"])
def test_typing_twice_changes_nothing(kind) -> None:
    values = {"date": np.array(["2024-05-31", "NaT"], dtype="datetime64[us]"), "category": ["a", None]}
    once = typed_column(values.get(kind, [1, None]), kind, "x")
    if kind != "date":  # its seconds are numbers, no dates
        np.testing.assert_array_equal(typed_column(once, kind, "x"), once)
    assert len(typed_column([], kind, "x")) == 0


@pytest.mark.parametrize(
    ("values", "kind", "words"),
    [
        ([1, "big"], "number", r"column 'x', row 1: received 'big' \(str\), expected a number or nothing"),
        ([[1, 2]], "number", r"row 0: received \[1, 2\] \(list\)"),
        ([1.0, np.inf, -np.inf], "number", r"2 infinite value\(s\), the first in row 1; .* np.nan\)"),
        (["perhaps"], "boolean", "row 0: received 'perhaps', expected true or false"),
        ([2], "boolean", "row 0: received 2, expected true or false"),
        (["soon"], "date", "row 0: received 'soon', expected a date such as 2024-05-31"),
        ([1.5], "date", r"row 0: received 1\.5, expected a date"),
        (np.array([20240531]), "date", "row 0: received .*20240531.*, expected a date"),
        ([True], "date", "row 0: received True, expected a date"),
        (["2024", "20240531"], "date", "row 1: received '20240531', expected a date"),
        (["today"], "date", "row 0: received 'today', expected a date"),
        (["12024-05-31"], "date", "row 0: received '12024-05-31', expected a date"),
        (["2024-02-30"], "date", "row 0: received '2024-02-30', expected a date"),
        ([10**400], "number", r"row 0: received 1000.*\.\.\. \(int\), expected a number"),
        ([1.0, -1e39], "number", r"row 1: received -1e\+39, expected numbers of up to 3\.40282e\+38"),
        ([1], "colour", "kind 'colour' is unknown; expected one of number, boolean, date, category"),
    ],
)
def test_values_that_do_not_fit_are_told(values, kind, words) -> None:
    with pytest.raises(DataError, match=words):
        typed_column(values, kind, "x")


def test_tables_come_in_three_forms() -> None:
    frame = pd.DataFrame({"a": [1, 2], 3: ["x", None]})
    columns, count = raw_columns(frame)
    assert (list(columns), count) == (["a", "3"], 2)
    assert raw_columns({"a": [1, 2], 3: np.array(["x", "y"])})[1] == 2
    columns, count = raw_columns([{"a": 1}, {"a": 2, "b": "x"}])
    assert (columns, count) == ({"a": [1, 2], "b": [None, "x"]}, 2)
    assert raw_columns([]) == ({}, 0)
    assert raw_columns({}) == ({}, 0)


def test_names_that_only_single_rows_have_cost_no_column_each() -> None:
    rows = [{"a": number, **{f"{number}-{other}": 1 for other in range(30)}} for number in range(1000)]
    tracemalloc.start()
    columns, count = raw_columns(rows)
    assert columns["a"] == list(range(1000))
    assert (count, len(columns), "b" in columns) == (1000, 30_001, False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * 2**20, "30,000 columns of 1,000 rows would be 240 MB"


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ({"a": [1, 2], "b": [1]}, r"different lengths: \{'a': 2, 'b': 1\}"),
        ({"a": 1}, "column 'a' came as one int; expected a list"),
        ({"a": "text"}, "column 'a' came as one str"),
        ([{"a": 1}, [2]], "row 1 is a list; expected a dict"),
        ("table.csv", "rows came as str; expected a DataFrame, a list of dicts, or a dict of columns"),
        (None, "rows came as NoneType"),
    ],
)
def test_what_is_no_table_is_told(rows, words) -> None:
    with pytest.raises(DataError, match=words):
        raw_columns(rows)
