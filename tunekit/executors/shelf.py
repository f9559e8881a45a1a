"""Servers that outlive their executor, for callers that search again and again, such as cross-validation.

A server that has imported its libraries is worth seconds to the next search. Within `servers_kept`, an executor that
closes leaves its servers here, without any process of its own, and the next one on this machine takes them.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

IDLE = 60.0
"""Seconds after which a server that nobody takes is ended."""

_KEPT: ContextVar[bool] = ContextVar("servers_kept", default=False)


class Server(Protocol):
    """What can be kept."""

    def clear(self) -> bool:
        """End its processes; whether it can serve another executor."""

    def end(self) -> None:
        """End it."""


@contextmanager
def servers_kept() -> Iterator[None]:
    """Executors that close in here, in this thread, leave their servers for later ones, for a minute.

    A kept server has the environment variables that it was started with.
    """
    token = _KEPT.set(True)
    try:
        yield
    finally:
        _KEPT.reset(token)


class Shelf:
    """Servers, at most one for each key and working directory, where relative paths mean the same.

    Args:
        idle: seconds after which one that nobody takes is ended.
    """

    def __init__(self, idle: float = IDLE) -> None:
        self._idle = idle
        self._lock = threading.Lock()
        self._servers: dict[Hashable, tuple[Any, threading.Timer]] = {}

    def leave(self, key: Hashable, server: Server) -> None:
        """Keep a server if that is wanted and it is sound; else end it."""
        if not (_KEPT.get() and server.clear()):
            server.end()
            return
        place = key, os.getcwd()
        self._end(place)
        timer = threading.Timer(self._idle, self._end, (place,))
        timer.daemon = True
        with self._lock:
            self._servers[place] = (server, timer)
        timer.start()

    def take(self, key: Hashable) -> Any | None:
        """A kept server, or None; a sound one, as far as it has been heard of."""
        with self._lock:
            kept = self._servers.pop((key, os.getcwd()), None)
        if kept is None:
            return None
        server, timer = kept
        timer.cancel()
        if server.clear():
            return server
        server.end()
        return None

    def end(self) -> None:
        """End all of this process's."""
        for place in list(self._servers):
            self._end(place)

    def forget(self) -> None:
        """In a forked process: what is kept is its parent's, which alone may talk to it or end it."""
        self._lock = threading.Lock()  # a thread may have held it, and is not here
        self._inherited, self._servers = self._servers, {}  # one that is let go of would be waited for

    def _end(self, place: Hashable) -> None:
        with self._lock:
            kept = self._servers.pop(place, None)
        if kept is not None:
            server, timer = kept
            timer.cancel()
            server.end()


SHELF = Shelf()
"""This process's."""


os.register_at_fork(after_in_child=SHELF.forget)
atexit.register(SHELF.end)
