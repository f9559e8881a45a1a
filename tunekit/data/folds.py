"""What a split decides: which rows train and which judge, fold by fold, and the halves of those that judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunekit.data.dataset import Dataset

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Folds:
    """Row positions.

    Args:
        test: for the final judgement.
        pairs: (training, validation) over the other rows.
        repeats: how many times the folds were drawn anew; the pairs of one draw follow those of the one before.
    """

    test: Rows
    pairs: tuple[tuple[Rows, Rows], ...]
    repeats: int = 1

    @property
    def covered(self) -> Rows:
        """The rows that judge, in the order of the pairs of the first draw; other draws cover the same."""
        return np.concatenate([valid for _, valid in self.pairs[: self.drawn_once]])

    @property
    def drawn_once(self) -> int:
        """How many pairs each draw has."""
        return len(self) // self.repeats

    def out_of_fold(self, predictions: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        """Predictions of the validation rows of each pair as those of `covered`: the mean over the draws."""
        if self.repeats == 1:
            return np.concatenate(predictions)
        place = np.empty(int(self.covered.max()) + 1, dtype=np.int64)
        place[self.covered] = np.arange(len(self.covered))
        total = np.zeros((len(self.covered), *predictions[0].shape[1:]))
        for (_, valid), found in zip(self.pairs, predictions, strict=True):
            total[place[valid]] += found
        return total / self.repeats

    @property
    def development(self) -> Rows:
        """All rows that are not test rows, in order."""
        return np.unique(np.concatenate([rows for pair in self.pairs for rows in pair]))

    def __len__(self) -> int:
        return len(self.pairs)


def halves(data: Dataset, rows: Rows, seed: int) -> tuple[Rows, Rows]:
    """Divide rows that judge: what is decided on one half, such as how long to train, predicts the other.

    Of temporal rows one half is the earlier one; groups stay together.

    Args:
        data: the data set.
        rows: positions in it.
        seed: of the draw.

    Returns:
        Positions in `rows`.
    """
    random = np.random.default_rng(seed)
    first = np.zeros(len(rows), dtype=bool)
    if data.time is not None:
        first[np.argsort(data.time[rows], kind="stable")[: len(rows) // 2]] = True
    elif data.group is not None:
        _, group, sizes = np.unique(data.group[rows], return_inverse=True, return_counts=True)
        order = random.permutation(len(sizes))
        before = np.cumsum(sizes[order]) - sizes[order]
        first = np.isin(group, order[before < len(rows) // 2])
    else:
        first[random.permutation(len(rows))[: len(rows) // 2]] = True
    return np.flatnonzero(first), np.flatnonzero(~first)
