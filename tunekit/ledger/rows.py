"""Optuna's trials as rows of its tables: what it would store itself, read and written many at a time."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.storages._rdb.models import TrialIntermediateValueModel, TrialValueModel
from optuna.trial import FrozenTrial

from tunekit.ledger.database import PARAMS, REPORTS, SYSTEM_ATTRS, TRIALS, USER_ATTRS, VALUES, upsert

_value_to_stored = TrialValueModel.value_to_stored_repr
_value_from_stored = TrialValueModel.stored_repr_to_value
_report_to_stored = TrialIntermediateValueModel.intermediate_value_to_stored_repr
_report_from_stored = TrialIntermediateValueModel.stored_repr_to_intermediate_value


@dataclass
class Facts:
    """What was said about a trial and is not written yet.

    Args:
        params: value as in the table, and distribution, by name.
        reports: by step.
        user_attrs: by key.
        system_attrs: by key.
    """

    params: dict[str, tuple[float, BaseDistribution]] = field(default_factory=dict)
    reports: dict[int, float] = field(default_factory=dict)
    user_attrs: dict[str, Any] = field(default_factory=dict)
    system_attrs: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, trial: FrozenTrial) -> Facts:
        """All that a trial holds, but its state and value."""
        params = {
            name: (asked.to_internal_repr(trial.params[name]), asked) for name, asked in trial.distributions.items()
        }
        return cls(params, dict(trial.intermediate_values), dict(trial.user_attrs), dict(trial.system_attrs))

    def write(self, connection: sa.Connection, trial_id: int) -> None:
        """Write all of it; what is there already takes the new value."""
        params = [
            {"trial_id": trial_id, "param_name": name, "param_value": value, "distribution_json": _to_json(asked)}
            for name, (value, asked) in self.params.items()
        ]
        upsert(connection, PARAMS, params)
        reports = []
        for step, value in self.reports.items():
            stored, kind = _report_to_stored(value)
            reports.append(
                {"trial_id": trial_id, "step": step, "intermediate_value": stored, "intermediate_value_type": kind}
            )
        upsert(connection, REPORTS, reports)
        for table, attrs in ((USER_ATTRS, self.user_attrs), (SYSTEM_ATTRS, self.system_attrs)):
            rows = [{"trial_id": trial_id, "key": key, "value_json": json.dumps(one)} for key, one in attrs.items()]
            upsert(connection, table, rows)


def write_values(connection: sa.Connection, trial_id: int, values: Sequence[float]) -> None:
    """Write what a trial that ended was judged by: one value for each objective."""
    rows = []
    for objective, value in enumerate(values):
        stored, kind = _value_to_stored(value)
        rows.append({"trial_id": trial_id, "objective": objective, "value": stored, "value_type": kind})
    upsert(connection, VALUES, rows)


def insert_trial(connection: sa.Connection, study_id: int, trial: FrozenTrial) -> tuple[int, int]:
    """Insert a trial; its id and its number in the study. To be called by whoever holds the study's row."""
    own = sa.select(TRIALS.c.number).where(TRIALS.c.study_id == study_id)
    last = connection.scalar(own.order_by(TRIALS.c.trial_id.desc()).limit(1))
    number = 0 if last is None else last + 1
    row = {
        "number": number,
        "study_id": study_id,
        "state": trial.state,
        "datetime_start": to_utc(trial.datetime_start),
        "datetime_complete": to_utc(trial.datetime_complete),
    }
    trial_id = connection.execute(sa.insert(TRIALS).values(row).returning(TRIALS.c.trial_id)).scalar_one()
    Facts.of(trial).write(connection, trial_id)
    write_values(connection, trial_id, trial.values or ())
    return trial_id, number


def read_trials(connection: sa.Connection, which: sa.ColumnElement[bool]) -> list[tuple[int, FrozenTrial]]:
    """Trials, each with the id of its study, in the order of their ids.

    Args:
        connection: of a transaction.
        which: a condition on `TRIALS`.
    """
    rows = connection.execute(sa.select(TRIALS).where(which).order_by(TRIALS.c.trial_id)).all()
    # Read after the states: what was written together with the state of one that ended is then seen in any case.
    params = _details(connection, PARAMS, which)
    values = _details(connection, VALUES, which)
    reports = _details(connection, REPORTS, which)
    user_attrs = _details(connection, USER_ATTRS, which)
    system_attrs = _details(connection, SYSTEM_ATTRS, which)
    found = []
    for row in rows:
        own = row.trial_id
        asked = {one.param_name: _from_json(one.distribution_json) for one in params[own]}
        trial = FrozenTrial(
            number=row.number,
            state=row.state,
            value=None,
            values=[_value_from_stored(one.value, one.value_type) for one in sorted(values[own], key=_objective)]
            or None,
            datetime_start=_from_utc(row.datetime_start),
            datetime_complete=_from_utc(row.datetime_complete),
            params={one.param_name: asked[one.param_name].to_external_repr(one.param_value) for one in params[own]},
            distributions=asked,
            user_attrs={one.key: json.loads(one.value_json) for one in user_attrs[own]},
            system_attrs={one.key: json.loads(one.value_json) for one in system_attrs[own]},
            intermediate_values={
                one.step: _report_from_stored(one.intermediate_value, one.intermediate_value_type)
                for one in reports[own]
            },
            trial_id=own,
        )
        found.append((row.study_id, trial))
    return found


def _objective(row: Any) -> int:
    return int(row.objective)


def _details(connection: sa.Connection, table: sa.Table, which: sa.ColumnElement[bool]) -> dict[int, list[Any]]:
    """Rows by trial, in the order in which they were written."""
    key = next(iter(table.primary_key))
    query = sa.select(table).join(TRIALS, TRIALS.c.trial_id == table.c.trial_id).where(which).order_by(key)
    found: dict[int, list[Any]] = defaultdict(list)
    for row in connection.execute(query):
        found[row.trial_id].append(row)
    return found


@lru_cache(maxsize=4096)
def _from_json(text: str) -> BaseDistribution:
    return json_to_distribution(text)


def _to_json(distribution: BaseDistribution) -> str:
    return str(distribution_to_json(distribution))


def to_utc(moment: datetime | None) -> datetime | None:
    """A moment as it is stored; the tables are in UTC, trials in local time."""
    return None if moment is None else moment.astimezone(UTC).replace(tzinfo=None)


def _from_utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
