"""What net families share, and what a factory sees of the data as its second argument."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tunekit.bundle.tasks import ORDINAL
from tunekit.bundle.texts import PADDING
from tunekit.data.preparation import Preparation
from tunekit.data.targets import Target, places
from tunekit.data.terms import word_vectors
from tunekit.errors import FactoryError
from tunekit.families.base import EpochReport, Family, Fitted, Fold
from tunekit.families.deadline import Deadline
from tunekit.space import HyperParameters

if TYPE_CHECKING:
    import keras


LOSSES = {
    "binary": "binary_crossentropy",
    "multiclass": "sparse_categorical_crossentropy",
    "ordinal": "sparse_categorical_crossentropy",
    "regression": "mean_squared_error",
}

ACTIVATIONS = {"binary": "sigmoid", "multiclass": "softmax", "regression": "linear"}

TEXT_WIDTH = 32
"""Of the embeddings whose mean stands for a text among other columns."""


Draw = Callable[[], tuple[Any, Any]]
Encoder = Callable[["keras.KerasTensor"], "keras.KerasTensor"]


@dataclass(frozen=True)
class TextInput:
    """A text column as nets read it.

    Args:
        length: words of a text, after padding.
        numbers: how many different numbers its words have, padding and unknown ones included.
    """

    length: int
    numbers: int


@dataclass(frozen=True)
class NetData:
    """The shape of the data, for a factory `build(hp, data)`: no rows.

    Args:
        task: "binary", "multiclass", "ordinal", "regression" or "several".
        outputs: units of the head: 1, or the number of classes for multiclass; of several targets, all theirs.
        numbers: width of the input "numbers": scaled numbers, then gap indicators.
        gaps: how many of these are gap indicators.
        cardinalities: codes per column of the input "codes".
        features: width of the single input of a net that takes one matrix: numbers, then one-hot categories.
        rows: number of training rows.
        arrays: shape of each array column, such as (28, 28, 1), by the name of its input.
        texts: each text column by the name of its input.
        words: gives the words of each text column by its name, in the order of their numbers, from 1; empty where a
            trained net is rebuilt.
        targets: what they are, if there are several.
    """

    task: str
    outputs: int
    numbers: int
    cardinalities: tuple[int, ...]
    features: int
    rows: int
    arrays: dict[str, tuple[int, ...]] = field(default_factory=dict)
    texts: dict[str, TextInput] = field(default_factory=dict)
    words: Callable[[], Mapping[str, Sequence[str]]] = field(default=dict, compare=False)
    targets: tuple[Target, ...] = ()
    gaps: int = 0

    @classmethod
    def of(cls, fold: Fold) -> NetData:
        """The shape of a fold."""
        data = cls.shaped(fold.preparation, fold.task, fold.outputs, fold.cardinalities, len(fold.train))
        return replace(data, words=fold.words, targets=fold.targets)

    @classmethod
    def shaped(
        cls, preparation: Preparation, task: str, outputs: int, cardinalities: tuple[int, ...], rows: int
    ) -> NetData:
        """The shape that a preparation gives to rows."""
        numbers = len(preparation.center) + len(preparation.gaps)
        arrays = {scale.name: scale.shape for scale in preparation.arrays}
        features = numbers + len(preparation.hot) + sum(math.prod(shape) for shape in arrays.values())
        texts = {terms.name: TextInput(terms.length, len(terms.lookup)) for terms in preparation.texts}
        gaps = len(preparation.gaps)
        return cls(task, outputs, numbers, cardinalities, features, rows, arrays, texts, gaps=gaps)

    @property
    def loss(self) -> str | dict[str, str]:
        """The loss that fits the task and how the target is coded; of several targets, one for each by its name."""
        if self.targets:
            return {target.name: LOSSES[target.task] for target in self.targets}
        return LOSSES[self.task]

    def keras_inputs(
        self,
        embedding: int = 8,
        *,
        without: Collection[str] = (),
        numbers: Encoder | None = None,
        codes: Encoder | None = None,
    ) -> tuple[list[keras.KerasTensor], keras.KerasTensor]:
        """One `Input` per prepared column group, and their concatenation.

        Args:
            embedding: width of each category column's learnt embedding.
            without: names of array and text columns to leave out.
            numbers: what to make of the input "numbers", (batch, width); it is taken as it is, if left out.
            codes: what to make of the input "codes", (batch, width); it is embedded, if left out.

        Returns:
            The inputs "numbers", "codes", array and text columns by name (only those that the data has), and a tensor
            (batch, width) in which arrays are flattened and texts are the mean of their words' embeddings.
        """
        import keras

        inputs, parts = [], []
        if self.numbers:
            inputs.append(keras.Input((self.numbers,), name="numbers"))
            parts.append(inputs[-1] if numbers is None else numbers(inputs[-1]))
        if self.cardinalities:
            inputs.append(keras.Input((len(self.cardinalities),), dtype="int32", name="codes"))
            parts.append(self.embed(inputs[-1], embedding) if codes is None else codes(inputs[-1]))
        for name in [name for name in self.arrays if name not in without]:
            inputs.append(self.keras_array(name))
            parts.append(keras.layers.Flatten()(inputs[-1]))
        for name in [name for name in self.texts if name not in without]:
            inputs.append(self.keras_text(name))
            parts.append(mean_of_words(inputs[-1], self.embed_words(inputs[-1], TEXT_WIDTH, name=name)))
        return inputs, keras.layers.Concatenate()(parts) if len(parts) > 1 else parts[0]

    def keras_plain(self) -> keras.KerasTensor:
        """The `Input` of numbers as far out as they are, for what is linear in them: those of "numbers" are bounded."""
        import keras

        return keras.Input((self.numbers,), name="plain")

    @property
    def has_columns(self) -> bool:
        """Whether there are numbers or categories beside arrays and texts."""
        return bool(self.numbers or self.cardinalities)

    def keras_array(self, name: str | None = None) -> keras.KerasTensor:
        """The `Input` of an array column.

        Args:
            name: of the column; the only one that there is, if left out.

        Raises:
            FactoryError: there is no such column.
        """
        import keras

        name = self.array_name(name)
        return keras.Input(self.arrays[name], name=name)

    def array_name(self, name: str | None = None) -> str:
        """The name of an array column; see `keras_array`."""
        return _named(name, self.arrays, "array")

    def keras_text(self, name: str | None = None) -> keras.KerasTensor:
        """The `Input` of a text column: int32 (batch, length), 0 before a short text; see `embed_words`.

        Args:
            name: of the column; the only one that there is, if left out.

        Raises:
            FactoryError: there is no such column.
        """
        import keras

        name = _named(name, self.texts, "text")
        return keras.Input((self.texts[name].length,), dtype="int32", name=name)

    def embed_words(
        self,
        text: keras.KerasTensor,
        width: int,
        vectors: str | Path | None = None,
        *,
        name: str | None = None,
        trainable: bool = True,
    ) -> keras.KerasTensor:
        """Each word's embedding: (batch, length, width).

        Args:
            text: as `keras_text` makes it, or a part of its words.
            width: of the embedding; with `vectors`, theirs.
            vectors: a file of word vectors in the format of GloVe or word2vec's texts: a word and its numbers in each
                line. Words that it lacks begin at random.
            name: of the text column; the only one that there is, if left out.
            trainable: whether the embedding is learnt (further).

        Raises:
            DataError: the file can't be read.
        """
        import keras

        name = _named(name, self.texts, "text")
        rows = self.texts[name].numbers
        initial: Any = keras.initializers.RandomNormal(stddev=width**-0.5)
        if vectors is not None:
            words = self.words().get(name, ())
            table = word_vectors(Path(vectors), words, rows)
            width, initial = table.shape[1], keras.initializers.Constant(table)
        return keras.layers.Embedding(rows, width, embeddings_initializer=initial, trainable=trainable)(text)

    def embed(self, codes: keras.KerasTensor, width: int) -> keras.KerasTensor:
        """All category columns through one embedding table with a row per (column, code): one gather for all."""
        import keras

        offsets = np.concatenate([[0], np.cumsum(self.cardinalities)[:-1]]).astype("int32")
        scale = keras.initializers.RandomNormal(stddev=width**-0.5)
        table = keras.layers.Embedding(sum(self.cardinalities), width, embeddings_initializer=scale)
        return keras.layers.Reshape((len(self.cardinalities) * width,))(table(codes + offsets))

    def keras_head(self, x: keras.KerasTensor) -> Any:
        """The head that fits the task: one linear unit, one sigmoid unit, or a softmax over the classes.

        Of classes in an order, one unit that thresholds cut into classes: see `tunekit.families.ordered`. Of several
        targets, a dict with the head of each by its name, as `keras.Model` takes it for its outputs.
        """
        import keras

        if self.targets or self.task == ORDINAL:
            return self.keras_activation(keras.layers.Dense(self.units, name="heads")(x))
        return keras.layers.Dense(self.outputs, activation=ACTIVATIONS[self.task], name="head")(x)

    @property
    def units(self) -> int:
        """Raw outputs that a head makes its predictions of."""
        return 1 if self.task == ORDINAL else self.outputs

    def keras_activation(self, raw: keras.KerasTensor) -> Any:
        """What a head makes of its raw outputs, (batch, units); of several targets, a dict by their names."""
        import keras

        if self.task == ORDINAL:
            from tunekit.families.ordered import Ordered

            return Ordered(self.outputs, name="head")(raw)
        if not self.targets:
            return keras.layers.Activation(ACTIVATIONS[self.task], name="head")(raw)
        return {
            target.name: keras.layers.Activation(ACTIVATIONS[target.task], name=f"head_{column}")(raw[:, outputs])
            for column, target, outputs in places(self.targets)
        }


def mean_of_words(text: keras.KerasTensor, embedded: keras.KerasTensor) -> keras.KerasTensor:
    """The mean of a text's word embeddings, (batch, width); zeros for a text without words."""
    import keras

    known = keras.ops.cast(keras.ops.not_equal(text, PADDING), "float32")
    total = keras.ops.sum(embedded * keras.ops.expand_dims(known, -1), axis=1)
    return total / keras.ops.maximum(keras.ops.sum(known, axis=1, keepdims=True), 1.0)


def _named(name: str | None, there: Mapping[str, Any], kind: str) -> str:
    if name is None and len(there) == 1:
        return next(iter(there))
    if name is None or name not in there:
        told = ", ".join(map(repr, there)) or "none"
        if name is None and there:
            raise FactoryError(f"the data has several {kind} columns; expected the name of one of them: {told}")
        named = "" if name is None else f" {name!r}"
        raise FactoryError(f"the data has no {kind} column{named}; expected the name of one of its own: {told}")
    return name


def plateau(patience: int) -> list[Any]:
    """Callbacks that halve the rate after a third of the patience, end the training after it, and keep the best epoch.

    Args:
        patience: epochs without a better validation loss.
    """
    import keras

    return [
        keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=max(patience // 3, 1)),
        keras.callbacks.EarlyStopping("val_loss", patience=patience, restore_best_weights=True),
    ]


class NetFamily(Family):
    """A family of Keras models: it builds, `training` fits.

    Attributes:
        epochs: at most this many; early stopping usually ends sooner.
        patience: epochs without a better validation loss before training ends. The learning rate is halved after a
            third of it.
    """

    needs_tensorflow = True
    epochs: int = 200
    patience: int = 18

    @abstractmethod
    def build(self, hp: HyperParameters, data: NetData) -> keras.Model:
        """A compiled model."""

    def layout(self, data: NetData) -> str | None:
        """The layout of `Preparation` that its nets read; None where their inputs tell."""
        del data
        return None

    def batch_size(self, hp: HyperParameters, data: NetData) -> int:
        """Rows per step; searched, around one that grows with the data."""
        default = min([32, 64, 128, 256, 512], key=lambda size: abs(size - data.rows / 30))
        sizes = [32, 64, 128, 256] if data.rows < 20_000 else [128, 256, 512, 1024]
        return int(hp.Choice("batch_size", sizes, default=min(sizes, key=lambda size: abs(size - default))))

    def callbacks(self) -> list[Any]:
        """Keras callbacks of the user's own, fresh for each fit."""
        return []

    def steering(self, deadline: Deadline) -> list[Any]:
        """Keras callbacks that move the learning rate, end the training and keep the best epoch's weights.

        Args:
            deadline: of the training, which ends then in any case.
        """
        del deadline
        return plateau(self.patience)

    def retracing(self, rates: Sequence[float]) -> list[Any]:
        """Keras callbacks that move the learning rate as in an earlier training, for one that no rows judge.

        Args:
            rates: of each epoch of that one.
        """
        import keras

        return [keras.callbacks.LearningRateScheduler(lambda epoch: rates[min(epoch, len(rates) - 1)])]

    def initialise(self, model: keras.Model, draw: Draw, seed: int) -> None:
        """Set what begins with values that depend on rows; nothing, if not said otherwise.

        Args:
            model: as `build` made it.
            draw: gives some training rows as the model takes them, and all training targets as the loss takes them.
            seed: of what is drawn.
        """

    def fit(self, hp: HyperParameters, fold: Fold, report: EpochReport) -> Fitted:
        """Nets are fitted by `tunekit.training.nets.fit_net`, which needs TensorFlow."""
        raise NotImplementedError("nets are fitted by tunekit.training.nets.fit_net")
