"""What serving a blend may cost, as its owner says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunekit.errors import StudyError
from tunekit.study.duration import parse_latency, parse_size

UNITS = {"latency": "ms", "size": "MB"}


@dataclass(frozen=True)
class Serving:
    """Limits of an exported blend.

    Args:
        latency: ms of one prediction on one thread, from raw columns on; None for any.
        size: MB of the graph's file; None for any.
    """

    latency: float | None = None
    size: float | None = None

    def __post_init__(self) -> None:
        for name, limit in self.limits.items():
            if not limit > 0:
                raise StudyError(
                    f"{name}={limit:g} {UNITS[name]} leaves nothing; expected more than 0, such as 2 or 20"
                )

    @classmethod
    def of(cls, latency: str | float | None, size: str | float | None) -> Serving | None:
        """From what a caller said: "2ms" or milliseconds, "20MB" or megabytes; None for no limit at all."""
        if latency is None and size is None:
            return None
        taken = parse_size(size) if isinstance(size, str) else None
        megabytes = taken / 1e6 if taken is not None else size
        return cls(parse_latency(latency), None if megabytes is None else float(megabytes))

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any] | None) -> Serving | None:
        """The inverse of `limits`."""
        return cls(plain.get("latency"), plain.get("size")) if plain else None

    @property
    def limits(self) -> dict[str, float]:
        """Those that are set."""
        said = {"latency": self.latency, "size": self.size}
        return {name: limit for name, limit in said.items() if limit is not None}

    def fits(self, costs: Mapping[str, float]) -> bool:
        """Whether costs are within the limits."""
        return all(costs[name] <= limit for name, limit in self.limits.items())

    def scaled(self, share: float) -> Serving:
        """A share of each limit."""
        return Serving(**{name: share * limit for name, limit in self.limits.items()})


def costs_text(costs: Mapping[str, float]) -> str:
    """Costs, or limits, in words.

    >>> costs_text({"latency": 1.234, "size": 20.0})
    '1.23 ms and 20 MB'
    """
    return " and ".join(
        f"{f'{cost:.3g}' if cost < 100 else f'{cost:,.0f}'} {UNITS[name]}" for name, cost in costs.items()
    )
