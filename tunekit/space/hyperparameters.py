"""The recorder that a model factory calls as `hp`.

`HyperParameters` has KerasTuner's methods, so that its factories run unchanged. Each call answers with a value and
records the `Dimension` behind it; where the value comes from (a driver, a file, the defaults) is a function that is
handed in. What differs from KerasTuner, and why, is in docs/from_keras_tuner.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Real
from typing import Any

from tunekit.errors import SpaceError
from tunekit.space.dimension import Dimension, Suggest, Value, use_default


class NoValueError(SpaceError, KeyError, ValueError):
    """A name that has no value; KerasTuner raises KeyError if it is unknown, and ValueError if it is inactive."""

    __str__ = Exception.__str__  # KeyError's would put the message in quotes


class HyperParameters:
    """The recorder that a model factory calls as `hp`.

    Args:
        suggest: gives the value of a dimension that is asked for the first time; the defaults if left out.
        settled: called by `settle`.

    Attributes:
        values: of the active hyperparameters, by full name. What stands there is not asked for.

    >>> hp = HyperParameters()
    >>> hp.Int("layers", 1, 4), hp.Float("lr", 1e-4, 1e-2, sampling="log"), hp.Choice("activation", ["relu", "selu"])
    (1, 0.0001, 'relu')
    >>> with hp.name_scope("block_0"):
    ...     hp.Boolean("residual", default=True)
    True
    >>> hp.values
    {'layers': 1, 'lr': 0.0001, 'activation': 'relu', 'block_0/residual': True}
    """

    def __init__(self, suggest: Suggest = use_default, settled: Callable[[], None] = lambda: None) -> None:
        self.values: dict[str, Any] = {}
        self._suggest = suggest
        self._settled = settled
        self._known: dict[str, Dimension] = {}
        self._scopes: list[str] = []
        self._conditions: list[tuple[str, tuple[Value, ...]]] = []

    @property
    def space(self) -> list[Dimension]:
        """The dimensions seen so far, active or not, in the order of their first call."""
        return list(self._known.values())

    # Asking.

    def Choice(
        self,
        name: str,
        values: Sequence[Value],
        ordered: bool | None = None,
        default: Value | None = None,
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> Any:
        """One of the values, all of one type; the first is the default. `ordered` is recorded only."""
        if isinstance(values, (set, frozenset)):
            raise SpaceError(f"Choice {name!r}: received a set; expected a list, which has the same order everywhere")
        choices = tuple(_plain(value, f"Choice {name!r}") for value in values)
        if not choices:
            raise SpaceError(f"Choice {name!r}: received no values; expected at least one to choose from")
        numeric = isinstance(choices[0], (int, float))
        if ordered and not numeric:
            raise SpaceError(f"Choice {name!r}: ordered=True for {list(choices)!r}; expected numbers, or ordered=False")
        if isinstance(choices[0], str) and default is not None:
            default = str(default)
        first = choices[choices.index(default)] if default in choices else choices[0] if default is None else default
        ordered = numeric if ordered is None else bool(ordered)
        return self._ask(
            name, parent_name, parent_values, kind="choice", default=first, choices=choices, ordered=ordered
        )

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
        low, high = _whole(min_value, name, "min_value"), _whole(max_value, name, "max_value")
        sampling = _sampling(sampling)
        step = None if step is None else _whole(step, name, "step")
        return self._ask(  # type: ignore[no-any-return]
            name,
            parent_name,
            parent_values,
            kind="int",
            default=low if default is None else _whole(default, name, "default"),
            low=low,
            high=high,
            step=None if step == 1 and sampling == "linear" else step,
            sampling=sampling,
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
        low = _number(min_value, name, "min_value")
        return self._ask(  # type: ignore[no-any-return]
            name,
            parent_name,
            parent_values,
            kind="float",
            default=low if default is None else _number(default, name, "default"),
            low=low,
            high=_number(max_value, name, "max_value"),
            step=None if step is None else _number(step, name, "step"),
            sampling=_sampling(sampling),
        )

    def Boolean(
        self, name: str, default: bool = False, parent_name: str | None = None, parent_values: Any = None
    ) -> bool:
        """True or False."""
        default = bool(default) if default in (False, True) else default  # 1 is True
        return self._ask(  # type: ignore[no-any-return]
            name, parent_name, parent_values, kind="boolean", default=default, choices=(False, True)
        )

    def Fixed(self, name: str, value: Any, parent_name: str | None = None, parent_values: Any = None) -> Any:
        """The given value, recorded; anything but a number, text or bool is recorded as JSON."""
        if isinstance(value, (str, bool, int, float)):
            plain = _plain(value, f"Fixed {name!r}")
            return self._ask(name, parent_name, parent_values, kind="fixed", default=plain, choices=(plain,))
        try:
            text = json.dumps(value)
        except (TypeError, ValueError) as error:
            raise SpaceError(f"Fixed {name!r}: {error}; expected a value that JSON can hold") from error
        told = self._ask(name, parent_name, parent_values, kind="fixed", default=text, choices=(text,))
        if not isinstance(told, str):  # inactive, or asked for before
            return told
        full = self._full_name(name)
        self.values[full] = value if told == text else json.loads(told)
        return self.values[full]

    def settle(self) -> None:
        """Say that everything was asked for and that the costly work begins; families call it, factories needn't."""
        self._settled()

    # Looking up.

    def get(self, name: str) -> Any:
        """The value of an active hyperparameter, by its name in the current scope.

        Raises:
            NoValueError: it is inactive, or was not asked for.
        """
        full = self._full_name(name)
        if full in self.values:
            return self.values[full]
        why = "it is inactive" if full in self._names else "it has to be asked for first"
        raise NoValueError(f"{full!r} has no value; {why} (so far: {', '.join(self.values)})")

    def __getitem__(self, name: str) -> Any:
        return self.get(name)

    def __contains__(self, name: str) -> bool:
        return self._full_name(name) in self.values

    def is_active(self, hyperparameter: str | Dimension) -> bool:
        """Whether the conditions of a dimension hold, or those of any dimension with this full name."""
        if isinstance(hyperparameter, Dimension):
            return hyperparameter.is_active(self.values)
        named = [dimension for dimension in self._known.values() if dimension.name == str(hyperparameter)]
        return any(dimension.is_active(self.values) for dimension in named)

    # Scopes.

    @contextmanager
    def name_scope(self, name: str) -> Iterator[None]:
        """Names asked for inside become "scope/name"."""
        self._scopes.append(str(name))
        try:
            yield
        finally:
            self._scopes.pop()

    @contextmanager
    def conditional_scope(self, parent_name: str, parent_values: Any) -> Iterator[None]:
        """What is asked for inside counts only while the parent has one of these values; else calls return None.

        Args:
            parent_name: in the current name scope; a full name will do too.
            parent_values: one, or several.
        """
        self._conditions.append(self._condition(parent_name, parent_values))
        try:
            yield
        finally:
            self._conditions.pop()

    # As a whole.

    def get_config(self) -> dict[str, Any]:
        """Space and values as plain data, in KerasTuner's form."""
        space = [{"class_name": one.kind.capitalize(), "config": one.get_config()} for one in self._known.values()]
        return {"space": space, "values": dict(self.values)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> HyperParameters:
        """The inverse of `get_config`, KerasTuner's included. What it doesn't hold gets its default."""
        hp = cls()
        for entry in config["space"]:
            facts = dict(entry["config"])
            parents = [parent["config"] for parent in facts.pop("conditions")]
            hp._conditions = [(parent["name"], tuple(parent["values"])) for parent in parents]
            getattr(hp, entry["class_name"])(**facts)
        hp._conditions = []
        hp.values = dict(config["values"])
        return hp

    def copy(self) -> HyperParameters:
        """One with the same space and values, and no scopes. What it is asked beyond that gets its default."""
        copied = HyperParameters()
        copied.values = dict(self.values)
        copied._known = dict(self._known)
        return copied

    def merge(self, hps: HyperParameters | Iterable[Dimension], overwrite: bool = True) -> None:
        """Take over another's dimensions, with their defaults as values.

        Args:
            hps: another `HyperParameters`, or dimensions.
            overwrite: also where a dimension or a value is known already.
        """
        for dimension in hps.space if isinstance(hps, HyperParameters) else hps:
            if overwrite or dimension.key not in self._known:
                self._known[dimension.key] = dimension
                if dimension.is_active(self.values) and (overwrite or dimension.name not in self.values):
                    self.values[dimension.name] = dimension.default

    def ensure_active_values(self) -> None:
        """Drop the values of what is inactive, and ask for those of what is active."""
        for dimension in self._known.values():
            if not dimension.is_active(self.values):
                self.values.pop(dimension.name, None)
            elif dimension.name not in self.values:
                self.values[dimension.name] = self._suggest(dimension)

    @property
    def _names(self) -> set[str]:
        return {dimension.name for dimension in self._known.values()}

    def _condition(self, parent_name: str, parent_values: Any) -> tuple[str, tuple[Value, ...]]:
        full, names = self._full_name(parent_name), self._names
        if full not in names and parent_name in names:
            full = parent_name
        if full not in names:
            raise SpaceError(f"parent {parent_name!r} is not known; it has to be asked for before what depends on it")
        if isinstance(parent_values, (set, frozenset)):
            parent_values = sorted(parent_values, key=str)  # a set has another order in each process
        values = parent_values if isinstance(parent_values, (list, tuple)) else [parent_values]
        plain = tuple(_plain(value, f"parent {parent_name!r}") for value in values)
        if not plain:
            raise SpaceError(f"parent {parent_name!r}: received no values; expected those that make it active")
        return full, plain

    def _full_name(self, name: str) -> str:
        return "/".join([*self._scopes, str(name)])

    def _ask(self, name: str, parent_name: str | None, parent_values: Any, **facts: Any) -> Any:
        conditions = list(self._conditions)
        if parent_name:
            conditions.append(self._condition(parent_name, parent_values))
        full = self._full_name(name)
        if full in {parent for parent, _ in conditions}:
            raise SpaceError(f"{full!r} depends on a parent of its own name; expected another name")
        dimension = Dimension(name=full, conditions=tuple(conditions), **facts)
        known = self._known.setdefault(dimension.key, dimension)
        if not known.is_active(self.values):
            return None
        if known.name not in self.values:
            self.values[known.name] = self._suggest(known)
        return self.values[known.name]


def _plain(value: Any, whose: str) -> Value:
    """A value as the plain type that it is a kind of, such as text of NumPy's."""
    for kind in (str, bool, int, float):
        if isinstance(value, kind):
            return kind(value)
    raise SpaceError(f"{whose}: received {value!r}, a {type(value).__name__}; expected int, float, str or bool")


def _whole(value: Any, name: str, argument: str) -> int:
    """A whole number given as one, or as a float."""
    number: Any = value
    if isinstance(value, Real) and number % 1 == 0:
        return int(number)
    raise SpaceError(f"Int {name!r}: {argument}={value!r}; expected a whole number")


def _number(value: Any, name: str, argument: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise SpaceError(f"Float {name!r}: {argument}={value!r}; expected a number") from error


def _sampling(given: str | None) -> str:
    return str(given or "linear").lower()
