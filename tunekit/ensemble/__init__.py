"""Blends different models, and says whether that was worth it."""

from tunekit.ensemble.selection import Judged, greedy_selection
from tunekit.ensemble.verdict import Judgement, judge

__all__ = ["Judged", "Judgement", "greedy_selection", "judge"]
