"""Lines of a study as code: what a finding asks its reader to change."""

from __future__ import annotations

import json
from ast import literal_eval
from collections.abc import Mapping, Sequence
from dataclasses import replace
from keyword import iskeyword
from typing import TYPE_CHECKING, Any

from tunekit.coach.finding import Finding
from tunekit.data.split import Split
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


def together(study: Study, findings: Sequence[Finding]) -> list[Finding]:
    """The same findings, whose lines with `kinds=` hold what others ask of it as well: pasted, one does for all.

    Problems ask for what all of them say; a hint for that, and what others of its kind say.
    """
    asked = [_kinds_asked(one.change) for one in findings]
    told = []
    for own, finding in zip(asked, findings, strict=True):
        if not own:
            told.append(finding)
            continue
        joined: dict[str, str] = {}
        for kinds, other in zip(asked, findings, strict=True):
            if other.level == "problem" or (other.level, other.kind) == (finding.level, finding.kind):
                joined |= kinds
        told.append(replace(finding, change=kinds_line(study, joined)))
    return told


def _kinds_asked(line: str) -> dict[str, str]:
    """What a line with `kinds=` says; {} of others."""
    if not line.startswith("kinds={"):
        return {}
    return dict(literal_eval(line.removeprefix("kinds=").removesuffix(",")))


def source_line(study: Study, change: str) -> str:
    """What to add below the study so that its table is another one; "" for data that is no table.

    Args:
        study: the declaration.
        change: what is done to the frame, such as ".drop_duplicates()".
    """
    return f"study.data.source = study.data.frame(){change}" if hasattr(study.data, "frame") else ""


def assigned(column: str, value: str) -> str:
    """The call that gives a frame's column another value, made of `table`.

    >>> assigned("size", 'table["size"].clip(0, 9)')
    '.assign(size=lambda table: table["size"].clip(0, 9))'
    """
    if column.isidentifier() and not iskeyword(column) and column != "self":
        return f".assign({column}=lambda table: {value})"
    return f".assign(**{{{text(column)}: lambda table: {value}}})"


def split_line(split: Split) -> str:
    """`split=` with all that it says."""
    return f"split=tk.{split!r},"


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
