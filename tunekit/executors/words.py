"""What a worker process says of itself, beside what its jobs say."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class JobDone:
    """A worker's last word on a job that returned.

    Args:
        reusable: whether it waits for another.
    """

    reusable: bool
