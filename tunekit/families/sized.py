"""A family of nets whose size may leave the bounds of its search space."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tunekit.families.deadline import Deadline
from tunekit.families.nets import Draw, NetData, NetFamily
from tunekit.space import HyperParameters, Value

if TYPE_CHECKING:
    import keras

WIDTHS = re.compile(r"(\w+_)?(units|width|filters|neurons|hidden|channels|nodes|hidden_size|hidden_dim)(_?\d+)?")
"""Names of hyperparameters that say how wide a net is."""

DEPTHS = re.compile(r"(\w+_)?(layers|depth|blocks)(_?\d+)?")
"""Names of those that say how deep it is."""

WIDEST, DEEPEST = 2**14, 2**6
"""Of nets that are grown: what a machine without a GPU still trains."""


class Sized(NetFamily):
    """Another family, whose widths and depths are asked for as any whole number.

    Args:
        family: whose nets are to be grown.
    """

    def __init__(self, family: NetFamily) -> None:
        self.family = family
        self.name = family.name
        self.epochs, self.patience = family.epochs, family.patience
        self.chooses_target = family.chooses_target

    def build(self, hp: HyperParameters, data: NetData) -> keras.Model:
        """See `NetFamily.build`."""
        return self.family.build(_Wide.over(hp), data)

    def layout(self, data: NetData) -> str | None:
        """See `NetFamily.layout`."""
        return self.family.layout(data)

    def batch_size(self, hp: HyperParameters, data: NetData) -> int:
        """See `NetFamily.batch_size`."""
        return self.family.batch_size(hp, data)

    def callbacks(self) -> list[Any]:
        """See `NetFamily.callbacks`."""
        return self.family.callbacks()

    def steering(self, deadline: Deadline) -> list[Any]:
        """See `NetFamily.steering`."""
        return self.family.steering(deadline)

    def retracing(self, rates: Sequence[float]) -> list[Any]:
        """See `NetFamily.retracing`."""
        return self.family.retracing(rates)

    def initialise(self, model: keras.Model, draw: Draw, seed: int) -> None:
        """See `NetFamily.initialise`."""
        self.family.initialise(model, draw, seed)


class _Wide(HyperParameters):
    """The same recorder, but for what it says of sizes."""

    @classmethod
    def over(cls, hp: HyperParameters) -> _Wide:
        """One that shares all that another knows, so that both may be asked in turns."""
        wide = cls.__new__(cls)
        wide.__dict__ = hp.__dict__
        return wide

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
        """See `HyperParameters.Int`."""
        most = _most(name)
        if most is not None:
            default = min_value if default is None else default
            min_value, max_value, step, sampling = 1, max(most, max_value), None, "log"
        return super().Int(name, min_value, max_value, step, sampling, default, parent_name, parent_values)

    def Choice(
        self,
        name: str,
        values: Sequence[Value],
        ordered: bool | None = None,
        default: Value | None = None,
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> Any:
        """See `HyperParameters.Choice`."""
        if _most(name) is not None and all(type(value) is int for value in values):
            whole = [int(value) for value in values]
            usual = whole[0] if default is None else int(default)
            return self.Int(name, min(whole), max(whole), None, "log", usual, parent_name, parent_values)
        return super().Choice(name, values, ordered, default, parent_name, parent_values)


def _most(name: str) -> int | None:
    """The largest size of a hyperparameter of this name; None if it is none of size."""
    return WIDEST if WIDTHS.fullmatch(str(name)) else DEEPEST if DEPTHS.fullmatch(str(name)) else None
