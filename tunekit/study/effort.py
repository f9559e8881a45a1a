"""Where a search runs and is recorded, and how much it may spend."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tunekit.errors import StudyError
from tunekit.executors import Limits, free_memory
from tunekit.ledger import Ledger
from tunekit.study.blend import MOST_CANDIDATES
from tunekit.study.duration import parse_duration, parse_size
from tunekit.study.serving import Serving

DEFAULT_BUDGET = 600.0
"""Seconds of a search that was given neither a budget nor a number of trials nor a score."""

LONGEST_TRIAL = 1800.0
"""Seconds of a trial of a search without a budget; with one, half of it."""

LONGEST_RESERVE = 120.0
"""Seconds for the blend of a search with a budget of an hour or more."""

EXECUTORS = ("local", "ray")


def usable_cores() -> int:
    """Cores that this process may use: fewer than the machine has where it is bound to some, or its container is."""
    from joblib import cpu_count  # takes a while, which commands that search nothing needn't

    return int(cpu_count())


@dataclass(frozen=True)
class Site:
    """Where a study is recorded, and where its trials run.

    Args:
        root: the folder `mlruns`.
        storage: of the ledger: None for SQLite in `root`, or the address of a PostgreSQL database, on whose study
            several machines may work at once.
        artifacts: of trials: None for `root`, which several machines must then share, or an address that fsspec knows.
        executor: "local" for processes of this machine, or "ray".
        ray_address: of the cluster; None for the one that Ray finds, or else one of its own on this machine.

    Raises:
        StudyError: there is no such executor.
    """

    root: Path
    storage: str | None = None
    artifacts: str | None = None
    executor: str = "local"
    ray_address: str | None = None

    def __post_init__(self) -> None:
        if self.executor not in EXECUTORS:
            raise StudyError(f"executor {self.executor!r} is unknown; expected one of {', '.join(EXECUTORS)}")
        if self.ray_address is not None and self.executor != "ray":
            raise StudyError(f"ray_address is {self.ray_address!r}, which needs executor='ray' (--executor ray)")

    def ledger(self, name: str) -> Ledger:
        """A study's ledger, not yet open."""
        return Ledger(self.root, name, self.storage, self.artifacts)


@dataclass(frozen=True)
class Effort:
    """How much a search may spend.

    Args:
        budget: seconds for everything, or None.
        trials: number of trials that the study has in the end, or None.
        until: a score that is good enough, or None.
        workers: trials at a time; None for as many as a cluster has room for.
        threads: of each trial.
        limits: of each trial.
        keep: so many of the best trials keep their models and predictions.
        disk: bytes that these may take; None for a share of what is free.
        serving: what the exported blend may cost, or None.
        tensorboard: whether nets' trainings are written down for TensorBoard.
        refits: share of the budget that is kept, at least, for fitting members once more after the search.
        quits: whether Ctrl-C ends the search by a `KeyboardInterrupt` instead of a blend of what is there.
        adapts: whether workers, threads and limits may become others, for nobody asked for these.
    """

    budget: float | None
    trials: int | None
    until: float | None
    workers: int | None
    threads: int
    limits: Limits
    keep: int = MOST_CANDIDATES
    disk: int | None = None
    serving: Serving | None = None
    tensorboard: bool = False
    refits: float = 0.0
    quits: bool = False
    adapts: bool = False

    @classmethod
    def of(
        cls,
        site: Site,
        *,
        budget: str | float | None = None,
        trials: int | None = None,
        until: float | None = None,
        workers: int | None = None,
        limits: Limits | None = None,
        keep: int | None = None,
        disk: str | int | None = None,
    ) -> Effort:
        """From what a caller said, and this machine's cores and memory for what was left out."""
        seconds = parse_duration(budget)
        if seconds is None and trials is None and until is None:
            seconds = DEFAULT_BUDGET
        longest = LONGEST_TRIAL if seconds is None else max(60.0, seconds / 2)
        adapts = site.executor == "local" and workers is None and limits is None
        threads = 1
        if site.executor == "local":
            cores = usable_cores()
            workers = workers or cores
            threads = max(1, cores // workers)
            limits = limits or Limits.for_machine(workers, longest)
        return cls(
            seconds,
            trials,
            until,
            workers,
            threads,
            limits or Limits(longest),  # elsewhere, each machine sees to its own memory
            MOST_CANDIDATES if keep is None else keep,
            parse_size(disk),
            adapts=adapts,
        )

    def with_room(self, size: int) -> Effort:
        """With fewer trials at a time, and more threads for each, if nobody said how many and memory is short.

        Args:
            size: bytes that a trial needs.
        """
        most = max(1, free_memory() // size)
        if not self.adapts or self.workers is None or most >= self.workers:
            return self
        limits = Limits.for_machine(most, self.limits.seconds)
        return replace(self, workers=most, threads=max(1, usable_cores() // most), limits=limits)

    @property
    def reserve(self) -> float:
        """Seconds of the budget for selecting and judging the blend, and for ending what watches."""
        if self.budget is None:
            return 0.0
        longest = max(20.0, self.budget / 30)  # a long search leaves more to choose from
        return min(max(3.0, 0.05 * self.budget), longest, LONGEST_RESERVE)
