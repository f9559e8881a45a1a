"""Calibration: probabilities that are as often right as they say, where the metric rewards it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tunekit.families.base import link
from tunekit.metrics import Metric

Predictions = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float64]

CLIP = 1e-4
"""Probabilities nearer to 0 or 1 have these log odds: float32 can't tell them well, and none is surer of its rows."""

REWARDED = ("neg_log_loss", "neg_brier_score", "d2_log_loss_score", "d2_brier_score")
"""Scorers by which a probability that is as often right as it says is best."""

NARROWEST = 0.01
"""Knots of an isotonic curve are at least so far apart: a steeper one would enlarge float32's rounding."""

FEWEST_ISOTONIC = 1000
"""Rows; with fewer, an isotonic curve follows their noise (Niculescu-Mizil and Caruana 2005)."""


def log_odds(shares: Predictions) -> Predictions:
    """Log odds of the second of two classes, (..., 1), or logarithms of the shares of several, (..., K)."""
    near = np.clip(shares, CLIP, 1.0 - CLIP)
    return np.log(near / (1.0 - near)) if shares.shape[-1] == 1 else np.log(near)


@dataclass(frozen=True)
class Calibration:
    """A monotone curve over probabilities.

    Args:
        kind: "temperature" (the log odds are divided by it; Guo 2017) or "isotonic" (straight lines between knots).
        temperature: of the former.
        x: knots of the latter, rising.
        y: their values.
    """

    kind: str
    temperature: float = 1.0
    x: Floats | None = None
    y: Floats | None = None

    def apply(self, shares: Predictions) -> Predictions:
        """Calibrated probabilities (n, outputs)."""
        if self.kind == "isotonic":
            assert self.x is not None
            assert self.y is not None
            return np.interp(shares[:, 0], self.x, self.y)[:, None]
        return link(log_odds(shares) / self.temperature, "sigmoid" if shares.shape[1] == 1 else "softmax")

    @property
    def plain(self) -> dict[str, Any]:
        """As JSON can hold it."""
        knots = {"x": self.x.tolist(), "y": self.y.tolist()} if self.x is not None and self.y is not None else {}
        return {"kind": self.kind, "temperature": self.temperature, **knots}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Calibration:
        """The inverse of `plain`."""
        knots = {name: np.asarray(plain[name], dtype=np.float64) for name in ("x", "y") if name in plain}
        return cls(plain["kind"], float(plain["temperature"]), knots.get("x"), knots.get("y"))

    @property
    def told(self) -> str:
        """In words."""
        return f"temperature {self.temperature:.2f}" if self.kind == "temperature" else "an isotonic curve"


def kinds_for(metric: Metric, task: str, rows: int) -> list[str]:
    """The calibrations worth trying."""
    if metric.scorer not in REWARDED or task not in ("binary", "multiclass", "ordinal"):
        return []
    return ["temperature", "isotonic"] if task == "binary" and rows >= FEWEST_ISOTONIC else ["temperature"]


def calibrate(kind: str, shares: Predictions, target: Floats, weight: Floats | None) -> Calibration:
    """Fit a calibration.

    Args:
        kind: see `Calibration`.
        shares: probabilities (n, outputs).
        target: (n,) positions of classes.
        weight: (n,) or None.
    """
    return _isotonic(shares, target, weight) if kind == "isotonic" else _temperature(shares, target, weight)


def _temperature(shares: Predictions, target: Floats, weight: Floats | None) -> Calibration:
    from scipy.optimize import minimize_scalar

    odds, single = log_odds(shares), shares.shape[1] == 1

    def loss(log_temperature: float) -> float:
        scaled = odds / np.exp(log_temperature)
        if single:
            lost = np.logaddexp(0.0, np.where(target == 1, -scaled[:, 0], scaled[:, 0]))
        else:
            right = np.take_along_axis(scaled, target.astype(int)[:, None], axis=1)[:, 0]
            lost = np.logaddexp.reduce(scaled, axis=1) - right
        return float(np.average(lost, weights=weight))

    found = minimize_scalar(loss, bounds=(-2.0, 2.0), method="bounded")
    return Calibration("temperature", float(np.exp(found.x)))


def _isotonic(shares: Predictions, target: Floats, weight: Floats | None) -> Calibration:
    from sklearn.isotonic import IsotonicRegression

    # One wrong row must not cost everything: no value is nearer to 0 or 1 than so many rows can tell.
    least = 1.0 / (len(target) + 2.0)
    curve = IsotonicRegression(y_min=least, y_max=1.0 - least, out_of_bounds="clip")
    curve.fit(shares[:, 0], target, sample_weight=weight)
    x, y = curve.X_thresholds_, curve.y_thresholds_
    cells = np.unique((x / NARROWEST).astype(int), return_inverse=True)[1]
    many = np.bincount(cells)
    means = [np.bincount(cells, weights=values) / many for values in (x, y)]
    wide = np.r_[True, np.diff(means[0]) >= NARROWEST / 2]
    return Calibration("isotonic", 1.0, means[0][wide], np.maximum.accumulate(means[1][wide]))
