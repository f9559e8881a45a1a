"""`show --watch`: what it draws on a terminal, and what it writes elsewhere."""

import io
from typing import Any

import pytest
from rich.console import Console

from tunekit.tracking import watching
from tunekit.tracking.watching import watch

FIRST: dict[str, Any] = {
    "study": "ames",
    "metric": "rmse",
    "direction": "minimize",
    "baseline": None,
    "ensemble": None,
    "trials": [{"number": 7, "family": "mlp", "state": "running", "score": None, "fold_scores": [], "seconds": 0.0}],
}
SECOND = {**FIRST, "trials": [{**FIRST["trials"][0], "state": "complete", "score": 21.5, "fold_scores": [21.5]}]}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "EVERY", 0.0)


def watched(*summaries: dict[str, Any], terminal: bool) -> str:
    file, left = io.StringIO(), list(summaries)
    console = Console(file=file, force_terminal=terminal, width=100, no_color=True)
    watch(lambda: left.pop(0), console, looks=len(summaries))
    return file.getvalue()


def test_a_terminal_shows_what_runs_and_then_what_came_of_it() -> None:
    shown = watched(FIRST, SECOND, terminal=True)
    assert "running: 007 mlp" in shown
    assert "Ctrl-C ends it" in shown
    assert shown.rindex("21.5") > shown.index("running: 007 mlp")
    assert "nothing runs" in shown[shown.rindex("21.5") :]


def test_elsewhere_each_change_is_written_once() -> None:
    written = watched(FIRST, FIRST, SECOND, SECOND, terminal=False)
    assert written.count("ames: rmse") == 2
    assert written.count("21.5") == 1


def test_it_ends_quietly_at_ctrl_c() -> None:
    def interrupted() -> dict[str, Any]:
        raise KeyboardInterrupt

    watch(interrupted, Console(file=io.StringIO()))
