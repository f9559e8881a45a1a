"""What a family is: a named factory with a search space and strong defaults, and what its fits leave behind.

A fitted model is saved as `model.json` (plain facts: its "kind" and "layout") and `model.npz` (arrays); nets add
`model.weights.h5`. Nothing is pickled, and the exporter reads these files without the library that trained them.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from tunekit.data.lazy import Places, rows_at_once
from tunekit.data.preparation import Preparation
from tunekit.data.scales import Scaling
from tunekit.data.schema import Encoded
from tunekit.data.targets import Target
from tunekit.data.terms import TextColumn
from tunekit.metrics import Metric
from tunekit.space import HyperParameters

Predictions = npt.NDArray[np.float64]
Made = TypeVar("Made")

SAMPLED = 128 * 2**20
"""Bytes, as float32, of the sample of streamed rows for models that need all at once, some of them several times."""

PREDICTED = 16_384
"""Rows that a model which isn't a net predicts at once."""

EpochReport = Callable[[int, float, dict[str, float]], bool]
"""Called after each epoch with (epoch from 1, score at the best epoch so far, logs); True means: not worth more."""


@dataclass(frozen=True)
class Part:
    """Rows of one side of a fold.

    Args:
        rows: features.
        target: (n,), or (n, targets) for several.
        weight: (n,) what rows weigh in training, that of their class included; None for all the same. Where classes of
            several targets weigh, (n, targets).
        by_class: what their class contributes to that, in the same shape; None for nothing.
    """

    rows: Encoded
    target: npt.NDArray[np.float64]
    weight: npt.NDArray[np.float64] | None = None
    by_class: npt.NDArray[np.float64] | None = None

    @property
    def counts(self) -> npt.NDArray[np.float64] | None:
        """(n,) how often each row counts, whatever its class; None for once."""
        if self.by_class is None or self.weight is None:
            return self.weight
        counts = self.weight / self.by_class
        return counts if counts.ndim == 1 else counts[:, 0]

    def __len__(self) -> int:
        return len(self.target)

    def take(self, places: Places) -> Part:
        """The rows at these positions."""
        weight, by_class = (None if of is None else of[places] for of in (self.weight, self.by_class))
        return Part(self.rows.take(places), self.target[places], weight, by_class)

    def sample(self, seed: int) -> Part:
        """As many rows as memory should hold, at random but one of each target class at least; read into memory."""
        values = sum(array[:1].size for array in self.rows.arrays)
        most = max(SAMPLED // (4 * max(values, 1)), 1)
        order = np.random.default_rng(seed).permutation(len(self))
        several = self.target.ndim > 1
        first = np.empty(0, dtype=np.int64) if several else np.unique(self.target[order], return_index=True)[1]
        kept = order[:most] if len(first) > most else order[np.union1d(first, np.arange(min(most, len(order))))]
        kept = np.sort(kept)
        taken = self.take(kept)
        return replace(taken, rows=taken.rows.read())


@dataclass(frozen=True)
class Length:
    """How long to train where no rows are left to decide it.

    Args:
        steps: epochs, or rounds of boosting.
        rates: the learning rate of each epoch; empty for models without one.
        each: the steps of each of several targets, where each has a model of its own.
    """

    steps: int
    rates: tuple[float, ...] = ()
    each: tuple[int, ...] = ()

    def of_target(self, column: int) -> Length:
        """Of the model of one of several targets."""
        return Length(self.each[column]) if self.each else self


@dataclass(frozen=True)
class Fold:
    """One division into training and validation rows, with what was learnt from the training rows.

    Args:
        number: position among the folds, from 0.
        task: "binary", "multiclass", "ordinal", "regression" or "several".
        outputs: columns of a prediction: 1, or the number of classes for multiclass; of several targets, all theirs.
        cardinalities: codes per category column.
        metric: what trials are judged by.
        train: rows to learn from.
        valid: rows that judge.
        seed: seeds every random step of this fit.
        threads: how many the fit may use.
        seconds: a fit that takes longer ends with what it has learnt by then, where the family can.
        more_seconds: to be added for what is done in this fold for all of them, at most.
        last: position in `train` of the latest row by time, or None where the data has no time.
        memo: what `once` has made; may be shared with later fits on the same rows, in the same process.
        array_names: of the array columns.
        text_columns: the text columns.
        words: gives the words of each text column by its name, in the order of their numbers.
        targets: what they are, if there are several.
        row_memo: that of what is made of rows without their targets, where that is shared; else None.
        scaled_by: per array column, the category column by whose levels it and the target are scaled; see
            `Scaling`.
        naive: of forecasts, the place of simple ones among the values of the array column; see `Dataset.naive`.
        anchor: the place of the one whose difference from the target is learnt; -1 for none.
        store: folder of the study's rows; what takes long to make of them may be kept in it, for other trials.
        logarithm: whether the target's logarithm is what models learn if not said otherwise; None where they can't.
        length: of the training, where no rows decide it; the validation rows then are training rows.
        halves: positions of two halves of the validation rows; how long to train is decided on one for the other.
        board: the folder for what TensorBoard is to show of the fit; None for nothing.
    """

    number: int
    task: str
    outputs: int
    cardinalities: tuple[int, ...]
    metric: Metric
    train: Part
    valid: Part
    seed: int
    threads: int = 1
    seconds: float = math.inf
    more_seconds: float = 0.0
    last: int | None = None
    memo: dict[str, Any] = field(default_factory=dict)
    array_names: tuple[str, ...] = ()
    text_columns: tuple[TextColumn, ...] = ()
    words: Callable[[], Mapping[str, Sequence[str]]] = dict
    targets: tuple[Target, ...] = ()
    row_memo: dict[str, Any] | None = None
    scaled_by: tuple[int, ...] = ()
    naive: Mapping[str, int] = field(default_factory=dict)
    anchor: int = -1
    store: Path | None = None
    halves: tuple[Places, Places] | None = None
    logarithm: bool | None = None
    length: Length | None = None
    board: Path | None = None

    @property
    def preparation(self) -> Preparation:
        """Fitted on this fold's training rows."""
        target = self.train.target if self.task == "regression" else None
        return self.once(
            "preparation",
            lambda: Preparation.fit(
                self.train.rows,
                self.cardinalities,
                target,
                self.array_names,
                self.text_columns,
                Scaling(self.scaled_by, self.anchor, self.train.counts),
            ),
        )

    @property
    def deciding(self) -> tuple[Places, ...]:
        """Positions of the validation rows in the parts that decide how long to train: two halves, or all in one."""
        weight = np.ones(len(self.valid)) if self.valid.weight is None else self.valid.weight
        if self.halves is None or not all(weight[half].any() for half in self.halves):
            return (np.arange(len(self.valid)),)
        return self.halves

    @property
    def streamed(self) -> bool:
        """Whether its arrays are larger than memory should hold, and are read as they are needed."""
        return self.train.rows.lazy

    @property
    def in_memory(self) -> Fold:
        """The fold for a model that needs all rows at once: itself, or a sample of streamed rows that memory holds.

        What was learnt from all training rows, such as their scales, stays.
        """
        if not self.streamed:
            return self
        train, valid = self.train.sample(self.number), self.valid.sample(self.number)
        memo = {"preparation": self.preparation}
        return replace(self, train=train, valid=valid, last=None, memo=memo, row_memo=None, halves=None)

    def features(self, part: str, layout: str) -> dict[str, Any]:
        """The prepared rows of "train" or "valid", of streamed rows lazy ones; not to be changed."""
        rows = getattr(self, part).rows
        memo = self.memo if self.row_memo is None else self.row_memo
        return _once(memo, f"{part} as {layout}", lambda: self.preparation.apply(rows, layout))

    def of_target(self, column: int) -> Fold:
        """The same rows with one of several targets."""
        target = self.targets[column]

        def part(whole: Part) -> Part:
            weights = (whole.weight, whole.by_class)
            weight, by_class = (one[:, column] if one is not None and one.ndim > 1 else one for one in weights)
            return replace(whole, target=whole.target[:, column], weight=weight, by_class=by_class)

        own: dict[str, Any] = self.once(f"target {column}", dict)
        memo = self.memo if self.row_memo is None else self.row_memo
        return replace(
            self,
            task=target.task,
            outputs=target.outputs,
            train=part(self.train),
            valid=part(self.valid),
            memo=own,
            row_memo=memo,
            targets=(),
            length=None if self.length is None else self.length.of_target(column),
        )

    @property
    def of_logarithm(self) -> Fold:
        """The same rows for models that learn the logarithm of the target."""
        own: dict[str, Any] = self.once("logarithm", dict)
        own.setdefault("preparation", self.preparation.logarithmic(self.train.target, self.train.counts))
        return replace(self, memo=own, row_memo=self.memo if self.row_memo is None else self.row_memo)

    @property
    def relative(self) -> bool:
        """Whether models that otherwise learn the target as it is learn the standardised one."""
        return self.task == "regression" and self.preparation.relative

    def target(self, part: Part) -> npt.NDArray[np.float64]:
        """A part's target as such models learn it; their `ArrayModel` says "standardised" where `relative`."""
        return self.preparation.standardised(part.target, part.rows) if self.relative else part.target

    def once(self, name: str, make: Callable[[], Made]) -> Made:
        """What `make` makes of this fold's rows alone, made once: it must not depend on hyperparameters or the seed."""
        return _once(self.memo, name, make)


def _once(memo: dict[str, Any], name: str, make: Callable[[], Made]) -> Made:
    if name not in memo:
        memo[name] = make()
    made: Made = memo[name]
    return made


class Fitted(ABC):
    """A trained model of one fold.

    Attributes:
        best_epoch: that was kept, from 1; None for models without epochs.
        stopped: whether the report said that more is not worth it.
        out_of_fold: predictions of the validation rows where some of these rows decided how long to train: each half's
            by the epoch that is best on the other half. None where `predict` gives honest ones.
    """

    best_epoch: int | None = None
    stopped: bool = False
    out_of_fold: Predictions | None = None

    @abstractmethod
    def predict(self, rows: Encoded) -> Predictions:
        """Predictions of shape (n, outputs): values in the target's units, or probabilities."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the model's files into an existing folder."""


class Family(ABC):
    """A named factory with a search space and strong defaults.

    Attributes:
        name: unique in a study, a word for tables and folders.
        needs_tensorflow: whether its trials must run in a process with TensorFlow.
        cheap: whether it is fast enough to be the reference that costlier families have to beat.
        threaded: whether its fits are quicker with more threads.
        chooses_target: whether its trials search what to learn of a target that may be long-tailed: see `learnt`.
    """

    name: str
    needs_tensorflow: bool = False
    cheap: bool = False
    threaded: bool = False
    chooses_target: bool = False

    def portfolio(self, task: str, *, rows: int, temporal: bool) -> list[dict[str, Any]]:
        """Values worth trying right after the defaults.

        Args:
            task: of the data: "binary", "multiclass", "ordinal", "regression" or "several".
            rows: that a fold trains on.
            temporal: whether they have a time.
        """
        del task, rows, temporal
        return []

    def learnt(self, hp: HyperParameters, fold: Fold) -> Fold:
        """The fold as a trial learns it: of positive numbers either themselves or their logarithm."""
        if not self.chooses_target or fold.logarithm is None:
            return fold
        usual = "log" if fold.logarithm else "plain"
        return fold.of_logarithm if hp.Choice("target", ["plain", "log"], default=usual) == "log" else fold

    @abstractmethod
    def fit(self, hp: HyperParameters, fold: Fold, report: EpochReport) -> Fitted:
        """Train one model.

        Args:
            hp: asked for every hyperparameter; its defaults are the first trial. `hp.settle()` is called once all are
                known, before what costs time.
            fold: rows, target and preparation.
            report: to be called after each epoch, by families that have epochs.
        """

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


@dataclass
class ArrayModel(Fitted):
    """A fitted model that is arrays and a function of them.

    Args:
        kind: the exporter's word for it: "constant", "feature", "linear", "trees" or "neighbors".
        layout: which layout of `Preparation` it reads.
        preparation: of the fold.
        arrays: what `model.npz` holds.
        facts: what `model.json` holds beside kind and layout; "standardised" if the function returns the standardised
            target.
        function: predictions of the prepared features.
        files: what else is kept of the model, by file name: that of the library which trained it.
    """

    kind: str
    layout: str
    preparation: Preparation
    arrays: dict[str, npt.NDArray[Any]]
    function: Callable[[npt.NDArray[Any]], Predictions]
    facts: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def predict(self, rows: Encoded) -> Predictions:
        """Apply the function to the prepared rows, not too many at once: prepared they may be much larger."""
        step = min([PREDICTED, *(rows_at_once(array, PREDICTED) for array in rows.arrays if rows.lazy)])
        if len(rows) <= step and not rows.lazy:
            raw = self.function(self.preparation.apply(rows, self.layout)["features"])
            return self.preparation.in_units(raw, rows) if self.facts.get("standardised") else raw
        parts = [np.arange(start, min(start + step, len(rows))) for start in range(0, len(rows), step)]
        return np.concatenate([self.predict(rows.take(part).read()) for part in parts])

    def save(self, folder: Path) -> None:
        """Write `model.json`, `model.npz` and `preparation.npz`."""
        save_facts(folder, self.kind, self.layout, self.facts)
        np.savez_compressed(folder / "model.npz", allow_pickle=False, **self.arrays)
        np.savez(folder / "preparation.npz", allow_pickle=False, **self.preparation.to_arrays())
        for name, content in self.files.items():
            (folder / name).write_bytes(content)


def save_facts(folder: Path, kind: str, layout: str, facts: dict[str, Any]) -> None:
    """Write `model.json`."""
    (folder / "model.json").write_text(json.dumps({"kind": kind, "layout": layout, **facts}, indent=1))


def load_facts(folder: Path) -> dict[str, Any]:
    """Read `model.json`."""
    facts: dict[str, Any] = json.loads((folder / "model.json").read_text())
    return facts


def link(raw: npt.NDArray[Any], name: str) -> Predictions:
    """Apply "identity", "sigmoid" or "softmax" to raw outputs of shape (n, outputs)."""
    raw = np.asarray(raw, dtype=np.float64)
    if name == "sigmoid":
        return np.asarray(1.0 / (1.0 + np.exp(-raw)))
    if name == "softmax":
        shifted = np.exp(raw - raw.max(axis=1, keepdims=True))
        return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))
    return raw


def link_for(task: str) -> str:
    """The link that turns raw outputs into predictions for a task."""
    return {"binary": "sigmoid", "regression": "identity"}.get(task, "softmax")
