"""Values to try first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunekit.errors import StudyError
from tunekit.space import Value


@dataclass(frozen=True)
class StartFrom:
    """Known-good values for a family; see `start_from`.

    Args:
        values: by name.
        family: its name, or None where the study has only one.
    """

    values: Mapping[str, Value]
    family: str | None = None

    @property
    def plan(self) -> dict[str, Any]:
        """What the ledger is given."""
        return {"values": dict(self.values), "start_from": True}


def start_from(values: Mapping[str, Value], family: str | None = None) -> StartFrom:
    """Known-good values that a study tries before anything else: `tk.Study(..., start_from=[tk.start_from({...})])`.

    Hyperparameters that are not named take their defaults. A name that the family does not ask for, and a value that
    its space does not hold, are told when the trial starts, and ignored.

    Args:
        values: by name, such as {"learning_rate": 0.01, "block_0/units": 64}.
        family: its name; may be left out where the study has only one.
    """
    return StartFrom(values, family)


def plans_for(starts: Sequence[StartFrom], families: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """The plans of each family.

    Raises:
        StudyError: it can't be told whose values they are.
    """
    plans: dict[str, list[dict[str, Any]]] = {family: [] for family in families}
    for start in starts:
        family = start.family or (families[0] if len(families) == 1 else None)
        if family not in plans:
            raise StudyError(
                f"start_from({dict(start.values)!r}) is for family {start.family!r}; expected one of "
                f"{', '.join(families)}, such as tk.start_from({{...}}, family='mlp')"
            )
        plans[family].append(start.plan)
    return plans


def ignored(plan: Mapping[str, Any] | None, values: Mapping[str, Value]) -> str | None:
    """What a trial did not take over of values that its owner gave, in words.

    Args:
        plan: of the trial.
        values: what it runs with.
    """
    if plan is None or not plan.get("start_from"):
        return None
    unknown = [name for name in plan["values"] if name not in values]
    outside = [f"{name}={value!r}" for name, value in plan["values"].items() if values.get(name, value) != value]
    told = [f"{', '.join(unknown)} (not asked for)"] if unknown else []
    told += [f"{', '.join(outside)} (not in the search space)"] if outside else []
    return f"ignored {' and '.join(told)}; it asks for {', '.join(values)}" if told else None
