"""What net families share, and what a factory sees of the data as its second argument."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tunekit.data.preparation import Preparation
from tunekit.errors import FactoryError
from tunekit.families.base import EpochReport, Family, Fitted, Fold
from tunekit.space import HyperParameters

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class NetData:
    """The shape of the data, for a factory `build(hp, data)`: no rows.

    Args:
        task: "binary", "multiclass" or "regression".
        outputs: units of the head: 1, or the number of classes for multiclass.
        numbers: width of the input "numbers": scaled numbers, then gap indicators.
        cardinalities: codes per column of the input "codes".
        features: width of the single input of a net that takes one matrix: numbers, then one-hot categories.
        rows: number of training rows.
        arrays: shape of each array column, such as (28, 28, 1), by the name of its input.
    """

    task: str
    outputs: int
    numbers: int
    cardinalities: tuple[int, ...]
    features: int
    rows: int
    arrays: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, fold: Fold) -> NetData:
        """The shape of a fold."""
        return cls.shaped(fold.preparation, fold.task, fold.outputs, fold.cardinalities, len(fold.train))

    @classmethod
    def shaped(
        cls, preparation: Preparation, task: str, outputs: int, cardinalities: tuple[int, ...], rows: int
    ) -> NetData:
        """The shape that a preparation gives to rows."""
        numbers = len(preparation.center) + len(preparation.gaps)
        arrays = {scale.name: scale.shape for scale in preparation.arrays}
        features = numbers + len(preparation.hot) + sum(math.prod(shape) for shape in arrays.values())
        return cls(task, outputs, numbers, cardinalities, features, rows, arrays)

    @property
    def loss(self) -> str:
        """The loss that fits the task and how the target is coded."""
        return {
            "binary": "binary_crossentropy",
            "multiclass": "sparse_categorical_crossentropy",
            "regression": "mean_squared_error",
        }[self.task]

    def keras_inputs(
        self, embedding: int = 8, *, arrays: bool = True
    ) -> tuple[list[keras.KerasTensor], keras.KerasTensor]:
        """One `Input` per prepared column group, and their concatenation.

        Args:
            embedding: width of each category column's learnt embedding.
            arrays: whether array columns are among them.

        Returns:
            The inputs "numbers", "codes" and array columns by name (only those that the data has), and a tensor (batch,
            width) in which arrays are flattened.
        """
        import keras

        inputs, parts = [], []
        if self.numbers:
            inputs.append(keras.Input((self.numbers,), name="numbers"))
            parts.append(inputs[-1])
        if self.cardinalities:
            inputs.append(keras.Input((len(self.cardinalities),), dtype="int32", name="codes"))
            parts.append(self.embed(inputs[-1], embedding))
        for name in self.arrays if arrays else ():
            inputs.append(self.keras_array(name))
            parts.append(keras.layers.Flatten()(inputs[-1]))
        return inputs, keras.layers.Concatenate()(parts) if len(parts) > 1 else parts[0]

    @property
    def has_columns(self) -> bool:
        """Whether there are numbers or categories beside arrays."""
        return bool(self.numbers or self.cardinalities)

    def keras_array(self, name: str | None = None) -> keras.KerasTensor:
        """The `Input` of an array column.

        Args:
            name: of the column; the only one that there is, if left out.

        Raises:
            FactoryError: there is no such column.
        """
        import keras

        if name is None and len(self.arrays) == 1:
            name = next(iter(self.arrays))
        if name not in self.arrays:
            told = ", ".join(map(repr, self.arrays)) or "none"
            raise FactoryError(f"the data has no array column {name!r}; expected the name of one of its own: {told}")
        return keras.Input(self.arrays[name], name=name)

    def embed(self, codes: keras.KerasTensor, width: int) -> keras.KerasTensor:
        """All category columns through one embedding table with a row per (column, code): one gather for all."""
        import keras

        offsets = np.concatenate([[0], np.cumsum(self.cardinalities)[:-1]]).astype("int32")
        scale = keras.initializers.RandomNormal(stddev=width**-0.5)
        table = keras.layers.Embedding(sum(self.cardinalities), width, embeddings_initializer=scale)
        return keras.layers.Reshape((len(self.cardinalities) * width,))(table(codes + offsets))

    def keras_head(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """The head that fits the task: one linear unit, one sigmoid unit, or a softmax over the classes."""
        import keras

        activation = {"binary": "sigmoid", "multiclass": "softmax", "regression": None}[self.task]
        return keras.layers.Dense(self.outputs, activation=activation, name="head")(x)


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

    def batch_size(self, hp: HyperParameters, data: NetData) -> int:
        """Rows per step; searched, around one that grows with the data."""
        default = min([32, 64, 128, 256, 512], key=lambda size: abs(size - data.rows / 30))
        sizes = [32, 64, 128, 256] if data.rows < 20_000 else [128, 256, 512, 1024]
        return int(hp.Choice("batch_size", sizes, default=min(sizes, key=lambda size: abs(size - default))))

    def callbacks(self) -> list[Any]:
        """Keras callbacks of the user's own, fresh for each fit."""
        return []

    def fit(self, hp: HyperParameters, fold: Fold, report: EpochReport) -> Fitted:
        """Nets are fitted by `tunekit.training.nets.fit_net`, which needs TensorFlow."""
        raise NotImplementedError("nets are fitted by tunekit.training.nets.fit_net")
