"""The advice in a summary as it is shown: sentences, most useful first, and the importances behind them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

IDLE = "does not matter"
"""The kind of advice that is most frequent and least urgent."""

LINES = 6
"""So many are read; the rest is in `tunekit show --json`."""


def advice_lines(summary: Mapping[str, Any], most: int = LINES) -> list[str]:
    """The sentences, most useful first; the last line says how many more there are.

    What doesn't matter is one line for each family.

    >>> advice_lines({"advice": [{"text": "widen a"}, {"text": "widen b"}, {"text": "c matters"}]}, most=2)
    ['widen a', 'and 2 more: tunekit show --json']
    """
    idle: dict[str, list[Mapping[str, Any]]] = {}
    texts = []
    for one in _entries(summary):
        if one.get("kind") == IDLE:
            idle.setdefault(str(one.get("family")), []).append(one)
        elif one.get("text"):
            texts.append(str(one["text"]))
    texts += [_together(family, ones) for family, ones in idle.items()]
    if len(texts) <= most:
        return texts
    return [*texts[: most - 1], f"and {len(texts) - most + 1} more: tunekit show --json"]


def _together(family: str, idle: list[Mapping[str, Any]]) -> str:
    if len(idle) == 1:
        return str(idle[0].get("text"))
    names = [str(one.get("name")) for one in idle]
    return f"{family}: {', '.join(names[:-1])} and {names[-1]} hardly matter: keep their defaults"


def importances(summary: Mapping[str, Any]) -> dict[str, float]:
    """Importance by "family/hyperparameter", of those that something is said about."""
    found: dict[str, float] = {}
    for one in _entries(summary):
        numbers = one.get("numbers")
        value = numbers.get("importance") if isinstance(numbers, Mapping) else None
        if isinstance(value, (int, float)) and math.isfinite(value):
            found[f"{one.get('family')}/{one.get('name')}"] = float(value)
    return found


def _entries(summary: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    entries = summary.get("advice")
    yield from (one for one in (entries if isinstance(entries, list) else ()) if isinstance(one, Mapping))
