"""Stoppers decide whether a running trial is worth another epoch or fold. The answer is a return value.

A stopper is an Optuna pruner. Epochs of the first fold are reported with the best score so far at step = epoch, on the
`RUNGS` only; each fold is reported with the mean score so far at step = FOLD_STEP + fold. So every step compares like
with like, and a curve that wobbles is judged by its best epoch.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from tunekit.trial import State, Trial

FOLD_STEP = 1_000_000
"""Steps from here on are folds."""

RUNGS = frozenset(round(2 ** (half / 2)) for half in range(0, 30))
"""Epochs at which a trial is judged: 1, 2, 3, 4, 6, 8, 11, 16, ... Asking at each one would cost more than it saves."""


class Stopper(optuna.pruners.BasePruner):
    """One pruner for the epochs of the first fold and one for folds.

    Args:
        epochs: judges steps that are epochs.
        folds: judges steps that are folds; it sees no epochs.
    """

    def __init__(self, epochs: optuna.pruners.BasePruner, folds: optuna.pruners.BasePruner) -> None:
        self.epochs = epochs
        self.folds = folds

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        """Whether the trial, by its last report, is not worth another epoch or fold."""
        if (trial.last_step or 0) < FOLD_STEP:
            return self.epochs.prune(study, trial)
        view = copy.copy(trial)
        view.intermediate_values = {
            step: value for step, value in trial.intermediate_values.items() if step >= FOLD_STEP
        }
        return self.folds.prune(study, view)


class NeverStop(Stopper):
    """Every trial runs to its end."""

    def __init__(self) -> None:
        super().__init__(optuna.pruners.NopPruner(), optuna.pruners.NopPruner())


class Median(Stopper):
    """Stops a trial that is worse than most of its family's finished ones were by then (Golovin 2017). The default.

    Mild on purpose: over many tasks, eager stopping cost more than it saved.

    Args:
        keep: percentage of trials that are good enough to go on; 50 is the median rule of the paper.
        startup: finished trials of the family before anything is stopped.
        warmup: epochs before anything is stopped.
    """

    def __init__(self, keep: float = 60.0, *, startup: int = 4, warmup: int = 8) -> None:
        super().__init__(
            optuna.pruners.PercentilePruner(keep, startup, warmup, n_min_trials=3),
            optuna.pruners.PercentilePruner(keep, startup, n_min_trials=3),
        )


class Halving(Stopper):
    """Asynchronous successive halving over epochs (Li 2018), the median rule over folds.

    Args:
        min_epochs: epochs that every trial gets.
        reduction: one in this many trials goes on at each rung.
    """

    def __init__(self, min_epochs: int = 8, reduction: int = 3) -> None:
        super().__init__(
            optuna.pruners.SuccessiveHalvingPruner(min_resource=min_epochs, reduction_factor=reduction),
            optuna.pruners.MedianPruner(4, n_min_trials=3),
        )


def worth_more_among_rivals(stopper: Stopper, trial: Trial, others: Sequence[Trial], direction: str) -> bool:
    """Whether a stopper lets a trial with costs go on after a fold: it is judged by its score, but among its rivals.

    A trial that is cheaper than all others is worth having whatever its score is. So it is compared with those alone
    that cost no more than it does, in everything that counts.

    Args:
        stopper: of the study.
        trial: with its costs, and the scores of its folds so far.
        others: of its family, in any state.
        direction: of the score, "minimize" or "maximize".
    """
    study = optuna.create_study(direction=StudyDirection[direction.upper()])
    for other in others:
        complete = other.state is State.COMPLETE and other.same_as is None
        if complete and all(other.costs.get(name, cost) <= cost for name, cost in trial.costs.items()):
            reports = _fold_reports(other)
            study.add_trial(create_trial(state=TrialState.COMPLETE, value=other.score, intermediate_values=reports))
    study.add_trial(create_trial(state=TrialState.RUNNING, intermediate_values=_fold_reports(trial)))
    return not stopper.prune(study, study.get_trials(deepcopy=False)[-1])


def _fold_reports(trial: Trial) -> dict[int, float]:
    """The mean score after each fold, by step."""
    scores = trial.fold_scores
    return {FOLD_STEP + fold: sum(scores[: fold + 1]) / (fold + 1) for fold in range(len(scores))}
