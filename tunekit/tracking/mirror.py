"""The MLflow side of a study: one parent run, one nested run per trial, each written in a few calls.

Only the thread of `MlflowObserver` comes here, so MLflow is imported without anyone waiting for it. What is mirrored
already is found by its tags, so a study can be mirrored again after any crash without doubles.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import socket
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.errors import StudyError
from tunekit.plain import strict_json
from tunekit.tracking.models import log_bundle, register
from tunekit.tracking.observer import StudyFacts
from tunekit.tracking.records import (
    KIND,
    STATUS,
    Record,
    fold_name,
    fold_record,
    fold_span,
    note,
    progress_record,
    span,
    study_params,
    summary_record,
    trial_record,
)
from tunekit.tracking.standings import Standings
from tunekit.tracking.whole_runs import ByClient, Ended, log, writer
from tunekit.trial import MODEL_SUMMARY, Trial

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Experiment, Run

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
PARENT, NUMBER, HOME = "tunekit.parent", "tunekit.trial", "tunekit.home"
FRONT, SEARCH, LEDGER = "tunekit.front", "tunekit.search", "tunekit.ledger"
PLACES = (
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Where MLflow's database keeps the address of artifacts."""
MLFLOW_PARENT, MLFLOW_NOTE = "mlflow.parentRunId", "mlflow.note.content"
PAGE = 1000

WITH_FOLDS = 10
"""So many of the best trials have a run for each fold, and so have the blend's members: with those of all trials, five
times as long a list of runs would hide what counts, and a tracking server would write it for longer than it may."""

MACHINE_EVERY = 10.0
"""Seconds between two looks at the machine: its processors, memory, disk and network."""

TYPES = {
    "number": "double",
    "boolean": "boolean",
    "date": "datetime",
    "category": "string",
    "text": "string",
    "characters": "string",
}
"""Kinds of columns as MLflow's types of data; it has none for arrays."""

DIGEST_LIMIT = 36
"""Characters of a data set's digest that MLflow's database has room for; the whole one is in the source."""


class Mirror:
    """Writes a study into MLflow. Every method may raise whatever MLflow raises.

    Args:
        root: the `mlruns/` directory.
        tracking_uri: where MLflow keeps runs; None for the database in `root`.
        fresh: start a new parent run even if the study has one.
    """

    def __init__(self, root: Path, tracking_uri: str | None, fresh: bool) -> None:
        self._root = root.resolve()
        self._fresh = fresh
        self._own = tracking_uri is None
        if tracking_uri is None:
            self._root.mkdir(parents=True, exist_ok=True)
            make_database(self._root)
            follow_a_move(self._root)
            tracking_uri = f"sqlite:///{(self._root / 'mlflow.db').as_posix()}"
        self._uri = tracking_uri
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(tracking_uri=tracking_uri)
        self._experiment = ""
        self._parent = ""
        self._ledger = ""  # the token of the study's ledger, which tells it from others of its name
        self._open = False  # whether the parent run is one that this mirror has to close
        self._standings: Standings | None = None
        self._machine: Any = None
        self._runs: dict[int, Run] = {}
        self._pending = Record()
        self._flushed = time.monotonic()
        self._rows: list[DatasetInput] = []
        self._writer: ByClient | None = None

    def start(self, facts: StudyFacts, trials: Sequence[Trial]) -> None:
        """Find or create the parent run, and bring the nested runs up to date with the ledger."""
        self._experiment = self._make_experiment(facts)
        self._ledger = _token_of(facts.folder)
        self._writer = writer(self._client, self._experiment, self._uri, database=self._uri.startswith(DATABASES))
        parent = self._find_parent(reuse=not self._fresh, trials=trials)
        params = study_params(facts)
        if parent is None:
            tags = {PARENT: "1", KIND: "search", **self._common_tags()}
            parent = self._client.create_run(self._experiment, run_name=facts.name, tags=tags)
        else:
            self._client.update_run(parent.info.run_id, status="RUNNING")
            if self._ledger and LEDGER not in parent.data.tags:  # of an earlier version
                self._client.set_tag(parent.info.run_id, LEDGER, self._ledger)
        self._parent, self._open = parent.info.run_id, True
        log(self._client, self._parent, _only_new(params, parent.data.params))
        self._rows = _rows_of(facts)
        self._client.log_inputs(self._parent, self._rows)  # a search that resumes logs it once
        if facts.program is not None and facts.program.exists():
            self._client.log_artifact(self._parent, str(facts.program))
        self._watch_machine()
        mirrored = {trial.number for trial in trials if _is_mirrored(self._runs.get(trial.number))}
        self._standings = Standings(facts, (trial for trial in trials if trial.number in mirrored))
        for trial in trials:
            if trial.number not in mirrored:
                self.trial(trial)
        self._close_left_open(self._runs, keep={trial.number for trial in trials})
        self._pending = progress_record(self._standings, _now())
        self._pending.tags[MLFLOW_NOTE] = note(self._standings)

    def trial(self, trial: Trial) -> None:
        """Write the nested run of a trial that ended."""
        assert self._standings is not None, "start() comes first"
        start, end = span(trial)
        run = self._runs.get(trial.number)
        if not _is_mirrored(run):
            record = trial_record(trial, self._standings.facts)
            of_trial = {MLFLOW_PARENT: self._parent, KIND: "trial", NUMBER: str(trial.number)}
            summary = self._standings.facts.file(trial, MODEL_SUMMARY)
            files = () if summary is None else (summary,)
            ended = Ended(trial.name, start, end, STATUS[trial.state], record, files)
            self._runs[trial.number] = self._write(ended, of_trial, run)
        self._standings.add(trial)
        self._pending.points += progress_record(self._standings, end).points

    def flush(self, every: float = 0.0) -> None:
        """Write what has gathered for the parent run, unless that was done in the last `every` seconds."""
        if self._standings is None or self._pending == Record() or time.monotonic() - self._flushed < every:
            return
        assert self._writer is not None, "start() comes first"
        self._pending.tags[MLFLOW_NOTE] = note(self._standings)
        self._writer.add(self._parent, self._pending)
        self._pending, self._flushed = Record(), time.monotonic()

    def end(self, summary: dict[str, Any]) -> None:
        """Write the judgement, and close the parent run."""
        assert self._standings is not None, "start() comes first"
        self.flush()
        self._end_watch()
        self._add_folds(summary)
        record = summary_record(summary, _now())
        record.tags[MLFLOW_NOTE] = note(self._standings, summary)
        log(self._client, self._parent, record)
        self._mark_front(summary.get("front") or [])
        self._client.log_text(self._parent, strict_json(summary, indent=2) + "\n", "summary.json")
        self._client.set_terminated(self._parent, status="FINISHED")
        self._open = False

    def _watch_machine(self) -> None:
        """Log what the machine does by MLflow's own monitor, which `MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL` paces."""
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor: Any = SystemMetricsMonitor  # published without types
        self._machine = monitor(
            self._parent, sampling_interval=MACHINE_EVERY, resume_logging=True, tracking_uri=self._uri
        )
        self._machine.start()

    def _end_watch(self) -> None:
        if self._machine is not None:
            self._machine.finish()
        self._machine = None

    def _add_folds(self, summary: dict[str, Any]) -> None:
        """Give each trial that counts a nested run for each of its folds, unless it has them, and name its rows.

        Naming them costs MLflow another 6 ms of computing a run: too much for every trial.
        """
        assert self._standings is not None, "start() comes first"
        members = {one["trial"] for one in (summary.get("ensemble") or {}).get("members") or ()}
        leaders = {trial.number for trial in self._standings.leaders(WITH_FOLDS)}
        condition = f"tags.`{KIND}` = 'fold' AND tags.`{SEARCH}` = '{self._parent}'"
        known = {run.info.run_name: run for run in self._pages(condition)}
        for trial in self._standings.ranked:
            if trial.number in members | leaders and trial.number in self._runs:
                found = [known.get(fold_name(trial, fold)) for fold in range(len(trial.fold_scores))]
                if all(_is_mirrored(run) for run in found):
                    continue
                self._client.log_inputs(self._runs[trial.number].info.run_id, self._rows)
                for fold, run in enumerate(found):
                    if not _is_mirrored(run):
                        self._add_fold(trial, fold, run)

    def _add_fold(self, trial: Trial, fold: int, run: Run | None) -> None:
        assert self._standings is not None, "start() comes first"
        start, end = fold_span(trial, fold)
        record = fold_record(trial, fold, self._standings.facts)
        of_fold = {MLFLOW_PARENT: self._runs[trial.number].info.run_id, KIND: "fold", SEARCH: self._parent}
        self._write(Ended(fold_name(trial, fold), start, end, STATUS[trial.state], record), of_fold, run)

    def _write(self, ended: Ended, tags: Mapping[str, str], run: Run | None) -> Run:
        """Write a nested run, or what the one lacks that a crash left open."""
        assert self._writer is not None, "start() comes first"
        if run is not None:
            self._writer.complete(run, ended)
            return run
        ended.record.tags = {**tags, **self._common_tags(), **ended.record.tags}
        return self._writer.write(ended)

    def _mark_front(self, front: Sequence[int]) -> None:
        """Let the trials of the Pareto front be found by a tag."""
        for number, run in self._runs.items():
            if number in front:
                self._client.set_tag(run.info.run_id, FRONT, "yes")
            elif FRONT in run.data.tags:
                self._client.delete_tag(run.info.run_id, FRONT)

    def attach(self, study: str) -> None:
        """Find the parent run of a study that isn't running, so that a bundle can be added to it."""
        experiment = self._client.get_experiment_by_name(study)
        self._ledger = _token_of(self._root / "studies" / study)
        parents = [] if experiment is None else self._parents(experiment.experiment_id)
        if not parents:
            raise StudyError(
                f"MLflow at {self._uri} has no run of study {study!r}; expected one; search the study first"
            )
        self._parent = parents[0].info.run_id

    def bundle(self, folder: Path, trial: int | None, name: str | None) -> str | None:
        """Keep an exported bundle as a model of the parent run; its version, if it is registered by a name."""
        label = "bundle" if trial is None else f"bundle_{trial:03d}"
        model = log_bundle(self._client, self._parent, folder, label)
        self._client.set_tag(self._parent, f"tunekit.{label}", str(folder.resolve()))
        return None if name is None else register(self._client, model, name, local=self._uri.startswith(DATABASES))

    def report(self, files: Sequence[Path]) -> None:
        """Keep a report's files as artifacts of the parent run."""
        for file in files:
            self._client.log_artifact(self._parent, str(file), "report")

    def texts(self, texts: Mapping[str, str]) -> None:
        """Keep a report's page and figures, which were not written to files, where `report` keeps them."""
        with tempfile.TemporaryDirectory() as place:
            for name, text in texts.items():
                path = Path(place) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            self._client.log_artifacts(self._parent, place, "report")

    def close(self) -> None:
        """Close the parent run of a search that did not come to its end."""
        self.flush()
        self._end_watch()
        if self._open:
            self._client.set_terminated(self._parent, status="KILLED")
            self._open = False
        if self._writer is not None:
            self._writer.close()

    def _make_experiment(self, facts: StudyFacts) -> str:
        found: Experiment | None = self._client.get_experiment_by_name(facts.name)
        if found is not None:
            if found.lifecycle_stage == "deleted":  # by its owner, in MLflow: its name stays taken
                self._client.restore_experiment(found.experiment_id)
            return str(found.experiment_id)
        tags = {
            "tunekit.study": facts.name,
            "mlflow.note.content": f"tunekit's study {facts.name!r}: a search is a run, its trials are nested in it.",
            "mlflow.experimentKind": "custom_model_development",
            "mlflow.experiment.primaryMetric.name": "score",
            "mlflow.experiment.primaryMetric.greaterIsBetter": str(facts.direction == "maximize"),
        }
        local = self._uri.startswith(DATABASES)  # else the server knows where its artifacts belong
        location = (self._root / "artifacts").as_uri() if local else None
        return str(self._client.create_experiment(facts.name, artifact_location=location, tags=tags))

    def _find_parent(self, *, reuse: bool, trials: Sequence[Trial]) -> Run | None:
        """The run to go on with, its nested runs in `self._runs`; others that a crash left open are closed."""
        chosen = None
        for parent in self._parents(self._experiment):
            if chosen is None and reuse:
                self._runs = self._nested(parent)
                if trials or not self._runs:  # an empty ledger beside a run with trials is another search
                    chosen = parent
                    continue
            if parent.info.status == "RUNNING":
                self._close_left_open(self._nested(parent), keep=set())
                self._client.set_terminated(parent.info.run_id, status="KILLED")
        if chosen is None:
            self._runs = {}
        return chosen

    def _parents(self, experiment: str) -> list[Run]:
        """The parent runs of this study's ledger, newest first; in a database of its own, those of all it had."""
        found = self._client.search_runs(
            [experiment], f"tags.`{PARENT}` = '1'", max_results=PAGE, order_by=["attributes.start_time DESC"]
        )
        return [run for run in found if self._own or self._is_of_ledger(run.data.tags)]

    def _is_of_ledger(self, tags: Mapping[str, str]) -> bool:
        """Whether a run is of this ledger, wherever its folder was then; of an earlier version's, the place tells."""
        if self._ledger and LEDGER in tags:
            return tags[LEDGER] == self._ledger
        return tags.get(HOME) == self._home()

    def _nested(self, parent: Run) -> dict[int, Run]:
        """The nested runs by trial number; where a number has two, the one that is whole."""
        runs: dict[int, Run] = {}
        for run in self._pages(f"tags.`{MLFLOW_PARENT}` = '{parent.info.run_id}'"):
            number = int(run.data.tags.get(NUMBER, -1))
            if not _is_mirrored(runs.get(number)):
                runs[number] = run
        return runs

    def _pages(self, condition: str) -> Iterator[Run]:
        """All runs of the experiment that fulfil a condition."""
        token = None
        while True:
            page = self._client.search_runs([self._experiment], condition, max_results=PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _close_left_open(self, runs: dict[int, Run], keep: set[int]) -> None:
        for number, run in list(runs.items()):
            if number not in keep:
                if run.info.status == "RUNNING":
                    self._client.set_terminated(run.info.run_id, status="KILLED")
                del runs[number]

    def _common_tags(self) -> dict[str, str]:
        tags = {HOME: self._home(), "mlflow.source.name": "tunekit", "mlflow.source.type": "LOCAL"}
        if self._ledger:
            tags[LEDGER] = self._ledger
        with suppress(KeyError, OSError):
            tags["mlflow.user"] = getpass.getuser()
        return tags

    def _home(self) -> str:
        """Where this study is searched."""
        return f"{socket.gethostname()}:{self._root}"


def _token_of(folder: Path | None) -> str:
    """The token of the ledger whose study has this folder; empty if it has none on this machine."""
    marker = None if folder is None else folder / "ledger.token"
    return marker.read_text().strip() if marker is not None and marker.exists() else ""


def make_database(root: Path) -> None:
    """Make MLflow's database whole or not at all.

    MLflow makes its tables in dozens of steps, which take seconds; killed in between, it leaves a database that it can
    neither open nor complete.

    Args:
        root: the `mlruns/` directory.
    """
    database, partial = root / "mlflow.db", root / "mlflow.db.partial"
    if database.exists():
        return
    with (root / "mlflow.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two searches may start at once
        if database.exists():
            return
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        partial.unlink(missing_ok=True)
        make: Any = SqlAlchemyStore  # published without types
        store = make(f"sqlite:///{partial.as_posix()}", (root / "artifacts").as_uri())
        store.engine.dispose()
        with closing(sqlite3.connect(partial)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")  # it lasts; MLflow ends some ten transactions for a trial
        partial.replace(database)


def follow_a_move(root: Path) -> None:
    """Point MLflow's records at the artifacts of this folder, after it was moved or copied.

    MLflow keeps absolute artifact addresses only (it resolves relative ones as it stores them) and offers no call to
    change them, so this is done in the database of `root`, for the experiments that tunekit made. It costs
    milliseconds and needs no MLflow; `tunekit ui` may call it too.

    Args:
        root: the `mlruns/` directory.
    """
    database, here = root / "mlflow.db", (root.resolve() / "artifacts").as_uri()
    if not database.exists():
        return
    with closing(sqlite3.connect(database, timeout=30)) as connection, connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiment_tags'").fetchone():
            return
        moved = connection.execute(
            "SELECT experiment_id, artifact_location FROM experiments JOIN experiment_tags USING (experiment_id)"
            " WHERE key = 'tunekit.study' AND artifact_location != ?",
            (here,),
        ).fetchall()
        for experiment, before in moved:
            connection.execute(
                "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (here, experiment)
            )
            for table, column in PLACES:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                    (here, len(before) + 1, len(before) + 1, before + "/"),
                )


def _rows_of(facts: StudyFacts) -> list[DatasetInput]:
    """Which rows the search learns from, as MLflow's data set."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    columns = [
        {"type": TYPES[kind], "name": name, "required": False} for name, kind in facts.kinds.items() if kind in TYPES
    ]
    rows = Dataset(
        name=facts.name,
        digest=facts.digest[:DIGEST_LIMIT],
        source_type="tunekit",
        source=json.dumps({"study": facts.name, "sha256": facts.digest}),
        schema=json.dumps({"mlflow_colspec": columns}) if columns else None,
        profile=json.dumps({"num_rows": facts.rows, "num_columns": facts.columns}),
    )
    return [DatasetInput(rows, [InputTag("mlflow.data.context", "search")])]


def _is_mirrored(run: Run | None) -> bool:
    """Whether a nested run is whole: its status comes last."""
    return run is not None and run.info.status != "RUNNING"


def _only_new(params: dict[str, str], known: dict[str, str]) -> Record:
    """Parameters to add to a run; MLflow lets none change, so a resumed search notes other facts in a tag."""
    changed = {name: value for name, value in params.items() if known.get(name, value) != value}
    record = Record(params={name: value for name, value in params.items() if name not in known})
    if changed:
        record.tags["tunekit.resumed_with"] = ", ".join(f"{name}={value}" for name, value in changed.items())
    return record


def _now() -> int:
    return int(time.time() * 1000)
