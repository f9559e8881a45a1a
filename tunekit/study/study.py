"""`Study`: what a `study.py` declares, and running it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from tunekit.data import Dataset, Split
from tunekit.drivers import DriverLike, find_driver
from tunekit.errors import StudyError
from tunekit.executors import Limits
from tunekit.families import Family, default_families
from tunekit.ledger import Ledger
from tunekit.metrics import Metric
from tunekit.stopping import Median, Stopper
from tunekit.study.prepared import Prepared, prepare
from tunekit.study.result import Result
from tunekit.study.search import Effort, search
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
        metric: what trials are judged by: "rmse", "roc_auc", a name of scikit-learn's scorers, a `tk.Metric` or a
            function of (y_true, y_pred). Default: rmse, roc_auc or logloss, by the task.
        families: what is searched, in the order of their first trials. Default: what suits tables.
        split: which rows train and judge. Default: what suits the data.
        driver: who proposes values: `tk.drivers.Optuna("tpe")` (the default), another of `tk.drivers`, its name on the
            command line such as "hyperopt:tpe", or any sampler object of Optuna.
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
        driver: DriverLike = "optuna:tpe",
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
        effort = Effort.of(budget, trials, workers, limits)
        root = Path(root)
        summary = search(self, effort, root, self._observers(observers, root, fresh), fresh=fresh)
        return Result(self, root, summary)

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

    def prepare(self) -> Prepared:
        """The rows, split and typed."""
        return prepare(self.data.load(), self.split, self.metric, self.seed)

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
