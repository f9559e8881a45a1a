"""Rows in batches: drawn once, kept in files, and read from there by searches that never hold all of them."""

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image
from searches import Listener, run  # type: ignore[import-not-found]

import tunekit as tk
from tunekit.data import Batches, Encoded, Preparation
from tunekit.data import store as stores
from tunekit.data.lazy import FileRows, LazyRows, side_by_side, write_npy
from tunekit.data.store import Store
from tunekit.errors import DataError, TrialError
from tunekit.families import Fold, base
from tunekit.metrics import find_metric
from tunekit.space import HyperParameters
from tunekit.training.nets import fit_net
from tunekit.training.trial import load_fold

pytestmark = pytest.mark.usefixtures("kept_servers")

MB = 2**20


def pictures(rows: int = 240, seed: int = 0, side: int = 8) -> tuple[Any, Any]:
    """A bright square whose place tells one of three classes, in noise."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, rows)
    x = rng.integers(0, 120, (rows, side, side, 1)).astype(np.uint8)
    for row, label in enumerate(y):
        x[row, 2 * label : 2 * label + 3, 2:5] += 100
    return x, y


def in_batches(*arrays: Any, size: int = 50) -> Iterator[tuple[Any, ...]]:
    rows = min(len(part) for array in arrays for part in (array.values() if isinstance(array, dict) else [array]))
    for start in range(0, rows, size):
        yield tuple(
            {name: part[start : start + size] for name, part in array.items()}
            if isinstance(array, dict)
            else array[start : start + size]
            for array in arrays
        )


# Lazy rows.


@pytest.fixture
def cells() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(100, 3, 2)).astype(np.float32)


def test_lazy_rows_are_the_rows_of_their_file(tmp_path: Path, cells: np.ndarray) -> None:
    write_npy(tmp_path / "cells.npy", LazyRows(cells.__getitem__, cells.shape, cells.dtype))
    np.testing.assert_array_equal(np.load(tmp_path / "cells.npy"), cells)
    rows = FileRows(tmp_path / "cells.npy")
    assert (len(rows), rows.shape, rows.ndim, rows.nbytes) == (100, (100, 3, 2), 3, cells.nbytes)
    places = np.array([5, 99, 0, 5])
    np.testing.assert_array_equal(rows[places], cells[places])
    np.testing.assert_array_equal(rows.take(places)[1:3], cells[[99, 0]])
    np.testing.assert_array_equal(rows.take(places).take(np.array([1]))[:], cells[[99]])
    np.testing.assert_array_equal(np.asarray(rows), cells)
    np.testing.assert_array_equal(rows[np.array([], dtype=int)], cells[:0])
    together = LazyRows.joined([rows.take(places), cells[:7]])
    np.testing.assert_array_equal(together[np.array([4, 0, 10])], [cells[0], cells[5], cells[6]])
    beside = side_by_side([cells[:, 0], rows], np.float32)
    np.testing.assert_array_equal(beside[3:5], np.concatenate([cells[3:5, 0], cells[3:5].reshape(2, 6)], axis=1))


@pytest.mark.parametrize("layout", ["columns", "flat", "ordinal", "native", "array x"])
def test_every_layout_of_lazy_rows_is_that_of_arrays(cells: np.ndarray, layout: str) -> None:
    numbers = np.random.default_rng(1).normal(size=(100, 2))
    numbers[3, 0] = np.nan
    codes = np.random.default_rng(2).integers(0, 5, (100, 1)).astype(np.int32)
    lazy = LazyRows(cells.__getitem__, cells.shape, cells.dtype)
    held, read = Encoded(numbers, codes, (cells,)), Encoded(numbers, codes, (lazy,))
    one, other = (Preparation.fit(rows, (6,), None, ("x",)) for rows in (held, read))
    expected, found = one.apply(held, layout), other.apply(read, layout)
    assert expected.keys() == found.keys()
    assert any(isinstance(array, LazyRows) for array in found.values())
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name][10:20], array[10:20])
        assert (found[name].shape, found[name].dtype) == (array.shape, array.dtype)


# Drawing.


def test_batches_give_the_rows_of_arrays() -> None:
    x, y = pictures()
    data, expected = Batches(lambda: in_batches(x, y)).load(), tk.Arrays(x, y).load()
    assert data.digest == expected.digest
    assert isinstance(data.columns["array"], LazyRows)
    assert data.schema == expected.schema


def test_named_inputs_numbers_weights_and_one_hot_classes() -> None:
    rng = np.random.default_rng(0)
    inputs = {"steps": rng.normal(size=(120, 7, 3)), "age": rng.integers(0, 90, 120)}
    y, weight = rng.integers(0, 4, 120), rng.uniform(size=120)
    data = Batches(lambda: in_batches(inputs, np.eye(4)[y], weight)).load()
    assert [(column.name, column.kind) for column in data.schema.columns] == [("steps", "array"), ("age", "number")]
    np.testing.assert_array_equal(data.columns["age"], inputs["age"])
    np.testing.assert_array_equal(data.target, y)
    assert data.weight is not None
    np.testing.assert_allclose(data.weight, weight)
    assert Batches(lambda: in_batches(inputs, y[:, None]), kind="number").load().task == "regression"


def test_several_targets() -> None:
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(120, 3)), rng.integers(0, 2, (120, 4))
    named = {"label": np.array(["a", "b"])[labels[:, 0]], "size": rng.normal(size=120)}
    for y in (labels, named):
        found, expected = Batches(lambda y=y: in_batches(x, y)).load(), tk.Arrays(x.astype(np.float32), y).load()
        assert found.targets == expected.targets
        np.testing.assert_array_equal(found.target, expected.target)


def test_pictures_without_channels_get_one() -> None:
    x, y = pictures()
    data = Batches(lambda: in_batches(x[..., 0], y), suits="images").load()
    assert data.schema.columns[0].shape == (8, 8, 1)
    names = [family.name for family in tk.Study("some", data=Batches(lambda: None, suits="images")).families]
    assert names[-1] == "convnet"


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_pictures_whose_numbers_are_bytes_are_bytes(tmp_path: Path, dtype: Any) -> None:
    x, y = pictures()
    expected = tk.Images(x, y).load()
    data = Batches(lambda: in_batches(x.astype(dtype), y), suits="images", folder=tmp_path / "rows").load()
    assert (data.digest, data.schema) == (expected.digest, expected.schema)
    assert (tmp_path / "rows" / "input_0.npy").stat().st_size < 1.1 * x.nbytes
    assert len(data.notices) == 1


def blurred(x: Any, row: int) -> Any:
    made = x.astype(np.float32)
    made[row] += 0.25
    return made


@pytest.mark.parametrize(
    "cells",
    [lambda x: blurred(x, 0), lambda x: blurred(x, 239), lambda x: x.astype(np.float32) // 2, lambda x: x / 255.0],
)
def test_pictures_of_other_numbers_keep_them(cells: Any) -> None:
    """The first batch tells, or the last one, or all together: none needs eight bits."""
    x, y = pictures()
    made = cells(x)
    data = Batches(lambda: in_batches(made, y), suits="images").load()
    assert data.schema.columns[0].dtype == "float32"
    np.testing.assert_array_equal(data.columns["image"][:], made.astype(np.float32))
    assert "the bundle will take pictures of input 'image' as arrays, not as files" in data.notices[1]
    assert Batches(lambda: in_batches(made, y)).load().schema.columns[0].dtype == "float32"


def folder_by_class(root: Path, x: Any, y: Any, names: tuple[str, ...]) -> Path:
    for row, (cells, label) in enumerate(zip(x, y, strict=True)):
        (root / names[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(cells[..., 0]).save(root / names[label] / f"{row:03d}.png")
    return root


@pytest.mark.parametrize("mode", ["int", "categorical"])
def test_classes_have_the_names_that_keras_gives_them(tmp_path: Path, mode: str) -> None:
    import keras

    names = ("ape", "bee", "cat")
    root = folder_by_class(tmp_path / "pictures", *pictures(60), names)
    made = keras.utils.image_dataset_from_directory(
        root, label_mode=mode, color_mode="grayscale", image_size=(8, 8), shuffle=False, verbose=False
    )
    expected = tk.Images(root, gray=True).load()
    for _ in range(2):  # drawn, and found in the folder
        data = Batches(made, suits="images", folder=tmp_path / "rows").load()
        assert (data.digest, data.classes) == (expected.digest, names)
    plain = made.map(lambda x, y: (x, y))
    assert Batches(plain).load().classes == (0, 1, 2)
    assert Batches(plain, classes=names).load().classes == names
    assert Batches(made, classes=(2, 1, 0)).load().classes == (2, 1, 0)
    turned = Batches(made, classes=names[::-1]).load()
    assert turned.classes == names[::-1]
    np.testing.assert_array_equal(turned.target, 2 - data.target)
    assert Batches(made, kind="number").load().task == ("regression" if mode == "int" else "several")
    first = Batches(made, steps=1).load()
    assert first.classes == names[: int(expected.target[31]) + 1]  # of a batch of 32


def test_names_are_for_positions_alone() -> None:
    x, y = pictures()
    assert Batches(lambda: in_batches(x, y), classes=("no", "maybe", "yes")).load().classes == ("no", "maybe", "yes")
    with pytest.raises(DataError, match=r"classes=\('no', 'yes'\), but target 'y' holds 0, 1, 2"):
        Batches(lambda: in_batches(x, y), classes=("no", "yes")).load()
    with pytest.raises(DataError, match=r"holds 0\.5, 1\.5, 2\.5"):
        Batches(lambda: in_batches(x, y + 0.5), classes=("no", "maybe", "yes")).load()


def test_what_a_folder_holds_is_not_drawn_again(tmp_path: Path) -> None:
    x, y = pictures()
    drawn = []

    def draw() -> Any:
        drawn.append(1)
        return in_batches(x, y)

    first, again = (Batches(draw, folder=tmp_path / "rows").load() for _ in range(2))
    assert len(drawn) == 1
    assert first.digest == again.digest
    assert "240 rows in 5 batches were drawn" in first.notices[0]
    assert not again.notices


def test_an_interrupted_drawing_leaves_nothing_that_looks_complete(tmp_path: Path) -> None:
    x, y = pictures()

    def breaks() -> Any:
        yield x[:50], y[:50]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        Batches(breaks, folder=tmp_path / "rows").load()
    assert not list(tmp_path.iterdir())
    assert len(Batches(lambda: in_batches(x, y), folder=tmp_path / "rows").load()) == 240


def test_tf_data_and_py_datasets() -> None:
    import keras
    import tensorflow as tf

    x, y = pictures()
    expected = tk.Arrays(x, y).load().digest

    class Some(keras.utils.PyDataset):
        def __len__(self) -> int:
            return 5

        def __getitem__(self, number: int) -> Any:
            return x[number * 50 : number * 50 + 50], y[number * 50 : number * 50 + 50]

    class Endless(Some):
        @property
        def num_batches(self) -> None:
            return None

        def __getitem__(self, number: int) -> Any:
            return super().__getitem__(number % 5)

    sliced = tf.data.Dataset.from_tensor_slices((x, y)).batch(32)
    for source in (sliced, lambda: sliced, Some(), Some, lambda: iter(sliced)):
        assert Batches(source).load().digest == expected
    for endless in (sliced.repeat(), Endless):
        with pytest.raises(DataError, match=r"has no end; expected steps=N"):
            Batches(endless).load()
    assert len(Batches(Endless, steps=12).load()) == 2 * 240 + 2 * 50
    assert len(Batches(sliced.repeat(), steps=3).load()) == 96
    texts = tf.data.Dataset.from_tensor_slices((x, np.array(["cat", "dog", "owl"])[y])).batch(32)
    assert Batches(texts).load().classes == ("cat", "dog", "owl")


X, Y = pictures(20)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (lambda: [], "the source has no rows"),
        (lambda: [X], "batch 0: it came as a ndarray; expected"),
        (lambda: [(X, Y, Y, Y)], "batch 0: it came as 4 parts"),
        (lambda: [((X, X), Y)], "batch 0: its x is a tuple; expected an array, or a dict"),
        (lambda: [(X, Y), (X[:, :5], Y)], r"batch 1: column 'array', row 0: received an array of shape \(5, 8, 1\)"),
        (lambda: [(X, Y), (X / 3, Y)], "batch 1: .*expected whole numbers from 0 to 255 only"),
        (lambda: [(X, Y), (X, Y[:9])], "batch 1: its parts differ in their number of rows: .*'y': 9"),
        (lambda: [(X, Y), (X, Y, Y + 1.0)], "batch 1: it has .* and weights; expected what the first batch has"),
        (lambda: [(X, Y), ({"other": X}, Y)], "batch 1: it has the inputs 'other'; expected .*'array'"),
        (lambda: [({"codes": X}, Y)], "batch 0: an input is named 'codes'"),
        (lambda: [({"word": np.array(["a"] * 20)}, Y)], "batch 0: input 'word' came as <U1"),
        (lambda: [(X, np.zeros((20, 3, 1)))], r"batch 0: its y has shape \(20, 3, 1\)"),
        (lambda: [(X, Y), (X, {"a": Y})], r"batch 1: its y has the targets .*'a'.*; expected what the first batch has"),
        (iter([(X, Y)]), "which can be read once only; expected the function"),
        (lambda: 5, "the source is a int; expected a keras.utils.PyDataset"),
    ],
)
def test_batches_that_can_not_be_used_are_refused(source: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        Batches(source).load()


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"kind": "class"}, {"suits": "table"}])
def test_arguments_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=f"{next(iter(wrong))} is"):
        Batches(lambda: [], **wrong)


# Training.


def folds(folder: Path, source: Any, monkeypatch: pytest.MonkeyPatch, *, streamed: bool) -> Fold:
    """The only fold of a study's rows, as a trial's process sees them."""
    monkeypatch.setattr(stores, "MOST_IN_MEMORY", 0 if streamed else MB)
    study = tk.Study("some", data=source, families=[tk.Baseline()], split=tk.Holdout(), seed=5)
    return load_fold(study.prepare().write(folder), 0, find_metric("logloss", "multiclass", 3), seed=9, threads=1)


def net(hp: HyperParameters, data: Any) -> Any:
    import keras

    inputs = data.keras_array()
    x = keras.layers.Dropout(0.2)(keras.layers.Flatten()(inputs))
    x = keras.layers.BatchNormalization()(keras.layers.Dense(16, activation="relu")(x))
    model = keras.Model([inputs], data.keras_head(x))
    model.compile(keras.optimizers.Adam(3e-3), data.loss)
    return model


def test_streamed_rows_train_as_rows_in_memory_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = pictures(400)
    weight = np.random.default_rng(0).uniform(0.5, 1.5, 400)
    fitted = {}
    for streamed in (False, True):
        source = Batches(lambda: in_batches(x, y, weight)) if streamed else tk.Arrays(x, y, weight=weight)
        fold = folds(tmp_path / str(streamed), source, monkeypatch, streamed=streamed)
        assert fold.streamed is streamed
        epochs: list[Any] = []
        family = tk.Keras(net, epochs=8, batch_size=32)
        model = fit_net(family, HyperParameters(), fold, lambda *epoch, told=epochs: bool(told.append(epoch)))
        fitted[streamed] = model, fold, epochs
    (held, fold, one), (read, lazy, other) = fitted[False], fitted[True]
    # The same batches in the same order; float32 sums differ in the last places, which training carries on.
    for (_, _, logs), (_, _, others) in zip(one, other, strict=True):
        assert logs["loss"] == pytest.approx(others["loss"], rel=1e-3)
        assert logs["val_loss"] == pytest.approx(others["val_loss"], rel=1e-3)
    np.testing.assert_allclose(held.predict(fold.valid.rows), read.predict(lazy.valid.rows), atol=2e-3)
    read.model.set_weights(held.model.get_weights())
    np.testing.assert_allclose(held.predict(fold.valid.rows), read.predict(lazy.valid.rows), atol=1e-6)


def test_models_that_need_all_rows_at_once_get_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = pictures(400)
    y[:] = np.where(y == 2, 1, y)
    y[::80] = 2  # five rows of a rare class
    fold = folds(tmp_path, Batches(lambda: in_batches(x, y)), monkeypatch, streamed=True)
    monkeypatch.setattr(base, "SAMPLED", 60 * 64 * 4)  # sixty pictures
    some = fold.in_memory
    assert 60 <= len(some.train) <= 62
    assert not some.streamed
    assert set(some.train.target) == {0, 1, 2}
    np.testing.assert_array_equal(some.preparation.arrays[0].center, fold.preparation.arrays[0].center)
    for family in (tk.Linear(), tk.Forest(), tk.XGBoost()):
        fitted = family.fit(HyperParameters(), fold, lambda *_: False)
        predicted = fitted.predict(fold.valid.rows)
        assert predicted.shape == (len(fold.valid), 3)
        np.testing.assert_allclose(predicted[:7], fitted.predict(fold.valid.rows.take(np.arange(7))), rtol=1e-5)


def test_a_fit_of_ones_own_says_that_it_needs_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Own:
        name = "own"

        def build(self, hp: HyperParameters) -> Any:
            import keras

            model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")])
            model.compile("adam", "sparse_categorical_crossentropy")
            return model

        def fit(self, hp: HyperParameters, model: Any, *args: Any, **more: Any) -> Any:
            return model.fit(*args, **more)

    x, y = pictures(100)
    fold = folds(tmp_path, Batches(lambda: in_batches(x, y)), monkeypatch, streamed=True)
    with pytest.raises(TrialError, match=r"has a fit of its own, which takes arrays"):
        fit_net(tk.Keras(Own()), HyperParameters(), fold, lambda *_: False)


def test_the_rows_are_on_the_disk_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = pictures(400)
    source = Batches(lambda: in_batches(x, y), folder=tmp_path / "rows")
    fold = folds(tmp_path / "data", source, monkeypatch, streamed=True)
    assert (tmp_path / "data" / "rows_2.npy").samefile(tmp_path / "rows" / "input_0.npy")
    before = (tmp_path / "rows" / "input_0.npy").read_bytes()
    np.testing.assert_array_equal(np.sort(fold.train.rows.arrays[0][:].sum(axis=(1, 2, 3)))[:1] > 0, [True])
    folds(tmp_path / "data", tk.Arrays(x[:50], y[:50]), monkeypatch, streamed=False)  # another study's rows
    assert (tmp_path / "rows" / "input_0.npy").read_bytes() == before
    assert not Store(tmp_path / "data").facts["streamed"]
    np.testing.assert_array_equal(source.load().columns["array"][:], x)


# Whole searches.


def test_a_search_on_batches(tmp_path: Path) -> None:
    x, y = pictures()
    families = [tk.Baseline(), tk.Linear(), tk.Forest()]
    data = Batches(lambda: in_batches(x, y), suits="images")
    made = tk.Study("some", data=data, families=families, split=tk.StratifiedKFold(2))
    result = made.run(root=tmp_path / "mlruns", trials=3, workers=1, observers=[Listener()])
    assert all(trial["state"] == "complete" for trial in result.summary["trials"]), result.summary["trials"]
    bundle = tk.Bundle.load(result.export(tmp_path / "model"))
    new, expected = pictures(60, seed=1)
    assert (bundle.predict({"image": new}) == expected).mean() > 0.6


def test_a_bundle_of_keras_pictures_predicts_files(tmp_path: Path) -> None:
    import keras

    x, y = pictures(120)
    root = folder_by_class(tmp_path / "pictures", x, y, ("ape", "bee", "cat"))
    made = keras.utils.image_dataset_from_directory(root, image_size=(8, 8), seed=0, verbose=False)
    data = Batches(made, suits="images", folder=tmp_path / "rows")
    study = tk.Study("keras", data=data, families=[tk.Linear()], split=tk.KFold(2))
    bundle = tk.Bundle.load(study.run(trials=1, root=tmp_path, observers=[]).export(tmp_path / "model"))
    files = sorted(root.glob("*/*.png"))
    found = bundle.predict({"image": files})
    assert np.mean(found == [path.parent.name for path in files]) > 0.9
    np.testing.assert_array_equal(
        bundle.predict({"image": [np.array(Image.open(path).convert("RGB")) for path in files]}), found
    )


STUDY = '''"""Pictures of 315 MB that no process may hold."""

import numpy as np
import tunekit as tk


def draw():
    rng = np.random.default_rng(0)
    for _ in range(60):
        y = rng.integers(0, 2, 100)
        x = rng.integers(0, 100, (100, 132, 132, 3), dtype=np.uint8)
        x[:, :66] += (y * 40).astype(np.uint8)[:, None, None, None]
        yield x, y


def net(hp, data):
    import keras

    inputs = data.keras_array()
    x = keras.layers.AveragePooling2D(44)(inputs)
    x = keras.layers.Dense(hp.Int("units", 4, 16), activation="relu")(keras.layers.Flatten()(x))
    model = keras.Model([inputs], data.keras_head(x))
    model.compile(keras.optimizers.Adam(0.01), data.loss)
    return model


study = tk.Study(
    "large",
    data=tk.Batches(draw, folder="rows", suits="images"),
    metric="accuracy",
    families=[tk.Baseline(), tk.Linear(), tk.Keras(net, epochs=1, batch_size=64)],
    split=tk.Holdout(test=0.1, valid=0.2),
)

if __name__ == "__main__":
    result = study.run(trials=3, workers=1, limits=tk.Limits(memory=900 * 2**20))
    assert all(trial["state"] == "complete" for trial in result.summary["trials"]), result.summary["trials"]
    result.export("model")
'''


class Watch:
    """The largest memory that one process of a family held, mapped files not counted: those give way."""

    def __init__(self) -> None:
        self.largest = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.2):
            for process in psutil.Process().children(recursive=True):
                try:
                    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
                except OSError:
                    continue
                held = sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss_Anon:"))
                self.largest = max(self.largest, held)


@pytest.mark.slow
def test_a_search_on_more_than_a_process_may_hold(tmp_path: Path) -> None:
    (tmp_path / "study.py").write_text(STUDY)
    begun = time.monotonic()
    with Watch() as watch:
        run([sys.executable, "study.py"], tmp_path)
    print(f"{watch.largest / MB:.0f} MiB, {time.monotonic() - begun:.0f} s")
    assert (tmp_path / "rows" / "input_0.npy").stat().st_size > 290 * MB
    # The rows are 299 MiB. As float32, training rows alone are 860 MiB, twice: as an array and as a tensor. Processes
    # that hold none of them were found to have 500 MiB; the bytes of training rows alone would make that 710.
    assert watch.largest < 650 * MB
    bundle = tk.Bundle.load(tmp_path / "model")
    bright, dark = np.full((2, 132, 132, 3), 50, dtype=np.uint8)
    bright[:66] += 40
    np.testing.assert_array_equal(bundle.predict({"image": np.stack([bright, dark])}), [1, 0])
