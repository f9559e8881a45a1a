"""Mirrors a study into MLflow from a thread of its own: the search never waits for it, and survives its failures."""

from __future__ import annotations

import logging
import os
import queue
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.errors import StudyError
from tunekit.tracking.observer import MakeReport, Observer, StudyFacts
from tunekit.trial import Trial

if TYPE_CHECKING:
    from tunekit.tracking.mirror import Mirror

GATHER_SECONDS = 30.0
"""What trials add to the parent run is written this often: it costs MLflow as much as half a trial's own run."""

FLUSH_SECONDS = 30.0
"""How long `close` waits for what is not yet mirrored."""

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # on by default: it would report usage to mlflow.org
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",  # neither its progress nor Alembic's
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # a line per run on a tracking server
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5",  # a server that is gone is given up after a minute, not four
}
"""Environment for MLflow; what the user has set stays."""


class MlflowObserver(Observer):
    """Mirrors a study into MLflow: an experiment per study, a run per search, a nested run per trial.

    The trial is written once it has ended and is safe in the ledger; on resume, what is missing is mirrored then. All
    of it happens in one background thread. If that fails, there is one warning, and the search goes on.

    Args:
        root: the `mlruns/` directory; MLflow's database and artifacts are kept there.
        tracking_uri: a tracking server or store to use instead; `MLFLOW_TRACKING_URI` if left out and set.
        fresh: start a new parent run even if the study has one.
        flush_seconds: how long `close` waits for what is not yet mirrored.
    """

    def __init__(
        self,
        root: Path,
        *,
        tracking_uri: str | None = None,
        fresh: bool = False,
        flush_seconds: float = FLUSH_SECONDS,
    ) -> None:
        self._root = root
        self._tracking_uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or None
        self._fresh = fresh
        self._flush_seconds = flush_seconds
        self._jobs: queue.SimpleQueue[Callable[[Mirror], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._failure: str | None = None
        self._version: str | None = None
        self._warned = False

    def study_started(self, facts: StudyFacts, trials: Sequence[Trial]) -> None:
        """Open the parent run, and mirror the trials that MLflow doesn't have yet."""
        known = list(trials)
        self._hand_over(lambda mirror: mirror.start(facts, known))

    def trial_ended(self, trial: Trial) -> None:
        """Mirror the trial as a nested run."""
        self._hand_over(lambda mirror: mirror.trial(trial))

    def tick(self, seconds_left: float | None, running: Sequence[Trial]) -> None:
        """Say so if mirroring has failed."""
        self._report()

    def study_ended(self, summary: dict[str, Any]) -> None:
        """Write the judgement and close the parent run."""
        self._hand_over(lambda mirror: mirror.end(summary))

    def report_ready(self, make: MakeReport) -> None:
        """Keep the report's page and figures as artifacts of the parent run."""
        if self._failure is not None:
            return
        try:
            texts = make()
        except Exception as error:  # the search has ended well, and what it found is safe
            warnings.warn(
                f"MLflow gets no report of this search ({type(error).__name__}: {error}); see `tunekit report`",
                stacklevel=2,
            )
            return
        self._hand_over(lambda mirror: mirror.texts(texts))

    def attach(self, study: str) -> None:
        """Go to the last search of a study that isn't running, to add a bundle to it.

        Args:
            study: the study's name.
        """
        self._hand_over(lambda mirror: mirror.attach(study))

    def bundle_written(self, folder: Path, *, trial: int | None = None, register: str | None = None) -> None:
        """Keep the bundle as a model of the parent run. After `study_started` or `attach`.

        Args:
            folder: that `tunekit export` wrote.
            trial: that was exported instead of the blend.
            register: name in the model registry, of which the bundle becomes the next version: see `registered`.
        """

        def keep(mirror: Mirror) -> None:
            self._version = mirror.bundle(folder, trial, register)

        self._hand_over(keep)

    def report_written(self, files: Sequence[Path]) -> None:
        """Keep a report's page and figures as artifacts of the parent run, in place of earlier ones. After `attach`.

        Args:
            files: that `tunekit report` wrote.
        """
        kept = list(files)
        self._hand_over(lambda mirror: mirror.report(kept))

    def registered(self) -> str:
        """The version as which the bundle was registered, once `close` has returned.

        Raises:
            StudyError: it was not.
        """
        if self._version is None:
            raise StudyError(
                f"the bundle was written, but not registered: {self._failure or 'MLflow did not answer in time'}; "
                "expected a store with a model registry: see that MLFLOW_TRACKING_URI is right, and export again"
            )
        return self._version

    def close(self) -> None:
        """Wait until everything is mirrored, within limits."""
        if self._thread is None:
            return
        self._jobs.put(None)
        self._thread.join(self._flush_seconds)
        if self._thread.is_alive() and self._failure is None and not self._warned:
            self._warned = True
            warnings.warn(
                f"MLflow was still writing after {self._flush_seconds:g} s and was left behind; nothing is lost: "
                "what is missing is mirrored when the study is searched again",
                stacklevel=2,
            )
        self._report()

    def _hand_over(self, job: Callable[[Mirror], None]) -> None:
        self._report()
        if self._failure is None:
            self._jobs.put(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="tunekit-mlflow", daemon=True)
                self._thread.start()

    def _handed_over(self) -> Iterator[Callable[[Mirror], None] | None]:
        """The jobs in order, until the end; None where there has been none for a while."""
        while True:
            try:
                job = self._jobs.get(timeout=GATHER_SECONDS)
            except queue.Empty:
                yield None
                continue
            if job is None:
                return
            yield job

    def _report(self) -> None:
        if self._failure is not None and not self._warned:
            self._warned = True
            warnings.warn(f"MLflow tracking failed and is off; the search goes on ({self._failure})", stacklevel=3)

    def _work(self) -> None:
        """The thread: jobs in order, until the end or the first failure."""
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        try:
            with _no_retry_chatter():
                from tunekit.tracking.mirror import Mirror

                mirror = Mirror(self._root, self._tracking_uri, self._fresh)
                for job in self._handed_over():
                    if job is not None:
                        job(mirror)
                    mirror.flush(every=GATHER_SECONDS)
                mirror.close()
        except Exception as error:  # whatever it is: MLflow is a mirror, and the ledger holds the truth
            first = next(iter(str(error).splitlines()), "")
            self._failure = f"{type(error).__name__}: {first}"[:400]


@contextmanager
def _no_retry_chatter() -> Iterator[None]:
    """Keep this thread's HTTP retries out of the log: if they all fail, the error says so."""
    mine = threading.get_ident()

    def others(record: logging.LogRecord) -> bool:
        return record.thread != mine

    logger = logging.getLogger("urllib3.connectionpool")
    logger.addFilter(others)
    try:
        yield
    finally:
        logger.removeFilter(others)
