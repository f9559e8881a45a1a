"""Fits one net on one fold: early stopping, best-epoch weights, learning-rate reduction, and the stopper's word."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tunekit.data.preparation import ALONE, Preparation
from tunekit.data.schema import Encoded
from tunekit.errors import FactoryError, TrialError
from tunekit.families import Fitted, Fold, Keras, NetData, NetFamily, Part
from tunekit.families.base import EpochReport, Predictions, save_facts
from tunekit.space import HyperParameters, Value
from tunekit.training.loop import TracedModel, fit, seed_all

if TYPE_CHECKING:
    import keras

COLUMN_INPUTS = {"numbers", "codes"}

ONE_HOT_LOSSES = {"categoricalcrossentropy", "categoricalfocalcrossentropy", "categoricalhinge", "kldivergence"}
"""Keras' losses that take classes one-hot, by the letters of their names."""


@dataclass
class FittedNet(Fitted):
    """A trained net.

    Args:
        traced: the Keras model with the best epoch's weights, until another fold takes it over.
        preparation: of the fold.
        layout: "columns", "flat" or "array x".
        regression: whether its output is the standardised target.
        columns: of its output.
    """

    traced: TracedModel
    preparation: Preparation
    layout: str
    regression: bool
    columns: int

    @property
    def model(self) -> keras.Model:
        """The Keras model."""
        return self.traced.model

    def predict(self, rows: Encoded) -> Predictions:
        """See `Fitted.predict`."""
        x = net_inputs(self.model, self.preparation.apply(rows, self.layout), self.layout)
        return self.finish(self.traced.predict(x, len(rows)))

    def finish(self, raw: npt.NDArray[Any]) -> Predictions:
        """From the net's outputs to predictions."""
        raw = np.asarray(raw, dtype=np.float64)
        if self.regression:
            return np.asarray(raw * self.preparation.target_scale + self.preparation.target_center)
        return raw

    def save(self, folder: Path) -> None:
        """Write the weights, what is needed to rebuild the net around them, and the preparation."""
        save_facts(folder, "keras", self.layout, {"columns": self.columns})
        optimizer = getattr(self.model, "optimizer", None)
        self.model.optimizer = None  # its state is of no use to predict, and takes twice the room
        self.model.save_weights(folder / "model.weights.h5")
        self.model.optimizer = optimizer
        np.savez(folder / "preparation.npz", allow_pickle=False, **self.preparation.to_arrays())


class BinaryPairNet(FittedNet):
    """A net for two classes with a softmax over both: the second is kept."""

    def finish(self, raw: npt.NDArray[Any]) -> Predictions:
        """See `FittedNet.finish`."""
        return np.asarray(raw, dtype=np.float64)[:, 1:]


class NetFitter:
    """Fits the nets of one trial, fold after fold; what was traced for one fold serves the next.

    Args:
        family: builds the nets.
    """

    def __init__(self, family: NetFamily) -> None:
        self._family = family
        self._traced: TracedModel | None = None
        self._data: NetData | None = None

    def fit(self, hp: HyperParameters, fold: Fold, report: EpochReport) -> FittedNet:
        """Train a net on a fold. The net of the fold before must have been saved: its variables are taken over.

        Raises:
            FactoryError: the factory's model does not fit the task.
            TrialError: the loss became NaN.
        """
        family = self._family
        author = family if isinstance(family, Keras) and family.own_fit else None
        seed_all(fold.seed, keep_graphs=self._traced is not None)
        data = NetData.of(fold)
        fresh = family.build(hp, data)
        layout = layout_of(fresh, data)
        if not fresh.built:
            fresh(_first(net_inputs(fresh, fold.features("train", layout), layout), 2))
        columns = check_outputs(family, fresh, data)
        kind = BinaryPairNet if fold.task == "binary" and columns == 2 else FittedNet
        # An author's fit may know the fresh model, its layers or its optimizer by other names.
        traced = TracedModel(fresh) if author else self._taken_over(fresh, data, layout)
        fitted = kind(traced, fold.preparation, layout, fold.task == "regression", columns)
        if author:
            from tunekit.training.hypermodel import fit_by_author

            fit_by_author(author, hp, fitted, fold, report)
        else:
            batch_size = family.batch_size(hp, data)
            hp.settle()
            self._train(fitted, fold, report, batch_size)
        return fitted

    def _train(self, fitted: FittedNet, fold: Fold, report: EpochReport, batch_size: int) -> None:
        import keras

        from tunekit.training.judge import Judge

        family, model = self._family, fitted.model
        judge = Judge(fitted, fold, report)
        random = np.random.default_rng(fold.seed)
        fit(
            fitted.traced,
            net_inputs(model, fold.features("train", fitted.layout), fitted.layout),
            net_target(fold, fold.train, fitted.columns if wants_one_hot(model) else None),
            batch_size=batch_size,
            epochs=family.epochs,
            callbacks=[
                judge,
                keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=max(family.patience // 3, 1)),
                keras.callbacks.EarlyStopping("val_loss", patience=family.patience, restore_best_weights=True),
                *family.callbacks(),
            ],
            sample_weight=fold.train.weight,
            order=lambda epoch: random.permutation(len(fold.train)),
        )
        fitted.best_epoch = judge.best_epoch
        fitted.stopped = judge.stopped

    def _taken_over(self, fresh: keras.Model, data: NetData, layout: str) -> TracedModel:
        """The traced model with the fresh one's variables, if the factory was told the same for both."""
        told = data if layout == "flat" else replace(data, features=0)
        if self._traced is None or told != self._data or not self._traced.take_over(fresh):
            self._traced = TracedModel(fresh)
        self._data = told
        return self._traced


def fit_net(family: NetFamily, hp: HyperParameters, fold: Fold, report: EpochReport) -> FittedNet:
    """Train a net on a single fold: see `NetFitter.fit`."""
    return NetFitter(family).fit(hp, fold, report)


def rebuild(
    family: NetFamily,
    values: dict[str, Value],
    folder: Path,
    shape: tuple[str, int, tuple[int, ...]],
    rows: int,
) -> keras.Model:
    """The net that a fold's folder holds, from its factory and its weights: no code is loaded from a file.

    Args:
        family: as in the study.
        values: the trial's.
        folder: of the fold.
        shape: task, outputs and cardinalities.
        rows: training rows, which some defaults depend on.
    """
    with np.load(folder / "preparation.npz") as arrays:
        preparation = Preparation.from_arrays(arrays)
    data = NetData.shaped(preparation, *shape, rows)
    model = family.build(HyperParameters(lambda dimension: values.get(dimension.name, dimension.default)), data)
    if not model.built:
        model.build((None, *_alone(data, layout_of(model, data))))
    model.optimizer = None  # its variables may be in the file; Keras would warn if they didn't fit
    model.load_weights(folder / "model.weights.h5")
    return model


def _alone(data: NetData, layout: str) -> tuple[int, ...]:
    """The shape of the one input of a model that reads no columns."""
    return data.arrays[layout.removeprefix(ALONE)] if layout.startswith(ALONE) else (data.features,)


def layout_of(model: keras.Model, data: NetData) -> str:
    """The layout that a model reads.

    "columns" for a model whose inputs are named as `NetData.keras_inputs` names them; "array x" for one with a single
    input of an array's shape, or with none that is known yet, where the data is that array; else "flat".
    """
    only = next(iter(data.arrays)) if len(data.arrays) == 1 and not data.has_columns else None
    if not model.built or not getattr(model, "inputs", None):
        return "flat" if only is None else ALONE + only
    names = {tensor.name for tensor in model.inputs}
    if names <= COLUMN_INPUTS | set(data.arrays):
        return "columns"
    shapes = [tuple(tensor.shape[1:]) for tensor in model.inputs]
    fitting = [name for name, shape in data.arrays.items() if shapes == [shape]]
    return ALONE + fitting[0] if len(fitting) == 1 else "flat"


def net_inputs(model: keras.Model, arrays: dict[str, npt.NDArray[Any]], layout: str) -> Any:
    """What the model takes of prepared rows: arrays by input name, or one matrix."""
    if layout != "columns":
        return arrays["features"]
    return {tensor.name: arrays[tensor.name] for tensor in model.inputs}


def net_target(fold: Fold, part: Part, one_hot: int | None = None) -> npt.NDArray[Any]:
    """The target as the losses take it.

    Args:
        fold: of the rows.
        part: the rows.
        one_hot: columns to give to classes, if there are several; else they are positions.

    Returns:
        Standardised floats (n, 1); 0/1 floats (n, 1) for two classes; positions (n,); or one-hot floats (n, one_hot).
    """
    if fold.task == "regression":
        scaled = (part.target - fold.preparation.target_center) / fold.preparation.target_scale
        return scaled.astype(np.float32)[:, None]
    if one_hot is not None and one_hot > 1:
        return np.eye(one_hot, dtype=np.float32)[part.target.astype(np.int32)]
    return part.target.astype(np.float32)[:, None] if fold.task == "binary" else part.target.astype(np.int32)


def wants_one_hot(model: keras.Model) -> bool:
    """Whether the model was compiled with a loss that takes classes one-hot, as KerasTuner's own models are."""
    loss = getattr(model, "loss", None)
    if isinstance(loss, (list, tuple, dict)):  # one for each output, and there is one output
        loss = next(iter(loss.values() if isinstance(loss, dict) else loss), None)
    names = (loss, getattr(loss, "__name__", None), type(loss).__name__)
    return any(isinstance(name, str) and name.lower().replace("_", "") in ONE_HOT_LOSSES for name in names)


def check_outputs(family: NetFamily, model: keras.Model, data: NetData) -> int:
    """The columns of the model's output; refuses a model whose output can't be a prediction for the task."""
    shape = _output_shape(model, data)
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

    if hasattr(model, "output_shape"):
        return model.output_shape
    outputs = model(keras.Input((data.features,)))  # a subclassed model doesn't know its shape
    return keras.tree.map_structure(lambda tensor: tensor.shape, outputs)


def check_predictions(predictions: Predictions, task: str) -> Predictions:
    """The predictions, if they can be judged.

    Raises:
        TrialError: they are not finite, or not probabilities where those are needed.
    """
    if not np.isfinite(predictions).all():
        bad = int((~np.isfinite(predictions)).sum())
        raise TrialError(
            f"{bad} of {predictions.size} predictions are NaN or infinite; expected finite numbers: the model "
            "diverged, so lower the learning rate or clip gradients"
        )
    low, high = float(predictions.min()), float(predictions.max())
    if task != "regression" and (low < -1e-6 or high > 1 + 1e-6):
        raise TrialError(
            f"the model's outputs run from {low:.3g} to {high:.3g}; expected probabilities: end with "
            "data.keras_head(x), or a sigmoid or softmax, and a loss without from_logits"
        )
    return predictions


def _first(x: Any, rows: int) -> Any:
    return {name: array[:rows] for name, array in x.items()} if isinstance(x, dict) else x[:rows]
