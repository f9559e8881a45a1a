"""Which way to combine is used: by its score on rows that it was not fitted on; the simpler one where that is noise.

Nested cross-validation: on each pair of `nested`, everything is fitted on the one side, the selection of members, the
stacking, the calibration and the threshold, and judged on the other. What is chosen is fitted once more on all rows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tunekit.ensemble.bagged import Bagged
from tunekit.ensemble.boosted import Boosted
from tunekit.ensemble.calibration import calibrate, kinds_for
from tunekit.ensemble.combination import EVEN, Combination
from tunekit.ensemble.combiner import Combiner
from tunekit.ensemble.course import MOST_FITTED, Course, OutOfTimeError, Way
from tunekit.ensemble.few import Few
from tunekit.ensemble.guard import refusal_by_new_rows, refusal_by_score
from tunekit.ensemble.judged import Judged, Predictions
from tunekit.ensemble.linear import Linear
from tunekit.ensemble.nesting import thinned
from tunekit.ensemble.selection import Greedy, greedy_selection
from tunekit.ensemble.threshold import allows_threshold, best_threshold
from tunekit.errors import MetricError
from tunekit.metrics import Metric

COMBINERS: tuple[Combiner, ...] = (Greedy(), Few(), Bagged(), Linear(), Boosted())
"""All ways to combine, the simplest first."""

SPARED = 0.15
"""Of the seconds: a step that has begun is ended."""

SHARE_OF_SELECTING = 0.3
"""Of the seconds, what the selection on all rows may take: without it there is no blend."""


@dataclass(frozen=True)
class Tried:
    """A way to combine, and what came of it.

    Args:
        name: of the way.
        score: on rows that it was not fitted on, or None.
        said: why it is used, or not, in words.
    """

    name: str
    score: float | None
    said: str


@dataclass(frozen=True)
class Chosen:
    """The way that is used.

    Args:
        combination: of all candidates, fitted on all rows.
        name: of the way.
        score: on rows that it was not fitted on; where there were too few rows or too little time: on those it was.
        apart: whether the score is on rows that it was not fitted on.
        why: in words.
        tried: all ways, the simplest first.
        alone: the score of each candidate by itself on the same rows as `score`, if these are apart; else empty.
    """

    combination: Combination
    name: str
    score: float
    apart: bool
    why: str
    tried: tuple[Tried, ...]
    alone: tuple[float, ...] = ()


def choose(
    candidates: Sequence[Predictions],
    rows: Judged,
    metric: Metric,
    *,
    task: str,
    new: Sequence[Predictions] | None = None,
    seconds: float = math.inf,
    seed: int = 0,
    combiners: Sequence[Combiner] = COMBINERS,
    select: Callable[..., npt.NDArray[np.float64]] = greedy_selection,
    polish: bool = True,
) -> Chosen:
    """Choose how to combine candidates, and fit that.

    Args:
        candidates: out-of-fold predictions (n, outputs) of each, rows aligned; where none can be scored, the first is
            used.
        rows: their targets.
        metric: to be improved.
        task: of the data.
        new: predictions (m, outputs) of rows that no fold trained on or judged; the guard against leaks compares with
            them.
        seconds: for all of it; with few, it is the greedy selection, without being compared.
        seed: of whatever is drawn.
        combiners: to choose from, the simplest first; the first is there for any data.
        select: the greedy selection that all of them start from.
        polish: whether a calibration, or a threshold that the metric doesn't need, may be added.

    Raises:
        StudyError: there are no candidates.
    """
    from threadpoolctl import threadpool_limits

    course = Course(candidates, rows, metric, task, new, time.monotonic() + (1 - SPARED) * seconds, seed, select)
    begun = time.monotonic()
    with threadpool_limits(1, "blas"):  # on small matrices, several threads mostly wait for each other
        try:
            course.selection(-1, seconds=SHARE_OF_SELECTING * seconds)
            course.reserve = 0.5 * (time.monotonic() - begun)
            return _chosen(course, combiners, polish=polish)
        except MetricError as error:
            return _best_alone(course, error)


def polished_like(
    blend: Combination, own: Predictions, rows: Judged, metric: Metric, *, task: str, seed: int = 0
) -> Combination:
    """A candidate by itself, with what a blend was given beside its members: a calibration like it, or a threshold.

    Without it, a comparison of the two would credit blending with what any model gains by that.

    Args:
        blend: that the candidate is compared with.
        own: out-of-fold predictions (n, outputs) of the candidate.
        rows: their targets.
        metric: to be improved.
        task: of the data.
        seed: of the rows that are drawn; with that of `choose`, they are the same.
    """
    alone = Combination.weighted(task, np.ones(1), own.shape[1])
    some = thinned(rows, np.arange(len(rows)), MOST_FITTED, seed)
    for what in _polish_of(blend):
        alone = _polished_by(what, alone, own[some][None], rows.only(some), metric)
    return alone


def score_like(
    blend: Combination,
    own: Predictions,
    rows: Judged,
    metric: Metric,
    *,
    task: str,
    seconds: float = math.inf,
    seed: int = 0,
) -> float | None:
    """The score of such a candidate on rows that its calibration or threshold was not fitted on.

    Args:
        blend: see `polished_like`, as the others.
        own: out-of-fold predictions (n, outputs) of the candidate.
        rows: their targets.
        metric: to be improved.
        task: of the data.
        seconds: for it.
        seed: as of `choose`.

    Returns:
        None if there is too little time, or too few rows.
    """
    course = Course([own], rows, metric, task, None, time.monotonic() + seconds, seed, greedy_selection)
    try:
        way = course.simplest(Greedy())
        for what in _polish_of(blend):
            way = _adjusted(course, way, what)
        return way.score
    except (OutOfTimeError, MetricError):
        return None


def _polish_of(blend: Combination) -> list[str]:
    """What a blend was given beside its members."""
    calibration = [] if blend.calibration is None else [blend.calibration.kind]
    return calibration + ([] if blend.threshold == EVEN else [THRESHOLD])


def _best_alone(course: Course, error: MetricError) -> Chosen:
    """The last resort: what was searched for hours must not be lost for a metric that has no value somewhere."""
    losses = []
    for one in course.candidates:
        try:
            losses.append(course.metric.sign * course.rows.score(course.metric, one))
        except MetricError:
            losses.append(math.inf)
    best = int(np.argmin(losses))  # where none has a score, the first
    combination = Combination.weighted(course.task, np.eye(len(losses))[best], course.candidates[0].shape[1])
    name, score = "the best single model", course.metric.sign * losses[best]
    return Chosen(combination, name, score, False, f"{name}, as no blend can be scored: {error}", ())


def _chosen(course: Course, combiners: Sequence[Combiner], *, polish: bool) -> Chosen:
    first = combiners[0]
    fallback = course.fitted(first, course.selection(-1))
    try:
        return _compared(course, combiners, fallback, polish=polish)
    except (OutOfTimeError, MetricError) as error:
        score = course.rows.score(course.alike, course.combined(fallback, np.arange(len(course.rows))))
        why = f"{first.name}, not compared with others: {_lack(course, error)}"
        return Chosen(fallback, first.name, score, False, why, (Tried(first.name, None, "used"),))


def _lack(course: Course, error: Exception) -> str:
    """Why nothing could be compared, in words."""
    if isinstance(error, MetricError):
        return str(error)
    return "there was too little time" if course.pairs else "there were too few rows that can be scored"


def _compared(course: Course, combiners: Sequence[Combiner], fallback: Combination, *, polish: bool) -> Chosen:
    """The way that does best on rows apart.

    Raises:
        OutOfTimeError: there was too little time, or there are too few rows.
        MetricError: the metric has no value where it is needed.
    """
    best = simplest = course.simplest(combiners[0])
    tried: dict[str, Tried] = {}
    single = float((course.metric.sign * course.alone).min())
    for place, combiner in enumerate(combiners[1:], start=1):
        if not combiner.suits(course.task) or len(course.rows) < combiner.least_rows or len(course.candidates) < 2:
            continue
        now = time.monotonic()
        share = (course.deadline - course.reserve - now) / (len(combiners) - place + 1)
        try:
            way = course.fit(combiner, now + share)
        except OutOfTimeError:
            tried[combiner.name] = Tried(combiner.name, None, "not compared: it takes longer than there was time for")
            continue
        except MetricError as error:
            tried[combiner.name] = Tried(combiner.name, None, f"not compared: {error}")
            continue
        said = _refused(course, way, best, simplest, single)
        tried[combiner.name] = Tried(combiner.name, way.score, said or "used")
        if said is None:
            best = way
    best = _polished(course, best) if polish else best
    return _finished(course, best, simplest, fallback, tried)


def _refused(course: Course, way: Way, best: Way, simplest: Way, single: float) -> str | None:
    """Why a way is not used; None if it is."""
    if not way.beats(best):
        return f"not better than {best.combiner.name} by more than noise"
    if not way.combiner.stacks:
        return None
    sign = course.metric.sign
    if said := refusal_by_score(sign * way.score, sign * simplest.score, single):
        return f"refused: {said}"
    if course.new is not None:
        fitting = course.selection(-1)
        stacking = way.combiner.fit(replace(fitting, deadline=course.deadline))
        selection = Combination.weighted(course.task, fitting.selection, fitting.outputs)
        if said := refusal_by_new_rows(stacking, selection, fitting.stack, np.stack(course.new)):
            return f"refused: {said}"
    return None


def _polished(course: Course, best: Way) -> Way:
    """With a calibration, or a threshold that it need not have, where that is better by more than noise."""
    for kind in kinds_for(course.metric, course.task, len(course.rows)):
        if time.monotonic() > course.deadline - course.reserve:
            return best
        way = _adjusted(course, best, kind)
        if way.beats(best):
            best = way
    if allows_threshold(course.metric, course.task) and time.monotonic() < course.deadline - course.reserve:
        way = _adjusted(course, best, THRESHOLD)
        if way.beats(best):
            best = way
    return best


THRESHOLD = "threshold"


def _adjusted(course: Course, way: Way, what: str) -> Way:
    """The way with something more that is fitted on the rows that it was fitted on."""
    fitted = [_with(what, replace(one, calibration=None), course, place) for place, one in enumerate(way.fitted)]
    judged = [course.combined(one, judge) for one, (_, judge) in zip(fitted, course.pairs, strict=True)]
    return course.way(way.combiner, fitted, judged, what)


def _with(what: str, one: Combination, course: Course, place: int) -> Combination:
    """With a threshold, or a calibration of a kind, fitted on the rows of a fitting."""
    fitting = course.selection(place)
    return _polished_by(what, one, fitting.stack, fitting.rows, course.metric)


def _polished_by(what: str, one: Combination, stack: Predictions, rows: Judged, metric: Metric) -> Combination:
    shares = one.apply(stack)
    if what == THRESHOLD:
        return replace(one, threshold=best_threshold(metric, rows, shares))
    return replace(one, calibration=calibrate(what, shares, rows.target, rows.weight))


def _finished(course: Course, best: Way, simplest: Way, fallback: Combination, tried: dict[str, Tried]) -> Chosen:
    """What was chosen, fitted on all rows."""
    fitting = course.selection(-1)
    whole = fallback if best.combiner is simplest.combiner else course.fitted(best.combiner, fitting)
    if best.combiner is not simplest.combiner and whole.kind == "mean" and best.combiner.stacks:
        tried[best.combiner.name] = replace(tried[best.combiner.name], said="fitted on all rows, it adds nothing")
        return _finished(course, simplest, simplest, fallback, tried)
    if best.said:
        whole = _with(best.said, whole, course, -1)
    name = best.combiner.name
    used = Tried(simplest.combiner.name, simplest.score, "used")
    passed = {other: replace(one, said=f"{name} is better") for other, one in tried.items() if one.said == "used"}
    told = {used.name: used, **tried, **{other: one for other, one in passed.items() if other != name}}
    if name != used.name:
        told[used.name] = replace(used, said=f"{name} is better by more than noise")
    why, alone = _why(course, best, simplest, whole, told), tuple(map(float, course.alone))
    return Chosen(whole, name, best.score, True, why, tuple(told.values()), alone)


def _why(course: Course, best: Way, simplest: Way, whole: Combination, tried: dict[str, Tried]) -> str:
    """The choice in words."""
    unit, name = course.metric.name, best.combiner.name
    others = [one for one in tried.values() if one.name != name and one.score is not None]
    if best.combiner is simplest.combiner:
        against = ", ".join(f"{one.name} {one.score:.5g}" for one in others)
        why = f"{name}, the simplest: " + (
            f"no other way is better by more than noise on rows apart ({unit} {simplest.score:.5g}; {against})"
            if others
            else "no other way was compared"
        )
    else:
        why = f"{name}: {unit} {tried[name].score:.5g} on rows apart, against {simplest.score:.5g} of greedy selection"
    if whole.calibration is not None:
        why += f"; calibrated by {whole.calibration.told}"
    if whole.threshold != EVEN:
        why += f"; the second class is predicted from a probability of {whole.threshold:.2g} on"
    if best.said:
        why += f" ({unit} {best.score:.5g} on rows apart)"
    refused = [f"{one.name} was {one.said}" for one in others if one.said.startswith("refused")]
    return "; ".join([why, *refused])
