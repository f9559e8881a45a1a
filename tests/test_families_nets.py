"""Nets: families fit, bad factories are refused.  The one file of the families' tests that imports Keras."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from folds import fold, fold_of, hard_rows, prepared  # type: ignore[import-not-found]

from tunekit.data import KFold
from tunekit.errors import FactoryError, TrialError
from tunekit.families import MLP, Fold, Keras, NetFamily, RealMLP, TabM, WideDeep
from tunekit.families.base import Length, load_facts
from tunekit.space import HyperParameters, Value
from tunekit.study.prepared import prepare
from tunekit.training.nets import NetFitter, fit_net, rebuild


class Batches(keras.callbacks.Callback):
    """Counts batches, for which one graph per epoch won't do."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.batches += 1


def never(*_: object) -> bool:
    return False


def small(family: NetFamily, epochs: int = 12) -> NetFamily:
    family.epochs, family.patience = epochs, 6
    return family


def answers(**values: Value) -> HyperParameters:
    values = {"units": 32, "layers": 1, "batch_size": 32, "learning_rate": 1e-2, **values}
    return HyperParameters(lambda dimension: values.get(dimension.name, dimension.default))


def own(hp: HyperParameters) -> keras.Model:
    """A KerasTuner factory: one matrix in, not built until it is called."""
    units, activation = OUTPUTS[TASK["now"]]
    model = keras.Sequential(
        [keras.layers.Dense(hp.Int("units", 8, 64), "relu"), keras.layers.Dense(units, activation)]
    )
    loss = {1: "mse" if activation is None else "binary_crossentropy"}.get(units, "sparse_categorical_crossentropy")
    model.compile(keras.optimizers.Adam(0.01), loss=loss)
    return model


OUTPUTS: dict[str, tuple[int, str | None]] = {
    "binary": (1, "sigmoid"),
    "multiclass": (3, "softmax"),
    "regression": (1, None),
}
TASK = {"now": "binary"}
NETS: dict[str, Callable[[], NetFamily]] = {
    "mlp": MLP,
    "wide_deep": WideDeep,
    "realmlp": RealMLP,
    "tabm": TabM,
    "own": lambda: Keras(own),
}


@pytest.fixture(scope="module")
def folds() -> dict[str, Fold]:
    return {task: fold(task) for task in OUTPUTS}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("task", OUTPUTS)
def test_a_net_learns_and_its_files_hold_no_code(name, task, folds, tmp_path: Path) -> None:
    one = folds[task]
    TASK["now"] = task
    family = small(NETS[name]())
    reports: list[tuple[int, float, dict[str, float]]] = []
    hp = answers()

    def report(epoch: int, best: float, logs: dict[str, float]) -> bool:
        reports.append((epoch, best, logs))
        return False

    fitted = fit_net(family, hp, one, report)

    predictions = fitted.predict(one.valid.rows)
    assert predictions.shape == (len(one.valid), one.outputs)
    if task == "multiclass":
        np.testing.assert_allclose(predictions.sum(axis=1), 1, atol=1e-6)  # three float32 shares
    assert np.isfinite(fitted.predict(hard_rows(one))).all()
    target = one.train.target
    constant = (
        np.full((len(one.valid), 1), target.mean()) if task != "multiclass" else np.full((len(one.valid), 3), 1 / 3)
    )
    score = one.metric.score(one.valid.target, predictions)
    assert score < 0.8 * one.metric.score(one.valid.target, constant), "penguins are easy"

    # The best epoch's weights are those that were kept.
    losses = [logs["val_loss"] for _, _, logs in reports]
    assert fitted.best_epoch == int(np.argmin(losses)) + 1
    assert [epoch for epoch, _, _ in reports] == list(range(1, len(reports) + 1))
    assert score == pytest.approx(reports[-1][1], rel=1e-5), "the score at the best epoch, up to float32"
    assert {"loss", "val_loss", one.metric.name, "learning_rate"} <= reports[-1][2].keys()

    # Files: weights and plain arrays; the net is rebuilt from its factory.
    fitted.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model.json",
        "model.weights.h5",
        "preparation.npz",
    ]
    assert load_facts(tmp_path) == {
        "kind": "keras",
        "layout": "flat" if name == "own" else "columns",
        "columns": one.outputs,
    }
    again = rebuild(family, hp.values, tmp_path, (task, one.outputs, one.cardinalities), len(one.train))
    for mine, theirs in zip(again.weights, fitted.model.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(mine), np.asarray(theirs))


def test_the_seed_decides(folds) -> None:
    one = folds["binary"]
    values = {"dropout": 0.3, "batch_norm": True, "residual": True}
    first, again = (fit_net(small(MLP(), 2), answers(**values), one, never).predict(one.valid.rows) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    other = fit_net(small(MLP(), 2), answers(**values), fold("binary", seed=4), never).predict(one.valid.rows)
    assert (first != other).any()


def test_a_fold_after_the_first_is_fitted_as_if_it_were_alone() -> None:
    """What was traced for the first fold is used again; nothing of its training may be."""
    ready = prepared("binary")
    ready = prepare(ready.data, KFold(2), "logloss", seed=0)
    values: dict[str, Value] = {"dropout": 0.2, "batch_norm": True}
    one, two = (fold_of(ready, number, seed=number) for number in (0, 1))
    alone = fit_net(small(MLP(), 3), answers(**values), two, never).predict(two.valid.rows)
    fitter = NetFitter(small(MLP(), 3))
    fitter.fit(answers(**values), one, never)
    after = fitter.fit(answers(**values), two, never).predict(two.valid.rows)
    np.testing.assert_array_equal(after, alone)


def test_weights_count(folds) -> None:
    weighted = fold("binary", weighted=True)
    one = folds["binary"]
    plain = fit_net(small(MLP(), 2), answers(), one, never).predict(one.valid.rows)
    assert (fit_net(small(MLP(), 2), answers(), weighted, never).predict(one.valid.rows) != plain).any()


def test_the_stopper_ends_a_fit_with_its_best_epoch(folds) -> None:
    epochs = []

    def report(epoch: int, best: float, logs: dict[str, float]) -> bool:
        epochs.append(epoch)
        return epoch == 3

    fitted = fit_net(small(MLP()), answers(), folds["binary"], report)
    assert fitted.stopped
    assert epochs == [1, 2, 3]
    assert fitted.best_epoch in epochs


def test_a_fit_out_of_time_ends_with_what_it_has(folds) -> None:
    fitted = fit_net(small(MLP()), answers(), replace(folds["binary"], seconds=0.0), never)
    assert not fitted.stopped, "it is as good as its time allowed: a candidate like any other"
    assert fitted.best_epoch == 1


def test_a_search_space_lies_around_the_portfolio(folds) -> None:
    for family in (MLP(), WideDeep()):
        hp = HyperParameters()
        from tunekit.families import NetData

        data = NetData.of(folds["binary"])
        family.build(hp, data)
        family.batch_size(hp, data)
        space = {dimension.name: dimension for dimension in hp.space}
        for values in family.portfolio("binary", rows=300, temporal=False):
            for name, value in values.items():
                assert space[name].contains(value), f"{family.name}: {name}={value!r}"


def test_names_of_families() -> None:
    class Tuned:
        def build(self, hp: Any) -> Any: ...

    assert Keras(own).name == "own"
    assert Keras(own, name="mine").name == "mine"
    assert Keras(lambda hp: None).name == "keras"
    assert Keras(Tuned()).name == "tuned"
    with pytest.raises(FactoryError, match=r"received a int; expected a function build\(hp\) or build\(hp, data\)"):
        Keras(7)


# Factories that can't be trained: what came, what was expected, how to mend it.


def model_of(units: int, activation: str | None, loss: Any, optimizer: Any = "adam") -> keras.Model:
    model = keras.Sequential([keras.layers.Dense(units, activation)])
    model.compile(optimizer, loss=loss)
    return model


def two_outputs(hp: HyperParameters, data: Any) -> keras.Model:
    inputs, x = data.keras_inputs()
    model = keras.Model(inputs, (keras.layers.Dense(1)(x), keras.layers.Dense(1)(x)))
    model.compile("adam", loss=["mse", "mse"])
    return model


def not_flat(hp: HyperParameters, data: Any) -> keras.Model:
    inputs, x = data.keras_inputs()
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Reshape((-1, 1))(x)))
    model.compile("adam", loss="mse")
    return model


def nan_loss(target: Any, outputs: Any) -> Any:
    return keras.ops.log(outputs * 0.0 - 1.0)


BAD: dict[str, tuple[Callable[..., Any], str, type[Exception], str]] = {
    "nothing": (lambda hp: None, "binary", FactoryError, "returned NoneType; expected a compiled keras.Model (is a"),
    "not compiled": (
        lambda hp: keras.Sequential([keras.layers.Dense(1)]),
        "binary",
        FactoryError,
        "not compiled; expected model.compile(optimizer, loss='binary_crossentropy') before it is returned",
    ),
    "units": (
        lambda hp: model_of(2, "softmax", "sparse_categorical_crossentropy"),
        "multiclass",
        FactoryError,
        "has 2 output units; expected 3 for a multiclass target: end with data.keras_head(x), or Dense with that many",
    ),
    "two outputs": (two_outputs, "regression", FactoryError, "is there more than one output?"),
    "not flat": (not_flat, "regression", FactoryError, "is a Flatten or pooling layer missing"),
    "logits": (
        lambda hp: model_of(1, None, keras.losses.BinaryCrossentropy(from_logits=True), keras.optimizers.Adam(1.0)),
        "binary",
        TrialError,
        "expected probabilities: end with data.keras_head(x), or a sigmoid or softmax, and a loss without from_logits",
    ),
    "nan": (
        lambda hp: model_of(1, None, nan_loss),
        "regression",
        TrialError,
        "in epoch 1; expected a finite number: lower the learning rate's bounds, clip gradients (clipnorm=1), or check",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_factories_are_told_what_to_mend(name, folds) -> None:
    build, task, kind, told = BAD[name]
    with pytest.raises(kind) as caught:
        fit_net(small(Keras(build, name="mine", batch_size=64), 2), HyperParameters(), folds[task], never)
    assert told in str(caught.value)
    if kind is FactoryError:
        assert "factory 'mine'" in str(caught.value)


def test_two_units_for_two_classes_are_fine(folds) -> None:
    one = folds["binary"]
    family = small(
        Keras(
            lambda hp: model_of(2, "softmax", "sparse_categorical_crossentropy", keras.optimizers.Adam(0.05)),
            batch_size=16,
        )
    )
    fitted = fit_net(family, HyperParameters(), one, never)
    predictions = fitted.predict(one.valid.rows)
    assert predictions.shape == (len(one.valid), 1), "the probability of the second class"
    assert one.metric.score(one.valid.target, predictions) < np.log(2)


def test_a_subclassed_model_is_fine(folds) -> None:
    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.head = keras.layers.Dense(1, "sigmoid")

        def call(self, x: Any) -> Any:
            return self.head(x)

    def build(hp: HyperParameters) -> keras.Model:
        model = Own()
        model.compile("adam", "binary_crossentropy")
        return model

    one = folds["binary"]
    fitted = fit_net(small(Keras(build, batch_size=32), 2), HyperParameters(), one, never)
    assert fitted.predict(one.valid.rows).shape == (len(one.valid), 1)


def test_callbacks_of_the_users_own_are_called(folds) -> None:
    watcher = Batches()
    family = small(
        Keras(lambda hp: model_of(1, "sigmoid", "binary_crossentropy"), batch_size=64, callbacks=lambda: [watcher]), 2
    )
    fit_net(family, HyperParameters(), folds["binary"], never)
    assert watcher.batches == 2 * -(-len(folds["binary"].train) // 64)


def accurate(hp: HyperParameters) -> keras.Model:
    model = keras.Sequential([keras.layers.Dense(1, "sigmoid")])
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return model


class Logs(keras.callbacks.Callback):
    """Keeps what it is told after each epoch."""

    def __init__(self, monitor: str) -> None:
        super().__init__()
        self.monitor, self.epochs = monitor, list[dict[str, float]]()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epochs.append(dict(logs))


def test_callbacks_see_what_the_model_was_compiled_with_and_the_studys_metric(folds) -> None:
    one = folds["binary"]
    kept = Logs("val_accuracy")
    fitted = fit_net(small(Keras(accurate, batch_size=64, callbacks=lambda: [kept]), 1), HyperParameters(), one, never)
    (logs,) = kept.epochs
    right = (fitted.predict(one.valid.rows)[:, 0] >= 0.5) == one.valid.target
    assert logs["val_accuracy"] == pytest.approx(right.mean())
    assert logs[f"val_{one.metric.name}"] == logs[one.metric.name]
    assert np.isfinite(logs["val_loss"])


def test_callbacks_of_the_users_own_end_the_training(folds) -> None:
    stops = keras.callbacks.EarlyStopping("val_accuracy", mode="min", patience=1)
    family = small(Keras(accurate, batch_size=64, callbacks=lambda: [stops]), 9)
    fit_net(family, HyperParameters(), folds["binary"], never)
    assert stops.stopped_epoch > 0


def test_a_callback_may_look_at_what_another_adds(folds) -> None:
    class Adds(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            logs["val_mine"] = float(epoch)

    kept = Logs("val_mine")
    family = small(Keras(accurate, batch_size=64, callbacks=lambda: [Adds(), kept]), 2)
    fit_net(family, HyperParameters(), folds["binary"], never)
    assert [logs["val_mine"] for logs in kept.epochs] == [0.0, 1.0]


def test_a_figure_that_there_is_none_of_is_refused(folds) -> None:
    family = small(Keras(own, batch_size=64, callbacks=lambda: [[keras.callbacks.EarlyStopping("val_auc")]]), 2)
    TASK["now"] = "binary"
    with pytest.raises(FactoryError, match=r"monitors 'val_auc', which an epoch doesn't have; .*val_loss"):
        fit_net(family, HyperParameters(), folds["binary"], never)
    fitted = fit_net(family, HyperParameters(), replace(folds["binary"], length=Length(2, (1e-3, 1e-3))), never)
    assert fitted.best_epoch == 2, "without validation rows, nothing is looked at"
