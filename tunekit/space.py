"""The search space: dimensions, and the recorder that a model factory calls.

`HyperParameters` has KerasTuner's call signatures, so that its factories run unchanged. Each call answers with a value
and records the `Dimension` behind it; where the value comes from (a driver, a file, the defaults) is a function that
is handed in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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

    def __post_init__(self) -> None:
        if self.kind in ("int", "float"):
            self._check_range()
        elif not self.choices:
            raise SpaceError(f"{self.name!r}: received no values; expected at least one to choose from")
        elif len({type(value) for value in self.choices}) > 1:
            raise SpaceError(f"{self.name!r}: values {list(self.choices)!r} are of different types; expected one type")
        if self.kind == "choice" and self.default not in self.choices:
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
    def grid(self) -> tuple[Value, ...] | None:
        """Every value in order, or None where there are too many to list (a float without a step)."""
        if self.kind not in ("int", "float"):
            return self.choices
        low, high = self.bounds
        if self.step is None and (self.kind == "float" or self.sampling != "linear"):
            return None if self.kind == "float" else tuple(range(int(low), int(high) + 1))
        step = self.step or 1
        if self.sampling == "log":
            count = math.floor(math.log(high / low) / math.log(step) + 1e-9) + 1
            values = [min(low * step**position, high) for position in range(count)]
        else:
            first, between = Decimal(str(low)), Decimal(str(step))  # so that 0.1 + 2 * 0.1 is 0.3
            values = [float(first + between * position) for position in range(int((high - low) / step + 1e-9) + 1)]
        return tuple(round(value) for value in values) if self.kind == "int" else tuple(values)

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
        return self.step is None or any(math.isclose(number, float(one)) for one in self.grid or ())

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
    size = 1.0
    for dimension in dimensions:
        size *= math.inf if dimension.grid is None else len(dimension.grid)
    return size


def use_default(dimension: Dimension) -> Value:
    """The `Suggest` that answers with defaults."""
    return dimension.default


class HyperParameters:
    """The recorder that a model factory calls as `hp`.

    Args:
        suggest: gives the value of a dimension that is asked for the first time; the defaults if left out.

    >>> hp = HyperParameters()
    >>> hp.Int("layers", 1, 4), hp.Float("lr", 1e-4, 1e-2, sampling="log"), hp.Choice("activation", ["relu", "selu"])
    (1, 0.0001, 'relu')
    >>> with hp.name_scope("block_0"):
    ...     hp.Boolean("residual", default=True)
    True
    >>> hp.values
    {'layers': 1, 'lr': 0.0001, 'activation': 'relu', 'block_0/residual': True}
    """

    def __init__(self, suggest: Suggest = use_default) -> None:
        self.values: dict[str, Value] = {}
        self._suggest = suggest
        self._known: dict[str, Dimension] = {}
        self._scopes: list[str] = []
        self._conditions: list[tuple[str, tuple[Value, ...]]] = []

    @property
    def space(self) -> list[Dimension]:
        """The dimensions seen so far, active or not, in the order of their first call."""
        return list(self._known.values())

    def Int(
        self,
        name: str,
        min_value: int,
        max_value: int,
        step: int | None = None,
        sampling: str = "linear",
        default: int | None = None,
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> int:
        """A whole number from `min_value` to `max_value`, both inclusive; under log sampling `step` multiplies."""
        given = {"min_value": min_value, "max_value": max_value, "step": step, "default": default}
        for argument, value in given.items():
            if value is not None and int(value) != value:
                raise SpaceError(f"Int {name!r}: {argument}={value!r}; expected a whole number")
        return self._ask(  # type: ignore[return-value]
            name,
            parent_name,
            parent_values,
            kind="int",
            default=int(min_value if default is None else default),
            low=int(min_value),
            high=int(max_value),
            step=None if step == 1 and sampling == "linear" else step,
            sampling=sampling or "linear",
        )

    def Float(
        self,
        name: str,
        min_value: float,
        max_value: float,
        step: float | None = None,
        sampling: str = "linear",
        default: float | None = None,
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> float:
        """A number from `min_value` to `max_value`, both inclusive; under log sampling `step` multiplies."""
        return self._ask(  # type: ignore[return-value]
            name,
            parent_name,
            parent_values,
            kind="float",
            default=float(min_value if default is None else default),
            low=float(min_value),
            high=float(max_value),
            step=step,
            sampling=sampling or "linear",
        )

    def Choice(
        self,
        name: str,
        values: Sequence[Value],
        ordered: bool | None = None,
        default: Value | None = None,
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> Any:
        """One of the values, all of one type."""
        del ordered  # part of KerasTuner's signature; no driver here needs it
        if not values:
            raise SpaceError(f"Choice {name!r}: received no values; expected at least one to choose from")
        first = values[0] if default is None else default
        return self._ask(name, parent_name, parent_values, kind="choice", default=first, choices=tuple(values))

    def Boolean(
        self, name: str, default: bool = False, parent_name: str | None = None, parent_values: Any = None
    ) -> bool:
        """True or False."""
        return self._ask(  # type: ignore[return-value]
            name, parent_name, parent_values, kind="boolean", default=default, choices=(False, True)
        )

    def Fixed(self, name: str, value: Value, parent_name: str | None = None, parent_values: Any = None) -> Any:
        """The given value, recorded."""
        return self._ask(name, parent_name, parent_values, kind="fixed", default=value, choices=(value,))

    def get(self, name: str) -> Value:
        """The value of an active hyperparameter, by its full name or its name in the current scope."""
        for full in (self._full_name(name), name):
            if full in self.values:
                return self.values[full]
        raise SpaceError(f"{name!r} has no value; it has to be asked for first (so far: {', '.join(self.values)})")

    def __getitem__(self, name: str) -> Value:
        return self.get(name)

    def __contains__(self, name: str) -> bool:
        return name in self.values or self._full_name(name) in self.values

    @contextmanager
    def name_scope(self, name: str) -> Iterator[None]:
        """Names asked for inside become "scope/name"."""
        self._scopes.append(name)
        try:
            yield
        finally:
            self._scopes.pop()

    @contextmanager
    def conditional_scope(self, parent_name: str, parent_values: Any) -> Iterator[None]:
        """What is asked for inside counts only while the parent has one of these values; else calls return None."""
        self._conditions.append(self._condition(parent_name, parent_values))
        try:
            yield
        finally:
            self._conditions.pop()

    def _condition(self, parent_name: str, parent_values: Any) -> tuple[str, tuple[Value, ...]]:
        full = self._full_name(parent_name)
        names = {dimension.name for dimension in self._known.values()}
        if full not in names and parent_name in names:
            full = parent_name
        if full not in names:
            raise SpaceError(f"parent {parent_name!r} is not known; it has to be asked for before what depends on it")
        if isinstance(parent_values, (set, frozenset)):
            parent_values = sorted(parent_values, key=str)  # a set has another order in each process
        return full, tuple(parent_values) if isinstance(parent_values, (list, tuple)) else (parent_values,)

    def _full_name(self, name: str) -> str:
        return "/".join([*self._scopes, name])

    def _ask(self, name: str, parent_name: str | None, parent_values: Any, **facts: Any) -> Value | None:
        conditions = list(self._conditions)
        if parent_name is not None:
            conditions.append(self._condition(parent_name, parent_values))
        dimension = Dimension(name=self._full_name(name), conditions=tuple(conditions), **facts)
        known = self._known.setdefault(dimension.key, dimension)
        if not all(self.values.get(parent) in values for parent, values in known.conditions):
            return None
        if known.name not in self.values:
            self.values[known.name] = self._suggest(known)
        return self.values[known.name]
