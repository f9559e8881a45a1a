"""Columns that know the target, or which row it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunekit.coach.calendar import days_in, spelling_of
from tunekit.coach.changes import kinds_line
from tunekit.coach.finding import Finding
from tunekit.coach.sight import Look, Rows, Sight, Values, some
from tunekit.coach.telling import Told, told_by
from tunekit.data.targets import Target

SURE = {"R^2 of its rank": 0.99, "ROC AUC": 0.998}
"""From here on a column is taken to be the target in other words."""

SUSPICIOUS = {"R^2 of its rank": 0.95, "ROC AUC": 0.98}
"""From here on a column is worth a question, if it stands apart. Of honest ones the best that were seen are the carats
of diamonds, 0.93, and the petals of irises, 0.997: of easy classes a single column may tell all that there is."""

APART = 0.5
"""Of what the best other column leaves open: a leak leaves less. The widths of a tumour, 0.98, are only the first of
many columns that tell of it."""

NOTHING = {"R^2 of its rank": 0.02, "ROC AUC": 0.52}
"""Less than this is nothing: a column that tells nothing has about 0, or 0.5."""

MOST_COLUMNS = 400
"""Columns that are tried one by one; of more, the first ones."""

CHANCE = 1e-3
"""Of means that come so close to those of the target if they were made of other rows."""

FEWEST_MEANS = 5
"""Different values of a column of means: of fewer, the test says little."""

MOST_MEANS = 1.5
"""Rows for each value of a column of means, at least: groups of one row hold no mean."""

CLOSE = 0.5
"""Of the squared standard errors of its means, how far from them a column may be; of its own rows' means, some 0.2."""

FEWEST_EXACT = 10
"""Values that are exactly what means of their rows would be: some are so by accident."""

EXACT = 0.01
"""Of the variance that means of other rows would have, what rounding may leave."""

FEWEST_IDS = 50
"""Rows from which on it tells something that all values of a column are different."""

SHARED = 0.01
"""Chance that so many whole numbers of so wide a range are all different by accident."""

ID_WORDS = {
    "id",
    "ids",
    "key",
    "uuid",
    "guid",
    "no",
    "nr",
    "number",
    "num",
    "index",
    "idx",
    "row",
    "rownum",
    "rownames",
}
"""Words in the names of columns that number rows."""

LATER = 0.01
"""Share of rows in which a date may be later than the row's own time: some clocks are wrong."""


def telling_columns(sight: Sight) -> Iterator[Finding]:
    """Columns of which each alone predicts a target (almost) perfectly; else the one that tells most."""
    looks = [*sight.columns[:MOST_COLUMNS], *_lags(sight)]
    for called, target, values in sight.targets():
        scored: list[tuple[Look, Told]] = []
        for look in looks:
            told = told_by(look, target, values, sight.pairs)
            if told is not None:
                scored.append((look, told))
        scored.sort(key=lambda one: -one[1].score)
        found = _suspects(scored)
        yield from (_telling(sight, called, target, values, *one) for one in found)
        if scored and not found:
            best, told = scored[0]
            text = f"Of {len(scored)} columns {best.name!r} alone tells most of {called}: {told.name} {told.score:.2f}"
            if told.score < NOTHING[told.name]:
                text = f"None of {len(scored)} columns is seen to tell anything of {called} alone"
            text += f", by a small model on {_folds(sight)}."
            yield Finding("good", "no-leak", f"no column alone tells {called}", text)


def _suspects(scored: list[tuple[Look, Told]]) -> list[tuple[Look, Told]]:
    """Of columns, the most telling first: those that are the target, and those that tell far more than all others."""
    found = [one for one in scored if one[1].score >= SUSPICIOUS[one[1].name]]
    others = scored[len(found) :]
    if found and others and 1 - found[-1][1].score > APART * (1 - others[0][1].score):
        return [one for one in found if one[1].score >= SURE[one[1].name]]
    return found


def _folds(sight: Sight) -> str:
    rows = len(sight.pairs[0][0])
    return f"{len(sight.pairs)} fold{'s' if len(sight.pairs) > 1 else ''} of {rows:,} training rows"


def _telling(sight: Sight, called: str, target: Target, values: Values, look: Look, told: Told) -> Finding:
    sure = told.score >= SURE[told.name]
    text = (
        f"{look.name!r} alone predicts {called} with {told.name} {told.score:.4f} (a small model on {_folds(sight)})."
    )
    gaps = Look(look.name, "boolean", np.isnan(look.all).astype(np.float64))
    by_gaps = told_by(gaps, target, values, sight.pairs)
    if by_gaps is not None and by_gaps.score >= SUSPICIOUS[by_gaps.name]:
        text += f" Whether it is filled in tells that already ({by_gaps.score:.4f}): it seems to be known afterwards."
    if sure:
        text += " If it is not known before the target is, leave it out; if it is, that is the whole model."
    else:
        text += " If it is known before the target is, it is just a strong column, and may stay; if not, leave it out."
    title = f"{look.name!r} is the target in other words" if sure else f"is {look.name!r} known before the target?"
    drop = {look.name: "drop"} if look.name in sight.prepared.data.columns else {}
    return Finding("problem" if sure else "hint", "leak", title, text, kinds_line(sight.study, drop) if drop else "")


def _lags(sight: Sight) -> Iterator[Look]:
    """How much later than the row's time each other date is."""
    time = sight.prepared.data.time
    if time is None or sight.time is None or sight.prepared.data.horizon is not None:
        return  # of times that are no column nothing tells whether they are dates
    for look in sight.columns:
        if look.kind == "date" and look.name != sight.time:
            yield Look(f"{look.name} after {sight.time}", "number", look.all - time)


def later_dates(sight: Sight) -> Iterator[Finding]:
    """Date columns that are later than the time of their row, by which the study tells what is known when."""
    for lag in _lags(sight):
        name = lag.name.removesuffix(f" after {sight.time}")
        known = lag.all[sight.rows]
        known = known[~np.isnan(known)]
        late = known[known > 0]
        if not len(known) or len(late) <= LATER * len(known):
            continue
        days = float(np.median(late)) / 86_400
        text = (
            f"In {len(late) / len(known):.0%} of the rows where it is given, {name!r} is later than {sight.time!r}, by "
            f"{days:.3g} days in the median{sight.sampled}. Unless it is a plan, it is not known when a row is to be "
            "predicted."
        )
        yield Finding("hint", "future", f"{name!r} lies in the future", text, kinds_line(sight.study, {name: "drop"}))


def target_means(sight: Sight) -> Iterator[Finding]:
    """Columns that are the target's means over some groups of these very rows, each row's own target in it or not."""
    for called, target, values in sight.targets():
        if target.task not in ("regression", "binary"):
            continue
        rows = some(sight.prepared.folds.development, 10 * len(sight.rows))  # all: means are made of all
        for look in sight.columns:
            if look.kind != "number":
                continue
            told = _as_means(look, values, rows, called) or _as_means_of_others(sight, look, values, called)
            if told:
                text = (
                    f"{told} So it holds the targets of the rows that judge, and scores will be too good. Let models "
                    "learn such means from training rows: give them the category itself."
                )
                change = kinds_line(sight.study, {look.name: "drop"})
                yield Finding("problem", "target-means", f"{look.name!r} is made of the target", text, change)


@dataclass(frozen=True)
class _Levels:
    """The values of a column that stand in several rows, and the target of those rows whose target may be read.

    Args:
        value: of each level.
        size: in how many rows of the data it stands.
        count: how many of these are known.
        mean: of the target, over the known ones.
        within: the variance of the target within each level, from the known ones.
    """

    value: Values
    size: Values
    count: Values
    mean: Values
    within: Values


def _levels(column: Values, target: Values, rows: Rows) -> _Levels | None:
    known = rows[~np.isnan(column[rows])]
    levels, sizes = np.unique(column[~np.isnan(column)], return_counts=True)
    if len(levels) < FEWEST_MEANS or len(levels) > sizes.sum() / MOST_MEANS:
        return None
    place = np.searchsorted(levels, column[known])
    counts = np.bincount(place, minlength=len(levels)).astype(np.float64)
    means = np.bincount(place, weights=target[known], minlength=len(levels)) / np.maximum(counts, 1)
    squares = np.bincount(place, weights=(target[known] - means[place]) ** 2, minlength=len(levels))
    use = counts > 1
    found = (levels, sizes.astype(np.float64), counts, means, squares / np.maximum(counts - 1, 1))
    return _Levels(*(one[use] for one in found)) if use.sum() >= FEWEST_MEANS else None


def _as_means(look: Look, target: Values, rows: Rows, called: str) -> str:
    """In which way a column holds means of the target; "" if it doesn't."""
    levels = _levels(look.all, target, rows)
    if levels is None:
        return ""
    count = len(levels.value)
    exact = _exact(levels)
    if exact:
        return (
            f"Of {look.name!r}, {exact[0]:,} different values stand only in rows whose {called} is known here, and "
            f"each is the mean of {called} of just these rows{exact[1]}."
        )
    chance = _closeness(levels)
    if chance < CHANCE:
        return (
            f"{look.name!r} has {count} different values, and each is the mean of {called} of just these rows, more "
            f"exactly than means of other rows could be (chance {chance:.1g})."
        )
    return ""


def _exact(levels: _Levels) -> tuple[int, str] | None:
    """How many values are exactly the means of their rows, as far as none is a test row; and how they were smoothed.

    A smoothed mean is (sum + a m) / (n + a), where m is the mean of all rows: sum - n value = a (value - m), a straight
    line in the value. What differs from the line is compared with what means of other rows would differ by.
    """
    whole = levels.count == levels.size
    varied = whole & (levels.within > 0)
    if varied.sum() < FEWEST_EXACT:
        return None
    value, size = levels.value[varied], levels.size[varied]
    usual = float((size * levels.within[varied]).sum())  # of (sum - n mean)^2, were the mean known from elsewhere
    missing = size * (levels.mean[varied] - value)
    if float((missing**2).sum()) <= EXACT * usual:
        return int(varied.sum()), ""
    design = np.stack([value, np.ones(len(value))], axis=1)
    (weight, shift), *_ = np.linalg.lstsq(design, missing, rcond=None)
    if weight <= 0 or not np.ptp(value) or float(((missing - design @ (weight, shift)) ** 2).sum()) > EXACT * usual:
        return None
    return int(varied.sum()), f", drawn towards {-shift / weight:.4g} as by {weight:.3g} more rows"


def _closeness(levels: _Levels) -> float:
    """The chance of values that close to the means of their rows.

    Where a column holds a mean that was measured elsewhere, however exact, the means of these rows differ from it by
    their standard errors: the sum of the squared differences, each divided by its standard error, is at least as large
    as a chi-squared variable with as many degrees of freedom as there are groups. Much less than that means that the
    column was made of these rows' targets. Of a share p of a group's rows the mean has a correlation of the root of p
    with that of all, at least.
    """
    from scipy.stats import chi2

    freedom = levels.count - 1
    variance = float((levels.within * freedom).sum() / freedom.sum())
    if variance <= 0 or np.std(levels.mean) == 0 or np.std(levels.value) == 0:
        return 1.0
    if np.corrcoef(levels.value, levels.mean)[0, 1] < 0.9 * np.sqrt((levels.count / levels.size).mean()):
        return 1.0
    each = (levels.value - levels.mean) ** 2 * levels.count
    if each.sum() > CLOSE * levels.within.sum():
        return 1.0  # by the variance of each group: that of all may be the variance of a few
    squares = float((each / variance).sum())
    return float(chi2.cdf(squares, len(levels.value)))


def _as_means_of_others(sight: Sight, look: Look, target: Values, called: str) -> str:
    """Whether a column holds, for each row, the mean of its group's other rows; by which column they are grouped.

    Such a mean is (sum - own) / (n - 1): own + (n - 1) mean is the same in a whole group. Smoothed, n - 1 is larger by
    a number that is the same in all groups.
    """
    column = look.all
    rows = sight.rows[~np.isnan(column[sight.rows])]
    if len(np.unique(column[rows])) < FEWEST_EXACT:
        return ""
    for key in sight.columns[:MOST_COLUMNS]:
        if key.name == look.name or key.kind not in ("category", "number"):
            continue
        groups, sizes = _groups(key.all)
        if not FEWEST_MEANS <= len(sizes) <= len(column) / MOST_MEANS:
            continue
        own, others = (_within(one[rows], groups[rows]) for one in (target, column))
        if len(np.unique(groups[rows][own != 0])) < FEWEST_EXACT:
            continue  # of so few groups with several rows, a line goes through all
        spread = float((own**2).sum() * (others**2).sum())
        if spread <= 0 or float(own @ others) > -0.5 * np.sqrt(spread):
            continue
        # own = -(n - 1 + a) others within each group
        told = _within(target[rows] + (sizes[groups[rows]] - 1) * column[rows], groups[rows])
        more = max(0.0, -float(told @ others) / float((others**2).sum()))
        if float(((told + more * others) ** 2).sum()) <= EXACT * float((own**2).sum()):
            return (
                f"{look.name!r} is the mean of {called} of all other rows with the same {key.name!r}"
                f"{f', drawn to a mean as by {more:.3g} more rows' if more > 0.05 else ''}: what it lacks tells "
                "each row's own target."
            )
    return ""


def _groups(column: Values) -> tuple[Rows, Values]:
    """Each row's group by a column, and how many rows each group has; gaps are a group of their own."""
    _, place, sizes = np.unique(column, return_inverse=True, return_counts=True)
    return place.astype(np.int64), sizes.astype(np.float64)


def _within(values: Values, groups: Rows) -> Values:
    """Values without the means of their groups."""
    size = int(groups.max()) + 1
    means = np.bincount(groups, weights=values, minlength=size) / np.maximum(np.bincount(groups, minlength=size), 1)
    return np.asarray(values - means[groups])


def ids(sight: Sight) -> Iterator[Finding]:
    """Columns whose values are all different, so that they name rows rather than describe them."""
    everything = np.arange(len(sight.prepared.data))
    if len(everything) < FEWEST_IDS or sight.prepared.data.horizon is not None:
        return
    for look in sight.columns:
        if days_in(look) is not None or (look.is_category and spelling_of(look.texts) is not None):
            continue  # dates, of which `dates` tells
        reason = _why_id(look, everything)
        if reason:
            text = f"{look.name!r} {reason}. Models can learn such a column by heart, and new rows have other values."
            change = kinds_line(sight.study, {look.name: "drop"})
            yield Finding("hint", "id", f"{look.name!r} seems to name the rows", text, change)


def _why_id(look: Look, rows: Rows) -> str:
    values = look.all[rows]
    if look.kind == "category":
        share = len(look.texts) / len(values)
        return f"has {len(look.texts):,} different texts in {len(values):,} rows" if share > 0.9 else ""
    if look.kind != "number" or np.isnan(values).any() or (values % 1 != 0).any():
        return ""
    if len(np.unique(values)) < len(values):
        return ""
    named = bool(ID_WORDS & set(_words(look.name)))
    by_accident = float(np.exp(-(len(values) ** 2) / (2.0 * (np.ptp(values) + 1.0))))
    if not named and by_accident > SHARED:
        return ""
    told = f"holds whole numbers from {values.min():.0f} to {values.max():.0f}, each once"
    steps: npt.NDArray[np.float64] = np.diff(values)
    return told + (", in the order of the rows" if (steps > 0).all() or (steps < 0).all() else "")


def _words(name: str) -> list[str]:
    """The words of a name in snake_case or CamelCase.

    >>> _words("customerId"), _words("row_no")
    (['customer', 'id'], ['row', 'no'])
    """
    apart = "".join(
        f"_{one}" if one.isupper() and not before.isupper() else one
        for before, one in zip("_" + name, name, strict=False)
    )
    return [word for word in "".join(one if one.isalnum() else "_" for one in apart.lower()).split("_") if word]
