"""Where trials run."""

from tunekit.executors.base import (
    Child,
    Ended,
    Executor,
    Job,
    Limits,
    Place,
    answer_of,
    check_travels,
    travels_by_value,
)
from tunekit.executors.local import LocalExecutor
from tunekit.executors.memory import free_memory
from tunekit.executors.shelf import servers_kept

__all__ = [
    "Child",
    "Ended",
    "Executor",
    "Job",
    "Limits",
    "LocalExecutor",
    "Place",
    "answer_of",
    "check_travels",
    "free_memory",
    "servers_kept",
    "travels_by_value",
]
