"""Nets for sequences: every kind trains, keeps what it learnt, and is exported as it is."""

from typing import Any

import numpy as np
import pytest
from waves import noisy, ready_fold  # type: ignore[import-not-found]

import tunekit as tk
from tunekit.families import Fold, NetData
from tunekit.space import HyperParameters

pytestmark = pytest.mark.usefixtures("kept_servers")

VARIANTS: dict[str, dict[str, Any]] = {
    "gru": {"encoder": "gru"},
    "lstm": {"encoder": "lstm", "shortcut": True},
    "simple": {"encoder": "simple_rnn", "relative": False},
    "stacked": {"encoder": "gru", "layers": 2, "recurrent_dropout": 0.2},
    "both ways": {"encoder": "lstm", "layers": 2, "bidirectional": True, "recurrent_dropout": 0.2},
    "after convolutions": {"encoder": "gru", "convolutions": 2},
    "alone": {"encoder": "simple_rnn", "convolutions": 0, "bidirectional": True},
    "convolutions": {"encoder": "conv1d", "layers": 2},
    "averaged convolutions": {"encoder": "conv1d", "flatten": False},
    "dense": {"encoder": "dense", "layers": 2, "dropout": 0.0},
}


def hp(**values: Any) -> HyperParameters:
    return HyperParameters(lambda dimension: values.get(dimension.name, dimension.default))


@pytest.fixture(scope="module")
def fold() -> Fold:
    _, made = ready_fold(noisy(200))
    assert isinstance(made, Fold)
    return made


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name == "both ways" else []) for name in VARIANTS]
)
def test_every_kind_trains_and_is_exported_as_it_is(name: str, fold: Fold) -> None:
    import onnxruntime

    from tunekit.export.nets import net_to_onnx
    from tunekit.training.nets import fit_net

    family = tk.Recurrent()
    family.epochs = 2
    net = fit_net(family, hp(units=16, **VARIANTS[name]), fold, lambda epoch, best, logs: False)
    assert net.layout == "columns"
    assert net.best_epoch in (1, 2)
    expected = net.predict(fold.valid.rows)
    graph = net_to_onnx(net.model, net.layout)
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    given = fold.preparation.apply(fold.valid.rows, "columns")
    read = [one.name for one in session.get_inputs()]
    assert sorted(read) == ["codes", "numbers", "window"]
    raw = session.run(None, {one: given[one] for one in read})[0]
    scale = fold.preparation.targets[:, 1].max()
    found = fold.preparation.in_units(raw, fold.valid.rows)
    np.testing.assert_allclose(found, expected, atol=1e-5 * scale)  # float32
    alone = session.run(None, {one: given[one][:1] for one in read})[0]
    np.testing.assert_allclose(alone, raw[:1], atol=1e-5)


def unnamed(hp: HyperParameters) -> Any:
    """As a KerasTuner user writes it: one input, of the windows' shape."""
    import keras

    parts = [keras.Input((24, 2)), keras.layers.LSTM(hp.Int("units", 4, 8)), keras.layers.Dense(1)]
    model = keras.Sequential(parts)
    model.compile("adam", "mse")
    return model


def test_a_factory_of_ones_own_reads_scaled_windows_and_predicts_in_units(fold: Fold) -> None:
    from tunekit.training.nets import fit_net

    net = fit_net(tk.Keras(unnamed, epochs=1), hp(), fold, lambda epoch, best, logs: False)
    assert net.layout == "array window"
    found, target = net.predict(fold.valid.rows)[:, 0], fold.valid.target
    large = target > 1000
    assert found[large].min() > 1000 > found[~large].max()


def test_a_recurrent_dropout_is_one_mask_for_all_steps() -> None:
    """A sum over the steps tells it: a unit is kept at every step or dropped at every step."""
    import keras

    layer = keras.layers.SimpleRNN(
        400, activation=None, kernel_initializer="ones", recurrent_initializer="identity", recurrent_dropout=0.5, seed=3
    )
    steps = 6
    found = np.asarray(layer(np.ones((2, steps, 1), np.float32), training=True))
    kept = sum(2.0**step for step in range(steps))  # 1, then what was there twice and 1 more
    assert set(found.ravel()) == {1.0, kept}
    assert 0.4 < (found == kept).mean() < 0.6
    assert not np.array_equal(found[0], found[1]), "each row has a mask of its own"


def test_a_sequence_read_relative_to_its_last_step_has_no_level() -> None:
    data = NetData("regression", 1, 0, (), 60, 200, {"window": (20, 3)})
    random = np.random.default_rng(0)
    cells = random.normal(size=(4, 20, 3)).astype(np.float32)
    for relative in (True, False):
        model = tk.Recurrent().build(hp(encoder="dense", shortcut=True, relative=relative), data)
        assert [tensor.name for tensor in model.inputs] == ["window"]
        here, there = (np.asarray(model([cells + np.float32(level)])) for level in (0.0, 7.0))
        assert np.allclose(here, there, atol=1e-4) == relative


def test_short_sequences_are_not_halved_away() -> None:
    data = NetData("binary", 1, 0, (), 3, 200, {"steps": (3, 1)})
    for encoder in ("gru", "conv1d"):
        model = tk.Recurrent().build(hp(encoder=encoder, convolutions=2, layers=3), data)
        assert model([np.zeros((2, 3, 1), np.float32)]).shape == (2, 1)
