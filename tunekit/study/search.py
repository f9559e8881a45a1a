"""One search: everything that a study needs is opened, trials run, the blend is judged, and all is closed again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.drivers import ProposalSampler
from tunekit.executors import Limits, LocalExecutor
from tunekit.ledger import Ledger, write_json
from tunekit.study.blend import blend
from tunekit.study.conductor import Clock, Conductor
from tunekit.study.duration import parse_duration
from tunekit.study.prepared import Prepared
from tunekit.study.result import summarise
from tunekit.tracking import Observer, Observers, StudyFacts

if TYPE_CHECKING:
    from tunekit.study.study import Study

DEFAULT_BUDGET = 600.0
"""Seconds of a search that was given neither a budget nor a number of trials."""

LONGEST_BLEND = 120.0
"""Seconds for selecting and judging the blend of a search without a budget."""

LONGEST_TRIAL = 1800.0
"""Seconds of a trial of a search without a budget; with one, half of it."""


@dataclass(frozen=True)
class Effort:
    """How much a search may spend.

    Args:
        budget: seconds for everything, or None.
        trials: number of trials that the study has in the end, or None.
        workers: trials at a time.
        threads: of each trial.
        limits: of each trial.
    """

    budget: float | None
    trials: int | None
    workers: int
    threads: int
    limits: Limits

    @classmethod
    def of(cls, budget: str | float | None, trials: int | None, workers: int | None, limits: Limits | None) -> Effort:
        """From what a caller said, and this machine's cores and memory for what was left out."""
        seconds = parse_duration(budget)
        if seconds is None and trials is None:
            seconds = DEFAULT_BUDGET
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = workers or cores
        longest = LONGEST_TRIAL if seconds is None else max(60.0, seconds / 2)
        return cls(seconds, trials, workers, max(1, cores // workers), limits or Limits.for_machine(workers, longest))

    @property
    def reserve(self) -> float:
        """Seconds of the budget for selecting and judging the blend, and for ending what watches."""
        return 0.0 if self.budget is None else min(max(3.0, 0.05 * self.budget), 20.0)


def search(study: Study, effort: Effort, root: Path, observers: Sequence[Observer], *, fresh: bool) -> dict[str, Any]:
    """Run a study's search and return its summary.

    Args:
        study: the declaration.
        effort: how much to spend.
        root: where the ledger is.
        observers: who watches.
        fresh: delete the study's earlier trials first.
    """
    clock = Clock(effort.budget, effort.reserve)
    prepared = study.prepare()
    with ExitStack() as stack:
        ledger = Ledger(root, study.name)
        stack.callback(ledger.close)
        observer = Observers(observers)
        stack.callback(observer.close)
        _open(ledger, study, prepared, fresh=fresh)
        heavy = any(family.needs_tensorflow for family in study.families)
        executor = LocalExecutor(effort.threads, ledger.folder / "executor.log", heavy=heavy)
        stack.callback(executor.close)
        store = prepared.write(ledger.folder / "data")
        observer.study_started(_facts(study, prepared, effort), ledger.trials())
        for notice in prepared.data.notices:
            observer.message(notice)
        conductor = Conductor(
            prepared,
            store,
            study.families,
            ledger,
            observer,
            clock=clock,
            trial_limit=effort.trials,
            workers=effort.workers,
            threads=effort.threads,
            limits=effort.limits,
        )
        conductor.run(executor)
        executor.close()
        searched = clock.elapsed
        seconds = LONGEST_BLEND if effort.budget is None else max(0.0, effort.budget - searched)
        blended = blend(ledger, conductor.trials, prepared, study.seed, seconds)
        overhead = _overhead(searched, clock.elapsed, conductor.busy_seconds, effort.workers)
        summary = summarise(study.name, prepared, conductor.trials, blended, overhead)
        write_json(ledger.folder / "result.json", summary)
        observer.study_ended(summary)
    return summary


def _open(ledger: Ledger, study: Study, prepared: Prepared, *, fresh: bool) -> None:
    """Open the ledger with every family's plans."""
    ledger.open({**prepared.identity, "seed": study.seed}, seed=study.seed, fresh=fresh)
    data = prepared.data
    for family in study.families:
        plans: list[dict[str, Any]] = [{"defaults": True}]
        plans += [{"values": values} for values in family.portfolio(data.task, temporal=data.time is not None)]
        ledger.add_family(family.name, ProposalSampler(study.driver, study.seed, family.name), study.stopper, plans)


def _facts(study: Study, prepared: Prepared, effort: Effort) -> StudyFacts:
    return StudyFacts(
        name=study.name,
        metric=prepared.metric.name,
        direction=prepared.metric.direction,
        task=prepared.data.task,
        families=tuple(family.name for family in study.families),
        driver=study.driver.name,
        split=repr(prepared.split),
        rows=len(prepared.data),
        columns=len(prepared.schema.columns),
        seed=study.seed,
        digest=prepared.data.digest,
        budget=effort.budget,
        trial_limit=effort.trials,
        workers=effort.workers,
    )


def _overhead(searched: float, elapsed: float, busy: float, workers: int) -> dict[str, float]:
    """What the search itself cost: worker time in which no trial was building, fitting or predicting."""
    return {
        "share_of_worker_time": max(0.0, 1.0 - busy / (elapsed * workers)),
        "search_seconds": searched,
        "blend_seconds": elapsed - searched,
    }
