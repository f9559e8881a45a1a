"""The MLflow mirror, on a real SQLite store: what it holds, that it heals after crashes, and that it can only warn."""

import json
import math
import shutil
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest

from tunekit.tracking import Observers, StudyFacts
from tunekit.tracking.mirror import Mirror, follow_a_move
from tunekit.tracking.mlflow import MlflowObserver
from tunekit.tracking.records import fold_span, metric_key, note, span, trial_record
from tunekit.tracking.standings import Standings
from tunekit.trial import MODEL_SUMMARY, Epoch, State, Trial

pytestmark = pytest.mark.usefixtures("kept_servers")

FACTS = StudyFacts(
    name="ames",
    metric="rmse",
    direction="minimize",
    task="regression",
    families=("baseline", "wide_deep"),
    driver="optuna:tpe",
    split="KFold(k=2, test=0.2)",
    rows=2930,
    columns=73,
    seed=7,
    digest="ab" * 32,
    budget=300.0,
    trial_limit=None,
    workers=2,
)
SUMMARY: dict[str, Any] = {
    "study": "ames",
    "metric": "rmse",
    "direction": "minimize",
    "baseline": 80.0,
    "trials": [],
    "ensemble": {
        "members": [{"trial": 1, "family": "wide_deep", "weight": 1.0, "score": 20.0}],
        "oof_score": 19.5,
        "test_score": 19.0,
        "test_interval": [18.0, math.nan],
        "best_single": {"trial": 1, "family": "wide_deep", "score": 20.0, "test_score": 21.0},
        "verdict": "The blend is worth it.",
    },
}
DAY = 1_790_000_000.0  # a start in seconds since 1970


def trial(number: int, state: State = State.COMPLETE, **facts: Any) -> Trial:
    usual: dict[str, Any] = {
        "values": {"layers": 2, "block_0/units": 64, "lr (log)": 0.001},
        "score": 20.0,
        "fold_scores": [19.0, 21.0],
        "curve": [Epoch(fold, epoch, {"loss": 1 / epoch, "rmse": 20.0}) for fold in (0, 1) for epoch in (1, 2, 3)],
        "best_epochs": [3, 2],
        "fold_ends": [4.0, 5.5],
        "seconds": 6.0,
        "started": DAY + number,
    }
    return Trial(number, "wide_deep", index=number, seed=100 + number, state=state, **usual | facts)


def baseline() -> Trial:
    return Trial(
        0, "baseline", 0, 100, State.COMPLETE, score=80.0, fold_scores=[79.0, 81.0], seconds=0.1, started=DAY
    )  # fmt: skip


FAILED = trial(2, State.FAILED, score=None, fold_scores=[], error="the loss turned NaN\nin epoch 2")
STOPPED = trial(3, State.STOPPED, score=30.0, fold_scores=[30.0], curve=[], error="not worth another fold")
TRIALS = [baseline(), trial(1), FAILED, STOPPED]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all: making its tables takes seconds. Each test has a study of its own in it."""
    return tmp_path_factory.mktemp("m r") / "mlruns"  # with a space, as homes have


@pytest.fixture(autouse=True)
def no_server_of_the_developers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def client(root: Path) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{root.resolve().as_posix()}/mlflow.db")


def artifact(run: Any, name: str) -> Path:
    """Where MLflow looks for an artifact of a run."""
    return Path(url2pathname(urlsplit(run.info.artifact_uri).path)) / name


def search(
    root: Path, study: str, known: Sequence[Trial], ended: Sequence[Trial], *, end: bool = True, **how: Any
) -> None:
    facts = replace(FACTS, name=study, budget=how.pop("budget", 300.0), folder=how.pop("folder", None))
    observer = MlflowObserver(root, **how)
    observer.study_started(facts, known)
    for one in ended:
        observer.trial_ended(one)
    if end:
        observer.study_ended(SUMMARY)
    observer.close()


def runs(root: Path, study: str) -> tuple[list[Any], dict[str, Any]]:
    """The parent runs, newest first, and the nested runs by name; no name may come twice under one parent."""
    found = client(root).search_runs([client(root).get_experiment_by_name(study).experiment_id])
    parents = [run for run in found if "tunekit.parent" in run.data.tags]
    nested = [run for run in found if run.data.tags["tunekit.kind"] == "trial"]
    keys = [(run.data.tags["mlflow.parentRunId"], run.data.tags["tunekit.trial"]) for run in nested]
    assert len(keys) == len(set(keys))
    return sorted(parents, key=lambda run: -run.info.start_time), {run.info.run_name: run for run in nested}


def test_a_search_is_one_parent_with_a_nested_run_per_trial(root: Path) -> None:
    search(root, "whole", [], TRIALS)
    [parent], nested = runs(root, "whole")
    assert {name: run.info.status for name, run in nested.items()} == {
        "000 baseline": "FINISHED",
        "001 wide_deep": "FINISHED",
        "002 wide_deep": "FAILED",
        "003 wide_deep": "KILLED",
    }
    assert {run.data.tags["mlflow.parentRunId"] for run in nested.values()} == {parent.info.run_id}

    run = nested["001 wide_deep"]
    assert (run.info.start_time, run.info.end_time) == ((DAY + 1) * 1000, (DAY + 7) * 1000)
    assert run.data.params == {
        "family": "wide_deep",
        "seed": "101",
        "layers": "2",
        "block_0/units": "64",
        "lr _log_": "0.001",
    }
    assert run.data.metrics["score"] == 20.0
    assert run.data.metrics["fold_score_std"] == 1.0
    assert {run.data.tags[f"tunekit.{name}"] for name in ("family", "state", "driver")} == {
        "wide_deep",
        "complete",
        "optuna:tpe",
    }
    curves = {
        name: [(point.step, point.value) for point in client(root).get_metric_history(run.info.run_id, name)]
        for name in ("loss", "rmse", "fold_score", "best_epoch")
    }
    assert curves == {
        "loss": [(1, 1.0), (2, 0.5), (3, 1 / 3)],
        "rmse": [(1, 20.0), (2, 20.0), (3, 20.0)],
        "fold_score": [(0, 19.0), (1, 21.0)],
        "best_epoch": [(0, 3.0), (1, 2.0)],
    }
    assert nested["002 wide_deep"].data.tags["tunekit.error"] == "the loss turned NaN\nin epoch 2"

    assert parent.info.status == "FINISHED"
    assert parent.data.params["digest"] == "ab" * 32
    assert parent.data.params["families"] == "baseline, wide_deep"
    expected = {"best_score": 20, "baseline_score": 80, "trials_complete": 2, "trials_failed": 1, "trials_stopped": 1}
    assert {name: parent.data.metrics[name] for name in expected} == expected
    assert (parent.data.metrics["oof_score"], parent.data.metrics["test_score"]) == (19.5, 19.0)
    assert parent.data.tags["verdict"] == "The blend is worth it."
    assert "| 001 wide_deep | 20.000 ± 1.0000 | 2 | 6.0 s |" in parent.data.tags["mlflow.note.content"]
    summary = artifact(parent, "summary.json")
    assert summary.is_relative_to(root / "artifacts")
    assert json.loads(summary.read_text())["ensemble"]["test_interval"] == [18.0, None]  # strict JSON


def test_trials_that_count_have_a_nested_run_per_fold(root: Path) -> None:
    def folds() -> list[Any]:
        experiment = client(root).get_experiment_by_name("folds").experiment_id
        return list(client(root).search_runs([experiment], "tags.`tunekit.kind` = 'fold'"))

    search(root, "folds", [], TRIALS)
    found = {run.info.run_name: run for run in folds()}
    assert set(found) == {f"{name} fold {fold}" for name in ("000 baseline", "001 wide_deep") for fold in (0, 1)}
    _, nested = runs(root, "folds")
    run = found["001 wide_deep fold 1"]
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.parentRunId"] == nested["001 wide_deep"].info.run_id
    assert (run.data.tags["tunekit.fold"], run.data.tags["tunekit.family"]) == ("1", "wide_deep")
    assert (run.data.metrics["score"], run.data.metrics["best_epoch"]) == (21.0, 2.0)
    [given] = nested["001 wide_deep"].inputs.dataset_inputs
    assert given.dataset.digest == ("ab" * 32)[:36]
    assert (run.info.start_time, run.info.end_time) == ((DAY + 5) * 1000, (DAY + 6.5) * 1000)
    assert run.data.metrics["seconds"] == 1.5
    curve = client(root).get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in curve] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert [point.timestamp - 1000 * (DAY + 5) for point in curve] == [500, 1000, 1500]
    search(root, "folds", TRIALS, [trial(4, score=10.0, fold_scores=[10.0, 10.0])])
    assert len(folds()) == 6  # the new trial's two, and none twice


def test_a_fold_lasts_from_the_end_of_the_one_before() -> None:
    def seconds(*given: Trial) -> list[list[float]]:
        return [[(moment / 1000 - one.started) for moment in fold_span(one, fold)] for one in given for fold in (0, 1)]

    halfway = trial(1, State.STOPPED, fold_scores=[19.0], fold_ends=[4.0])
    assert seconds(trial(1), halfway) == [[0, 4], [4, 5.5], [0, 4], [4, 6]], "one that did not end took the rest"
    older, reused = trial(1, fold_ends=[]), trial(1, fold_ends=[], curve=[], seconds=0.0, same_as=0)
    assert seconds(older, reused) == [[0, 3], [3, 6], [0, 0], [0, 0]]
    unjudged = trial(1, fold_scores=[], fold_ends=[])
    assert fold_span(unjudged, 0) == span(unjudged)


def test_the_rows_the_machine_and_the_layers_are_told(root: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    one = trial(1)
    (tmp_path / "trials" / one.folder).mkdir(parents=True)
    (tmp_path / "trials" / one.folder / MODEL_SUMMARY).write_text("a layer\n")
    facts = replace(
        FACTS, name="told", kinds={"area": "number", "street": "category", "photo": "array"}, folder=tmp_path
    )
    observer = MlflowObserver(root)
    observer.study_started(facts, [])
    observer.trial_ended(one)
    deadline = time.monotonic() + 60
    while not (tracked := runs_if_any(root, "told")) or "system/cpu_utilization_percentage" not in tracked.data.metrics:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    observer.study_ended(SUMMARY)
    observer.close()

    [parent], nested = runs(root, "told")
    [given] = parent.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("told", ("ab" * 32)[:36])
    assert json.loads(given.dataset.profile) == {"num_rows": 2930, "num_columns": 73}
    assert [column["type"] for column in json.loads(given.dataset.schema)["mlflow_colspec"]] == ["double", "string"]
    assert artifact(nested["001 wide_deep"], MODEL_SUMMARY).read_text() == "a layer\n"


def test_the_study_file_and_the_report_are_artifacts(root: Path, tmp_path: Path) -> None:
    program = tmp_path / "houses.py"
    program.write_text("study = ...\n")
    observer = MlflowObserver(root)
    observer.study_started(replace(FACTS, name="shown", program=program), [])
    observer.study_ended(SUMMARY)
    observer.report_ready(lambda: {"report.html": "<p>ü", "figures/history.json": "{}"})
    with pytest.warns(UserWarning, match=r"no report of this search \(ZeroDivisionError: .*see `tunekit report`"):
        observer.report_ready(lambda: {"report.html": str(1 / 0)})
    observer.close()
    [parent], _ = runs(root, "shown")
    assert artifact(parent, "houses.py").read_text() == "study = ...\n"
    assert artifact(parent, "report/report.html").read_text(encoding="utf-8") == "<p>ü"
    assert artifact(parent, "report/figures/history.json").read_text() == "{}"
    assert "program" not in parent.data.params


def runs_if_any(root: Path, study: str) -> Any:
    """The parent run of a search that has perhaps not begun in MLflow."""
    experiment = client(root).get_experiment_by_name(study)
    found = [] if experiment is None else runs(root, study)[0]
    return found[0] if found else None


def test_resuming_goes_on_with_the_same_runs(root: Path) -> None:
    search(root, "resumed", [], TRIALS[:2], end=False)
    [parent], before = runs(root, "resumed")
    assert parent.info.status == "KILLED"  # it was closed without a judgement
    search(root, "resumed", TRIALS[:3], TRIALS[3:], budget=60.0)  # one that only the ledger knew, one that is new
    [again], after = runs(root, "resumed")
    assert again.info.run_id == parent.info.run_id
    assert again.info.status == "FINISHED"
    assert again.data.params["budget"] == "300.0"  # MLflow lets no parameter change
    assert again.data.tags["tunekit.resumed_with"] == "budget=60.0"
    assert len(after) == 4
    assert all(after[name].info.run_id == run.info.run_id for name, run in before.items())
    search(root, "resumed", TRIALS, [])
    assert runs(root, "resumed")[1].keys() == after.keys()


def test_a_fresh_search_and_one_with_a_new_ledger_have_parents_of_their_own(root: Path) -> None:
    search(root, "fresh", [], TRIALS[:1])
    search(root, "fresh", [], TRIALS[:1], fresh=True)
    search(root, "fresh", [], TRIALS[:1])  # the ledger is empty: somebody deleted it
    parents, _ = runs(root, "fresh")
    assert len(parents) == 3


def test_on_a_server_a_search_goes_on_wherever_its_folder_is(root: Path, tmp_path: Path) -> None:
    def search_in(folder: Path, token: str, known: Sequence[Trial], ended: Sequence[Trial]) -> None:
        (place := folder / "studies" / "served").mkdir(parents=True, exist_ok=True)
        (place / "ledger.token").write_text(token)
        search(folder, "served", known, ended, tracking_uri=server, folder=place)

    server = f"sqlite:///{root.resolve().as_posix()}/mlflow.db"
    search_in(tmp_path / "here", "one", [], TRIALS[:1])
    (tmp_path / "here").rename(tmp_path / "there")
    search_in(tmp_path / "there", "one", TRIALS[:1], TRIALS[1:2])
    [parent], nested = runs(root, "served")
    assert len(nested) == 2
    search_in(tmp_path / "here", "another", TRIALS[:1], TRIALS[1:2])  # where the first one was
    assert len(runs(root, "served")[0]) == 2
    for token, folder in (("one", "there"), ("another", "here")):
        mirror = Mirror(tmp_path / folder, server, fresh=False)
        mirror.attach("served")
        assert client(root).get_run(mirror._parent).data.tags["tunekit.ledger"] == token
    client(root).delete_tag(parent.info.run_id, "tunekit.ledger")
    search_in(tmp_path / "here", "new", TRIALS[:2], TRIALS[2:3])  # as of an earlier version, found by its place
    assert len(runs(root, "served")[0]) == 2
    assert client(root).get_run(parent.info.run_id).data.tags["tunekit.ledger"] == "new"


def test_what_a_crash_left_open_is_completed_or_closed(root: Path) -> None:
    search(root, "crashed", [], TRIALS[:1])
    mlflow = client(root)
    [parent], _ = runs(root, "crashed")
    mlflow.update_run(parent.info.run_id, status="RUNNING")
    for number in (1, 9):  # trial 1 is in the ledger, trial 9 never got there
        tags = {"mlflow.parentRunId": parent.info.run_id, "tunekit.kind": "trial", "tunekit.trial": str(number)}
        mlflow.create_run(parent.info.experiment_id, run_name=f"{number:03d} wide_deep", tags=tags)
    search(root, "crashed", TRIALS[:2], [])
    [parent], nested = runs(root, "crashed")
    assert {name: run.info.status for name, run in nested.items()} == {
        "000 baseline": "FINISHED",
        "001 wide_deep": "FINISHED",
        "009 wide_deep": "KILLED",
    }
    assert nested["001 wide_deep"].data.metrics["score"] == 20.0
    mlflow.update_run(parent.info.run_id, status="RUNNING")
    search(root, "crashed", [], TRIALS[:1], fresh=True)
    assert sorted(run.info.status for run in runs(root, "crashed")[0]) == ["FINISHED", "KILLED"]


def test_artifacts_are_found_after_the_folder_was_moved(root: Path, tmp_path: Path) -> None:
    search(root, "moved", [], TRIALS[:1])
    there = tmp_path / "else where" / "mlruns"
    shutil.copytree(root, there)
    follow_a_move(there)
    [parent], _ = runs(there, "moved")
    assert artifact(parent, "summary.json").is_relative_to(there)
    assert [file.path for file in client(there).list_artifacts(parent.info.run_id)] == ["summary.json"]
    follow_a_move(tmp_path)  # without a database there is nothing to do


def test_the_search_never_waits(root: Path) -> None:
    observer = MlflowObserver(root)
    observer.study_started(replace(FACTS, name="waits"), TRIALS)
    for number in range(4, 24):
        observer.trial_ended(trial(number))
    # Handing over takes microseconds; looking for the parent run and writing these, a tenth of a second.
    assert not observer._jobs.empty()
    observer.close()
    assert len(runs(root, "waits")[1]) == 24


def test_the_parent_follows_a_search_that_goes_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search(root, "follows", [], TRIALS[:1])
    monkeypatch.setattr("tunekit.tracking.mlflow.GATHER_SECONDS", 0.05)
    observer = MlflowObserver(root)
    observer.study_started(replace(FACTS, name="follows"), TRIALS[:1])
    for one in TRIALS[1:]:
        observer.trial_ended(one)
    deadline = time.monotonic() + 60  # nothing more is handed over
    while time.monotonic() < deadline and "trials_stopped" not in runs(root, "follows")[0][0].data.metrics:
        time.sleep(0.1)
    [parent], _ = runs(root, "follows")
    assert parent.data.metrics["best_score"] == 20.0
    assert parent.data.metrics["trials_stopped"] == 1
    assert "001 wide_deep" in parent.data.tags["mlflow.note.content"]
    observer.close()


@pytest.mark.parametrize("kind", ["folder", "server", "scheme"])
def test_a_failure_is_one_warning_and_harmless(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (tmp_path / "file").write_text("in the way of a folder")
    if kind == "server":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody listens there
    uri = "nonsense://host" if kind == "scheme" else None
    observer = MlflowObserver(tmp_path / "file" / "mlruns", tracking_uri=uri)
    group = Observers([observer])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        group.study_started(FACTS, TRIALS)
        deadline = time.monotonic() + 60
        while not caught and time.monotonic() < deadline:
            time.sleep(0.05)
            group.tick(None, [])
        group.trial_ended(trial(4))
        group.study_ended(SUMMARY)
        group.close()
    ours = [str(one.message) for one in caught if "racking" in str(one.message)]
    assert len(ours) == 1
    assert ours[0].startswith("MLflow tracking failed and is off; the search goes on (")


def test_close_gives_up_after_its_time_and_says_so(tmp_path: Path) -> None:
    observer = MlflowObserver(tmp_path, flush_seconds=0.01)  # making the tables takes longer than that
    observer.study_started(FACTS, TRIALS)
    with pytest.warns(UserWarning, match=r"still writing after 0\.01 s"):
        observer.close()
    assert observer._thread is not None
    observer._thread.join(60)  # or it would write into a folder that pytest removes


def test_records_stay_within_what_mlflow_takes() -> None:
    odd = trial(
        1,
        values={"x" * 300: "y" * 9000, "family": "mine"},
        score=math.nan,
        fold_scores=[math.inf],
        curve=[Epoch(0, 1, {"score": 1.0, "a//b": math.nan})],
        started=0.0,
        error="e" * 20000,
    )
    record = trial_record(odd, FACTS)
    assert record.params["family"] == "mine"  # the user's own name wins; the tag still says wide_deep
    assert max(len(name) for name in record.params) <= 250
    assert max(len(value) for value in (*record.params.values(), *record.tags.values())) <= 6000
    assert {point.key for point in record.points} >= {"epoch/score", "a__b", "score"}  # curves don't hide our own
    assert abs(record.points[0].timestamp / 1000 - time.time()) < 60  # no start known: it ended just now
    assert metric_key("..") != ".."


def test_the_note_reads_well_without_a_blend() -> None:
    text = note(Standings(FACTS, TRIALS), {"ensemble": None})
    assert "**No blend was made.** 4 trials: 2 complete, 1 stopped, 1 failed." in text
    assert "Searching: 0 trials ended (none)." in note(Standings(FACTS))
