"""Where trials run."""

from tunekit.executors.local import Child, Limits, LocalExecutor, travels_by_value

__all__ = ["Child", "Limits", "LocalExecutor", "travels_by_value"]
