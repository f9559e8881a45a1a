"""What learning curves tell: nets that could be larger, nets that overfit at once, and rates that are too high."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunekit.advice.evidence import position
from tunekit.coach.changes import dimension_line, number
from tunekit.coach.finding import Finding
from tunekit.coach.searched import Searched
from tunekit.families import Keras, NetFamily
from tunekit.families.sized import DEPTHS, WIDTHS
from tunekit.space import Dimension
from tunekit.trial import State, Trial

LATE = 0.95
"""Of the epochs: a best one beyond that is at the end."""

NEAR = 0.95
"""Of the validation loss: a training loss of more than that has learnt nothing by heart."""

AT_ONCE = 3
"""Epochs: a net whose best epoch is among these has seen each row three times."""

EARLY = 0.25
"""Of the epochs of a longer training: a best one before that is early, too."""

BY_HEART = 0.05
"""Of the validation loss: with a training loss of less than that, the training rows are known by heart."""

FEWEST_EPOCHS = 6
"""A training of fewer was cut short by its time: that says nothing of the net's size."""

LOOKED_AT = 3
"""Best trials of a family whose curves are looked at."""

WINDOW = 3
"""Epochs whose mean is compared: single ones are noisy."""

EXPLODED = 10.0
"""So many times the loss of the first epoch is no accident of a batch."""

FEWEST_FAILED = 2
"""Trials whose loss exploded, from which on the rate is looked at."""

REGULARISERS = re.compile(r"(\w+_)?(dropout|weight_decay|decay|l1|l2)(_rate)?(_?\d+)?")
"""Names of those that keep it from learning by heart."""

RATES = re.compile(r"learning_rate|lr|rate")
"""Names of learning rates."""


@dataclass(frozen=True)
class Curve:
    """One fold's training.

    Args:
        train: training loss by epoch.
        valid: validation loss by epoch.
        best: the epoch that was kept, from 1.
    """

    train: npt.NDArray[np.float64]
    valid: npt.NDArray[np.float64]
    best: int

    @property
    def ended_early(self) -> bool:
        """Whether the best epoch is among the last ones: training ended before it was done."""
        return self.best > LATE * len(self.valid)

    @property
    def by_heart(self) -> bool:
        """Whether training loss vanishes beside validation loss, when it is best or, if that is early, in the end."""
        best, end = (0 < self.train[at] < BY_HEART * self.valid[at] for at in (self.best - 1, -1))
        return bool(best or (end and self.is_early))

    @property
    def is_early(self) -> bool:
        """Whether the best epoch is among the first ones."""
        return self.best <= max(AT_ONCE, EARLY * len(self.valid))

    @property
    def turns_up(self) -> bool:
        """Whether validation loss rises by more than noise after its best epoch while training loss goes on falling.

        Means of three epochs are compared. Noise is three standard errors of such a difference, by how much the
        validation loss jumps from epoch to epoch after the best one.
        """
        after = self.valid[self.best - 1 :]
        if len(after) < 2 * WINDOW or len(self.valid) < 2 * WINDOW:
            return False
        start = max(0, min(self.best - 1 - WINDOW // 2, len(self.valid) - 2 * WINDOW))
        there, end = slice(start, start + WINDOW), slice(-WINDOW, None)
        rise = self.valid[end].mean() - self.valid[there].mean()
        jumps = np.diff(after)
        noise = float(np.std(jumps)) / math.sqrt(2)  # of an epoch; a jump has the noise of two
        falls = self.train[end].mean() < self.train[there].mean()
        return bool(falls and rise > 3.0 * noise * math.sqrt(2 / WINDOW) and rise > 0)


def curves_of(trial: Trial) -> list[Curve]:
    """The curves of a trial's folds that have a training and a validation loss; none for families without epochs."""
    folds: dict[int, list[dict[str, float]]] = {}
    for point in trial.curve:
        folds.setdefault(point.fold, []).append(point.logs)
    found = []
    for fold, logs in sorted(folds.items()):
        if fold < len(trial.best_epochs) and all("loss" in one and "val_loss" in one for one in logs):
            train, valid = (np.array([one[name] for one in logs]) for name in ("loss", "val_loss"))
            found.append(Curve(train, valid, trial.best_epochs[fold]))
    return found


def capacity(dimensions: Sequence[Dimension]) -> list[Dimension]:
    """The dimensions that say how large a net is: widths, or else depths; whole numbers, or choices of such."""
    for names in (WIDTHS, DEPTHS):
        found = [one for one in dimensions if called(one, names) and _whole(one)]
        if found:
            return found
    return []


def called(dimension: Dimension, names: re.Pattern[str]) -> bool:
    """Whether a dimension has such a name, in whatever scope.

    >>> size = Dimension("block_0/units", "int", 64, 32, 512)
    >>> called(size, WIDTHS), called(size, DEPTHS)
    (True, False)
    """
    return bool(names.fullmatch(dimension.name.rpartition("/")[2]))


def _whole(dimension: Dimension) -> bool:
    if dimension.kind == "int":
        return True
    values = dimension.choices if dimension.kind == "choice" else ()
    return bool(values) and all(isinstance(one, int) and not isinstance(one, bool) for one in values)


def fits(searched: Searched) -> Iterator[Finding]:
    """Of each family of nets: whether its best trials could learn more, or learn by heart at once."""
    for family in searched.study.families:
        best = [trial for trial in searched.able if trial.family == family.name][:LOOKED_AT]
        curves = [curve for trial in best for curve in curves_of(trial) if len(curve.valid) >= FEWEST_EPOCHS]
        if not isinstance(family, NetFamily) or not curves:
            continue
        if _all(curves, lambda one: one.ended_early and one.train[one.best - 1] > NEAR * one.valid[one.best - 1]):
            yield _could_grow(family, best, curves)
            continue
        for trials in (best, best[:1]):  # the best one alone says enough: others may be regularised, and worse
            own = [curve for trial in trials for curve in curves_of(trial) if len(curve.valid) >= FEWEST_EPOCHS]
            if own and _all(own, lambda one: one.by_heart or (one.is_early and one.turns_up)):
                yield _regularise(family, trials, own)
                break


def _all(curves: Sequence[Curve], holds: object) -> bool:
    """Whether it holds for three of four curves: single folds may be odd."""
    assert callable(holds)
    return sum(bool(holds(one)) for one in curves) >= 0.75 * len(curves)


def _could_grow(family: NetFamily, best: Sequence[Trial], curves: Sequence[Curve]) -> Finding:
    epochs = [len(one.valid) for one in curves]
    told = (
        f"In the best {len(best)} trial(s) of {family.name} the best epoch is "
        f"{np.median([one.best for one in curves]):.0f} of {np.median(epochs):.0f} (medians over the folds), and "
        f"training loss is {_ratio(curves):.2f} of validation loss: nothing is learnt by heart yet."
    )
    sizes = [one for one in capacity(best[0].dimensions) if one.kind == "int"]
    change = ""
    if isinstance(family, Keras) and max(epochs) >= family.epochs:
        change = f"epochs={2 * family.epochs},"
        told += f" All {family.epochs} epochs are used: allow more."
    elif sizes:
        size = max(sizes, key=lambda one: position(one, best[0].values[one.name]))
        told += f" {size.key} is {best[0].values[size.name]} in the best one: let it grow."
        change = dimension_line(size, high=4 * size.bounds[1]) if isinstance(family, Keras) else ""
    return Finding("hint", "underfits", f"{family.name} never overfits", told, change)


def _ratio(curves: Sequence[Curve]) -> float:
    return float(np.median([one.train[one.best - 1] / one.valid[one.best - 1] for one in curves]))


def _regularise(family: NetFamily, best: Sequence[Trial], curves: Sequence[Curve]) -> Finding:
    told = (
        f"In the best {len(best)} trial(s) of {family.name} the best epoch is "
        f"{np.median([one.best for one in curves]):.0f} of {np.median([len(one.valid) for one in curves]):.0f} "
        "(medians over the folds)"
    )
    if _all(curves, lambda one: one.by_heart):
        least = np.median([one.train[-1] / one.valid[-1] for one in curves])
        told += f"; training loss ends at {number(float(least))} of validation loss: the rows are learnt by heart."
    else:
        told += "; then validation loss does not fall any more while training loss does."
    knobs = [one for one in best[0].dimensions if called(one, REGULARISERS) and one.kind == "float"]
    change = ""
    if knobs:
        knob = max(knobs, key=lambda one: one.bounds[1])
        told += f" Regularise: {knob.key} is {number(float(best[0].values[knob.name]))} in the best one."
        high = knob.bounds[1] * 10 if knob.sampling == "log" else min(0.8, max(knob.bounds[1], 2 * knob.bounds[1]))
        change = dimension_line(knob, high=high) if isinstance(family, Keras) else ""
    elif isinstance(family, Keras):
        told += " Regularise: the factory has neither dropout nor weight decay to search."
        change = 'x = keras.layers.Dropout(hp.Float("dropout", 0.0, 0.6, default=0.3))(x)'
    return Finding("hint", "overfits-at-once", f"{family.name} overfits at once", told, change)


def rates(searched: Searched) -> Iterator[Finding]:
    """Of each family: whether training exploded where the learning rate was high."""
    for family in searched.study.families:
        own = [trial for trial in searched.trials if trial.family == family.name and trial.same_as is None]
        burst = [trial for trial in own if exploded(trial)]
        if len(burst) < FEWEST_FAILED:
            continue
        told = (
            f"In {len(burst)} of {len(own)} trials of {family.name} the loss became infinite or ten times that of the "
            "first epoch."
        )
        change = ""
        dimension, bound = _high_rate(own, burst)
        if dimension is not None:
            told += (
                f" Their {dimension.key} is higher than that of the others, {number(bound)} or more: lower its upper "
                "bound, or clip gradients (clipnorm=1)."
            )
            change = dimension_line(dimension, high=bound) if isinstance(family, Keras) else ""
        yield Finding(
            "problem" if len(burst) > len(own) / 2 else "hint",
            "explodes",
            f"{family.name}: losses explode",
            told,
            change,
        )


def exploded(trial: Trial) -> bool:
    """Whether a trial's training went astray."""
    if trial.state is State.FAILED:
        return bool(re.search(r"loss became (nan|inf|-inf)", trial.error or ""))
    losses = [point.logs["loss"] for point in trial.curve if point.fold == 0 and "loss" in point.logs]
    return len(losses) > 1 and losses[0] > 0 and max(losses[1:]) > EXPLODED * losses[0]


def _high_rate(own: Sequence[Trial], burst: Sequence[Trial]) -> tuple[Dimension | None, float]:
    """The rate that is higher in trials that burst than in others (Mann 1947), and its lowest value in the former."""
    from scipy.stats import mannwhitneyu

    numbers = {trial.number for trial in burst}
    for dimension in burst[0].dimensions:
        if dimension.kind != "float" or not called(dimension, RATES):
            continue
        high = [float(one.values[dimension.name]) for one in burst if dimension.name in one.values]
        low = [
            float(one.values[dimension.name])
            for one in own
            if one.number not in numbers and dimension.name in one.values
        ]
        if high and low and mannwhitneyu(high, low, alternative="greater").pvalue < 0.05:
            return dimension, min(high)
    return None, math.nan
