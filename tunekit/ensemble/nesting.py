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

MOST_CLASSES = 100
"""Different targets up to which each of them is kept where rows are drawn, as the classes that they may be."""

OF_RARER = 50
"""Rows of the rarer of two classes that are kept where rows are drawn, if there are so many: with fewer, scores say
little."""

TIMES_AS_MANY = 5
"""As many rows as were wanted that are drawn for it, at most."""


def nested(rows: Judged, seed: int) -> list[tuple[Rows, Rows]]:
    """Pairs of (rows to fit on, rows to judge on), as the split of the study divides them.

    Folds judge in turn. In time, earlier rows fit and later ones judge. The rows of a single fold are cut, with groups
    whole. Rows that weigh nothing are on neither side.

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
    pairs = [(_weighing(rows, fit), _weighing(rows, judge)) for fit, judge in pairs]
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
        return _whole_groups(rows.group, CUTS, random)
    return dealt(rows, np.arange(len(rows)), CUTS, random)


def dealt(rows: Judged, some: Rows, count: int, random: np.random.Generator) -> list[Rows]:
    """Rows dealt into parts in which targets are alike: in turn, by their order."""
    shuffled = random.permutation(some)
    if rows.target.ndim == 1:
        shuffled = shuffled[np.argsort(rows.target[shuffled], kind="stable")]
    return [np.sort(shuffled[start::count]) for start in range(count)]


def blocks(rows: Judged, judge: Rows, seed: int) -> list[Rows]:
    """Positions within `judge`, in parts to measure a difference on: in time in its order, else dealt, groups whole."""
    count = int(np.clip(len(judge) // BLOCK, 1, MOST_BLOCKS))
    if rows.time is not None:
        return list(np.array_split(np.argsort(rows.time[judge], kind="stable"), count))
    random = np.random.default_rng(seed)
    if rows.group is not None:
        return _whole_groups(rows.group[judge], count, random)
    classes = np.unique(rows.target[judge], return_counts=True)[1]
    count = min(count, int(classes.min())) if len(classes) == 2 else count  # both in each
    return dealt(rows.only(judge), np.arange(len(judge)), count, random)


def _whole_groups(group: Rows, count: int, random: np.random.Generator) -> list[Rows]:
    """Positions in so many parts at most, each group in one of them: rows of one group are right or wrong together."""
    groups, place = np.unique(group, return_inverse=True)
    cuts = (random.permutation(len(groups)) % count)[place]
    return [np.flatnonzero(cuts == cut) for cut in range(min(count, len(groups)))]


def thinned(rows: Judged, some: Rows, most: int, seed: int) -> Rows:
    """About so many of some rows at most, drawn without order: weights need no more, and time is short.

    Each part keeps its share, and each target its share of the part: average precision, thresholds and calibrations
    depend on how rare a class is, so that more of the rare class alone would answer another question. Where it would
    nearly vanish, more rows are drawn of both classes instead; and one row of each class stays in each part, without
    which some metrics have no score.

    Args:
        rows: with their parts.
        some: to draw from.
        most: how many to draw, up to `TIMES_AS_MANY` times as many where one of two classes is rare.
        seed: of the draw.
    """
    if len(some) <= most:
        return some
    random = np.random.default_rng(seed)
    some = random.permutation(_weighing(rows, some))
    part, target = _part_of(rows)[some], rows.target[some]
    if target.ndim > 1:  # a score leaves out the targets that rows can't judge
        target = np.zeros(len(some))
    order = np.lexsort((target, part))
    share = _share(target, most)
    kept = np.diff(np.floor(np.arange(len(some) + 1) * share + random.random())) > 0  # one in 1 / share, in turn
    if len(np.unique(target)) <= MOST_CLASSES:
        first = np.r_[True, (np.diff(part[order]) != 0) | (np.diff(target[order]) != 0)]
        lost = np.add.reduceat(kept, np.flatnonzero(first), dtype=np.int64) == 0
        kept[np.flatnonzero(first)[lost]] = True
    return np.sort(some[order[kept]])


def _share(target: npt.NDArray[np.float64], most: int) -> float:
    """Of the rows, what is drawn."""
    counts = np.unique(target, return_counts=True)[1]
    wanted = max(most, min(TIMES_AS_MANY * most, OF_RARER * len(target) / counts.min())) if len(counts) == 2 else most
    return min(1.0, wanted / len(target))


def _part_of(rows: Judged) -> Rows:
    """(n,): the number of each row's part."""
    found = np.zeros(len(rows), dtype=np.int64)
    for number, part in enumerate(rows.parts):
        found[part] = number
    return found


def _weighing(rows: Judged, some: Rows) -> Rows:
    """Without the rows that weigh nothing: a mean over these alone has no value."""
    return some if rows.weight is None else some[rows.weight[some] > 0]


def _learnable(rows: Judged, fit: Rows) -> bool:
    """Whether there are two values of a single target at least."""
    return rows.target.ndim > 1 or rows.target[fit].min() < rows.target[fit].max()
