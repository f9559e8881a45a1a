"""The console: plain lines, the live table, the judgement, and nothing odd that breaks them."""

import io
import math
import warnings
from collections.abc import Mapping
from typing import Any

import pytest
from rich.console import Console

from tunekit.tracking import Observers, StudyFacts
from tunekit.tracking.console import ConsoleObserver, best_so_far, summary_renderable
from tunekit.trial import Epoch, State, Trial

FACTS = StudyFacts(
    name="ames",
    metric="rmse",
    direction="minimize",
    task="regression",
    families=("baseline", "xgboost", "wide_deep"),
    driver="optuna:tpe",
    split="KFold(k=5, test=0.2)",
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
    "baseline": 79540.0,
    "trials": [
        {"number": 0, "family": "baseline", "state": "complete", "score": 79540.0, "fold_scores": [79540.0],
         "values": {}, "seconds": 0.1, "error": None},
        {"number": 1, "family": "xgboost", "state": "complete", "score": 24810.2, "fold_scores": [24000.0, 25620.4],
         "values": {"depth": 6}, "seconds": 6.1, "error": None},
        {"number": 2, "family": "wide_deep", "state": "failed", "score": None, "fold_scores": [],
         "values": {}, "seconds": 2.0, "error": "the loss turned NaN"},
    ],
    "ensemble": {
        "members": [{"trial": 1, "family": "xgboost", "weight": 0.75, "score": 24810.2}],
        "oof_score": 23900.0,
        "test_score": 23888.0,
        "test_interval": [22000.0, 25000.0],
        "test_baseline": 79000.0,
        "test_baseline_interval": [78000.0, 80000.0],
        "best_single": {"trial": 1, "family": "xgboost", "score": 24810.2, "test_score": 25000.1},
        "cheap": {"trial": 1, "family": "xgboost", "score": 24810.2, "test_score": 25000.1,
                  "test_interval": [24000.0, 26000.0]},
        "verdict": "The blend beats the best single model by 4%.",
    },
    "overhead": {"seconds": 9.0, "share": 0.03},
}  # fmt: skip


def trial(number: int, family: str = "xgboost", **facts: Any) -> Trial:
    usual: dict[str, Any] = {"state": State.COMPLETE, "score": 24810.2, "fold_scores": [24810.2] * 5, "seconds": 6.1}
    return Trial(number, family, index=number, seed=number, **usual | facts)


def plain() -> tuple[ConsoleObserver, io.StringIO]:
    written = io.StringIO()
    return ConsoleObserver(Console(file=written, width=80, force_terminal=False)), written


def live() -> tuple[ConsoleObserver, Console]:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, record=True, _environ={"TERM": "xterm"})
    return ConsoleObserver(console), console


def shown(renderable: Any) -> str:
    console = Console(file=io.StringIO(), width=100, record=True)
    console.print(renderable)
    return console.export_text()


def test_without_a_terminal_each_event_is_one_line() -> None:
    observer, written = plain()
    observer.study_started(FACTS, [trial(0, "baseline", score=79540.0)])
    observer.tick(192.4, [])
    observer.trial_ended(trial(3))
    error = "the loss turned NaN [/bold]; lower the learning rate\nsecond line"
    observer.trial_ended(trial(4, "wide_deep", state=State.FAILED, score=None, fold_scores=[], seconds=2, error=error))
    observer.message("half the [red]budget is left")
    observer.close()
    assert written.getvalue().splitlines() == [
        "ames: rmse (smaller is better); 2,930 rows, 73 columns; KFold(k=5, test=0.2); families baseline, xgboost, "
        "wide_deep; driver optuna:tpe; 2 workers; budget 5:00",
        "resumed; trials so far: 1 complete; best 79540.0",
        "003 xgboost    complete     rmse 24810.2  (5 folds, 6.1 s)  best 24810.2  baseline 79540.0  left 3:12",
        "004 wide_deep  failed  (0 folds, 2.0 s)  best 24810.2  baseline 79540.0  left 3:12  "
        "the loss turned NaN [/bold]; lower the learning rate",
        "half the [red]budget is left",
    ]


def test_a_dumb_terminal_gets_plain_lines() -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, _environ={"TERM": "dumb"})
    observer = ConsoleObserver(console)
    observer.study_started(FACTS, [])
    observer.trial_ended(trial(1))
    assert "001 xgboost" in written.getvalue()
    assert "\x1b[?25l" not in written.getvalue()  # no live display hid the cursor


def test_the_live_table_shows_leaders_the_latest_and_the_running() -> None:
    observer, console = live()
    observer.study_started(FACTS, [trial(0, "baseline", score=79540.0)])
    observer.trial_ended(trial(1, fold_scores=[24000.0, 25000.0]))
    observer.trial_ended(trial(2, "wide_deep", state=State.FAILED, score=None, error="the loss turned NaN [/x]"))
    running = Trial(
        3, "wide_deep", index=1, seed=3, curve=[Epoch(0, 1, {"rmse": 30000.0}), Epoch(0, 2, {"rmse": 31000.0})]
    )
    observer.tick(192.0, [running])
    text = shown(observer.renderable())
    lines = text.splitlines()
    assert lines[2].split()[:5] == ["001", "xgboost", "24810.2", "±", "500.00"]
    assert lines[3].split()[:3] == ["000", "baseline", "79540.0"]
    assert "failed the loss turned NaN [/x]" in text
    assert any(line.split() == ["003", "wide_deep", "30000.0", "running", "2"] for line in lines)
    footer = "best 24810.2 (001 xgboost)   baseline 79540.0   trials: 2 complete, 1 failed   1 running   left 3:12"
    assert lines[-1].strip() == footer
    observer.study_ended(SUMMARY)
    observer.close()
    assert "The blend beats the best single model" in console.export_text()


def test_the_live_table_is_drawn_by_tick_alone_and_gives_the_console_back() -> None:
    observer, console = live()
    observer.study_started(FACTS, [])
    file = console.file
    assert isinstance(file, io.StringIO)
    before = file.getvalue()
    observer.trial_ended(trial(1))
    assert file.getvalue() == before
    observer.tick(None, [])
    assert "001 xgboost" in file.getvalue()[len(before) :]
    observer.close()
    assert file.getvalue().rstrip().rfind("\x1b[?25h") > file.getvalue().rfind("\x1b[?25l")  # the cursor is back
    assert file.getvalue().rstrip().endswith("\x1b[0m")  # the last table stays


def test_the_judgement_names_members_scores_interval_and_verdict() -> None:
    lines = [" ".join(line.split()) for line in shown(summary_renderable(SUMMARY)).splitlines()]
    assert lines[0] == "ames: rmse, smaller is better; trials: 2 complete, 1 failed"
    assert "001 xgboost 24810.2 ± 810.20 2 6.1 s" in lines
    assert lines.index("001 xgboost 24810.2 ± 810.20 2 6.1 s") < lines.index("000 baseline 79540.0 1 0.1 s")
    assert "001 xgboost 24810.2 75%" in lines
    assert "blend 23888.0 23900.0 22000.0 to 25000.0" in lines
    assert "best single: 001 xgboost 25000.1 24810.2 -" in lines, "earlier results have no interval of it"
    assert "cheap reference: 001 xgboost 25000.1 24810.2 24000.0 to 26000.0" in lines
    assert "baseline 79000.0 79540.0 78000.0 to 80000.0" in lines
    assert "The blend beats the best single model by 4%." in lines
    assert "the search's own cost: seconds 9.0 s, share 3.0%" in lines


@pytest.mark.parametrize(
    "summary",
    [
        {},
        {"trials": None, "ensemble": None, "baseline": math.nan},
        {"trials": [{}, {"state": "odd"}, {"state": "complete", "score": math.nan}], "ensemble": {}},
        {**SUMMARY, "ensemble": {"members": [{}], "test_interval": None, "best_single": None, "oof_score": "?"}},
        {**SUMMARY, "overhead": {"seconds": None, "share": math.inf}, "baseline": None, "direction": "maximize"},
    ],
)
def test_odd_summaries_are_shown_all_the_same(summary: Mapping[str, Any]) -> None:
    assert shown(summary_renderable(summary))


def test_odd_trials_break_neither_lines_nor_table() -> None:
    odd = [
        trial(1, score=math.nan, fold_scores=[math.nan, math.inf], seconds=math.nan),
        trial(2, score=None, fold_scores=[], state=State.COMPLETE, seconds=0.0),
        trial(3, score=math.inf, error=""),
        trial(4, state=State.INTERRUPTED, error="\n\n", score=-1e300),
        Trial(5, "mlp", index=0, seed=0, curve=[Epoch(0, 1, {"rmse": math.nan}), Epoch(1, 1, {})]),
    ]
    with warnings.catch_warnings(record=True) as caught:
        for observer in (plain()[0], live()[0]):
            group = Observers([observer])
            group.study_started(FACTS, odd[:2])
            for one in odd:
                group.trial_ended(one)
            group.tick(math.nan, odd)
            group.tick(-3.0, odd)
            group.study_ended({})
            group.close()
    assert not caught


def test_the_best_so_far_is_that_of_the_present_fold() -> None:
    curve = [Epoch(0, 1, {"rmse": 1.0}), Epoch(1, 1, {"rmse": 3.0}), Epoch(1, 2, {"rmse": 2.0, "loss": 0.1})]
    assert best_so_far(Trial(0, "mlp", 0, 0, curve=curve), FACTS) == 2.0
