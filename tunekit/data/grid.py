"""Series on a regular grid of time: doubled moments refused, gaps filled by a rule, and what was done counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tunekit.errors import DataError

OFF_GRID = 1e-3
"""Share of a period that a row may be off the grid: clocks and decimal fractions are not exact."""

UNITS = ((604_800.0, "week"), (86_400.0, "day"), (3_600.0, "hour"), (60.0, "minute"), (1.0, "second"))


@dataclass(frozen=True)
class Track:
    """One series, a row for each period from its first row to its last.

    Args:
        name: of the series.
        start: moment of the first row.
        values: float32 (rows, channels): as given, or in a gap the last known value; NaN before the first known one.
        age: int64 (rows, channels): periods since the value was known; 0 where it was given.
        target: float64 (rows,): as given, NaN in a gap: what is predicted is never filled.
        given: int64 (rows,): which row of the table each is; -1 where none is.
        added: rows that were not there at all.
    """

    name: str
    start: float
    values: npt.NDArray[np.float32]
    age: npt.NDArray[np.int64]
    target: npt.NDArray[np.float64]
    given: npt.NDArray[np.int64]
    added: int

    def __len__(self) -> int:
        return len(self.target)


def find_period(moments: npt.NDArray[np.float64], codes: npt.NDArray[np.int64], unit: str) -> float:
    """The usual distance of two rows of a series.

    Args:
        moments: (n,) of all rows, sorted by series and time.
        codes: (n,) which series they are of.
        unit: what a distance of 1 is, for messages: "second", or "" if time is a number.

    Raises:
        DataError: no distance is the usual one.
    """
    exact = 2.0 * np.finfo(np.float64).eps * float(np.abs(moments).max())  # of a difference of two moments
    steps = np.round(np.diff(moments)[np.diff(codes) == 0], max(0, int(-np.log10(max(exact, 1e-15)))))
    distances, counts = np.unique(steps[steps > 0], return_counts=True)
    if not len(distances):
        raise DataError("no series has two rows; expected a history: a row for each period, hour by hour or day by day")
    usual = float(distances[counts.argmax()])
    if counts.max() < counts.sum() / 2:
        common = ", ".join(told_time(float(distances[one]), unit) for one in np.argsort(-counts)[:4])
        raise DataError(
            f"the rows have no usual distance in time: {len(distances)} different ones, such as {common}; expected "
            "most rows one period apart. Bring them onto a grid first, such as with pandas' resample, or count "
            "periods whose length changes, such as months, by whole numbers"
        )
    return usual


def tracks_of(
    frame: pd.DataFrame,
    moments: npt.NDArray[np.float64],
    names: Sequence[str],
    target: npt.NDArray[np.float64],
    channels: npt.NDArray[np.float32],
    period: float | None,
    unit: str,
) -> tuple[list[Track], float, int]:
    """Put rows in any order onto the grids of their series.

    Args:
        frame: the rows, of all columns that count: of equal ones the first is taken.
        moments: (n,) when each row is.
        names: which series each is of.
        target: (n,), NaN where missing.
        channels: (n, channels), NaN where missing.
        period: of the grid; the usual distance of two rows if None.
        unit: see `find_period`.

    Returns:
        The series in order of name, the period, and how many rows were left out because another one equals them.

    Raises:
        DataError: two rows of a series have one moment and differ, or a row is beside the grid; it names them.
    """
    texts, codes = np.unique(np.asarray(names, dtype=object).astype(str), return_inverse=True)
    again = frame.duplicated().to_numpy()
    order = np.lexsort((moments, codes))
    order = order[~again[order]]
    doubled = np.flatnonzero((np.diff(moments[order]) == 0) & (np.diff(codes[order]) == 0))
    if len(doubled):
        first, second = sorted((int(order[doubled[0]]), int(order[doubled[0] + 1])))
        raise DataError(
            f"rows {first} and {second} are both of {_of(texts[codes[first]])}{told_moment(moments[first], unit)} and "
            "differ; expected one row for each moment of a series: leave one out, take their mean, or name the column "
            "that tells the series apart by series='COLUMN'"
        )
    found = find_period(moments[order], codes[order], unit) if period is None else period
    tracks = []
    for name, rows in zip(texts, np.split(order, np.flatnonzero(np.diff(codes[order])) + 1), strict=True):
        places = _places(moments[rows], rows, found, str(name), unit)
        tracks.append(_track(str(name), float(moments[rows[0]]), places, rows, target[rows], channels[rows]))
    return tracks, found, int(again.sum())


def _places(
    moments: npt.NDArray[np.float64], rows: npt.NDArray[Any], period: float, name: str, unit: str
) -> npt.NDArray[np.int64]:
    """Which period each row is in, from the first row on."""
    exact = (moments - moments[0]) / period
    places = np.round(exact)
    off = np.flatnonzero((np.abs(exact - places) > OFF_GRID) | (np.diff(places, prepend=-1) == 0))
    if len(off):
        late = told_time(float(moments[off[0]] - moments[off[0] - 1]), unit)
        raise DataError(
            f"row {rows[off[0]]}, of {_of(name)}{told_moment(moments[off[0]], unit)}, comes {late} after the one "
            f"before; expected whole periods of {told_time(period, unit)}, as between most rows: bring the rows onto "
            "a grid first, such as with pandas' resample"
        )
    return np.asarray(places, dtype=np.int64)


def _track(
    name: str,
    start: float,
    places: npt.NDArray[np.int64],
    given: npt.NDArray[np.int64],
    target: npt.NDArray[np.float64],
    channels: npt.NDArray[np.float32],
) -> Track:
    rows = int(places[-1]) + 1
    known = np.full((rows, channels.shape[1]), np.nan, dtype=np.float32)
    known[places] = channels
    wanted = np.full(rows, np.nan)
    wanted[places] = target
    stands = np.full(rows, -1, dtype=np.int64)
    stands[places] = given
    here = np.arange(rows)[:, None]
    last = np.maximum.accumulate(np.where(np.isnan(known), -1, here), axis=0)
    values = np.take_along_axis(known, np.maximum(last, 0), axis=0)
    age = np.where(last < 0, rows, here - last)
    return Track(name, start, values, age, wanted, stands, rows - len(places))


def told_time(distance: float, unit: str) -> str:
    """A span of time in words.

    >>> told_time(5400.0, "second"), told_time(86400.0, "second"), told_time(2.0, "")
    ('90 minutes', '1 day', '2')
    """
    if not unit:
        return f"{distance:g}"
    size, name = next((pair for pair in UNITS if distance >= pair[0] and distance % pair[0] == 0), UNITS[-1])
    return f"{distance / size:g} {name}{'s' if distance != size else ''}"


def told_moment(moment: float, unit: str) -> str:
    """A moment as it is written."""
    if not unit:
        return f"{moment:g}"
    return str(np.datetime64(round(moment * 1e6), "us")).removesuffix(".000000")


def _of(name: Any) -> str:
    return f"series {str(name)!r}, " if name else ""
