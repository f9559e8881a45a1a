"""Windows cut out of series: which rows each has, what it forecasts, and what had to be left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunekit.data.grid import Track, told_time

Ends = Sequence[npt.NDArray[np.int64]]
"""The last rows of windows, for each series."""


@dataclass(frozen=True)
class Windows:
    """How windows are cut, in periods of the grid.

    Args:
        lookback: that a window spans.
        step: from one of its rows to the next.
        delay: from its last row to the target.
        fill: most that a gap in it may be filled for.
    """

    lookback: int
    step: int
    delay: int
    fill: int

    @property
    def reach(self) -> int:
        """Periods from a window's first row to its last."""
        return self.lookback - self.step

    def ends(self, track: Track, *, wanted: bool) -> npt.NDArray[np.int64]:
        """The last rows of the windows that can be used; where a target is wanted, that have one."""
        ends = np.arange(self.reach, len(track) - (self.delay if wanted else 0), dtype=np.int64)
        if wanted:
            ends = ends[~np.isnan(track.target[ends + self.delay])]
        unknown = np.any(track.age > self.fill, axis=1, keepdims=True)[:, 0]
        return np.asarray(ends[~unknown[self._rows(ends)].any(axis=1)])

    def cells(self, tracks: Sequence[Track], ends: Ends) -> npt.NDArray[np.float32]:
        """The windows, (n, rows of a window, channels)."""
        counts = [len(some) for some in ends]
        windows = np.empty((sum(counts), self.lookback // self.step, tracks[0].values.shape[1]), dtype=np.float32)
        for track, some, last in zip(tracks, ends, np.cumsum(counts), strict=True):
            windows[last - len(some) : last] = track.values[self._rows(some)]
        return windows

    def targets(self, tracks: Sequence[Track], ends: Ends) -> npt.NDArray[np.float64]:
        """What is to be forecast, (n,)."""
        return np.concatenate([track.target[some + self.delay] for track, some in zip(tracks, ends, strict=True)])

    def given(self, tracks: Sequence[Track], ends: Ends) -> npt.NDArray[np.int64]:
        """Which row of the table that is, (n,)."""
        return np.concatenate([track.given[some + self.delay] for track, some in zip(tracks, ends, strict=True)])

    def moments(self, tracks: Sequence[Track], ends: Ends, period: float) -> npt.NDArray[np.float64]:
        """When that is, (n,)."""
        pairs = zip(tracks, ends, strict=True)
        return np.concatenate([track.start + (some + self.delay) * period for track, some in pairs])

    def naive(self, season: int | None) -> dict[str, int]:
        """The rows of a window that tell a simple forecast: a season before the target, if it has one, and the last."""
        last = {"last": self.reach // self.step}
        for back in range(-self.delay % season, self.lookback, season) if season else ():
            if back % self.step == 0:
                return {"season": (self.reach - back) // self.step} | last
        return last

    def told(self, tracks: Sequence[Track], ends: Ends, period: float, unit: str) -> list[str]:
        """What was filled and left out, in words."""
        told = []
        filled = [np.where(track.age < len(track), track.age, 0) for track in tracks]
        if rows := sum(int(age.any(axis=1).sum()) for age in filled):
            longest = max(int(age.max(initial=0)) for age in filled)
            absent = sum(track.added for track in tracks)
            told.append(
                f"the history has gaps in {rows} of {sum(map(len, tracks))} periods of {told_time(period, unit)} "
                f"({absent} without any row), filled with the last known value; the longest is {longest} periods"
            )
        possible = sum(max(0, len(track) - self.reach - self.delay) for track in tracks)
        if left := possible - sum(map(len, ends)):
            told.append(
                f"{left} of {possible} windows are left out: their target is missing, a gap longer than {self.fill} "
                "periods reaches into them, or a channel is not known yet"
            )
        short = [track.name for track, some in zip(tracks, ends, strict=True) if not len(some)]
        if short and len(short) < len(tracks):
            told.append(f"{len(short)} series have no window, such as {short[0]!r}")
        return told

    def _rows(self, ends: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """(n, rows of a window): which rows of its series each window has."""
        return ends[:, None] + np.arange(-self.reach, 1, self.step)
