"""Columns that know the target, or which row it is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tunekit.coach.changes import kinds_line
from tunekit.coach.finding import Finding
from tunekit.coach.sight import Look, Rows, Sight, Values, some
from tunekit.coach.telling import Told, told_by
from tunekit.data.targets import Target

SURE = {"R^2 of its rank": 0.99, "ROC AUC": 0.998}
"""From here on a column is taken to be the target in other words."""

SUSPICIOUS = {"R^2 of its rank": 0.95, "ROC AUC": 0.98}
"""From here on a column is worth a question. Of honest columns the best that were seen are the carats of diamonds,
0.93, and the petals of irises, 0.997: of easy classes a single column may tell all that there is."""

NOTHING = {"R^2 of its rank": 0.02, "ROC AUC": 0.52}
"""Less than this is nothing: a column that tells nothing has about 0, or 0.5."""

MOST_COLUMNS = 400
"""Columns that are tried one by one; of more, the first ones."""

CHANCE = 1e-3
"""Of means that come so close to those of the target if they were made of other rows."""

FEWEST_MEANS = 5
"""Different values of a column of means: of fewer, the test says little."""

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
        found = [one for one in scored if one[1].score >= SUSPICIOUS[one[1].name]]
        yield from (_telling(sight, called, target, values, *one) for one in found)
        if scored and not found:
            best, told = scored[0]
            text = f"Of {len(scored)} columns {best.name!r} alone tells most of {called}: {told.name} {told.score:.2f}"
            if told.score < NOTHING[told.name]:
                text = f"None of {len(scored)} columns tells anything of {called} alone"
            text += f", by a small model on {_folds(sight)}."
            yield Finding("good", "no-leak", f"no column alone tells {called}", text)


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
    text += " If it is not known before the target is, leave it out; if it is, that is the whole model."
    title = f"{look.name!r} {'is the target in other words' if sure else 'nearly tells the target alone'}"
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
    """Columns that are the target's means over some groups of these very rows.

    Where a column holds a mean that was measured elsewhere, however exact, the means of these rows differ from it by
    their standard errors: the sum of the squared differences, each divided by its standard error, is at least as large
    as a chi-squared variable with as many degrees of freedom as there are groups. Much less than that means that the
    column was made of these rows' targets.
    """
    for called, target, values in sight.targets():
        if target.task not in ("regression", "binary"):
            continue
        rows = some(sight.prepared.folds.development, 10 * len(sight.rows))  # all: means are made of all
        for look in sight.columns:
            if look.kind != "number":
                continue
            groups = _closeness(look.all[rows], values[rows])
            if groups is None:
                continue
            count, chance = groups
            if chance < CHANCE:
                text = (
                    f"{look.name!r} has {count} different values, and each is the mean of {called} of just these rows, "
                    f"more exactly than means of other rows could be (chance {chance:.1g}). So it holds the targets of "
                    "the rows that judge, and scores will be too good. Let models learn such means from training rows: "
                    "give them the category itself."
                )
                change = kinds_line(sight.study, {look.name: "drop"})
                yield Finding("problem", "target-means", f"{look.name!r} is made of the target", text, change)


def _closeness(column: Values, target: Values) -> tuple[int, float] | None:
    """Of a column's values that stand in several rows: how many there are, and the chance of such closeness."""
    from scipy.stats import chi2

    known = ~np.isnan(column)
    levels, place, counts = np.unique(column[known], return_inverse=True, return_counts=True)
    if len(levels) < FEWEST_MEANS or len(levels) > known.sum() / 2:
        return None
    sums = np.bincount(place, weights=target[known])
    means = sums / counts
    within = target[known] - means[place]
    several = counts > 1
    freedom = int((counts - 1).sum())
    variance = float((within**2).sum()) / max(freedom, 1)
    if several.sum() < FEWEST_MEANS or variance <= 0:
        return None
    spread = np.std(means[several])
    if spread == 0 or np.std(levels[several]) == 0 or np.corrcoef(levels[several], means[several])[0, 1] < 0.9:
        return None
    squares = float((((levels - means) ** 2 * counts / variance)[several]).sum())
    return int(several.sum()), float(chi2.cdf(squares, int(several.sum())))


def ids(sight: Sight) -> Iterator[Finding]:
    """Columns whose values are all different, so that they name rows rather than describe them."""
    everything = np.arange(len(sight.prepared.data))
    if len(everything) < FEWEST_IDS or sight.prepared.data.horizon is not None:
        return
    for look in sight.columns:
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
