"""Layers that embed each number of a table on its own (Gorishniy 2022, arXiv 2203.05556). Import it late.

They take (batch, columns) and give (batch, columns * width), a column's values side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

FEWEST_APART = 1e-6
"""Scaled numbers that are nearer to each other are one edge of a bin."""


class PeriodicEmbedding(keras.layers.Layer):  # type: ignore[misc]
    """Cosines of learnt frequencies, a linear map of them per column, and the number itself: PBLD of RealMLP.

    Holzmueller 2024, arXiv 2407.04491: frequencies are drawn from N(0, sigma^2), phases from U(-pi, pi).

    Args:
        frequencies: per column.
        width: of a column's embedding, the number itself included.
        sigma: deviation of the frequencies.
        rate: factor of the learning rate; see `FactoredAdamW`.
    """

    def __init__(
        self, frequencies: int = 16, width: int = 4, sigma: float = 0.1, rate: float = 1.0, **more: object
    ) -> None:
        super().__init__(**more)
        self.frequencies, self.width, self.sigma, self.rate = frequencies, width, sigma, rate

    def build(self, input_shape: tuple[int, ...]) -> None:
        """Weights for each column of their own."""
        columns, inner = input_shape[-1], self.width - 1
        near = keras.initializers.RandomUniform(-(self.frequencies**-0.5), self.frequencies**-0.5)
        shapes = {
            "frequency": ((columns, self.frequencies), keras.initializers.RandomNormal(stddev=self.sigma)),
            "phase": ((columns, self.frequencies), keras.initializers.RandomUniform(-math.pi, math.pi)),
            "kernel": ((columns, self.frequencies, inner), near),
            "bias": ((columns, inner), near),
        }
        self.parts = {}
        for name, (shape, initializer) in shapes.items():
            self.parts[name] = self.add_weight(shape=shape, initializer=initializer, name=name)
            self.parts[name].rate = self.rate

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """(batch, columns) to (batch, columns * width)."""
        angles = 2 * math.pi * keras.ops.expand_dims(x, -1) * self.parts["frequency"] + self.parts["phase"]
        made = _column_by_column(keras.ops.cos(angles), self.parts["kernel"]) + self.parts["bias"]
        together = keras.ops.concatenate([made, keras.ops.expand_dims(x, -1)], axis=-1)
        return keras.ops.reshape(together, (-1, x.shape[-1] * self.width))

    def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(batch, columns * width)."""
        return (*input_shape[:-1], input_shape[-1] * self.width)


class PiecewiseLinearEmbedding(keras.layers.Layer):  # type: ignore[misc]
    """Where in its bin a number is, for each bin of its column, and a linear map of that: PLE.

    Bins are quantiles of training rows: `adapt` learns them. Below its bin a number counts 0, above it 1; the first and
    last bin go on beyond their edge. A column with few values has fewer bins, and the others count 0.

    Args:
        bins: per column, at most.
        width: of a column's embedding.
    """

    def __init__(self, bins: int = 48, width: int = 16, **more: object) -> None:
        super().__init__(**more)
        self.bins, self.width = bins, width

    def build(self, input_shape: tuple[int, ...]) -> None:
        """Weights for each column of their own."""
        columns, bins = input_shape[-1], self.bins
        near = keras.initializers.RandomUniform(-(bins**-0.5), bins**-0.5)
        # A bin's share of a number is slope * number + offset, within these bounds.
        parts = {"slope": "zeros", "offset": "zeros", "low": "zeros", "high": "zeros"}
        self.edges = {
            name: self.add_weight(shape=(columns, bins), initializer=start, trainable=False, name=name)
            for name, start in parts.items()
        }
        self.kernel = self.add_weight(shape=(columns, bins, self.width), initializer=near, name="kernel")
        self.bias = self.add_weight(shape=(columns, self.width), initializer=near, name="bias")

    def adapt(self, x: npt.NDArray[Any]) -> None:
        """Learn the bins from training rows (n, columns)."""
        made = {name: np.zeros((x.shape[1], self.bins), dtype=np.float32) for name in self.edges}
        for column in range(x.shape[1]):
            edges = np.quantile(x[:, column], np.linspace(0, 1, self.bins + 1))
            edges = edges[np.append(True, np.diff(edges) > FEWEST_APART)]
            widths = np.diff(edges)
            used = slice(0, len(widths))
            made["slope"][column, used] = 1 / widths
            made["offset"][column, used] = -edges[:-1] / widths
            made["high"][column, used] = 1.0
            if len(widths):
                made["low"][column, 0] = -np.inf
                made["high"][column, len(widths) - 1] = np.inf
        for name, edge in self.edges.items():
            edge.assign(np.clip(made[name], -1e6, 1e6))

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """(batch, columns) to (batch, columns * width)."""
        shares = keras.ops.expand_dims(x, -1) * self.edges["slope"] + self.edges["offset"]
        shares = keras.ops.minimum(keras.ops.maximum(shares, self.edges["low"]), self.edges["high"])
        made = _column_by_column(shares, self.kernel) + self.bias
        return keras.ops.reshape(made, (-1, x.shape[-1] * self.width))

    def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(batch, columns * width)."""
        return (*input_shape[:-1], input_shape[-1] * self.width)


def adapt_bins(model: keras.Model, draw: Callable[[], tuple[Any, Any]]) -> None:
    """Let a model that embeds its first numbers in bins have quantiles of training rows for edges.

    Args:
        model: just built.
        draw: gives training rows as the model takes them, and targets.
    """
    for layer in model.layers:
        if isinstance(layer, PiecewiseLinearEmbedding):
            rows, _ = draw()
            numbers = rows["numbers"] if isinstance(rows, dict) else rows
            layer.adapt(np.asarray(numbers)[:, : layer.kernel.shape[0]])


class FewLevels(keras.layers.Layer):  # type: ignore[misc]
    """0/1 columns for the levels of category columns; an unseen level has none.

    Args:
        cardinalities: codes per column; the last one of each is for unseen levels.
    """

    def __init__(self, cardinalities: tuple[int, ...], **more: object) -> None:
        super().__init__(**more)
        pairs = [(column, code) for column, size in enumerate(cardinalities) for code in range(size - 1)]
        self.columns, self.codes = (np.array(part, dtype=np.int32) for part in zip(*pairs, strict=True))

    def call(self, codes: keras.KerasTensor) -> keras.KerasTensor:
        """Codes (batch, columns) to (batch, levels)."""
        return keras.ops.cast(keras.ops.equal(keras.ops.take(codes, self.columns, axis=1), self.codes), "float32")

    def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(batch, levels)."""
        return (input_shape[0], len(self.columns))


def _column_by_column(x: keras.KerasTensor, kernel: Any) -> keras.KerasTensor:
    """(batch, columns, inner) times (columns, inner, width): (batch, columns, width)."""
    columns_first = keras.ops.transpose(x, (1, 0, 2))
    return keras.ops.transpose(keras.ops.matmul(columns_first, kernel), (1, 0, 2))
