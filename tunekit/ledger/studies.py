"""The study-level half of `BufferedStorage`: an Optuna study "study/family" for each family of a tunekit study."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.exceptions import DuplicatedStudyError
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy

from tunekit.ledger.database import (
    DIRECTIONS,
    FAMILIES,
    FAMILY_SYSTEM_ATTRS,
    FAMILY_USER_ATTRS,
    STUDIES,
    Database,
    upsert,
)
from tunekit.ledger.memory import FamilyMemory


class FamilyStorage(optuna.storages.BaseStorage):
    """Optuna studies; see the base class for the methods that Optuna calls.

    Args:
        database: with its tables.
        study: the tunekit study.
    """

    def __init__(self, database: Database, study: str) -> None:
        self._database = database
        self._study = study
        self._families: dict[int, FamilyMemory] = {}

    @property
    def of_this_study(self) -> sa.ColumnElement[bool]:
        """A condition on `FAMILIES`."""
        return of_study(self._study)

    def hold(self, connection: sa.Connection) -> None:
        """Be the only one, until the transaction ends, who starts or plans trials of this study."""
        connection.execute(sa.select(STUDIES.c.name).where(STUDIES.c.name == self._study).with_for_update()).one()

    def family(self, study_id: int) -> str:
        """The family of an Optuna study."""
        return self._families[study_id].name.removeprefix(f"{self._study}/")

    def read_families(self, connection: sa.Connection) -> dict[int, FamilyMemory]:
        """Every family of the study, without its trials."""
        # Families before directions: another conductor may commit one, with its directions, between two queries.
        query = sa.select(FAMILIES).where(self.of_this_study).order_by(FAMILIES.c.study_id)
        rows = connection.execute(query).all()
        directions = defaultdict(list)
        joined = sa.select(DIRECTIONS).join(FAMILIES, FAMILIES.c.study_id == DIRECTIONS.c.study_id)
        for row in connection.execute(joined.where(self.of_this_study).order_by(DIRECTIONS.c.objective)):
            directions[row.study_id].append(row.direction)
        return {row.study_id: FamilyMemory(row.study_name, directions[row.study_id]) for row in rows}

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        """Create a family's study.

        Raises:
            DuplicatedStudyError: it is there.
        """

        def write(connection: sa.Connection) -> dict[int, FamilyMemory] | None:
            self.hold(connection)
            if any(family.name == study_name for family in self.read_families(connection).values()):
                return None
            new = sa.insert(FAMILIES).values(study_name=study_name).returning(FAMILIES.c.study_id)
            study_id = connection.execute(new).scalar_one()
            rows = [
                {"study_id": study_id, "direction": direction, "objective": objective}
                for objective, direction in enumerate(directions)
            ]
            connection.execute(sa.insert(DIRECTIONS), rows)
            return self.read_families(connection)

        families = self._database.run(write)
        if families is None:
            raise DuplicatedStudyError(f"the Optuna study {study_name} is there already")
        self._families = families | self._families
        return self.get_study_id_from_name(str(study_name))

    def delete_study(self, study_id: int) -> None:
        """Families are never deleted one by one."""
        raise NotImplementedError(f"a ledger deletes all of its studies at once, not {study_id} alone")

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Write an attribute."""
        self._set_attr(FAMILY_USER_ATTRS, study_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Write an attribute."""
        self._set_attr(FAMILY_SYSTEM_ATTRS, study_id, key, value)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Read the attributes."""
        return self._attrs(FAMILY_USER_ATTRS, study_id)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Read the attributes."""
        return self._attrs(FAMILY_SYSTEM_ATTRS, study_id)

    def get_study_id_from_name(self, study_name: str) -> int:
        """The id of a study."""
        for study_id, family in (self._database.run(self.read_families) | self._families).items():
            if family.name == study_name:
                self._families.setdefault(study_id, family)
                return study_id
        raise KeyError(study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        """The name of a study."""
        return self._families[study_id].name

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """What is better."""
        return self._families[study_id].directions

    def get_all_studies(self) -> list[FrozenStudy]:
        """Every family's study."""
        return [
            FrozenStudy(
                study_name=family.name,
                direction=None,
                directions=family.directions,
                user_attrs=self.get_study_user_attrs(study_id),
                system_attrs=self.get_study_system_attrs(study_id),
                study_id=study_id,
            )
            for study_id, family in self._families.items()
        ]

    def _set_attr(self, table: sa.Table, study_id: int, key: str, value: Any) -> None:
        row = {"study_id": study_id, "key": key, "value_json": json.dumps(value)}
        self._database.run(lambda connection: upsert(connection, table, [row]))

    def _attrs(self, table: sa.Table, study_id: int) -> dict[str, Any]:
        query = sa.select(table.c.key, table.c.value_json).where(table.c.study_id == study_id)
        return {row.key: json.loads(row.value_json) for row in self._database.read(query)}


def of_study(study: str) -> sa.ColumnElement[bool]:
    """A condition on `FAMILIES`: they are of this tunekit study."""
    found: sa.ColumnElement[bool] = FAMILIES.c.study_name.startswith(f"{study}/", autoescape=True)
    return found
