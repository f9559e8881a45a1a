"""Wide & Deep learning: a linear model of category crosses and a deep net, trained jointly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, product
from math import gcd
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tunekit.families.mlp import adamw, dense_blocks
from tunekit.families.nets import NetData, NetFamily
from tunekit.space import HyperParameters

if TYPE_CHECKING:
    import keras

WIDE = "wide_categories"
"""The layer that holds the weights of categories and of their crosses."""

BUCKETS = 1000
"""A cross with more combinations than this shares buckets: its combinations are hashed by remainder."""


class WideDeep(NetFamily):
    """A linear part that memorises categories and their crosses, and a deep part that generalises from embeddings.

    Their outputs are added before the activation and trained together (Cheng 2016, arXiv 1606.07792). Crosses
    are all pairs among the columns with the most levels; how many columns is searched.
    """

    name = "wide_deep"
    chooses_target = True

    def portfolio(self, task: str, *, rows: int, temporal: bool) -> list[dict[str, Any]]:
        """For numbers, a wide part that follows those with a long tail as far out as they are, such as delays."""
        del rows, temporal
        return [{"wide_numbers": "plain"}] if task == "regression" else []

    def build(self, hp: HyperParameters, data: NetData) -> keras.Model:
        """See `NetFamily.build`."""
        import keras

        inputs, x = data.keras_inputs(embedding=hp.Int("embedding", 2, 16, sampling="log", default=8))
        named = {tensor.name: tensor for tensor in inputs}
        penalty = keras.regularizers.L2(hp.Float("wide_l2", 1e-7, 1e-3, sampling="log", default=1e-5))
        parts = [keras.layers.Dense(data.units, name="deep")(dense_blocks(hp, x))]
        if "numbers" in named:
            begin = "glorot_uniform"
            if hp.Choice("wide_numbers", ["clipped", "plain"]) == "plain":
                inputs.append(data.keras_plain())
                named["numbers"], begin = inputs[-1], "zeros"  # any other weight of a far number begins far off
            parts.append(
                keras.layers.Dense(
                    data.units,
                    use_bias=False,
                    kernel_initializer=begin,
                    kernel_regularizer=penalty,
                    name="wide_numbers",
                )(named["numbers"])
            )
        if "codes" in named:
            columns = hp.Int("crossed_columns", 0, 10, step=2, default=6)
            parts.append(wide_part(named["codes"], data, columns, penalty))
        total = keras.layers.Add()(parts) if len(parts) > 1 else parts[0]
        model = keras.Model(inputs, data.keras_activation(total))
        model.compile(adamw(hp), loss=data.loss)
        return model


def wide_part(codes: keras.KerasTensor, data: NetData, columns: int, penalty: object) -> keras.KerasTensor:
    """Sum of one weight per category and one per crossed pair of categories: shape (batch, units)."""
    import keras

    sizes = np.array(data.cardinalities)
    pairs, cross_sizes = crosses(sizes, columns)
    starts = np.cumsum([0, *sizes, *cross_sizes]).astype("int32")
    positions = codes + starts[: len(sizes)]
    if len(pairs):
        left = keras.ops.take(codes, pairs[:, 0].astype("int32"), axis=1)
        right = keras.ops.take(codes, pairs[:, 1].astype("int32"), axis=1)
        combined = left * _strides(sizes[pairs[:, 1]], cross_sizes).astype("int32") + right
        hashed = keras.ops.mod(combined, cross_sizes.astype("int32")) + starts[len(sizes) : -1]
        positions = keras.layers.Concatenate()([positions, hashed])
    table = keras.layers.Embedding(
        int(starts[-1]),
        data.units,
        embeddings_initializer="zeros",
        embeddings_regularizer=penalty,
        name=WIDE,
    )
    return keras.ops.sum(table(positions), axis=1)


def crosses(sizes: npt.NDArray[np.int64], columns: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The pairs of columns that are crossed, (crosses, 2), and how many weights each has.

    Args:
        sizes: codes of each category column.
        columns: so many of those with the most codes are crossed.
    """
    crossed = sorted(np.argsort(-sizes, kind="stable")[:columns])
    pairs = np.array(list(combinations(crossed, 2)), dtype=int).reshape(-1, 2)
    return pairs, np.minimum(sizes[pairs[:, 0]] * sizes[pairs[:, 1]], BUCKETS)


def wide_labels(codes: Mapping[str, Sequence[str]], rows: int) -> list[str]:
    """What the weights of a wide part stand for; nothing if it has another number of them.

    The buckets of a cross that has as many as there may be have no names: each may hold several combinations.

    Args:
        codes: names of the codes of each category column.
        rows: how many weights there are.
    """
    names, sizes = list(codes), np.array([len(one) for one in codes.values()], dtype=int)
    for columns in range(len(names) + 1):
        pairs, cross_sizes = crosses(sizes, columns)
        if sizes.sum() + cross_sizes.sum() == rows:
            break
    else:
        return []
    labels = [f"{name}: {code}" for name, own in codes.items() for code in own]
    for (left, right), size in zip(pairs, cross_sizes, strict=True):
        one, other = names[left], names[right]
        if size == BUCKETS:
            labels += [f"{one} x {other}: bucket {bucket}" for bucket in range(size)]
        else:
            both = product(codes[one], codes[other])
            labels += [f"{one}: {first}, {other}: {second}" for first, second in both]
    return labels


def _strides(sizes: Any, buckets: Any) -> Any:
    """What the left code of each cross is multiplied by: the right column's size, or the next that fits the buckets.

    If it had a factor in common with the number of buckets, some buckets would be shared by whole columns: a left code
    times 4,000, modulo 1,000, is always 0.
    """
    return np.array(
        [
            next(step for step in range(size, size + BUCKETS) if number < BUCKETS or gcd(step, BUCKETS) == 1)
            for size, number in zip(sizes.tolist(), buckets.tolist(), strict=True)
        ],
        dtype=int,
    )
