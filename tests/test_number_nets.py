"""RealMLP and TabM: their layers against plain NumPy, their schedule, and what they begin with."""

from typing import Any

import keras
import numpy as np
import pytest
from folds import fold, fold_of, prepared  # type: ignore[import-not-found]

from tunekit.families import MLP, NetData, RealMLP, TabM
from tunekit.families.deadline import Deadline
from tunekit.families.number_layers import FewLevels, PeriodicEmbedding, PiecewiseLinearEmbedding
from tunekit.families.realmlp_layers import Clamp, FactoredAdamW, FadingDropout, NtkDense, Schedule, fading
from tunekit.families.tabm_layers import MemberDense, MemberScale, MembersModel
from tunekit.space import HyperParameters
from tunekit.training.fitted import net_inputs
from tunekit.training.nets import NetFitter, fit_net

RANDOM = np.random.default_rng(0)


def answers(**values: Any) -> HyperParameters:
    return HyperParameters(lambda dimension: values.get(dimension.name, dimension.default))


def never(*_: object) -> bool:
    return False


def test_a_number_is_embedded_by_cosines_and_itself() -> None:
    layer = PeriodicEmbedding(frequencies=5, width=3)
    x = RANDOM.normal(size=(7, 2)).astype("float32")
    found = np.asarray(layer(x)).reshape(7, 2, 3)
    parts = {name: np.asarray(part) for name, part in layer.parts.items()}
    for column in range(2):
        waves = np.cos(2 * np.pi * x[:, column : column + 1] * parts["frequency"][column] + parts["phase"][column])
        expected = waves @ parts["kernel"][column] + parts["bias"][column]
        np.testing.assert_allclose(found[:, column, :2], expected, atol=1e-5)  # float32 cosines of some radians
    np.testing.assert_array_equal(found[:, :, 2], x)


def test_a_number_is_embedded_by_its_place_in_bins() -> None:
    layer = PiecewiseLinearEmbedding(bins=4, width=4)
    train = np.column_stack([np.arange(101.0), np.repeat([0.0, 1.0], [50, 51])]).astype("float32")
    layer.build((9, 2))
    layer.adapt(train)
    layer.kernel.assign(np.tile(np.eye(4), (2, 1, 1)))
    layer.bias.assign(np.zeros((2, 4)))
    found = np.asarray(layer(np.array([[10.0, 0.0], [60.0, 1.0], [-25.0, 0.5], [150.0, 3.0]], dtype="float32")))
    quarters = found[:, :4]  # edges 0, 25, 50, 75, 100; the outer bins go on beyond them
    np.testing.assert_allclose(
        quarters, [[0.4, 0.0, 0.0, 0.0], [1.0, 1.0, 0.4, 0.0], [-1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 3.0]], atol=1e-5
    )
    np.testing.assert_allclose(found[:, 4], [0.0, 1.0, 0.5, 3.0], atol=1e-5)  # two values, and one bin between them
    np.testing.assert_array_equal(found[:, 5:], np.zeros((4, 3)))


def test_bins_of_a_constant_column_tell_nothing() -> None:
    layer = PiecewiseLinearEmbedding(bins=4, width=2)
    layer.build((9, 1))
    layer.adapt(np.full((9, 1), 3.0, dtype="float32"))
    found = np.asarray(layer(np.array([[3.0], [8.0]], dtype="float32")))
    np.testing.assert_array_equal(found[0], found[1])


def test_few_levels_become_columns() -> None:
    found = np.asarray(FewLevels((3, 4))(np.array([[1, 0], [2, 3]], dtype="int32")))
    np.testing.assert_array_equal(found, [[0, 1, 1, 0, 0], [0, 0, 0, 0, 0]])  # the last code of each is unseen


def test_units_begin_with_unit_deviation_and_their_zero_among_the_rows() -> None:
    x = RANDOM.normal(3.0, [1.0, 20.0, 0.1], size=(4000, 3)).astype("float32")
    layer = NtkDense(64)
    layer(x[:2])
    layer.adapt(x, np.random.default_rng(1))
    found = np.asarray(layer(x))
    np.testing.assert_allclose(found.std(axis=0), 1.0, atol=1e-3)  # float32
    assert (found.min(axis=0) < 0).all()
    assert (found.max(axis=0) > 0).all()


def test_the_rate_has_four_cycles_and_decay_fades() -> None:
    optimizer = FactoredAdamW(0.5, 0.1)
    optimizer.steps.assign(1000.0)

    def rate(progress: float) -> float:
        optimizer.iterations.assign(round(progress * 1000))
        return float(optimizer.learning_rate)

    peaks = [(2.0**cycle - 1) / 15 for cycle in (0.5, 1.5, 2.5, 3.5)]
    lows = [(2.0**cycle - 1) / 15 for cycle in (0, 1, 2, 3, 4)]
    assert [rate(at) for at in peaks] == pytest.approx([0.5] * 4, abs=1e-3)  # progress is rounded to a thousandth
    assert [rate(at) for at in lows] == pytest.approx([0.0] * 5, abs=1e-3)
    assert [float(fading(at)) for at in (0.0, 0.5, 0.75, 1.0)] == pytest.approx([1, 1, 0.5, 0], abs=1e-6)


def test_a_variable_may_have_a_rate_of_its_own() -> None:
    kernel, bias = (keras.Variable([1.0], name=name) for name in ("kernel", "bias"))
    kernel.rate = 6.0
    optimizer = FactoredAdamW(0.1, weight_decay=0.5)
    optimizer.build([kernel, bias])
    optimizer.steps.assign(100.0)
    optimizer.iterations.assign(3)
    now = float(optimizer.learning_rate)
    assert now > 0
    zero = keras.ops.zeros((1,))
    optimizer.apply([zero, zero])
    assert float(kernel[0]) == pytest.approx(1 - 6 * now * 0.5)
    assert float(bias[0]) == 1.0, "biases don't decay"


def test_dropout_fades_with_the_training() -> None:
    layer = FadingDropout(0.5, seed=1)
    x = np.ones((1000, 10), dtype="float32")
    dropped = np.asarray(layer(x, training=True))
    assert set(np.unique(dropped)) == {0.0, 2.0}
    assert dropped.mean() == pytest.approx(1.0, abs=0.05)  # 10,000 draws: five deviations
    layer.left.assign(0.0)
    np.testing.assert_array_equal(layer(x, training=True), x)
    np.testing.assert_array_equal(layer(x), x)


def test_members_are_trained_each_and_predict_together() -> None:
    inputs = keras.Input((3,))
    x = MemberScale(4)(inputs)
    hidden = keras.layers.ReLU()(MemberDense(5, scaled=False)(x))
    from tunekit.families.tabm_layers import MemberHeads

    model = MembersModel(inputs, MemberHeads(1)(hidden), 4)
    model.compile("sgd", loss="mean_squared_error")
    rows, target = RANDOM.normal(size=(6, 3)).astype("float32"), RANDOM.normal(size=(6, 1)).astype("float32")
    each = np.asarray(model(rows, training=True)).reshape(6, 4, 1)
    assert np.ptp(each, axis=1).min() > 0, "members differ from the beginning"
    np.testing.assert_allclose(np.asarray(model(rows)), each.mean(axis=1), rtol=1e-5)
    weight = np.arange(6.0, dtype="float32")
    flat = model(rows, training=True)
    loss = model.compute_loss(rows, target, flat, sample_weight=weight, training=True)
    expected = np.mean((each - target[:, None]) ** 2 * weight[:, None, None])
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    apart = model.compute_loss(rows, target, model(rows), training=False)
    assert float(apart) == pytest.approx(np.mean((each.mean(axis=1) - target) ** 2), rel=1e-5)


@pytest.mark.parametrize("family", [RealMLP(), TabM()], ids=["realmlp", "tabm"])
def test_the_second_fold_is_as_if_it_were_the_first(family) -> None:
    """What is traced for a fold takes over the values that the next one begins with, bins and bounds included."""
    family.epochs = 3
    ready = prepared("regression")
    one = fold_of(ready)
    other = fold_of(ready, seed=9)
    alone = fit_net(family, answers(), other, never).predict(other.valid.rows)
    fitter = NetFitter(family)
    fitter.fit(answers(), one, never)
    np.testing.assert_array_equal(fitter.fit(answers(), other, never).predict(other.valid.rows), alone)


def test_bounds_and_bins_are_those_of_the_training_rows() -> None:
    one = fold("regression")
    family = RealMLP()
    family.epochs = 1
    clamp = next(layer for layer in fit_net(family, answers(), one, never).model.layers if isinstance(layer, Clamp))
    learnt = one.preparation.standardised(one.train.target, one.train.rows)
    assert (float(clamp.low[0]), float(clamp.high[0])) == pytest.approx((learnt.min(), learnt.max()), rel=1e-6)
    far = np.full((1, 1), 99.0, dtype="float32")
    assert float(clamp(far)[0, 0]) == pytest.approx(learnt.max(), rel=1e-6)
    assert float(clamp(far, training=True)[0, 0]) == 99.0


def test_a_short_training_is_made_shorter_as_a_whole() -> None:
    family = RealMLP()
    data = NetData.of(fold("regression"))
    one = fold("regression")
    model = family.build(answers(), data)
    x = net_inputs(model, one.features("train", "columns"), "columns")
    y = np.zeros((len(one.train), 1), dtype="float32")
    deadline = Deadline(1.5)
    told = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: deadline.epoch_ended())
    model.fit(x, y, epochs=500, batch_size=32, verbose=0, callbacks=[told, Schedule(deadline)])
    steps = float(model.optimizer.steps)
    assert steps < 500 * np.ceil(len(one.train) / 32)
    assert float(model.optimizer.learning_rate) < 0.02, "of 0.2: the last cycle came down"


@pytest.mark.parametrize("family", [MLP(), TabM()], ids=["mlp", "tabm"])
def test_gap_indicators_are_not_embedded(family) -> None:
    data = NetData.of(fold("multiclass"))
    assert data.gaps > 0
    model = family.build(answers(), data)
    embedded = [layer for layer in model.layers if isinstance(layer, PiecewiseLinearEmbedding)]
    assert [layer.kernel.shape[0] for layer in embedded] == [data.numbers - data.gaps] * (family.name == "tabm")
