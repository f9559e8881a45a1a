"""Epochs as one graph: equal to `model.fit` in weights and history, and through `fit` where one graph can't serve.

In the same batch order both run the same operations in the same order, so equalities here are exact. For that,
TensorFlow must not rewrite the graphs: inside a loop it does so otherwise than outside, to the last place of a float32.
"""

import logging
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from tensorflow.python.eager import context

from tunekit.training import traced as traced_module
from tunekit.training.loop import fit, needs_plain_fit, seed_all
from tunekit.training.traced import TracedModel

RANDOM = np.random.default_rng(0)
ROWS, BATCH, EPOCHS = 70, 16, 2  # the last batch of an epoch has 6 rows
X = RANDOM.normal(size=(ROWS, 5)).astype(np.float32)
Y = (X[:, :1] + 0.1 * RANDOM.normal(size=(ROWS, 1))).astype(np.float32)
LABELS = RANDOM.integers(0, 3, ROWS)
CODES = RANDOM.integers(0, 7, (ROWS, 4)).astype(np.int32)  # 0 is padding where a layer masks it
IMAGES = RANDOM.normal(size=(ROWS, 8, 8, 2)).astype(np.float32)
SERIES = np.where(RANDOM.random((ROWS, 6, 1)) < 0.3, 0, RANDOM.normal(size=(ROWS, 6, 3))).astype(np.float32)
WEIGHT = RANDOM.random(ROWS)

Model = Callable[[], keras.Model]
SLOWLY = pytest.mark.slow


@pytest.fixture(autouse=True, scope="module")
def graphs_as_written() -> Iterator[None]:
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})


# Models, compiled.


def compiled(model: keras.Model, optimizer: Any = None, **how: Any) -> keras.Model:
    model.compile(optimizer or keras.optimizers.Adam(0.01), **{"loss": "mse", "metrics": ["mae"]} | how)
    return model


def stack(*parts: keras.layers.Layer, shape: tuple[int, ...] = (5,)) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *parts])


def small(optimizer: Any = None, **how: Any) -> keras.Model:
    return compiled(stack(layers.Dense(8, activation="relu"), layers.Dense(1)), optimizer, **how)


def dense() -> keras.Model:
    parts = (
        layers.Dense(8, activation="relu", kernel_regularizer="l2", activity_regularizer="l2"),
        layers.BatchNormalization(),
        layers.Dropout(0.3),
        layers.Dense(1, kernel_constraint="non_neg"),
    )
    return compiled(
        stack(*parts), keras.optimizers.AdamW(0.01, weight_decay=0.05, clipnorm=0.5), weighted_metrics=["mse"]
    )


def classifier(loss: str = "sparse_categorical_crossentropy") -> keras.Model:
    metrics = ["accuracy", keras.metrics.TopKCategoricalAccuracy(2, name="top")] if loss[0] == "c" else ["accuracy"]
    return compiled(stack(layers.Dense(3, activation="softmax")), loss=loss, metrics=metrics, weighted_metrics=["acc"])


def convolutional() -> keras.Model:
    parts = (
        layers.RandomFlip(),
        layers.Conv2D(4, 3, activation="relu"),
        layers.BatchNormalization(),
        layers.MaxPooling2D(),
        layers.SeparableConv2D(4, 2, padding="same"),
        layers.SpatialDropout2D(0.2),
        layers.GlobalAveragePooling2D(),
        layers.Dense(1),
    )
    return compiled(stack(*parts, shape=(8, 8, 2)))


def recurrent() -> keras.Model:
    return compiled(stack(layers.Masking(), layers.SimpleRNN(4, dropout=0.2), layers.Dense(1), shape=(6, 3)))


def recurrent_dropout() -> keras.Model:
    return compiled(stack(layers.GRU(4, dropout=0.2, recurrent_dropout=0.3), layers.Dense(1), shape=(6, 3)))


def recurrent_both_ways() -> keras.Model:
    parts = (layers.Masking(), layers.LSTM(4, return_sequences=True), layers.Bidirectional(layers.GRU(3)))
    return compiled(stack(*parts, layers.Dense(1), shape=(6, 3)))


def masked_outputs() -> keras.Model:
    inputs = keras.Input((4,), dtype="int32")
    x = layers.GRU(4, return_sequences=True)(layers.Embedding(7, 3, mask_zero=True)(inputs))
    return compiled(keras.Model(inputs, layers.Dense(1)(x)))


def stateful() -> keras.Model:
    return compiled(
        keras.Sequential([keras.Input(batch_shape=(16, 6, 3)), layers.LSTM(4, stateful=True), layers.Dense(1)])
    )


def attention() -> keras.Model:
    inputs = keras.Input((6, 3))
    x = layers.LayerNormalization()(inputs + layers.MultiHeadAttention(2, 4, dropout=0.1)(inputs, inputs))
    return compiled(keras.Model(inputs, layers.Dense(1)(layers.Flatten()(x))))


def embedding() -> keras.Model:
    numbers, codes = keras.Input((5,), name="numbers"), keras.Input((4,), dtype="int32", name="codes")
    x = layers.Concatenate()([numbers, layers.Flatten()(layers.Embedding(7, 2)(codes))])
    return compiled(keras.Model([numbers, codes], layers.Dense(1)(x)))


def two_outputs(named: bool = True, **how: Any) -> keras.Model:
    inputs = keras.Input((5,))
    x = layers.Dense(4, activation="relu")(inputs)
    outputs = {"number": layers.Dense(1, name="number")(x), "label": layers.Dense(3, "softmax", name="label")(x)}
    losses = {"number": "mse", "label": "sparse_categorical_crossentropy"}
    metrics = {"number": ["mae"], "label": ["accuracy"]}
    if named:
        return compiled(keras.Model(inputs, outputs), loss=losses, metrics=metrics, **how)
    outputs, losses, metrics = (list(parts.values()) for parts in (outputs, losses, metrics))  # type: ignore[assignment]
    return compiled(keras.Model(inputs, outputs), loss=losses, metrics=metrics, **how)


def adapted() -> keras.Model:
    scaling = layers.Normalization()
    scaling.adapt(X)
    return compiled(stack(scaling, layers.Dense(1)))


def half_precision() -> keras.Model:
    """In float16, with the loss scaled by Keras."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        return compiled(stack(layers.Dense(8, activation="relu"), layers.Dense(1, dtype="float32")))
    finally:
        keras.config.set_dtype_policy("float32")


class Sub(keras.Model):
    """A class of one's own, built by its first call."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.dropout, self.head = layers.Dense(4), layers.Dropout(0.3), layers.Dense(1)

    def call(self, x: Any, training: bool = False) -> Any:
        return self.head(self.dropout(self.hidden(x), training=training))


class OwnLoss(Sub):
    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None) -> Any:
        """Without `training`, as before Keras 3.3."""
        return keras.ops.mean((y - y_pred) ** 4)


class OwnMetrics(Sub):
    """One log is a metric of the model's own, the other what the last batch gave."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = keras.metrics.Mean(name="mean")

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        self.mean.update_state(y_pred)
        return {**super().compute_metrics(x, y, y_pred, sample_weight), "last": keras.ops.mean(y_pred)}


class OwnSteps(Sub):
    """Steps of its own, whose log is no metric."""

    def fourth_power(self, data: Any, training: bool) -> Any:
        x, y = data
        return keras.ops.mean((self(x, training=training) - y) ** 4)

    def train_step(self, data: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = self.fourth_power(data, training=True)
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        return {"fourth_power": loss}

    def test_step(self, data: Any) -> Any:
        return {"fourth_power": self.fourth_power(data, training=False)}


class Rivals(keras.Model):
    """Two nets against each other: optimizers, metrics and random numbers of its own, and no target."""

    def __init__(self) -> None:
        super().__init__()
        self.judge, self.maker = stack(layers.Dense(4, "relu"), layers.Dense(1)), stack(layers.Dense(5), shape=(3,))
        self.seed = keras.random.SeedGenerator(7)
        self.optimizers = [keras.optimizers.Adam(0.01), keras.optimizers.RMSprop(0.01)]
        self.means = [keras.metrics.Mean(name="judge"), keras.metrics.Mean(name="maker")]

    @property
    def metrics(self) -> list[Any]:
        return self.means

    def train_step(self, x: Any) -> Any:
        noise = keras.random.normal((keras.ops.shape(x)[0], 3), seed=self.seed)
        for net, sign, optimizer, mean in zip(
            (self.judge, self.maker), (1, -1), self.optimizers, self.means, strict=True
        ):
            with tf.GradientTape() as tape:
                loss = sign * keras.ops.mean(keras.ops.tanh(self.judge(self.maker(noise)) - self.judge(x)))
            gradients = tape.gradient(loss, net.trainable_weights)
            optimizer.apply_gradients(zip(gradients, net.trainable_weights, strict=True))
            mean.update_state(loss)
        return {mean.name: mean.result() for mean in self.means}


def rivals() -> keras.Model:
    model = Rivals()
    model.compile()
    return model


class Penalty(keras.layers.Layer):
    def call(self, x: Any) -> Any:
        self.add_loss(keras.ops.mean(x**2))
        return x


def no_target() -> keras.Model:
    inputs = keras.Input((5,))
    model = keras.Model(inputs, Penalty()(layers.Dense(3)(inputs)))
    model.compile("adam")
    return model


class LargestError(keras.metrics.Metric):
    """Keeps more than a mean."""

    def __init__(self) -> None:
        super().__init__(name="largest")
        self.value = self.add_weight(name="value", initializer="zeros")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.value.assign(keras.ops.maximum(self.value, keras.ops.max(keras.ops.abs(y_true - y_pred))))

    def result(self) -> Any:
        return self.value + 0


def cubed(y_true: Any, y_pred: Any) -> Any:
    return keras.ops.mean(keras.ops.abs(y_true - y_pred) ** 3, axis=-1)


# What is trained, and how.


@dataclass(frozen=True)
class Case:
    model: Model
    x: Any = field(default_factory=lambda: X)
    y: Any = field(default_factory=lambda: Y)
    how: dict[str, Any] = field(default_factory=dict)


VALID = (X[:40], Y[:40])
BOTH = {"number": Y, "label": LABELS}
FULL = 4 * BATCH  # rows in full batches

QUICK = {
    "dense, weights, validation": Case(dense, how={"sample_weight": WEIGHT, "validation_data": (*VALID, WEIGHT[:40])}),
    "convolutional": Case(convolutional, IMAGES),
    "recurrent, masked": Case(recurrent, SERIES),
    "embedding, inputs by name": Case(embedding, {"numbers": X, "codes": CODES}),
    "outputs by name, a weight each": Case(
        lambda: two_outputs(weighted_metrics={"label": ["accuracy"]}),
        y=BOTH,
        how={"sample_weight": {"number": WEIGHT, "label": WEIGHT[::-1].copy()}},
    ),
    "class weights": Case(classifier, y=LABELS, how={"class_weight": {0: 1.0, 1: 5.0}}),
    "own steps": Case(lambda: compiled(OwnSteps(), metrics=None), how={"validation_data": VALID}),
}
SLOW = {
    "class weights, one-hot": Case(
        lambda: classifier("categorical_crossentropy"), y=np.eye(3)[LABELS], how={"class_weight": {2: 0.5}}
    ),
    "float64": Case(small, X.astype(np.float64), Y.astype(np.float64)),
    "recurrent, dropped": Case(recurrent_dropout, SERIES),
    "recurrent, both ways": Case(recurrent_both_ways, SERIES),
    "masked outputs": Case(masked_outputs, CODES, RANDOM.normal(size=(ROWS, 4, 1))),
    "stateful": Case(stateful, SERIES[:FULL], Y[:FULL]),
    "attention": Case(attention, SERIES),
    "inputs in a list": Case(embedding, [X, CODES]),
    "inputs in a tuple": Case(embedding, (X, CODES)),
    "outputs in a list": Case(lambda: two_outputs(named=False, loss_weights=[0.3, 1.0]), y=[Y, LABELS]),
    "outputs by name, one weight": Case(two_outputs, y=BOTH, how={"sample_weight": WEIGHT}),
    "one output in a list": Case(lambda: compiled(keras.Model(i := keras.Input((5,)), [layers.Dense(1)(i)]))),
    "adapted": Case(adapted),
    "half precision": Case(half_precision),
    "class of one's own": Case(lambda: compiled(Sub()), how={"validation_data": VALID}),
    "layers without an input": Case(lambda: compiled(keras.Sequential([layers.Dense(4), layers.Dense(1)]))),
    "own loss": Case(lambda: compiled(OwnLoss(), loss=None)),
    "own metrics": Case(lambda: compiled(OwnMetrics()), how={"validation_data": VALID}),
    "rivals": Case(rivals, y=None),
    "no target": Case(no_target, y=None),
    "loss and metric of one's own": Case(lambda: small(loss=cubed, metrics=[LargestError(), cubed])),
    "curves": Case(
        lambda: compiled(
            stack(layers.Dense(1, "sigmoid")),
            loss=keras.losses.BinaryFocalCrossentropy(),
            metrics=["accuracy", keras.metrics.AUC(name="auc"), keras.metrics.F1Score(threshold=0.5)],
        ),
        y=(Y > 0).astype(np.float32),
        how={"validation_data": (X[:40], Y[:40] > 0)},
    ),
    "several steps per execution": Case(lambda: small(steps_per_execution=3), how={"validation_data": VALID}),
    "compiled by XLA": Case(lambda: small(jit_compile=True)),
    "accumulated gradients": Case(lambda: small(keras.optimizers.Adam(0.01, gradient_accumulation_steps=2))),
    "averaged weights": Case(lambda: small(keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9))),
    "averaged weights, often": Case(
        lambda: small(keras.optimizers.Adam(0.01, use_ema=True, ema_overwrite_frequency=3)),
        how={"validation_data": VALID},
    ),
    "clipped together": Case(lambda: small(keras.optimizers.SGD(0.1, momentum=0.9, global_clipnorm=0.1))),
    "clipped by value": Case(lambda: small(keras.optimizers.SGD(0.1, nesterov=True, momentum=0.9, clipvalue=0.01))),
    "schedule": Case(lambda: small(keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 8)))),
    "rate from a function": Case(lambda: small(keras.optimizers.SGD(lambda: 0.1))),
    "scaled loss": Case(
        lambda: small(
            keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.01), initial_scale=4.0, dynamic_growth_steps=2)
        )
    ),
}
CASES = QUICK | SLOW


def optimizers() -> dict[str, type]:
    base = keras.optimizers.Optimizer
    found = {name: kind for name, kind in vars(keras.optimizers).items() if isinstance(kind, type)}
    return {name: kind for name, kind in found.items() if issubclass(kind, base) and kind is not base}


def made(name: str) -> Any:
    if name == "LossScaleOptimizer":
        return keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam())
    if name == "MultiOptimizer":
        by_path = keras.optimizers.OptimizerMap(keras.optimizers.SGD(), {".*kernel": keras.optimizers.Adam()})
        return keras.optimizers.MultiOptimizer(by_path)
    return optimizers()[name]()


# The comparison.


def seeded(model: Model) -> keras.Model:
    keras.utils.set_random_seed(1)
    return model()


def variables(model: keras.Model) -> list[Any]:
    """Everything that training may change, the states of random numbers included."""
    optimizers = [model.optimizer, *getattr(model, "optimizers", ())]
    return [*model.variables, *(variable for optimizer in optimizers for variable in optimizer.variables)]


def assert_same(ours: keras.Model, theirs: keras.Model) -> None:
    """Equal weights, states and histories."""
    for mine, other in zip(variables(ours), variables(theirs), strict=True):
        np.testing.assert_array_equal(np.asarray(mine), np.asarray(other), err_msg=mine.path)
    assert ours.history.history == theirs.history.history
    assert len(ours.history.epoch) > 0


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=SLOWLY) for name in SLOW)])
def test_the_loop_equals_fit(name) -> None:
    case = CASES[name]
    theirs, ours = seeded(case.model), seeded(case.model)
    assert needs_plain_fit(ours, (), validates=True) is None
    theirs.fit(case.x, case.y, BATCH, EPOCHS, verbose=0, shuffle=False, **case.how)
    fit(TracedModel(ours), case.x, case.y, batch_size=BATCH, epochs=EPOCHS, **case.how)
    assert_same(ours, theirs)


@pytest.mark.parametrize("name", ["clipped together", pytest.param("dense, weights, validation", marks=SLOWLY)])
def test_rewritten_graphs_differ_in_last_places_only(name) -> None:
    """As they run in a search. The gradients' common norm is a case where the rewriting shows."""
    case = CASES[name]
    theirs, ours = seeded(case.model), seeded(case.model)
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})
    try:
        theirs.fit(case.x, case.y, BATCH, EPOCHS, verbose=0, shuffle=False, **case.how)
        fit(TracedModel(ours), case.x, case.y, batch_size=BATCH, epochs=EPOCHS, **case.how)
    finally:
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    for mine, other in zip(variables(ours), variables(theirs), strict=True):  # weights are of the order of 1
        np.testing.assert_allclose(np.asarray(mine), np.asarray(other), rtol=1e-6, atol=1e-6, err_msg=mine.path)
    for log, values in theirs.history.history.items():
        np.testing.assert_allclose(ours.history.history[log], values, rtol=1e-6, err_msg=log)


@SLOWLY
@pytest.mark.parametrize("name", optimizers())
def test_every_optimizer_equals_fit(name) -> None:
    theirs, ours = (seeded(lambda: small(made(name))) for _ in range(2))
    if name == "ScheduleFreeAdamW":
        # It starts from the weights, but `fit`, which builds it while tracing, loses that: Keras 3.15 then pulls the
        # weights towards zero, whatever the learning rate. The loop builds optimizers first, as is done here.
        theirs.optimizer.build(theirs.trainable_variables)
    theirs.fit(X, Y, BATCH, EPOCHS, verbose=0, shuffle=False)
    fit(TracedModel(ours), X, Y, batch_size=BATCH, epochs=EPOCHS)
    assert_same(ours, theirs)


# Orders and callbacks.


class Batches(keras.callbacks.Callback):
    """Watches batches, which one graph per epoch can't show."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.batches += 1


class Diary(keras.callbacks.Callback):
    """Writes down what it is told, and ends the training when it is told to."""

    def __init__(self, stop: str = "") -> None:
        super().__init__()
        self.lines: list[Any] = []
        self.stop = stop

    def note(self, event: str, logs: Any) -> None:
        self.lines.append((event, dict(logs or {}), int(self.model.optimizer.iterations)))
        self.model.stop_training |= event == self.stop

    def on_train_begin(self, logs: Any = None) -> None:
        self.lines.append(self.params)
        self.note("begin", logs)

    def on_train_end(self, logs: Any = None) -> None:
        self.note("end", logs)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.note(f"epoch {epoch} begins", logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.note(f"epoch {epoch} ends", logs)

    def on_test_begin(self, logs: Any = None) -> None:
        self.note("test begins", logs)

    def on_test_end(self, logs: Any = None) -> None:
        self.note("test ends", logs)


@pytest.mark.parametrize("stop", ["epoch 1 ends", pytest.param("epoch 1 begins", marks=SLOWLY)])
def test_callbacks_are_told_what_fit_tells(stop) -> None:
    def callbacks() -> list[Any]:
        return [
            Diary(stop),
            keras.callbacks.SwapEMAWeights(),
            keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / (epoch + 1)),
            keras.callbacks.EarlyStopping("val_loss", patience=5, restore_best_weights=True),
        ]

    theirs, ours = (seeded(lambda: small(keras.optimizers.Adam(0.01, use_ema=True))) for _ in range(2))
    expected, found = callbacks(), callbacks()
    theirs.fit(X, Y, BATCH, 3, verbose=0, shuffle=False, validation_data=VALID, callbacks=expected)
    fit(TracedModel(ours), X, Y, batch_size=BATCH, epochs=3, validation_data=VALID, callbacks=[found])
    assert_same(ours, theirs)
    assert found[0].lines == expected[0].lines


def test_rows_come_in_the_order_of_each_epoch_either_way() -> None:
    orders = [np.random.default_rng(epoch).permutation(ROWS) for epoch in range(3)]
    case = QUICK["outputs by name, a weight each"]
    common: dict[str, Any] = {"batch_size": BATCH, "epochs": 3, "order": lambda epoch: orders[epoch], **case.how}
    watcher = Batches()
    plain, graph = seeded(case.model), seeded(case.model)
    fit(TracedModel(plain), X, case.y, callbacks=[watcher], **common)
    fit(TracedModel(graph), X, case.y, **common)
    assert watcher.batches == 3 * 5, "the short batch is a step too"
    assert_same(graph, plain)


# What goes through fit.


class Stream(keras.utils.PyDataset):
    def __len__(self) -> int:
        return 5

    def __getitem__(self, step: int) -> Any:
        rows = slice(step * BATCH, (step + 1) * BATCH)
        return X[rows], Y[rows]


class Elsewhere(keras.Model):
    def make_train_function(self, force: bool = False) -> Any:
        return super().make_train_function(force)


class Judged(keras.Model):
    def evaluate(self, *arguments: Any, **more: Any) -> Any:
        return super().evaluate(*arguments, **more)


def of_class(kind: type[keras.Model]) -> keras.Model:
    inputs = keras.Input((5,))
    return compiled(kind(inputs, layers.Dense(1)(inputs)))


def by_hand() -> keras.Model:
    model = small()
    model.train_function = lambda iterator: {}
    return model


def stood_in_for() -> keras.Model:
    model = small()
    model.fit = print
    return model


def distributed() -> keras.Model:
    with tf.distribute.OneDeviceStrategy("/cpu:0").scope():
        return small()


LAMBDA = keras.callbacks.LambdaCallback
REASONS: dict[str, tuple[Model, list[Any], str]] = {
    "batches": (small, [Batches()], "callback Batches watches batches"),
    "batches, by a lambda": (small, [LAMBDA(on_train_batch_end=print)], "callback LambdaCallback watches batches"),
    "batches, of a test": (small, [LAMBDA(on_test_batch_end=print)], "callback LambdaCallback watches batches"),
    "eager": (lambda: small(run_eagerly=True), [], "the model runs eagerly (run_eagerly=True)"),
    "train function": (lambda: of_class(Elsewhere), [], "the model has its own make_train_function"),
    "train function, by hand": (by_hand, [], "the model has its own train_function"),
    "what stands in for fit may call the loop": (stood_in_for, [], "None"),
    "evaluation": (lambda: of_class(Judged), [], "the model has its own evaluate"),
    "distributed": (distributed, [], "the model is trained under a distribution strategy"),
    "not compiled": (lambda: stack(layers.Dense(1)), [], "the model is not compiled"),
    "nothing": (small, [LAMBDA(on_epoch_end=print), keras.callbacks.EarlyStopping()], "None"),
}


@pytest.mark.parametrize("name", REASONS)
def test_the_reason_for_fit_is_told(name) -> None:
    build, callbacks, reason = REASONS[name]
    assert str(needs_plain_fit(build(), callbacks, validates=True)) == reason


def test_what_only_a_validation_needs_is_no_reason_without_one() -> None:
    assert needs_plain_fit(of_class(Judged), [LAMBDA(on_test_batch_end=print)]) is None


def test_another_backend_goes_through_fit(monkeypatch) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert needs_plain_fit(small(), ()) == "the Keras backend is jax"


def test_epochs_cut_short_go_through_fit() -> None:
    keras.config.set_max_epochs(1)
    try:
        assert needs_plain_fit(small(), ()) == "Keras is configured to cut epochs short"
    finally:
        keras.config.set_max_epochs(None)


STREAMS: dict[str, Callable[[], Any]] = {
    "tf.data": lambda: tf.data.Dataset.from_tensor_slices((X, Y)).batch(BATCH),
    "PyDataset": Stream,
    "generator": lambda: (Stream()[step] for step in range(5)),
}


@pytest.mark.filterwarnings("ignore:Your input ran out of data")  # as a generator does, for `fit` alone as well
@pytest.mark.parametrize(
    "name",
    ["tf.data", pytest.param("PyDataset", marks=SLOWLY), pytest.param("generator", marks=SLOWLY)],
)
def test_streams_go_through_fit_and_the_log_says_so(name, caplog) -> None:
    theirs, ours = seeded(small), seeded(small)
    theirs.fit(STREAMS[name](), verbose=0, shuffle=False)
    with caplog.at_level(logging.INFO):
        fit(TracedModel(ours), STREAMS[name]())
    assert "model.fit is used: the data are a stream, or more than plain arrays" in caplog.text
    assert_same(ours, theirs)


def test_a_model_that_runs_eagerly_is_trained_predicted_and_validated_by_keras(caplog) -> None:
    theirs, ours = (seeded(lambda: small(run_eagerly=True)) for _ in range(2))
    traced = TracedModel(ours)
    theirs.fit(X, Y, BATCH, 1, verbose=0, shuffle=False)
    with caplog.at_level(logging.INFO):
        fit(traced, X, Y, batch_size=BATCH)
    assert "model.fit is used: the model runs eagerly" in caplog.text
    assert_same(ours, theirs)
    outputs, loss = traced.validate(X, Y)
    alike = theirs.predict(X, batch_size=ROWS, verbose=0)  # some processors multiply batches of other sizes otherwise
    np.testing.assert_array_equal(outputs, alike)
    assert loss == pytest.approx(theirs.evaluate(X, Y, verbose=0)[0], rel=1e-6)  # a mean of means of float32


@pytest.mark.parametrize("how", [{"sample_weight": WEIGHT, "class_weight": {0: 1.0}}, {"sample_weight": WEIGHT[:9]}])
def test_bad_arrays_meet_the_words_of_fit(how) -> None:
    with pytest.raises(ValueError, match=r"class_weight|same number of samples") as expected:
        classifier().fit(X, LABELS, verbose=0, **how)
    with pytest.raises(ValueError, match=re.escape(str(expected.value))):
        fit(TracedModel(classifier()), X, LABELS, **how)


# One trace for many models.


class Counted(keras.layers.Layer):
    """Counts how often it is traced."""

    traces = 0

    def call(self, x: Any) -> Any:
        Counted.traces += 1
        return x


def counted() -> keras.Model:
    return compiled(stack(Counted(), layers.Dense(4), layers.Dropout(0.3), layers.Dense(1)))


def test_a_second_model_is_trained_as_if_alone_and_not_traced() -> None:
    how: dict[str, Any] = {"batch_size": BATCH, "epochs": EPOCHS, "validation_data": VALID}
    alone, first, second = (seeded(counted) for _ in range(3))
    fit(TracedModel(alone), X[5:], Y[5:], **how)
    traced = TracedModel(first)
    fit(traced, X, Y, **how)
    assert traced.take_over(second)
    before = Counted.traces
    fit(traced, X[5:], Y[5:], **how)
    assert Counted.traces == before, "fewer rows are no reason to trace"
    assert_same(traced.model, alone)


def test_a_model_of_another_build_is_not_taken_over() -> None:
    traced = TracedModel(small())
    for other in (small("sgd"), dense(), compiled(stack(layers.Dense(9), layers.Dense(1))), of_class(Judged)):
        assert not traced.take_over(other)


def test_variables_that_nobody_knows_of_are_not_taken_over() -> None:
    """Those of the rivals' own optimizers: a second model would go on with what they have learnt."""
    traced = TracedModel(rivals())
    fit(traced, X, batch_size=BATCH)
    assert not traced.take_over(rivals())


def test_seeding_can_keep_the_graphs(monkeypatch) -> None:
    """Else a fold spends more on preparing graphs again than on many an epoch."""

    def draws() -> list[float]:
        tensors = (keras.random.uniform(()), tf.random.uniform(()))
        return [random.random(), np.random.random(), *(float(tensor) for tensor in tensors)]  # noqa: NPY002

    keras.utils.set_random_seed(5)
    expected = draws()
    keras.utils.set_random_seed(6)
    cleared: list[Any] = []
    clear = context.pywrap_tfe.TFE_ContextClearCaches

    def noted(handle: Any) -> None:
        cleared.append(handle)
        clear(handle)

    monkeypatch.setattr(context.pywrap_tfe, "TFE_ContextClearCaches", noted)
    seed_all(5, keep_graphs=True)
    assert not cleared
    assert draws() == expected
    seed_all(5, keep_graphs=False)
    assert cleared
    assert draws() == expected


# Outputs.


def test_validation_gives_what_predict_and_evaluate_give(monkeypatch) -> None:
    model = seeded(dense)
    traced = TracedModel(model)
    monkeypatch.setattr(traced_module, "CHUNK", 32)
    outputs, loss = traced.validate(X, Y, WEIGHT)
    expected = model.evaluate(X, Y, batch_size=32, sample_weight=WEIGHT, verbose=0, return_dict=True)["loss"]
    assert loss == pytest.approx(expected, rel=1e-6)  # Keras adds in float32
    np.testing.assert_array_equal(outputs, model.predict(X, batch_size=32, verbose=0))
    np.testing.assert_array_equal(outputs, traced.predict(X, ROWS))


def test_outputs_keep_their_names() -> None:
    outputs = TracedModel(two_outputs()).predict(X, ROWS)
    assert {name: output.shape for name, output in outputs.items()} == {"number": (ROWS, 1), "label": (ROWS, 3)}
