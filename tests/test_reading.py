"""Reading files: what a cell means does not depend on other rows, and what is no table is told."""

from pathlib import Path

import pandas as pd
import pytest

from tunekit.data import Table, column_names, read_chunks, read_frame
from tunekit.errors import DataError

FIRST, SECOND = 9007199254740992, 9007199254740993
"""Whole numbers that are one as float64."""


def written(folder: Path, text: str, name: str = "rows.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


# Categories


TRAINED = {
    "text": (["007", "A12", "1.10", "true"], ["007", "A12", "1.10", "true"]),
    "integer": (["01010", "7", " 12", str(SECOND)], ["1010", "7", "12", str(SECOND)]),
    "number": (["01010", "7.50", "1e3", ""], ["1010", "7.5", "1000", ""]),
    "boolean": (["true", "FALSE", "True", ""], ["True", "False", "True", ""]),
}
"""Cells that a category had in training, and how it is spelt."""


@pytest.mark.parametrize("held", TRAINED)
@pytest.mark.parametrize("rows", [None, 1, 2])
def test_categories_are_spelt_as_in_training_whatever_other_rows_hold(tmp_path, held, rows) -> None:
    cells, levels = TRAINED[held]
    train = "code,y\n" + "".join(f"{cell},{row}.5\n" for row, cell in enumerate(cells))
    data = Table(written(tmp_path, train), target="y", kinds={"code": "category"}).load()
    assert data.columns["code"].tolist() == levels
    assert data.schema.columns[0].held == held
    given = [*cells, "odd", *reversed(cells), cells[0]]
    path = written(tmp_path, "code\n" + "".join(f'"{cell}"\n' for cell in given), "new.csv")
    chunks = read_chunks(path, rows, held={"code": held, "unread": "text"})
    typed = [text for chunk in chunks for text in data.schema.typed(chunk)["code"]]
    assert typed == [*levels, "odd", *reversed(levels), levels[0]]


@pytest.mark.parametrize(
    ("values", "held"),
    [
        (["1", None], "text"),
        (pd.Series(["1", "2"], dtype="str"), "text"),
        ([1, 2], "integer"),
        (pd.Series([1, None], dtype="Int64"), "integer"),
        ([1.0, None], "number"),
        ([True, None], "boolean"),
        (pd.Series([3, 4], dtype="category"), "integer"),
        ([7, "A12"], "text"),
    ],
)
def test_what_a_category_of_a_frame_was_is_known(values, held) -> None:
    frame = pd.DataFrame({"code": values, "y": [0.5, 1.5]})
    assert Table(frame, target="y", kinds={"code": "category"}).load().schema.columns[0].held == held


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("rows", [None, 2])
def test_large_whole_numbers_stay_themselves_beside_gaps(tmp_path, ending, rows) -> None:
    path = tmp_path / f"rows.{ending}"
    table = pd.DataFrame({"id": pd.array([FIRST, None, SECOND, 5], dtype="Int64"), "y": [0.5, 1.5, 2.5, 3.5]})
    if ending == "csv":
        table.to_csv(path, index=False)
    else:
        table.astype({"id": object}).to_parquet(path)
    data = Table(path, target="y", kinds={"id": "category"}).load()
    assert data.columns["id"].tolist() == [str(FIRST), "", str(SECOND), "5"]
    chunks = read_chunks(path, rows, held={"id": data.schema.columns[0].held})
    typed = [text for chunk in chunks for text in data.schema.typed(chunk)["id"]]
    assert typed == data.columns["id"].tolist()


# Lines


@pytest.mark.parametrize("rows", [None, 1])
@pytest.mark.parametrize("text", ["a;b\n1;2\n3;4\n", "a;b\n1;2;\n3;4;\n", "\na;b\r\n1;2\r\n3;4"])
def test_separators_at_the_ends_of_lines_shift_no_column(tmp_path, text, rows) -> None:
    path = written(tmp_path, text)
    frame = pd.concat(read_chunks(path, rows))
    assert frame.to_dict("list") == {"a": [1, 3], "b": [2, 4]}


@pytest.mark.parametrize("rows", [None, 1])
@pytest.mark.parametrize("text", ["a,b\nx,1,2\ny,3,4\n", "a,b\n1,2,\n3,4\n5,6,7\n"])
def test_lines_with_more_cells_than_names_are_refused(tmp_path, text, rows) -> None:
    with pytest.raises(DataError, match="has lines with more cells than its header has names; expected as many"):
        list(read_chunks(written(tmp_path, text), rows))


# Compressed


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zip"])
def test_compressed_files_are_read(tmp_path, ending) -> None:
    path = tmp_path / f"rows.csv.{ending}"
    table = pd.DataFrame({"a": [1, 2], "b": ["x;y", "z"]})
    table.to_csv(path, index=False, sep="\t")
    assert column_names(path) == ["a", "b"]
    pd.testing.assert_frame_equal(read_frame(path), table)


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zip"])
def test_a_file_that_only_looks_compressed_is_refused(tmp_path, ending) -> None:
    with pytest.raises(DataError, match="could not be read as CSV"):
        read_frame(written(tmp_path, "a,b\n1,2\n", f"rows.csv.{ending}"))
    whole = tmp_path / f"cut.csv.{ending}"
    pd.DataFrame({"a": range(9000)}).to_csv(whole, index=False)
    whole.write_bytes(whole.read_bytes()[:-200])
    with pytest.raises(DataError, match="could not be read as CSV"):
        read_frame(whole)
