"""Convolutional nets for pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunekit.families.mlp import adamw
from tunekit.families.nets import NetData, NetFamily
from tunekit.space import HyperParameters

if TYPE_CHECKING:
    import keras

SMALLEST = 4
"""Pixels of a side below which a picture is not made smaller."""


KERNEL = 3
"""Pixels of a side that a plain or separable convolution sees."""

SMALL = 64
"""Pixels of a side up to which the last maps are flattened rather than averaged: that learns in fewer epochs."""

MOMENTUM = 0.9
"""Of the moving averages in normalisation: Keras's 0.99 needs hundreds of steps, more than a short epoch has."""


class ConvNet(NetFamily):
    """Blocks of convolutions, twice as many filters where the picture is half as large; global pooling; a head.

    The kind of block is searched: plain (Simonyan 2015), residual (He 2016: a linear 1x1 where sizes differ), separable
    (Chollet 2017) or inception (Szegedy 2015); so are pooling or strides, normalisation, dropout, and how much pictures
    are shifted, turned and zoomed while training, which is part of the model and off when it predicts. Plain and
    separable blocks on pictures of more than 8 pixels may do without padding, as long as the map that is left has 4;
    the other blocks need maps of one size. Where the data has other columns too, a dense branch of theirs joins, with a
    layer for what both tell together.

    Args:
        name: of the family.
        image: the input with the pictures; the only array column if left out.
    """

    epochs = 60
    patience = 9

    def __init__(self, name: str = "convnet", image: str | None = None) -> None:
        self.name = name
        self.image = image

    def portfolio(self, task: str, *, rows: int, temporal: bool) -> list[dict[str, Any]]:
        """A residual net, and a plain one without augmentation."""
        del task, rows, temporal
        return [{"block": "residual", "filters": 16}, {"augment": 0.0, "dropout": 0.5}]

    def batch_size(self, hp: HyperParameters, data: NetData) -> int:
        """Rows per step."""
        return int(hp.Choice("batch_size", [32, 64, 128], default=64 if data.rows > 2000 else 32))

    def build(self, hp: HyperParameters, data: NetData) -> keras.Model:
        """See `NetFamily.build`."""
        import keras

        inputs = data.keras_array(self.image)
        side = min(inputs.shape[1:3])
        small = side <= SMALL
        x = augmented(inputs, hp.Float("augment", 0.0, 0.2, step=0.05, default=0.05))
        block = hp.Choice("block", ["plain", "residual", "separable", "inception"])
        filters = hp.Int("filters", 8, 64, step=2, sampling="log", default=32)
        stages = hp.Int("stages", 1, 4, default=3)
        depth = hp.Int("depth", 1, 3, default=1)
        strides = hp.Boolean("strides", default=True)
        norm = hp.Boolean("batch_norm", default=True)
        dropout = hp.Float("dropout", 0.0, 0.5, step=0.1, default=0.2)
        free = block in ("plain", "separable") and side > 2 * SMALLEST
        padded = not free or hp.Choice("padding", ["same", "valid"]) == "same"
        for stage in range(stages):
            for layer in range(depth):
                stride = 2 if strides and layer == depth - 1 and side // 2 >= SMALLEST else 1
                left = (side - KERNEL) // stride + 1
                padding = "same" if padded or left < SMALLEST else "valid"
                x = _block(block, x, filters * 2**stage, stride, norm, padding)
                side = side // stride if padding == "same" else left
            if not strides and side // 2 >= SMALLEST:
                x = keras.layers.MaxPooling2D()(x)
                side //= 2
        pooled = hp.Choice("head", ["average", "max", "flatten"], default="flatten" if small else "average")
        pooling = {
            "average": keras.layers.GlobalAveragePooling2D,
            "max": keras.layers.GlobalMaxPooling2D,
            "flatten": keras.layers.Flatten,
        }
        x = pooling[pooled]()(x)
        given = [inputs]
        if data.has_columns or len(data.arrays) + len(data.texts) > 1:
            width = hp.Int("embedding", 2, 16, sampling="log", default=8)
            others, y = data.keras_inputs(width, without=[inputs.name])
            units = hp.Int("joint_units", 16, 256, step=2, sampling="log", default=64)
            y = keras.layers.Dense(units, activation="relu")(y)
            x = keras.layers.Dense(units, activation="relu")(keras.layers.Concatenate()([x, y]))
            given += others
        if dropout:
            x = keras.layers.Dropout(dropout)(x)
        model = keras.Model(given, data.keras_head(x))
        model.compile(adamw(hp), loss=data.loss)
        return model


def augmented(x: keras.KerasTensor, amount: float) -> keras.KerasTensor:
    """Shifted, turned and zoomed at random, each by no more than a share of the picture (or of a full turn, halved)."""
    import keras

    if not amount:
        return x
    x = keras.layers.RandomTranslation(amount, amount, fill_mode="nearest")(x)
    x = keras.layers.RandomRotation(amount / 2, fill_mode="nearest")(x)
    return keras.layers.RandomZoom(amount, fill_mode="nearest")(x)


def _block(kind: str, x: keras.KerasTensor, filters: int, strides: int, norm: bool, padding: str) -> keras.KerasTensor:
    """A block; one that joins branches keeps its padding, as their maps must be of one size."""
    if kind == "residual":
        return _residual(x, filters, strides, norm)
    if kind == "inception":
        return _inception(x, filters, strides, norm)
    return {"plain": _plain, "separable": _separable}[kind](x, filters, strides, norm, padding)


def _normed(x: keras.KerasTensor, norm: bool, *, active: bool = True) -> keras.KerasTensor:
    import keras

    x = keras.layers.BatchNormalization(momentum=MOMENTUM)(x) if norm else x
    return keras.layers.Activation("relu")(x) if active else x


def _conv(
    x: keras.KerasTensor, filters: int, size: int, strides: int, norm: bool, padding: str = "same"
) -> keras.KerasTensor:
    """A convolution without a bias where normalisation has one."""
    import keras

    return keras.layers.Conv2D(
        filters, size, strides=strides, padding=padding, use_bias=not norm, kernel_initializer="he_normal"
    )(x)


def _plain(x: keras.KerasTensor, filters: int, strides: int, norm: bool, padding: str) -> keras.KerasTensor:
    return _normed(_conv(x, filters, KERNEL, strides, norm, padding), norm)


def _separable(x: keras.KerasTensor, filters: int, strides: int, norm: bool, padding: str) -> keras.KerasTensor:
    import keras

    layer = keras.layers.SeparableConv2D(filters, KERNEL, strides=strides, padding=padding, use_bias=not norm)
    return _normed(layer(x), norm)


def _residual(x: keras.KerasTensor, filters: int, strides: int, norm: bool) -> keras.KerasTensor:
    import keras

    straight = _normed(_conv(x, filters, 3, strides, norm), norm)
    straight = _normed(_conv(straight, filters, 3, 1, norm), norm, active=False)
    same = strides == 1 and x.shape[-1] == filters
    shortcut = x if same else _normed(_conv(x, filters, 1, strides, norm), norm, active=False)
    return keras.layers.Activation("relu")(keras.layers.Add()([straight, shortcut]))


def _inception(x: keras.KerasTensor, filters: int, strides: int, norm: bool) -> keras.KerasTensor:
    """Branches of 1x1, 3x3, 5x5 (as two 3x3) and pooling, side by side; a quarter of the filters each."""
    import keras

    quarter = max(filters // 4, 1)
    narrow = _normed(_conv(x, quarter, 1, 1, norm), norm)
    middle = _normed(_conv(narrow, quarter, 3, strides, norm), norm)
    wide = _normed(_conv(narrow, quarter, 3, 1, norm), norm)
    wide = _normed(_conv(wide, quarter, 3, strides, norm), norm)
    pooled = keras.layers.MaxPooling2D(3, strides=strides, padding="same")(x)
    pooled = _normed(_conv(pooled, quarter, 1, 1, norm), norm)
    straight = _normed(_conv(x, quarter, 1, strides, norm), norm)
    return keras.layers.Concatenate()([straight, middle, wide, pooled])
