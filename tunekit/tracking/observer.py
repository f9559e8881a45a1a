"""Observers watch a search. They change nothing, and a failing one costs a warning, not the search."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunekit.trial import Trial


@dataclass(frozen=True)
class StudyFacts:
    """What observers are told about a study when its search starts.

    Args:
        name: the study's name.
        metric: name of the metric.
        direction: "minimize" or "maximize".
        task: "binary", "multiclass" or "regression".
        families: names of the families, in the order of their first trials.
        driver: name of the driver, such as "optuna:tpe".
        split: the split in words, such as "KFold(k=5, test=0.2)".
        rows: number of rows, test rows included.
        columns: number of columns that models read.
        seed: the study's seed.
        digest: SHA-256 of the data.
        budget: seconds for the whole search, or None.
        trial_limit: number of trials to end with, or None.
        workers: trials at a time.
        also_minimize: what counts beside the score: see `tunekit.objectives`.
        kinds: the columns that models read, by name: "number", "category" and so on.
        folder: of the study, where trials leave their files; None if it has none on this machine.
        program: the file that declares the study; None in a notebook.
    """

    name: str
    metric: str
    direction: str
    task: str
    families: tuple[str, ...]
    driver: str
    split: str
    rows: int
    columns: int
    seed: int
    digest: str
    budget: float | None
    trial_limit: int | None
    workers: int
    also_minimize: tuple[str, ...] = ()
    kinds: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    program: Path | None = None

    def file(self, trial: Trial, name: str) -> Path | None:
        """A file that a trial left; None if it left none here."""
        path = None if self.folder is None else self.folder / "trials" / trial.folder / name
        return path if path is not None and path.exists() else None

    def better(self, one: float, other: float) -> bool:
        """Whether score `one` is better than `other`."""
        return one < other if self.direction == "minimize" else one > other


MakeReport = Callable[[], Mapping[str, str]]
"""Makes a report's page and figures: texts by the names of their files."""


class Observer:
    """Base of all observers: each method does nothing. All are called from the search's one thread."""

    def study_started(self, facts: StudyFacts, trials: Sequence[Trial]) -> None:
        """The search starts or resumes; `trials` are those that ended in earlier runs, by number."""

    def trial_started(self, trial: Trial) -> None:
        """A trial was handed to a process. Its values are not known yet."""

    def trial_ended(self, trial: Trial) -> None:
        """A trial ended, in whatever state, and is safe in the ledger."""

    def tick(self, seconds_left: float | None, running: Sequence[Trial]) -> None:
        """About twice a second: time left (None without a budget) and the running trials with their curves so far."""

    def message(self, text: str) -> None:
        """Something its owner should read, in one sentence."""

    def study_ended(self, summary: dict[str, Any]) -> None:
        """The search ended and was judged; `summary` is what `tunekit show --json` prints."""

    def report_ready(self, make: MakeReport) -> None:
        """After `study_ended`: `make` makes the report, which takes a second, so only who keeps it should call it."""

    def bundle_written(self, folder: Path) -> None:
        """The blend was exported to a folder."""

    def close(self) -> None:
        """Nothing more comes; release what is held. Called once, also after a failure."""


class Observers(Observer):
    """Several observers as one. One that raises is dropped with a single warning.

    Args:
        members: who watches, in the order of being told.
    """

    def __init__(self, members: Sequence[Observer]) -> None:
        self._members = list(members)

    def _tell(self, method: str, *arguments: Any) -> None:
        for member in list(self._members):
            try:
                getattr(member, method)(*arguments)
            except Exception as error:
                self._members.remove(member)
                name = type(member).__name__
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                warnings.warn(f"{name} failed and watches no longer; the search goes on ({reason})", stacklevel=2)

    def study_started(self, facts: StudyFacts, trials: Sequence[Trial]) -> None:
        """Tell every member."""
        self._tell("study_started", facts, trials)

    def trial_started(self, trial: Trial) -> None:
        """Tell every member."""
        self._tell("trial_started", trial)

    def trial_ended(self, trial: Trial) -> None:
        """Tell every member."""
        self._tell("trial_ended", trial)

    def tick(self, seconds_left: float | None, running: Sequence[Trial]) -> None:
        """Tell every member."""
        self._tell("tick", seconds_left, running)

    def message(self, text: str) -> None:
        """Tell every member."""
        self._tell("message", text)

    def study_ended(self, summary: dict[str, Any]) -> None:
        """Tell every member."""
        self._tell("study_ended", summary)

    def report_ready(self, make: MakeReport) -> None:
        """Tell every member."""
        self._tell("report_ready", make)

    def bundle_written(self, folder: Path) -> None:
        """Tell every member."""
        self._tell("bundle_written", folder)

    def close(self) -> None:
        """Tell every member."""
        self._tell("close")
