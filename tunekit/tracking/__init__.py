"""Watching a search: the console and MLflow. Each observer is imported by whoever needs it; this import stays light."""

from tunekit.tracking.observer import Observer, Observers, StudyFacts

__all__ = ["Observer", "Observers", "StudyFacts"]
