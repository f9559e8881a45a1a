"""The parts that rows are divided into: whether they are alike, apart from each other, and large enough."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tunekit.coach.calendar import days_in, spelling_of
from tunekit.coach.changes import assigned, kinds_line, source_line, split_line, text
from tunekit.coach.finding import Finding
from tunekit.coach.sight import Sight, Values, some
from tunekit.data.lazy import LazyRows
from tunekit.data.split import KFold, TimeHoldout, TimeSplit

FEW_TWINS, MANY_TWINS = 0.01, 0.1
"""Share of the test rows with the features of another row: from where on it is said, and from where on it decides."""

BY_CHANCE = 3.0
"""So many times as many as there would be if the columns had nothing to do with each other."""

ALIKE = 0.9
"""Share of rows with equal features that also have equal targets, from which on they are taken to be copies."""

UNLIKE = 0.05
"""Chance of so few equal targets among copies, below which fewer than five pairs are no copies either."""

MOST_HASHED = 2**30
"""Bytes of arrays that are compared."""

DRIFT, LATER_DRIFT, DEEP_DRIFT = 0.55, 0.7, 0.8
"""Areas under the ROC curve by which training and test rows are told apart: less is too little to matter. Later rows
always differ a little from earlier ones; of rows that are drawn, a deep drift says that something is wrong."""

MOST_OF_IT = 0.8
"""Of what a classifier tells beyond chance: a column that tells as much alone is the one to leave out."""

SURE = 4.0
"""Standard errors from chance."""

MOST_COMPARED = 4_000
"""Rows of each part that a classifier tells apart: an area of 0.55 is then eight standard errors from 0.5."""

TREES = 60
"""Of that classifier: more change its area by less than 0.01."""

ONLY_IN_TESTS = 1e-4
"""Chance that all gaps of a column are in the test rows by accident."""

FEWEST_JUDGES = 30
"""Validation rows of a fold: the usual size from which on a mean is nearly normal."""

TOO_FEW_JUDGES = 10
"""Validation rows of a fold, of which each is a tenth of the score."""

FEW_JUDGES = 100
"""Validation rows of a fold below which drawing the folds again tells much more."""


def twins(sight: Sight) -> Iterator[Finding]:
    """Test rows with exactly the features of a row that trains."""
    data, folds = sight.prepared.data, sight.prepared.folds
    hashes = None if data.horizon is not None else _hashes(data.columns)
    if hashes is None:
        return
    from scipy.stats import binom

    train, test = folds.development, folds.test
    share = _share_doubled(hashes, train, test)
    count = round(share * len(test))
    if share < FEW_TWINS or count < 2:
        have = "has" if count == 1 else "have"
        told = f"{count} of {len(test):,} test rows {have} exactly the features of a row that trains."
        title = "hardly a test row equals one that trains" if count else "test rows are new"
        yield Finding("good", "no-twins", title, told)
        return
    chance = _share_doubled(_shuffled(data.columns), train, test) if len(data.columns) > 1 else 0.0
    agreement, pairs = _agreement(sight, hashes)
    unlike = (pairs >= 5 and agreement < ALIKE) or binom.cdf(round(agreement * pairs), pairs, ALIKE) < UNLIKE
    if share < BY_CHANCE * chance or unlike:
        return  # so few different values that rows meet by chance, or rows that only look alike
    told = (
        f"{count:,} of {len(test):,} test rows ({share:.1%}) have exactly the features of a row that trains; "
        f"{chance:.1%} would by chance."
    )
    if pairs:
        told += f" Of such rows among those that train, {agreement:.0%} have the same target too."
    told += " Scores are too good by what is learnt by heart: leave the copies out, or keep them together by group=."
    copies = share >= MANY_TWINS and pairs >= 5
    yield Finding(
        "problem" if copies else "hint", "twins", "rows stand on both sides of the split", told, _deduplicated(sight)
    )


def _deduplicated(sight: Sight) -> str:
    """The line that leaves copies out: rows that are equal in all that models read, and in their target."""
    data = sight.study.data
    beside = [one for one in (getattr(data, role, None) for role in ("id", "group", "weight")) if isinstance(one, str)]
    beside += [one.name for one in sight.prepared.data.left_out]
    beside += [name for name, kind in (getattr(data, "kinds", None) or {}).items() if kind == "drop"]
    if not beside:
        return source_line(sight.study, ".drop_duplicates()")
    names = ", ".join(map(text, dict.fromkeys(beside)))
    return source_line(sight.study, f".loc[lambda table: ~table.drop(columns=[{names}]).duplicated()]")


def _hashes(columns: dict[str, Any]) -> npt.NDArray[np.uint64] | None:
    """One number for each row's features; None where there is too much to read."""
    total: Any = 0
    for column in columns.values():
        if isinstance(column, LazyRows) or column.nbytes > MOST_HASHED:
            return None
        if column.ndim == 1:
            own = pd.util.hash_array(column)
        else:
            flat = np.ascontiguousarray(column).reshape(len(column), -1)
            own = pd.util.hash_array(np.array([row.tobytes().hex() for row in flat], dtype=object))
        total = total * np.uint64(1_000_003) + own
    return np.asarray(total, dtype=np.uint64)


def _shuffled(columns: dict[str, Any]) -> npt.NDArray[np.uint64]:
    random = np.random.default_rng(0)
    hashes = _hashes({name: column[random.permutation(len(column))] for name, column in columns.items()})
    assert hashes is not None
    return hashes


def _share_doubled(hashes: Any, train: Any, test: Any) -> float:
    return float(np.isin(hashes[test], hashes[train]).mean())


def _agreement(sight: Sight, hashes: Any) -> tuple[float, int]:
    """Of pairs of rows with equal features, neither a test row: the share with equal targets, and their number."""
    rows = sight.prepared.folds.development
    order = rows[np.argsort(hashes[rows], kind="stable")]
    same = hashes[order[1:]] == hashes[order[:-1]]
    target = sight.prepared.data.target.reshape(len(hashes), -1)
    equal = (target[order[1:]] == target[order[:-1]]).all(axis=1)
    return (float(equal[same].mean()) if same.any() else 0.0), int(same.sum())


def dates(sight: Sight) -> Iterator[Finding]:
    """A column of dates where rows are shuffled, so that models are judged on days that they have seen.

    Dates that loading didn't read as such are told in any case: models see them as names or as numbers.
    """
    shuffled = sight.prepared.data.time is None and not isinstance(sight.prepared.split, (TimeSplit, TimeHoldout))
    several = []
    for look in sight.columns:
        days = look.all if look.kind == "date" else days_in(look)
        if days is None or look.name == sight.time:
            continue
        known = days[~np.isnan(days)]
        if shuffled and len(known) >= len(days) / 2 and np.ptp(known) > 0:
            first, last = (pd.Timestamp(one, unit="s") for one in (known.min(), known.max()))
            told = f"{look.name!r} {'' if look.kind == 'date' else 'seems to hold dates as whole numbers, and '}"
            name = text(look.name)
            change = f"time={name}," if sight.prepared.data.given_as == "Table" else f"time=table[{name}],"
            several.append(_seen_days(sight, f"{told}runs", first, last, change))
    yield from several[:1]
    spelt = [(look.name, look.texts, "a category") for look in sight.columns if look.is_category]
    spelt += [(one.name, one.examples, "") for one in sight.prepared.data.left_out if one.kind == "category"]
    for column, texts, read_as in spelt:
        spelling = spelling_of(texts)
        if spelling is None:
            continue
        found = f"{column!r} holds dates as texts ({spelling.format}), such as {texts[0]!r}"
        found += "; the month may stand first" if spelling.ambiguous else ""
        found += f", and {f'is read as {read_as}' if read_as else 'was left out, as hardly two are the same'}."
        change = _reads_dates(sight, column, spelling.format, also_time=shuffled and not several)
        if shuffled and not several:
            several.append(_seen_days(sight, f"{found} It runs", spelling.first, spelling.last, change))
            yield several[0]
        else:
            yield Finding("hint", "text-dates", f"{column!r} holds dates that are not read", found, change)


def _seen_days(sight: Sight, found: str, first: Any, last: Any, change: str) -> Finding:
    told = (
        f"{found} from {first.date()} to {last.date()}, and {sight.prepared.split!r} shuffles the rows: models are "
        "judged on days of which they have seen other rows. If they are to predict later rows, judge them on later "
        "rows."
    )
    return Finding("hint", "shuffled-dates", "dates, but a shuffled split", told, change)


def _reads_dates(sight: Sight, column: str, spelling: str, *, also_time: bool) -> str:
    """The line that turns texts into dates and, where they are the rows' times, says so."""
    parsed = f"pd.to_datetime(table[{text(column)}], format={text(spelling)})"
    line = source_line(sight.study, assigned(column, parsed))
    if line and also_time:
        line = line.replace(" = ", ", study.data.time = ", 1) + f", {text(column)}"
    return line and f"import pandas as pd; {line}"


def new_gaps(sight: Sight) -> Iterator[Finding]:
    """Columns that are missing in test rows alone: models never see such a gap."""
    folds = sight.prepared.folds
    share = len(folds.test) / (len(folds.test) + len(folds.development))
    for look in sight.columns:
        gaps = int(np.isnan(look.all[folds.test]).sum())
        if not gaps or np.isnan(look.all[folds.development]).any() or share**gaps > ONLY_IN_TESTS:
            continue
        told = (
            f"{look.name!r} is missing in {gaps:,} of {len(folds.test):,} test rows and in none of the "
            f"{len(folds.development):,} others: models never learn what such a gap means."
        )
        change = kinds_line(sight.study, {look.name: "drop"})
        yield Finding("problem", "gaps-in-tests", f"{look.name!r} is missing in test rows alone", told, change)


def drift(sight: Sight) -> Iterator[Finding]:
    """Whether a classifier tells training rows from test rows (adversarial validation), and by which column."""
    looks = [look for look in sight.columns if look.kind != "date" and look.name != sight.time]
    if not looks or len(sight.tests) < 2 * FEWEST_JUDGES or sight.prepared.data.horizon is not None:
        return  # forecasts of another season differ, and their windows are scaled by what came before
    train, test = some(sight.rows, MOST_COMPARED), some(sight.tests, MOST_COMPARED)
    rows = np.concatenate([train, test])
    labels = np.repeat([0, 1], [len(train), len(test)])
    group = sight.prepared.data.group
    groups = np.arange(len(rows)) if group is None else group[rows]
    features = np.stack([look.all[rows] for look in looks], axis=1)
    area = _told_apart(features, labels, groups)
    units = [len(np.unique(groups[labels == side])) for side in (0, 1)]  # rows of a group are one piece of evidence
    error = math.sqrt((sum(units) + 1) / (12 * units[0] * units[1]))  # of the area, by chance: Hanley 1982
    temporal = isinstance(sight.prepared.split, (TimeSplit, TimeHoldout))
    told = (
        f"A small forest tells {len(train):,} training from {len(test):,} test rows with ROC AUC {area:.3f} (chance: "
        f"0.5 ± {2 * error:.3f})."
    )
    if area < (LATER_DRIFT if temporal else DRIFT) or area < 0.5 + SURE * error:
        yield Finding("good", "no-drift", "training and test rows are alike", told)
        return
    alone = [_told_apart(features[:, [place]], labels, groups, trees=1) for place in range(len(looks))]
    worst = int(np.argmax(alone))
    told += f" {looks[worst].name!r} alone does so with {alone[worst]:.3f}{_moved(looks[worst], train, test)}."
    told += " Later rows differ from earlier ones" if temporal else " They should be alike, as the split draws them"
    told += ": what is learnt of that column may not hold there."
    level: Any = "problem" if area >= DEEP_DRIFT and not temporal and group is None else "hint"
    most = alone[worst] - 0.5 >= MOST_OF_IT * (area - 0.5)
    change = kinds_line(sight.study, {looks[worst].name: "drop"}) if most else ""
    yield Finding(level, "drift", "test rows differ from training rows", told, change)


def _told_apart(
    features: Values, labels: npt.NDArray[np.int64], groups: npt.NDArray[np.int64], trees: int = TREES
) -> float:
    """The area under the ROC curve, rows being judged by trees of other groups."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.model_selection import StratifiedKFold as Shuffled

    leaf = 5 if trees > 1 else max(5, len(labels) // 50)  # a single tree has no others to smooth what it says
    forest = RandomForestClassifier(trees, min_samples_leaf=leaf, max_samples=0.5, random_state=0)
    alone = len(np.unique(groups)) == len(groups)
    folds: Any = (Shuffled if alone else StratifiedGroupKFold)(3, shuffle=True, random_state=0)
    predicted = cross_val_predict(
        forest, features, labels, groups=None if alone else groups, cv=folds, method="predict_proba"
    )
    return float(roc_auc_score(labels, predicted[:, 1]))


def _moved(look: Any, train: Any, test: Any) -> str:
    if look.is_category:
        return ""
    middles = [float(np.nanmedian(look.all[rows])) for rows in (train, test)]
    return f" (median {middles[0]:.4g}, in test rows {middles[1]:.4g})"


def few_rows(sight: Sight) -> Iterator[Finding]:
    """Folds whose validation rows, or those of a class, are too few to judge."""
    prepared = sight.prepared
    folds, split, data = prepared.folds, prepared.split, prepared.data
    least = min(len(valid) for _, valid in folds.pairs)
    told = f"A fold is judged by {least} rows in the smallest; which trial is better depends on which these are."
    if isinstance(split, KFold) and split.k > 2 and least < FEWEST_JUDGES:
        k = max(2, min(split.k - 1, len(folds.development) // FEWEST_JUDGES))
        told += f" Fewer folds leave more: {len(folds.development)} rows are too few for {split.k}."
        level: Any = "problem" if least < TOO_FEW_JUDGES else "hint"
        repeated: dict[str, Any] = {} if isinstance(split, TimeSplit) else {"repeats": 3}
        change = split_line(replace(split, k=k, **repeated))
        yield Finding(level, "few-rows", "too few rows for so many folds", told, change)
    elif isinstance(split, KFold) and not isinstance(split, TimeSplit) and split.repeats == 1 and least < FEW_JUDGES:
        told += " Folds that are drawn several times tell more."
        yield Finding("hint", "few-judges", "few rows in a fold", told, split_line(replace(split, repeats=3)))
    if data.classes:
        counts = [np.bincount(data.target[valid].astype(int), minlength=len(data.classes)) for _, valid in folds.pairs]
        rarest = int(np.min(counts, axis=0).argmin())
        fewest = int(np.min(counts, axis=0)[rarest])
        if fewest < 5:
            told = (
                f"Of class {data.classes[rarest]!r}, {fewest} row(s) judge in the smallest fold: one more or less "
                "right changes its part of the score by a fifth or more."
            )
            yield Finding("hint", "rare-class", f"class {data.classes[rarest]!r} is rare", told)
