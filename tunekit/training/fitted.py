"""A trained net of one fold, and how rows go into it and predictions come out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from tunekit.bundle.tasks import MANY_CLASSES
from tunekit.data.preparation import ALONE, BY_NAME, RAW, Preparation
from tunekit.data.scales import mean_and_spread
from tunekit.data.schema import COLUMN_INPUTS, Encoded
from tunekit.data.targets import Target, places
from tunekit.errors import TrialError
from tunekit.families import Fitted, Fold, NetData, Part
from tunekit.families.base import Predictions, save_facts
from tunekit.training.traced import TracedModel

if TYPE_CHECKING:
    import keras


ONE_HOT_LOSSES = {"categoricalcrossentropy", "categoricalfocalcrossentropy", "categoricalhinge", "kldivergence"}
"""Keras' losses that take classes one-hot, by the letters of their names."""

SUMMARY_WIDTH = 110
"""Characters of a line in which a net's layers are told."""


class Front(Protocol):
    """What stands before the model that is trained: it doesn't change, so what it makes of rows is made once."""

    @property
    def whole(self) -> keras.Model:
        """Both as one model, from a layout's arrays to predictions, with the trained model's weights."""

    def inputs(self, fold: Fold, part: str) -> Any:
        """What the model takes of a fold's "train" or "valid" rows."""

    def of(self, rows: Encoded) -> Any:
        """What the model takes of any rows."""


@dataclass
class FittedNet(Fitted):
    """A trained net.

    Args:
        traced: the Keras model with the best epoch's weights, until another fold takes it over.
        preparation: of the fold.
        layout: "columns", "flat", "array x" or "raw x".
        regression: whether its output is the standardised target.
        columns: of its output.

    Attributes:
        front: what stands before the model, or None where it reads the layout's arrays itself.
        pace: seconds of an epoch, after the first; None if nobody knows.
    """

    traced: TracedModel
    preparation: Preparation
    layout: str
    regression: bool
    columns: int

    front: Front | None = field(default=None, init=False)
    pace: float | None = field(default=None, init=False)

    @property
    def model(self) -> keras.Model:
        """The Keras model."""
        return self.traced.model

    @property
    def saved(self) -> keras.Model:
        """The model whose weights are kept: from a layout's arrays to predictions."""
        return self.model if self.front is None else self.front.whole

    def inputs(self, fold: Fold, part: str) -> Any:
        """What the model takes of a fold's "train" or "valid" rows."""
        if self.front is not None:
            return self.front.inputs(fold, part)
        return net_inputs(self.model, fold.features(part, self.layout), self.layout)

    def predict(self, rows: Encoded) -> Predictions:
        """See `Fitted.predict`."""
        if self.front is not None:
            x = self.front.of(rows)
        else:
            x = net_inputs(self.model, self.preparation.apply(rows, self.layout), self.layout)
        return self.finish(self.traced.predict(x, len(rows)), rows)

    def finish(self, raw: npt.NDArray[Any], rows: Encoded) -> Predictions:
        """From the net's outputs for these rows to predictions."""
        raw = np.asarray(raw, dtype=np.float64)
        return self.preparation.in_units(raw, rows) if self.regression else raw

    def layers(self) -> str:
        """Keras's table of the net's layers, their shapes and parameters."""
        lines: list[str] = []
        self.saved.summary(line_length=SUMMARY_WIDTH, print_fn=lines.append)
        return "\n".join(lines) + "\n"

    def save(self, folder: Path) -> None:
        """Write the weights, what is needed to rebuild the net around them, and the preparation."""
        save_facts(folder, "keras", self.layout, {"columns": self.columns})
        model = self.saved
        optimizer = getattr(model, "optimizer", None)
        model.optimizer = None  # its state is of no use to predict, and takes twice the room
        model.save_weights(folder / "model.weights.h5")
        model.optimizer = optimizer
        np.savez(folder / "preparation.npz", allow_pickle=False, **self.preparation.to_arrays())


@dataclass
class SeveralNet(FittedNet):
    """A net with an output for each of several targets.

    Args:
        targets: what they are.
        center: (outputs,) means of the numbers among them, else 0.
        scale: (outputs,) their standard deviations, else 1.
    """

    targets: tuple[Target, ...]
    center: npt.NDArray[np.float64]
    scale: npt.NDArray[np.float64]

    @classmethod
    def of(cls, traced: TracedModel, fold: Fold, layout: str) -> SeveralNet:
        """The net of a fold, untrained."""
        center, scale = np.zeros(fold.outputs), np.ones(fold.outputs)
        for column, target, outputs in places(fold.targets):
            if target.task == "regression":
                values = fold.train.target[:, column]
                center[outputs], scale[outputs] = mean_and_spread(values, fold.train.counts)
        return cls(traced, fold.preparation, layout, False, fold.outputs, fold.targets, center, scale)

    def target(self, part: Part) -> dict[str, npt.NDArray[Any]]:
        """A part's targets as the losses take them: see `net_target`."""
        made: dict[str, npt.NDArray[Any]] = {}
        for column, target, outputs in places(self.targets):
            values = part.target[:, column]
            scaled = ((values[:, None] - self.center[outputs]) / self.scale[outputs]).astype(np.float32)
            made[target.name] = values.astype(np.int32) if target.task in MANY_CLASSES else scaled
        return made

    def finish(self, raw: Any, rows: Encoded) -> Predictions:
        """See `FittedNet.finish`."""
        del rows
        parts = [np.asarray(raw[target.name], dtype=np.float64) for target in self.targets]
        return np.concatenate(parts, axis=1) * self.scale + self.center

    def save(self, folder: Path) -> None:
        """See `FittedNet.save`."""
        super().save(folder)
        np.savez(folder / "model.npz", allow_pickle=False, center=self.center, scale=self.scale)


class BinaryPairNet(FittedNet):
    """A net for two classes with a softmax over both: the second is kept."""

    def finish(self, raw: npt.NDArray[Any], rows: Encoded) -> Predictions:
        """See `FittedNet.finish`."""
        del rows
        return np.asarray(raw, dtype=np.float64)[:, 1:]


def alone_shape(data: NetData, layout: str) -> tuple[int, ...]:
    """The shape of the one input of a model that reads no columns."""
    return _alone(data)[layout.partition(" ")[2]] if layout.startswith((ALONE, RAW)) else (data.features,)


def _alone(data: NetData) -> dict[str, tuple[int, ...]]:
    """The shapes of the columns that a model may read alone."""
    return data.arrays | {name: (text.length,) for name, text in data.texts.items()}


def layout_of(model: keras.Model, data: NetData) -> str:
    """The layout that a model reads.

    "columns" for a model whose inputs are named as `NetData` names them, or "columns plain" if "plain" is among them;
    "array x" for one with a single input of an array's shape, or with none that is known yet, where the data is that
    array; else "flat".
    """
    alone = _alone(data)
    only = next(iter(alone)) if len(alone) == 1 and not data.has_columns else None
    if not model.built or not getattr(model, "inputs", None):
        return "flat" if only is None else ALONE + only
    names = {tensor.name for tensor in model.inputs}
    if names <= COLUMN_INPUTS | set(alone):
        return "columns plain" if "plain" in names else "columns"
    shapes = [tuple(tensor.shape[1:]) for tensor in model.inputs]
    fitting = [name for name, shape in alone.items() if shapes == [shape]]
    return ALONE + fitting[0] if len(fitting) == 1 else "flat"


def net_inputs(model: keras.Model, arrays: dict[str, npt.NDArray[Any]], layout: str) -> Any:
    """What the model takes of prepared rows: arrays by input name, or one matrix."""
    if layout not in BY_NAME:
        return arrays["features"]
    import keras

    only = getattr(model, "_inputs_struct", None)  # a model of one bare tensor warns of a dict
    if isinstance(only, keras.KerasTensor):
        return arrays[only.name]
    return {tensor.name: arrays[tensor.name] for tensor in model.inputs}


def net_target(fold: Fold, part: Part, one_hot: int | None = None) -> npt.NDArray[Any]:
    """The target as the losses take it.

    Args:
        fold: of the rows.
        part: the rows; those that a teacher labels may have a share of each class, (n, classes), for a target.
        one_hot: columns to give to classes, if there are several; else they are positions.

    Returns:
        Standardised floats (n, 1); 0/1 floats (n, 1) for two classes; positions (n,); or one-hot floats (n, one_hot).
    """
    if part.target.ndim > 1:
        return part.target.astype(np.float32)
    if fold.task == "regression":
        scaled = fold.preparation.standardised(part.target, part.rows)
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


def shapes_of(model: keras.Model) -> list[tuple[int, ...]]:
    """The shapes of a net's weights: another net of the same shapes is a clone of it."""
    return [tuple(weight.shape) for weight in model.weights]


def target_of(fitted: FittedNet, fold: Fold, part: Part) -> Any:
    """A part's target as the losses of the net take it."""
    if isinstance(fitted, SeveralNet):
        return fitted.target(part)
    return net_target(fold, part, fitted.columns if wants_one_hot(fitted.model) else None)


def weight_of(fold: Fold, part: Part) -> Any:
    """(n,) what a part's rows weigh as `fit` takes it, or one for each target by its name; None for all the same."""
    if part.weight is None or part.weight.ndim == 1:
        return part.weight
    return {target.name: part.weight[:, column] for column, target, _ in places(fold.targets)}


def check_predictions(predictions: Predictions, fold: Fold) -> Predictions:
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
    parts = [(target.task, predictions[:, outputs]) for _, target, outputs in places(fold.targets)]
    for task, part in parts or [(fold.task, predictions)]:
        low, high = float(part.min()), float(part.max())
        if task != "regression" and (low < -1e-6 or high > 1 + 1e-6):
            raise TrialError(
                f"the model's outputs run from {low:.3g} to {high:.3g}; expected probabilities: end with "
                "data.keras_head(x), or a sigmoid or softmax, and a loss without from_logits"
            )
    return predictions
