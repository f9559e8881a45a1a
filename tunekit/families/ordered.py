"""The head of nets for classes in an order. It imports Keras: import it late."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable("tunekit")
class Ordered(keras.layers.Layer):  # type: ignore[misc]
    """Probabilities of ordered classes from one score: proportional odds (McCullagh 1980).

    Thresholds cut the line of scores into the classes' parts; they are learnt, and stay in order.

    Args:
        classes: how many, at least 3.
    """

    def __init__(self, classes: int, **more: object) -> None:
        super().__init__(**more)
        self.classes = classes

    def build(self, input_shape: tuple[int, ...]) -> None:
        """Thresholds one apart, around zero."""
        del input_shape
        lowest = keras.initializers.Constant(1.0 - self.classes / 2)
        one_apart = keras.initializers.Constant(0.5413)  # softplus of it is 1
        self.lowest = self.add_weight(shape=(1,), initializer=lowest, name="lowest")
        self.gaps = self.add_weight(shape=(self.classes - 2,), initializer=one_apart, name="gaps")

    def call(self, score: keras.KerasTensor) -> keras.KerasTensor:
        """(batch, 1) to (batch, classes)."""
        higher = self.lowest + keras.ops.cumsum(keras.ops.softplus(self.gaps))
        thresholds = keras.ops.concatenate([self.lowest, higher])
        below = keras.ops.sigmoid(thresholds - score)
        ends = keras.ops.zeros_like(below[:, :1]), keras.ops.ones_like(below[:, :1])
        cumulative = keras.ops.concatenate([ends[0], below, ends[1]], axis=1)
        return cumulative[:, 1:] - cumulative[:, :-1]

    def get_config(self) -> dict[str, object]:
        """What it was made with."""
        return {**super().get_config(), "classes": self.classes}

    def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(batch, classes)."""
        return (*input_shape[:-1], self.classes)
