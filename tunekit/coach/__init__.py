"""The coach: looks at data before a search, at a search that was run, and walks the ladder of capacity."""

from tunekit.coach.check import check
from tunekit.coach.finding import Finding
from tunekit.coach.review import check_study, review

__all__ = ["Finding", "check", "check_study", "review"]
