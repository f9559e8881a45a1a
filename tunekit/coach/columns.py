"""Columns that tell nothing, or that are hard to learn from as they are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tunekit.coach.changes import assigned, kinds_line, source_line, text
from tunekit.coach.finding import Finding
from tunekit.coach.sight import Look, Sight, Values
from tunekit.families import Linear, NetFamily

ONCE = 0.1
"""Share of rows whose level stands in no other row, from which on a category is said to be of little use."""

ORDERS = 3.0
"""Orders of magnitude between a column's 1st and 99th percentile from which on its logarithm is proposed."""

FEWEST_WIDE = 100
"""Rows from which on the 1st and 99th percentile say how wide a column is."""

SLANT = 0.6
"""Of a column that is worth its logarithm: how far above its median it reaches in orders of magnitude, at least, as a
share of how far below. Of a lognormal variable that is 1; of an exponential one, whose logarithm has a long tail below,
0.45."""

FAR = 20.0
"""So many times the width of the middle 99% away from the median a value is taken to be a mistake: of a lognormal
variable with a deviation of 1, the farthest of 50,000 is 5 times as far."""

STANDS_IN = {-1.0, -9.0, -99.0, -999.0, -9999.0, 9.0, 99.0, 999.0, 9999.0, 99999.0, 999999.0, -99999.0, -999999.0}
"""Numbers that stand for a gap in many tables."""

GAP = 3.0
"""So many times the width of all other values a number is away from them, if it stands for a gap."""

FEWEST = 20
"""Different values, or rows, from which on the scale of a column is looked at."""


def constant(sight: Sight) -> Iterator[Finding]:
    """Columns with one value."""
    rows = sight.prepared.folds.development
    same = [
        look.name for look in sight.columns if look.name in sight.prepared.data.columns and _is_constant(look.all[rows])
    ]
    if same:
        told = ", ".join(map(repr, same[:5])) + (f" and {len(same) - 5} more" if len(same) > 5 else "")
        words = f"{told} hold{'s' if len(same) == 1 else ''} one value in all {len(rows):,} rows that aren't test rows."
        change = kinds_line(sight.study, dict.fromkeys(same, "drop"))
        yield Finding("hint", "constant", f"{len(same)} constant column{'s' if len(same) > 1 else ''}", words, change)


def _is_constant(values: Values) -> bool:
    first = values[0]
    return bool(np.isnan(values).all() if np.isnan(first) else (values == first).all())


def seen_once(sight: Sight) -> Iterator[Finding]:
    """Categories many of whose levels stand in a single row."""
    rows = sight.prepared.folds.development
    for look in sight.columns:
        if not look.is_category:
            continue
        known = look.all[rows]
        counts = np.unique(known[~np.isnan(known)], return_counts=True)[1]
        once = int((counts == 1).sum())
        if once < ONCE * len(rows) or once < FEWEST:
            continue
        words = (
            f"{once:,} of {len(counts):,} levels of {look.name!r} stand in one row each, {once / len(rows):.0%} of the "
            "rows: nothing can be learnt of them, and new rows will bring others. Make coarser levels of them, or "
            "leave the column out."
        )
        change = kinds_line(sight.study, {look.name: "drop"})
        yield Finding("hint", "seen-once", f"levels of {look.name!r} are seen once", words, change)


def scales(sight: Sight) -> Iterator[Finding]:
    """Numbers that stand for gaps, lie far from all others, or span orders of magnitude."""
    smooth = [family.name for family in sight.study.families if isinstance(family, (NetFamily, Linear))]
    for look in sight.columns:
        values = look.all[sight.rows]
        values = values[~np.isnan(values)]
        if look.kind != "number" or len(np.unique(values)) < FEWEST or look.name not in sight.prepared.data.columns:
            continue
        found = _stand_in(sight, look, values)
        if found is None and smooth:
            found = _far(sight, look, values) or _wide(sight, look, values, smooth)
        if found is not None:
            yield found


def _stand_in(sight: Sight, look: Look, values: Values) -> Finding | None:
    for end in (float(values.min()), float(values.max())):
        others = values[values != end]
        count = len(values) - len(others)
        distance = min(abs(end - others.min()), abs(end - others.max()))
        if end in STANDS_IN and count >= 5 and distance > GAP * np.ptp(others):
            words = (
                f"{look.name!r} is {end:g} in {count:,} rows and from {others.min():.4g} to {others.max():.4g} in all "
                f"others{sight.sampled}: it seems to stand for a gap. As a gap it does no harm."
            )
            it = f"table[{text(look.name)}]"
            line = source_line(sight.study, assigned(look.name, f"{it}.mask({it} == {end:g})"))
            return Finding("hint", "stand-in", f"{look.name!r}: {end:g} for a gap", words, line)
    return None


def _far(sight: Sight, look: Look, values: Values) -> Finding | None:
    often = float(values[np.argsort(values)[len(values) // 2]])
    if (values == often).mean() > 0.5:  # mostly the same, such as 0: then the others tell how far is usual
        values = values[values != often]
    low, middle, high = np.quantile(values, [0.005, 0.5, 0.995])
    distance = np.abs(values - middle)
    far = values[distance > FAR * (high - low)]
    if high <= low or not len(far):
        return None
    words = (
        f"{len(far)} value(s) of {look.name!r} lie far from all others, such as "
        f"{far[np.argmax(np.abs(far - middle))]:.6g}; 99% lie from {low:.4g} to {high:.4g}{sight.sampled}. Look "
        "whether they are mistakes."
    )
    line = source_line(sight.study, assigned(look.name, f"table[{text(look.name)}].clip({low:.4g}, {high:.4g})"))
    return Finding("hint", "outliers", f"{look.name!r} has values far out", words, line)


def _wide(sight: Sight, look: Look, values: Values, smooth: list[str]) -> Finding | None:
    if len(values) < FEWEST_WIDE or values.min() < 0:
        return None
    low, middle, high = np.quantile(values, [0.01, 0.5, 0.99])
    if low <= 0 or np.log10(high / low) < ORDERS:
        return None
    if np.log(high / middle) < SLANT * np.log(middle / low):
        return None
    words = (
        f"{look.name!r} spans {np.log10(high / low):.1f} orders of magnitude: 98% of the rows lie from {low:.4g} to "
        f"{high:.4g}{sight.sampled}. Trees don't mind; {', '.join(smooth[:4])} learn more from its logarithm."
    )
    floor = "" if values.min() > 0 else f".clip({low:.4g})"
    line = source_line(sight.study, assigned(look.name, f'table[{text(look.name)}]{floor}.transform("log")'))
    return Finding("hint", "logarithm", f"{look.name!r} spans orders of magnitude", words, line)
