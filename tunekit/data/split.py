"""Which rows train and which judge: decided once, by seed. The only place where rows are split.

Every split first sets the test rows apart, which nothing touches until the final judgement, and divides the other
rows into folds. The splitters are scikit-learn's; the temporal one is our own, because it keeps rows of one moment
together and sets the latest rows apart, and so is that of labels (`tunekit.data.strata`).
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import model_selection

from tunekit.bundle.tasks import MANY_CLASSES
from tunekit.data.dataset import Dataset
from tunekit.data.folds import Folds, Rows
from tunekit.data.strata import dealt, labels_of
from tunekit.data.targets import places
from tunekit.errors import DataError

LARGE = 50_000
"""With more rows than this, one validation part tells as much as several."""

USUAL_CLASSES = 4
"""With so many classes a fit takes as long as usual; with twice as many, as one of twice as many rows."""


@dataclass(frozen=True)
class Split(ABC):
    """Base of all splits.

    Args:
        test: share of all rows that only the final judgement sees, between 0 and 1.
    """

    test: float = field(default=0.2, kw_only=True)

    def __post_init__(self) -> None:
        if not 0 < self.test < 1:
            raise DataError(f"test={self.test}; expected a share of the rows between 0 and 1, such as 0.2")

    def apply(self, data: Dataset, seed: int) -> Folds:
        """Split the rows of a data set; the same data and seed give the same folds.

        Raises:
            DataError: too few rows, classes or groups for this split.
        """
        if data.horizon is not None and not isinstance(self, (TimeSplit, TimeHoldout)):
            raise DataError(
                f"the rows are forecasts, whose histories overlap, and the split is {self!r}: rows that train would "
                "hold what others are judged on; expected a split in time, such as tk.TimeSplit(3)"
            )
        if data.classes:
            _check_class_counts(data, data.target, least=2)
        everything = np.arange(len(data), dtype=np.int64)
        development, test = self._apart(data, everything, self.test, seed)
        drawn = [(np.sort(train), np.sort(valid)) for train, valid in self._pairs(data, development, seed)]
        _check_weights(data, drawn, test)
        pairs = tuple((data.teaching(train), valid) for train, valid in drawn)
        folds = Folds(np.sort(test), pairs, getattr(self, "repeats", 1))
        _check_classes(data, folds)
        _check_groups(data, self, folds)
        return folds

    @abstractmethod
    def _apart(self, data: Dataset, rows: Rows, share: float, seed: int) -> tuple[Rows, Rows]:
        """Divide rows into those that stay and those set apart."""

    @abstractmethod
    def _pairs(self, data: Dataset, rows: Rows, seed: int) -> Iterator[tuple[Rows, Rows]]:
        """The (training, validation) pairs over the rows that stay."""


@dataclass(frozen=True)
class Holdout(Split):
    """One validation part; classes and labels keep their shares. For large data.

    Args:
        test: share of all rows that only the final judgement sees.
        valid: share of the other rows that judge trials.
    """

    valid: float = field(default=0.2, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.valid < 1:
            raise DataError(f"valid={self.valid}; expected a share of the other rows between 0 and 1, such as 0.2")

    def _apart(self, data: Dataset, rows: Rows, share: float, seed: int) -> tuple[Rows, Rows]:
        return _shuffled_apart(data, rows, share, seed)

    def _pairs(self, data: Dataset, rows: Rows, seed: int) -> Iterator[tuple[Rows, Rows]]:
        yield _shuffled_apart(data, rows, self.valid, seed + 1)


@dataclass(frozen=True, repr=False)
class KFold(Split):
    """k folds of shuffled rows, whatever their class.

    Args:
        test: share of all rows that only the final judgement sees.
        k: number of folds, at least 2.
        repeats: how many times folds are drawn. With few rows a score depends on the draw: twice or three times tells
            more, and each row is then predicted out of fold by so many models, whose mean counts. A trial takes longer.
    """

    k: int = 5
    repeats: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.k < 2:
            raise DataError(f"k={self.k}; expected at least 2 folds (Holdout has a single validation part)")
        if self.repeats < 1:
            raise DataError(f"repeats={self.repeats}; expected at least 1, such as 3 for a few hundred rows")

    def __repr__(self) -> str:
        several = f", repeats={self.repeats}" if self.repeats > 1 else ""  # ledgers know of one draw by this
        return f"{type(self).__name__}(test={self.test}, k={self.k}{several})"

    def _apart(self, data: Dataset, rows: Rows, share: float, seed: int) -> tuple[Rows, Rows]:
        return _shuffled_apart(data, rows, share, seed)

    def _pairs(self, data: Dataset, rows: Rows, seed: int) -> Iterator[tuple[Rows, Rows]]:
        for draw in range(self.repeats):
            yield from self._drawn(data, rows, seed + draw)

    def _drawn(self, data: Dataset, rows: Rows, seed: int) -> Iterator[tuple[Rows, Rows]]:
        """The pairs of one draw."""
        _check_rows(len(rows), self.k)
        splitter = model_selection.KFold(self.k, shuffle=True, random_state=seed)
        for train, valid in splitter.split(rows):
            yield rows[train], rows[valid]


class StratifiedKFold(KFold):
    """k folds in which every class keeps its share; of several targets, those of each that has classes.

    Labels, of which a row may have several, are dealt as Sechidis et al. 2011 do: see `tunekit.data.strata`.
    """

    def _drawn(self, data: Dataset, rows: Rows, seed: int) -> Iterator[tuple[Rows, Rows]]:
        _check_rows(len(rows), self.k)
        if (labels := labels_of(data, rows)) is not None:
            fold = dealt(labels, [1 / self.k] * self.k, np.random.default_rng(seed))
            for number in range(self.k):
                yield rows[fold != number], rows[fold == number]
            return
        if not data.classes:
            raise DataError("StratifiedKFold needs classes, but the target is a number; use KFold")
        splitter = model_selection.StratifiedKFold(self.k, shuffle=True, random_state=seed)
        yield from _by_class(splitter, data, rows, None)


class GroupKFold(KFold):
    """k folds of whole groups: a group's rows train or judge, never both.

    Classes keep their shares as far as groups allow.
    """

    def _apart(self, data: Dataset, rows: Rows, share: float, seed: int) -> tuple[Rows, Rows]:
        return _groups_apart(rows, _groups(data, rows, self.k + 1), share, seed)

    def _drawn(self, data: Dataset, rows: Rows, seed: int) -> Iterator[tuple[Rows, Rows]]:
        groups = _groups(data, rows, self.k)
        if data.classes:
            splitter = model_selection.StratifiedGroupKFold(self.k, shuffle=True, random_state=seed)
            yield from _by_class(splitter, data, rows, groups)
            return
        for train, valid in model_selection.GroupKFold(self.k, shuffle=True, random_state=seed).split(
            rows, groups=groups
        ):
            yield rows[train], rows[valid]


@dataclass(frozen=True, repr=False)
class TimeSplit(KFold):
    """Forward chaining: k times, train on the past and judge on what follows. The latest rows are the test rows.

    Rows of one moment stay together. The first part of the rows only ever trains.

    Args:
        test: share of all rows that only the final judgement sees.
        k: how many times, at least 2.
        start: share of the other rows that only ever trains; 1 / (k + 1) if None. Every fold's model is a part of the
            blend: where seasons matter, the first should have seen some.
        gap: seconds between the last training row and the first row that judges, rows in between are left out; of
            forecasts from `Series` the time from when one is made to its target, else 0, if None.
    """

    start: float | None = field(default=None, kw_only=True)
    gap: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start is not None and not 0 < self.start < 1:
            raise DataError(f"start={self.start}; expected a share of the rows between 0 and 1, such as 0.5")
        if self.gap is not None and not self.gap >= 0:
            raise DataError(f"gap={self.gap}; expected seconds, at least 0")
        if self.repeats != 1:
            raise DataError(f"TimeSplit(repeats={self.repeats}): there is one order of time; leave repeats= out")

    def __repr__(self) -> str:
        told = {"test": self.test, "k": self.k, "start": self.start, "gap": self.gap}
        return f"TimeSplit({', '.join(f'{name}={value!r}' for name, value in told.items() if value is not None)})"

    def _apart(self, data: Dataset, rows: Rows, share: float, seed: int) -> tuple[Rows, Rows]:
        early, late = _time_parts(data, rows, [1.0 - share])
        return _known_before(data, early, late, self.gap), late

    def _pairs(self, data: Dataset, rows: Rows, seed: int) -> Iterator[tuple[Rows, Rows]]:
        start = 1 / (self.k + 1) if self.start is None else self.start
        parts = _time_parts(data, rows, [start + (1 - start) * part / self.k for part in range(self.k)])
        for part in range(1, len(parts)):
            yield _known_before(data, np.concatenate(parts[:part]), parts[part], self.gap), parts[part]


class TimeHoldout(Holdout):
    """One validation part, later than all rows that train; the latest rows are the test rows. For large data.

    Rows of one moment stay together. Of forecasts, training targets are known when the first judged one is made.
    """

    def _apart(self, data: Dataset, rows: Rows, share: float, seed: int) -> tuple[Rows, Rows]:
        early, late = _time_parts(data, rows, [1.0 - share])
        return _known_before(data, early, late), late

    def _pairs(self, data: Dataset, rows: Rows, seed: int) -> Iterator[tuple[Rows, Rows]]:
        early, late = _time_parts(data, rows, [1.0 - self.valid])
        yield _known_before(data, early, late), late


class GroupHoldout(Holdout):
    """One validation part of whole groups: a group's rows train or judge, never both. For large data."""

    def _apart(self, data: Dataset, rows: Rows, share: float, seed: int) -> tuple[Rows, Rows]:
        return _groups_apart(rows, _groups(data, rows, 3), share, seed)

    def _pairs(self, data: Dataset, rows: Rows, seed: int) -> Iterator[tuple[Rows, Rows]]:
        yield _groups_apart(rows, _groups(data, rows, 2), self.valid, seed + 1)


def default_split(data: Dataset) -> Split:
    """The split that fits the data: temporal, grouped, stratified or plain; a holdout from 50,000 rows on.

    Of many classes it is a holdout from fewer rows on: five folds of boosted trees for 20 of them take very long.
    """
    if data.horizon is not None:
        return TimeHoldout() if len(data) > LARGE else TimeSplit(3, start=0.5)  # three fits are enough to wait for
    if data.time is not None:
        return TimeHoldout() if len(data) > LARGE else TimeSplit(5)
    large = len(data) * max(1, len(data.classes) / USUAL_CLASSES) > LARGE
    if data.group is not None:
        return GroupHoldout() if large else GroupKFold(5)
    if large:
        return Holdout()
    return StratifiedKFold(5) if any(target.classes for target in data.targets or [data]) else KFold(5)


def _shuffled_apart(data: Dataset, rows: Rows, share: float, seed: int) -> tuple[Rows, Rows]:
    labels = data.target[rows] if data.classes else None
    if labels is not None:
        _check_class_counts(data, labels, least=2)
    if min(share, 1 - share) * len(rows) < max(1, len(data.classes)):
        raise DataError(f"{len(rows)} rows are too few to set {share:.0%} apart; expected more rows or another share")
    if (several := labels_of(data, rows)) is not None:
        part = dealt(several, [1 - share, share], np.random.default_rng(seed))
        return rows[part == 0], rows[part == 1]
    stay, apart = model_selection.train_test_split(rows, test_size=share, random_state=seed, stratify=labels)
    return stay, apart


def _by_class(splitter: Any, data: Dataset, rows: Rows, groups: Rows | None) -> Iterator[tuple[Rows, Rows]]:
    """Folds in which classes keep their shares. A class may be too rare to judge in every fold, but not all may."""
    counts = np.bincount(data.target[rows].astype(int), minlength=len(data.classes))
    if counts.max() < splitter.n_splits:
        raise DataError(
            f"no class has more than {counts.max()} rows beside the test rows, which can't make {splitter.n_splits} "
            "folds; expected a row of a class per fold: use fewer folds, or collect more rows"
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class in y has only")
        pairs = list(splitter.split(rows, data.target[rows], groups))
    for train, valid in pairs:
        yield rows[train], rows[valid]


def _time_parts(data: Dataset, rows: Rows, shares: list[float]) -> list[Rows]:
    """Rows in order of time, cut near the given cumulative shares but never within one moment."""
    if data.time is None:
        raise DataError(f"a split in time needs {_lacking(data, 'time')}")
    order = rows[np.argsort(data.time[rows], kind="stable")]
    time = data.time[order]
    cuts = [int(np.searchsorted(time, time[min(int(share * len(order)), len(order) - 1)])) for share in shares]
    parts = np.split(order, cuts)
    if any(len(part) == 0 for part in parts):
        raise DataError(
            f"the time column has {len(np.unique(time))} different moments in {len(order)} rows, which can't be "
            f"cut into {len(parts)} parts in order; expected more moments, or fewer folds such as TimeSplit(2)"
        )
    return list(parts)


def _known_before(data: Dataset, rows: Rows, judged: Rows, gap: float | None = None) -> Rows:
    """The rows whose targets are known when the first of the judged forecasts is made, or a given gap before."""
    gap = (data.horizon or 0.0) if gap is None else gap
    if not gap or data.time is None:
        return rows
    known: Rows = rows[data.time[rows] <= data.time[judged].min() - gap]
    if not len(known):
        raise DataError(
            f"no training row is {gap:g} s before the first of {len(judged)} rows that judge; expected a longer "
            "history, fewer folds, or a larger start= of TimeSplit"
        )
    return known


def groups_on_both_sides(data: Dataset, folds: Folds) -> str:
    """How many groups have rows that train and rows that judge what learnt from them, in words; empty for none."""
    group = data.group
    if group is None:
        return ""
    sides = [(folds.development, folds.test), *folds.pairs]
    found = len(np.unique(np.concatenate([np.intersect1d(group[train], group[judged]) for train, judged in sides])))
    return f"{found} of {len(np.unique(group))} groups" if found else ""


def _check_groups(data: Dataset, split: Split, folds: Folds) -> None:
    """Groups stay together; only where the split is in time may earlier rows of one train and later ones judge."""
    if isinstance(split, (TimeSplit, TimeHoldout)) or not (torn := groups_on_both_sides(data, folds)):
        return
    raise DataError(
        f"{torn} have rows on both sides of {split!r}, so models would be judged on groups that they know; expected a "
        "split that keeps groups together, tk.GroupKFold(5) or tk.GroupHoldout() (split= left out chooses what suits), "
        "or data without group="
    )


def _groups_apart(rows: Rows, groups: Rows, share: float, seed: int) -> tuple[Rows, Rows]:
    splitter = model_selection.GroupShuffleSplit(1, test_size=share, random_state=seed)
    stay, apart = next(splitter.split(rows, groups=groups))
    return rows[stay], rows[apart]


def _groups(data: Dataset, rows: Rows, least: int) -> npt.NDArray[np.int64]:
    if data.group is None:
        raise DataError(f"a split by groups needs {_lacking(data, 'group')}")
    groups = data.group[rows]
    found = len(np.unique(groups))
    if found < least:
        raise DataError(f"there are {found} groups; expected at least {least}, one for each part of the rows")
    return groups


def _lacking(data: Dataset, role: str) -> str:
    """That rows lack what a split needs, and how to give it to data of their kind."""
    kind = data.given_as
    if kind == "Table":
        return f"a {role} column, and the data has none; say Table(..., {role}='COLUMN')"
    named = f"{role}='INPUT'), the name of an input of numbers, or {kind}(..., " if kind == "Batches" else ""
    return f"the rows' {role}s, and the data has none; say {kind}(..., {named}{role}={role}s), one for each row"


def _check_weights(data: Dataset, pairs: list[tuple[Rows, Rows]], test: Rows) -> None:
    """Rows that weigh nothing neither teach nor judge: a part of them alone can't."""
    if data.weight is None:
        return
    for number, (train, valid) in enumerate(pairs):
        parts = {f"the training rows of fold {number}": train, f"the validation rows of fold {number}": valid}
        for name, rows in {**parts, "the test rows": test}.items():
            if len(rows) and not data.weight[rows].any():
                raise DataError(
                    f"{name} ({len(rows)}) all have the weight 0; expected some that weigh more. Use fewer folds, "
                    "another split or other weights"
                )


def _check_rows(rows: int, k: int) -> None:
    if rows < k:
        raise DataError(f"{rows} rows can't make {k} folds; expected at least one row per fold")


def _check_class_counts(data: Dataset, labels: npt.NDArray[np.float64], least: int) -> None:
    counts = np.bincount(labels.astype(int), minlength=len(data.classes))
    for position in np.flatnonzero(counts < least):
        raise DataError(
            f"class {data.classes[position]!r} has {counts[position]} row(s); expected at least {least}, so that it "
            "can be learnt and judged: collect more rows, merge it with another class, or leave it out"
        )


def _check_classes(data: Dataset, folds: Folds) -> None:
    """Every class must be learnt in every fold: a model can't predict what it never saw."""
    for number, (train, valid) in enumerate(folds.pairs):
        if not len(train) or not len(valid):
            raise DataError(f"fold {number} has {len(train)} training and {len(valid)} validation rows; expected both")
        if data.classes and len(np.unique(data.target[train])) < len(data.classes):
            absent = sorted(set(range(len(data.classes))) - set(data.target[train].astype(int)))
            counting = "" if data.weight is None else " that weighs anything"
            raise DataError(
                f"class {data.classes[absent[0]]!r} has no training row{counting} in fold {number}; expected every "
                "class in every fold: use fewer folds, or merge rare classes"
            )
        _check_targets(data, train, number)


def _check_targets(data: Dataset, train: Rows, number: int) -> None:
    """Of several targets, one of two classes may have one of them only: it is then predicted by a constant."""
    found = [(target, np.unique(data.target[train, column])) for column, target, _ in places(data.targets)]
    for target, values in found:
        if target.task in MANY_CLASSES and len(values) < len(target.classes):
            absent = sorted(set(range(len(target.classes))) - set(values.astype(int)))
            raise DataError(
                f"class {target.classes[absent[0]]!r} of target {target.name!r} has no training row in fold {number}; "
                "expected every class in every fold: use fewer folds, or merge rare classes"
            )
    if found and all(len(values) < 2 for _, values in found):
        raise DataError(
            f"no target has two values among the {len(train)} training rows of fold {number}, of "
            f"{', '.join(target.name for target, _ in found)}; expected something to learn: use fewer folds, another "
            "split or more rows"
        )
