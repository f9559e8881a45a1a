"""One dimension of a search space: which values there are, and when they count."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from numbers import Real
from typing import Any

from tunekit.errors import SpaceError

Value = bool | int | float | str
Suggest = Callable[["Dimension"], Value]

SAMPLINGS = ("linear", "log", "reverse_log")


@dataclass(frozen=True)
class Dimension:
    """One hyperparameter: what values it can take, and when it counts.

    Args:
        name: unique among the dimensions with the same conditions; scopes are joined by "/".
        kind: "int", "float", "choice", "boolean" or "fixed".
        low: smallest value of an int or float.
        high: largest value, inclusive.
        step: distance between values, or their ratio under log sampling; None for every value.
        sampling: "linear", "log" or "reverse_log".
        choices: the values of a choice or boolean; the one value of a fixed one.
        default: the value to try first.
        conditions: (parent name, parent values) pairs that must all hold for it to be active.
        ordered: whether the order of a choice's values means something; recorded only.
    """

    name: str
    kind: str
    default: Value
    low: float | None = None
    high: float | None = None
    step: float | None = None
    sampling: str = "linear"
    choices: tuple[Value, ...] = ()
    conditions: tuple[tuple[str, tuple[Value, ...]], ...] = ()
    ordered: bool = False

    def __post_init__(self) -> None:
        if self.kind in ("int", "float"):
            self._check_range()
        elif not self.choices:
            raise SpaceError(f"{self.name!r}: received no values; expected at least one to choose from")
        elif len({type(value) for value in self.choices}) > 1:
            raise SpaceError(f"{self.name!r}: values {list(self.choices)!r} are of different types; expected one type")
        if self.kind in ("choice", "boolean") and self.default not in self.choices:
            raise SpaceError(f"{self.name!r}: default {self.default!r} is not among its values {list(self.choices)!r}")

    def _check_range(self) -> None:
        low, high = self.low, self.high
        if low is None or high is None or not low <= high:
            raise SpaceError(f"{self.name!r}: received the range {low} to {high}; expected min_value <= max_value")
        if self.sampling not in SAMPLINGS:
            raise SpaceError(f"{self.name!r}: sampling={self.sampling!r}; expected one of {', '.join(SAMPLINGS)}")
        if self.sampling != "linear" and low <= 0:
            raise SpaceError(f"{self.name!r}: {self.sampling} sampling needs min_value > 0, received {low}")
        least = 1 if self.sampling == "log" else 0
        if self.step is not None and self.step <= least:
            raise SpaceError(
                f"{self.name!r}: step={self.step}; expected more than {least} under {self.sampling} sampling"
            )
        if not low <= self.default <= high:  # type: ignore[operator]
            raise SpaceError(f"{self.name!r}: default {self.default} lies outside {low} to {high}")

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest value of an int or float."""
        if self.low is None or self.high is None:
            raise SpaceError(f"{self.name!r} is a {self.kind}; only an int or float has bounds")
        return self.low, self.high

    @property
    def key(self) -> str:
        """What tells it from a dimension of the same name under other conditions."""
        told = [f"{parent}={'|'.join(map(str, values))}" for parent, values in self.conditions]
        return self.name if not told else f"{self.name} [{', '.join(told)}]"

    @property
    def count(self) -> float:
        """How many values there are; infinite for a float without a step."""
        if self.kind not in ("int", "float"):
            return len(self.choices)
        low, high = self.bounds
        if self.step is None and self.kind == "float":
            return math.inf
        if self.step is not None and self.sampling == "log":
            return math.floor(math.log(high / low) / math.log(self.step) + 1e-9) + 1
        return int((high - low) / (self.step or 1) + 1e-9) + 1

    def value_at(self, index: int) -> Value:
        """The value with this index, from 0, of the `count` in order; there may be too many to list."""
        if self.kind not in ("int", "float"):
            return self.choices[index]
        low, high = self.bounds
        if self.step is not None and self.sampling == "log":
            value = min(low * self.step**index, high)
        else:
            value = float(Decimal(str(low)) + Decimal(str(self.step or 1)) * index)  # so that 0.1 + 2 * 0.1 is 0.3
        return round(value) if self.kind == "int" else value

    def index_near(self, number: float) -> int:
        """The index of the value that is nearest to a number: by ratio, where steps are ratios."""
        count = int(self.count)
        if self.sampling == "log" and self.step is not None:
            return min(range(count), key=lambda index: abs(math.log(float(self.value_at(index)) / number)))
        low, _ = self.bounds
        return min(max(math.ceil((number - low) / (self.step or 1) - 0.5), 0), count - 1)

    @property
    def top(self) -> float:
        """The largest value of an int or float: less than its upper bound where no step ends there."""
        return self.bounds[1] if math.isinf(self.count) else float(self.value_at(int(self.count) - 1))

    @property
    def grid(self) -> tuple[Value, ...] | None:
        """Every value in order, which may be many; None for a float without a step."""
        return None if math.isinf(self.count) else tuple(self.value_at(index) for index in range(int(self.count)))

    def contains(self, value: Any) -> bool:
        """Whether the value is one that this dimension can take."""
        if self.kind not in ("int", "float"):
            return value in self.choices
        if isinstance(value, bool) or not isinstance(value, Real):
            return False
        number = float(value)
        low, high = self.bounds
        if not low <= number <= high or (self.kind == "int" and number % 1 != 0):
            return False
        return self.step is None or math.isclose(number, float(self.value_at(self.index_near(number))))

    def is_active(self, values: Mapping[str, Value]) -> bool:
        """Whether its conditions hold for these values by name."""
        return all(parent in values and values[parent] in wanted for parent, wanted in self.conditions)

    def get_config(self) -> dict[str, Any]:
        """Plain data in the form of KerasTuner's `HyperParameter.get_config`."""
        conditions = [
            {"class_name": "Parent", "config": {"name": parent, "values": list(values)}}
            for parent, values in self.conditions
        ]
        config: dict[str, Any] = {"name": self.name, "default": self.default, "conditions": conditions}
        if self.kind in ("int", "float"):
            step = 1 if self.kind == "int" and self.step is None and self.sampling == "linear" else self.step
            config |= {"min_value": self.low, "max_value": self.high, "step": step, "sampling": self.sampling}
        elif self.kind == "choice":
            config |= {"values": list(self.choices), "ordered": self.ordered}
        elif self.kind == "fixed":
            config["value"] = config.pop("default")
        return config

    def to_json(self) -> dict[str, Any]:
        """Plain data, for a ledger."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Dimension:
        """The inverse of `to_json`."""
        conditions = tuple((parent, tuple(values)) for parent, values in data["conditions"])
        return cls(**{**data, "choices": tuple(data["choices"]), "conditions": conditions})


def space_size(dimensions: Sequence[Dimension]) -> float:
    """An upper bound of the number of different configurations; infinite where a float has no step."""
    return math.prod(dimension.count for dimension in dimensions)


def use_default(dimension: Dimension) -> Value:
    """The `Suggest` that answers with defaults."""
    return dimension.default
