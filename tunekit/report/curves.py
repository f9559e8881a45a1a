"""Learning curves of the best trials, and where they began to learn their training rows by heart."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from tunekit.report.leaderboard import best_of_family
from tunekit.report.material import Material
from tunekit.report.section import Drawing, Section
from tunekit.report.style import ACCENT, OTHER, counted, panels, plain, sampled
from tunekit.trial import Epoch, Trial

MOST_CURVES = 6
MOST_EPOCHS = 250
"""Points of a line."""

RISEN = 0.02
"""Share by which the validation loss must rise again to be called overfitting."""


@dataclass(frozen=True)
class Course:
    """One fold's losses by epoch."""

    epochs: np.ndarray
    training: np.ndarray
    validation: np.ndarray

    @property
    def least(self) -> int:
        """The place of the smallest validation loss."""
        return int(np.nanargmin(self.validation))

    @property
    def overfits(self) -> bool:
        """Whether the validation loss rose again while the training loss still fell."""
        best, last = self.validation[self.least], self.validation[-1]
        falls = self.training[-1] < self.training[self.least]
        return bool(falls and best != 0 and (last - best) / abs(best) > RISEN)


def courses(curve: Sequence[Epoch]) -> list[Course]:
    """The losses of each fold that has both."""
    folds: dict[int, list[Epoch]] = {}
    for point in curve:
        if {"loss", "val_loss"} <= set(point.logs):
            folds.setdefault(point.fold, []).append(point)
    found = []
    for points in folds.values():
        epochs = np.array([point.epoch for point in points])
        losses = np.array([[point.logs["loss"], point.logs["val_loss"]] for point in points], dtype=float)
        if len(points) > 1 and np.isfinite(losses[:, 1]).any():
            found.append(Course(epochs, losses[:, 0], losses[:, 1]))
    return found


def curves(material: Material) -> Section:
    """The best trial of each family that is trained in epochs."""
    best = best_of_family(material).values()
    able = [(trial, found) for trial in best if (found := courses(trial.curve))]
    if not able:
        why = "No complete trial was trained in epochs whose losses are recorded (nets are); others have no curve."
        return Section("curves", "Learning curves", left_out=[why])
    shown = able[:MOST_CURVES]
    told = [_told(trial, found) for trial, found in shown]
    more = f" The best {MOST_CURVES} of {len(able)} families are shown." if len(able) > MOST_CURVES else ""
    told.append(
        "Lines are folds: solid on the rows that judge, dotted on those that train. The dashed line marks the epoch of "
        f"the smallest validation loss, the median over folds; what follows it is overfitting if the loss rises.{more}"
    )
    alt = " ".join(told[:-1])
    return Section("curves", "Learning curves", told, [Drawing("curves", _figure(shown), alt, stacks=True)])


def _told(trial: Trial, found: Sequence[Course]) -> str:
    least = statistics.median(float(one.epochs[one.least]) for one in found)
    last = statistics.median(float(one.epochs[-1]) for one in found)
    overfit = [one for one in found if one.overfits]
    start = f"{trial.name}: the validation loss was smallest after epoch {least:g} of {last:g}"
    if len(overfit) * 2 > len(found):
        rise = statistics.median(
            (one.validation[-1] - one.validation[one.least]) / abs(one.validation[one.least]) for one in overfit
        )
        return (
            f"{start}, then overfitting began: it rose by {rise:.0%} while the training loss fell, "
            f"in {len(overfit)} of {counted(len(found), 'fold')}."
        )
    if least >= 0.95 * last:
        return f"{start}: it was still falling when training ended, so more epochs may help."
    return f"{start} and hardly rose afterwards: no overfitting to speak of."


def _figure(shown: Sequence[tuple[Trial, Sequence[Course]]]) -> go.Figure:
    made, places = panels(len(shown), 260)
    for (row, column), (trial, found) in zip(places, shown, strict=True):
        for number, one in enumerate(found):
            kept = sampled(len(one.epochs), MOST_EPOCHS)
            kinds = (("validation", one.validation, ACCENT, "solid"), ("training", one.training, OTHER, "dot"))
            for kind, losses, colour, dash in kinds:
                made.add_scatter(
                    x=one.epochs[kept],
                    y=losses[kept],
                    mode="lines",
                    line={"color": colour, "width": 1.6, "dash": dash},
                    opacity=0.8,
                    name=kind,
                    legendgroup=kind,
                    showlegend=row == column == 1 and number == 0,
                    hovertemplate=f"fold {number + 1}, {kind}, epoch %{{x}}: %{{y:.4g}}<extra></extra>",
                    row=row,
                    col=column,
                )
        least = statistics.median(float(one.epochs[one.least]) for one in found)
        made.add_vline(x=least, line={"color": "#7d8590", "dash": "dash", "width": 1.5}, row=row, col=column)
        made.update_xaxes(title_text=f"epoch · {plain(trial.name, 24)}", row=row, col=column)
        validation = np.concatenate([one.validation for one in found])
        training = np.concatenate([one.training for one in found])
        low, high = np.nanmin([np.nanmin(validation), np.nanmin(training)]), np.nanquantile(validation, 0.95)
        margin = 0.1 * (high - low)
        made.update_yaxes(range=[low - margin, high + 3 * margin], nticks=6, row=row, col=column)
    made.update_yaxes(title_text="loss", col=1)
    return made
