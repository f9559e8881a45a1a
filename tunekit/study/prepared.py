"""From a study's data to rows on disk that trials can be given: loaded, split, encoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunekit.bundle.columns import ARRAY, TEXTS
from tunekit.data import Dataset, Encoded, Folds, Schema, Split, TimeHoldout, TimeSplit, default_split
from tunekit.data.folds import halves
from tunekit.data.lazy import LazyRows
from tunekit.data.scales import suits_logarithm
from tunekit.data.split import groups_on_both_sides
from tunekit.data.store import Store
from tunekit.data.targets import Target, places
from tunekit.ensemble import Judged
from tunekit.errors import DataError, MetricError
from tunekit.metrics import (
    MeanMetric,
    Metric,
    TargetMetric,
    bounded,
    check_smaller_is_better,
    find_metric,
    has_two,
    mean_metric,
    metric_of_trials,
    usual_metric,
)

UNSEEN = "a level that no row has"
PROBED_ROWS = 32
MOST_ENCODED = 64 * 2**20
"""Bytes of numbers and codes up to which they are encoded at once."""
PROBED_COLUMNS = 100
MOST_TOLD = 10
"""Labels that are told to be rare, one by one."""


@dataclass(frozen=True)
class Prepared:
    """A study's rows, split and typed.

    Args:
        data: all rows, test rows included.
        split: how they are split.
        folds: the split, as positions in `data`.
        schema: the columns, with levels from the development rows.
        metric: fitted to the task.
        probes: typed columns of made-up hard rows (gaps, unseen levels), to check an export with.
    """

    data: Dataset
    split: Split
    folds: Folds
    schema: Schema
    metric: Metric
    probes: dict[str, npt.NDArray[Any]]

    @property
    def metric_of_trials(self) -> Metric:
        """What trials are compared by: see `tunekit.metrics.metric_of_trials`."""
        return metric_of_trials(self.metric, self.data.task)

    @property
    def least(self) -> npt.NDArray[np.float64] | None:
        """What predictions must not be less than: (outputs,), or None for anything. See `tunekit.metrics.bounded`."""
        found = np.full(self.data.outputs, self.metric.least)
        for part in self.metric.parts if isinstance(self.metric, MeanMetric) else ():
            found[part.outputs] = part.metric.least
        return found if np.isfinite(found).any() else None

    @property
    def covered(self) -> npt.NDArray[np.int64]:
        """Positions in `data` of the rows that have out-of-fold predictions: every validation row, fold by fold."""
        return self.folds.covered

    @property
    def judged(self) -> Judged:
        """The targets of `covered`, in the parts by which trials are scored."""
        sizes = [len(valid) for _, valid in self.folds.pairs[: self.folds.drawn_once]]
        parts = tuple(np.arange(end - size, end) for end, size in zip(np.cumsum(sizes), sizes, strict=True))
        data, rows = self.data, self.covered
        temporal = isinstance(self.split, (TimeSplit, TimeHoldout)) and data.time is not None
        return Judged(
            data.target[rows],
            parts,
            None if data.weight is None else data.weight[rows],
            data.time[rows] if data.time is not None and temporal else None,
            None if data.group is None else data.group[rows],
            data.horizon or 0.0,
        )

    @property
    def identity(self) -> dict[str, str]:
        """What must stay the same for trials to be comparable, beside the seed."""
        return {
            "data": self.data.digest,
            "split": repr(self.split),
            "metric": self.metric_of_trials.identity,
            "direction": self.metric.direction,
        }

    def write(self, folder: Path) -> Store:
        """Encode the rows into a folder that trials map into their memory."""
        data, development = self.data, self.folds.development
        encoded, hard = _encoded(self.schema, data), self.schema.encode(self.probes)
        tests = encoded.take(self.folds.test)
        position = np.full(len(data), -1, dtype=np.int64)
        position[development] = np.arange(len(development))
        store = Store(folder)
        store.write(
            facts={
                "task": data.task,
                "outputs": data.outputs,
                "cardinalities": list(self.schema.cardinalities),
                "array_names": [column.name for column in self.schema.arrays],
                "text_columns": [asdict(column) for column in self.schema.text_columns],
                "targets": [target.plain for target in data.targets],
                "class_weight": data.weights_of_classes(data.teaching(development)),
                "scaled_by": list(self.schema.scaled_by),
                "naive": dict(data.naive),
                "anchor": -1 if data.anchor is None else data.anchor,
                "logarithm": suits_logarithm(data, development),
            },
            rows=encoded.take(development),
            target=data.target[development],
            weight=None if data.weight is None else data.weight[development],
            time=None if data.time is None else data.time[development],
            pairs=[(position[train], position[valid]) for train, valid in self.folds.pairs],
            halves=[halves(data, valid, seed=number) for number, (_, valid) in enumerate(self.folds.pairs)],
            unlabelled=Encoded.joined(tests, hard),
            words={column.name: column.levels for column in self.schema.texts},
            levels={column.name: column.levels for column in self.schema.categorical},
        )
        return store


def prepare(data: Dataset, split: Split | None, metric: Any, seed: int) -> Prepared:
    """Split a data set, and learn the levels of its categories from the development rows.

    Args:
        data: all rows.
        split: how to split; what suits the data if None.
        metric: as `find_metric` takes it, or None for the usual one. For several targets, one for all of them, or a
            dict with one for each.
        seed: of the split.
    """
    split = split or default_split(data)
    folds = split.apply(data, seed)
    development = folds.development
    judge = _metric(data, metric, development)
    _check_shares(data, judge)
    _check_judging(data, folds, judge)
    _check_directions(data, folds, metric, judge)
    told = (*_groups_in_time(data, folds), *_shortened(list(_left_out(data, folds, judge))))
    data = replace(data, notices=(*data.notices, *told))
    schema = data.schema.with_levels(data.columns, data.teaching(development))
    probes = _probes(schema, data.raw_rows(development[:PROBED_ROWS]))
    return Prepared(data, split, folds, schema, judge, probes)


def _metric(data: Dataset, metric: Any, development: npt.NDArray[np.int64]) -> Metric:
    if not data.targets:
        found = find_metric(metric or usual_metric(data.task, data.shares)[0], data.task, data.outputs)
        return bounded(found, data.target[development])
    names = [target.name for target in data.targets]
    chosen = metric if isinstance(metric, Mapping) else dict.fromkeys(names, metric)
    if wrong := set(chosen) ^ set(names):
        raise MetricError(f"metric={metric!r} and the targets {names} differ in {sorted(wrong)}; expected one for each")
    labels = all(target.task == "binary" for target in data.targets)
    parts = []
    for column, target, outputs in places(data.targets):
        shares = np.bincount(data.target[:, column].astype(int)) / len(data) if target.classes else np.array([])
        usual = "average_precision" if labels else usual_metric(target.task, list(shares))[0]
        one = chosen[target.name] or usual  # of labels, the mean average precision
        found = bounded(find_metric(one, target.task, target.outputs), data.target[development, column])
        parts.append(TargetMetric(column, outputs, found, target.name, target.classes))
    weight = None if data.weight is None else data.weight[development]
    return mean_metric(parts, data.target[development], data.constant(development), weight)


def _encoded(schema: Schema, data: Dataset) -> Encoded:
    """All rows, encoded; of a large table when they are asked for, some at a time."""
    width = len(schema.number_features) + len(schema.categorical)
    if schema.texts or 8 * width * len(data) <= MOST_ENCODED:
        return schema.encode(_uncopied(data.columns))
    plain = Schema(tuple(column for column in schema.columns if column.kind != ARRAY))

    def read(part: int, places: npt.NDArray[np.int64]) -> Any:
        return plain.encode({column.name: data.columns[column.name][places] for column in plain.columns}).all[part]

    numbers: Any = LazyRows(partial(read, 0), (len(data), len(schema.number_features)), np.dtype(np.float64))
    codes: Any = LazyRows(partial(read, 1), (len(data), len(schema.categorical)), np.dtype(np.int32))
    arrays = _uncopied({column.name: data.columns[column.name] for column in schema.arrays})
    return Encoded(numbers, codes, tuple(arrays.values()))


def _uncopied(columns: dict[str, Any]) -> dict[str, Any]:
    """The same columns, arrays as lazy rows: what is taken of them is written without a copy in memory."""
    return {
        name: LazyRows(column.__getitem__, column.shape, column.dtype)
        if column.ndim > 1 and not isinstance(column, LazyRows)
        else column
        for name, column in columns.items()
    }


def _check_shares(data: Dataset, metric: Metric) -> None:
    """Errors as shares of a target that is zero would be all that counts."""
    metrics = [part.metric for part in metric.parts] if isinstance(metric, MeanMetric) else [metric]
    every = data.target.reshape(len(data), len(metrics))
    for one, values in zip(metrics, every.T, strict=True):
        if one.scorer == "neg_mean_absolute_percentage_error" and not values.all():
            raise MetricError(
                f"metric {one.name!r} divides by the target, which is 0 in {(values == 0).sum()} of {len(data)} rows; "
                "expected a target without zeros, or metric='mae'"
            )


def _check_judging(data: Dataset, folds: Folds, metric: Metric) -> None:
    """Say now, and not after the search, that some part can't be judged, such as one with a single class."""
    parts = {f"the validation rows of fold {number}": valid for number, (_, valid) in enumerate(folds.pairs)}
    everything = np.arange(len(data))
    for name, rows in {**parts, "the test rows": folds.test}.items():
        constant = data.constant(everything if data.classes else rows)
        weight = None if data.weight is None else data.weight[rows]
        try:
            metric.score(data.target[rows], np.tile(constant, (len(rows), 1)), weight)
        except MetricError as error:
            raise DataError(
                f"{name} can't be judged: {error}. Use fewer folds, more rows, another split or another metric"
            ) from error


def _check_directions(data: Dataset, folds: Folds, given: Any, judge: Metric) -> None:
    """Say now that a function without a direction would be made small though larger is better."""
    rows = folds.pairs[0][1]
    weight = None if data.weight is None else data.weight[rows]
    metrics = [part.metric for part in judge.parts] if isinstance(judge, MeanMetric) else [judge]
    every = data.target[rows].reshape(len(rows), len(metrics))
    for column, target, outputs in places(data.targets or [Target("", data.task, data.classes)]):
        if callable(given.get(target.name) if isinstance(given, Mapping) else given):
            constant = np.tile(data.constant(rows)[outputs], (len(rows), 1))
            values = every[:, column]
            check_smaller_is_better(metrics[column], values, target.nearly(values), constant, weight)


def _groups_in_time(data: Dataset, folds: Folds) -> Iterator[str]:
    """What is said of groups that a split in time does not keep together."""
    if known := groups_on_both_sides(data, folds):
        yield (
            f"{known} have rows that train and later ones that judge, for the split is in time; say "
            "split=tk.GroupKFold(5) to judge on groups that no model knows"
        )


def _left_out(data: Dataset, folds: Folds, metric: Metric) -> Iterator[str]:
    """What is said of labels that are too rare for each part of the rows to judge them, or to teach them."""

    def lacking(column: int, parts: Mapping[str, npt.NDArray[np.int64]]) -> str:
        weights = {name: None if data.weight is None else data.weight[rows] for name, rows in parts.items()}
        names = [name for name, rows in parts.items() if not has_two(data.target[rows, column], weights[name])]
        return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)

    training = {f"fold {number}": train for number, (train, _) in enumerate(folds.pairs)}
    judging = {f"fold {number}": valid for number, (_, valid) in enumerate(folds.pairs)} | {"the test rows": folds.test}
    for part in metric.parts if isinstance(metric, MeanMetric) else ():
        if len(part.classes) != 2:
            continue
        counts = np.bincount(data.target[:, part.column].astype(int), minlength=2)
        rarer = int(counts.argmin())
        told = f"target {part.name!r} is {part.classes[rarer]!r} in {counts[rarer]} of {len(data)} rows"
        if part.needs_two and (silent := lacking(part.column, judging)):
            yield f"{told}: too few to judge it in {silent}, whose score is the mean of the other targets"
        if untaught := lacking(part.column, training):
            yield f"{told}: too few to learn it in {untaught}, where a constant predicts it"


def _shortened(notices: list[str]) -> list[str]:
    more = len(notices) - MOST_TOLD
    return notices if more < 2 else [*notices[:MOST_TOLD], f"and so of {more} others"]


def _probes(schema: Schema, rows: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Real rows; then, per column, one with a gap and for categories one with an unseen level; then one all gaps."""
    real = len(next(iter(rows.values())))
    gappy = [column for column in schema.columns if column.kind != ARRAY]
    columns = gappy[:PROBED_COLUMNS]
    edits: list[tuple[str, Any]] = []
    for column in columns:
        category = column.kind in ("category", *TEXTS)
        edits.append((column.name, "" if category else np.nan))
        if category:
            edits.append((column.name, UNSEEN))
    picked = np.arange(real + len(edits) + 1) % real
    probes = {name: values[picked].copy() for name, values in rows.items()}
    for row, (name, value) in enumerate(edits, start=real):
        probes[name][row] = value
    for column in gappy:
        probes[column.name][-1] = "" if probes[column.name].dtype == object else np.nan
    return probes
