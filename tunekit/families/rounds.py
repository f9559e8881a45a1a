"""Boosting, whatever the library: which round is best, judged honestly, and when to end."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from tunekit.families.bags import with_bag
from tunekit.families.base import ArrayModel, EpochReport, Family, Fitted, Fold, Part, Predictions
from tunekit.space import HyperParameters

PATIENCE = 50
"""Rounds without a better validation loss before boosting ends."""

DEAR = 100_000
"""Rows, times classes if there are more than two, from which on boosting learns faster by default."""

SMALL = 20_000
"""Training rows below which trees of two classes and of numbers are better shallow: meta-tuned ones are deep."""


class Rounds:
    """The best numbers of rounds: on all rows that decide, and on each part of them.

    Each is decided by its own losses alone: with patience, and whatever else boosting goes on for.

    Args:
        parts: of the validation rows.
        squared: whether the loss is a root of a mean.
        seconds: from now on; it ends then at the latest.
    """

    def __init__(self, parts: Sequence[Part], *, squared: bool, seconds: float) -> None:
        self._squared = squared
        self._deadline = time.monotonic() + seconds
        # In float32, as the libraries hold weights.
        weights = [None if part.weight is None else part.weight.astype(np.float32).sum() for part in parts]
        self._sizes = [weight or len(part) for weight, part in zip(weights, parts, strict=True)]
        self._bests = np.ones(1 + len(parts), dtype=int)
        self._lowest = np.full(1 + len(parts), np.inf)
        self._open = np.ones(1 + len(parts), dtype=bool)

    def end_after(self, number: int, losses: Sequence[float]) -> bool:
        """Note the losses of a round.

        Args:
            number: of the round, from 1.
            losses: of each part.

        Returns:
            Whether more is not worth it.
        """
        together = np.average(np.square(losses) if self._squared else losses, weights=self._sizes)
        now = np.array([together, *losses])
        better = self._open & (now < self._lowest)
        self._bests[better] = number
        self._lowest[better] = now[better]
        self._open &= number - self._bests < PATIENCE
        return not self._open.any() or time.monotonic() > self._deadline

    @property
    def best(self) -> int:
        """The number of rounds that is best on all parts together."""
        return int(self._bests[0])

    @property
    def best_by_part(self) -> list[int]:
        """The number of rounds that is best on each part."""
        return [int(best) for best in self._bests[1:]]


class Boosting(Family):
    """Boosted trees: what its libraries have in common. Trees are grown by one round after the other.

    They read numbers as they are, with gaps, and categories as codes. Each half of the rows that judge is predicted,
    out of fold, by the number of rounds that is best on the other half.

    Attributes:
        most_rounds: after which boosting ends in any case.
    """

    threaded = True
    chooses_target = True
    most_rounds: int = 2000

    def fit(self, hp: HyperParameters, fold: Fold, report: EpochReport) -> Fitted:
        """See `Family.fit`."""
        del report
        settings = self.settings(hp, fold)
        layout = with_bag("native", hp, fold, ["counts", "binary"], [1_000, 3_000, 300])
        hp.settle()
        fold = fold.in_memory
        halves: list[int | None] = [None] if len(fold.deciding) == 1 else [0, 1]
        parts = [deciding(fold, half) for half in halves]
        rounds = Rounds(parts, squared=fold.task == "regression", seconds=fold.seconds)
        grown = self.grow(settings, fold, layout, [] if fold.length else halves, rounds)
        best = fold.length.steps if fold.length else rounds.best
        model = self.keep(grown, fold, layout, best)
        model.best_epoch = best
        if len(halves) > 1 and not fold.length:
            raw = np.empty((len(fold.valid), fold.outputs))
            for half, number in enumerate(reversed(rounds.best_by_part)):
                raw[fold.deciding[half]] = self.judge(grown, fold, layout, half, number)
            model.out_of_fold = fold.preparation.in_units(raw, fold.valid.rows) if fold.relative else raw
        return model

    def steps(self, fold: Fold) -> int:
        """How many rounds there are at most, or exactly where the fold says how long."""
        return fold.length.steps if fold.length else self.most_rounds

    @abstractmethod
    def settings(self, hp: HyperParameters, fold: Fold) -> dict[str, Any]:
        """The library's settings, asked for one by one."""

    @abstractmethod
    def grow(
        self, settings: dict[str, Any], fold: Fold, layout: str, halves: Sequence[int | None], rounds: Rounds
    ) -> Any:
        """Train the library's model until `rounds` says that it is enough.

        Args:
            settings: of the library.
            fold: in memory.
            layout: of the preparation.
            halves: of the validation rows that decide; None for all of them. Where there are none, `steps` decides.
            rounds: told each round's loss on each of these.
        """

    @abstractmethod
    def judge(self, grown: Any, fold: Fold, layout: str, half: int, rounds: int) -> Predictions:
        """What so many rounds of the trained model predict for a half of the validation rows."""

    @abstractmethod
    def keep(self, grown: Any, fold: Fold, layout: str, rounds: int) -> ArrayModel:
        """So many rounds of the trained model, as what is saved."""


def usual_rate(fold: Fold) -> float:
    """The default learning rate: where rounds are dear, half as many do, and cost next to nothing in the score.

    A round grows a tree for each class on all rows.
    """
    return 0.1 if len(fold.train) * fold.outputs >= DEAR else 0.05


def better_shallow(task: str, rows: int) -> bool:
    """Whether a second trial is better of shallower trees than the defaults' than of deeper ones.

    Args:
        task: of the study.
        rows: that a fold trains on.
    """
    return rows < SMALL and task in ("binary", "regression")


def deciding(fold: Fold, half: int | None) -> Part:
    """A half of the validation rows, or all of them."""
    return fold.valid if half is None else fold.valid.take(fold.deciding[half])


def dense(features: Any) -> Any:
    """Features with their zeros: what a sparse matrix leaves out would be taken as missing."""
    return np.asarray(features.toarray() if hasattr(features, "toarray") else features)
