"""A ledger in optuna-dashboard: its real server on the real database of a search, asked over HTTP while it runs."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen
from wsgiref.simple_server import WSGIRequestHandler, make_server

import optuna
import pytest

from tunekit.drivers import ProposalSampler, Random
from tunekit.ledger import Ledger, Running
from tunekit.space import HyperParameters
from tunekit.stopping import FOLD_STEP, Median
from tunekit.trial import State

dashboard = pytest.importorskip("optuna_dashboard")

IDENTITY = {"direction": "maximize", "data": "digest", "metric": "roc_auc"}
REPORTS = [(1, 0.5), (2, 0.625), (FOLD_STEP, 0.75)]
PATIENCE = 30.0
"""Seconds after which the server is taken to hang: no measure of speed."""


class Quiet(WSGIRequestHandler):
    """Doesn't print each request."""

    def log_message(self, *args: Any) -> None:
        """Nothing."""


@contextmanager
def serving(database: Path) -> Iterator[str]:
    """optuna-dashboard on a free port of this machine; where it answers."""
    # As its command line opens an address: without creating or checking tables.
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{database}", skip_compatibility_check=True, skip_table_creation=True
    )
    with make_server("127.0.0.1", 0, dashboard.wsgi(storage), handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(PATIENCE)
            storage.remove_session()
            storage.engine.dispose()


def get(address: str) -> Any:
    """What a page of the API answers."""
    with urlopen(address, timeout=PATIENCE) as answer:
        assert answer.status == 200
        return json.load(answer)


def start(ledger: Ledger, family: str = "net") -> Running:
    """A trial with all its values, as a search starts it."""
    running = ledger.start(family, started=100.0)
    hp = HyperParameters(lambda dimension: ledger.suggest(running, dimension))
    hp.Int("layers", 1, 4)
    hp.Int("units", 32, 512, step=2, sampling="log")  # stored as a position
    hp.Float("lr", 1e-4, 1e-1, sampling="log")
    if hp.Choice("optimizer", ["adam", "sgd"]) == "sgd":
        hp.Float("momentum", 0.0, 0.9, parent_name="optimizer", parent_values="sgd")
    ledger.settle(running)
    return running


def search(ledger: Ledger) -> dict[str, Running]:
    """One trial for each way to end, by Optuna's word for it; two families."""
    ledger.open(IDENTITY, seed=7)
    for family in ("net", "trees"):
        ledger.add_family(family, ProposalSampler(Random(), 7, family), Median(), [{"defaults": True}])
    runnings = {}
    for told, state in (
        ("Complete", State.COMPLETE),
        ("Pruned", State.STOPPED),
        ("Fail", State.FAILED),
        ("Running", State.RUNNING),
    ):
        running = runnings[told] = start(ledger)
        for step, score in REPORTS:
            ledger.worth_more(running, score, step)
        if state is not State.RUNNING:
            running.trial.state = state
            running.trial.score = 0.75 if state is not State.FAILED else None
            ledger.end(running)
    return runnings


@pytest.mark.slow  # the server's import, and a database on a disk that others use
def test_a_running_search_is_viewable_in_optuna_dashboard(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "houses")
    try:
        runnings = search(ledger)
        before = ledger.trials()
        with serving(tmp_path / "studies" / "houses" / "ledger.db") as address:
            with urlopen(f"{address}/dashboard", timeout=PATIENCE) as page:
                assert b"Optuna Dashboard" in page.read()
            studies = get(f"{address}/api/studies")["study_summaries"]
            assert [(study["study_name"], study["directions"]) for study in studies] == [
                ("houses/net", ["maximize"]),
                ("houses/trees", ["maximize"]),
            ]
            detail = get(f"{address}/api/studies/{studies[0]['study_id']}")
            importances = get(f"{address}/api/studies/{studies[0]['study_id']}/param_importances")
            waiting = get(f"{address}/api/studies/{studies[1]['study_id']}")["trials"]
        check(detail, runnings)
        assert importances["param_importances"], "the page that most people open first works"
        assert [trial["state"] for trial in waiting] == ["Waiting"]
        assert ledger.trials() == before, "looking changes nothing"
        end = runnings["Running"]
        end.trial.state, end.trial.score = State.COMPLETE, 0.5
        ledger.end(end)
        assert len(ledger.trials()) == 4, "and the search goes on beside it"
    finally:
        ledger.close()


def check(detail: dict[str, Any], runnings: dict[str, Running]) -> None:
    """A family's page holds its trials with states, values, scores and reports."""
    trials = {trial["state"]: trial for trial in detail["trials"]}
    assert set(trials) == set(runnings)
    assert trials["Complete"]["values"] == trials["Pruned"]["values"] == [0.75]
    assert [trial["number"] for trial in detail["best_trials"]] == [trials["Complete"]["number"]]
    assert not trials["Fail"].get("values")
    assert not trials["Running"].get("values")
    assert detail["has_intermediate_values"]
    for told in ("Complete", "Pruned", "Fail"):  # of one that runs, they may be written when it ends
        reports = [(report["step"], report["value"]) for report in trials[told]["intermediate_values"]]
        assert reports == REPORTS
    for told, running in runnings.items():
        shown = {param["name"]: param["param_external_value"] for param in trials[told]["params"]}
        asked = running.handle.params
        assert shown.keys() == asked.keys()
        assert all(shown[name] == str(value) for name, value in asked.items())
    assert {param["name"] for param in detail["union_search_space"]} >= set(runnings["Complete"].handle.params)
