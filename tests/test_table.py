"""Tables: what is read, what is inferred, and what is refused in words that help."""

import datetime as dt
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tunekit.data import GAPS, Dataset, Table, infer_kind, read_frame
from tunekit.errors import DataError

Y = [1.5, 2.5, 3.5, 4.5]


def load(columns: dict[str, Any], **options: Any) -> Dataset:
    return Table(pd.DataFrame(columns), target="y", **options).load()


def refused(columns: Any, **options: Any) -> str:
    """The message with which a table is refused."""
    frame = columns if isinstance(columns, pd.DataFrame) else pd.DataFrame(columns)
    with pytest.raises(DataError) as caught:
        Table(frame, **{"target": "y", **options}).load()
    return str(caught.value)


def kinds(data: Dataset) -> dict[str, str]:
    return {column.name: column.kind for column in data.schema.columns}


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2, 3, 4], "number"),
        ([1.0, None, 3.0, np.nan], "number"),
        (pd.array([1, None, 3, 4], dtype="Int64"), "number"),
        ([Decimal("1.5"), None, Decimal("2"), Decimal("3")], "number"),
        (np.array([1, 2.5, None, 3], dtype=object), "number"),
        ([True, False, True, True], "boolean"),
        (pd.array([True, None, False, True], dtype="boolean"), "boolean"),
        (np.array([True, None, False, True], dtype=object), "boolean"),
        (pd.to_datetime(pd.Series(["2024-05-31", None, "1969-01-01", "2000-02-29"])), "date"),
        (pd.to_datetime(pd.Series(["2024-05-31", "2024-06-01", None, None])).dt.tz_localize("Europe/Berlin"), "date"),
        (["2024-05-31", None, "1969-01-01", "2000-02-29"], "date"),
        (["2024-05-31 12:30", "2024-05-31T12:30:59", None, "2000-02-29 00:00:00.5"], "date"),
        ([dt.date(2024, 5, 31), None, dt.date(1900, 1, 1), dt.date(2000, 1, 1)], "date"),
        ([dt.datetime(2024, 5, 31, 12), None, None, None], "date"),
        (["a", "b", None, "a"], "category"),
        (pd.Categorical(["a", None, "b", "a"]), "category"),
        (pd.Categorical([3, None, 4, 3]), "category"),
        (["2024-05-31", "soon", None, "2000-02-29"], "category"),
        (["2024-13-45", "2024-99-99", None, "2000-02-29"], "category"),
        (["10115", "20095", "80331", "50667"], "category"),  # text on purpose: postal codes
        (["1", "a", "b", "c"], "category"),  # mostly texts
        ([None, None, None, None], None),
        ([np.nan, np.nan, np.nan, np.nan], None),
    ],
)
def test_kinds_are_inferred(values, kind) -> None:
    column = pd.Series(values)
    assert infer_kind(column, "x") == kind
    loaded = load({"x": column, "other": [1, 2, 3, 4], "y": Y})
    assert kinds(loaded).get("x") == kind


def test_values_keep_their_gaps_and_their_meaning() -> None:
    data = load(
        {
            "number": [1.0, None, 3.0, 4.0],
            "boolean": pd.array([True, None, False, True], dtype="boolean"),
            "date": ["1970-01-02", None, "1969-12-31", "1970-01-01 00:00:01"],
            "category": ["b", None, "  ", "a"],
            "y": Y,
        }
    )
    np.testing.assert_array_equal(data.columns["number"], [1, np.nan, 3, 4])
    np.testing.assert_array_equal(data.columns["boolean"], [1, np.nan, 0, 1])
    np.testing.assert_array_equal(data.columns["date"], [86_400, np.nan, -86_400, 1])
    assert data.columns["category"].tolist() == ["b", "", "", "a"]
    assert all(column.levels == () for column in data.schema.columns), "levels are learnt, not loaded"


def test_kinds_can_be_corrected() -> None:
    columns = {"code": [1, 2, 3, 4], "mixed": ["1", "2", "3", "x"], "flag": [0, 1, 0, 1], "gone": [1, 2, 3, 4], "y": Y}
    data = load(columns, kinds={"code": "category", "mixed": "category", "flag": "boolean", "gone": "drop"})
    assert kinds(data) == {"code": "category", "mixed": "category", "flag": "boolean"}
    assert data.columns["code"].tolist() == ["1", "2", "3", "4"]


def test_a_correction_that_does_not_fit_is_refused() -> None:
    message = refused({"x": ["a", "b", "c", "d"], "y": Y}, kinds={"x": "number"})
    assert "'x'" in message
    assert "'a'" in message
    assert "expected a number" in message


def test_an_empty_column_is_left_out_and_said_so() -> None:
    data = load({"x": [1, 2, 3, 4], "nothing": [None] * 4, "y": Y})
    assert kinds(data) == {"x": "number"}
    assert data.notices == ("column 'nothing' is empty and left out",)


def test_text_that_names_its_rows_is_left_out_and_said_so() -> None:
    columns = {"name": [f"owner {row}" for row in range(40)], "x": np.arange(40) / 2, "y": np.arange(40) + 0.5}
    data = load(columns)
    assert kinds(data) == {"x": "number"}
    assert "'name'" in data.notices[0]
    assert "kinds={'name': 'category'}" in data.notices[0], "says how to keep it"
    assert "name" in kinds(load(columns, kinds={"name": "category"}))


@pytest.mark.parametrize("numbers", [np.arange(30), np.arange(30)[::-1] + 1000, np.roll(np.arange(30.0), 7)])
def test_numbers_that_count_rows_are_left_out_and_said_so(numbers) -> None:
    columns = {"row": numbers, "x": np.arange(30) / 2, "y": np.arange(30) + 0.5}
    data = load(columns)
    assert kinds(data) == {"x": "number"}
    assert "'row' numbers the rows" in data.notices[0]
    assert "kinds={'row': 'number'}" in data.notices[0], "says how to keep it"
    assert "row" in kinds(load(columns, kinds={"row": "number"}))
    assert "row" in kinds(load(columns, time="row")), "a time may count"


@pytest.mark.parametrize(
    "numbers", [np.arange(20), np.arange(30) * 2, np.arange(30) // 2, np.r_[np.nan, np.arange(1, 30)]]
)
def test_other_whole_numbers_stay(numbers) -> None:
    assert "x" in kinds(load({"x": numbers, "y": np.arange(len(numbers)) + 0.5}))


def test_roles_are_not_read_by_models() -> None:
    columns = {"key": ["a", "b", "c", "d"], "who": ["u", "u", "t", "v"], "w": [1, 0, 2, 1], "x": [1, 2, 3, 4], "y": Y}
    data = load(columns, id="key", group="who", weight="w")
    assert kinds(data) == {"x": "number"}
    assert data.ids.tolist() == ["a", "b", "c", "d"]
    assert data.group is not None
    assert data.group[0] == data.group[1] != data.group[3]
    assert data.weight is not None
    assert data.weight.tolist() == [1, 0, 2, 1]


def test_time_stays_a_feature() -> None:
    data = load({"when": ["2024-01-02", "2024-01-01", "2024-01-03", "2024-01-04"], "y": Y}, time="when")
    assert kinds(data) == {"when": "date"}
    assert data.time is not None
    assert np.argsort(data.time).tolist() == [1, 0, 2, 3]


def test_rows_without_a_target_are_left_out_and_said_so() -> None:
    data = load({"x": [1, 2, 3, 4], "y": [1.5, None, 2.5, 3.5]})
    assert data.columns["x"].tolist() == [1, 3, 4]
    assert data.target.tolist() == [1.5, 2.5, 3.5]
    assert data.notices == ("1 row(s) without a 'y' are left out",)


@pytest.mark.parametrize(
    ("target", "task", "classes"),
    [
        (["no", "yes", "no", "no"], "binary", ("no", "yes")),
        ([True, False, True, True], "binary", (False, True)),
        ([0, 1, 1, 0], "binary", (0, 1)),
        ([1.0, 2.0, 2.0, 1.0], "binary", (1, 2)),
        ([2, 0, 1, 0], "multiclass", (0, 1, 2)),
        (pd.Categorical(["b", "a", "c", "a"], categories=["c", "b", "a"]), "multiclass", ("a", "b", "c")),
        (Y, "regression", ()),
        (pd.array([1.5, 2.5, 3.5, 4.5], dtype="Float64"), "regression", ()),
    ],
)
def test_tasks_are_inferred(target, task, classes) -> None:
    target = list(target) * 2
    data = load({"x": range(8), "y": target})
    assert data.task == task
    assert data.classes == classes
    assert [type(one) for one in data.classes] == [type(one) for one in classes]
    assert data.target.dtype == np.float64
    if classes:
        assert [classes[int(code)] for code in data.target] == target


def test_many_whole_numbers_are_a_number_and_few_are_classes() -> None:
    assert load({"x": np.arange(42) / 2, "y": np.arange(42) % 21}).task == "regression"
    assert load({"x": np.arange(42) / 2, "y": np.arange(42) % 20}).task == "multiclass"


@pytest.mark.parametrize("target", [[1, 2, 3, 1, 2, 3], [0, 1, 0, 1, 1, 0], [0.5, 1.5, 0.5, 1.5, 1.5, 0.5]])
def test_the_kind_of_the_target_decides(target) -> None:
    regression = load({"x": range(6), "y": target}, kinds={"y": "number"})
    assert regression.task == "regression"
    assert regression.target.tolist() == target
    classes = load({"x": range(6), "y": target}, kinds={"y": "category"})
    assert classes.task == ("multiclass" if 3 in target else "binary")


def test_the_order_of_classes_says_which_is_positive() -> None:
    target = ["good", "bad", "good", "bad"]
    assert load({"x": range(4), "y": target}).classes == ("bad", "good")
    data = load({"x": range(4), "y": target}, classes=["good", "bad"])
    assert data.classes == ("good", "bad")
    assert data.target.tolist() == [0, 1, 0, 1]
    assert data.shares == [0.5, 0.5]


def test_the_digest_tells_data_apart() -> None:
    columns = {"x": [1.0, 2.0, 3.0, 4.0], "c": ["a", "b", "a", "b"], "y": Y}
    digest = load(columns).digest
    assert load(columns).digest == digest
    assert load({**columns, "x": [1.0, 2.0, 3.0, 4.1]}).digest != digest
    assert load({**columns, "c": ["a", "b", "b", "a"]}).digest != digest
    assert load({**columns, "y": [1.5, 2.5, 3.5, 4.6]}).digest != digest
    assert load(columns, weight="x").digest != digest


@pytest.mark.parametrize("write", ["csv", "parquet"])
def test_files_are_read(write, tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "size": [1.5, np.nan, 3.0],
            "flag": [True, False, True],
            "when": pd.to_datetime(pd.Series(["2024-05-31 12:30:00", None, "1969-12-31 00:00:00"])),
            "kind": ["a", None, "ü"],
            "y": [1.5, 2.5, 3.5],
        }
    )
    path = tmp_path / f"rows.{write}"
    if write == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    for source in (path, str(path), lambda: pd.read_parquet(path) if write == "parquet" else pd.read_csv(path)):
        data = Table(source, target="y").load()
        assert kinds(data) == {"size": "number", "flag": "boolean", "when": "date", "kind": "category"}
        np.testing.assert_array_equal(data.columns["size"], [1.5, np.nan, 3.0])
        np.testing.assert_array_equal(data.columns["when"], [1717158600, np.nan, -86400])
        assert data.columns["kind"].tolist() == ["a", "", "ü"]


def test_an_empty_line_of_a_single_column_is_a_row(tmp_path: Path) -> None:
    """Such as an empty text: predictions are in the order of rows, one for each."""
    path = tmp_path / "texts.csv"
    path.write_text("text\ngood tea\n\nstale\n")
    assert read_frame(path)["text"].isna().tolist() == [False, True, False]
    path.write_text("text,x\ngood tea,1\n\nstale,2\n")
    assert len(read_frame(path)) == 2


def test_gaps_of_csv_files_are_pandas_own(tmp_path: Path) -> None:
    lines = [f'"{gap}",{row + 0.5}' for row, gap in enumerate(sorted(GAPS))]
    path = tmp_path / "gaps.csv"
    path.write_text("\n".join(["x,y", *lines, "a,0.25"]))
    assert read_frame(path)["x"].isna().sum() == len(GAPS)
    pd.testing.assert_frame_equal(read_frame(path), pd.read_csv(path))


# What is refused.  Every message says what came, what was expected, and how to mend it.


def test_a_missing_column_is_named_among_those_that_are_there() -> None:
    message = refused({"x": [1], "price": [2]})
    assert message == "target: the table has no column 'y'; its 2 columns are x, price"
    for role in ("time", "group", "weight", "id"):
        assert refused({"x": [1], "y": [2]}, **{role: "z"}).startswith(f"{role}: the table has no column 'z'")
    assert "kinds['z']" in refused({"x": [1], "y": [2]}, kinds={"z": "number"})
    many = {f"x{number}": [1] for number in range(30)}
    assert "and 18 more" in refused(many), "thirty names are not listed one by one"


def test_an_unknown_kind_is_refused() -> None:
    message = refused({"x": [1, 2], "y": [1, 2]}, kinds={"x": "colour"})
    assert message == "kinds['x'] is 'colour'; expected one of number, boolean, date, category, text, characters, drop"


@pytest.mark.parametrize("frame", [pd.DataFrame(), pd.DataFrame({"x": [], "y": []}), pd.DataFrame(index=range(3))])
def test_an_empty_table_is_refused(frame) -> None:
    message = refused(frame)
    assert "the table is empty" in message
    assert "expected rows" in message


@pytest.mark.parametrize(("text", "told"), [("", "is empty"), ("\n\n", "is empty"), ("x,y\n", "empty (0 rows")])
def test_an_empty_file_is_refused(text, told, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=re.escape(told)) as caught:
        Table(path, target="y").load()
    assert "expected" in str(caught.value)


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file '.*nowhere\.csv'; expected a CSV or Parquet file"):
        Table(tmp_path / "nowhere.csv", target="y").load()
    (tmp_path / "latin.csv").write_bytes("x,y\nü,1\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"could not be read as CSV.*expected UTF-8"):
        Table(tmp_path / "latin.csv", target="y").load()
    (tmp_path / "ragged.csv").write_text("x,y\n1,2\n1,2,3,4\n")
    with pytest.raises(DataError, match="could not be read as CSV"):
        Table(tmp_path / "ragged.csv", target="y").load()
    (tmp_path / "text.parquet").write_text("x,y\n1,2\n")
    with pytest.raises(DataError, match=r"could not be read as Parquet.*expected"):
        Table(tmp_path / "text.parquet", target="y").load()
    with pytest.raises(DataError, match="is a folder"):
        Table(tmp_path, target="y").load()
    with pytest.raises(DataError, match="the source is a int; expected a path, a DataFrame or a function"):
        Table(7, target="y").load()  # type: ignore[arg-type]
    with pytest.raises(DataError, match="the source is a list"):
        Table(lambda: [1, 2], target="y").load()  # type: ignore[arg-type,return-value]


def test_doubled_columns_are_refused(tmp_path: Path) -> None:
    frame = pd.DataFrame([[1, 2, 3]], columns=["x", "x", "y"])
    assert refused(frame) == "the table has more than one column named x; expected unique names"
    assert "named 7" in refused(pd.DataFrame([[1, 2, 3]], columns=[7, "7", "y"])), "names are texts"
    path = tmp_path / "rows.csv"
    path.write_text("x,y,y\n1,2,2\n3,4,4\n")  # pandas would call the second "y.1": a leak of the target
    with pytest.raises(DataError, match="more than one column named y"):
        Table(path, target="y").load()


def test_a_target_that_can_not_be_learnt_is_refused() -> None:
    message = refused({"x": [1, 2, 3], "y": [5, 5, None]})
    assert message == "target 'y' is 5 in every row; expected at least two different values"
    assert "missing in every row" in refused({"x": [1, 2], "y": [None, None]})
    assert "holds dates" in refused({"x": [1, 2], "y": pd.to_datetime(["2024-01-01", "2024-01-02"])})
    message = refused({"x": range(9), "y": list("abcdefghi")})
    assert "9 different texts in 9 rows" in message
    assert "expected a number to predict, or classes with several rows each" in message


def test_classes_that_are_not_those_of_the_target_are_refused() -> None:
    for classes in (("no", "maybe"), ("no",), ("no", "yes", "maybe")):
        message = refused({"x": range(4), "y": ["no", "yes", "no", "yes"]}, classes=classes)
        assert repr(tuple(classes)) in message
        assert "holds no, yes" in message


def test_mixed_types_are_refused_with_an_example_of_each() -> None:
    message = refused({"x": np.array([1, 2, "three", None], dtype=object), "y": Y})
    assert "column 'x' mixes types: 2 number value(s) such as 1, 1 text value(s) such as 'three'" in message
    assert "kinds={'x': 'category'}" in message
    assert "mixes types" in refused({"x": np.array([True, "yes", None, 1], dtype=object), "y": Y})
    assert "mixes types" in refused({"x": [1.0, 2.0, 3.0, 4.0], "y": np.array([1, "a", 2, "b"], dtype=object)})


def test_text_that_is_mostly_numbers_is_refused_with_the_odd_row() -> None:
    message = refused({"x": ["1", "2.5", "unknown", "4"], "y": Y})
    assert "3 of its values are numbers and 1 are not, such as 'unknown' in row 2" in message
    assert "kinds={'x': 'category'}" in message
    kept = load({"x": ["1", "2.5", "unknown", "4"], "y": Y}, kinds={"x": "category"})
    assert kept.columns["x"].tolist() == ["1", "2.5", "unknown", "4"]


@pytest.mark.parametrize("infinite", [np.inf, -np.inf])
def test_infinite_numbers_are_refused_with_their_row(infinite) -> None:
    message = refused({"x": [1.0, infinite, np.nan, 2.0], "y": Y})
    assert "column 'x' has 1 infinite value(s), the first in row 1" in message
    assert "df.replace" in message
    assert "infinite" in refused({"x": [1, 2, 3, 4], "y": [1.5, infinite, 2.0, 3.0]})


def test_infinite_numbers_in_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("x,y\n1,0.5\ninf,1.5\n2,2.5\n")
    with pytest.raises(DataError, match="column 'x' has 1 infinite"):
        Table(path, target="y").load()


def test_time_that_has_gaps_or_no_order_is_refused() -> None:
    message = refused({"t": ["2024-01-01", None, "2024-01-03", "2024-01-04"], "y": Y}, time="t")
    assert message == "time column 't' is missing in 1 row(s), the first of them row 1; fill or drop them"
    message = refused({"t": ["may", "june", "july", "june"], "x": [1, 2, 3, 4], "y": Y}, time="t")
    assert "holds category; expected dates or numbers" in message


def test_ids_that_are_not_unique_are_refused() -> None:
    message = refused({"key": ["a", "b", "a", "c"], "x": [1, 2, 3, 4], "y": Y}, id="key")
    assert "'a' stands in more than one row" in message
    assert "group=" in message


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ([1, 1, -1, 1], "holds -1 in row 2; expected a number of 0 or more in every row"),
        ([1, None, 1, 1], "holds nan in row 1; expected a number of 0 or more in every row"),
        ([0, 0, 0, 0], "is 0 in every row; expected some rows that weigh more"),
    ],
)
def test_weights_that_can_not_weigh_are_refused(weights, told) -> None:
    assert refused({"w": weights, "x": [1, 2, 3, 4], "y": Y}, weight="w") == f"weight column 'w' {told}"


def test_nothing_to_learn_from_is_refused() -> None:
    assert "no column is left to learn from beside the target 'y'" in refused({"y": Y})
    assert "no column is left" in refused({"x": [1, 2, 3, 4], "y": Y}, kinds={"x": "drop"})


def test_whole_numbers_are_classes_if_each_could_be_learnt_and_judged() -> None:
    counts = pd.DataFrame({"x": np.arange(40.0) / 3, "y": [0, 1, 2, 3] * 10})
    assert Table(counts, target="y").load().task == "multiclass"
    counts.loc[0, "y"] = 6
    assert Table(counts, target="y").load().task == "regression"
    asked = Table(counts, target="y", kinds={"y": "category"}).load()
    assert asked.classes == (0, 1, 2, 3, 6)
