"""The ladder of capacity: nets of one family, each twice as large as the one before, and what they tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tunekit.coach.changes import text
from tunekit.coach.curves import capacity, curves_of
from tunekit.coach.noise import Difference
from tunekit.families import MLP, NetFamily
from tunekit.space import Dimension
from tunekit.trial import State, Trial

SMALLER = 16
"""So many times smaller than usual the first net is."""

NARROWEST = 4
"""Units of the first net, at least."""

MISSES = 2
"""Sizes in a row that are no better, after which larger ones aren't tried: one of them may be bad luck."""

Compare = Callable[[Trial, Trial], Difference]


@dataclass(frozen=True)
class Rung:
    """One size.

    Args:
        size: of the hyperparameters that say how large the net is.
        trial: number of the trial in the ladder's own ledger.
        parameters: of the net.
        train_loss: at the best epoch; the mean over the folds, as the others.
        valid_loss: at the best epoch.
        best_epoch: that was kept.
        score: of the study's metric.
        seconds: that the trial took.
        overfits: whether, in most folds, validation loss turns up while training loss falls.
        gain: by how much it is better than the smaller one that was best so far; None of the first.
        error: the standard error of that.
        better: whether that is more than noise.
    """

    size: int
    trial: int
    parameters: int | None
    train_loss: float
    valid_loss: float
    best_epoch: float
    score: float
    seconds: float
    overfits: bool
    gain: float | None = None
    error: float | None = None
    better: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def sizes_of(first: Trial) -> list[Dimension]:
    """The dimensions that say how large a net is, by a trial that was asked for all of them."""
    return capacity(first.dimensions)


def start_of(dimensions: Sequence[Dimension]) -> int:
    """The smallest size: a sixteenth of the usual one."""
    usual = max(int(one.default) for one in dimensions)
    least = NARROWEST if usual >= NARROWEST * SMALLER else 1
    return max(least, usual // SMALLER)


def rung_of(trial: Trial, size: int) -> Rung:
    """What a complete trial tells of its size."""
    curves = curves_of(trial)
    return Rung(
        size=size,
        trial=trial.number,
        parameters=int(trial.costs["parameters"]) if "parameters" in trial.costs else None,
        train_loss=float(np.mean([one.train[one.best - 1] for one in curves])),
        valid_loss=float(np.mean([one.valid[one.best - 1] for one in curves])),
        best_epoch=float(np.mean([one.best for one in curves])),
        score=float(trial.score or 0.0),
        seconds=trial.seconds,
        overfits=sum(one.turns_up for one in curves) > len(curves) / 2,
    )


@dataclass(frozen=True)
class Ladder:
    """Sizes that were tried, the smallest first.

    Args:
        rungs: one for each.
        enough: position of the smallest one that no larger one is better than by more than noise; -1 of none.
        misses: how many sizes beyond that one were tried.
    """

    rungs: tuple[Rung, ...] = ()
    enough: int = -1
    misses: int = 0

    @classmethod
    def of(cls, trials: Sequence[tuple[int, Trial]], compare: Compare) -> Ladder:
        """Of complete trials with their sizes, the smallest first.

        Args:
            trials: (size, trial).
            compare: by how much one trial is better than another.
        """
        rungs: list[Rung] = []
        enough = -1
        for size, trial in trials:
            rung = rung_of(trial, size)
            found = None if enough < 0 else compare(trial, trials[enough][1])
            if found is not None:
                rung = Rung(**{**asdict(rung), "gain": found.gain, "error": found.error, "better": found.better})
            rungs.append(rung)
            if found is None or found.better:
                enough = len(rungs) - 1
        return cls(tuple(rungs), enough, len(rungs) - 1 - enough)

    @property
    def done(self) -> bool:
        """Whether larger ones needn't be tried."""
        return self.misses >= MISSES

    @property
    def overfits(self) -> int | None:
        """The smallest size from which on every net overfits; None if the largest one doesn't."""
        found = None
        for rung in reversed(self.rungs):
            if not rung.overfits:
                break
            found = rung.size
        return found

    @property
    def bounds(self) -> tuple[int, int, int]:
        """The fewest, the most and the usual size to search: around what is enough, up to where nets overfit.

        Half of what is enough, because a regularised net may need more and a lucky one less; twice of it, or the first
        size that overfits, because regularisation makes use of more than that.
        """
        enough = self.rungs[self.enough].size
        return max(1, enough // 2), max(2 * enough, self.overfits or 0), enough


def told(ladder: Ladder, metric: str) -> str:
    """The ladder in words."""
    if not ladder.rungs:
        return "No net was fitted on every fold."
    best = ladder.rungs[ladder.enough]
    first = f"{best.size} is enough ({metric} {best.score:.5g})"
    if ladder.done:
        first += f": {ladder.misses} larger ones are not better by more than noise."
    else:
        first += " of what was tried, and larger ones may do better: give it more time."
    if ladder.enough == 0 and len(ladder.rungs) > 1:
        first += " Smaller ones were not tried."
    if ladder.overfits is None:
        return f"{first} None of these overfits by its curves: validation loss doesn't turn up."
    return f"{first} From {ladder.overfits} on nets overfit: validation loss turns up while training loss falls."


def proposal(ladder: Ladder, family: NetFamily, dimensions: Sequence[Dimension]) -> str:
    """The line of the study with the bounds; "" where its family has none to change.

    A walk that ended before it was done knows nothing of larger nets: it doesn't take them out of the search.
    """
    if not ladder.rungs:
        return ""
    low, high, usual = ladder.bounds
    if not ladder.done:
        if not isinstance(family, MLP):
            return ""
        high = max(high, family.units[1])
    names = sorted({one.name.rpartition("/")[2] for one in dimensions})
    if isinstance(family, MLP):
        return f"tk.MLP(units=({low}, {high})),"
    lines = [f'hp.Int({text(name)}, {low}, {high}, step=2, sampling="log", default={usual})' for name in names]
    return lines[0] if getattr(family, "factory", None) is not None else ""


def size_of(trial: Trial, dimensions: Sequence[Dimension]) -> int | None:
    """The size of a trial; None where its sizes differ, or where it did not end well."""
    if trial.state is not State.COMPLETE or not dimensions:
        return None
    sizes = {trial.values.get(one.name) for one in dimensions}
    size = sizes.pop() if len(sizes) == 1 else None
    return size if isinstance(size, int) else None
