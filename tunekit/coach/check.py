"""`check`: looks at a study's data before any compute is spent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from tunekit.coach.aims import imbalance, tail
from tunekit.coach.changes import together
from tunekit.coach.columns import constant, scales, seen_once
from tunekit.coach.finding import Finding, most_urgent_first
from tunekit.coach.leaks import ids, later_dates, target_means, telling_columns
from tunekit.coach.loading import decided, left_out
from tunekit.coach.parts import dates, drift, few_rows, new_gaps, twins
from tunekit.coach.sight import Sight
from tunekit.study.prepared import Prepared

if TYPE_CHECKING:
    from tunekit.study import Study

LOOKS: tuple[Callable[[Sight], Iterator[Finding]], ...] = (
    telling_columns,
    target_means,
    later_dates,
    ids,
    left_out,
    twins,
    new_gaps,
    drift,
    dates,
    few_rows,
    imbalance,
    tail,
    constant,
    seen_once,
    scales,
    decided,
)
"""Each looks for one thing."""


def check(study: Study, *, prepared: Prepared | None = None) -> list[Finding]:
    """Look at a study's data before any compute is spent; nothing reads the targets of test rows.

    It takes seconds: where that would be slow, some of the rows are looked at, and the findings say so.

    Args:
        study: the declaration.
        prepared: its rows, if they are prepared already.

    Returns:
        The findings, the most urgent first; those with the level "good" say what was looked at and is well.

    Raises:
        TunekitError: the data can't be loaded or split.

    >>> import pandas as pd, tunekit as tk
    >>> frame = pd.DataFrame({"size": range(0, 600, 2), "price": [3.0 * n + n % 7 for n in range(300)]})
    >>> frame["tax"] = frame["price"] * 0.19
    >>> [one.kind for one in check(tk.Study("houses", data=tk.Table(frame, target="price"))) if one.level == "problem"]
    ['leak', 'leak']
    """
    sight = Sight(study, study.prepare() if prepared is None else prepared)
    return together(study, most_urgent_first([found for look in LOOKS for found in look(sight)]))
