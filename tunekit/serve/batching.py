"""Predicts the requests that wait for each other in one go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = list[dict[str, Any]]
Raw = npt.NDArray[np.float64]

MOST_TOGETHER = 1_000
"""Rows of requests that are predicted together at most."""


class Batcher:
    """Gathers the requests that come while others are being predicted, and predicts them together.

    A request that comes while nothing is predicted does not wait. What is wrong with one spoils no other.

    Args:
        predict: raw predictions (n, outputs) of n rows; called by one thread at a time.
    """

    def __init__(self, predict: Callable[[Rows], Raw]) -> None:
        self._predict = predict
        self._waiting: list[tuple[Rows, asyncio.Future[Raw]]] = []
        self._working: asyncio.Task[None] | None = None

    async def predict(self, rows: Rows) -> Raw:
        """Raw predictions of some rows.

        Raises:
            DataError: a row can't be predicted.
        """
        future: asyncio.Future[Raw] = asyncio.get_running_loop().create_future()
        self._waiting.append((rows, future))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        while self._waiting:
            await self._next(self._gathered())

    def _gathered(self) -> list[tuple[Rows, asyncio.Future[Raw]]]:
        """Those that waited longest, up to `MOST_TOGETHER` rows."""
        count = 0
        for number, (rows, _) in enumerate(self._waiting):
            count += len(rows)
            if number and count > MOST_TOGETHER:
                break
        else:
            number = len(self._waiting)
        number = max(number, 1)
        gathered, self._waiting = self._waiting[:number], self._waiting[number:]
        return gathered

    async def _next(self, batch: list[tuple[Rows, asyncio.Future[Raw]]]) -> None:
        together = [row for rows, _ in batch for row in rows]
        try:
            raw = await asyncio.to_thread(self._predict, together)
        except Exception as error:
            if len(batch) == 1:
                _settle(batch[0][1], error)
                return
            for one in batch:  # whoever's rows are wrong learns it, the others get their predictions
                await self._next([one])
            return
        start = 0
        for rows, future in batch:
            _settle(future, raw[start : start + len(rows)])
            start += len(rows)


def _settle(future: asyncio.Future[Raw], result: Raw | Exception) -> None:
    """Give a result to whoever still waits for it."""
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
