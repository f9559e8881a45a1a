"""What is learnt from training rows only, and applied to any row.

One `Preparation` a fold. It offers the same rows in the layouts that the families read:

=========  =====================================================================================================
layout     arrays
=========  =====================================================================================================
columns    {"numbers": float32 (n, D + M), "codes": int32 (n, C)}: scaled numbers, M gap indicators, codes
flat       float32 (n, D + M + H): the numbers as above, then one 0/1 column for each known (column, code) pair
ordinal    float32 (n, D + M + C): the numbers as above, then the codes as numbers
native     float32 (n, D + C): unscaled numbers and codes, NaN where missing or unseen
=========  =====================================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from tunekit.data.schema import MISSING, Encoded

LAYOUTS = ("columns", "flat", "ordinal", "native")

RARE = 2
"""A level in fewer training rows than this shares the code of unseen levels, so that this code is trained too."""

MOST_HOT = 256
"""So many levels of a column at most get a 0/1 column each: thousands would not fit into memory."""

CLIP = 3.0
"""Scaled numbers approach this bound smoothly, x / sqrt(1 + (x / CLIP)^2): RealMLP, arXiv 2407.04491."""


@dataclass(frozen=True)
class Preparation:
    """Scales and vocabularies of one fold's training rows.

    Args:
        center: (D,) medians of the training rows; 0 for a column without numbers.
        factor: (D,) 1 / interquartile range; 2 / range where that is 0; 0 for a constant column.
        gaps: (M,) positions in `numbers` of the columns with missing values in training rows.
        offsets: (C,) where each category column starts in `lookup`.
        lookup: (sum of cardinalities,) the code that stands for each code: itself if known, else unseen.
        hot: (H, 2) the (column, code) pairs that layout "flat" has a 0/1 column for: the known codes, of a column with
            more than `MOST_HOT` the most frequent ones.
        target_center: mean of the training target; 0 unless regression.
        target_scale: standard deviation of the training target; 1 unless regression.
    """

    center: npt.NDArray[np.float64]
    factor: npt.NDArray[np.float64]
    gaps: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    lookup: npt.NDArray[np.int32]
    hot: npt.NDArray[np.int64]
    target_center: float
    target_scale: float

    @classmethod
    def fit(
        cls, rows: Encoded, cardinalities: tuple[int, ...], target: npt.NDArray[np.float64] | None = None
    ) -> Preparation:
        """Learn from training rows.

        Args:
            rows: the training rows, and no others.
            cardinalities: codes per category column, as `Schema.cardinalities`.
            target: float (n,) for regression, where nets train on the standardised target; None otherwise.
        """
        center, factor = _scales(rows.numbers)
        spread = 0.0 if target is None else float(np.std(target))
        counts = [np.bincount(rows.codes[:, column], minlength=size) for column, size in enumerate(cardinalities)]
        return cls(
            center=center,
            factor=factor,
            gaps=np.flatnonzero(np.isnan(rows.numbers).any(axis=0)).astype(np.int64),
            offsets=np.concatenate([[0], np.cumsum(cardinalities)[:-1]]).astype(np.int64)[: len(cardinalities)],
            lookup=_lookup(counts),
            hot=_hot(counts),
            target_center=0.0 if target is None else float(np.mean(target)),
            target_scale=spread if spread > 0 else 1.0,
        )

    def apply(self, rows: Encoded, layout: str) -> dict[str, npt.NDArray[Any]]:
        """The rows in a layout, as named arrays; all layouts but "columns" have one array, named "features"."""
        if layout == "native":
            return {"features": self._native(rows)}
        numbers = self._numbers(rows.numbers)
        codes = self.lookup[rows.codes + self.offsets] if len(self.offsets) else rows.codes
        if layout == "columns":
            return {"numbers": numbers, "codes": codes}
        if layout == "ordinal":
            return {"features": np.concatenate([numbers, codes.astype(np.float32)], axis=1)}
        if layout == "flat":
            pairs = self.hot
            hot = (codes[:, pairs[:, 0]] == pairs[:, 1]).astype(np.float32)
            return {"features": np.concatenate([numbers, hot], axis=1)}
        raise ValueError(f"layout {layout!r} is unknown; expected one of {', '.join(LAYOUTS)}")

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The fields as arrays, for `numpy.savez`."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Any) -> Preparation:
        """The inverse of `to_arrays`; also reads what `numpy.load` returns."""
        values = {field.name: arrays[field.name] for field in fields(cls)}
        for name in ("target_center", "target_scale"):
            values[name] = float(values[name])
        return cls(**values)

    def _numbers(self, numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        scaled = (numbers - self.center) * self.factor
        clipped = scaled / np.sqrt(1.0 + (scaled / CLIP) ** 2)
        filled = np.where(np.isnan(clipped), 0.0, clipped)
        return np.concatenate([filled, np.isnan(numbers[:, self.gaps])], axis=1).astype(np.float32)

    def _native(self, rows: Encoded) -> npt.NDArray[np.float32]:
        codes = np.asarray(rows.codes, dtype=np.float32)
        if len(self.offsets):
            nothing = (self.lookup[rows.codes + self.offsets] == self._unseens()) | (rows.codes == MISSING)
            codes = np.where(nothing, np.float32(np.nan), codes)
        return np.concatenate([rows.numbers.astype(np.float32), codes], axis=1)

    def _ends(self) -> npt.NDArray[np.int64]:
        return np.append(self.offsets, len(self.lookup))[1:]

    def _unseens(self) -> npt.NDArray[np.int64]:
        return self._ends() - self.offsets - 1


def _scales(numbers: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    center = np.zeros(numbers.shape[1])
    factor = np.zeros(numbers.shape[1])
    for position in range(numbers.shape[1]):
        present = numbers[~np.isnan(numbers[:, position]), position]
        if not len(present):
            continue
        low, center[position], high = np.percentile(present, [25, 50, 75])
        width = float(present.max() - present.min())
        if high > low:
            factor[position] = 1.0 / (high - low)
        elif width > 0:
            factor[position] = 2.0 / width
    return center, factor


def _known(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which codes of a column stand for themselves: levels that are not rare, and missing if it occurs at all."""
    known = counts >= RARE
    known[MISSING] = counts[MISSING] > 0
    known[-1] = False
    return known


def _lookup(counts: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.int32]:
    tables = [np.where(_known(column), np.arange(len(column)), len(column) - 1) for column in counts]
    return np.concatenate([np.empty(0, dtype=np.int32), *tables]).astype(np.int32)


def _hot(counts: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    pairs = []
    for position, column in enumerate(counts):
        codes = np.flatnonzero(_known(column))
        frequent = codes[np.argsort(-column[codes], kind="stable")[:MOST_HOT]]
        pairs += [(position, code) for code in np.sort(frequent)]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)
