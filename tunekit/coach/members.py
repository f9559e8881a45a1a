"""The members of the blend, and what the others cost."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tunekit.advice import advise
from tunekit.coach.changes import dimension_line, families_line
from tunekit.coach.finding import Finding
from tunekit.coach.searched import Searched
from tunekit.families import Keras, default_families
from tunekit.space import Dimension
from tunekit.study.blend import BASELINE
from tunekit.trial import State

ALIKE = 0.98
"""Correlation of errors, and of predictions, from which on a member adds next to nothing: of two with equal errors the
mean has (1 + 0.98) / 2 of their squared error. Where the target is mostly noise, errors are alike whatever predicts: so
predictions have to be, too."""

MOST_WEIGHT = 0.8
"""Weight that members which are alike have together, from which on the blend has no second opinion."""

WASTED = 0.25
"""Share of the search's time that is worth a word."""

FAIR = 5
"""Trials that a family has had before it is said not to pay: the first ones are defaults."""

FEWEST_FAILED = 3
"""Trials that failed for one reason."""

OFTEN = 0.1
"""Share of a family's trials that failed for one reason."""


def alike(searched: Searched) -> Iterator[Finding]:
    """Members that make the same errors."""
    members = searched.members
    if len(members) < 2:
        return
    target = _hot(searched)
    errors, made = [], []
    for one, _ in members:
        predicted = one.out_of_fold if one.out_of_fold.ndim > 1 else one.out_of_fold[:, None]
        errors.append((predicted - target).ravel())
        made.append((predicted - predicted.mean(axis=0)).ravel())
    by_error, by_prediction = (np.asarray(np.corrcoef(one)) for one in (errors, made))
    close = (by_error > ALIKE) & (by_prediction > ALIKE)
    first = members[0][0].trial
    same = [place for place in range(1, len(members)) if close[0, place]]
    if not same or sum(members[place][1] for place in (0, *same)) < MOST_WEIGHT:
        return
    names = ", ".join(members[place][0].trial.name for place in same)
    told = (
        f"{first.name} and {names} have {sum(members[place][1] for place in (0, *same)):.0%} of the blend's weight, "
        f"and their errors out of fold are the same: correlation {min(by_error[0, place] for place in same):.3f} or "
        "more. Another kind of model would tell more than another one of these."
    )
    suits = default_families(getattr(searched.study.data, "suits", "table"))
    types = {type(family) for family in searched.study.families}
    other = next((family for family in suits if type(family) not in types), None)
    change = "" if other is None else families_line(searched.study, more=[f"tk.{type(other).__name__}()"])
    yield Finding("hint", "alike", "the blend's members are alike", told, change)


def _hot(searched: Searched) -> npt.NDArray[np.float64]:
    """What members would predict if they knew, (n, outputs)."""
    data, rows = searched.prepared.data, searched.prepared.covered
    values = data.target[rows].reshape(len(rows), -1)
    targets = [one.classes for one in data.targets] or [data.classes]
    parts = [
        np.eye(len(classes))[own.astype(int)] if len(classes) > 2 else own[:, None]
        for own, classes in zip(values.T, targets, strict=True)
    ]
    return np.concatenate(parts, axis=1)


def wasted(searched: Searched) -> Iterator[Finding]:
    """Families that took much of the time and have no weight in the blend."""
    ensemble = searched.summary.get("ensemble")
    if not ensemble:
        return
    seconds: dict[str, float] = defaultdict(float)
    count = Counter(trial.family for trial in searched.trials if trial.same_as is None)
    for trial in searched.trials:
        seconds[trial.family] += trial.fit_seconds
    total = sum(seconds.values())
    within = {member["family"] for member in ensemble["members"]}
    names = {family.name for family in searched.study.families if family.name != BASELINE}
    idle = sorted((one for one in names - within if count[one] >= FAIR), key=lambda one: -seconds[one])
    share = sum(seconds[one] for one in idle) / total if total else 0.0
    if share < WASTED:
        return
    told = ", ".join(f"{one} {seconds[one] / total:.0%}" for one in idle)
    text = (
        f"Families without weight in the blend took {share:.0%} of the time of all trials: {told}. Without them the "
        "others get it."
    )
    yield Finding(
        "hint", "no-weight", "time spent on families without weight", text, families_line(searched.study, without=idle)
    )


def failures(searched: Searched) -> Iterator[Finding]:
    """Many trials of a family that failed for the same reason."""
    for family in searched.study.families:
        own = [trial for trial in searched.trials if trial.family == family.name and trial.same_as is None]
        failed = [trial for trial in own if trial.state is State.FAILED]
        reasons = Counter(_reason(trial.error or "") for trial in failed)
        for reason, count in reasons.most_common(1):
            if count < FEWEST_FAILED or count < OFTEN * len(own):
                continue
            example = next(trial for trial in failed if _reason(trial.error or "") == reason)
            text = (
                f"{count} of {len(own)} trials of {family.name} failed for the same reason; {example.name}: "
                f"{example.error}"
            )
            level = "problem" if count > len(own) / 2 else "hint"
            yield Finding(level, "failures", f"{family.name} fails again and again", text)  # type: ignore[arg-type]


def _reason(error: str) -> str:
    """What is the same in reasons that differ in numbers only.

    >>> _reason("out of memory at 3.2 GiB") == _reason("out of memory at 4.0 GiB")
    True
    """
    return re.sub(r"\d+(\.\d+)?(e[-+]?\d+)?", "#", error.partition("\n")[0])


def edges(searched: Searched) -> Iterator[Finding]:
    """Best values at the edge of their range, as `tunekit.advice` finds them, of families that beat the baseline."""
    families = {family.name: family for family in searched.study.families}
    for one in advise(searched.trials, searched.prepared.metric.direction):
        if one.kind != "edge" or one.family not in families or not searched.learnt(one.family):
            continue
        latest: dict[str, Dimension] = {}
        for trial in searched.trials:
            if trial.family == one.family:
                latest.update({dimension.key: dimension for dimension in trial.dimensions})
        change = _widened(latest[one.name], one.numbers["bound"]) if isinstance(families[one.family], Keras) else ""
        yield Finding("hint", "edge", f"{one.family}: {one.name} is at its bound", f"{one.text}.", change)


def _widened(dimension: Dimension, bound: float) -> str:
    """The same dimension with more room beyond a bound: four times, or half of its range."""
    low, high = dimension.bounds
    room = (high - low) / 2
    if abs(bound - low) < abs(bound - high):
        return dimension_line(dimension, low=low / 4 if low > 0 and dimension.sampling != "linear" else low - room)
    return dimension_line(dimension, high=high * 4 if dimension.sampling != "linear" else high + room)
