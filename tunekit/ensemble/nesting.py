"""Which rows a combination is fitted on, and which judge it, among rows that have out-of-fold predictions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tunekit.ensemble.judged import Judged, Rows

CUTS = 5
"""Parts that the rows of a single fold are divided into."""

CUTS_OF_TIME = 4
"""Parts in order of time, at least."""

FEWEST = 20
"""Rows on either side."""

BLOCK = 50
"""Rows that a difference between two scores is measured on, at least, to see how it varies."""

MOST_BLOCKS = 10
"""Per part."""


def nested(rows: Judged, seed: int) -> list[tuple[Rows, Rows]]:
    """Pairs of (rows to fit on, rows to judge on), as the split of the study divides them.

    Folds judge in turn. In time, earlier rows fit and later ones judge. The rows of a single fold are cut, with groups
    whole.

    Args:
        rows: what is to be divided.
        seed: of the cuts.
    """
    if rows.time is not None:
        pairs = _forward(rows, rows.time)
    else:
        parts = rows.parts if len(rows.parts) > 1 else _cut(rows, seed)
        pairs = [
            (np.concatenate([part for other, part in enumerate(parts) if other != place]), judge)
            for place, judge in enumerate(parts)
            if len(parts) > 1
        ]
    return [(fit, judge) for fit, judge in pairs if min(len(fit), len(judge)) >= FEWEST and _learnable(rows, fit)]


def _forward(rows: Judged, time: npt.NDArray[np.float64]) -> list[tuple[Rows, Rows]]:
    """Forward chaining; rows of one moment stay together, and targets are known when the first judged row is."""
    cuts = -(-CUTS_OF_TIME // len(rows.parts))
    chunks: list[Rows] = []
    for part in rows.parts:
        order = part[np.argsort(time[part], kind="stable")]
        starts = [len(order) * cut // cuts for cut in range(1, cuts)]
        chunks += np.split(order, np.searchsorted(time[order], time[order][starts]))
    chunks = [chunk for chunk in chunks if len(chunk)]
    pairs = []
    for place in range(1, len(chunks)):
        before, judge = np.concatenate(chunks[:place]), chunks[place]
        first = time[judge].min()
        known = time[before] <= first - rows.horizon if rows.horizon else time[before] < first
        pairs.append((before[known], judge))
    return pairs


def _cut(rows: Judged, seed: int) -> list[Rows]:
    random = np.random.default_rng(seed)
    if rows.group is not None:
        groups, place = np.unique(rows.group, return_inverse=True)
        cuts = random.permutation(len(groups))[place] % CUTS
        return [np.flatnonzero(cuts == cut) for cut in range(CUTS) if (cuts == cut).any()]
    return dealt(rows, np.arange(len(rows)), CUTS, random)


def dealt(rows: Judged, some: Rows, count: int, random: np.random.Generator) -> list[Rows]:
    """Rows dealt into parts in which targets are alike: in turn, by their order."""
    shuffled = random.permutation(some)
    if rows.target.ndim == 1:
        shuffled = shuffled[np.argsort(rows.target[shuffled], kind="stable")]
    return [np.sort(shuffled[start::count]) for start in range(count)]


def blocks(rows: Judged, judge: Rows, seed: int) -> list[Rows]:
    """Positions within `judge`, in parts to measure a difference on: in time in its order, else dealt."""
    count = int(np.clip(len(judge) // BLOCK, 1, MOST_BLOCKS))
    if rows.time is not None:
        return list(np.array_split(np.argsort(rows.time[judge], kind="stable"), count))
    everything = np.arange(len(judge))
    return dealt(rows.only(judge), everything, count, np.random.default_rng(seed))


def thinned(rows: Judged, some: Rows, most: int, seed: int) -> Rows:
    """At most so many of some rows, drawn without order: weights need no more, and time is short."""
    if len(some) <= most:
        return some
    return np.sort(np.random.default_rng(seed).permutation(some)[:most])


def _learnable(rows: Judged, fit: Rows) -> bool:
    """Whether there are two values of a single target at least."""
    return rows.target.ndim > 1 or rows.target[fit].min() < rows.target[fit].max()
