"""Where trials run."""

from tunekit.executors.base import Child, Ended, Executor, Job, Limits, Place, travels_by_value
from tunekit.executors.local import LocalExecutor

__all__ = ["Child", "Ended", "Executor", "Job", "Limits", "LocalExecutor", "Place", "travels_by_value"]
