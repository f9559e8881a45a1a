"""Candidates, their blend, and its judgement on the test rows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunekit.ensemble import Judgement, greedy_selection, judge
from tunekit.families import Baseline
from tunekit.ledger import Ledger
from tunekit.study.prepared import Prepared
from tunekit.trial import State, Trial, derive_seed

MOST_CANDIDATES = 30
"""So many of the best complete trials, and each family's best, are considered for the blend if not said otherwise."""


BASELINE = Baseline.name
"""The family that the blend is judged against, and takes no part in."""


@dataclass(frozen=True)
class Candidate:
    """A trial fitted on every fold, with its predictions.

    Args:
        trial: its record.
        out_of_fold: (m, outputs), rows as `Prepared.covered`.
        unlabelled: (t, outputs), test rows and then probes, mean over the fold models.
    """

    trial: Trial
    out_of_fold: npt.NDArray[np.float64]
    unlabelled: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Blend:
    """Candidates with weights, and the judgement.

    Args:
        members: (candidate, weight) with positive weights that sum to 1, largest first.
        score: of the blended out-of-fold predictions.
        single: the best single candidate by its score.
        judgement: on the test rows.
        cheap: the best candidate of a cheap family, unless it is the single or there is none.
    """

    members: tuple[tuple[Candidate, float], ...]
    score: float
    single: Candidate
    judgement: Judgement
    cheap: Candidate | None = None


def load_candidate(ledger: Ledger, trial: Trial, folds: int) -> Candidate:
    """Read a complete trial's predictions.

    Raises:
        FileNotFoundError: they were not kept.
    """
    valid, unlabelled = [], []
    folder = ledger.fetch(trial)
    for number in range(folds):
        with np.load(folder / f"fold{number}" / "predictions.npz") as arrays:
            valid.append(arrays["valid"])
            unlabelled.append(arrays["unlabelled"])
    return Candidate(trial, np.concatenate(valid), np.mean(unlabelled, axis=0))


def best_first(trials: Sequence[Trial], prepared: Prepared) -> list[Trial]:
    """The complete trials that were fitted on every fold, by score; those that reuse another's result are not."""
    complete = [
        trial
        for trial in trials
        if trial.state is State.COMPLETE and trial.same_as is None and len(trial.fold_scores) == len(prepared.folds)
    ]
    sign = 1.0 if prepared.metric.direction == "minimize" else -1.0
    return sorted(complete, key=lambda trial: (sign * (trial.score or 0.0), trial.number))


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
            candidates.append(load_candidate(ledger, trial, len(prepared.folds)))
    if not candidates:
        return None
    judged = prepared.judged
    # A constant would be chosen to shrink the others towards it, which later rows rarely bear out.
    chosen = [one for one in candidates if one.trial.family != BASELINE] or candidates
    weights = greedy_selection([one.out_of_fold for one in chosen], judged, prepared.metric, seconds=seconds / 2)
    members = sorted(
        ((one, float(weight)) for one, weight in zip(chosen, weights, strict=True) if weight > 0),
        key=lambda member: -member[1],
    )
    blended = sum(weight * one.out_of_fold for one, weight in members)
    reference = next((one for one in candidates if one.trial.family in cheap), None)
    reference = None if reference is candidates[0] else reference
    return Blend(
        members=tuple(members),
        score=judged.score(prepared.metric, np.asarray(blended)),
        single=candidates[0],
        judgement=_judge(candidates, members, reference, prepared, seed, seconds / 2),
        cheap=reference,
    )


def _judge(
    candidates: list[Candidate],
    members: list[tuple[Candidate, float]],
    cheap: Candidate | None,
    prepared: Prepared,
    seed: int,
    seconds: float,
) -> Judgement:
    test = prepared.folds.test
    rows = slice(0, len(test))
    single = candidates[0]
    predictions = {
        "blend": np.asarray(sum(weight * one.unlabelled[rows] for one, weight in members)),
        "single": single.unlabelled[rows],
    }
    baseline = next((one for one in candidates if one.trial.family == BASELINE), None)
    if baseline is not None:
        predictions["baseline"] = baseline.unlabelled[rows]
    weight = None if prepared.data.weight is None else prepared.data.weight[test]
    names = {"single": f"the best single model ({single.trial.name})", "members": str(len(members))}
    if cheap is not None:
        predictions["cheap"] = cheap.unlabelled[rows]
        names["cheap"] = f"The cheap reference ({cheap.trial.name})"
    target = prepared.data.target[test]
    resampling = derive_seed(seed, "bootstrap")
    return judge(prepared.metric, target, weight, predictions, names, seed=resampling, seconds=seconds)
