"""What a request's rows must look like, from a bundle's columns: for validation, and for the OpenAPI page."""

from __future__ import annotations

import sys
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    create_model,
)
from pydantic_core import PydanticCustomError

from tunekit.bundle import Bundle

MOST_ROWS = 10_000
"""Of one request: what is more is a job for `tunekit predict`."""

MOST_TOLD = 3
"""Faults of a request that are told in words."""


def _finite(value: float) -> float:
    if abs(value) > sys.float_info.max or value != value:
        raise PydanticCustomError("finite_number", "expected a finite number")
    return value


Number = Annotated[StrictFloat | StrictInt, AfterValidator(_finite)]

KINDS: dict[str, Any] = {
    "number": Number | None,
    "boolean": StrictBool | None,
    "date": StrictStr | None,
    "category": StrictStr | StrictBool | Number | None,
    "text": StrictStr | None,
    "characters": StrictStr | None,
    "array": list[Any],  # no text: the bundle would read the file of that name on this machine
}
"""The types of JSON that a column of each kind takes; null is a missing value."""


def request_model(bundle: Bundle) -> type[BaseModel]:
    """The model of a request: {"rows": [{column: value, ...}, ...]}."""
    columns: dict[str, Any] = {
        f"column_{place}": (KINDS[kind], Field(alias=name, title=name))
        for place, (name, kind) in enumerate(bundle.columns)
    }
    row = create_model("Row", __config__=ConfigDict(extra="ignore"), **columns)
    example: dict[str, Any] = {"rows": [bundle.manifest["example"]]}
    config = ConfigDict(extra="forbid", json_schema_extra={"example": example})
    rows = Annotated[list[row], Field(min_length=1, max_length=MOST_ROWS)]  # type: ignore[valid-type]
    return create_model("Rows", __config__=config, rows=(rows, ...))


def told(errors: list[Any]) -> str:
    """The faults of a request in words.

    Args:
        errors: as pydantic lists them.
    """
    seen: dict[str, str] = {}
    for error in errors:
        where, what = _told(error)
        seen.setdefault(where, what)
    lines = [f"{where}: {what}" if where else what for where, what in seen.items()]
    more = f"; and {len(lines) - MOST_TOLD} more" if len(lines) > MOST_TOLD else ""
    return "; ".join(lines[:MOST_TOLD]) + more


def _told(error: dict[str, Any]) -> tuple[str, str]:
    place = [part for part in error["loc"] if part != "body"]
    if error["type"] == "json_invalid":
        return "", f"the body is no JSON: {error.get('ctx', {}).get('error', error['msg'])}"
    if len(place) < 3:
        expected = '{"rows": [{"COLUMN": VALUE, ...}, ...]}'
        return "", f"{'.'.join(map(str, place)) or 'the body'}: {error['msg']}; expected {expected}"
    where = f"row {place[1]}, column {place[2]!r}"
    if error["type"] == "missing":
        return where, "is missing; expected every column that the models were trained on, null where it has no value"
    received = error.get("input")
    return where, f"received {_short(received)}, expected {_EXPECTED.get(error['type'], error['msg'])}"


_EXPECTED = {
    "float_type": "a number or null",
    "int_type": "a number or null",
    "finite_number": "a finite number or null",
    "string_type": "a text or null",
    "bool_type": "true, false or null",
    "list_type": "an array",
}


def _short(value: Any, most: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."
