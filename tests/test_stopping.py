"""Stoppers, through a real Optuna study: what is compared with what."""

from collections.abc import Sequence
from typing import Literal

import optuna
import pytest

from tunekit.stopping import FOLD_STEP, RUNGS, Halving, Median, NeverStop, Stopper


def study_of(stopper: Stopper, direction: Literal["minimize", "maximize"] = "minimize") -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(direction=direction, pruner=stopper, sampler=optuna.samplers.RandomSampler(seed=0))


def finish(study: optuna.Study, epochs: dict[int, float], folds: Sequence[float]) -> None:
    """A trial that ran to its end."""
    trial = study.ask()
    for epoch, score in epochs.items():
        trial.report(score, epoch)
        trial.should_prune()  # halving keeps its own record of who was asked about
    for fold, score in enumerate(folds):
        trial.report(score, FOLD_STEP + fold)
    study.tell(trial, folds[-1])


def verdicts(study: optuna.Study, reports: Sequence[tuple[int, float]]) -> list[bool]:
    """Whether a new trial is stopped, after each of its reports."""
    trial = study.ask()
    answers = []
    for step, score in reports:
        trial.report(score, step)
        answers.append(bool(trial.should_prune()))
    study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    return answers


def five(study: optuna.Study, sign: float = 1.0) -> None:
    """Finished trials with scores 1..5 at each rung up to 32 and each of three folds."""
    for score in range(1, 6):
        finish(study, {epoch: sign * score for epoch in sorted(RUNGS) if epoch <= 32}, [sign * score] * 3)


BAD = [(8, 9.0), (11, 9.0), (FOLD_STEP, 9.0), (FOLD_STEP + 1, 9.0)]
GOOD = [(8, 0.5), (11, 0.5), (FOLD_STEP, 0.5), (FOLD_STEP + 1, 0.5)]


@pytest.mark.parametrize("stopper", [Median(), Halving()], ids=["median", "halving"])
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_bad_are_stopped_and_the_good_are_not(stopper, direction) -> None:
    sign = 1.0 if direction == "minimize" else -1.0
    study = study_of(stopper, direction)
    five(study, sign)
    assert verdicts(study, [(step, sign * score) for step, score in BAD])[0] is True
    assert not any(verdicts(study, [(step, sign * score) for step, score in GOOD]))


def test_never_stop_never_stops() -> None:
    study = study_of(NeverStop())
    five(study)
    assert not any(verdicts(study, BAD))


@pytest.mark.parametrize("stopper", [Median(), Halving()], ids=["median", "halving"])
def test_the_first_trials_are_not_stopped(stopper) -> None:
    study = study_of(stopper)
    assert not any(verdicts(study, [(FOLD_STEP, 9.0), (FOLD_STEP + 1, 9.0)]))
    for score in (1.0, 2.0, 3.0):
        finish(study, {8: score}, [score])
    assert not verdicts(study, [(FOLD_STEP, 9.0)])[0], "three are too few to compare with"


def test_a_warming_up_net_is_left_alone() -> None:
    study = study_of(Median(warmup=8))
    five(study)
    assert verdicts(study, [(1, 9.0), (2, 9.0), (4, 9.0), (6, 9.0), (8, 9.0)]) == [False] * 4 + [True]


def test_folds_are_compared_with_folds_and_epochs_with_epochs() -> None:
    """Scores at an epoch are bad everywhere, and at a fold good: neither may be judged by the other."""
    study = study_of(Median())
    for score in range(1, 6):
        finish(study, {8: 100.0 + score, 11: 100.0 + score}, [1.0 * score])
    assert verdicts(study, [(8, 50.0), (11, 50.0), (FOLD_STEP, 50.0)]) == [False, False, True]
    # The best epoch was better than any fold; at the fold it is still judged by its fold score.
    assert verdicts(study, [(8, 0.1), (FOLD_STEP, 50.0)]) == [False, True]


def test_the_first_fold_has_no_warm_up() -> None:
    """Families without epochs report folds only; a warm-up of 8 epochs must not keep them safe."""
    study = study_of(Median(warmup=8))
    for score in range(1, 6):
        finish(study, {}, [1.0 * score])
    assert verdicts(study, [(FOLD_STEP, 9.0)]) == [True]
    assert verdicts(study, [(FOLD_STEP, 0.5), (FOLD_STEP + 1, 0.5)]) == [False, False]


def test_median_keeps_its_share() -> None:
    """Ten finished trials with scores 1..10; keep=60 stops what is worse than the sixth."""
    study = study_of(Median(keep=60))
    for score in range(1, 11):
        finish(study, {}, [1.0 * score])
    kept = {score: not verdicts(study, [(FOLD_STEP, score)])[0] for score in (5.5, 7.5)}
    assert kept == {5.5: True, 7.5: False}


def test_halving_promotes_one_in_three_at_each_rung() -> None:
    """Asynchronous: of trials that come from worst to best each is the best so far and goes on; a worse one stops."""
    study = study_of(Halving(min_epochs=8, reduction=3))
    assert [verdicts(study, [(8, 10.0 - score)])[0] for score in range(6)] == [False] * 6
    assert verdicts(study, [(8, 20.0)]) == [True]
    assert verdicts(study, [(6, 20.0)]) == [False], "every trial gets its first epochs"


def test_rungs_are_few_and_start_at_once() -> None:
    assert sorted(RUNGS)[:9] == [1, 2, 3, 4, 6, 8, 11, 16, 23]
    assert sum(1 for epoch in RUNGS if epoch <= 200) < 18, "asking costs"
    assert max(RUNGS) < FOLD_STEP
