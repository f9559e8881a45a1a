"""More than one objective: beside its score, a trial may be judged by what it costs to serve it."""

from __future__ import annotations

from collections.abc import Sequence

from tunekit.errors import StudyError
from tunekit.trial import State, Trial

COSTS = {"latency": "ms", "size": "MB"}
"""What can be minimised beside the score, in what unit: the time of one prediction, the size of the exported file."""


def checked_costs(names: Sequence[str]) -> tuple[str, ...]:
    """The names in the order of `COSTS`.

    Raises:
        StudyError: one is unknown, or stands twice.

    >>> checked_costs(["size", "latency"])
    ('latency', 'size')
    """
    if isinstance(names, str) or set(names) - set(COSTS) or len(set(names)) != len(names):
        raise StudyError(
            f"also_minimize is {names!r}; expected a list of {' and '.join(map(repr, COSTS))}, each once at most, such "
            'as ["latency"]'
        )
    return tuple(name for name in COSTS if name in names)


def pareto_front(trials: Sequence[Trial], direction: str, costs: Sequence[str]) -> list[Trial]:
    """The complete trials that none beats: no other is as good in everything and better in something.

    Args:
        trials: in any state.
        direction: of the score, "minimize" or "maximize".
        costs: see `COSTS`; with none there is no front.

    Returns:
        The best score first. Of trials that are equal in everything, the first.
    """
    sign = 1.0 if direction == "minimize" else -1.0
    points = [
        ((sign * one.score, *(one.costs[name] for name in costs)), one)
        for one in trials
        if one.state is State.COMPLETE
        and one.same_as is None
        and one.score is not None
        and set(costs) <= set(one.costs)
    ]
    front: list[tuple[tuple[float, ...], Trial]] = []
    for point, trial in sorted(points, key=lambda one: (one[0], one[1].number)) if costs else []:
        # What comes earlier has no worse score, so only that can beat it.
        if not any(all(mine <= own for mine, own in zip(better, point, strict=True)) for better, _ in front):
            front.append((point, trial))
    return [trial for _, trial in front]
