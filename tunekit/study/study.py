"""`Study`: what a `study.py` declares, and running it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from tunekit.data import Dataset, Split
from tunekit.drivers import DriverLike, find_driver
from tunekit.errors import StudyError
from tunekit.executors import Limits
from tunekit.families import Family, default_families
from tunekit.ledger import Ledger
from tunekit.metrics import Metric
from tunekit.objectives import checked_costs
from tunekit.stopping import Median, Stopper
from tunekit.study.earlier import search_earlier
from tunekit.study.effort import Effort, Site
from tunekit.study.prepared import Prepared, prepare
from tunekit.study.program import program_digest
from tunekit.study.result import Result
from tunekit.study.search import search
from tunekit.study.serving import Serving
from tunekit.study.starting import StartFrom, plans_for
from tunekit.tracking import Observer

ROOT = Path("mlruns")
"""Where everything durable is, relative to the working directory."""


class Data(Protocol):
    """Anything that gives rows: `tk.Table` and its kin."""

    def load(self) -> Dataset:
        """Read, check and type the rows."""


class Study:
    """What a study declares: data, a metric, families, and how to search.

    Args:
        name: names the ledger under `mlruns/studies/` and the experiment in MLflow; letters, digits, "-" and "_".
        data: the rows, such as `tk.Table("train.csv", target="price")`.
        metric: what trials are judged by: "rmse", "roc_auc", a name of scikit-learn's scorers or the function behind
            one, a `tk.Metric`, or a function of (y_true, y_pred), of which smaller is better. Default: rmse for
            numbers, roc_auc for two classes (average_precision where the second is rare), logloss for more, qwk for
            classes in an order. Of several targets: one for all, or a dict with one for each.
        families: what is searched, in the order of their first trials. Default: what suits the kind of data.
        split: which rows train and judge. Default: what suits the data.
        driver: who proposes values: `tk.drivers.Optuna("tpe")` (the default), another of `tk.drivers`, its name on the
            command line such as "hyperopt:tpe", or any sampler object of Optuna.
        stopper: which running trials are not worth more: `tk.Median()` (the default), `tk.Halving()`,
            `tk.NeverStop()`.
        seed: of the split, the proposals and every fit.
        start_from: known-good values to try before anything else: see `tk.start_from`.
        also_minimize: what counts beside the score: "latency", the time of one prediction by the exported trial, or
            "size", of its file, or both. The search looks for the whole Pareto front; the blend goes by the score.

    Raises:
        StudyError: the declaration contradicts itself.
    """

    def __init__(
        self,
        name: str,
        *,
        data: Data,
        metric: str | Metric | Callable[..., Any] | Mapping[str, Any] | None = None,
        families: Sequence[Family] | None = None,
        split: Split | None = None,
        driver: DriverLike = "optuna:tpe",
        stopper: Stopper | None = None,
        seed: int = 0,
        start_from: Sequence[StartFrom] = (),
        also_minimize: Sequence[str] = (),
    ) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
            raise StudyError(f"the study's name is {name!r}; expected letters, digits, '-' and '_', such as 'ames'")
        self.name = name
        self.data = data
        self.metric = metric
        self.families = list(families) if families is not None else default_families(getattr(data, "suits", "table"))
        self.split = split
        self.driver = find_driver(driver)
        self.stopper = stopper or Median()
        self.seed = seed
        self.start_from = list(start_from)
        self.also_minimize = checked_costs(also_minimize)
        self._site = Site(ROOT)  # of the last run
        self._file: str | None = sys._getframe(1).f_globals.get("__file__")
        self._check_families()
        plans_for(self.start_from, [family.name for family in self.families])

    def run(
        self,
        *,
        budget: str | float | None = None,
        trials: int | None = None,
        until: float | None = None,
        workers: int | None = None,
        fresh: bool = False,
        observers: Sequence[Observer] | None = None,
        root: Path | str = ROOT,
        limits: Limits | None = None,
        keep: int | None = None,
        disk: str | int | None = None,
        latency: str | float | None = None,
        size: str | float | None = None,
        storage: str | None = None,
        artifacts: str | None = None,
        executor: str = "local",
        ray_address: str | None = None,
        tensorboard: bool = False,
    ) -> Result:
        """Search, blend and judge; resumes what is there.

        Args:
            budget: time for everything, such as "10m", "1h30m" or seconds. Ten minutes if there is neither `trials` nor
                `until`.
            trials: end when the study has this many trials, those of earlier runs included.
            until: end when a trial has this score, or a better one.
            workers: trials at a time; one per core if left out.
            fresh: delete the study's earlier trials first.
            observers: who watches; the console and MLflow if left out.
            root: where the ledger and MLflow's store are.
            limits: time and memory of one trial; if left out, half of the budget (or half an hour) and a worker's share
                of the free memory.
            keep: so many of the best trials, and each family's best, keep their models and predictions for the blend;
                30 if left out.
            disk: size that these may take, such as "2GB"; a fifth of the free space if left out.
            latency: what one prediction of the exported blend may take, such as "2ms": the blend is selected anew under
                that limit when it is exported, if need be.
            size: the same for the size of its file, such as "20MB".
            storage: address of a PostgreSQL database to keep the ledger in, so that several machines can work on the
                study; a file under `root` if left out.
            artifacts: an address that fsspec knows (such as "s3://bucket/folder") for trials' files; under `root` if
                left out, which several machines must then share.
            executor: "local", or "ray" to run trials on a Ray cluster.
            ray_address: of the cluster; if left out the one that Ray finds, or else one on this machine.
            tensorboard: write down each net's curves, graph, weights, gradients and embeddings, in its trial's folder;
                it takes room and time.

        Raises:
            TunekitError: the study can't start. What was finished before is kept.
        """
        site = Site(Path(root), storage, artifacts, executor, ray_address)
        serving = Serving.of(latency, size)
        effort = Effort.of(
            site, budget=budget, trials=trials, until=until, workers=workers, limits=limits, keep=keep, disk=disk
        )
        effort = replace(effort, serving=serving, tensorboard=tensorboard)
        return self.spend(effort, site, observers, fresh=fresh)

    def spend(
        self, effort: Effort, site: Site, observers: Sequence[Observer] | None = None, *, fresh: bool = False
    ) -> Result:
        """What `run` does, for callers that have put their wishes together.

        Args:
            effort: how much to spend.
            site: where.
            observers: see `run`.
            fresh: see `run`.
        """
        effort = search_earlier(self, site, effort, fresh=fresh, quiet=observers is not None)
        self._site = site
        summary = search(self, effort, site, self._observers(observers, site.root, fresh), fresh=fresh)
        return Result(self, site, summary)

    def work(
        self,
        *,
        storage: str,
        budget: str | float | None = None,
        trials: int | None = None,
        until: float | None = None,
        workers: int | None = None,
        observers: Sequence[Observer] | None = None,
        root: Path | str = ROOT,
        limits: Limits | None = None,
        keep: int | None = None,
        disk: str | int | None = None,
        artifacts: str | None = None,
    ) -> None:
        """Run trials for a study that other machines work on too; whoever calls `run` on it blends and judges.

        Args:
            storage: see `run`, as all that follows.
            budget: the same.
            trials: the same.
            until: the same.
            workers: the same.
            observers: who watches; the console if left out.
            root: the same.
            limits: the same.
            keep: the same.
            disk: the same.
            artifacts: the same.

        Raises:
            TunekitError: the study can't start.
        """
        site = Site(Path(root), storage, artifacts)
        effort = Effort.of(
            site, budget=budget, trials=trials, until=until, workers=workers, limits=limits, keep=keep, disk=disk
        )
        if observers is None:
            from tunekit.tracking.console import ConsoleObserver

            observers = [ConsoleObserver()]
        search(self, effort, site, observers, fresh=False, judge=False)

    def result(self, root: Path | str = ROOT, *, storage: str | None = None, artifacts: str | None = None) -> Result:
        """What the ledger holds: the trials so far, and the blend of the last search that ended.

        Args:
            root: see `run`.
            storage: see `run`.
            artifacts: see `run`.

        Raises:
            StudyError: the study has not been run.
        """
        return Result.read(self, Site(Path(root), storage, artifacts))

    def open_ledger_to_read(self, site: Site) -> Ledger:
        """The study's ledger, beside a running search or after one."""
        ledger = site.ledger(self.name)
        ledger.open_to_read()
        return ledger

    def prepare(self) -> Prepared:
        """The rows, split and typed."""
        return prepare(self.data.load(), self.split, self.metric, self.seed)

    def identity(self, prepared: Prepared) -> dict[str, Any]:
        """What must stay the same for trials to be comparable."""
        return {**prepared.identity, "seed": self.seed, "also_minimize": list(self.also_minimize) or None}

    @property
    def file(self) -> str | None:
        """Path of the file that declares the study; None in a notebook."""
        return self._file

    @property
    def program(self) -> str:
        """Digest of the code that declares the study; its space may be another one only where this is another one."""
        return program_digest(self._file, self.families)

    def _repr_html_(self) -> str:
        """What a notebook shows: the result of the last run, if there is one."""
        from html import escape

        try:
            return Result.read(self, self._site)._repr_html_()
        except StudyError:  # it has not been run
            return f"<p><b>{escape(self.name)}</b>: not run yet; <code>study.run(budget=&quot;5m&quot;)</code></p>"

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

    def _observers(self, observers: Sequence[Observer] | None, root: Path, fresh: bool) -> Sequence[Observer]:
        if observers is not None:
            return observers
        from tunekit.tracking.console import ConsoleObserver
        from tunekit.tracking.mlflow import MlflowObserver

        return [ConsoleObserver(), MlflowObserver(root, fresh=fresh)]
