"""The members of a blend, fitted once more on all rows: one model each instead of one per fold."""

from __future__ import annotations

import math
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tunekit.data import Folds
from tunekit.data.preparation import Preparation
from tunekit.ensemble import Combination
from tunekit.errors import StudyError
from tunekit.executors import Job, Limits, LocalExecutor, answer_of
from tunekit.families import Family, NetFamily
from tunekit.families.base import Length, load_facts
from tunekit.families.one_by_one import target_folder
from tunekit.families.rounds import PATIENCE, Boosting
from tunekit.ledger import Ledger
from tunekit.study.blend import Candidate
from tunekit.study.effort import usable_cores
from tunekit.study.goal import Refits
from tunekit.study.prepared import Prepared
from tunekit.training.refit import RefitTask, refusal, run_refit
from tunekit.trial import Trial, derive_seed

if TYPE_CHECKING:
    from tunekit.study.study import Study

SECONDS = 3600.0
"""A fit that takes longer is given up."""

SAFE_SHARE = 0.95
"""Of the time for refits that the members may be expected to take. In a search, what else starts slows trials down."""

KEPT_SHARE = 0.8
"""Of what a search keeps for refits that the leading trials are expected to take."""

MOST_SHARE = 0.45
"""Of a budget that is kept for refits, at most."""

DUMMIES = 8
"""Training rows that stand where a fold has rows that judge."""


@dataclass(frozen=True)
class Refitted:
    """What came of it.

    Args:
        members: with one model each, which learnt from all rows.
        told: how the blend fares without the test rows, in words.
        score: on the test rows, of a blend whose models learnt from all other rows.
    """

    members: list[Candidate]
    told: str
    score: float


def refitted(
    study: Study, prepared: Prepared, ledger: Ledger, members: Sequence[Candidate], combination: Combination
) -> Refitted:
    """Fit each member on all rows but the test rows, judge the blend of these, then fit each on all rows.

    Nets and boosted trees are trained as long as it took, by the median over the folds, to be best.

    Args:
        study: the declaration.
        prepared: its rows.
        ledger: of the study, in whose folder the models are left.
        members: of the blend.
        combination: of them.

    Raises:
        StudyError: a member can't be fitted for a given number of epochs.
    """
    for one in members:
        _check(study, one.trial)
    rows = prepared.data.teaching(prepared.folds.development)
    folder = ledger.folder / "refit"
    shutil.rmtree(folder, ignore_errors=True)
    judged = _fitted(study, prepared, members, rows, folder / "judged")
    score, before = (_score(prepared, some, combination) for some in (judged, members))
    shutil.rmtree(folder / "judged")
    everything = prepared.data.teaching(np.arange(len(prepared.data), dtype=np.int64))
    final = _fitted(study, prepared, members, everything, folder / "all")
    told = (
        f"one model a member, fitted on {len(rows):,} rows: {prepared.metric.name} {score:.5g} on the test rows, "
        f"against {before:.5g} of {members[0].folds} models a member; what is exported learnt from all "
        f"{len(everything):,} rows, the test rows too"
    )
    return Refitted(final, told, score)


def refitted_in_time(
    study: Study,
    prepared: Prepared,
    ledger: Ledger,
    members: Sequence[Candidate],
    weights: Sequence[float],
    seconds: float,
) -> list[Candidate]:
    """The members, as many of them fitted once more on all rows as the time allows; the others stay as they are.

    For blends of one fold, whose models have not learnt from the rows that judged them. Nothing is judged here: whoever
    asks for it judges the blend on rows of their own. Those with the most weight for their time come first.

    Args:
        study: the declaration.
        prepared: its rows.
        ledger: of the study, in whose folder the models are left.
        members: of the blend.
        weights: theirs.
        seconds: for all of it.
    """
    deadline = time.monotonic() + seconds
    everything = prepared.data.teaching(np.arange(len(prepared.data), dtype=np.int64))
    families = {family.name: family for family in study.families}
    costs = {one.trial.number: _expected(one.trial, families.get(one.trial.family), prepared) for one in members}
    places = sorted(range(len(members)), key=lambda at: -weights[at] / max(costs[members[at].trial.number], 0.1))
    chosen: list[Candidate] = []
    left = SAFE_SHARE * seconds
    for one in (members[at] for at in places):
        cost = costs[one.trial.number]
        if cost < left:
            chosen.append(one)
            left -= cost
    if not chosen:
        return list(members)
    folder = ledger.folder / "refit"
    shutil.rmtree(folder, ignore_errors=True)
    fitted = {one.trial.number: one for one in _fitted(study, prepared, chosen, everything, folder / "all", deadline)}
    return [fitted.get(one.trial.number, one) for one in members]


def refits_of(study: Study, prepared: Prepared, share: float) -> Refits | None:
    """What a search keeps for `refitted_in_time`.

    Args:
        study: the declaration.
        prepared: its rows.
        share: of the budget, at least; none if it is 0.
    """
    families = {family.name: family for family in study.families}
    if not share:
        return None
    return Refits(share, MOST_SHARE, lambda trial: _expected(trial, families.get(trial.family), prepared) / KEPT_SHARE)


def _expected(trial: Trial, family: Family | None, prepared: Prepared) -> float:
    """Seconds that a trial is expected to take on all rows; infinite if it can't be fitted once more.

    Boosting needs no rounds after the best, in which a trial finds out that it was the best. A refit has every
    core, where a trial may have had one: to be on the safe side, four times the threads halve what such a fit takes.
    """
    if family is None or refusal(family) is not None:
        return math.inf
    folds, (train, _) = len(prepared.folds), prepared.folds.pairs[0]
    seconds = trial.fit_seconds / folds * len(prepared.data) / len(train)
    if trial.best_epochs and isinstance(family, Boosting):
        seconds *= trial.best_epochs[0] / (trial.best_epochs[0] + PATIENCE)
    if family.threaded and trial.threads:
        seconds *= math.sqrt(trial.threads / max(trial.threads, usable_cores()))
    return seconds


def _check(study: Study, trial: Trial) -> None:
    reason = _refusal(study, trial)
    if reason:
        raise StudyError(f"{reason}; export without --refit")


def _refusal(study: Study, trial: Trial) -> str | None:
    """Why a trial can't be fitted once more; None if it can."""
    family = next((family for family in study.families if family.name == trial.family), None)
    if family is None:
        return f"{trial.name} is in the blend, but the study has no family {trial.family!r} any more"
    reason = refusal(family)
    return f"{trial.name} can't be fitted once more: {reason}" if reason else None


def _fitted(
    study: Study,
    prepared: Prepared,
    members: Sequence[Candidate],
    rows: np.ndarray,
    folder: Path,
    deadline: float = math.inf,
) -> list[Candidate]:
    """The members with one model each, fitted on these rows; those that aren't by the deadline are left out.

    Raises:
        StudyError: one could not be fitted, where there is no deadline.
    """
    folds = Folds(prepared.folds.test, ((rows, rows[:DUMMIES]),))
    replace(prepared, folds=folds).write(folder / "data")
    families = {family.name: family for family in study.families}
    heavy = any(families[one.trial.family].needs_tensorflow for one in members)
    threads = usable_cores()
    executor = LocalExecutor(1, threads, folder / "executor.log", folder / "data", heavy=heavy)
    found = []
    try:
        for one in members:
            family, trial = families[one.trial.family], one.trial
            task = RefitTask(
                family,
                prepared.metric,
                trial.values,
                _length(trial, is_net=isinstance(family, NetFamily)) or _length_of_each(one),
                _lift(one),
                derive_seed(trial.seed, "refit"),
                threads,
            )
            place = folder / f"trial{trial.number}"
            place.mkdir(parents=True)
            seconds = min(SECONDS, deadline - time.monotonic())
            job = Job(run_refit, (task,), place, Limits(seconds), heavy=family.needs_tensorflow)
            try:
                answer_of(executor, job, StudyError, "could not be fitted once more")
            except StudyError:
                if math.isinf(deadline):
                    raise
                continue
            with np.load(place / "fold0" / "predictions.npz") as arrays:
                found.append(replace(one, unlabelled=arrays["unlabelled"], folder=place, folds=1))
    finally:
        executor.close()
        shutil.rmtree(folder / "data", ignore_errors=True)
    return found


def _length(trial: Trial, *, is_net: bool) -> Length | None:
    """As long as the fold that took the median time to be best, by its learning rates."""
    if not trial.best_epochs:
        return None
    fold = trial.best_epochs.index(statistics.median_low(trial.best_epochs))
    if not is_net:
        return Length(trial.best_epochs[fold])
    rates = [epoch.logs.get("learning_rate") for epoch in trial.curve if epoch.fold == fold]
    known = tuple(rate for rate in rates if rate is not None)
    return Length(trial.best_epochs[fold], known[: trial.best_epochs[fold]] or (1e-3,))


def _length_of_each(one: Candidate) -> Length | None:
    """Of boosting by several targets, which have a model each: as many rounds as those of its folds, by the median.

    A target that a constant predicts in every fold gets what the others do.
    """
    found: dict[int, list[int]] = {}
    for folder in one.folders:
        for column in range(load_facts(folder).get("targets", 0)):
            rounds = load_facts(target_folder(folder, column)).get("rounds")
            found.setdefault(column, []).extend([] if rounds is None else [rounds])
    everything = [rounds for each in found.values() for rounds in each]
    if not everything:
        return None
    each = tuple(statistics.median_low(found[column] or everything) for column in sorted(found))
    return Length(statistics.median_low(everything), each=each)


def _lift(one: Candidate) -> float:
    """Of the folds' models, the mean: no rows are left that could tell it of a model that learnt from all."""
    found = []
    for folder in one.folders:
        path = folder / "preparation.npz"
        if path.exists():  # models of several targets have one each, and none of them learns a logarithm
            with np.load(path) as arrays:
                found.append(Preparation.from_arrays(arrays).lift)
    return statistics.mean(found) if found else 0.0


def _score(prepared: Prepared, members: Sequence[Candidate], combination: Combination) -> float:
    test = prepared.folds.test
    blended = combination.apply(np.stack([one.unlabelled[: len(test)] for one in members]))
    weight = None if prepared.data.weight is None else prepared.data.weight[test]
    return prepared.metric.score(prepared.data.target[test], combination.decisive(blended), weight)
