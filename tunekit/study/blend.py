"""Candidates, their blend, and its judgement on the test rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tunekit.bundle.tasks import EVEN
from tunekit.ensemble import (
    COMBINERS,
    Chosen,
    Combination,
    Combiner,
    Judgement,
    choose,
    greedy_selection,
    judge,
    polished_like,
    score_like,
)
from tunekit.families import Baseline
from tunekit.ledger import Ledger
from tunekit.study.prepared import Prepared
from tunekit.trial import State, Trial, derive_seed

MOST_CANDIDATES = 30
"""So many of the best complete trials, and each family's best, are considered for the blend if not said otherwise."""


COMBINING = "combining"
"""Names the seed by which rows are drawn and cut to choose a blend."""

BASELINE = Baseline.name
"""The family that the blend is judged against, and takes no part in."""


FEWEST_BLOCKS = 10
"""Of test rows in time; of fewer, resamples would hardly differ."""


Allowed = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.bool_]]
"""Which candidates may become members, given how often each one is."""


@dataclass(frozen=True)
class Candidate:
    """A trial fitted on every fold, with its predictions.

    Args:
        trial: its record.
        out_of_fold: (m, outputs), rows as `Prepared.covered`.
        unlabelled: (t, outputs), test rows and then probes, mean over the fold models.
        folder: holds the models, each in a folder of its own.
        folds: how many models.
    """

    trial: Trial
    out_of_fold: npt.NDArray[np.float64]
    unlabelled: npt.NDArray[np.float64]
    folder: Path
    folds: int

    @property
    def folders(self) -> list[Path]:
        """Of each model."""
        return [self.folder / f"fold{number}" for number in range(self.folds)]


@dataclass(frozen=True)
class Blend:
    """Candidates with weights, and the judgement.

    Args:
        members: (candidate, share of the blend); shares sum to 1, the largest first.
        chosen: how they are combined, and why; its score is on rows that the combination was not fitted on.
        combination: of the members, in their order.
        single: the best single candidate by its score.
        judgement: on the test rows.
        cheap: the best candidate of a cheap family, unless it is the single or there is none.
        alone: by a trial's number, its score on the rows that `chosen.score` is on, where these are apart; of the
            single and the cheap one with a calibration or a threshold of their own, where the blend has one.
    """

    members: tuple[tuple[Candidate, float], ...]
    chosen: Chosen
    combination: Combination
    single: Candidate
    judgement: Judgement
    cheap: Candidate | None = None
    alone: Mapping[int, float | None] = field(default_factory=dict)


def load_candidate(ledger: Ledger, trial: Trial, prepared: Prepared) -> Candidate:
    """Read a complete trial's predictions.

    Raises:
        FileNotFoundError: they were not kept.
    """
    valid, unlabelled = [], []
    folder, folds = ledger.fetch(trial), prepared.folds
    for number in range(len(folds)):
        with np.load(folder / f"fold{number}" / "predictions.npz") as arrays:
            valid.append(arrays["valid"])
            unlabelled.append(arrays["unlabelled"])
    return Candidate(trial, folds.out_of_fold(valid), np.mean(unlabelled, axis=0), folder, len(folds))


def best_first(trials: Sequence[Trial], prepared: Prepared) -> list[Trial]:
    """The complete trials that were fitted on every fold, by score; those that reuse another's result are not."""
    complete = [
        trial
        for trial in trials
        if trial.state is State.COMPLETE and trial.same_as is None and len(trial.fold_scores) == len(prepared.folds)
    ]
    return sorted(complete, key=lambda trial: (prepared.metric.sign * (trial.score or 0.0), trial.number))


def considered(ranked: Sequence[Trial], keep: int) -> list[Trial]:
    """Of trials by score: the best, and each family's best."""
    first_of_family = {trial.family: trial for trial in reversed(ranked)}
    return [trial for position, trial in enumerate(ranked) if position < keep or first_of_family[trial.family] is trial]


def blend(
    ledger: Ledger,
    trials: Sequence[Trial],
    prepared: Prepared,
    seed: int,
    seconds: float,
    keep: int,
    cheap: Collection[str] = (),
) -> Blend | None:
    """Select the blend out of fold, then judge it on the test rows; None if no trial was fitted on every fold.

    The baseline takes part only where there is nothing else.

    Args:
        ledger: holds the trials' predictions.
        trials: that ended.
        prepared: the rows.
        seed: of the study.
        seconds: for selecting and judging, half of them each.
        keep: see `considered`.
        cheap: names of the cheap families.
    """
    candidates = []
    for trial in considered(best_first(trials, prepared), keep):
        with suppress(FileNotFoundError):  # where disk is short, some are let go of
            candidates.append(load_candidate(ledger, trial, prepared))
    if not candidates:
        return None
    # A constant would be chosen to shrink the others towards it, which later rows rarely bear out.
    able = [one for one in candidates if one.trial.family != BASELINE] or candidates
    deadline = time.monotonic() + seconds / 2
    members, chosen, combination = combined(able, prepared, seed, seconds / 2)
    reference = next((one for one in candidates if one.trial.family in cheap), None)
    reference = None if reference is candidates[0] else reference
    alone: dict[int, float | None] = dict(zip((one.trial.number for one in able), chosen.alone, strict=False))
    if chosen.alone and is_polished(combination):
        judged = [one for one in (candidates[0], reference) if one is not None]
        alone |= _alone_apart(judged, combination, prepared, seed, deadline)
    return Blend(
        members=members,
        chosen=chosen,
        combination=combination,
        single=candidates[0],
        judgement=judged_blend(members, combination, candidates, reference, prepared, Limit(seed, seconds / 2)),
        cheap=reference,
        alone=alone,
    )


def is_polished(combination: Combination) -> bool:
    """Whether a calibration or a threshold was fitted beside the members' weights."""
    return combination.calibration is not None or combination.threshold != EVEN


def _alone_apart(
    candidates: Sequence[Candidate], combination: Combination, prepared: Prepared, seed: int, deadline: float
) -> dict[int, float | None]:
    """By a trial's number, its score on rows apart with what the blend was given; None where there is no time."""
    return {
        one.trial.number: score_like(
            combination,
            one.out_of_fold,
            prepared.judged,
            prepared.metric,
            task=prepared.data.task,
            seconds=max(0.0, deadline - time.monotonic()),
            seed=derive_seed(seed, COMBINING),
        )
        for one in candidates
    }


def polished_alone(candidate: Candidate, blend: Combination, prepared: Prepared, seed: int) -> Combination:
    """A candidate by itself, with a calibration or a threshold of its own where the blend has one.

    Args:
        candidate: with its predictions out of fold.
        blend: that it is compared with.
        prepared: the rows.
        seed: of the study.
    """
    metric, task = prepared.metric, prepared.data.task
    seed = derive_seed(seed, COMBINING)
    return polished_like(blend, candidate.out_of_fold, prepared.judged, metric, task=task, seed=seed)


def combined(
    able: Sequence[Candidate],
    prepared: Prepared,
    seed: int,
    seconds: float,
    *,
    combiners: Sequence[Combiner] = COMBINERS,
    allowed: Allowed | None = None,
) -> tuple[tuple[tuple[Candidate, float], ...], Chosen, Combination]:
    """Choose how candidates are combined: the members with their shares, what was chosen, and their combination.

    Args:
        able: candidates that may be members.
        prepared: the rows.
        seed: of the study.
        seconds: for it.
        combiners: to choose from.
        allowed: see `greedy_selection`.
    """
    tests = len(prepared.folds.test)
    chosen = choose(
        [one.out_of_fold for one in able],
        prepared.judged,
        prepared.metric,
        task=prepared.data.task,
        new=[one.unlabelled[:tests] for one in able],
        seconds=seconds,
        seed=derive_seed(seed, COMBINING),
        combiners=combiners,
        select=partial(greedy_selection, allowed=allowed),
    )
    shares = chosen.combination.importance
    order = np.array(sorted(chosen.combination.used, key=lambda place: -shares[place]), dtype=np.int64)
    members = tuple((able[place], float(shares[place])) for place in order)
    return members, chosen, chosen.combination.of(order)


@dataclass(frozen=True)
class Limit:
    """Of a judgement: the study's seed, and the seconds that it may take."""

    seed: int
    seconds: float


def judged_blend(
    members: Sequence[tuple[Candidate, float]],
    combination: Combination,
    candidates: Sequence[Candidate],
    cheap: Candidate | None,
    prepared: Prepared,
    limit: Limit,
) -> Judgement:
    """Judge a blend on the test rows, against the best of the candidates, the baseline and a cheap one.

    The single ones, too, get a calibration or a threshold where the blend has one, as an export of them alone does.
    """
    test = prepared.folds.test
    rows = slice(0, len(test))
    single = candidates[0]
    blended = combination.apply(np.stack([one.unlabelled[rows] for one, _ in members]))

    def alone(one: Candidate) -> npt.NDArray[np.float64]:
        own = polished_alone(one, combination, prepared, limit.seed)
        return own.decisive(own.apply(one.unlabelled[None, rows]))

    predictions = {"blend": combination.decisive(blended), "single": alone(single)}
    baseline = next((one for one in candidates if one.trial.family == BASELINE), None)
    if baseline is not None:
        predictions["baseline"] = _constant(baseline, prepared, len(test))
    weight = None if prepared.data.weight is None else prepared.data.weight[test]
    names = {"single": f"the best single model ({single.trial.name})", "members": str(len(members))}
    if cheap is not None:
        predictions["cheap"] = alone(cheap)
        names["cheap"] = f"The cheap reference ({cheap.trial.name})"
    target = prepared.data.target[test]
    resampling = derive_seed(limit.seed, "bootstrap")
    together = judged_together(prepared)
    return judge(
        prepared.metric, target, weight, predictions, names, seed=resampling, seconds=limit.seconds, group=together
    )


def _constant(baseline: Candidate, prepared: Prepared, tests: int) -> npt.NDArray[np.float64]:
    """What the baseline predicts for the test rows; where decisions count, always the class that scores better."""
    if prepared.metric_of_trials is prepared.metric:
        return baseline.unlabelled[:tests]
    scores = [prepared.judged.score(prepared.metric, np.full((len(prepared.covered), 1), one)) for one in (0.0, 1.0)]
    return np.full((tests, 1), float(prepared.metric.better(scores[1], scores[0])))


def judged_together(prepared: Prepared) -> npt.NDArray[np.int64] | None:
    """Numbers of the groups of test rows that are right or wrong together; None where each row is by itself.

    Where a target is known only after some time, as of a series, windows overlap that are nearer than that: blocks of
    time as long are groups (Carlstein 1986), if there are enough of them to tell anything.
    """
    data, test = prepared.data, prepared.folds.test
    if data.group is not None:
        return data.group[test]
    if not data.horizon or data.time is None or not len(test):
        return None
    blocks = ((data.time[test] - data.time[test].min()) // data.horizon).astype(np.int64)
    return blocks if len(np.unique(blocks)) >= FEWEST_BLOCKS else None
