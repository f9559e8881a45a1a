"""Bundles: rows in every form, the same answers; and what was changed, moved or asked wrongly is refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from blends import House, frame, hard_frame, small_bundle  # type: ignore[import-not-found]

from tunekit.bundle import Bundle
from tunekit.bundle.bundle import BATCH
from tunekit.bundle.manifest import FORMAT, sealed
from tunekit.errors import BundleError, DataError


@pytest.fixture(scope="module")
def binary(tmp_path_factory) -> Any:
    return small_bundle("binary", tmp_path_factory.mktemp("binary"))


@pytest.fixture(scope="module")
def regression(tmp_path_factory) -> Any:
    return small_bundle("regression", tmp_path_factory.mktemp("regression"))


@pytest.fixture
def copy(binary, tmp_path) -> Path:
    """A bundle to be spoiled."""
    return Path(shutil.copytree(binary[1], tmp_path / "model"))


# What it predicts


def test_it_says_what_it_is(binary) -> None:
    bundle, _, made = binary
    assert (bundle.name, bundle.task, bundle.classes) == ("houses", "binary", ["no", "yes"])
    assert bundle.columns == list(made.kinds.items())
    assert [member["label"] for member in bundle.manifest["members"]] == ["linear", "boosted"]
    assert repr(bundle) == "Bundle('houses', binary, 2 member(s), 9 columns)"


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_prediction_is_the_value_or_the_class(task, tmp_path) -> None:
    bundle, _, made = small_bundle(task, tmp_path)
    plan = made.plan(*_members(bundle, made))
    blend = np.tensordot(plan.weights, plan.check_predictions, axes=1)
    rows = pd.concat([made.table.head(60).astype(object), hard_frame().astype(object)])
    if task == "regression":
        # float32 sums of XGBoost, at values of some 300,000
        np.testing.assert_allclose(bundle.predict(rows), blend[:, 0], rtol=1e-6)
        return
    probabilities = np.concatenate([1 - blend, blend], axis=1) if task == "binary" else blend
    # float32 sums of XGBoost
    np.testing.assert_allclose(bundle.predict_proba(rows), probabilities, atol=1e-6)
    np.testing.assert_allclose(bundle.predict_proba(rows).sum(axis=1), 1, atol=1e-12)
    expected = np.array(bundle.classes)[probabilities.argmax(axis=1)]
    np.testing.assert_array_equal(bundle.predict(rows), expected)


def test_the_members_are_there_too(regression) -> None:
    bundle, _, _ = regression
    members = bundle.predict_members(frame(20))
    weights = [member["weight"] for member in bundle.manifest["members"]]
    assert members.shape == (20, 2, 1)
    # the same float64 sum
    np.testing.assert_allclose(np.tensordot(members, weights, axes=(1, 0))[:, 0], bundle.predict(frame(20)), rtol=1e-12)


def test_rows_in_every_form_give_the_same(binary) -> None:
    bundle, _, _ = binary
    table = hard_frame()
    expected = bundle.predict_proba(table)
    plain = {name: [None if pd.isna(value) else value for value in table[name]] for name in table.columns}
    records = [dict(zip(plain, values, strict=True)) for values in zip(*plain.values(), strict=True)]
    texts = [{**row, "built": str(row["built"]) if row["built"] else None} for row in records]
    for rows in (plain, records, texts, table.assign(unknown=1), table[table.columns[::-1]], table.convert_dtypes()):
        np.testing.assert_array_equal(bundle.predict_proba(rows), expected)


def test_one_row_is_that_row_of_a_table(binary) -> None:
    bundle, _, _ = binary
    table = hard_frame().astype(object)
    together = bundle.predict_proba(table)
    for row in range(8):
        alone = bundle.predict_proba([table.iloc[row].to_dict()])
        # XGBoost's operator adds its trees in another order for few rows
        np.testing.assert_allclose(alone[0], together[row], atol=1e-6)


def test_more_rows_than_a_batch(binary) -> None:
    bundle, _, _ = binary
    table = frame(BATCH + 7)
    together = bundle.predict_proba(table)
    assert together.shape == (BATCH + 7, 2)
    np.testing.assert_allclose(bundle.predict_proba(table.tail(9)), together[-9:], atol=1e-6)  # as above


def test_no_rows_give_no_predictions(binary, regression) -> None:
    empty: list[Any] = [[], frame(3).head(0), {name: [] for name in frame(3).columns}]
    for rows in empty:
        assert binary[0].predict(rows).shape == (0,)
        assert binary[0].predict_proba(rows).shape == (0, 2)
        assert binary[0].predict_members(rows).shape == (0, 2, 1)
        assert regression[0].predict(rows).dtype == np.float64


def test_classes_keep_their_types(tmp_path) -> None:
    for position, classes in enumerate([(0, 1), (False, True), ("no", 1)]):
        folder = tmp_path / str(position)
        bundle, _, _ = small_bundle("binary", folder, classes=classes)
        assert {type(label) for label in bundle.predict(frame(60)).tolist()} == {type(label) for label in classes}


def test_several_threads_change_nothing(binary) -> None:
    bundle, folder, _ = binary
    threaded = Bundle.load(str(folder), threads=2)
    # XGBoost's operator adds its trees in another order when it shares them out
    np.testing.assert_allclose(threaded.predict_proba(frame()), bundle.predict_proba(frame()), atol=1e-6)


def test_the_example_of_the_manifest_can_be_predicted(binary) -> None:
    bundle, _, _ = binary
    assert bundle.predict([bundle.manifest["example"]])[0] in ("no", "yes")


# What it refuses


def test_missing_columns_are_named_with_what_they_may_have_become(binary) -> None:
    table = frame(3).drop(columns=["garden"]).rename(columns={"street": "Street"})
    with pytest.raises(DataError, match=r"2 of 9 column\(s\) are missing: 'garden', 'street' \(received 'Street'\?\)"):
        binary[0].predict(table)


def test_a_value_of_the_wrong_type_is_named(binary) -> None:
    with pytest.raises(DataError, match="column 'size', row 2: received 'big'"):
        binary[0].predict(frame(3).assign(size=["1", 2, "big"]))
    with pytest.raises(DataError, match="column 'built', row 0: received 'soon'"):
        binary[0].predict(frame(1).assign(built="soon"))
    with pytest.raises(DataError, match="lone surrogate"):
        binary[0].predict([{**binary[0].manifest["example"], "street": "caf\udce9"}])
    with pytest.raises(DataError, match="infinite"):
        binary[0].predict(frame(1).assign(size=np.inf))


def test_rows_that_are_no_table_are_refused(binary) -> None:
    with pytest.raises(DataError, match="expected a DataFrame, a list of dicts, or a dict of columns"):
        binary[0].predict(3)
    with pytest.raises(DataError, match="row 0 is a list"):
        binary[0].predict([[1, 2]])
    matrix = {name: list(column) for name, column in frame(2).items()} | {"size": np.ones((2, 2))}
    with pytest.raises(DataError, match=r"column 'size' has shape \(2, 2\)"):
        binary[0].predict(matrix)


def test_a_number_has_no_probabilities(regression) -> None:
    with pytest.raises(BundleError, match="predicts a number, not classes; use predict"):
        regression[0].predict_proba(frame(1))


def test_a_changed_graph_is_refused(copy) -> None:
    data = bytearray((copy / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "model.onnx").write_bytes(data)
    with pytest.raises(BundleError, match=r"'model.onnx' in .* is not the file that was exported"):
        Bundle.load(copy)


def test_the_graph_of_another_bundle_is_refused(copy, regression) -> None:
    shutil.copy(regression[1] / "model.onnx", copy / "model.onnx")
    with pytest.raises(BundleError, match="is not the file that was exported"):
        Bundle.load(copy)


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
@pytest.mark.parametrize("kept", [0, 1, 0.5, -1])
def test_a_truncated_file_is_refused(copy, name, kept) -> None:
    data = (copy / name).read_bytes()
    (copy / name).write_bytes(data[: int(len(data) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(BundleError, match=f"{name}.* (is not the file that was exported|is no JSON)"):
        Bundle.load(copy)


def test_a_bundle_that_an_earlier_tunekit_wrote_predicts_what_it_did() -> None:
    """Written by 0.1.0 on 2026-11-28. Never write it anew: a format that it doesn't fit needs a new version."""
    data = Path(__file__).parent / "data"
    kept = json.loads((data / "bundle_1.json").read_text(encoding="utf-8"))
    found = Bundle.load(data / "bundle_1").predict_columns(kept["rows"])
    assert found["prediction"].tolist() == kept["expected"].pop("prediction")
    for name, values in kept["expected"].items():
        # float32 sums, which another machine's vector instructions may add in another order
        np.testing.assert_allclose(found[name], values, atol=1e-6)


def test_a_changed_manifest_is_refused(copy) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["classes"].reverse()
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="was changed after it was exported"):
        Bundle.load(copy)


def test_a_manifest_may_be_laid_out_anew(copy) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(dict(reversed(manifest.items())), indent=None))
    assert Bundle.load(copy).name == "houses"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "has format version 2, and this tunekit reads version 1; use tunekit .*, or a later one"),
        ({"version": 0}, r"has format version 0, .*; use tunekit 0\.\S+, which wrote it, or export the bundle again"),
        ({"version": 0, "versions": None}, "use the tunekit that wrote it, or export the bundle again"),
        ({"version": None}, "has format version None"),
        ({"format": "tunekit-models"}, "was written by `tunekit export --format keras`"),
        ({"format": "someone's"}, "is not one of tunekit's"),
        ({"task": "ranking"}, "says task 'ranking'"),
        ({"classes": ["a"]}, "says 1 classes and 1 outputs"),
        ({"columns": [{"name": "size", "kind": "tensor"}]}, "describes a column as"),
        ({"columns": [{"name": "size", "kind": "number"}]}, r"reads 9 column\(s\) that differ from the 1"),
        ({"files": {}}, "doesn't name 'model.onnx' among its files"),
        ({"files": {"model.onnx": 3}}, "describes a file as 3"),
        ({"members": None}, "has no 'members' of type list"),
        ({"graph": {}}, "differ from the"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(copy, change, words) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(sealed(manifest | change))
    with pytest.raises(BundleError, match=words):
        Bundle.load(copy)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "sub/model.onnx", "..", "", "C:secret", "..\\secret"])
def test_files_outside_the_folder_are_not_read(copy, name) -> None:
    (copy.parent / "secret").write_text("secret")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"][name] = manifest["files"]["model.onnx"]
    (copy / "manifest.json").write_text(sealed(manifest))
    with pytest.raises(BundleError, match="expected a plain file name inside the folder"):
        Bundle.load(copy)


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
def test_links_that_leave_the_folder_are_not_followed(copy, name) -> None:
    (copy / name).rename(copy.parent / name)
    (copy / name).symlink_to(copy.parent / name)
    with pytest.raises(BundleError, match="outside the folder; expected the file itself"):
        Bundle.load(copy)


def test_links_inside_the_folder_are_followed(copy) -> None:
    (copy / "data").mkdir()
    (copy / "model.onnx").rename(copy / "data" / "v1")
    (copy / "model.onnx").symlink_to(copy / "data" / "v1")
    assert Bundle.load(copy).name == "houses"


def test_folders_that_hold_no_bundle_are_refused(copy, tmp_path) -> None:
    with pytest.raises(BundleError, match="there is no folder"):
        Bundle.load(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"has no file 'manifest.json'"):
        Bundle.load(tmp_path)
    (copy / "model.onnx").unlink()
    with pytest.raises(BundleError, match=r"has no file 'model.onnx'"):
        Bundle.load(copy)
    for text in ("{", "[]", json.dumps({"format": FORMAT[:-1]})):
        (copy / "manifest.json").write_text(text)
        with pytest.raises(BundleError, match=r"is no JSON|is not one of tunekit's"):
            Bundle.load(copy)


def test_a_graph_that_does_not_load_is_told(copy) -> None:
    from tunekit.bundle.manifest import file_entry

    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "model.onnx").write_bytes(b"no graph")
    manifest["files"]["model.onnx"] = file_entry(b"no graph")
    (copy / "manifest.json").write_text(sealed(manifest))
    with pytest.raises(BundleError, match=r"onnxruntime .* can't load model.onnx"):
        Bundle.load(copy)


def test_predicting_needs_numpy_and_onnxruntime_only_and_unpickles_nothing(binary) -> None:
    script = f"""
import pickle, sys
def refuse(*_, **__):
    raise AssertionError("unpickled")
pickle.load = pickle.loads = pickle.Unpickler = refuse
from tunekit.bundle import Bundle
before = "onnxruntime" in sys.modules
bundle = Bundle.load({str(binary[1])!r})
print(bundle.predict([bundle.manifest["example"]]).tolist(), before)
print(*sorted({{name.partition(".")[0] for name in sys.modules}}))
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    answer, modules = result.stdout.splitlines()
    assert answer in ("['no'] False", "['yes'] False")  # onnxruntime is loaded with the bundle, not before
    unwanted = {"tensorflow", "keras", "pandas", "xgboost", "sklearn", "scipy", "onnx", "optuna", "mlflow"}
    assert not unwanted & set(modules.split())


def _members(bundle: Bundle, made: House):
    from tunekit.export import Member

    for member in bundle.manifest["members"]:
        yield Member(member["label"], member["weight"], made.folder / member["label"], made.folds)
