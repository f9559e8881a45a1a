"""What proposals cost, and which driver to use instead when they cost too much."""

from __future__ import annotations

import statistics
from collections import deque

from tunekit.trial import State, Trial

SHARE = 0.02
"""Of a trial's time, what proposing its values may take."""

LAST, LEAST = 20, 8
"""So many of the last trials are looked at, and at least so many are needed: the first proposal imports a library."""

CHEAPER = (("optuna:tpe", 0.02), ("random", 0.001))
"""Who may take over, the cleverest first, with seconds per proposal after 100 trials (`benchmarks/drivers.py`)."""

MUCH = 3.0
"""A driver takes over if its proposals cost so many times less."""


class ProposalCost:
    """Looks at what a driver's proposals take, and says so once if it is too much.

    Args:
        driver: its name on the command line.
    """

    def __init__(self, driver: str) -> None:
        self._driver = driver
        self._last: deque[tuple[float, float]] = deque(maxlen=LAST)
        self._said = False

    def look(self, trial: Trial) -> str | None:
        """Look at a trial that ended.

        Returns:
            Once, if proposals take too much of the trials' time and another driver would take much less: a sentence.
        """
        ran = trial.state in (State.COMPLETE, State.STOPPED) and trial.same_as is None
        if not ran or not trial.proposal_seconds:  # it tells nothing of what a trial takes, or was planned
            return None
        self._last.append((trial.proposal_seconds, trial.seconds))
        if self._said or len(self._last) < LEAST:
            return None
        text = too_slow(self._driver, *self._typical())
        self._said = text is not None
        return text

    def _typical(self) -> tuple[float, float]:
        """Seconds of a proposal and of a trial.

        The median proposal, for one may have imported a library; but the mean trial: where a quick family and a slow
        one take turns, it is the sum of their time that proposals take a share of.
        """
        proposals, trials = zip(*self._last, strict=True)
        return statistics.median(proposals), statistics.fmean(trials)


def too_slow(driver: str, proposal: float, trial: float) -> str | None:
    """What to say of a driver whose proposals take so many seconds, for trials of so many; None if all is well.

    >>> too_slow("keras-tuner:bayesian", 3.1, 8.0)
    'keras-tuner:bayesian takes 3.1 s per proposal, 39% of a trial; optuna:tpe takes about 0.02 s: --driver optuna:tpe'
    >>> too_slow("optuna:tpe", 0.019, 0.2)
    'optuna:tpe takes 0.019 s per proposal, 9.5% of a trial; random takes about 0.001 s: --driver random'
    """
    if proposal <= SHARE * trial:
        return None
    names = [name for name, _ in CHEAPER]
    simpler = CHEAPER[names.index(driver) + 1 :] if driver in names else CHEAPER
    worth = [(name, seconds) for name, seconds in simpler if MUCH * seconds < proposal]
    if not worth:
        return None
    name, seconds = next((one for one in worth if one[1] <= SHARE * trial), worth[-1])
    share = 100 * min(proposal / max(trial, 1e-9), 1.0)
    return (
        f"{driver} takes {proposal:.2g} s per proposal, {share:.2g}% of a trial; "
        f"{name} takes about {seconds:g} s: --driver {name}"
    )
