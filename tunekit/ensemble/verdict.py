"""The final judgement, on rows that nothing touched: is the blend worth it?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunekit.ensemble.judged import Predictions, Rows
from tunekit.ensemble.resampling import resampled
from tunekit.metrics import Metric

LEVEL = 0.95


@dataclass(frozen=True)
class Judgement:
    """Scores on the test rows.

    Args:
        blend: the blend's score.
        intervals: 95% bootstrap intervals over the test rows, of the scores of "blend", "single" and, if there are
            such, "baseline" and "cheap". All are scored on the same resampled rows, so that two that overlap may still
            differ: see `gain_interval`.
        single: the best single candidate's score.
        baseline: the baseline's score, or None without one.
        gain: how much better the blend is than the single, in the metric's unit; positive is better.
        gain_interval: its 95% interval.
        verdict: in words.
        cheap: the best cheap candidate's score, or None without one.
        cheap_interval: the 95% interval of how much better the blend is than that one, or None.
    """

    blend: float
    intervals: Mapping[str, tuple[float, float]]
    single: float
    baseline: float | None
    gain: float
    gain_interval: tuple[float, float]
    verdict: str
    cheap: float | None = None
    cheap_interval: tuple[float, float] | None = None


def judge(
    metric: Metric,
    target: npt.NDArray[np.float64],
    weight: npt.NDArray[np.float64] | None,
    predictions: dict[str, Predictions],
    names: dict[str, str],
    *,
    seed: int,
    seconds: float = math.inf,
    group: Rows | None = None,
) -> Judgement:
    """Score on the test rows with paired bootstrap intervals (Efron 1979).

    Args:
        metric: of the study.
        target: (n,) of the test rows.
        weight: (n,) or None.
        predictions: "blend", "single" and, if there are such, "baseline" and "cheap": (n, outputs) each.
        names: how to call "single" and "cheap" in words, and "members" (how many the blend has).
        seed: of the resampling.
        seconds: for the resampling; with little time there are fewer samples: see `resampled`.
        group: (n,) numbers of the groups whose rows are right or wrong together, or None; see `resampled`.
    """
    scores = {name: metric.score(target, one, weight) for name, one in predictions.items()}
    drawn = resampled(metric, target, weight, predictions, seed, seconds, group)
    sign = -metric.sign
    gains = sign * (drawn["blend"] - drawn["single"])
    gain = sign * (scores["blend"] - scores["single"])
    gain_interval = _interval(gains)

    def gain_over(other: str) -> tuple[float, float] | None:
        return _interval(sign * (drawn["blend"] - drawn[other])) if other in drawn else None

    beaten, cheap = gain_over("baseline"), gain_over("cheap")
    verdict = _verdict(gain, gain_interval, beaten, scores, names, metric)
    if cheap is not None and not cheap[0] > 0 and (beaten is None or beaten[0] > 0):
        better = cheap[1] < 0
        how = "is better, and the 95% interval of that is above zero" if better else "does as well"
        noise = "" if better else ", within the noise of these rows"
        verdict += f" {names['cheap']} {how}: {scores['cheap']:.5g}{noise}."
    return Judgement(
        blend=scores["blend"],
        intervals={name: _interval(scores) for name, scores in drawn.items()},
        single=scores["single"],
        baseline=scores.get("baseline"),
        gain=gain,
        gain_interval=gain_interval,
        verdict=verdict,
        cheap=scores.get("cheap"),
        cheap_interval=cheap,
    )


@dataclass(frozen=True)
class Gain:
    """How much better one model is than another on the same rows.

    Args:
        gain: in the metric's unit; positive is better.
        interval: its 95% bootstrap interval, both scored on the same resampled rows.
    """

    gain: float
    interval: tuple[float, float]


def gain_over(
    metric: Metric,
    target: npt.NDArray[np.float64],
    weight: npt.NDArray[np.float64] | None,
    one: Predictions,
    other: Predictions,
    *,
    seed: int,
    seconds: float = math.inf,
    group: Rows | None = None,
) -> Gain:
    """How much better the first predictions are than the second, with a paired bootstrap interval (Efron 1979).

    Args:
        metric: of the study.
        target: (n,).
        weight: (n,) or None.
        one: (n, outputs).
        other: (n, outputs).
        seed: of the resampling.
        seconds: for the resampling; see `judge`.
        group: see `judge`.
    """
    sign = -metric.sign
    drawn = resampled(metric, target, weight, {"one": one, "other": other}, seed, seconds, group)
    gain = sign * (metric.score(target, one, weight) - metric.score(target, other, weight))
    return Gain(gain, _interval(sign * (drawn["one"] - drawn["other"])))


def _interval(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    if not len(values):
        return (float("nan"), float("nan"))
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _verdict(
    gain: float,
    gain_interval: tuple[float, float],
    beaten: tuple[float, float] | None,
    scores: dict[str, float],
    names: dict[str, str],
    metric: Metric,
) -> str:
    unit, single = metric.name, names["single"]
    if beaten is not None and not beaten[0] > 0:
        return (
            f"No model is reliably better than the baseline ({unit} {scores['blend']:.5g} against "
            f"{scores['baseline']:.5g}): the columns may say little about the target."
        )
    if names["members"] == "1":
        return f"One model is enough: nothing improves {single} out of fold."
    share = abs(gain) / abs(scores["single"]) if scores["single"] else float("nan")
    told = f"{unit} {scores['blend']:.5g} against {scores['single']:.5g}, {share:.1%} "
    if gain_interval[0] > 0:
        return f"The blend is worth it: {told}better than {single}, and the 95% interval of the gain is above zero."
    if gain > 0:
        return f"The blend is probably worth it: {told}better than {single}, but the gain's 95% interval includes zero."
    if gain_interval[1] < 0:
        return f"The blend is not worth it: {told}worse than {single}; use that one alone."
    return f"The blend is not better than {single} on these rows: {told}worse, within noise; the single is simpler."
