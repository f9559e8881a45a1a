"""How a student compares with its teacher and with the best single model, as facts and in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tunekit.ensemble import Gain, gain_over
from tunekit.study.blend import judged_together
from tunekit.study.prepared import Prepared
from tunekit.study.serving import costs_text

SECONDS = 60.0
"""Of resampling, for each comparison."""

WORDS = {"latency": "fast", "size": "small"}


@dataclass(frozen=True)
class Rival:
    """A model that was judged.

    Args:
        name: how it is called in words.
        predictions: (t, outputs) of the test rows, as a metric takes them.
        costs: ms of latency and MB of size by the exported graph.
        trial: its number, if it is a trial.
    """

    name: str
    predictions: npt.NDArray[np.float64]
    costs: dict[str, float]
    trial: int | None = None


def report(prepared: Prepared, student: Rival, rivals: Sequence[Rival], *, seed: int) -> dict[str, Any]:
    """Compare a student with others on the test rows.

    Args:
        prepared: the rows.
        student: learnt without the test rows.
        rivals: the blend first.
        seed: of the resampling.

    Returns:
        "told" (in words), "test_score", "costs", and "against", a list with each rival's "name", "trial", "test_score",
        "costs", "gain" of the student over it (positive is better), and "gain_interval".
    """
    metric, test = prepared.metric, prepared.folds.test
    target = prepared.data.target[test]
    weight = None if prepared.data.weight is None else prepared.data.weight[test]
    score = metric.score(target, student.predictions, weight)
    scores = [metric.score(target, one.predictions, weight) for one in rivals]
    together = judged_together(prepared)
    gains = [
        gain_over(
            metric, target, weight, student.predictions, one.predictions, seed=seed, seconds=SECONDS, group=together
        )
        for one in rivals
    ]
    against = [
        {
            "name": one.name,
            "trial": one.trial,
            "test_score": its,
            "costs": one.costs,
            "gain": gain.gain,
            "gain_interval": list(gain.interval),
        }
        for one, its, gain in zip(rivals, scores, gains, strict=True)
    ]
    compared = ", and ".join(
        f"{its:.5g} of {one.name} at {costs_text(one.costs)} (the student is {how_much(gain, its)})"
        for one, its, gain in zip(rivals, scores, gains, strict=True)
    )
    told = (
        f"one net at {costs_text(student.costs)}, which learnt from the blend without the test rows: {metric.name} "
        f"{score:.5g} on them, against {compared}. {verdict(student, rivals, gains)} What is exported learnt from all "
        f"{len(prepared.data):,} rows, the test rows too"
    )
    return {"told": told, "test_score": score, "costs": student.costs, "against": against}


def how_much(gain: Gain, other: float) -> str:
    """A difference in words.

    >>> how_much(Gain(-0.02, (-0.05, 0.01)), 0.8)
    '2.5% worse, within noise'
    """
    if gain.gain == 0:
        return "as good"
    much = f"{abs(gain.gain / other):.1%}" if other else f"{abs(gain.gain):.3g}"
    return f"{much} {'better' if gain.gain > 0 else 'worse'}{'' if _is_sure(gain) else ', within noise'}"


def verdict(student: Rival, rivals: Sequence[Rival], gains: Sequence[Gain]) -> str:
    """Whether the student is worth it, in words.

    Args:
        student: with its costs.
        rivals: the blend first, then the best single model, if that is another one.
        gains: of the student over each.
    """
    blend = rivals[0]
    if all(student.costs[name] >= blend.costs[name] for name in student.costs):
        return "It is not worth it: the student costs no less than the blend."
    for one, gain in zip(rivals[1:], gains[1:], strict=True):
        if gain.gain < 0 and _is_sure(gain):
            return f"It is not worth it: {one.name} is better by more than noise; export that: --trial {one.trial}."
    saved = " and ".join(
        f"{blend.costs[name] / cost:.1f} times as {word}" if cost < blend.costs[name] else f"not as {word}"
        for name, word, cost in ((name, word, student.costs[name]) for name, word in WORDS.items())
    )
    if not _is_sure(gains[0]):
        how = "does as well as the blend on these rows" if gains[0].gain >= 0 else "may lose to the blend, within noise"
        return f"The student {how}, and is {saved}."
    how = "is better than the blend, and" if gains[0].gain > 0 else "loses to the blend by more than noise, but"
    return f"The student {how} is {saved}."


def _is_sure(gain: Gain) -> bool:
    return gain.interval[0] > 0 or gain.interval[1] < 0
