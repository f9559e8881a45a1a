"""`tunekit predict`: files of any size, CSV and Parquet, in and out, part by part."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from blends import frame, hard_frame, house, no_nets, small_bundle  # type: ignore[import-not-found]
from pyarrow import parquet

from tunekit.bundle import Bundle
from tunekit.cli.predict import predict_file
from tunekit.data import Schema, Table
from tunekit.errors import DataError
from tunekit.export import write_bundle


@pytest.fixture(scope="module")
def binary(tmp_path_factory) -> Any:
    return small_bundle("binary", tmp_path_factory.mktemp("binary"))


@pytest.fixture
def in_parts(monkeypatch) -> None:
    monkeypatch.setattr("tunekit.cli.predict.CHUNK", 7)


def write(table: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path, row_group_size=16)  # groups and parts have no border in common
    return path


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)


@pytest.mark.usefixtures("in_parts")
@pytest.mark.parametrize("given", ["rows.csv", "rows.parquet"])
@pytest.mark.parametrize("wanted", ["out.csv", "sub/out.pq"])
def test_a_file_is_predicted_in_row_order(binary, tmp_path, given, wanted) -> None:
    table = pd.concat([frame(30), hard_frame().astype(frame(1).dtypes.drop("rooms").to_dict())], ignore_index=True)
    rows = write(table, tmp_path / given)
    assert predict_file(binary[1], rows, tmp_path / wanted) == len(table)
    written = read(tmp_path / wanted)
    assert written["prediction"].tolist() == binary[0].predict(table).tolist()
    # parts of 7 rows beside one of all: float32 sums of trees in another order
    shares = written[["proba_no", "proba_yes"]].to_numpy()
    np.testing.assert_allclose(shares, binary[0].predict_proba(table), atol=1e-6)
    assert sorted(path.name for path in (tmp_path / wanted).parent.glob("*out*")) == [Path(wanted).name]


@pytest.mark.usefixtures("in_parts")
def test_without_a_file_to_write_predictions_are_printed(binary, tmp_path, capfd) -> None:
    rows = write(frame(20), tmp_path / "rows.csv")
    predict_file(binary[1], rows, tmp_path / "out.csv")
    assert predict_file(binary[1], rows, None) == 20
    assert capfd.readouterr().out == (tmp_path / "out.csv").read_text()


@pytest.mark.usefixtures("in_parts")
def test_rows_come_through_a_pipe(binary, tmp_path) -> None:
    rows = write(frame(), tmp_path / "rows.csv")
    predict_file(binary[1], rows, tmp_path / "expected.csv")
    os.mkfifo(pipe := tmp_path / "pipe")
    with subprocess.Popen(["cp", str(rows), str(pipe)]):
        assert predict_file(binary[1], pipe, tmp_path / "out.csv") == len(frame())
    assert (tmp_path / "out.csv").read_text() == (tmp_path / "expected.csv").read_text()
    with pytest.raises(DataError, match="is a pipe or a device"):
        Table(pipe, target="y").load()


def test_predictions_are_not_compressed(binary, tmp_path) -> None:
    frame().to_csv(rows := tmp_path / "rows.csv.gz", index=False)
    with pytest.raises(DataError, match=r"out\.csv\.gz'; expected a CSV or Parquet file: compress it afterwards"):
        predict_file(binary[1], rows, tmp_path / "out.csv.gz")
    assert predict_file(binary[1], rows, tmp_path / "out.csv") == len(frame())


@pytest.mark.parametrize("given", ["rows.csv", "rows.parquet"])
@pytest.mark.parametrize("wanted", ["out.csv", "out.parquet"])
def test_no_rows_give_a_file_without_rows(binary, tmp_path, given, wanted) -> None:
    rows = write(frame(5).head(0), tmp_path / given)
    assert predict_file(binary[1], rows, tmp_path / wanted) == 0
    assert read(tmp_path / wanted).columns.tolist() == ["prediction", "proba_no", "proba_yes"]


@pytest.mark.usefixtures("in_parts")
@pytest.mark.parametrize("index", [{"index": range(100, 120)}, {"index": [f"row {number}" for number in range(20)]}])
def test_the_index_of_a_parquet_file_is_no_matter(binary, tmp_path, index) -> None:
    rows = write(frame(20).set_index(pd.Index(index["index"], name="row")), tmp_path / "rows.parquet")
    predict_file(binary[1], rows, tmp_path / "out.parquet")
    assert read(tmp_path / "out.parquet")["prediction"].tolist() == binary[0].predict(frame(20)).tolist()


@pytest.mark.usefixtures("in_parts")
@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_a_file_may_be_replaced_by_its_predictions(binary, tmp_path, name) -> None:
    rows = write(frame(20), tmp_path / name)
    predict_file(binary[1], rows, rows)
    assert read(rows).columns.tolist() == ["prediction", "proba_no", "proba_yes"]
    assert len(read(rows)) == 20


@pytest.mark.usefixtures("in_parts")
@pytest.mark.parametrize("wanted", ["out.csv", "out.parquet"])
def test_an_error_in_a_later_part_says_where_that_begins_and_leaves_what_was_there(binary, tmp_path, wanted) -> None:
    table = frame(30).astype({"size": object})
    table.loc[25, "size"] = "large"
    rows = write(table, tmp_path / "rows.csv")
    (tmp_path / wanted).write_text("earlier")
    with pytest.raises(DataError, match=r"row 4: received 'large'.*\(rows are counted from row 21 of the file on\)"):
        predict_file(binary[1], rows, tmp_path / wanted)
    assert (tmp_path / wanted).read_text() == "earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["rows.csv", wanted])


@pytest.mark.usefixtures("in_parts")
def test_a_category_is_spelt_as_in_training_in_every_part(tmp_path) -> None:
    made = house("binary", tmp_path, {"constant.1": "category"})
    plan = made.plan(made.fit("linear", 1.0))
    columns = tuple(replace(column, held="integer") for column in plan.schema.columns)
    write_bundle(replace(plan, schema=Schema(columns)), tmp_path / "model", no_nets)
    texts = ["03", "A12", *["3"] * 5, "03", "10"]
    rows = write(pd.DataFrame({"constant.1": texts}), tmp_path / "rows.csv")
    predict_file(tmp_path / "model", rows, tmp_path / "out.csv")
    known = pd.DataFrame({"constant.1": ["3", "A12", *["3"] * 6, "10"]})
    expected = Bundle.load(tmp_path / "model").predict_proba(known)[:, 1]
    assert expected[0] != expected[1]
    np.testing.assert_allclose(read(tmp_path / "out.csv")["proba_yes"], expected)


def test_a_file_that_is_no_parquet_is_refused(binary, tmp_path) -> None:
    (tmp_path / "rows.parquet").write_text("no such thing")
    with pytest.raises(DataError, match="could not be read as Parquet"):
        predict_file(binary[1], tmp_path / "rows.parquet", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


# Memory

NOTE = 300
"""Letters that each row brings, in a column that the models don't read, and that each prediction has."""

SMALL, LARGE = 100_000, 400_000
"""Rows; both are more than a part."""

GROWTH = 60e6
"""Bytes that a process may need more for the larger file.

That has 90 MB more of notes, and its predictions 90 MB more of letters: who kept either would grow by that at least.
"""

MEASURED = """
import json, re, sys
from pathlib import Path
from tunekit.cli.predict import predict_file
count = predict_file(*map(Path, sys.argv[1:]))
# Not ru_maxrss, which counts what the process was before it became Python: a copy of its parent.
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]
print(json.dumps([count, int(peak) * 1024]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("given", "wanted"), [(".csv", ".parquet"), (".parquet", ".csv")])
def test_memory_does_not_grow_with_the_file(tmp_path, given, wanted) -> None:
    classes = ("n" * NOTE, "y" * NOTE)
    _, model, _ = small_bundle("binary", tmp_path, kinds={"size": "number"}, classes=classes)
    peaks = []
    for count in (SMALL, LARGE):
        notes = pd.Series([f"{number:0{NOTE}d}" for number in range(count)])
        table = pd.DataFrame({"size": np.linspace(1, 300, count), "note": notes})
        rows = tmp_path / f"rows{given}"
        if given == ".csv":
            table.to_csv(rows, index=False)
        else:
            # One group, as pandas writes; no dictionary, or the notes would be small.
            table.to_parquet(rows, row_group_size=count, use_dictionary=False)
            assert parquet.read_metadata(rows).num_row_groups == 1
        out = tmp_path / f"out{wanted}"
        command = [sys.executable, "-c", MEASURED, str(model), str(rows), str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
        predicted, peak = json.loads(done.stdout)
        assert predicted == count
        peaks.append(peak)
    assert peaks[1] - peaks[0] < GROWTH, f"{peaks[0] / 1e6:.0f} MB, then {peaks[1] / 1e6:.0f} MB"
