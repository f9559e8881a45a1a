"""Shows a search on the console: a live table on a terminal, else one plain line per event."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from tunekit.tracking.observer import Observer, StudyFacts
from tunekit.tracking.standings import (
    Standings,
    clock_text,
    facts_text,
    score_text,
    seconds_text,
    spread_text,
)
from tunekit.tracking.summary import STYLES, score_table, summary_renderable
from tunekit.trial import State, Trial

__all__ = ["ConsoleObserver", "summary_renderable"]

LEADERS, RECENT = 8, 4
STATE_WIDTH = max(len(state) for state in State)


class ConsoleObserver(Observer):
    """Shows a search while it runs, and its judgement at the end.

    The live table is drawn in `tick` only, by the search's own thread, so that nothing is written in the middle of
    other output. Colours follow NO_COLOR, as rich does.

    Args:
        console: where to write; standard output if left out.
        live: whether to draw a live table; if left out, on a terminal that can.
    """

    def __init__(self, console: Console | None = None, *, live: bool | None = None) -> None:
        self._console = console or Console()
        can = self._console.is_terminal and not self._console.is_dumb_terminal
        self._wants_live = can if live is None else live
        self._live: Live | None = None
        self._standings: Standings | None = None
        self._recent: deque[Trial] = deque(maxlen=RECENT)
        self._running: Sequence[Trial] = ()
        self._seconds_left: float | None = None
        self._family_width = 0

    def study_started(self, facts: StudyFacts, trials: Sequence[Trial]) -> None:
        """Say what is searched, and what is there already."""
        self._standings = Standings(facts, trials)
        self._seconds_left = facts.budget
        self._family_width = max((len(family) for family in facts.families), default=0)
        self._line(Text.assemble((facts.name, "bold"), f": {facts_text(facts)}"))
        if trials:
            counts, best = self._standings.counts_text(), score_text(self._standings.best)
            self._line(Text(f"resumed; trials so far: {counts}; best {best}"))
        if self._wants_live:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
            self._draw()

    def trial_ended(self, trial: Trial) -> None:
        """Count the trial; on a plain console write its line."""
        if self._standings is None:
            return
        self._standings.add(trial)
        self._recent.append(trial)
        self._running = [other for other in self._running if other.number != trial.number]
        if self._live is None:
            self._line(Text(self._trial_line(trial, self._standings)))

    def tick(self, seconds_left: float | None, running: Sequence[Trial]) -> None:
        """Draw the live table anew."""
        self._seconds_left = seconds_left
        self._running = list(running)
        self._draw()

    def message(self, text: str) -> None:
        """Write the sentence on a line of its own."""
        self._line(Text(text))

    def study_ended(self, summary: dict[str, Any]) -> None:
        """Put the judgement in the live table's place."""
        self._stop()
        self._console.print(summary_renderable(summary))

    def close(self) -> None:
        """Give the console back; a search without a judgement leaves its last table."""
        if self._live is not None:
            self._stop()
            self._console.print(self.renderable())

    def renderable(self) -> RenderableType:
        """The live table as it stands."""
        standings = self._standings
        if standings is None:
            return Text("")
        leaders = standings.leaders(LEADERS)
        shown = {trial.number for trial in leaders}
        recent = [trial for trial in reversed(self._recent) if trial.number not in shown]
        table = score_table(standings.facts.metric, "", "state", "epochs", "time")
        table.columns[3].justify = "left"
        sections = (leaders, recent, sorted(self._running, key=lambda trial: trial.number))
        for section in sections:
            for trial in section:
                table.add_row(*self._row(trial, standings), style="bold" if trial in leaders[:1] else None)
            table.add_section()
        return Group(table, self._footer(standings))

    def _draw(self) -> None:
        if self._live is not None:
            self._live.update(self.renderable(), refresh=True)

    def _stop(self) -> None:
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()

    def _line(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True)

    def _row(self, trial: Trial, standings: Standings) -> list[Text]:
        score, facts = trial.score, standings.facts
        if trial.state == State.RUNNING and score is None:
            score = best_so_far(trial, facts)
        state = Text(str(trial.state), style=STYLES.get(trial.state, ""))
        if trial.error:
            state.append(f" {_first_line(trial.error)}", style="dim")
            state.truncate(max(20, self._console.width - 60), overflow="ellipsis")
        cells = (score_text(score), spread_text(trial.fold_scores))
        return [Text(trial.name), *map(Text, cells), state, Text(_epochs(trial)), Text(_time(trial))]

    def _footer(self, standings: Standings) -> Text:
        leader = "".join(f" ({trial.name})" for trial in standings.leaders(1))
        parts = [f"best {score_text(standings.best)}{leader}", f"baseline {score_text(standings.baseline)}"]
        parts.append(f"trials: {standings.counts_text()}")
        if self._running:
            parts.append(f"{len(self._running)} running")
        if self._seconds_left is not None:
            parts.append(f"left {clock_text(self._seconds_left)}")
        return Text("   ".join(parts), style="bold")

    def _trial_line(self, trial: Trial, standings: Standings) -> str:
        head = f"{trial.number:03d} {trial.family:{self._family_width}}  {trial.state:{STATE_WIDTH}}"
        folds = len(trial.fold_scores)
        cost = f"({folds} fold{'s' if folds != 1 else ''}, {seconds_text(trial.seconds)})"
        words = [
            head.rstrip() if trial.score is None else f"{head}  {standings.facts.metric} {score_text(trial.score)}"
        ]
        words += [cost, f"best {score_text(standings.best)}", f"baseline {score_text(standings.baseline)}"]
        if self._seconds_left is not None:
            words.append(f"left {clock_text(self._seconds_left)}")
        if trial.error:
            words.append(_first_line(trial.error))
        return "  ".join(words)


def best_so_far(trial: Trial, facts: StudyFacts) -> float | None:
    """The best score among the epochs of a running trial's present fold."""
    fold = trial.curve[-1].fold if trial.curve else 0
    scores = _finite(point.logs.get(facts.metric) for point in trial.curve if point.fold == fold)
    if not scores:
        return None
    return min(scores) if facts.direction == "minimize" else max(scores)


def _finite(values: Iterable[Any]) -> list[float]:
    return [float(value) for value in values if isinstance(value, (int, float)) and math.isfinite(value)]


def _epochs(trial: Trial) -> str:
    if not trial.curve:
        return ""
    last = trial.curve[-1]
    return f"{last.epoch}" if last.fold == 0 and len(trial.fold_scores) < 2 else f"fold {last.fold}: {last.epoch}"


def _time(trial: Trial) -> str:
    return "" if trial.state == State.RUNNING and not trial.seconds else seconds_text(trial.seconds)


def _first_line(text: str) -> str:
    return next(iter(str(text).strip().splitlines()), "")
