"""Plans of trials: what is known of their values before anybody is asked.

A plan is a trial's user attribute "plan", see `tunekit.drivers.base.ProposalSampler`: the defaults, values by name, or,
for a trial that is run again, values as they are stored.
"""

from __future__ import annotations

from typing import Any

from optuna.trial import FrozenTrial, TrialState, create_trial

from tunekit.drivers.translate import is_stored, key_of, to_stored
from tunekit.space import Dimension


def waiting(plan: dict[str, Any]) -> FrozenTrial:
    """A trial that waits to be run, as `optuna.Study.enqueue_trial` makes it."""
    return create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": {}}, user_attrs={"plan": plan})


def again(interrupted: FrozenTrial) -> dict[str, Any]:
    """The plan of the trial that takes the place of one that was interrupted, with all that is known of its values."""
    plan = interrupted.user_attrs.get("plan") or {}
    known = plan.get("params", {}) | {key_of(name): stored for name, stored in interrupted.params.items()}
    root = plan.get("retry_of", interrupted.number)
    return {**plan, "params": known, "retry_of": root, "replaces": interrupted.number}


def stored_value(plan: dict[str, Any] | None, dimension: Dimension) -> dict[str, Any]:
    """Stored value by key of what a plan says for a dimension; empty where it says nothing that fits."""
    if plan is None:
        return {}
    if is_stored(dimension, plan.get("params", {}).get(dimension.key)):
        return {dimension.key: plan["params"][dimension.key]}
    value = plan.get("values", {}).get(dimension.name)
    if value is None or not dimension.contains(value):
        value = dimension.default if plan.get("defaults") or "values" in plan else None
    return {} if value is None else {dimension.key: to_stored(dimension, value)}
