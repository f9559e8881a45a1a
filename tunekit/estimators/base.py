"""What the estimators share: `fit` runs a study on rows, and keeps its bundle."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from tunekit.bundle import Bundle
from tunekit.data import Holdout, Split
from tunekit.errors import StudyError
from tunekit.estimators.rows import TypedRows, numbered
from tunekit.estimators.splitting import LEAST_ROWS, suitable_split
from tunekit.executors import servers_kept
from tunekit.families import Family
from tunekit.metrics import Metric
from tunekit.study import Study, parse_duration
from tunekit.study.effort import Effort, Site

MOST_SEED = 2**31 - 1

SEED = 0
"""Of a search that stays, where none is given: it must be the same for it to be resumed."""

REFIT_SHARE = 0.25
"""Of the budget for fitting members once more on all rows, at least, where one part of them judged."""

FIT_SHARE = 0.97
"""Of the budget for all that is fitted; the rest is for writing the bundle."""


class TunekitEstimator(BaseEstimator):  # type: ignore[misc]
    """Base of the estimators; the arguments are documented there."""

    def __init__(
        self,
        *,
        budget: str | float | None = None,
        families: Sequence[Family] | None = None,
        trials: int | None = None,
        metric: str | Metric | Callable[..., Any] | None = None,
        split: Split | None = None,
        workers: int | None = None,
        root: Path | str | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.budget = budget
        self.families = families
        self.trials = trials
        self.metric = metric
        self.split = split
        self.workers = workers
        self.root = root
        self.random_state = random_state
        self.verbose = verbose

    def export(self, folder: Path | str) -> Path:
        """Write the bundle, which `tunekit predict`, `tunekit serve` and `tk.Bundle.load` read.

        Args:
            folder: to be created, or empty.
        """
        check_is_fitted(self)
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self._files.items():
            with (folder / name).open("xb") as file:
                file.write(content)
        return folder

    def _checked(self, X: Any, *, reset: bool) -> pd.DataFrame:
        """Rows as a frame with a text as the name of each column. An array's values are numbers; NaN is missing."""
        least = LEAST_ROWS if reset else 1
        if not isinstance(X, pd.DataFrame):
            values = validate_data(
                self, X, reset=reset, dtype="numeric", ensure_all_finite="allow-nan", ensure_min_samples=least
            )
            named = getattr(self, "feature_names_in_", None)
            return pd.DataFrame(values, columns=numbered(range(values.shape[1])) if named is None else list(named))
        validate_data(self, X, reset=reset, skip_check_array=True)
        if len(X) < least:
            raise ValueError(f"X is a DataFrame with n_samples = {len(X)}; expected at least {least} rows")
        if not all(isinstance(name, str) for name in X.columns):
            X = X.set_axis(numbered(X.columns), axis=1)
        return pd.DataFrame(X).reset_index(drop=True)

    def _search(self, rows: TypedRows) -> None:
        """Run the study of the rows, and keep its bundle."""
        with tempfile.TemporaryDirectory(prefix="tunekit-") as folder, servers_kept():
            begun, study, budget = time.monotonic(), self._study(rows), parse_duration(self.budget)
            # With one part that judges, models have not learnt from it: for some of the time they learn from all rows.
            apart = REFIT_SHARE if budget is not None and isinstance(study.split, Holdout) else 0.0
            site = Site(Path(folder if self.root is None else self.root))
            seconds = None if budget is None else FIT_SHARE * budget
            effort = Effort.of(site, budget=seconds, trials=self.trials, workers=self.workers)
            result = study.spend(replace(effort, refits=apart, quits=True), site, self._observers())
            if result.summary["ensemble"] is None:
                raise StudyError(
                    f"no model was fitted on every fold within budget={self.budget!r}, trials={self.trials!r}; "
                    "expected more of either, such as budget='2m', or quicker families, such as families=[tk.Linear()]"
                )
            left = 0.0 if seconds is None else max(0.0, seconds - (time.monotonic() - begun))
            exported = result.export(Path(folder) / "bundle", refit=left if apart else False)
            self._files = {path.name: path.read_bytes() for path in sorted(exported.iterdir())}
        self.summary_ = result.summary
        self.bundle_ = opened(self._files)

    def _study(self, rows: TypedRows) -> Study:
        """Named by what must be the same for it to be resumed: in one root there may be many, one for each fold."""
        split = self.split or suitable_split(rows.dataset)
        seed = SEED if self.random_state is None and self.root is not None else self.random_state
        seed = int(seed) if isinstance(seed, (int, np.integer)) else int(check_random_state(seed).randint(MOST_SEED))
        metric = getattr(self.metric, "identity", getattr(self.metric, "__qualname__", self.metric))
        own = hashlib.sha256(repr((rows.dataset.digest, split, metric, seed)).encode()).hexdigest()
        name = f"{type(self).__name__}-{own[:12]}"
        return Study(name, data=rows, metric=self.metric, families=self.families, split=split, seed=seed)

    def _observers(self) -> list[Any]:
        if not self.verbose:
            return []
        from tunekit.tracking.console import ConsoleObserver

        return [ConsoleObserver()]

    def _predicted(self, X: Any, *, shares: bool = False) -> npt.NDArray[Any]:
        """What the bundle predicts of rows; with `shares`, the probabilities of the classes."""
        check_is_fitted(self)
        rows = self._checked(X, reset=False)
        return np.asarray(self.bundle_.predict_proba(rows) if shares else self.bundle_.predict(rows))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "bundle_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """The bundle's files instead of the bundle, whose session can't be pickled."""
        return {name: value for name, value in super().__getstate__().items() if name != "bundle_"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_files" in state:
            self.bundle_ = opened(state["_files"])


def opened(files: dict[str, bytes]) -> Bundle:
    """The bundle of files that are held in memory."""
    with tempfile.TemporaryDirectory(prefix="tunekit-") as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        return Bundle.load(folder)
