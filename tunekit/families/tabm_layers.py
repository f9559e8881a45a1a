"""The layers and the model of TabM (Gorishniy 2024, arXiv 2410.24210). It imports Keras: import it late.

Tensors of members are (batch, members, width); at the end they lie flat, (batch * members, outputs).
"""

from __future__ import annotations

from typing import Any

import keras


class MemberScale(keras.layers.Layer):  # type: ignore[misc]
    """Each member sees the features by factors of its own, which begin as random signs: what makes members differ.

    Args:
        members: how many.
    """

    def __init__(self, members: int, **more: object) -> None:
        super().__init__(**more)
        self.members = members

    def build(self, input_shape: tuple[int, ...]) -> None:
        """Factors (members, features)."""
        self.factors = self.add_weight(shape=(self.members, input_shape[-1]), initializer=_random_signs, name="factors")

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """(batch, features) to (batch, members, features)."""
        return keras.ops.expand_dims(x, 1) * self.factors

    def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(batch, members, features)."""
        return (input_shape[0], self.members, input_shape[-1])


class MemberDense(keras.layers.Layer):  # type: ignore[misc]
    """A dense layer that members share but for factors of its inputs and outputs, and its bias (BatchEnsemble).

    Args:
        units: of the output.
        adapters: whether members have factors of their own; else they share everything.
        scaled: whether the inputs are to be scaled; not, where a `MemberScale` stands before.
    """

    def __init__(self, units: int, *, adapters: bool = True, scaled: bool = True, **more: object) -> None:
        super().__init__(**more)
        self.units, self.adapters, self.scaled = units, adapters, scaled

    def build(self, input_shape: tuple[int, ...]) -> None:
        """A kernel for all members; factors that begin as ones."""
        members, width = input_shape[1:]
        near = keras.initializers.RandomUniform(-(width**-0.5), width**-0.5)
        own = (members,) if self.adapters else ()
        self.kernel = self.add_weight(shape=(width, self.units), initializer=near, name="kernel")
        bias = keras.ops.broadcast_to(near((self.units,)), (*own, self.units))  # members begin with the same one
        self.bias = self.add_weight(shape=(*own, self.units), initializer=lambda *_, **__: bias, name="bias")
        if self.adapters and self.scaled:
            self.inward = self.add_weight(shape=(members, width), initializer="ones", name="inward")
        if self.adapters:
            self.outward = self.add_weight(shape=(members, self.units), initializer="ones", name="outward")

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """(batch, members, width) to (batch, members, units)."""
        members, width = x.shape[1:]
        if self.adapters and self.scaled:
            x = x * self.inward
        made = keras.ops.matmul(keras.ops.reshape(x, (-1, width)), self.kernel)  # one large product
        made = keras.ops.reshape(made, (-1, members, self.units))
        return (made * self.outward if self.adapters else made) + self.bias

    def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(batch, members, units)."""
        return (*input_shape[:-1], self.units)


class MemberHeads(keras.layers.Layer):  # type: ignore[misc]
    """A linear head for each member, of its own; the outputs lie flat.

    Args:
        units: of each head.
    """

    def __init__(self, units: int, **more: object) -> None:
        super().__init__(**more)
        self.units = units

    def build(self, input_shape: tuple[int, ...]) -> None:
        """Kernels (members, width, units)."""
        members, width = input_shape[1:]
        near = keras.initializers.RandomUniform(-(width**-0.5), width**-0.5)
        self.kernel = self.add_weight(shape=(members, width, self.units), initializer=near, name="kernel")
        self.bias = self.add_weight(shape=(members, self.units), initializer=near, name="bias")

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """(batch, members, width) to (batch * members, units)."""
        by_member = keras.ops.matmul(keras.ops.transpose(x, (1, 0, 2)), self.kernel)
        return keras.ops.reshape(keras.ops.transpose(by_member, (1, 0, 2)) + self.bias, (-1, self.units))

    def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int | None, ...]:
        """(batch * members, units)."""
        return (None, self.units)


class MemberMean(keras.layers.Layer):  # type: ignore[misc]
    """The mean of the members' predictions.

    Args:
        members: how many.
    """

    def __init__(self, members: int, **more: object) -> None:
        super().__init__(**more)
        self.members = members

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """(batch * members, outputs) to (batch, outputs)."""
        return keras.ops.mean(keras.ops.reshape(x, (-1, self.members, x.shape[-1])), axis=1)

    def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int | None, ...]:
        """(batch, outputs)."""
        return (None, input_shape[-1])


class MembersModel(keras.Model):  # type: ignore[misc]
    """Predicts by the mean of its members, and trains each of them: the loss is the mean of theirs.

    Args:
        inputs: of the model.
        each: the members' predictions (batch * members, outputs), or a dict of such.
        members: how many.
    """

    def __init__(self, inputs: Any, each: Any, members: int) -> None:
        mean = MemberMean(members, name="mean")
        super().__init__(inputs=inputs, outputs=keras.tree.map_structure(mean, each))
        self.members = members
        self._hidden = _Hidden(keras.Model(inputs, each))

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """The members' predictions in training, flat; else their mean."""
        if training:
            return self._hidden.model(inputs, training=True)
        return super().call(inputs, training=training, mask=mask)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """The loss of the members, each with the targets of its rows; of the mean where it predicts."""
        if training:
            y, sample_weight = keras.tree.map_structure(self._repeated, (y, sample_weight))
        return super().compute_loss(x, y, y_pred, sample_weight, training=training)

    def _repeated(self, rows: Any) -> Any:
        return None if rows is None else keras.ops.repeat(rows, self.members, axis=0)


class _Hidden:
    """Keeps a model from being taken for a layer of another, whose layers it shares."""

    def __init__(self, model: keras.Model) -> None:
        self.model = model


def _random_signs(shape: tuple[int, ...], dtype: Any = None) -> Any:
    drawn = keras.random.uniform(shape, seed=keras.random.SeedGenerator())
    return keras.ops.cast(keras.ops.where(drawn < 0.5, -1.0, 1.0), dtype or "float32")
