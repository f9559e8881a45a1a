"""Dates that loading doesn't read as such: texts that aren't spelt as by ISO 8601, whole numbers of eight digits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tunekit.coach.sight import Look, Values

DAYS = (
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d.%m.%Y",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%Y.%m.%d",
    "%d/%m/%y",
    "%m/%d/%y",
    "%d %b %Y",
    "%d %B %Y",
    "%d-%b-%Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%Y%m%d",
)
"""Spellings of days that are tried, with and without a time."""

TIMES = ("", " %H:%M", " %H:%M:%S")

FEWEST = 10
"""Different texts or numbers that have to be dates: of random numbers between those of two years, 3% are."""

FIRST, LAST = 1800_01_01, 2199_12_31
"""Whole numbers between which days are looked for."""


@dataclass(frozen=True)
class Spelling:
    """How a column spells its dates.

    Args:
        format: as `pandas.to_datetime` takes it.
        first: the earliest date.
        last: the latest one.
        ambiguous: whether the month could as well stand first.
    """

    format: str
    first: pd.Timestamp
    last: pd.Timestamp
    ambiguous: bool = False


def spelling_of(texts: Sequence[str]) -> Spelling | None:
    """How all of these texts spell dates; None if they don't, or are too few to tell.

    >>> spelling_of([f"{day}/03/2021" for day in range(10, 28)]).format
    '%d/%m/%Y'
    """
    known = pd.Series(sorted({one.strip() for one in texts if one.strip()}), dtype=object)
    if len(known) < FEWEST or not known.str.contains(r"\d").all():
        return None
    read = {}
    for day in DAYS:
        for time in TIMES:
            if pd.isna(pd.to_datetime(known.iloc[0], format=day + time, errors="coerce")):
                continue
            dates = pd.to_datetime(known, format=day + time, errors="coerce")
            if dates.notna().all():
                read[day + time] = dates
    if not read:
        return None
    spelt, dates = next(iter(read.items()))
    return Spelling(spelt, dates.min(), dates.max(), len(read) > 1)


def days_in(look: Look) -> Values | None:
    """Of a column of whole numbers such as 20240131: seconds since 1970, NaN where missing; None if it isn't one."""
    if look.kind != "number":
        return None
    known = look.all[~np.isnan(look.all)]
    if not len(known) or known.min() < FIRST or known.max() > LAST or (known % 1 != 0).any():
        return None
    levels = np.unique(known)
    dates = pd.to_datetime(pd.Series(levels.astype(np.int64).astype(str)), format="%Y%m%d", errors="coerce")
    if len(levels) < FEWEST or dates.isna().any():
        return None
    seconds = np.full(len(look.all), np.nan)
    place = np.searchsorted(levels, known)
    seconds[~np.isnan(look.all)] = (dates.to_numpy().astype("datetime64[s]").astype(np.float64))[place]
    return seconds
