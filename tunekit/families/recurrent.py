"""Nets for sequences: recurrent ones, and the dense and convolutional ones that they must beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunekit.families.mlp import adamw
from tunekit.families.nets import NetData, NetFamily
from tunekit.space import HyperParameters

if TYPE_CHECKING:
    import keras

KERNEL = 5
"""Steps that a convolution sees."""

SHORTEST = 2 * KERNEL
"""Steps below which a convolution does not halve a sequence."""

RECURRENT = ("gru", "lstm", "simple_rnn")


class Recurrent(NetFamily):
    """A sequence becomes a vector, then a prediction.

    How it does is searched: by GRU (Cho 2014), LSTM (Hochreiter 1997) or simple recurrent layers, stacked, forwards or
    both ways, after convolutions that halve the steps; or by convolutions or dense layers alone, which are cheaper and
    often as good. Dropout and recurrent dropout drop the same units at every step (Gal 2016, arXiv 1512.05287). A
    linear shortcut from the sequence to the prediction (as in LSTNet, Lai 2018, arXiv 1703.07015) leaves to the net
    what is not linear. A sequence may be read relative to its last step, so that its level, which may never have
    occurred while training, matters less. Where the data has numbers or categories too, such as a calendar, they join
    the vector.

    Args:
        name: of the family.
        array: the input with the sequences, (steps, channels); the only array column if left out.
    """

    epochs = 40
    patience = 6

    def __init__(self, name: str = "recurrent", array: str | None = None) -> None:
        self.name = name
        self.array = array

    def portfolio(self, task: str, *, rows: int, temporal: bool) -> list[dict[str, Any]]:
        """An LSTM, convolutions alone, and dense layers alone."""
        del task, rows, temporal
        return [{"encoder": "lstm"}, {"encoder": "conv1d"}, {"encoder": "dense"}]

    def batch_size(self, hp: HyperParameters, data: NetData) -> int:
        """Rows per step: many, as the windows of a series hold much the same."""
        return int(hp.Choice("batch_size", [64, 128, 256], default=256 if data.rows > 5000 else 64))

    def build(self, hp: HyperParameters, data: NetData) -> keras.Model:
        """See `NetFamily.build`."""
        import keras

        inputs = data.keras_array(self.array)
        steps = inputs
        if hp.Boolean("relative", default=True):
            steps = keras.layers.Subtract()([inputs, inputs[:, -1:, :]])
        encoder = hp.Choice("encoder", [*RECURRENT, "conv1d", "dense"])
        units = hp.Int("units", 16, 128, step=2, sampling="log", default=32)
        layers = hp.Int("layers", 1, 3, default=1)
        dropout = hp.Float("dropout", 0.0, 0.6, step=0.1, default=0.5)
        if encoder == "dense":
            x = _dense(steps, units, layers, dropout)
        elif encoder == "conv1d":
            x = _convolved(steps, units, layers + 1, dropout)
            x = keras.layers.Flatten()(x) if hp.Boolean("flatten", default=True) else _averaged(x)
        else:
            x = _convolved(steps, units, hp.Int("convolutions", 0, 2, default=1), dropout)
            again = hp.Float("recurrent_dropout", 0.0, 0.5, step=0.1, default=0.0)
            both = hp.Boolean("bidirectional", default=False)
            x = _recurrent(x, encoder, units, layers, dropout, again, both=both)
        given, parts = [inputs], [x]
        if data.has_columns or len(data.arrays) + len(data.texts) > 1:
            width = hp.Int("embedding", 2, 16, sampling="log", default=4)
            others, y = data.keras_inputs(width, without=[inputs.name])
            given, parts = [*given, *others], [*parts, y]
        x = keras.layers.Concatenate()(parts) if len(parts) > 1 else x
        x = keras.layers.Dense(units, activation="relu")(x)
        x = keras.layers.Dropout(dropout)(x) if dropout else x
        if hp.Boolean("shortcut", default=False):
            x = keras.layers.Concatenate()([x, keras.layers.Flatten()(steps), *parts[1:]])
        model = keras.Model(given, data.keras_head(x))
        model.compile(adamw(hp), loss=data.loss)
        return model


def _dense(x: keras.KerasTensor, units: int, layers: int, dropout: float) -> keras.KerasTensor:
    import keras

    x = keras.layers.Flatten()(x)
    for _ in range(layers):
        x = keras.layers.Dense(units, activation="relu")(x)
        x = keras.layers.Dropout(dropout)(x) if dropout else x
    return x


def _convolved(x: keras.KerasTensor, filters: int, layers: int, dropout: float) -> keras.KerasTensor:
    """Convolutions, each of which halves the steps where enough are left."""
    import keras

    for _ in range(layers):
        strides = 2 if x.shape[1] >= SHORTEST else 1
        x = keras.layers.Conv1D(filters, KERNEL, strides=strides, padding="same", activation="relu")(x)
        x = keras.layers.SpatialDropout1D(dropout)(x) if dropout else x
    return x


def _averaged(x: keras.KerasTensor) -> keras.KerasTensor:
    import keras

    return keras.layers.GlobalAveragePooling1D()(x)


def _recurrent(
    x: keras.KerasTensor, kind: str, units: int, layers: int, dropout: float, again: float, *, both: bool
) -> keras.KerasTensor:
    """Recurrent layers; all but the last return their output at every step."""
    import keras

    layer = {"gru": keras.layers.GRU, "lstm": keras.layers.LSTM, "simple_rnn": keras.layers.SimpleRNN}[kind]
    for number in range(layers):
        last = number == layers - 1
        one = layer(units, return_sequences=not last, dropout=dropout, recurrent_dropout=again)
        x = keras.layers.Bidirectional(one)(x) if both else one(x)
    return x
