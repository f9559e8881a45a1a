"""Rows of arrays: from memory or a folder of files, through preparation, families, a search, and a bundle."""

import json
import sys
import tempfile
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from searches import Listener, tunekit  # type: ignore[import-not-found]

import tunekit as tk
from tunekit.bundle.columns import array_column
from tunekit.data import Arrays, Encoded, Images, Preparation, drawn, images
from tunekit.data.lazy import FileRows
from tunekit.data.scales import ArrayScale
from tunekit.errors import DataError, FactoryError
from tunekit.families import NetData
from tunekit.space import HyperParameters
from tunekit.training.fitted import layout_of
from tunekit.training.nets import fit_net
from tunekit.training.trial import load_fold

pytestmark = pytest.mark.usefixtures("kept_servers")

PICTURE = (8, 8)


def pictures(rows: int = 240, classes: int = 3, seed: int = 0) -> tuple[Any, Any]:
    """A bright square whose place tells the class, in noise."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, rows)
    x = rng.integers(0, 120, (rows, *PICTURE)).astype(np.uint8)
    for row, label in enumerate(y):
        x[row, 2 * label : 2 * label + 3, 2:5] += 100
    return x, y


# Cells.


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (np.zeros((3, 8, 7)), r"row 0: received an array of shape \(8, 7\), expected \(8, 8, 1\)"),
        ([np.zeros((8, 8)), np.zeros((7, 8))], r"row 1: received an array of shape \(7, 8\)"),
        ([np.zeros((8, 8)), [[0.0] * 8] * 7 + [[0.0] * 3]], "row 1: received .* its rows equally long"),
        ([np.zeros((8, 8)), None], "row 1: received None, expected an array"),
        (np.full((2, 8, 8), np.nan), "row 0: its array holds nan, expected finite numbers only"),
        (np.array([["a"] * 8] * 8)[None], "received an array of <U1, expected numbers"),
        ([[["a" * 2**20, *[0.0] * 2**20]]], "row 0: received .*, expected an array of numbers"),  # 4 TiB as texts
    ],
)
def test_cells_that_do_not_fit_are_named(value: Any, told: str) -> None:
    with pytest.raises(DataError, match=f"column 'image', {told}" if told.startswith("row") else told):
        array_column(value, (8, 8, 1), "float32", "image")


def test_arrays_may_be_lists_in_a_text_or_nested_as_parquet_has_them() -> None:
    """What a CSV file and a Parquet file can hold of windows, sequences and pictures."""
    cells = np.arange(24.0).reshape(2, 4, 3)
    texts = [json.dumps(cell.tolist()) for cell in cells]
    nested = np.empty((2, 4), dtype=object)
    for place in np.ndindex(2, 4):
        nested[place] = cells[place]
    for values in (texts, np.array(texts), pd.Series(texts), list(nested)):
        np.testing.assert_array_equal(array_column(values, (4, 3), "float32", "window"), cells)
    for wrong, told in ((["[[1, 2"], r"row 0: received the text '\[\[1, 2', expected lists"), (["[[1], 2]"], "row 0")):
        with pytest.raises(DataError, match=f"column 'window', {told}"):
            array_column(wrong, (4, 3), "float32", "window")


@pytest.mark.parametrize("value", [0.5, -1.0, 256.0])
def test_a_byte_holds_bytes_only(value: float) -> None:
    cells = np.zeros((4, 8, 8, 1))
    cells[2, 1, 1] = value
    with pytest.raises(DataError, match=rf"row 2: its array holds {value}, expected whole numbers from 0 to 255 only"):
        array_column(cells, (8, 8, 1), "uint8", "image")
    assert array_column(np.ones((4, 8, 8)), (8, 8, 1), "uint8", "image").dtype == np.uint8


# Data.


def test_pictures_get_an_axis_for_their_channel_and_keep_their_bytes() -> None:
    x, y = pictures(20)
    data = Images(x, y).load()
    [column] = data.schema.columns
    assert (column.kind, column.shape, column.dtype) == ("array", (8, 8, 1), "uint8")
    np.testing.assert_array_equal(data.columns["image"][..., 0], x)
    assert (data.task, data.classes) == ("multiclass", (0, 1, 2))
    assert Images(lambda: (x, y)).load().digest == data.digest
    changed = x.copy()
    changed[3, 0, 0] ^= 1
    assert Images(changed, y).load().digest != data.digest


def test_several_inputs_of_any_shape() -> None:
    rng = np.random.default_rng(0)
    inputs = {"left": rng.normal(size=(30, 4, 4, 2)), "steps": rng.normal(size=(30, 7, 3))}
    data = Arrays(inputs, rng.normal(size=30)).load()
    assert {column.name: column.shape for column in data.schema.columns} == {"left": (4, 4, 2), "steps": (7, 3)}
    assert data.task == "regression"
    few = [0, 1, 2, 0, 1] * 6
    assert Arrays(inputs, few).load().task == "multiclass"
    assert Arrays(inputs, few, kind="number").load().task == "regression"


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Arrays({"a": np.zeros((5, 2, 2)), "b": np.zeros((4, 2))}, [0, 1] * 2), "the rows differ in number"),
        (lambda: Arrays(np.zeros((4, 2, 2)), [0, 1, None, 1]), "target 'y' is missing in row 2"),
        (lambda: Arrays(np.zeros((4, 2, 2))), "y is None"),
        (lambda: Arrays(np.zeros((4, 2, 2)), [0, 1, 0, 1], weight=[1.0, 1.0]), "the rows differ in number"),
        (lambda: Arrays({"codes": np.zeros((4, 2))}, [0, 1, 0, 1]), "an input is named 'codes'"),
        (lambda: Arrays(np.zeros((4, 2, 2)), [0, 1, 0, 1], kind="class"), "kind is 'class'"),
        (lambda: Arrays(np.zeros(4), [0, 1, 0, 1]), r"cells of shape \(\); expected arrays"),
        (lambda: Images(np.zeros((4, 2)), [0, 1, 0, 1]), r"cells of shape \(2,\); expected \(height, width\)"),
    ],
)
def test_rows_that_can_not_be_used_are_refused(make: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        make().load()


class Some:
    """As a `keras.utils.PyDataset` looks."""

    num_batches = 2

    def __len__(self) -> int:
        return 2

    def __getitem__(self, number: int) -> Any:
        return pictures(10, seed=number)


@pytest.mark.parametrize(
    ("x", "told"),
    [
        (Some(), r"x is a Some, whose rows come in batches; .* use tk.Batches\(data, suits='images'\)"),
        (Some, r"the function returned a Some, whose rows .* use tk.Batches\(function, suits='images'\)"),
        (lambda: iter([pictures(10)]), "the function returned a list_iterator, whose rows come in batches"),
        (lambda: (Some(), None), "the function returned a Some, whose rows come in batches"),
        (lambda: pictures(10)[0], r"the function returned a ndarray; expected \(x, y\)"),
        (lambda: (*pictures(10), None), r"the function returned a tuple of 3 parts; expected \(x, y\)"),
    ],
)
def test_what_comes_in_batches_is_sent_to_batches(x: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        Images(x).load()
    with pytest.raises(DataError, match=told.replace(", suits='images'", "")):
        Arrays(x).load()


def test_whole_numbers_are_bytes_if_they_need_eight_bits() -> None:
    x, y = pictures(20)
    for same in (x.astype(np.int64), list(x), [Image.fromarray(cells) for cells in x]):
        assert Images(same, y).load().digest == Images(x, y).load().digest
    for others in (x.astype(np.int64) // 2, x.astype(np.int64) * 2, x.astype(np.float32)):
        assert Images(others, y).load().schema.columns[0].dtype == "float32"


def test_a_folder_of_files_by_class(tmp_path: Path) -> None:
    x, y = pictures(12, classes=2)
    for number, (cells, label) in enumerate(zip(x, y, strict=True)):
        folder = tmp_path / ("cat", "dog")[label]
        folder.mkdir(exist_ok=True)
        Image.fromarray(cells).save(folder / f"{number:02d}.png")
    data = Images(tmp_path, gray=True).load()
    assert data.classes == ("cat", "dog")
    order = [*np.flatnonzero(y == 0), *np.flatnonzero(y == 1)]
    np.testing.assert_array_equal(data.columns["image"][..., 0], x[order])
    assert Images(tmp_path, size=(4, 6)).load().schema.columns[0].shape == (4, 6, 3)
    assert not data.notices
    (tmp_path / "cat" / "notes.txt").write_text("no picture")
    (tmp_path / "bird" / "deep").mkdir(parents=True)
    said, empty = Images(tmp_path).load().notices
    assert "1 file(s) are left out, such as 'cat/notes.txt'" in said
    assert empty == "1 folder(s) without pictures are no class: bird"
    (tmp_path / "cat" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"broken.png' can't be read as a picture"):
        Images(tmp_path).load()
    with pytest.raises(DataError, match="has no pictures in folders by class"):
        Images(tmp_path / "cat").load()


# Files, in training and afterwards.


def written(folder: Path, x: Any) -> list[str]:
    """Each picture in a file of its own."""
    folder.mkdir()
    paths = [str(folder / f"{row:03d}.png") for row in range(len(x))]
    for path, cells in zip(paths, x, strict=True):
        Image.fromarray(cells).save(path)
    return paths


def test_paths_of_files_are_pictures(tmp_path: Path) -> None:
    x, y = pictures(12)
    paths = written(tmp_path / "pictures", x)
    given: Any
    for given in (paths, [Path(path) for path in paths], np.array(paths), pd.Series(paths, index=range(5, 17))):
        np.testing.assert_array_equal(Images(given, y, gray=True).load().columns["image"][..., 0], x)
    assert Images(paths, y, size=(4, 6)).load().schema.columns[0].shape == (4, 6, 3)
    for cells in (paths, [Path(path) for path in paths], np.array(paths), pd.Series(paths), [*paths[:6], *x[6:]]):
        np.testing.assert_array_equal(array_column(cells, (8, 8, 1), "uint8", "image")[..., 0], x)
    colours = array_column(paths, (16, 4, 3), "uint8", "image")
    assert colours.shape == (12, 16, 4, 3)
    np.testing.assert_array_equal(colours[0], Images(paths, y, size=(16, 4)).load().columns["image"][0])


def test_more_pictures_than_trials_hold_are_read_into_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = pictures(40)
    paths = written(tmp_path / "pictures", x)
    expected = Images(paths, y).load()
    assert isinstance(expected.columns["image"], np.ndarray)
    monkeypatch.setattr(images, "MOST_IN_MEMORY", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    given = Images(paths, y)
    data = given.load()
    assert isinstance(data.columns["image"], FileRows)
    assert (data.digest, data.schema) == (expected.digest, expected.schema)
    assert "40 pictures were read into a temporary file" in data.notices[0]
    assert len(list(tmp_path.glob("tunekit-rows-*"))) == 1
    del data
    assert not list(tmp_path.glob("tunekit-rows-*"))
    Path(paths[-1]).write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"039.png' can't be read as a picture"):
        given.load()
    assert not list(tmp_path.glob("tunekit-rows-*"))
    monkeypatch.setattr(drawn, "SHARE_OF_DISK", 0)
    with pytest.raises(DataError, match=r"the rows take 0.0 GB, and the disk of .* expected room for them"):
        given.load()


def test_memory_holds_a_part_of_the_files_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MOST_IN_MEMORY", 0)
    Image.fromarray(np.zeros((128, 128, 3), dtype=np.uint8)).save(tmp_path / "0.png")
    tracemalloc.start()
    Images([tmp_path / "0.png"] * 600, [0, 1] * 300).load()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * 2**20  # all are 28 MiB; a part is 4 MiB, read and then written


@pytest.mark.parametrize(
    ("shape", "dtype", "path", "told"),
    [
        ((8, 8, 1), "uint8", "none.png", r"column 'image', row 1: '.*none.png' can't be read as a picture: .*No such"),
        ((8, 8, 1), "uint8", "broken.png", r"column 'image', row 1: '.*broken.png' can't be read as a picture"),
        ((8, 8, 1), "uint8", "cut.png", r"column 'image', row 1: '.*cut.png' can't be read as a picture"),
        ((8, 8, 1), "float32", "0.png", "received the text .* expected an array of shape .* float32; only pictures"),
        ((8, 8), "uint8", "0.png", "only pictures of bytes"),
        ((8, 8, 2), "uint8", "0.png", "only pictures of bytes"),
    ],
)
def test_files_that_can_not_be_read_are_named(tmp_path: Path, shape: Any, dtype: str, path: str, told: str) -> None:
    x, _ = pictures(1)
    Image.fromarray(x[0]).save(tmp_path / "0.png")
    whole = (tmp_path / "0.png").read_bytes()
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    cells = [np.zeros(shape, dtype=dtype), str(tmp_path / path)]
    with pytest.raises(DataError, match=told):
        array_column(cells, shape, dtype, "image")


def test_pictures_of_more_than_bytes_are_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match=r"deep.png' can't be read as a picture: its values are 'I;16'.* 8 bits"):
        Images([str(tmp_path / "deep.png")], ["a"]).load()


def turned(folder: Path, cells: Any) -> list[str]:
    """One picture as a camera stores it that was held in each of the eight ways that EXIF knows."""
    across = [cells, cells[:, ::-1], cells[::-1, ::-1], cells[::-1], cells.T]
    across += [np.rot90(cells), cells[::-1, ::-1].T, np.rot90(cells, -1)]
    paths = []
    for orientation, stored in enumerate(across, start=1):
        exif = Image.Exif()
        exif[0x0112] = orientation
        paths.append(str(folder / f"{orientation}.png"))
        Image.fromarray(np.ascontiguousarray(stored)).save(paths[-1], exif=exif)
    return paths


def test_pictures_are_turned_upright_in_training_and_after_it(tmp_path: Path) -> None:
    cells = np.arange(6 * 4, dtype=np.uint8).reshape(6, 4) * 10
    paths = turned(tmp_path, cells)
    for made in (
        Images(paths, [0, 1] * 4, gray=True).load().columns["image"],
        array_column(paths, (6, 4, 1), "uint8", "x"),
    ):
        np.testing.assert_array_equal(made[..., 0], np.stack([cells] * 8))


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_a_picture_whose_exif_is_broken_is_read_as_it_lies(tmp_path: Path, ending: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = exif.tobytes()
    wrong = {"no_tiff": b"Exif\0\0XX" + whole[8:], "of_texts": whole.replace(b"\x01\x12\x00\x03", b"\x01\x12\x00\x02")}
    picture = Image.fromarray(np.zeros((6, 4), dtype=np.uint8))
    for name, given in wrong.items():
        picture.save(tmp_path / f"{name}.{ending}", exif=given)
        assert Images([str(tmp_path / f"{name}.{ending}")] * 2, [0, 1]).load().columns["image"].shape == (2, 6, 4, 3)


def test_a_row_without_a_file_is_named(tmp_path: Path) -> None:
    x, _ = pictures(1)
    Image.fromarray(x[0]).save(tmp_path / "0.png")
    with pytest.raises(DataError, match="row 1 has no picture: received None"):
        Images([str(tmp_path / "0.png"), None], ["a", "b"]).load()


def test_files_are_not_read_for_others(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "0.png")
    for name in (str(tmp_path / "0.png"), str(tmp_path / "absent.png")):
        with pytest.raises(DataError, match=r"row 0: received .*, expected an array of numbers"):
            array_column([name], (8, 8, 1), "uint8", "image", files=False)
    np.testing.assert_array_equal(array_column(["[[1]]"], (1, 1), "uint8", "image", files=False), [[[1]]])


def test_without_pillow_a_file_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DataError, match=r"'a.png' is the name of a file, and Pillow, .* pip install pillow"):
        array_column(["a.png"], (8, 8, 1), "uint8", "image")


@pytest.mark.slow
def test_a_bundle_predicts_files(tmp_path: Path) -> None:
    x, y = pictures(120)
    paths = written(tmp_path / "pictures", x)
    made = tk.Study("files", data=Images(paths, y, gray=True), families=[tk.Linear()], split=tk.KFold(2))
    bundle = tk.Bundle.load(made.run(trials=1, root=tmp_path, observers=[]).export(tmp_path / "model"))
    expected = bundle.predict({"image": x})
    np.testing.assert_array_equal(bundle.predict({"image": paths}), expected)
    assert bundle.predict([{"image": paths[3]}]) == expected[3:4]
    pd.DataFrame({"image": paths, "note": "a"}).to_csv(tmp_path / "new.csv", index=False)
    tunekit(tmp_path, "predict", "model", "new.csv", "-o", "out.csv")
    assert pd.read_csv(tmp_path / "out.csv")["prediction"].tolist() == expected.tolist()
    pd.DataFrame({"image": [paths[0], "gone.png"]}).to_csv(tmp_path / "new.csv", index=False)
    done = tunekit(tmp_path, "predict", "model", "new.csv", "-o", "out.csv", expect=1)
    assert "row 1: 'gone.png' can't be read as a picture" in " ".join(done.stderr.split())


# Preparation.


def test_channels_are_scaled_by_the_training_rows() -> None:
    rng = np.random.default_rng(0)
    cells = (rng.normal(size=(3000, 4, 4, 2)) * [1.0, 5.0] + [0.0, 100.0]).astype(np.float32)
    cells[..., 1] = cells[..., 1]
    scale = ArrayScale.fit("x", cells)
    np.testing.assert_allclose(scale.center, cells.mean(axis=(0, 1, 2)), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(1 / scale.factor, cells.std(axis=(0, 1, 2)), rtol=1e-4)
    constant = ArrayScale.fit("x", np.full((5, 3, 1), 7, dtype=np.uint8))
    np.testing.assert_array_equal(constant.apply(np.full((2, 3, 1), 9, dtype=np.uint8)), np.zeros((2, 3, 1)))


def test_a_preparation_with_arrays_is_what_was_saved() -> None:
    x, _ = pictures(20)
    rows = Encoded(np.zeros((20, 0)), np.zeros((20, 0), dtype=np.int32), (x[..., None],))
    made = Preparation.fit(rows, (), None, ("image",))
    again = Preparation.from_arrays(made.to_arrays())
    for layout in ("columns", "flat", "ordinal", "native", "array image"):
        one, other = made.apply(rows, layout), again.apply(rows, layout)
        assert one.keys() == other.keys()
        for name, array in one.items():
            np.testing.assert_array_equal(array, other[name])
    assert made.apply(rows, "flat")["features"].shape == (20, 64)
    np.testing.assert_array_equal(made.apply(rows, "native")["features"], x.reshape(20, 64))
    assert made.apply(rows, "columns")["image"].shape == made.apply(rows, "array image")["features"].shape


# Nets.

DATA = NetData("multiclass", 3, 0, (), 64, 200, {"image": (8, 8, 1)})


def test_the_layout_of_a_net_is_found_by_its_inputs() -> None:
    import keras

    def net(*shapes: tuple[int, ...], name: str | None = None) -> Any:
        inputs = [keras.Input(shape, name=name) for shape in shapes]
        flat = [keras.layers.Flatten()(one) for one in inputs]
        return keras.Model(inputs, keras.layers.Dense(3)(flat[0]))

    two = NetData("binary", 1, 4, (), 100, 200, {"image": (8, 8, 1), "steps": (7, 3)})
    assert layout_of(net((8, 8, 1), name="image"), DATA) == "columns"
    assert layout_of(net((8, 8, 1)), DATA) == "array image"
    assert layout_of(net((64,)), DATA) == "flat"
    assert layout_of(net((7, 3)), two) == "array steps"
    assert layout_of(keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)]), DATA) == "array image"
    assert layout_of(keras.Sequential([keras.layers.Dense(3)]), two) == "flat"
    with pytest.raises(FactoryError, match="no array column 'picture'; expected the name of one of its own: 'image'"):
        DATA.keras_array("picture")


def test_a_net_of_one_bare_input_is_trained_without_a_warning(tmp_path: Path) -> None:
    """Keras warns of a dict for a model of one tensor; warnings are errors here."""

    def bare(hp: HyperParameters, data: NetData) -> Any:
        import keras

        inputs = data.keras_array()
        model = keras.Model(inputs, data.keras_head(keras.layers.Flatten()(inputs)))
        model.compile("adam", loss=data.loss)
        return model

    prepared = study(tk.Baseline()).prepare()
    fold = load_fold(prepared.write(tmp_path), 0, prepared.metric, 0, 1)
    fitted = fit_net(tk.Keras(bare, epochs=2), HyperParameters(lambda one: one.default), fold, lambda *_: False)
    assert fitted.layout == "columns"
    assert fitted.predict(fold.valid.rows).shape == (len(fold.valid), 3)


@pytest.mark.parametrize("block", ["plain", "residual", "separable", "inception"])
@pytest.mark.parametrize("head", ["average", "flatten"])
def test_every_block_makes_a_net_that_fits(block: str, head: str) -> None:
    chosen: dict[str, Any] = {
        "block": block,
        "head": head,
        "filters": 8,
        "stages": 2,
        "depth": 2,
        "strides": head == "flatten",
    }
    model = tk.ConvNet().build(HyperParameters(lambda dimension: chosen.get(dimension.name, dimension.default)), DATA)
    predictions = model.predict(np.zeros((2, 8, 8, 1), np.float32), verbose=0)
    assert predictions.shape == (2, 3)
    np.testing.assert_allclose(predictions.sum(axis=1), 1.0, rtol=1e-5)


def built(shape: tuple[int, ...], **chosen: Any) -> tuple[Any, set[str]]:
    """A net of small filters for pictures of some shape, and the names that its factory asks for."""
    chosen = {"filters": 8, "augment": 0.0, **chosen}
    hp = HyperParameters(lambda dimension: chosen.get(dimension.name, dimension.default))
    return tk.ConvNet().build(hp, replace(DATA, arrays={"image": shape})), set(hp.values)


@pytest.mark.parametrize("block", ["plain", "separable"])
@pytest.mark.parametrize("side", [9, 12, 28])
def test_without_padding_maps_shrink_but_never_to_nothing(block: str, side: int) -> None:
    for stages, depth, strides in [(1, 1, True), (1, 1, False), (4, 3, True), (4, 3, False)]:
        chosen = {"block": block, "stages": stages, "depth": depth, "strides": strides, "padding": "valid"}
        model, _ = built((side, side + 5, 1), **chosen)
        maps = [layer.output.shape[1:3] for layer in model.layers if len(layer.output.shape) == 4]
        assert min(map(min, maps)) >= 4
        same, _ = built((side, side + 5, 1), **{**chosen, "padding": "same"})
        padded = [layer.output.shape[1:3] for layer in same.layers if len(layer.output.shape) == 4]
        first = next(place for place, layer in enumerate(model.layers) if "conv" in layer.name)
        stride = 2 if strides and depth == 1 else 1
        assert maps[first] == ((side - 3) // stride + 1, (side + 2) // stride + 1)
        assert padded[first] == (-(-side // stride), -(-(side + 5) // stride))


def test_padding_is_searched_where_it_makes_another_net() -> None:
    for block, side, asked in [
        ("plain", 9, True),
        ("plain", 8, False),
        ("residual", 28, False),
        ("inception", 28, False),
    ]:
        assert ("padding" in built((side, side, 1), block=block)[1]) is asked, (block, side)


@pytest.mark.parametrize(
    ("block", "parameters"),
    [("plain", 83_595), ("residual", 186_067), ("separable", 20_100), ("inception", 35_313)],
)
def test_trials_that_knew_no_padding_are_built_as_they_were(block: str, parameters: int) -> None:
    """They are refitted and exported from their values; the numbers are of nets from before there was a choice."""
    model, _ = built((28, 28, 1), block=block, stages=4, depth=2)
    assert model.count_params() == parameters


# Whole searches.


def unnamed(hp: HyperParameters) -> Any:
    """As a KerasTuner user writes it."""
    import keras

    model = keras.Sequential(
        [
            keras.layers.Conv2D(hp.Int("filters", 4, 8), 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy")
    return model


def study(*families: Any, **more: Any) -> tk.Study:
    x, y = pictures()
    return tk.Study("pictures", data=tk.Images(x, y), families=families, split=tk.StratifiedKFold(2), **more)


def searched(made: tk.Study, folder: Path, trials: int) -> Any:
    return made.run(root=folder / "mlruns", trials=trials, workers=1, observers=[Listener()])


def check_bundle(result: Any, folder: Path) -> None:
    bundle = tk.Bundle.load(result.export(folder / "model"))
    x, y = pictures(50, seed=1)
    found = bundle.predict({"image": x})
    assert (found == y).mean() > 0.6
    np.testing.assert_array_equal(bundle.predict([{"image": cells.tolist()} for cells in x[:5]]), found[:5])
    np.testing.assert_array_equal(bundle.predict({"image": list(x[..., None])}), found)
    assert np.shape(bundle.manifest["example"]["image"]) == (8, 8, 1)
    with pytest.raises(DataError, match=r"row 0: received an array of shape \(8, 7\)"):
        bundle.predict({"image": x[:, :, :7]})
    with pytest.raises(DataError, match=r"1 of 1 column\(s\) are missing: 'image' \(received 'images'\?\)"):
        bundle.predict({"images": x})


def test_a_search_on_pictures_without_nets(tmp_path: Path) -> None:
    result = searched(study(tk.Baseline(), tk.Linear(), tk.Forest(), tk.XGBoost()), tmp_path, 5)
    assert all(trial["state"] == "complete" for trial in result.summary["trials"]), result.summary["trials"]
    check_bundle(result, tmp_path)


def two_inputs(rows: int, seed: int = 0) -> tuple[dict[str, Any], Any]:
    """What is to be predicted hides in one channel of each of two inputs, of very different sizes."""
    rng = np.random.default_rng(seed)
    left = rng.normal(size=(rows, 4, 4, 2)) * [1.0, 100.0] + [0.0, 1000.0]
    steps = rng.normal(size=(rows, 7, 3))
    y = (left[:, 0, 0, 1] - 1000.0) / 100.0 + steps[:, 3, 2]
    return {"left": left, "steps": steps}, y


def test_a_search_on_several_inputs_of_floats(tmp_path: Path) -> None:
    inputs, y = two_inputs(300)
    families = [tk.Baseline(), tk.Linear(), tk.Forest(), tk.XGBoost()]
    made = tk.Study("several", data=tk.Arrays(inputs, y), families=families, split=tk.KFold(2))
    result = searched(made, tmp_path, 5)
    assert all(trial["state"] == "complete" for trial in result.summary["trials"]), result.summary["trials"]
    bundle = tk.Bundle.load(result.export(tmp_path / "model"))
    new, expected = two_inputs(50, seed=1)
    found = bundle.predict(new)
    assert np.corrcoef(found, expected)[0, 1] > 0.9
    listed = [{name: cells[row].tolist() for name, cells in new.items()} for row in range(5)]
    np.testing.assert_allclose(bundle.predict(listed), found[:5], rtol=1e-6)


@pytest.mark.slow
def test_a_search_on_pictures_with_nets(tmp_path: Path) -> None:
    nets: list[Any] = [tk.ConvNet(), tk.MLP(), tk.Keras(unnamed, epochs=12)]
    for net in nets[:2]:
        net.epochs = 12
    result = searched(study(tk.Baseline(), *nets), tmp_path, 4)
    assert all(trial["state"] == "complete" for trial in result.summary["trials"]), result.summary["trials"]
    assert {member["family"] for member in result.summary["ensemble"]["members"]} & {"convnet", "unnamed", "mlp"}
    check_bundle(result, tmp_path)
    for trial in result.summary["trials"][1:]:  # each kind of net by itself
        result.export(tmp_path / f"alone{trial['number']}", trial=trial["number"])


def both(rows: int = 600) -> tuple[Any, pd.DataFrame, Any]:
    """Pictures of two places, and a number: each tells a part of what is to be predicted."""
    x, place = pictures(rows, classes=2)
    rng = np.random.default_rng(1)
    number = rng.normal(size=rows)
    frame = pd.DataFrame({"number": number, "kind": rng.choice(["a", "b"], rows)})
    return x, frame, 3.0 * place + 2.0 * number


def test_columns_beside_pictures_keep_their_own_names() -> None:
    x, frame, y = both(30)
    data = tk.Images(x, y, table=frame).load()
    assert [(column.name, column.kind) for column in data.schema.columns] == [
        ("number", "number"),
        ("kind", "category"),
        ("image", "array"),
    ]
    for wrong in (frame[:20], frame.rename(columns={"kind": "image"})):
        with pytest.raises(DataError, match=r"the table has .*; expected 30 rows, and names of its own"):
            tk.Images(x, y, table=wrong).load()


def test_columns_beside_arrays_and_texts_are_what_is_said_of_them() -> None:
    """Texts that return are no categories then, nor are numbers that number the rows left out."""
    x, frame, y = both(60)
    beside = frame.assign(said=["it is a two", "it is a six"] * 30, place=np.arange(60))
    kinds = {"said": "text", "place": "number"}
    for data in (tk.Images(x, y, table=beside, kinds=kinds), tk.Text(["a"] * 60, y, table=beside, kinds=kinds)):
        found = {column.name: column.kind for column in data.load().schema.columns}
        assert (found["said"], found["place"]) == ("text", "number")
    assert {column.name: column.kind for column in tk.Images(x, y, table=beside).load().schema.columns}[
        "said"
    ] == "category"
    with pytest.raises(DataError, match="kinds names 'said', which is no target, no input of codes and no column"):
        tk.Images(x, y, kinds={"said": "text"}).load()


def test_kinds_of_targets_count() -> None:
    x, _ = pictures(40)
    y = {"stars": np.arange(40) % 5, "sold": np.arange(40) % 2}
    found = Images(x, y, kinds={"stars": "number"}).load().targets
    assert [target.task for target in found] == ["regression", "binary"]


def test_rows_without_a_group_are_named() -> None:
    x, _ = pictures(4)
    y = [1.5, 2.5, 3.5, 4.5]
    with pytest.raises(DataError, match=r"1 row\(s\) have no group \('group'\), the first of them row 2; expected one"):
        Images(x, y, group=["a", "b", None, "a"]).load()
    frame = pd.DataFrame({"x": [1.0, 2, 3, 4], "who": ["a", None, "b", "b"], "y": y})
    with pytest.raises(DataError, match=r"'who'.*, the first of them row 1"):
        tk.Table(frame, target="y", group="who").load()


@pytest.mark.slow
def test_a_net_with_a_branch_for_each_input(tmp_path: Path) -> None:
    x, frame, y = both()
    net = tk.ConvNet()
    net.epochs = 30
    families = [tk.Baseline(), tk.Forest(), net]
    made = tk.Study("both", data=tk.Images(x, y, table=frame), families=families, split=tk.Holdout())
    result = searched(made, tmp_path, 3)
    assert all(trial["state"] == "complete" for trial in result.summary["trials"]), result.summary["trials"]
    convnet = next(trial for trial in result.summary["trials"] if trial["family"] == "convnet")
    bundle = tk.Bundle.load(result.export(tmp_path / "model", trial=convnet["number"]))
    x, frame, y = both(900)
    found = bundle.predict({"image": x[600:], **{name: frame[name][600:] for name in frame}})
    assert np.corrcoef(found, y[600:])[0, 1] > 0.9, "the picture alone would reach 0.6, the number alone 0.8"
    gaps = bundle.predict([{"image": x[0], "number": None, "kind": "never seen"}])
    assert np.isfinite(gaps).all()


def test_what_suits_pictures_is_searched_by_default() -> None:
    made = tk.Study("pictures", data=tk.Images(*pictures()))
    assert [family.name for family in made.families] == ["baseline", "linear", "forest", "convnet"]
    assert tk.Study("arrays", data=tk.Arrays(*pictures())).families[-1].name == "mlp"
