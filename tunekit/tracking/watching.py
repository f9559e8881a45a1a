"""Follows a search that runs elsewhere, in a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from tunekit.tracking.standings import seconds_text, trial_name
from tunekit.tracking.summary import summary_renderable
from tunekit.trial import State

EVERY = 2.0
"""Seconds between two looks at the ledger."""


def watch(
    summary: Callable[[], Mapping[str, Any]], console: Console | None = None, *, looks: int | None = None
) -> None:
    """Show a study's summary, and show it anew whenever it has changed, until Ctrl-C.

    Args:
        summary: reads it: see `Result.summary`.
        console: where to write; standard output if left out. Where that is no terminal, each change is a text of its
            own.
        looks: so many, then end; None for no end.
    """
    console = console or Console()
    seen: Mapping[str, Any] | None = None
    begun, number = time.monotonic(), 0
    with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:
        try:
            while looks is None or number < looks:
                if number:
                    time.sleep(EVERY)
                now, number = summary(), number + 1
                if console.is_terminal:
                    live.update(Group(summary_renderable(now), _running(now, time.monotonic() - begun)), refresh=True)
                elif now != seen:
                    console.print(summary_renderable(now))
                seen = now
        except KeyboardInterrupt:
            return


def _running(summary: Mapping[str, Any], seconds: float) -> Text:
    """The trials in flight, and how to leave."""
    running = [trial_name(trial, "number") for trial in summary["trials"] if trial["state"] == State.RUNNING]
    told = f"running: {', '.join(running)}" if running else "nothing runs"
    return Text(f"{told}   watched for {seconds_text(seconds)}; Ctrl-C ends it", style="bold")
