"""`Series`: one or several series in time, as windows of history and the value to forecast."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tunekit.bundle.columns import ARRAY, category_text, typed_column
from tunekit.data.dataset import Dataset
from tunekit.data.grid import Track, told_moment, told_time, tracks_of
from tunekit.data.kinds import infer_kind, numbers_rows
from tunekit.data.reading import read_frame
from tunekit.data.roles import row_weights
from tunekit.data.schema import CYCLES, Column, Schema
from tunekit.data.table import Source
from tunekit.data.windows import Ends, Windows
from tunekit.errors import DataError

WINDOW = "window"
"""Name of the array column with the windows."""

RESERVED = {WINDOW, "numbers", "codes"}
"""Names of a net's inputs, which the columns of time and series can't have."""

MOSTLY_MISSING = 0.5
"""A channel with a larger share of missing values is left out, unless it is asked for: it would be mostly filled."""

SEEN_BEFORE = 2.0
"""A cycle that the data spans fewer times than this can't be told from a trend, and is not given to models."""

DAY = 86_400.0


@dataclass(frozen=True)
class _Shape:
    """What loading found out, and prediction needs too: the channels in order, and the grid."""

    channels: tuple[str, ...]
    period: float
    dated: bool
    cycles: tuple[str, ...]

    @property
    def unit(self) -> str:
        return "second" if self.dated else ""


class Series:
    """A table of time by channels, one or several series of it, as windows with the value to forecast.

    A row for models is a window of `lookback` periods, every `step`-th of them, and the target `delay` periods after
    the window's last row. It is judged on later moments than it trains on (`TimeSplit`), and no training target is
    later than the moment at which the first judged forecast would have been made. Each series is scaled by its own
    training part.

    The rows may come in any order. Every series gets a regular grid, whose period is the usual distance of two rows:

    - A gap in the history is filled with the last known value, at most `fill` periods on; windows that a longer gap
      reaches into, or that begin before a channel is first known, are left out. How many is said.
    - A target is never filled: where it is missing, there is nothing to forecast.
    - Two rows of one moment are an error, unless they are equal.

    Args:
        source: a path to a CSV or Parquet file, a DataFrame, or a function that returns a DataFrame.
        target: the column to forecast, a number.
        time: the column with the moments: dates, or numbers.
        lookback: periods that a window spans.
        delay: periods from the window's last row to the target, at least 1.
        step: every how many periods a window has a row; must divide `lookback`.
        series: the column that tells series apart; models read it as a category.
        weight: a column of non-negative numbers: what a forecast weighs is in the row of its target, the value that it
            is judged by, whatever the rows of its window weigh. It is no channel, unless it is named as one.
        channels: the columns of a window, in order: numbers or booleans. Default: all of them, the target's own past
            included, but for the weight and channels that are mostly missing.
        calendar: whether models are told where the target's moment stands in the day, week and year, as sine and cosine
            of each cycle that the data spans twice and that is longer than a period. Needs dates.
        season: periods after which the target repeats itself; a day (or of daily rows a week) if None.
        difference: whether models learn by how much the target differs from the simplest forecast, its value a season
            before or else the last one, rather than how high it is: then they need not have seen a level before, such
            as that of a summer. `Baseline` is judged by the same simple forecasts.
        fill: most periods in a row that a gap is filled for; half of `lookback` if None.

    Raises:
        DataError: on `load`, where the table can't be used; it names the row or the series.

    >>> frame = pd.DataFrame({"day": pd.date_range("2024-01-01", periods=30), "sold": np.arange(30.0)})
    >>> data = Series(frame, target="sold", time="day", lookback=4, delay=2).load()
    >>> data.columns["window"][0, :, 0].tolist(), float(data.target[0])
    ([0.0, 1.0, 2.0, 3.0], 5.0)
    """

    suits = "series"

    def __init__(
        self,
        source: Source,
        *,
        target: str,
        time: str,
        lookback: int,
        delay: int,
        step: int = 1,
        series: str | None = None,
        weight: str | None = None,
        channels: Sequence[str] | None = None,
        calendar: bool = True,
        season: int | None = None,
        difference: bool = True,
        fill: int | None = None,
    ) -> None:
        whole = {"lookback": lookback, "delay": delay, "step": step, "season": season, "fill": fill}
        for name, value in whole.items():
            number = isinstance(value, numbers.Real)
            if value is not None and (not number or value != int(value) or value < (0 if name == "fill" else 1)):
                raise DataError(f"{name}={value!r}; expected a whole number of periods, at least 1")
        if not isinstance(target, str):
            raise DataError(f"target={target!r}; expected the name of one column: a series has a single target")
        if lookback % step:
            raise DataError(f"lookback={lookback} is no multiple of step={step}; expected one, such as {step * 8}")
        self.source = source
        self.target = target
        self.time = time
        self.windows = Windows(lookback, step, delay, lookback // 2 if fill is None else fill)
        self.series = series
        self.weight = weight
        self.channels = None if channels is None else tuple(channels)
        self.calendar = calendar
        self.season = season
        self.difference = difference
        self._shape: _Shape | None = None

    def load(self) -> Dataset:
        """Read, check and type the rows."""
        notices: list[str] = []
        frame = self._frame(self.source() if callable(self.source) else self.source)
        target = self._target(frame)
        weight = self._weight(frame, target)
        moments, dated = self._moments(frame)
        channels = self.channels or self._usable(frame, notices)
        tracks, period, equal = self._tracks(frame, moments, target, channels, None, dated)
        span = float(moments.max() - moments.min())
        cycles = [name for name, length in CYCLES.items() if period < length <= span / SEEN_BEFORE]
        shape = _Shape(channels, period, dated, tuple(cycles) if dated and self.calendar else ())
        self._shape = shape
        ends = [self.windows.ends(track, wanted=True) for track in tracks]
        if equal:
            notices.append(f"{equal} row(s) were left out because another one equals them")
        notices += self.windows.told(tracks, ends, period, shape.unit)
        dataset = self._dataset(shape, tracks, ends, tuple(notices))
        return dataset if weight is None else replace(dataset, weight=weight[self.windows.given(tracks, ends)])

    def latest(self, history: Any) -> dict[str, npt.NDArray[Any]]:
        """The rows to forecast from: for each series in a raw history, the window that ends with its last row.

        Args:
            history: as the source: a DataFrame or a path, with the columns of time, of series and of the channels.

        Returns:
            Columns for `Bundle.predict`, one row for each series: the window, and where models read them the name of
            the series and the moment that is forecast.

        Raises:
            DataError: a series has no whole window of history, or a row can't be used.
        """
        if self._shape is None:
            self.load()
        shape = self._shape
        assert shape is not None
        frame = self._frame(history, ahead=True)
        moments, _ = self._moments(frame, dated=shape.dated)
        nothing = np.full(len(frame), np.nan)
        tracks, _, _ = self._tracks(frame, moments, nothing, shape.channels, shape.period, shape.dated)
        ends = []
        for track in tracks:
            usable = self.windows.ends(track, wanted=False)
            if not len(usable) or usable[-1] != len(track) - 1:
                raise DataError(
                    f"the series {track.name!r} has no window that ends with its last row, "
                    f"{told_moment(track.start + (len(track) - 1) * shape.period, shape.unit)}: it has {len(track)} "
                    f"rows; expected {self.windows.reach + 1} before which each of {', '.join(shape.channels)} is "
                    f"known, and no gap longer than {self.windows.fill} periods"
                )
            ends.append(usable[-1:])
        columns = self._columns(shape, tracks, ends)
        if shape.cycles:
            columns[self.time] = (columns[self.time] * 1e6).round().astype("datetime64[us]")
        return columns

    @property
    def told(self) -> dict[str, Any] | None:
        """What a window holds, as plain values for a bundle's manifest; None before `load`."""
        if self._shape is None:
            return None
        windows, shape = self.windows, self._shape
        return {
            "channels": list(shape.channels),
            "rows": windows.lookback // windows.step,
            "period": told_time(shape.period, shape.unit),
            "step": windows.step,
            "delay": windows.delay,
            "fill": windows.fill,
            "time": self.time,
            "series": self.series,
            "grid": {"period": shape.period, "dated": shape.dated, "cycles": list(shape.cycles)},
        }

    @classmethod
    def recalled(cls, told: Mapping[str, Any]) -> Series:
        """What a bundle was told of a series, to cut the latest windows of a raw history as in training; no rows."""
        recalled = cls(
            pd.DataFrame(),
            target="",
            time=told["time"],
            lookback=told["rows"] * told["step"],
            delay=told["delay"],
            step=told["step"],
            series=told["series"],
            fill=told["fill"],
        )
        grid = told["grid"]
        recalled._shape = _Shape(tuple(told["channels"]), grid["period"], grid["dated"], tuple(grid["cycles"]))
        return recalled

    def _frame(self, source: Any, *, ahead: bool = False) -> pd.DataFrame:
        frame = read_frame(source)
        frame = frame.set_axis([str(name) for name in frame.columns], axis=1).reset_index(drop=True)
        if frame.empty:
            raise DataError(f"the table is empty ({len(frame)} rows, {len(frame.columns)} columns); expected rows")
        named = [self.time, *([self.series] if self.series else []), *(self.channels or ())]
        for name in named if ahead else [*named, self.target, *([self.weight] if self.weight else [])]:
            if name not in frame.columns:
                raise DataError(f"the table has no column {name!r}; its columns are {', '.join(frame.columns)}")
        if taken := RESERVED & {self.time, self.series}:
            raise DataError(f"a column of time or series is named {taken.pop()!r}, as an input of nets is; rename it")
        for name in filter(None, (self.time, self.series)):
            if frame[name].isna().any():
                row = int(np.flatnonzero(frame[name].isna())[0])
                raise DataError(f"column {name!r} is missing in row {row}; expected it in every row")
        return frame

    def _target(self, frame: pd.DataFrame) -> npt.NDArray[np.float64]:
        kind = infer_kind(frame[self.target], self.target)
        if kind != "number":
            raise DataError(f"target {self.target!r} holds {kind or 'nothing'}; expected numbers, to be forecast")
        target = typed_column(frame[self.target], "number", self.target)
        if len(np.unique(target[~np.isnan(target)])) < 2:
            raise DataError(f"target {self.target!r} has one value only; expected at least two different ones")
        return target

    def _weight(self, frame: pd.DataFrame, target: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
        """What each row weighs as a target; 0 where there is none."""
        if self.weight is None:
            return None
        weight = typed_column(frame[self.weight], "number", self.weight)
        return row_weights(np.where(np.isnan(target), 0.0, weight), f"weight column {self.weight!r}")

    def _moments(self, frame: pd.DataFrame, dated: bool | None = None) -> tuple[npt.NDArray[np.float64], bool]:
        kind = infer_kind(frame[self.time], self.time) if dated is None else "date" if dated else "number"
        if kind not in ("date", "number"):
            raise DataError(f"time column {self.time!r} holds {kind}; expected dates or numbers")
        return typed_column(frame[self.time], kind, self.time), kind == "date"

    def _usable(self, frame: pd.DataFrame, notices: list[str]) -> tuple[str, ...]:
        """The columns that can be channels."""
        usable = []
        for name in frame.columns:
            if name in (self.time, self.series) or (name == self.weight and name != self.target):
                continue
            kind, reason = infer_kind(frame[name], name), ""
            missing = float(frame[name].isna().mean())
            if kind not in ("number", "boolean"):
                reason = f"holds {kind or 'nothing'}"
            elif missing > MOSTLY_MISSING:
                reason = f"is missing in {missing:.0%} of the rows"
            elif name != self.target and kind == "number" and numbers_rows(frame[name]):
                reason = "numbers the rows"
            if reason:
                notices.append(f"column {name!r} {reason} and is no channel (channels=[...] says which ones are)")
            else:
                usable.append(name)
        return tuple(usable)

    def _tracks(
        self,
        frame: pd.DataFrame,
        moments: npt.NDArray[np.float64],
        target: npt.NDArray[np.float64],
        channels: Sequence[str],
        period: float | None,
        dated: bool,
    ) -> tuple[list[Track], float, int]:
        values = np.empty((len(frame), len(channels)), dtype=np.float32)
        for position, name in enumerate(channels):
            if name not in frame.columns:
                raise DataError(f"the table has no column {name!r}, which is a channel; expected all channels")
            kind = infer_kind(frame[name], name) or "number"
            if kind not in ("number", "boolean"):
                raise DataError(f"channel {name!r} holds {kind}; expected numbers or booleans: turn it into such")
            values[:, position] = typed_column(frame[name], kind, name)
        names = [category_text(value) for value in frame[self.series]] if self.series else [""] * len(frame)
        known = [self.time, *([self.series] if self.series else []), *channels]
        known += [name for name in (self.target, self.weight or "") if name in frame]
        compared = frame[list(dict.fromkeys(known))]
        return tracks_of(compared, moments, names, target, values, period, "second" if dated else "")

    def _columns(self, shape: _Shape, tracks: Sequence[Track], ends: Ends) -> dict[str, npt.NDArray[Any]]:
        """The typed columns of windows, given by their last rows in each series."""
        columns: dict[str, npt.NDArray[Any]] = {}
        if self.series:
            names = np.array([track.name for track in tracks], dtype=object)
            columns[self.series] = np.repeat(names, [len(some) for some in ends])
        if shape.cycles:
            columns[self.time] = self.windows.moments(tracks, ends, shape.period)
        return {**columns, WINDOW: self.windows.cells(tracks, ends)}

    def _dataset(
        self,
        shape: _Shape,
        tracks: Sequence[Track],
        ends: Ends,
        notices: tuple[str, ...],
    ) -> Dataset:
        columns = self._columns(shape, tracks, ends)
        windows = columns[WINDOW]
        if not len(windows):
            raise DataError(
                f"no window fits: the longest of {len(tracks)} series has {max(map(len, tracks))} periods of "
                f"{told_time(shape.period, shape.unit)}; expected more than {self.windows.reach + self.windows.delay}, "
                f"for lookback={self.windows.lookback} and delay={self.windows.delay}. {' '.join(notices)}"
            )
        kinds = []
        if self.series:
            kinds.append(Column(self.series, "category"))
        if shape.cycles:
            parts = tuple(f"{name}_{wave}" for name in shape.cycles for wave in ("sin", "cos"))
            kinds.append(Column(self.time, "date", parts=parts))
        kinds.append(Column(WINDOW, ARRAY, shape=windows.shape[1:], dtype="float32", by=self.series or ""))
        naive = self._naive(shape)
        return Dataset(
            schema=Schema(tuple(kinds)),
            columns=columns,
            target=self.windows.targets(tracks, ends),
            classes=(),
            ids=np.arange(len(windows)),
            time=self.windows.moments(tracks, ends, shape.period),
            horizon=self.windows.delay * shape.period,
            naive=naive,
            anchor=next(iter(naive.values()), None) if self.difference else None,
            notices=notices,
            given_as="Series",
        )

    def _naive(self, shape: _Shape) -> dict[str, int]:
        """Where a window's values hold a simple forecast: see `Dataset.naive`."""
        if self.target not in shape.channels:
            return {}
        width, channel = len(shape.channels), shape.channels.index(self.target)
        rows = self.windows.naive(self.season or _usual_season(shape))
        return {name: row * width + channel for name, row in rows.items()}


def _usual_season(shape: _Shape) -> int | None:
    """A day, or of daily rows a week, in periods."""
    if not shape.dated:
        return None
    length = DAY if shape.period < DAY else 7 * DAY
    return None if length % shape.period else round(length / shape.period)
