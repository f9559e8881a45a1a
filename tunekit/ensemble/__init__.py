"""Blends different models, and says whether that was worth it."""

from tunekit.ensemble.choice import COMBINERS, Chosen, Tried, choose, polished_like, score_like
from tunekit.ensemble.combination import Combination
from tunekit.ensemble.combiner import Combiner, Fitting
from tunekit.ensemble.judged import Judged
from tunekit.ensemble.nesting import thinned
from tunekit.ensemble.selection import Greedy, greedy_selection
from tunekit.ensemble.verdict import Gain, Judgement, gain_over, judge

__all__ = [
    "COMBINERS",
    "Chosen",
    "Combination",
    "Combiner",
    "Fitting",
    "Gain",
    "Greedy",
    "Judged",
    "Judgement",
    "Tried",
    "choose",
    "gain_over",
    "greedy_selection",
    "judge",
    "polished_like",
    "score_like",
    "thinned",
]
