"""Fits one net on one fold: early stopping, best-epoch weights, learning-rate reduction, and the stopper's word."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tunekit.data.preparation import Preparation
from tunekit.data.targets import Target
from tunekit.errors import FactoryError
from tunekit.families import Fold, Keras, NetData, NetFamily, Pretrained
from tunekit.families.base import EpochReport
from tunekit.space import HyperParameters, Value
from tunekit.training.fitted import (
    BinaryPairNet,
    FittedNet,
    SeveralNet,
    alone_shape,
    layout_of,
    net_inputs,
    target_of,
)
from tunekit.training.loop import seed_all
from tunekit.training.traced import TracedModel

if TYPE_CHECKING:
    import keras


MOST_DRAWN = 10_000
"""Training rows that values to begin with are made of."""


class NetFitter:
    """Fits the nets of one trial, fold after fold; what was traced for one fold serves the next.

    Args:
        family: builds the nets.
    """

    def __init__(self, family: NetFamily) -> None:
        self._family = family
        self._traced: TracedModel | None = None
        self._data: NetData | None = None
        self._phases: Any = None

    def fit(self, hp: HyperParameters, fold: Fold, report: EpochReport) -> FittedNet:
        """Train a net on a fold. The net of the fold before must have been saved: its variables are taken over.

        Raises:
            FactoryError: the factory's model does not fit the task.
            TrialError: the loss became NaN.
        """
        family = self._family
        author = family if isinstance(family, Keras) and family.own_fit else None
        seed_all(fold.seed, keep_graphs=not (self._traced is None and self._phases is None))
        data = NetData.of(fold)
        fresh = family.build(hp, data)
        layout = family.layout(data) or layout_of(fresh, data)
        if not fresh.built:
            fresh(_first(net_inputs(fresh, fold.features("train", layout), layout), 2))
        if layout == "flat" and data.texts:
            raise FactoryError(
                f"factory {family.name!r}: the model reads one matrix, which has no room for the texts "
                f"{', '.join(data.texts)}; expected inputs as data.keras_inputs() or data.keras_text() makes them"
            )
        columns = check_outputs(family, fresh, data)
        family.initialise(fresh, partial(_drawn, untrained(TracedModel(fresh), fold, layout, columns), fold), fold.seed)
        if isinstance(family, Pretrained):
            return self._fit_on_base(family, hp, fold, report, fresh, columns)
        # An author's fit may know the fresh model, its layers or its optimizer by other names.
        traced = TracedModel(fresh) if author else self._taken_over(fresh, data, layout)
        fitted = untrained(traced, fold, layout, columns)
        if author:
            from tunekit.training.hypermodel import fit_by_author

            fit_by_author(author, hp, fitted, fold, report)
        else:
            batch_size = family.batch_size(hp, data)
            hp.settle()
            self._train(fitted, fold, report, batch_size)
        return fitted

    def _train(self, fitted: FittedNet, fold: Fold, report: EpochReport, batch_size: int) -> None:
        from tunekit.training.judge import Judge
        from tunekit.training.phase import train, train_unjudged

        family = self._family
        if fold.length is not None:
            train_unjudged(fitted, fold, family, batch_size)
            return
        judge = Judge(fitted, fold, report)
        steering = family.steering(judge.deadline)
        train(fitted, fold, judge, batch_size, epochs=family.epochs, steering=steering, callbacks=family.callbacks())
        fitted.best_epoch, fitted.pace = judge.best_epoch, judge.deadline.pace
        fitted.stopped, fitted.out_of_fold = judge.stopped, judge.out_of_fold

    def _fit_on_base(
        self,
        family: Pretrained,
        hp: HyperParameters,
        fold: Fold,
        report: EpochReport,
        fresh: keras.Model,
        columns: int,
    ) -> FittedNet:
        from tunekit.training.transfer import Phases

        self._phases = self._phases or Phases(family)
        fitted: FittedNet = self._phases.fit(hp, fold, report, fresh, columns)
        return fitted

    def _taken_over(self, fresh: keras.Model, data: NetData, layout: str) -> TracedModel:
        """The traced model with the fresh one's variables, if the factory was told the same for both."""
        told = data if layout == "flat" else replace(data, features=0)
        if self._traced is None or told != self._data or not self._traced.take_over(fresh):
            self._traced = TracedModel(fresh)
        self._data = told
        return self._traced


def untrained(traced: TracedModel, fold: Fold, layout: str, columns: int) -> FittedNet:
    """A net before its training, of the kind that suits the fold's task and the model's output columns."""
    if fold.targets:
        return SeveralNet.of(traced, fold, layout)
    kind = BinaryPairNet if fold.task == "binary" and columns == 2 else FittedNet
    return kind(traced, fold.preparation, layout, fold.task == "regression", columns)


def fit_net(family: NetFamily, hp: HyperParameters, fold: Fold, report: EpochReport) -> FittedNet:
    """Train a net on a single fold: see `NetFitter.fit`."""
    return NetFitter(family).fit(hp, fold, report)


def rebuild(
    family: NetFamily,
    values: dict[str, Value],
    folder: Path,
    shape: tuple[str, int, tuple[int, ...]],
    rows: int,
    targets: tuple[Target, ...] = (),
) -> keras.Model:
    """The net that a fold's folder holds, from its factory and its weights: no code is loaded from a file.

    Args:
        family: as in the study.
        values: the trial's.
        folder: of the fold.
        shape: task, outputs and cardinalities.
        rows: training rows, which some defaults depend on.
        targets: what they are, if there are several; the net then has one output, of all theirs side by side.
    """
    with np.load(folder / "preparation.npz") as arrays:
        preparation = Preparation.from_arrays(arrays)
    data = replace(NetData.shaped(preparation, *shape, rows), targets=targets)
    model = family.build(HyperParameters(lambda dimension: values.get(dimension.name, dimension.default)), data)
    if not model.built:
        model.build((None, *alone_shape(data, family.layout(data) or layout_of(model, data))))
    optimizer = getattr(model, "optimizer", None)
    model.optimizer = None  # its variables may be in the file; Keras would warn if they didn't fit
    model.load_weights(folder / "model.weights.h5")
    model.optimizer = optimizer
    return _side_by_side(model, targets) if targets else model


def _side_by_side(model: keras.Model, targets: tuple[Target, ...]) -> keras.Model:
    import keras

    outputs = [model.output[target.name] for target in targets]
    return keras.Model(model.inputs, keras.layers.Concatenate()(outputs))


def check_outputs(family: NetFamily, model: keras.Model, data: NetData) -> int:
    """The columns of the model's output; refuses a model whose output can't be a prediction for the task."""
    shape = _output_shape(model, data)
    if data.targets:
        expected = {target.name: (None, target.outputs) for target in data.targets}
        if not isinstance(shape, dict) or shape != expected:
            raise FactoryError(
                f"factory {family.name!r}: the model's outputs have the shapes {shape}; expected {expected}, one for "
                "each target by its name: end with keras.Model(inputs, data.keras_head(x))"
            )
        return data.outputs
    if not isinstance(shape, tuple) or len(shape) != 2 or not isinstance(shape[1], int):
        raise FactoryError(
            f"factory {family.name!r}: the model's output has shape {shape}; expected (rows, {data.outputs}) for a "
            f"{data.task} target: is a Flatten or pooling layer missing, or is there more than one output?"
        )
    accepted = (1, 2) if data.task == "binary" else (data.outputs,)
    if shape[-1] not in accepted:
        raise FactoryError(
            f"factory {family.name!r}: the model has {shape[-1]} output units; expected {data.outputs} for a "
            f"{data.task} target: end with data.keras_head(x), or Dense with that many units"
        )
    return shape[1]


def _output_shape(model: keras.Model, data: NetData) -> Any:
    import keras

    if getattr(model, "inputs", None):
        return {name: tuple(one.shape) for name, one in model.output.items()} if _is_dict(model) else model.output_shape
    outputs = model(keras.Input(alone_shape(data, layout_of(model, data))))  # a subclassed model doesn't know its shape
    return keras.tree.map_structure(lambda tensor: tensor.shape, outputs)


def _is_dict(model: keras.Model) -> bool:
    return isinstance(getattr(model, "output", None), dict)


def _drawn(fitted: FittedNet, fold: Fold) -> tuple[Any, Any]:
    """Some training rows as a net takes them, in an order by seed; and all targets as its loss takes them."""
    counts, target = fold.train.counts, target_of(fitted, fold, fold.train)
    there = np.arange(len(fold.train)) if counts is None else np.flatnonzero(counts)
    rows = np.random.default_rng(fold.seed).permutation(there)[:MOST_DRAWN]
    x = fitted.inputs(fold, "train")
    drawn = {name: array[rows] for name, array in x.items()} if isinstance(x, dict) else x[rows]
    return drawn, {name: of[there] for name, of in target.items()} if isinstance(target, dict) else target[there]


def _first(x: Any, rows: int) -> Any:
    return {name: array[:rows] for name, array in x.items()} if isinstance(x, dict) else x[:rows]
