"""When a net's training must end."""

from __future__ import annotations

import time


class Deadline:
    """The end of a training's time, which runs from here on.

    In the first fold of a trial a net is traced, which may take longer than its epochs do; later folds take the graph
    over. So tracing is not counted against a fold's time: an epoch without it tells what it took.

    Args:
        seconds: for the training.
        more_seconds: for what is done once for all folds, at most.

    Attributes:
        pace: seconds of an epoch; None before the second has ended.
    """

    def __init__(self, seconds: float, more_seconds: float = 0.0) -> None:
        self.pace: float | None = None
        self._begun = time.monotonic()
        self._seconds = seconds
        self._more = more_seconds
        self._epochs = 0
        self._first = 0.0

    def epoch_ended(self) -> None:
        """To be called after each epoch."""
        now = time.monotonic()
        self._epochs += 1
        if self._epochs == 1:
            self._first = now
            return
        self.pace = (now - self._first) / (self._epochs - 1)
        if self._epochs == 2:
            self._more = min(self._more, max(0.0, self._first - self._begun - self.pace))

    @property
    def left(self) -> float:
        """Seconds; below 0 when the time is over."""
        return self._begun + self._seconds + self._more - time.monotonic()
