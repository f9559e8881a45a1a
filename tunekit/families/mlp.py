"""A multilayer perceptron on scaled numbers and embedded categories."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tunekit.errors import FactoryError
from tunekit.families.nets import NetData, NetFamily
from tunekit.space import HyperParameters

if TYPE_CHECKING:
    import keras

UNITS = (32, 512)
"""The fewest and the most units of a layer, if not said otherwise."""


class MLP(NetFamily):
    """Dense blocks with dropout; batch normalisation and residual connections on or off.

    Numbers come robustly scaled and smoothly clipped, categories as embeddings. Defaults and space follow the tuned
    MLP and ResNet of Gorishniy 2021 (arXiv 2106.11959) and RealMLP-TD-S (arXiv 2407.04491).

    Args:
        units: the fewest and the most units of a layer that are searched, as `tunekit grow` proposes them.

    Raises:
        FactoryError: these are no bounds.
    """

    name = "mlp"
    chooses_target = True

    def __init__(self, *, units: Sequence[int] = UNITS) -> None:
        whole = all(type(one) is int for one in units)
        if len(units) != 2 or not whole or not 1 <= units[0] <= units[1]:
            raise FactoryError(f"units={units!r}; expected the fewest and the most units of a layer, such as (32, 512)")
        self.units = (units[0], units[1])

    def portfolio(self, task: str, *, rows: int, temporal: bool) -> list[dict[str, Any]]:
        """A residual net with batch normalisation."""
        del task, rows, temporal
        return [{"residual": True, "layers": 3, "units": 128, "batch_norm": True, "learning_rate": 1e-3}]

    def build(self, hp: HyperParameters, data: NetData) -> keras.Model:
        """See `NetFamily.build`."""
        import keras

        inputs, x = data.keras_inputs(embedding=hp.Int("embedding", 2, 16, sampling="log", default=8))
        x = dense_blocks(hp, x, self.units)
        model = keras.Model(inputs, data.keras_head(x))
        model.compile(adamw(hp), loss=data.loss)
        return model


def _usual(fewest: int, most: int) -> int:
    """The size on the grid that is nearest to 256 from below.

    >>> _usual(32, 512), _usual(48, 2048), _usual(8, 64), _usual(300, 600)
    (256, 192, 64, 300)
    """
    return fewest << int(math.log2(max(min(256, most) / fewest, 1)))


def dense_blocks(hp: HyperParameters, x: keras.KerasTensor, sizes: tuple[int, int] = UNITS) -> keras.KerasTensor:
    """Equal blocks of Dense, (normalisation,) activation and dropout, each with a shortcut if `residual`."""
    import keras

    layers = hp.Int("layers", 1, 5, default=3)
    units = hp.Int("units", *sizes, step=2, sampling="log", default=_usual(*sizes))
    activation = hp.Choice("activation", ["relu", "selu", "silu"], default="silu")
    dropout = hp.Float("dropout", 0.0, 0.5, step=0.05, default=0.15)
    batch_norm = hp.Boolean("batch_norm", default=False)
    residual = hp.Boolean("residual", default=False)
    initializer = "lecun_normal" if activation == "selu" else "he_normal"
    if residual:
        x = keras.layers.Dense(units, kernel_initializer=initializer)(x)
    for _ in range(layers):
        block = keras.layers.BatchNormalization()(x) if batch_norm and residual else x
        block = keras.layers.Dense(units, kernel_initializer=initializer)(block)
        if batch_norm and not residual:
            block = keras.layers.BatchNormalization()(block)
        block = keras.layers.Activation(activation)(block)
        if dropout:
            block = keras.layers.Dropout(dropout)(block)
        x = keras.layers.Add()([x, block]) if residual else block
    return x


def adamw(hp: HyperParameters) -> keras.optimizers.Optimizer:
    """AdamW with the learning rate and the decoupled L2 decay searched (Loshchilov 2019)."""
    import keras

    return keras.optimizers.AdamW(
        hp.Float("learning_rate", 1e-4, 1e-2, sampling="log", default=1.5e-3),
        weight_decay=hp.Float("weight_decay", 1e-6, 1e-1, sampling="log", default=1e-2),
        clipnorm=1.0,
    )
