"""Who leads a search, and how numbers read: shared by all that show a search to people."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tunekit.tracking.observer import StudyFacts
from tunekit.trial import State, Trial

BASELINE = "baseline"
"""Name of the family that every other is judged against."""


class Standings:
    """The trials that ended so far: the best, the baseline, and how many of each state.

    Only complete trials with a finite score compete; what was stopped was judged on fewer folds.

    Args:
        facts: the study; says which of two scores is better.
        trials: those that ended already.
    """

    def __init__(self, facts: StudyFacts, trials: Iterable[Trial] = ()) -> None:
        self.facts = facts
        self.counts: Counter[State] = Counter()
        self._ranked: list[Trial] = []
        for trial in trials:
            self.add(trial)

    def add(self, trial: Trial) -> None:
        """Count a trial that ended."""
        self.counts[trial.state] += 1
        first = trial.same_as is None  # a repeat has the score of a trial that stands here already
        if first and trial.state == State.COMPLETE and trial.score is not None and math.isfinite(trial.score):
            self._ranked.append(trial)
            self._ranked.sort(key=self._rank)

    def _rank(self, trial: Trial) -> tuple[float, int]:
        score = trial.score or 0.0
        return (score if self.facts.direction == "minimize" else -score, trial.number)

    @property
    def ended(self) -> int:
        """How many trials ended, in whatever state."""
        return self.counts.total()

    @property
    def best(self) -> float | None:
        """The best score so far."""
        return self._ranked[0].score if self._ranked else None

    @property
    def baseline(self) -> float | None:
        """The best score of the baseline family."""
        return next((trial.score for trial in self._ranked if trial.family == BASELINE), None)

    @property
    def ranked(self) -> list[Trial]:
        """All that compete, best first."""
        return list(self._ranked)

    def leaders(self, count: int) -> list[Trial]:
        """The best trials, best first."""
        return self._ranked[:count]

    def counts_text(self) -> str:
        """The counts in words: "12 complete, 1 failed"."""
        return counts_text(self.counts)


def counts_text(counts: Counter[State]) -> str:
    """How many of each state, in words.

    >>> counts_text(Counter({State.FAILED: 1, State.COMPLETE: 12}))
    '12 complete, 1 failed'
    """
    order = (State.COMPLETE, State.STOPPED, State.FAILED, State.INTERRUPTED, State.RUNNING)
    return ", ".join(f"{counts[state]} {state}" for state in order if counts[state]) or "none"


def trial_name(trial: Mapping[str, Any], number: str = "trial") -> str:
    """How people read a trial: "017 wide_deep"."""
    value = trial.get(number)
    text = f"{value:03d}" if isinstance(value, int) else str(value if value is not None else "")
    return f"{text} {trial.get('family') or ''}".strip() or "-"


def score_text(value: Any) -> str:
    """A score to read: about five significant digits; "-" for nothing.

    >>> [score_text(value) for value in (24810.1987, 0.934127, 3.5, 0.000412345, 8.1e12, None, float("nan"))]
    ['24810.2', '0.9341', '3.5000', '0.0004123', '8.1e+12', '-', 'nan']
    """
    number = _number(value)
    if number is None:
        return "-" if value is None else str(value)[:12]
    size = abs(number)
    if number == 0 or not math.isfinite(number):
        return f"{number:g}"
    if not 1e-5 <= size < 1e9:
        return f"{number:.4g}"
    digits = 3 - math.floor(math.log10(size)) if size < 0.1 else 4 if size < 10 else 3 if size < 100 else 2
    return f"{number:.{digits if size < 1000 else 1}f}"


def seconds_text(value: Any) -> str:
    """A length of time to read.

    >>> [seconds_text(value) for value in (0.04, 6.13, 192, 3723, None)]
    ['0.0 s', '6.1 s', '3:12', '1:02:03', '-']
    """
    number = _number(value)
    if number is None or not math.isfinite(number):
        return "-"
    return f"{number:.1f} s" if abs(number) < 59.95 else clock_text(number)


def clock_text(seconds: float) -> str:
    """Minutes and seconds, as a clock shows what is left; never below zero.

    >>> [clock_text(value) for value in (192.4, 3723, -1)]
    ['3:12', '1:02:03', '0:00']
    """
    whole = max(0, int(seconds)) if math.isfinite(seconds) else 0
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def spread(scores: Iterable[Any]) -> float | None:
    """Standard deviation of fold scores; None for fewer than two.

    >>> spread([1.0, 3.0]), spread([1.0])
    (1.0, None)
    """
    known = [number for score in scores if (number := _number(score)) is not None and math.isfinite(number)]
    if len(known) < 2:
        return None
    mean = sum(known) / len(known)
    return math.sqrt(sum((score - mean) ** 2 for score in known) / len(known))


def spread_text(scores: Any) -> str:
    """How far the fold scores lie apart, to stand after the score: "± 0.0123"."""
    width = spread(scores or ())
    return "" if width is None else f"± {score_text(width)}"


def facts_text(facts: StudyFacts) -> str:
    """The study in one sentence."""
    sense = "smaller" if facts.direction == "minimize" else "larger"
    parts = [
        f"{facts.metric} ({sense} is better)",
        f"{facts.rows:,} rows, {facts.columns:,} columns",
        facts.split,
        f"families {', '.join(facts.families)}",
        f"driver {facts.driver}",
        f"{facts.workers} worker{'s' if facts.workers != 1 else ''}",
    ]
    if facts.budget is not None:
        parts.append(f"budget {clock_text(facts.budget)}")
    if facts.trial_limit is not None:
        parts.append(f"{facts.trial_limit} trials at most")
    return "; ".join(parts)


def _number(value: Any) -> float | None:
    if value is None or isinstance(value, str):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None
