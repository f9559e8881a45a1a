"""`Finding`: one thing that the coach has to say."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["problem", "hint", "good"]

LEVELS: tuple[Level, ...] = ("problem", "hint", "good")
"""The most urgent first."""


@dataclass(frozen=True)
class Finding:
    """One finding, with its evidence and what to do.

    Args:
        level: "problem" where scores can't be trusted or a search can't succeed as it is, "hint" where something else
            may well do better, "good" where it was looked and nothing is wrong.
        kind: a stable word for programs, such as "leak".
        title: a few words.
        text: the evidence in words, with its numbers.
        change: the one line of the study to change, as code; "" if there is none.

    Raises:
        ValueError: there is no such level.
    """

    level: Level
    kind: str
    title: str
    text: str
    change: str = ""

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ValueError(f"level={self.level!r}; expected one of {', '.join(LEVELS)}")

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def most_urgent_first(findings: list[Finding]) -> list[Finding]:
    """Problems, then hints, then what is good; of one level in the order in which they were found."""
    return sorted(findings, key=lambda one: LEVELS.index(one.level))
