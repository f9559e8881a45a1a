"""Rows dealt into parts in which every label keeps its share: iterative stratification.

Sechidis, Tsoumakas and Vlahavas 2011, "On the Stratification of Multi-Label Data": the rarest label first, each row to
the part that still wants most rows of that label. All rows of a label are dealt at once here, which is the same but for
ties, and no part gets more rows than its share: 100,000 rows of 50 labels take a fifth of a second.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tunekit.data.dataset import Dataset
from tunekit.data.folds import Rows
from tunekit.data.targets import places

Labels = npt.NDArray[np.bool_]


def labels_of(data: Dataset, rows: Rows) -> Labels | None:
    """(n, labels): which rows have the rarer class of each target of two classes, and each class of one of more.

    None where no target of several has classes.
    """
    found = []
    for column, target, _ in places(data.targets):
        if target.classes:
            has = data.target[rows, column, None] == np.arange(len(target.classes))
            found.append(has[:, [has.sum(axis=0).argmin()]] if target.task == "binary" else has)
    return np.concatenate(found, axis=1) if found else None


def dealt(labels: Labels, shares: Sequence[float], random: np.random.Generator) -> npt.NDArray[np.int64]:
    """(n,): the part that each row is dealt to.

    Args:
        labels: (n, labels), which rows have them.
        shares: of the rows, by part; they sum to 1.
        random: decides between rows that are alike.
    """
    part = np.full(len(labels), -1, dtype=np.int64)
    ends = np.round(len(labels) * np.cumsum(shares)).astype(np.int64)
    room = ends - np.concatenate([[0], ends[:-1]])
    left = labels.sum(axis=0)
    wanted = np.outer(shares, left)
    while left.any():
        label = int(np.where(left > 0, left, len(labels) + 1).argmin())
        rows = random.permutation(np.flatnonzero(labels[:, label] & (part < 0)))
        part[rows] = _most_wanted(wanted[:, label], room, len(rows), random)
        for number in range(len(shares)):
            taken = rows[part[rows] == number]
            here = labels[taken].sum(axis=0)
            wanted[number] -= here
            left -= here
            room[number] -= len(taken)
    part[part < 0] = random.permutation(np.repeat(np.arange(len(shares)), room))
    return part


def _most_wanted(
    wanted: npt.NDArray[np.float64], room: npt.NDArray[np.int64], count: int, random: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Parts for so many rows, one by one that which then wants most of them; among equals, that with the most room."""
    most = np.minimum(room, count)
    part = np.repeat(np.arange(len(room)), most)
    given = np.concatenate([np.arange(one) for one in most])  # rows that the part has got before
    order = np.lexsort((random.random(len(part)), given - room[part], given - wanted[part]))
    return part[order[:count]]
