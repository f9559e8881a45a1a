"""What is learnt from training rows only, and applied to any row.

One `Preparation` a fold. It offers the same rows in the layouts that the families read:

=========  =====================================================================================================
layout     arrays
=========  =====================================================================================================
columns    {"numbers": float32 (n, D + M), "codes": int32 (n, C)}: scaled numbers, M gap indicators, codes; and each
           array column by its name, float32 (n, *shape), scaled channel by channel (of series: each by its own rows);
           and each text column by its name, int32 (n, length), numbers of its first words, those that no training
           row has as unknown
flat       float32 (n, D + M + H + P): the numbers as above, then one 0/1 column for each known (column, code) pair,
           then the values of the arrays as above
plain      as flat, but numbers as far out as they are: the others are bent towards a bound, which a line can't follow
ordinal    float32 (n, D + M + C + P): the numbers as above, then the codes as numbers, then the arrays
native     float32 (n, D + C + P): unscaled numbers and codes, NaN where missing or unseen, and unscaled arrays
array x    float32 (n, *shape): the array column x alone, scaled; or int32 (n, length), the text column x
raw x      float32 (n, *shape): the array column x alone, not scaled: for a base with a scaling of its author's
y+bag      the layout y, then the weights of terms of each text column, as `tunekit.data.terms.Bag` counts them: sparse
=========  =====================================================================================================
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from tunekit.data.lazy import LazyRows, side_by_side
from tunekit.data.scales import ALIKE, RARE, ArrayScale, Scaling, anchors, mean_and_spread, target_scales
from tunekit.data.schema import MISSING, Encoded
from tunekit.data.terms import Bag, Terms, TextColumn

LAYOUTS = ("columns", "flat", "plain", "ordinal", "native")

BY_NAME = ("columns", "columns plain")
"""Layouts of several named arrays; the second has numbers as in layout "plain", too, for linear parts of nets."""

ALONE = "array "
"""Begins the layout of one array or text column alone; its name follows."""

RAW = "raw "
"""Begins the layout of one array column alone, as it is; its name follows."""

BAG = "+"
"""Stands between a layout and the bag of words that is added to it."""

MOST_HOT = 256
"""So many levels of a column at most get a 0/1 column each: thousands would not fit into memory."""

SCALED = 65_536
"""Rows of numbers that are scaled at once: on the way they are several times in memory, as float64."""

BEYOND = 1.5
"""So many times beyond the range of training targets a prediction may be where their logarithm is learnt."""

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
        target_center: mean of the training target, or of its difference from the anchor; 0 unless regression.
        target_scale: standard deviation of the same; 1 unless regression.
        target_by: position of the category column whose levels have target scales of their own; -1 for none.
        targets: (codes, 2) center and scale of the target for each code of that column; missing, unseen and rare levels
            have those of all rows. (0, 2) for none.
        anchor: position of a value among those of the first array column's cells, from which the target's difference is
            learnt; -1 for none.
        logarithm: whether the target's logarithm is learnt; center and scale are then its own.
        bounds: (2,) within which predictions stay where the logarithm is learnt.
        lift: added to a predicted logarithm, where means are asked for: see `tunekit.training.lift`.
        arrays: how each array column is scaled.
        texts: the words and terms of each text column.
    """

    center: npt.NDArray[np.float64]
    factor: npt.NDArray[np.float64]
    gaps: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    lookup: npt.NDArray[np.int32]
    hot: npt.NDArray[np.int64]
    target_center: float
    target_scale: float
    target_by: int = -1
    targets: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 2)))
    anchor: int = -1
    logarithm: bool = False
    bounds: npt.NDArray[np.float64] = field(default_factory=lambda: np.array([-np.inf, np.inf]))
    lift: float = 0.0
    arrays: tuple[ArrayScale, ...] = ()
    texts: tuple[Terms, ...] = ()

    @classmethod
    def fit(
        cls,
        rows: Encoded,
        cardinalities: tuple[int, ...],
        target: npt.NDArray[np.float64] | None = None,
        array_names: tuple[str, ...] = (),
        text_columns: tuple[TextColumn, ...] = (),
        scaling: Scaling = ALIKE,
    ) -> Preparation:
        """Learn from training rows.

        Args:
            rows: the training rows, and no others.
            cardinalities: codes per category column, as `Schema.cardinalities`.
            target: float (n,) for regression, where nets train on the standardised target; None otherwise.
            array_names: of the array columns.
            text_columns: the text columns.
            scaling: of arrays and the target, where not by all rows alike.
        """
        anchor, weight = scaling.anchor, scaling.weight
        named = list(zip(array_names, rows.arrays, scaling.by or [-1] * len(array_names), strict=True))
        target_by = max((by for _, _, by in named), default=-1) if target is not None else -1
        center, factor = _scales(rows.numbers)
        if target is not None and anchor >= 0:
            target = target - anchors(rows, anchor)
        mean, spread = (0.0, 1.0) if target is None else mean_and_spread(target, weight)
        counts = [np.bincount(rows.codes[:, column], minlength=size) for column, size in enumerate(cardinalities)]
        return cls(
            center=center,
            factor=factor,
            gaps=np.flatnonzero(np.isnan(rows.numbers).any(axis=0)).astype(np.int64),
            offsets=np.concatenate([[0], np.cumsum(cardinalities)[:-1]]).astype(np.int64)[: len(cardinalities)],
            lookup=_lookup(counts),
            hot=_hot(counts),
            target_center=mean,
            target_scale=spread,
            target_by=target_by,
            targets=target_scales(target, rows.codes, cardinalities, target_by, weight),
            anchor=-1 if target is None else anchor,
            arrays=tuple(
                ArrayScale.fit(name, cells)
                if by < 0
                else ArrayScale.fit_by(name, cells, rows.codes[:, by], cardinalities[by], by)
                for name, cells, by in named
            ),
            texts=tuple(Terms.fit(column, cells) for column, cells in zip(text_columns, rows.texts, strict=True)),
        )

    def logarithmic(
        self, target: npt.NDArray[np.float64], weight: npt.NDArray[np.float64] | None = None
    ) -> Preparation:
        """The same for models that learn the logarithm of a target, all of whose values are positive.

        Args:
            target: (n,) of the training rows.
            weight: (n,) how often they count.
        """
        mean, spread = mean_and_spread(np.log(target), weight)
        target = target if weight is None or not weight.any() else target[weight > 0]
        bounds = np.array([target.min() / BEYOND, target.max() * BEYOND])  # an exponential runs away beyond the rows
        return replace(self, logarithm=True, target_center=mean, target_scale=spread, bounds=bounds)

    @property
    def relative(self) -> bool:
        """Whether the target is learnt in another way by more than center and scale, or these differ between rows."""
        return self.target_by >= 0 or self.anchor >= 0 or self.logarithm

    def standardised(self, target: npt.NDArray[np.float64], rows: Encoded) -> npt.NDArray[np.float64]:
        """The regression target of rows, (n,), as it is learnt: with mean 0 and deviation 1 in the training rows."""
        center, scale = self._target_scales(rows)
        return np.asarray(((np.log(target) if self.logarithm else target) - center) / scale)

    def in_units(self, raw: npt.NDArray[Any], rows: Encoded) -> npt.NDArray[np.float64]:
        """The inverse of `standardised`, for predictions (n, 1)."""
        center, scale = (part[:, None] if np.ndim(part) else part for part in self._target_scales(rows))
        learnt = np.asarray(np.asarray(raw, dtype=np.float64) * scale + (center + self.lift))
        return np.exp(np.clip(learnt, *np.log(self.bounds))) if self.logarithm else learnt

    def _target_scales(self, rows: Encoded) -> tuple[Any, Any]:
        center: Any = self.target_center
        scale: Any = self.target_scale
        if self.target_by >= 0:
            center, scale = self.targets[rows.codes[:, self.target_by]].T
        return (center + anchors(rows, self.anchor) if self.anchor >= 0 else center), scale

    def apply(self, rows: Encoded, layout: str) -> dict[str, Any]:
        """The rows in a layout, as named arrays; all layouts but "columns" have one array, named "features".

        What is made of lazy rows is lazy.
        """
        layout, _, bag = layout.partition(BAG)
        if bag:
            return {"features": self._with_bag(self.apply(rows, layout)["features"], rows, Bag.parse(bag))}
        if layout == "native":
            return {"features": _joined([self._native(rows), *rows.arrays])}
        texts = {terms.name: (terms, tokens) for terms, tokens in zip(self.texts, rows.texts, strict=True)}
        if layout.startswith(ALONE) and (name := layout.removeprefix(ALONE)) in texts:
            terms, tokens = texts[name]
            return {"features": terms.numbers(tokens)}
        if layout.startswith((ALONE, RAW)):
            position = [scale.name for scale in self.arrays].index(layout.partition(" ")[2])
            cells, scale = rows.arrays[position], self.arrays[position]
            return {"features": scale.apply(cells, rows.codes) if layout.startswith(ALONE) else _unscaled(cells)}
        arrays = [scale.apply(cells, rows.codes) for scale, cells in zip(self.arrays, rows.arrays, strict=True)]
        numbers = self.numbers(rows.numbers, clip=layout != "plain")
        codes = self.lookup[rows.codes + self.offsets] if len(self.offsets) else rows.codes
        if layout in BY_NAME:
            plain = {} if layout == "columns" else {"plain": self.numbers(rows.numbers, clip=False)}
            named = {scale.name: cells for scale, cells in zip(self.arrays, arrays, strict=True)}
            words = {name: terms.numbers(tokens) for name, (terms, tokens) in texts.items()}
            return {"numbers": numbers, "codes": codes} | plain | named | words
        if layout == "ordinal":
            return {"features": _joined([numbers, codes, *arrays])}
        if layout in ("flat", "plain"):
            pairs = self.hot
            hot = codes[:, pairs[:, 0]] == pairs[:, 1]
            return {"features": _joined([numbers, hot, *arrays])}
        raise ValueError(f"layout {layout!r} is unknown; expected one of {', '.join(LAYOUTS)}")

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The fields as arrays, for `numpy.savez`."""
        plain = {name: np.asarray(getattr(self, name)) for name in _plain_fields()}
        for number, scale in enumerate(self.arrays):
            parts = {name: getattr(scale, name) for name in ("name", "shape", "center", "factor", "by")}
            plain |= {f"array_{number}_{part}": np.asarray(value) for part, value in parts.items()}
        for number, terms in enumerate(self.texts):
            plain |= {f"text_{number}_{part}": value for part, value in terms.to_arrays().items()}
        return plain

    @classmethod
    def from_arrays(cls, arrays: Any) -> Preparation:
        """The inverse of `to_arrays`; also reads what `numpy.load` returns."""
        values: dict[str, Any] = {name: arrays[name] for name in _plain_fields() if name != "lift"}
        values["lift"] = arrays.get("lift", 0.0)  # trials of tunekit before 2026-12 have none
        scales: list[ArrayScale] = []
        while f"array_{len(scales)}_name" in arrays:
            name, shape, center, factor, by = (
                arrays[f"array_{len(scales)}_{part}"] for part in ("name", "shape", "center", "factor", "by")
            )
            scales.append(ArrayScale(str(name), tuple(int(size) for size in shape), center, factor, int(by)))
        values["arrays"] = tuple(scales)
        texts: list[Terms] = []
        while f"text_{len(texts)}_name" in arrays:
            prefix = f"text_{len(texts)}_"
            own = {name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)}
            texts.append(Terms.from_arrays(own))
        values["texts"] = tuple(texts)
        for name in ("target_center", "target_scale", "lift"):
            values[name] = float(values[name])
        for name in ("target_by", "anchor"):
            values[name] = int(values[name])
        values["logarithm"] = bool(values["logarithm"])
        return cls(**values)

    def numbers(self, numbers: npt.NDArray[np.float64], *, clip: bool = True) -> npt.NDArray[np.float32]:
        """Scaled numbers and gap indicators, (n, D + M).

        Args:
            numbers: (n, D) as `Encoded` holds them.
            clip: bend what is far out towards `CLIP`.
        """
        made = np.empty((len(numbers), len(self.center) + len(self.gaps)), dtype=np.float32)
        for start in range(0, len(numbers), SCALED):
            some = np.asarray(numbers[start : start + SCALED])
            scaled = (some - self.center) * self.factor
            clipped = scaled / np.sqrt(1.0 + (scaled / CLIP) ** 2) if clip else scaled
            filled = np.where(np.isnan(clipped), 0.0, clipped)
            made[start : start + SCALED] = np.concatenate([filled, np.isnan(some[:, self.gaps])], axis=1)
        return made

    def _with_bag(self, features: npt.NDArray[np.float32], rows: Encoded, bag: Bag) -> Any:
        """Features, then the bag of each text: a sparse matrix."""
        bags = [terms.bag(tokens, bag) for terms, tokens in zip(self.texts, rows.texts, strict=True)]
        return sparse.hstack([sparse.csr_matrix(features), *bags], format="csr", dtype=np.float32)

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


def _unscaled(cells: Any) -> Any:
    """Cells as float32; lazy ones when they are asked for."""
    if isinstance(cells, LazyRows):
        return cells.mapped(_unscaled, np.float32)
    return np.asarray(cells, dtype=np.float32)


def _plain_fields() -> list[str]:
    return [field.name for field in fields(Preparation) if field.name not in ("arrays", "texts")]


def _joined(parts: list[Any]) -> Any:
    """Values side by side, one row each, float32."""
    if any(isinstance(part, LazyRows) for part in parts):
        return side_by_side(parts, np.float32)
    flat = [np.asarray(part, dtype=np.float32).reshape(len(part), math.prod(part.shape[1:])) for part in parts]
    return np.concatenate(flat, axis=1)


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
