"""Layers, optimizer and schedule of RealMLP (Holzmueller 2024, arXiv 2407.04491). It imports Keras: import it late."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from tunekit.families.deadline import Deadline

CYCLES = 4
"""Of the learning rate over a training, each longer than the one before."""

MIXED = 5
"""Rows whose mixture is a unit's zero at the start ("he+5")."""


class NtkDense(keras.layers.Layer):  # type: ignore[misc]
    """A dense layer whose weights have unit variance at any width: x W / sqrt(inputs) + b.

    Args:
        units: of the output.
        bias_rate: factor of the bias's learning rate.
    """

    def __init__(self, units: int, bias_rate: float = 0.1, **more: object) -> None:
        super().__init__(**more)
        self.units, self.bias_rate = units, bias_rate

    def build(self, input_shape: tuple[int, ...]) -> None:
        """Kernel (inputs, units) and bias (units,)."""
        normal = keras.initializers.RandomNormal(stddev=1.0)
        self.factor = input_shape[-1] ** -0.5
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), initializer=normal, name="kernel")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")
        self.bias.rate = self.bias_rate

    def adapt(self, x: npt.NDArray[Any], random: np.random.Generator) -> None:
        """Begin with units of unit deviation, whose zeros lie among the rows.

        Args:
            x: (n, inputs) training rows.
            random: draws the rows that a unit's zero is a mixture of.
        """
        kernel = np.asarray(self.kernel)
        raw = np.asarray(x, dtype=np.float64) @ kernel * self.factor
        spread = np.where(raw.std(axis=0) > 1e-8, raw.std(axis=0), 1.0)
        drawn = np.stack([raw[random.integers(0, len(raw), self.units), np.arange(self.units)] for _ in range(MIXED)])
        shares = random.exponential(size=drawn.shape)
        self.kernel.assign(kernel / spread)
        self.bias.assign(-(drawn * shares / shares.sum(axis=0)).sum(axis=0) / spread)

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """(batch, inputs) to (batch, units)."""
        return keras.ops.matmul(x, self.kernel) * self.factor + self.bias

    def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(batch, units)."""
        return (*input_shape[:-1], self.units)


class FrontScale(keras.layers.Layer):  # type: ignore[misc]
    """A learnt factor for each feature, with a rate of its own: a soft selection of features.

    Args:
        rate: factor of the learning rate.
    """

    def __init__(self, rate: float = 6.0, **more: object) -> None:
        super().__init__(**more)
        self.rate = rate

    def build(self, input_shape: tuple[int, ...]) -> None:
        """One factor a feature, 1 at first."""
        self.scale = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="scale")
        self.scale.rate = self.rate

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """(batch, features) to the same."""
        return x * self.scale


class ParametricActivation(keras.layers.Layer):  # type: ignore[misc]
    """x + a (f(x) - x) with a learnt per unit, 1 at first.

    Args:
        activation: f, by Keras's name.
        rate: factor of the learning rate.
    """

    def __init__(self, activation: str, rate: float = 0.1, **more: object) -> None:
        super().__init__(**more)
        self.function, self.rate = keras.activations.get(activation), rate

    def build(self, input_shape: tuple[int, ...]) -> None:
        """One share a unit."""
        self.share = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="share")
        self.share.rate = self.rate

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """(batch, units) to the same."""
        return x + self.share * (self.function(x) - x)


class FadingDropout(keras.layers.Layer):  # type: ignore[misc]
    """Dropout whose rate a `Schedule` lets fade.

    Args:
        rate: at first.
        seed: of what is dropped; drawn if left out.
    """

    def __init__(self, rate: float, seed: int | None = None, **more: object) -> None:
        super().__init__(**more)
        self.rate = rate
        self.seeds = keras.random.SeedGenerator(seed)

    def build(self, input_shape: tuple[int, ...]) -> None:
        """What is left of the rate, 1 at first."""
        del input_shape
        self.left = self.add_weight(shape=(), initializer="ones", trainable=False, name="left")

    def call(self, x: keras.KerasTensor, training: bool = False) -> keras.KerasTensor:
        """(batch, units) to the same."""
        if not training:
            return x
        kept = 1.0 - self.rate * self.left
        drawn = keras.random.uniform(keras.ops.shape(x), seed=self.seeds)
        return keras.ops.where(drawn < kept, x / kept, 0.0)


class Clamp(keras.layers.Layer):  # type: ignore[misc]
    """Bounds predictions, not training, to the range of the training target."""

    def build(self, input_shape: tuple[int, ...]) -> None:
        """The bounds; none at first."""
        for name, far in (("low", -1e30), ("high", 1e30)):
            bound = self.add_weight(
                shape=(input_shape[-1],), initializer=keras.initializers.Constant(far), trainable=False, name=name
            )
            setattr(self, name, bound)

    def call(self, x: keras.KerasTensor, training: bool = False) -> keras.KerasTensor:
        """(batch, outputs) to the same."""
        return x if training else keras.ops.minimum(keras.ops.maximum(x, self.low), self.high)


class FactoredAdamW(keras.optimizers.AdamW):  # type: ignore[misc]
    """AdamW by a schedule over the whole training, in which each variable may have its own factor of the rate.

    A variable's attribute `rate` is its factor. The rate goes up and down `CYCLES` times, by cosines that get longer
    ("coslog4"); the decay stays and fades in the second half ("flat_cos"). A `Schedule` says how long the training is.

    Args:
        learning_rate: at its peak.
        weight_decay: at first; of kernels and other variables whose name is not "bias".
    """

    def __init__(self, learning_rate: float, weight_decay: float) -> None:
        super().__init__(learning_rate, weight_decay=weight_decay, beta_2=0.95)
        self.exclude_from_weight_decay(var_names=["bias"])
        self.steps = keras.Variable(1e9, trainable=False, dtype="float32", name="steps")
        self._track_variable(self.steps)

    @property
    def progress(self) -> Any:
        """The share of the training that is over."""
        return keras.ops.minimum(keras.ops.cast(self.iterations, "float32") / self.steps, 1.0)

    def _get_current_learning_rate(self) -> Any:
        waves = keras.ops.log2(1.0 + (2.0**CYCLES - 1.0) * self.progress)
        return 0.5 * self._learning_rate * (1.0 - keras.ops.cos(2.0 * math.pi * waves))

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One variable's step, by its factor of the rate."""
        super().update_step(gradient, variable, learning_rate * getattr(variable, "rate", 1.0))

    def _apply_weight_decay(self, variables: Any) -> None:
        decay = self.weight_decay * fading(self.progress) * self._get_current_learning_rate()
        for variable in variables:
            if self._use_weight_decay(variable):
                variable.assign(variable * (1.0 - decay * getattr(variable, "rate", 1.0)))


def fading(progress: Any) -> Any:
    """1 in the first half, then half a cosine to 0: "flat_cos"."""
    return 0.5 * (1.0 + keras.ops.cos(math.pi * keras.ops.maximum(2.0 * progress - 1.0, 0.0)))


class Schedule(keras.callbacks.Callback):  # type: ignore[misc]
    """Says how long the training is, lets dropout fade, and keeps the best epoch's weights.

    A training with less time than its epochs would take is made shorter as a whole, so that the rate still
    comes down at its end.

    Args:
        deadline: of the training, which is told of its epochs before this callback is.
    """

    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self._deadline = deadline
        self._steps = 0.0

    def on_train_begin(self, logs: Any = None) -> None:
        """Count the steps."""
        del logs
        self._steps = float(self.params["steps"] * self.params["epochs"])
        self.model.optimizer.steps.assign(self._steps)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Let dropout fade."""
        del epoch, logs
        left = fading(self.model.optimizer.progress)
        for layer in self.model._flatten_layers():
            if isinstance(layer, FadingDropout):
                layer.left.assign(left)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """End the training when its time is over, and shorten it before where its pace tells that it would be."""
        del epoch, logs
        if self._deadline.pace is None:  # the first epoch traced the model, too
            return
        done = float(self.model.optimizer.iterations)
        pace = self._deadline.pace / self.params["steps"]
        affordable = done + SHARE * max(self._deadline.left, 0.0) / max(pace, 1e-9)
        if affordable < self._steps:
            self._steps = affordable
            self.model.optimizer.steps.assign(self._steps)
        if done >= self._steps:
            self.model.stop_training = True


SHARE = 0.95
"""Of its time that a training is planned to take."""
