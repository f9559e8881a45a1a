"""Plain data as JSON that any program reads."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any


def plain(value: Any) -> Any:
    """The value as strict JSON can hold it: what is no number there, such as NaN, is None.

    >>> plain({"score": float("nan"), "bounds": (1.5, float("inf")), 3: None})
    {'score': None, 'bounds': [1.5, None], '3': None}
    """
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else None
    return str(value)


def strict_json(data: Any, *, indent: int | None = None) -> str:
    """Plain data as a text; what isn't a number in JSON is null.

    Args:
        data: of which `plain` can be made.
        indent: spaces of each level; on one line if None.
    """
    return json.dumps(plain(data), indent=indent, allow_nan=False)
