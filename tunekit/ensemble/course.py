"""What is shared by all ways to combine that are compared: the pairs of rows, what is fitted on them, and the time."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tunekit.ensemble.combination import Combination
from tunekit.ensemble.combiner import Combiner, Fitting
from tunekit.ensemble.judged import Judged, Predictions, Rows
from tunekit.ensemble.nesting import blocks, nested, thinned
from tunekit.ensemble.quick import scores_of
from tunekit.ensemble.threshold import best_threshold, needs_threshold
from tunekit.errors import MetricError
from tunekit.metrics import Metric, metric_of_trials

MOST_FITTED = 20_000
"""Rows that a combination is fitted on: a few dozen weights need no more, and time is short."""

MOST_NESTED = (10_000, 2_000)
"""And where it is fitted to be judged on other rows, as often as there are pairs; the latter if time is short."""

NOISE_OF_STACKING = 3.0
"""Standard errors by which stacking must be better than what doesn't stack. It has many ways to be lucky, and its
models read the rows' tails: on Ames it was chosen for gains of 1% at 1.5 standard errors, and was 5% worse than greedy
selection on other rows."""


class OutOfTimeError(Exception):
    """The rest is not computed. Never leaves this room."""


@dataclass
class Course:
    """What is shared by all that is tried.

    Args: see `choose`; `reserve` are seconds that the last fit is likely to take, `most` are rows of a pair to fit on.
    """

    candidates: Sequence[Predictions]
    rows: Judged
    metric: Metric
    task: str
    new: Sequence[Predictions] | None
    deadline: float
    seed: int
    select: Callable[..., npt.NDArray[np.float64]]
    reserve: float = 0.0
    most: int = MOST_NESTED[0]
    pairs: list[tuple[Rows, Rows]] = field(init=False)
    parts: list[list[Rows]] = field(init=False)
    _fittings: dict[int, Fitting] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pairs = [pair for pair in nested(self.rows, self.seed) if all(map(self._can_be_scored, pair))]
        self.parts = [blocks(self.rows, judge, self.seed + place) for place, (_, judge) in enumerate(self.pairs)]

    def selection(self, place: int, seconds: float = math.inf) -> Fitting:
        """What combinations are fitted on: of one pair, or all rows at -1, with the greedy selection there."""
        if place not in self._fittings:
            some = self.pairs[place][0] if place >= 0 else np.arange(len(self.rows))
            some = thinned(self.rows, some, self.most if place >= 0 else MOST_FITTED, self.seed)
            stack, rows = self.stack(some), self.rows.only(some)
            seconds = min(seconds, max(0.0, self.deadline - time.monotonic()))
            weights = self.select(stack, rows, self.alike, seconds=seconds)
            self._fittings[place] = Fitting(
                stack, rows, self.alike, self.task, weights, self.deadline, self.seed + place + 1
            )
        return self._fittings[place]

    @property
    def alike(self) -> Metric:
        """What is asked of candidates and means of them before they have a threshold."""
        return metric_of_trials(self.metric, self.task)

    def fitted(self, combiner: Combiner, fitting: Fitting) -> Combination:
        """A combination, with its threshold where the metric needs one."""
        made = combiner.fit(fitting)
        if not needs_threshold(self.metric, self.task):
            return made
        return replace(made, threshold=best_threshold(self.metric, fitting.rows, made.apply(fitting.stack)))

    def _can_be_scored(self, some: Rows) -> bool:
        """Whether the metric has a value in each part of some rows: of one class, many have none."""
        try:
            with np.errstate(all="ignore"), _unwarned():
                found = scores_of(self.metric, self.rows.only(some), self.candidates[0][some][None])
        except MetricError:
            return False
        return bool(np.isfinite(found).all())

    def stack(self, some: Rows) -> Predictions:
        """Predictions of some rows: (candidates, rows, outputs)."""
        return np.stack([one[some] for one in self.candidates])

    def combined(self, combination: Combination, some: Rows) -> Predictions:
        """What a combination of the candidates predicts for some rows."""
        used = combination.used
        return combination.of(used).apply(np.stack([self.candidates[place][some] for place in used]))

    def simplest(self, combiner: Combiner) -> Way:
        """The first way, fitted and judged on every pair; on fewer rows if time is short.

        Raises:
            OutOfTimeError: it takes too long even so, or there are no pairs.
        """
        for most in MOST_NESTED if self.pairs else ():
            self.most = most
            self._fittings = {-1: self.selection(-1)}
            with suppress(OutOfTimeError):
                return self.fit(combiner, self.deadline - self.reserve)
        raise OutOfTimeError

    def fit(self, combiner: Combiner, limit: float) -> Way:
        """Fit and judge on every pair.

        Raises:
            OutOfTimeError: it would take longer than until `limit`.
        """
        begun, fitted = time.monotonic(), []
        for place in range(len(self.pairs)):
            fitting = replace(self.selection(place), deadline=limit)
            fitted.append(self.fitted(combiner, fitting))
            spent = time.monotonic() - begun
            if begun + spent / (place + 1) * len(self.pairs) > limit:
                raise OutOfTimeError
        judged = [self.combined(one, judge) for one, (_, judge) in zip(fitted, self.pairs, strict=True)]
        return self.way(combiner, fitted, judged)

    def way(self, combiner: Combiner, fitted: list[Combination], judged: list[Predictions], said: str = "") -> Way:
        """With its scores."""
        shown = [one.decisive(shares) for one, shares in zip(fitted, judged, strict=True)]
        pieces, scores = [], []
        for (_, judge), parts, shares in zip(self.pairs, self.parts, shown, strict=True):
            scores.append(self.rows.score_of(self.metric, shares, judge))
            pieces += [self._loss(shares[part], judge[part]) for part in parts]
        return Way(combiner, fitted, judged, float(np.mean(scores)), np.array(pieces), said)

    def _loss(self, shares: Predictions, rows: Rows) -> float:
        try:
            with _unwarned():
                return self.metric.sign * self.rows.score_of(self.metric, shares, rows)
        except MetricError:  # too few rows for the metric, such as those of one class
            return math.nan

    @cached_property
    def alone(self) -> npt.NDArray[np.float64]:
        """The score of each candidate by itself on the rows that judge, the mean over the pairs: (candidates,)."""
        scores = [
            scores_of(self.alike, replace(self.rows.only(judge), parts=(np.arange(len(judge)),)), self.stack(judge))
            for _, judge in self.pairs
        ]
        mean: npt.NDArray[np.float64] = np.mean(scores, axis=0)
        return mean


@contextmanager
def _unwarned() -> Iterator[None]:
    """What scikit-learn warns of, such as classes that few rows lack, is told by the score, or matters to nobody."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@dataclass(frozen=True)
class Way:
    """One way to combine, fitted on every pair.

    Args:
        combiner: that fitted it.
        fitted: a combination for each pair.
        judged: its predictions of the rows that judge.
        score: the mean over the pairs.
        losses: on parts of the rows that judge; NaN where the metric can't be computed.
        said: what was added to it.
    """

    combiner: Combiner
    fitted: list[Combination]
    judged: list[Predictions]
    score: float
    losses: npt.NDArray[np.float64]
    said: str = ""

    def beats(self, other: Way) -> bool:
        """Whether it is better by more than noise: so many standard errors of the mean difference."""
        noise = NOISE_OF_STACKING if self.combiner.stacks and not other.combiner.stacks else self.combiner.noise
        gains = other.losses - self.losses
        gains = gains[~np.isnan(gains)]
        if len(gains) < 2 or not np.isfinite(gains).all():
            return False
        return bool(gains.mean() > noise * gains.std(ddof=1) / math.sqrt(len(gains)))
