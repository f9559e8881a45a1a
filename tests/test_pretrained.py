"""Pretrained bases: the order of training, features that are computed once, where bases come from, and export."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped]
import keras
import numpy as np
import onnxruntime
import pytest
from folds import fold_of  # type: ignore[import-not-found]
from keras.src.legacy.saving import legacy_h5_format
from searches import Listener  # type: ignore[import-not-found]
from test_images import pictures  # type: ignore[import-not-found]

import tunekit as tk
from tunekit.data.store import FROZEN
from tunekit.errors import FactoryError, StudyError
from tunekit.export.nets import net_to_onnx
from tunekit.families import Fold, NetData
from tunekit.families.pretrained import BLOCKS, thaw
from tunekit.space import HyperParameters, Value
from tunekit.study import load_study
from tunekit.study.prepared import prepare
from tunekit.training.frozen import Frozen
from tunekit.training.nets import NetFitter, fit_net, rebuild
from tunekit.training.trial import load_fold

pytestmark = pytest.mark.usefixtures("kept_servers")

STUDIES = Path(__file__).parents[1] / "studies"


def base(filters: int = 4, side: int = 8) -> keras.Model:
    """A base of four layers with weights, two with batch normalisation, one of these in a model in the model."""
    inner = keras.Sequential(
        [keras.layers.Conv2D(filters, 3, padding="same"), keras.layers.BatchNormalization(), keras.layers.ReLU()]
    )
    inputs = keras.Input((side, side, 1))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(filters, 3, padding="same")(inputs))
    x = inner(keras.layers.Dropout(0.5)(x))
    x = keras.layers.Conv2D(2 * filters, 3, strides=2, activation="relu")(x)
    return keras.Model(inputs, keras.layers.Conv2D(2 * filters, 1)(x))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of that base, with means and variances that a few batches would change."""
    keras.utils.set_random_seed(0)
    made = base()
    for layer in made._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(np.full(layer.moving_mean.shape, 0.25, dtype=np.float32))
            layer.moving_variance.assign(np.full(layer.moving_variance.shape, 2.0, dtype=np.float32))
    path = tmp_path_factory.mktemp("weights") / "base.weights.h5"
    made.save_weights(path)
    return path


def scaled(pixels: Any) -> Any:
    return pixels / 255.0


def family(weights: Path, **more: Any) -> tk.Pretrained:
    made = tk.Pretrained(base, weights=weights, preprocess=scaled, **more)
    made.epochs, made.fine_tuning_epochs, made.patience = 6, 3, 4
    return made


def ready(rows: int = 90, classes: int = 3) -> Any:
    return prepare(tk.Images(*pictures(rows, classes)).load(), tk.StratifiedKFold(2, test=0.2), "logloss", seed=0)


@pytest.fixture(scope="module")
def fold() -> Fold:
    one: Fold = fold_of(ready())
    return replace(one, array_names=("image",))


def answers(**values: Value) -> HyperParameters:
    values = {"batch_size": 16, "learning_rate": 1e-2, "fine_tuning_rate": 1e-3, **values}
    return HyperParameters(lambda dimension: values.get(dimension.name, dimension.default))


def never(*_: object) -> bool:
    return False


def flat(model: keras.Model) -> dict[str, Any]:
    """The weights of a net's base by place: kernels and biases, and what batch normalisation has."""
    made: dict[str, Any] = {}
    inner = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    leaves = [layer for layer in inner._flatten_layers() if layer.weights and not isinstance(layer, keras.Model)]
    leaves.sort(key=lambda layer: [id(one) for one in inner.weights].index(id(layer.weights[0])))
    for place, layer in enumerate(leaves):
        kind = "norm" if isinstance(layer, keras.layers.BatchNormalization) else "conv"
        made |= {f"{kind} {place} {number}": weight.numpy().copy() for number, weight in enumerate(layer.weights)}
    return made


def changed(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name in one if not np.array_equal(one[name], other[name])]


# The order of training.


@pytest.mark.parametrize("blocks", [0, 1, 2, BLOCKS])
def test_only_the_top_blocks_change_and_no_normalisation(fold: Fold, weights: Path, blocks: int) -> None:
    own = family(weights)
    told: list[tuple[int, float]] = []

    def report(epoch: int, best: float, logs: dict[str, float]) -> bool:
        told.append((epoch, logs["learning_rate"]))
        return False

    hp = answers(unfreeze=blocks)
    before = flat(own.build(hp, NetData.of(fold)))
    fitter = NetFitter(own)
    fitted = fitter.fit(hp, fold, report)
    touched = changed(before, flat(fitter._phases._whole.model if blocks else fitted.saved))
    convolutions = sorted({name.split()[1] for name in before if name.startswith("conv")}, key=int)
    assert len(convolutions) == 4
    allowed = convolutions[len(convolutions) - blocks :]
    assert {name.split()[1] for name in touched} <= set(allowed), touched
    if blocks and fitted.front is None:  # the second phase had the best epoch
        assert {name.split()[1] for name in touched} == set(allowed)
    epochs, rates = zip(*told, strict=True)
    assert epochs == tuple(range(1, len(told) + 1)), "epochs are counted over both phases"
    slow = [rate <= 1.01e-3 for rate in rates]
    assert not any(slow[:2])
    assert any(slow) == bool(blocks)
    assert fitted.best_epoch is not None


def test_the_base_is_frozen_while_the_head_is_trained(fold: Fold, weights: Path) -> None:
    own: Any = family(weights)
    seen: list[list[str]] = []
    before: dict[str, Any] = {}
    build = own.build

    def kept(hp: HyperParameters, data: NetData) -> keras.Model:
        own.whole = build(hp, data)
        before.update(flat(own.whole))
        return own.whole

    def report(epoch: int, best: float, logs: dict[str, float]) -> bool:
        if logs["learning_rate"] > 1.01e-3:
            seen.append(changed(before, flat(own.whole)))
        return False

    own.build = kept
    fit_net(own, answers(unfreeze=BLOCKS), fold, report)
    assert len(seen) > 2
    assert not any(seen), "in the first phase nothing but the head changes"


def test_the_best_epoch_of_both_phases_stays(fold: Fold, weights: Path) -> None:
    own = family(weights)
    own.epochs = 15
    ruined = fit_net(own, answers(unfreeze=BLOCKS, fine_tuning_rate=30.0, augment=0.0), fold, never)
    alone = fit_net(own, answers(unfreeze=0), fold, never)
    assert ruined.best_epoch == alone.best_epoch
    np.testing.assert_allclose(ruined.predict(fold.valid.rows), alone.predict(fold.valid.rows), atol=1e-6)


def test_a_trial_that_is_stopped_ends_in_its_phase(fold: Fold, weights: Path) -> None:
    epochs: list[int] = []

    def report(epoch: int, best: float, logs: dict[str, float]) -> bool:
        epochs.append(epoch)
        return epoch == 2

    fitted = fit_net(family(weights), answers(unfreeze=2), fold, report)
    assert fitted.stopped
    assert epochs == [1, 2]


@pytest.mark.parametrize(("layers", "blocks", "trained"), [(1, 1, 1), (1, 4, 1), (3, 1, 1), (3, 4, 3), (10, 2, 5)])
def test_blocks_are_shares_of_the_layers(layers: int, blocks: int, trained: int) -> None:
    made = keras.Sequential([keras.Input((2,)), *[keras.layers.Dense(2) for _ in range(layers)]])
    thaw(made, blocks)
    dense = [layer.trainable for layer in made.layers]
    assert dense == [False] * (layers - trained) + [True] * trained


# Features once.


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures went through a base, call by call."""
    rows: list[int] = []
    computed = Frozen._computed_by_chunks

    def counting(self: Frozen, cells: Any) -> Any:
        rows.append(len(cells))
        return computed(self, cells)

    monkeypatch.setattr(Frozen, "_computed_by_chunks", counting)
    return rows


def test_features_are_computed_once_for_all_folds_and_trials(tmp_path: Path, weights: Path, counted: list[int]) -> None:
    made = ready()
    store = made.write(tmp_path)

    def trial(**values: Value) -> list[Any]:
        fitter, predicted = NetFitter(family(weights)), []
        for number in range(2):
            one = load_fold(store, number, made.metric, seed=number, threads=1)
            fitted = fitter.fit(answers(**{"unfreeze": 0, **values}), replace(one, memo={}), never)
            predicted.append(fitted.predict(store.unlabelled))
        return predicted

    first = trial()
    assert sum(counted) == len(store.rows) + len(store.unlabelled), "each row went through the base once"
    files = {path: path.stat().st_mtime_ns for path in tmp_path.glob(f"{FROZEN}*")}
    assert len(files) == 2
    again = trial()
    trial(units=64)
    trial(unfreeze=1)
    assert sum(counted) == len(store.rows) + len(store.unlabelled), "later trials only read"
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob(f"{FROZEN}*")} == files
    np.testing.assert_array_equal(first, again)
    made.write(tmp_path)  # the next search, whose study may say another thing
    assert not list(tmp_path.glob(f"{FROZEN}*"))


def test_rows_that_are_not_in_the_store_are_computed(tmp_path: Path, weights: Path, counted: list[int]) -> None:
    made = ready()
    one = load_fold(made.write(tmp_path), 0, made.metric, seed=0, threads=1)
    fitted = fit_net(family(weights), answers(unfreeze=0), one, never)
    counted.clear()
    new = fold_of(ready(40)).valid.rows
    twin = type(new).joined(new, new)
    found = fitted.predict(twin)
    assert counted == [len(twin)]
    np.testing.assert_array_equal(found[: len(new)], found[len(new) :])


def test_features_are_what_the_base_makes(fold: Fold, weights: Path) -> None:
    own = family(weights)
    whole = own.build(answers(), NetData.of(fold))
    frozen = own.frozen(whole)
    cells = fold.valid.rows.arrays[0]
    expected = frozen.predict(cells.astype(np.float32), verbose=0)
    np.testing.assert_allclose(Frozen(frozen, 0, None).of(cells), expected, atol=1e-6)


# Files, and export.


@pytest.mark.parametrize("blocks", [0, 4])
def test_a_net_is_rebuilt_and_exported_as_it_predicts(tmp_path: Path, fold: Fold, weights: Path, blocks: int) -> None:
    own, hp = family(weights), answers(unfreeze=blocks)
    fitted = fit_net(own, hp, fold, never)
    fitted.save(tmp_path)
    model = rebuild(own, hp.values, tmp_path, (fold.task, fold.outputs, fold.cardinalities), len(fold.train))
    cells = fold.valid.rows.arrays[0].astype(np.float32)
    expected = fitted.predict(fold.valid.rows)
    np.testing.assert_allclose(model.predict(cells, verbose=0), expected, atol=1e-6)
    session = onnxruntime.InferenceSession(net_to_onnx(model, "raw image").SerializeToString())
    found = session.run(None, {session.get_inputs()[0].name: cells})[0]
    np.testing.assert_allclose(found, expected, atol=5e-6)


def test_weights_may_come_from_a_whole_model_of_which_nothing_else_is_read(tmp_path: Path, fold: Fold) -> None:
    keras.utils.set_random_seed(1)
    made = base()
    made.save(tmp_path / "base.keras")
    loaded = tk.Pretrained(base, weights=tmp_path / "base.keras").load_base()
    for one, other in zip(made.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_weights_in_the_format_of_those_that_keras_publishes(tmp_path: Path) -> None:
    """`mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_96_no_top.h5` and its kin, as Keras 2 wrote them."""

    def mobile(top: bool = False) -> keras.Model:
        return keras.applications.MobileNetV2(alpha=0.35, include_top=top, weights=None, input_shape=(32, 32, 3))

    made = mobile()
    made.save_weights(tmp_path / "now.weights.h5")
    for name, model in (("mobilenet_no_top.h5", made), ("mobilenet.h5", mobile(top=True))):
        with h5py.File(tmp_path / name, "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, model)
    for name in ("now.weights.h5", "mobilenet_no_top.h5"):
        loaded = tk.Pretrained(mobile, weights=tmp_path / name).load_base()
        for one, other in zip(made.get_weights(), loaded.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
    with pytest.raises(FactoryError, match=r"mobilenet.h5' don't fit .* 105 saved layers.* \(include_top\)"):
        tk.Pretrained(mobile, weights=tmp_path / "mobilenet.h5").load_base()
    shutil.copyfile(tmp_path / "now.weights.h5", tmp_path / "now.h5")
    with pytest.raises(FactoryError, match=r"don't fit .* or renamed"):
        tk.Pretrained(mobile, weights=tmp_path / "now.h5").load_base()


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
def test_a_base_of_keras_applications(tmp_path: Path, channels: int) -> None:
    def mobile() -> keras.Model:
        return keras.applications.MobileNetV2(alpha=0.35, include_top=False, weights=None, input_shape=(32, 32, 3))

    keras.utils.set_random_seed(0)
    mobile().save_weights(tmp_path / "mobile.weights.h5")
    preprocess = keras.applications.mobilenet_v2.preprocess_input
    own = tk.Pretrained(mobile, weights=tmp_path / "mobile.weights.h5", preprocess=preprocess)
    data = NetData("multiclass", 3, 0, (), 192, 100, {"image": (12, 10, channels)})
    whole = own.build(answers(), data)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 12, 10, channels)).astype(np.float32)
    resized = keras.ops.image.resize(np.broadcast_to(pixels, (3, 12, 10, 3)), (32, 32))
    expected = own.load_base()(preprocess(np.array(resized)), training=False).numpy().mean(axis=(1, 2))
    np.testing.assert_allclose(own.frozen(whole).predict(pixels, verbose=0), expected, atol=1e-5)
    session = onnxruntime.InferenceSession(net_to_onnx(whole, "raw image").SerializeToString())
    found = session.run(None, {session.get_inputs()[0].name: pixels})[0]
    np.testing.assert_allclose(found, whole.predict(pixels, verbose=0), atol=1e-5)


# What can't be used.


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: tk.Pretrained(keras.Sequential()), "the base is a Sequential; expected a function"),
        (
            lambda: tk.Pretrained(base, weights="base.npz"),
            r"weights is 'base.npz'; expected .* .weights.h5, .keras, .h5",
        ),
        (lambda: tk.Pretrained(base, weights="no.weights.h5").load_base(), "there is no file 'no.weights.h5'"),
        (lambda: tk.Pretrained(lambda: None).load_base(), "the base returned a NoneType; expected a keras.Model"),
        (lambda: tk.Pretrained(keras.Sequential).load_base(), "no known input"),
    ],
)
def test_a_base_that_can_not_be_used_is_refused(make: Callable[[], Any], told: str) -> None:
    with pytest.raises(FactoryError, match=told):
        make()


def test_weights_of_another_base_are_refused(weights: Path) -> None:
    with pytest.raises(FactoryError, match=r"base.weights.h5' don't fit the base .*: was it saved with its head"):
        tk.Pretrained(lambda: base(filters=5), weights=weights).load_base()


def test_a_base_without_trained_weights_is_noticed(fold: Fold) -> None:
    fitter = NetFitter(tk.Pretrained(base))
    fitter._family.epochs = 1
    fitter.fit(answers(unfreeze=0), fold, never)
    with pytest.raises(FactoryError, match="has other weights each time that it is made"):
        fitter.fit(answers(unfreeze=0), replace(fold, seed=8), never)


def test_a_preprocessing_that_does_not_fit_is_refused(weights: Path, fold: Fold) -> None:
    own = family(weights)
    own.preprocess = lambda pixels: keras.layers.Flatten()(pixels)
    with pytest.raises(FactoryError, match=r"reads arrays of shape \(8, 8, 1\), and preprocessing gives \(64,\)"):
        own.build(answers(), NetData.of(fold))


class Settled(tk.Pretrained):
    """`Pretrained` whose planned trials are all the same: its defaults."""

    def portfolio(self, task: str, *, rows: int, temporal: bool) -> list[dict[str, Any]]:
        return [{}, {}]


@pytest.mark.slow
def test_trials_on_other_weights_are_other_trials(tmp_path: Path, weights: Path) -> None:
    file = tmp_path / "now.weights.h5"

    def searched(trials: int) -> Any:
        own = Settled(base, weights=file, preprocess=scaled)
        own.epochs, own.fine_tuning_epochs = 2, 1
        made = tk.Study(
            "weights", data=tk.Images(*pictures(60)), families=[own], split=tk.Holdout(), stopper=tk.NeverStop()
        )
        return made.run(trials=trials, root=tmp_path, observers=[], workers=1)

    shutil.copyfile(weights, file)
    before = searched(1).summary["trials"]
    keras.utils.set_random_seed(7)
    base().save_weights(file)
    after = searched(3)
    trials = after.summary["trials"]
    assert [trial["state"] for trial in trials[:3]] == ["complete"] * 3, trials
    assert [trial["same_as"] for trial in trials[:3]] == [None, None, 1], "on the same weights it is the same trial"
    digests = [trial["values"]["base"] for trial in trials]
    assert digests[0] != digests[1]
    assert len(set(digests[1:])) == 1
    assert trials[:1] == before
    tk.Bundle.load(after.export(tmp_path / "model", trial=0))  # which was trained on what the file held before


# From an earlier study.


def squares() -> Any:
    return pictures(150)


def cropped() -> Any:
    """The same squares in fewer, smaller pictures."""
    x, y = pictures(60, seed=5)
    return x[:, :, :6], y


class OneNet(tk.ConvNet):
    """`ConvNet` with its defaults alone: a search of it ends after one trial, however much time it has."""

    epochs = 3

    def portfolio(self, task: str, *, rows: int, temporal: bool) -> list[dict[str, Any]]:
        return []

    def batch_size(self, hp: HyperParameters, data: NetData) -> int:
        return 32

    def build(self, hp: HyperParameters, data: NetData) -> keras.Model:
        return super().build(HyperParameters(lambda dimension: dimension.default), data)


def earlier() -> tk.Study:
    families, split = [tk.Baseline(), OneNet()], tk.StratifiedKFold(2)
    return tk.Study("earlier", data=tk.Images(squares), metric="accuracy", families=families, split=split)


def later(**more: Any) -> tk.Study:
    net = tk.Pretrained(tk.from_study(earlier(), "convnet", **more))
    net.epochs, net.fine_tuning_epochs = 4, 2
    families = [tk.Baseline(), net]
    return tk.Study("later", data=tk.Images(cropped), metric="accuracy", families=families, split=tk.Holdout())


def test_a_study_without_the_net_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="has no net family 'baseline'; expected one of its nets: convnet"):
        tk.from_study(earlier(), "baseline")
    with pytest.raises(StudyError, match=r"there is no study file 'nothing.py'"):
        tk.from_study("nothing.py", "convnet")
    with pytest.raises(StudyError, match="the study has no trials yet"):
        later().run(trials=1, root=tmp_path, observers=[])
    with pytest.raises(StudyError, match="the net of study 'earlier' has not been looked up"):
        tk.from_study(earlier(), "convnet")()


def test_an_earlier_study_is_searched_for_its_net_alone() -> None:
    study = earlier()
    study.families = [tk.Baseline(), tk.Linear(), OneNet(), tk.Forest()]
    study.start_from = [tk.start_from({"alpha": 1.0}, family="linear"), tk.start_from({}, family="convnet")]
    searchable = tk.from_study(study, "convnet").searchable
    assert [family.name for family in searchable.families] == ["baseline", "convnet"]
    assert [start.family for start in searchable.start_from] == ["convnet"]
    assert len(study.families) == 4


def test_a_search_for_the_net_that_was_too_short_says_so(tmp_path: Path) -> None:
    short = earlier()
    short.families = [tk.Baseline(), OneNet()]
    short.run(trials=1, root=tmp_path, observers=[])
    net = tk.from_study(short, "convnet", budget=0.5)
    study = tk.Study("later", data=tk.Images(cropped), families=[tk.Baseline(), tk.Pretrained(net)], split=tk.Holdout())
    with pytest.raises(StudyError, match="the time that it was searched for was too short: search with a larger"):
        study.run(trials=1, root=tmp_path, observers=[])


@pytest.mark.slow
def test_the_net_of_an_earlier_study_becomes_the_base(tmp_path: Path) -> None:
    listener = Listener()
    result = later(budget=60).run(trials=2, root=tmp_path, observers=[listener], workers=1)
    trials = result.summary["trials"]
    assert [trial["state"] for trial in trials] == ["complete"] * 2, trials
    told = [message for message in listener.messages if message.startswith("pretrained builds on trial")]
    assert len(told) == 1
    assert "of study 'earlier'" in told[0]
    shutil.rmtree(tmp_path / "studies" / "earlier")  # the later study has a copy of what it depends on
    bundle = tk.Bundle.load(later().result(tmp_path).export(tmp_path / "model", trial=1))
    x, _ = cropped()
    assert bundle.predict_proba({"image": x}).shape == (60, 3)
    again = later().run(trials=3, root=tmp_path, observers=[], workers=1)
    assert [trial["state"] for trial in again.summary["trials"]] == ["complete"] * 3
    facts = json.loads((tmp_path / "studies" / "later" / "bases" / "earlier-convnet" / "base.json").read_text())
    assert facts["rows"] == 60


@pytest.mark.slow
def test_a_base_from_mnist_beats_training_from_scratch(tmp_path: Path) -> None:
    """`studies/transfer.py` with half the rows: one net on MNIST, then the defaults of both families."""
    study = load_study(STUDIES / "transfer.py")
    study.families = [family for family in study.families if family.name in ("convnet", "pretrained")]
    study.split = tk.StratifiedKFold(2, test=1747 / 1797)
    source = study.families[-1].base.study  # type: ignore[attr-defined]
    source.families = [family for family in source.families if family.name == "convnet"]
    source.families[0].epochs = 5  # enough to know digits by
    source.split = tk.Holdout(test=0.2)
    digits = source.data.load()  # once: its file of text takes seconds each time
    source.data = tk.Images(digits.columns["image"][::2], digits.target[::2].astype(int))
    source.run(trials=1, root=tmp_path, observers=[], workers=1)
    result = study.run(trials=2, root=tmp_path, observers=[], workers=1)
    trials = {trial["family"]: trial for trial in result.summary["trials"]}
    assert [trial["state"] for trial in trials.values()] == ["complete"] * 2, trials
    prepared = study.prepare()
    test = prepared.folds.test
    assert (len(prepared.folds.development), len(test)) == (50, 1747)
    pixels, target = prepared.data.columns["image"][test], prepared.data.target[test]
    accuracy = {}
    for name, trial in trials.items():
        bundle = tk.Bundle.load(result.export(tmp_path / name, trial=trial["number"]))
        accuracy[name] = np.mean(bundle.predict({"image": pixels}) == target)
    assert trials["pretrained"]["score"] > trials["convnet"]["score"], trials
    assert accuracy["pretrained"] > accuracy["convnet"], accuracy
