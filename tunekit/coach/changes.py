"""Lines of a study as code: what a finding asks its reader to change."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tunekit.space import Dimension, Value

if TYPE_CHECKING:
    from tunekit.study import Study


def kinds_line(study: Study, changed: Mapping[str, str]) -> str:
    """`kinds=` of the study's data, with some columns read in another way; "" for data that has no kinds."""
    kinds = getattr(study.data, "kinds", None)
    if kinds is None:
        return ""
    told = ", ".join(f"{text(name)}: {text(kind)}" for name, kind in {**kinds, **changed}.items())
    return f"kinds={{{told}}},"


def families_line(study: Study, *, without: Sequence[str] = (), more: Sequence[str] = ()) -> str:
    """`families=` of the study without some of them, or with others."""
    kept = [written(family) for family in study.families if family.name not in without]
    return f"families=[{', '.join([*kept, *more])}],"


def written(family: Any) -> str:
    """A family as studies make it; "..." stands for what its reader knows better."""
    name = type(family).__name__
    factory = getattr(family, "factory", None)
    if factory is not None:
        more = ", ..." if any(one is not None for one in family.told.values()) else ""
        return f"tk.{name}({getattr(factory, '__name__', '...')}{more})"
    try:
        plain = vars(type(family)()) == vars(family)
    except TypeError:  # it can't be made without arguments
        plain = False
    return f"tk.{name}({'' if plain else '...'})"


def dimension_line(
    dimension: Dimension, *, low: float | None = None, high: float | None = None, default: Value | None = None
) -> str:
    """The call of `hp` for an int or float with other bounds.

    >>> dimension_line(Dimension("units", "int", 64, 32, 256, 2, "log"), high=1024)
    'hp.Int("units", 32, 1024, step=2, sampling="log", default=64)'
    """
    bounds = dimension.bounds
    low, high = (bounds[0] if low is None else low), (bounds[1] if high is None else high)
    whole = dimension.kind == "int"
    parts = [text(dimension.name.rpartition("/")[2]), number(low, whole=whole), number(high, whole=whole)]
    if dimension.step is not None and not (whole and dimension.step == 1):
        parts.append(f"step={number(dimension.step, whole=whole)}")
    if dimension.sampling != "linear":
        parts.append(f"sampling={text(dimension.sampling)}")
    usual = float(dimension.default if default is None else default)
    parts.append(f"default={number(min(max(usual, low), high), whole=whole)}")
    return f"hp.{'Int' if whole else 'Float'}({', '.join(parts)})"


def number(value: float, *, whole: bool = False) -> str:
    """A number as code, to three digits if it is no whole one."""
    return str(round(value)) if whole else f"{value:.3g}"


def text(value: str) -> str:
    """A text as code, in the quotes that studies have."""
    return json.dumps(value, ensure_ascii=False)
