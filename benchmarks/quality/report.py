"""The figures of many heats as tables."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from scipy.stats import rankdata

from benchmarks.quality.tables import HIGHER, SOURCES

MB = 1e6


def ranks(found: Iterable[dict[str, Any]], systems: Sequence[str]) -> dict[str, list[float]]:
    """Ranks of each system, 1 is best, over the tables and seeds that all of them were tried on; failures come last."""
    heats: dict[tuple[str, int], dict[str, dict[str, Any]]] = defaultdict(dict)
    for one in found:
        heats[one["table"], one["seed"]][one["system"]] = one
    ranked: dict[str, list[float]] = {system: [] for system in systems}
    for (table, _), by_system in heats.items():
        if set(systems) <= set(by_system):
            sign = -1.0 if SOURCES[table].metric in HIGHER else 1.0
            ones = [by_system[system] for system in systems]
            losses = [float("inf") if one["error"] else sign * one["score"] for one in ones]
            for system, rank in zip(systems, rankdata(losses), strict=True):
                ranked[system].append(float(rank))
    return ranked


def report(found: Sequence[dict[str, Any]], systems: Sequence[str]) -> str:
    """Scores per table and seed, then what each system took: Markdown."""
    lines = [f"| table | metric | seed | {' | '.join(systems)} |", f"|---|---|---|{'---|' * len(systems)}"]
    for table in [name for name in SOURCES if any(one["table"] == name for one in found)]:
        for seed in sorted({one["seed"] for one in found if one["table"] == table}):
            cells = [_score(found, table, seed, system) for system in systems]
            arrow = "up" if SOURCES[table].metric in HIGHER else "down"
            lines.append(f"| {table} | {SOURCES[table].metric} ({arrow}) | {seed} | {' | '.join(cells)} |")
    ranked = ranks(found, systems)
    columns: dict[str, list[str]] = {}
    for system in systems:
        done = [one for one in found if one["system"] == system and not one["error"]]
        columns[system] = [
            f"{statistics.mean(ranked[system]):.2f} of {len(ranked[system])}" if ranked[system] else "-",
            _middle(done, "latency_ms", 1.0, "{:.2f} ms"),
            _middle(done, "size_bytes", MB, "{:.1f} MB"),
            _middle(done, "peak_bytes", MB, "{:,.0f} MB"),
            _middle(done, "fit_seconds", 1.0, "{:.0f} s"),
            f"{max(one['fit_seconds'] for one in done):.0f} s" if done else "-",
            str(sum(bool(one["error"]) for one in found if one["system"] == system)),
        ]
    names = ["mean rank", "one row, median", "size, median", "peak memory, median"]
    names += ["time of the fit, median", "longest fit", "failures"]
    lines += ["", f"| | {' | '.join(systems)} |", f"|---|{'---|' * len(systems)}"]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, *cells in zip(names, *columns.values(), strict=True)]
    failures = [one for one in found if one["error"]]
    lines += ["", *(f"{one['system']} on {one['table']}, seed {one['seed']}: {one['error']}" for one in failures)]
    return "\n".join(lines).rstrip()


def _score(found: Iterable[dict[str, Any]], table: str, seed: int, system: str) -> str:
    for one in found:
        if (one["table"], one["seed"], one["system"]) == (table, seed, system):
            return "failed" if one["error"] else f"{one['score']:,.5g}"
    return ""


def _middle(done: Sequence[dict[str, Any]], name: str, unit: float, form: str) -> str:
    return form.format(statistics.median(one[name] for one in done) / unit) if done else "-"
