"""Nets for texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.families.mlp import adamw
from tunekit.families.nets import NetData, NetFamily, mean_of_words
from tunekit.space import HyperParameters

if TYPE_CHECKING:
    import keras

READ = [100, 200, 400]
"""Words of a text that are read; of those that nets are given, the last ones."""

POOLED = 4
"""Words that a convolution before a recurrent layer makes one step of: the layer has as many steps fewer to take."""


class TextNet(NetFamily):
    """Embeddings of words, learnt or loaded, and what makes one vector of a text's.

    What that is, is searched: their mean (Joulin 2016, arXiv 1607.01759), convolutions with global max pooling (Kim
    2014, arXiv 1408.5882), or a GRU or LSTM: stacked, in both directions, after a convolution, or not. Where the data
    has numbers, categories or arrays too, they join before the last layer.

    Args:
        name: of the family.
        text: the input with the texts; the only text column if left out.
        vectors: a file of word vectors, a word and its numbers in each line, as GloVe and word2vec have it.
        frozen: whether these vectors stay as they are; searched if left out.
    """

    epochs = 60
    patience = 6

    def __init__(
        self,
        name: str = "textnet",
        text: str | None = None,
        vectors: str | Path | None = None,
        frozen: bool | None = None,
    ) -> None:
        self.name = name
        self.text = text
        self.vectors = None if vectors is None else Path(vectors)
        self.frozen = frozen

    def portfolio(self, task: str, *, rows: int, temporal: bool) -> list[dict[str, Any]]:
        """Convolutions, and a recurrent net after one."""
        del task, rows, temporal
        return [{"encoder": "conv"}, {"encoder": "gru", "conv_first": True}]

    def batch_size(self, hp: HyperParameters, data: NetData) -> int:
        """Rows per step."""
        return int(hp.Choice("batch_size", [32, 64, 128], default=32 if data.rows < 10_000 else 128))

    def build(self, hp: HyperParameters, data: NetData) -> keras.Model:
        """See `NetFamily.build`."""
        import keras

        text = data.keras_text(self.text)
        whole = [text.shape[1]] if text.shape[1] > max(READ) else []  # whoever says length= wants that much read
        read = min(hp.Choice("words", READ + whole, default=(whole or [200])[0]), text.shape[1])
        words = text[:, -read:] if read < text.shape[1] else text
        embedded = self._embedded(hp, data, words, text.name)
        x = _encoded(hp, words, embedded)
        given = [text]
        if data.has_columns or len(data.arrays) + len(data.texts) > 1:
            width = hp.Int("category_embedding", 2, 16, sampling="log", default=8)
            others, y = data.keras_inputs(width, without=[text.name])
            units = hp.Int("joint_units", 16, 256, step=2, sampling="log", default=64)
            x = keras.layers.Concatenate()([x, keras.layers.Dense(units, activation="relu")(y)])
            given += others
        if units := hp.Choice("units", [0, 32, 128], default=0):
            x = keras.layers.Dense(units, activation="relu")(x)
        if dropout := hp.Float("dropout", 0.0, 0.6, step=0.1, default=0.3):
            x = keras.layers.Dropout(dropout)(x)
        model = keras.Model(given, data.keras_head(x))
        model.compile(adamw(hp), loss=data.loss)
        return model

    def _embedded(self, hp: HyperParameters, data: NetData, words: Any, name: str) -> keras.KerasTensor:
        import keras

        if self.vectors is None:
            width, trainable = hp.Int("embedding", 16, 256, step=2, sampling="log", default=64), True
        else:
            width, trainable = 1, not (hp.Boolean("frozen", default=False) if self.frozen is None else self.frozen)
        embedded = data.embed_words(words, width, self.vectors, name=name, trainable=trainable)
        dropped = hp.Float("word_dropout", 0.0, 0.5, step=0.1, default=0.2)
        return keras.layers.SpatialDropout1D(dropped)(embedded) if dropped else embedded


def _encoded(hp: HyperParameters, words: Any, embedded: Any) -> keras.KerasTensor:
    """One vector a text, (batch, units)."""
    encoder = hp.Choice("encoder", ["average", "conv", "gru", "lstm"])
    if encoder == "average":
        return mean_of_words(words, embedded)
    return _convolved(hp, embedded) if encoder == "conv" else _recurrent(hp, encoder, embedded)


def _convolved(hp: HyperParameters, x: Any) -> keras.KerasTensor:
    """Convolutions over windows of several sizes, each pooled to where its pattern is found best."""
    import keras

    filters = hp.Int("filters", 32, 256, step=2, sampling="log", default=64)
    sizes = hp.Int("window_sizes", 1, 3, default=3)
    found = []
    for size in range(3, 3 + sizes):
        patterns = keras.layers.Conv1D(filters, size, padding="same", activation="relu")(x)
        found.append(keras.layers.GlobalMaxPooling1D()(patterns))
    return keras.layers.Concatenate()(found) if sizes > 1 else found[0]


def _recurrent(hp: HyperParameters, kind: str, x: Any) -> keras.KerasTensor:
    """Recurrent layers; texts are padded in front, so that the last step has read every word."""
    import keras

    layer = {"gru": keras.layers.GRU, "lstm": keras.layers.LSTM}[kind]
    units = hp.Int("recurrent_units", 16, 128, step=2, sampling="log", default=32)
    stacked = hp.Int("recurrent_layers", 1, 2, default=1)
    both = hp.Boolean("bidirectional", default=False)
    if hp.Boolean("conv_first", default=True):
        x = keras.layers.Conv1D(units, 5, padding="same", activation="relu")(x)
        x = keras.layers.MaxPooling1D(min(POOLED, x.shape[1]))(x)
    for place in range(stacked):
        one = layer(units, return_sequences=place < stacked - 1)
        x = (keras.layers.Bidirectional(one) if both else one)(x)
    return x
