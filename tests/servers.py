"""Servers that tests start: a port for each, and when they answer."""

import socket
import time
import urllib.error
import urllib.request
from pathlib import Path

PATIENCE = 120.0
"""Seconds after which a server is taken to hang: no measure of speed."""


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def answer_of(address: str, printed: Path) -> bytes:
    """What a server answers, once it does; what it printed is told if it doesn't."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                content: bytes = answer.read()
                return content
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            assert time.monotonic() < deadline, printed.read_text()
            time.sleep(0.3)
