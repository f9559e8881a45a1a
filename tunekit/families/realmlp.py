"""RealMLP: a multilayer perceptron with the defaults of a meta-study over many tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tunekit.families.deadline import Deadline
from tunekit.families.nets import Draw, NetData, NetFamily
from tunekit.space import HyperParameters

if TYPE_CHECKING:
    import keras

MOST_LEVELS = 9
"""Of a category column up to which each level gets a 0/1 column; others are embedded."""

EMBEDDING = 8


class RealMLP(NetFamily):
    """RealMLP-TD (Holzmueller 2024, arXiv 2407.04491): its layers, its schedule and its meta-tuned defaults.

    Numbers are embedded by cosines, features are scaled by learnt factors, weights have the neural tangent
    parametrisation and begin by the data, activations are parametric; the learning rate goes through four cycles over
    a fixed number of epochs, and the best of them is kept. Label smoothing is off at first, as the paper has it for
    metrics of probabilities. The space follows the paper's.
    """

    name = "realmlp"
    chooses_target = True
    epochs = 256

    def batch_size(self, hp: HyperParameters, data: NetData) -> int:
        """Rows per step."""
        return int(hp.Choice("batch_size", [128, 256, 512], default=256))

    def build(self, hp: HyperParameters, data: NetData) -> keras.Model:
        """See `NetFamily.build`."""
        import keras

        from tunekit.families.realmlp_layers import (
            Clamp,
            FactoredAdamW,
            FadingDropout,
            FrontScale,
            NtkDense,
            ParametricActivation,
        )

        regression = data.task == "regression"
        inputs, x = data.keras_inputs(numbers=_numbers(hp, data), codes=lambda codes: few_or_embedded(codes, data))
        if hp.Boolean("front_scale", default=True):
            x = FrontScale()(x)
        activation = hp.Choice("activation", ["selu", "mish", "relu"], default="mish" if regression else "selu")
        dropout = hp.Float("dropout", 0.0, 0.5, step=0.05, default=0.15)
        units = hp.Choice("units", [64, 128, 256, 384, 512], default=256)
        for _ in range(hp.Int("layers", 1, 5, default=3)):
            x = ParametricActivation(activation)(NtkDense(units)(x))
            x = FadingDropout(dropout)(x) if dropout else x
        raw = NtkDense(data.units, name="last")(x)
        model = keras.Model(inputs, data.keras_activation(Clamp()(raw) if regression else raw))
        rate = hp.Float("learning_rate", 0.02, 0.3, sampling="log", default=0.2 if regression else 0.04)
        decay = hp.Choice("weight_decay", [0.0, 0.005, 0.02, 0.05], default=0.02)
        model.compile(FactoredAdamW(rate, decay), loss=_loss(hp, data))
        return model

    def initialise(self, model: keras.Model, draw: Draw, seed: int) -> None:
        """Weights and biases by training rows, layer by layer: see `NtkDense.adapt`. Bounds by the training target."""
        import keras

        from tunekit.families.realmlp_layers import Clamp, NtkDense

        (rows, target), random = draw(), np.random.default_rng(seed)
        for layer in model.layers:
            if isinstance(layer, NtkDense):
                before = keras.Model(model.inputs, layer.input)
                layer.adapt(np.asarray(before(rows, training=False)), random)
            elif isinstance(layer, Clamp):
                layer.low.assign(target.min(axis=0))
                layer.high.assign(target.max(axis=0))

    def steering(self, deadline: Deadline) -> list[Any]:
        """See `NetFamily.steering`."""
        import keras

        from tunekit.families.realmlp_layers import Schedule

        keep_best = keras.callbacks.EarlyStopping("val_loss", patience=self.epochs, restore_best_weights=True)
        return [Schedule(deadline), keep_best]

    def retracing(self, rates: Sequence[float]) -> list[Any]:
        """See `NetFamily.retracing`; the schedule is that of the epochs alone."""
        import math

        from tunekit.families.realmlp_layers import Schedule

        del rates
        return [Schedule(Deadline(math.inf))]


def _numbers(hp: HyperParameters, data: NetData) -> Callable[[keras.KerasTensor], keras.KerasTensor]:
    """How numbers are read: embedded by cosines, or as they are; gap indicators as they are."""

    def read(numbers: keras.KerasTensor) -> keras.KerasTensor:
        import keras

        from tunekit.families.number_layers import PeriodicEmbedding

        values = data.numbers - data.gaps
        if hp.Choice("numbers", ["periodic", "plain"]) == "plain" or not values:
            return numbers
        sigma = hp.Float("sigma", 0.05, 1.0, sampling="log", default=0.1)
        made = PeriodicEmbedding(sigma=sigma, rate=0.1)(numbers[:, :values])
        return keras.layers.Concatenate()([made, numbers[:, values:]]) if data.gaps else made

    return read


def few_or_embedded(codes: keras.KerasTensor, data: NetData) -> keras.KerasTensor:
    """Category columns with few levels as 0/1 columns, others embedded: (batch, features)."""
    import dataclasses

    import keras

    from tunekit.families.number_layers import FewLevels

    sizes = np.array(data.cardinalities)
    few = np.flatnonzero(sizes - 2 <= MOST_LEVELS)  # missing and unseen are codes, too
    many = np.flatnonzero(sizes - 2 > MOST_LEVELS)
    parts = []
    if len(few):
        chosen = keras.ops.take(codes, few.astype("int32"), axis=1)
        parts.append(FewLevels(tuple(sizes[few].tolist()))(chosen))
    if len(many):
        chosen = keras.ops.take(codes, many.astype("int32"), axis=1)
        parts.append(dataclasses.replace(data, cardinalities=tuple(sizes[many].tolist())).embed(chosen, EMBEDDING))
    return keras.layers.Concatenate()(parts) if len(parts) > 1 else parts[0]


def _loss(hp: HyperParameters, data: NetData) -> Any:
    """The task's loss, with label smoothing where it is searched."""
    import keras

    if data.task not in ("binary", "multiclass"):
        return data.loss
    smoothing = hp.Choice("label_smoothing", [0.0, 0.1])
    if data.task == "binary":
        return keras.losses.BinaryCrossentropy(label_smoothing=smoothing)
    return keras.losses.CategoricalCrossentropy(label_smoothing=smoothing)
