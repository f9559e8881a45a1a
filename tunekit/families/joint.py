"""A net with a branch for each input: pictures, sequences, texts and a table's columns together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunekit.families.mlp import adamw
from tunekit.families.nets import NetData, NetFamily, mean_of_words
from tunekit.space import HyperParameters

if TYPE_CHECKING:
    import keras

SMALLEST = 4
"""Pixels of a side, or steps, below which an input is not made smaller."""


class Joint(NetFamily):
    """Every input has a branch that suits it; what the branches find is joined, and dense layers decide.

    Pictures and sequences go through convolutions, each half as large and twice as deep as the one before; texts
    through embeddings, averaged or with convolutions; numbers and categories through a dense layer. Inputs of one
    shape, such as two pictures to be compared, may share their branch, a model that is used as a layer (Bromley 1993):
    its weights are the same for all of them, and their difference is joined too.

    Args:
        name: of the family.
    """

    epochs = 60
    patience = 9

    def __init__(self, name: str = "joint") -> None:
        self.name = name

    def portfolio(self, task: str, *, rows: int, temporal: bool) -> list[dict[str, Any]]:
        """Texts with convolutions; branches of their own for inputs of one shape."""
        del task, rows, temporal
        return [{"text_encoder": "conv", "shared": False}]

    def batch_size(self, hp: HyperParameters, data: NetData) -> int:
        """Rows per step."""
        return int(hp.Choice("batch_size", [32, 64, 128], default=64 if data.rows > 2000 else 32))

    def build(self, hp: HyperParameters, data: NetData) -> keras.Model:
        """See `NetFamily.build`."""
        import keras

        given, found = self._arrays(hp, data)
        for name in data.texts:
            given.append(data.keras_text(name))
            found.append(_text_branch(hp, data, given[-1], name))
        if data.has_columns:
            width = hp.Int("embedding", 2, 16, sampling="log", default=8)
            columns, x = data.keras_inputs(width, without=[*data.arrays, *data.texts])
            units = hp.Int("column_units", 16, 256, step=2, sampling="log", default=64)
            given += columns
            found.append(keras.layers.Dense(units, activation="relu")(x))
        x = keras.layers.Concatenate()(found) if len(found) > 1 else found[0]
        dropout = hp.Float("dropout", 0.0, 0.5, step=0.1, default=0.2)
        for _ in range(hp.Int("joint_layers", 0, 2, default=1)):
            x = keras.layers.Dense(hp.Int("joint_units", 32, 256, step=2, sampling="log", default=128), "relu")(x)
            x = keras.layers.Dropout(dropout)(x) if dropout else x
        model = keras.Model(given, data.keras_head(x))
        model.compile(adamw(hp), loss=data.loss)
        return model

    def _arrays(self, hp: HyperParameters, data: NetData) -> tuple[list[Any], list[Any]]:
        """The inputs of array columns, and what their branches make of them."""
        alike: dict[tuple[int, ...], list[str]] = {}
        for name, shape in data.arrays.items():
            alike.setdefault(shape, []).append(name)
        may_share = any(len(names) > 1 for names in alike.values())
        shared = hp.Boolean("shared", default=True) if may_share else False
        given, found = [], []
        for shape, names in alike.items():
            inputs = [data.keras_array(name) for name in names]
            branches = [_array_branch(hp, shape)] * len(names) if shared else [_array_branch(hp, shape) for _ in names]
            made = [branch(one) for branch, one in zip(branches, inputs, strict=True)]
            if shared and len(made) == 2:
                made.append(_distance(*made))
            given += inputs
            found += made
        return given, found


def _array_branch(hp: HyperParameters, shape: tuple[int, ...]) -> keras.Model:
    """A model from one array to a vector: convolutions along its axes but the last, or a dense layer without any."""
    import keras

    inputs = keras.Input(shape)
    filters = hp.Int("filters", 8, 64, step=2, sampling="log", default=32)
    x = inputs
    if len(shape) in (2, 3):
        layer = keras.layers.Conv2D if len(shape) == 3 else keras.layers.Conv1D
        stages = hp.Int("stages", 1, 4, default=3)
        side = min(shape[:-1])
        for stage in range(stages):
            x = layer(filters * 2**stage, 3, strides=2 if side // 2 >= SMALLEST else 1, padding="same")(x)
            x = keras.layers.Activation("relu")(keras.layers.BatchNormalization(momentum=0.9)(x))
            side = side // 2 if side // 2 >= SMALLEST else side
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(hp.Int("branch_units", 16, 128, step=2, sampling="log", default=64), activation="relu")(x)
    return keras.Model(inputs, x)


def _distance(one: Any, other: Any) -> Any:
    """How far two vectors are from each other, value by value."""
    import keras

    return keras.ops.abs(one - other)


def _text_branch(hp: HyperParameters, data: NetData, text: Any, name: str) -> Any:
    import keras

    width = hp.Int("word_embedding", 16, 128, step=2, sampling="log", default=64)
    embedded = data.embed_words(text, width, name=name)
    if hp.Choice("text_encoder", ["average", "conv"]) == "average":
        return mean_of_words(text, embedded)
    filters = hp.Int("text_filters", 32, 128, step=2, sampling="log", default=64)
    patterns = keras.layers.Conv1D(filters, 4, padding="same", activation="relu")(embedded)
    return keras.layers.GlobalMaxPooling1D()(patterns)
