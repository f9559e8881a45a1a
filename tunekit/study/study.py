"""`Study`: what a `study.py` declares, and running it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from tunekit.data import Dataset, Split
from tunekit.drivers import Driver, ProposalSampler, find_driver
from tunekit.errors import StudyError
from tunekit.executors import Limits, LocalExecutor
from tunekit.families import Family, default_families
from tunekit.ledger import Ledger, write_json
from tunekit.metrics import Metric
from tunekit.stopping import Median, Stopper
from tunekit.study.blend import blend
from tunekit.study.conductor import Clock, Conductor
from tunekit.study.duration import parse_duration
from tunekit.study.prepared import Prepared, prepare
from tunekit.study.result import Result, summarise
from tunekit.tracking import Observer, Observers, StudyFacts

ROOT = Path("mlruns")
"""Where everything durable is, relative to the working directory."""

DEFAULT_BUDGET = 600.0
"""Seconds of a search that was given neither a budget nor a number of trials."""

LONGEST_BLEND = 120.0
"""Seconds for selecting and judging the blend of a search without a budget."""


class Data(Protocol):
    """Anything that gives rows: `tk.Table` and its kin."""

    def load(self) -> Dataset:
        """Read, check and type the rows."""


class Study:
    """What a study declares: data, a metric, families, and how to search.

    Args:
        name: names the ledger under `mlruns/studies/` and the experiment in MLflow; letters, digits, "-" and "_".
        data: the rows, such as `tk.Table("train.csv", target="price")`.
        metric: what trials are judged by: "rmse", "roc_auc", a name of scikit-learn's scorers, a `tk.Metric` or a
            function of (y_true, y_pred). Default: rmse, roc_auc or logloss, by the task.
        families: what is searched, in the order of their first trials. Default: what suits tables.
        split: which rows train and judge. Default: what suits the data.
        driver: who proposes values: `tk.drivers.Optuna("tpe")` (the default), `tk.drivers.Random()`, or its name.
        stopper: which running trials are not worth more: `tk.Median()` (the default), `tk.Halving()`,
            `tk.NeverStop()`.
        seed: of the split, the proposals and every fit.

    Raises:
        StudyError: the declaration contradicts itself.
    """

    def __init__(
        self,
        name: str,
        *,
        data: Data,
        metric: str | Metric | Callable[..., Any] | None = None,
        families: Sequence[Family] | None = None,
        split: Split | None = None,
        driver: Driver | str = "optuna:tpe",
        stopper: Stopper | None = None,
        seed: int = 0,
    ) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
            raise StudyError(f"the study's name is {name!r}; expected letters, digits, '-' and '_', such as 'ames'")
        self.name = name
        self.data = data
        self.metric = metric
        self.families = list(families) if families is not None else default_families()
        self.split = split
        self.driver = find_driver(driver)
        self.stopper = stopper or Median()
        self.seed = seed
        self._check_families()

    def run(
        self,
        *,
        budget: str | float | None = None,
        trials: int | None = None,
        workers: int | None = None,
        fresh: bool = False,
        observers: Sequence[Observer] | None = None,
        root: Path | str = ROOT,
        limits: Limits | None = None,
    ) -> Result:
        """Search, blend and judge; resumes what is there.

        Args:
            budget: time for everything, such as "10m", "1h30m" or seconds. Ten minutes if there is no `trials` either.
            trials: end when the study has this many trials, those of earlier runs included.
            workers: trials at a time; one per core if left out.
            fresh: delete the study's earlier trials first.
            observers: who watches; the console and MLflow if left out.
            root: where the ledger and MLflow's store are.
            limits: time and memory of one trial; if left out, half of the budget (or half an hour) and a worker's share
                of the free memory.

        Raises:
            TunekitError: the study can't start. What was finished before is kept.
        """
        seconds = parse_duration(budget)
        if seconds is None and trials is None:
            seconds = DEFAULT_BUDGET
        clock = Clock(seconds, reserve=_reserve(seconds))
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = workers or cores
        root = Path(root)
        ledger = Ledger(root, self.name)
        prepared = self.prepare()
        executor = None
        observer = Observers(self._observers(observers, root, fresh))
        try:
            self._open(ledger, prepared, fresh=fresh)
            threads = max(1, cores // workers)
            heavy = any(family.needs_tensorflow for family in self.families)
            executor = LocalExecutor(threads, ledger.folder / "executor.log", heavy=heavy)
            store = prepared.write(ledger.folder / "data")
            observer.study_started(self._facts(prepared, seconds, trials, workers), ledger.trials())
            for notice in prepared.data.notices:
                observer.message(notice)
            conductor = Conductor(
                prepared,
                store,
                self.families,
                ledger,
                observer,
                clock=clock,
                trial_limit=trials,
                workers=workers,
                threads=threads,
                limits=limits or Limits.for_machine(workers, max(60.0, seconds / 2) if seconds else 1800.0),
            )
            conductor.run(executor)
            searched = clock.elapsed
            for_blend = LONGEST_BLEND if seconds is None else max(0.0, seconds - searched)
            blended = blend(ledger, conductor.trials, prepared, self.seed, for_blend)
            overhead = _overhead(searched, clock.elapsed, conductor.busy_seconds, workers)
            summary = summarise(self.name, prepared, conductor.trials, blended, overhead)
            write_json(ledger.folder / "result.json", summary)
            observer.study_ended(summary)
            return Result(self, root, summary)
        finally:
            if executor is not None:
                executor.close()
            observer.close()
            ledger.close()

    def result(self, root: Path | str = ROOT) -> Result:
        """What the ledger holds: the trials so far, and the blend of the last search that ended.

        Raises:
            StudyError: the study has not been run.
        """
        return Result.read(self, Path(root))

    def open_ledger_to_read(self, root: Path) -> Ledger:
        """The study's ledger, beside a running search or after one."""
        ledger = Ledger(root, self.name)
        ledger.open_to_read()
        return ledger

    def prepare(self, data: Dataset | None = None) -> Prepared:
        """The rows, split and typed."""
        return prepare(data or self.data.load(), self.split, self.metric, self.seed)

    def _check_families(self) -> None:
        names = [family.name for family in self.families]
        if not names:
            raise StudyError(
                "families is empty; expected at least one, such as [tk.Baseline(), tk.XGBoost(), tk.MLP()]"
            )
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise StudyError(
                f"more than one family is named {', '.join(doubled)}; expected unique names, such as "
                "tk.Keras(build, name='other')"
            )

    def _open(self, ledger: Ledger, prepared: Prepared, *, fresh: bool) -> None:
        """Open the ledger with every family's studies and plans."""
        ledger.open({**prepared.identity, "seed": self.seed}, seed=self.seed, fresh=fresh)
        data = prepared.data
        for family in self.families:
            plans: list[dict[str, Any]] = [{"defaults": True}]
            plans += [{"values": values} for values in family.portfolio(data.task, temporal=data.time is not None)]
            ledger.add_family(family.name, ProposalSampler(self.driver, self.seed, family.name), self.stopper, plans)

    def _observers(self, observers: Sequence[Observer] | None, root: Path, fresh: bool) -> Sequence[Observer]:
        if observers is not None:
            return observers
        from tunekit.tracking.console import ConsoleObserver
        from tunekit.tracking.mlflow import MlflowObserver

        return [ConsoleObserver(), MlflowObserver(root, fresh=fresh)]

    def _facts(self, prepared: Prepared, budget: float | None, trials: int | None, workers: int) -> StudyFacts:
        return StudyFacts(
            name=self.name,
            metric=prepared.metric.name,
            direction=prepared.metric.direction,
            task=prepared.data.task,
            families=tuple(family.name for family in self.families),
            driver=self.driver.name,
            split=repr(prepared.split),
            rows=len(prepared.data),
            columns=len(prepared.schema.columns),
            seed=self.seed,
            digest=prepared.data.digest,
            budget=budget,
            trial_limit=trials,
            workers=workers,
        )


def _overhead(searched: float, elapsed: float, busy: float, workers: int) -> dict[str, float]:
    """What the search itself cost: worker time in which no trial was building, fitting or predicting."""
    return {
        "share_of_worker_time": max(0.0, 1.0 - busy / (elapsed * workers)),
        "search_seconds": searched,
        "blend_seconds": elapsed - searched,
    }


def _reserve(seconds: float | None) -> float:
    """Kept for selecting and judging the blend and for ending what watches."""
    return 0.0 if seconds is None else min(max(2.0, 0.05 * seconds), 20.0)
