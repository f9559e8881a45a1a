"""A net of an earlier study as a base: rebuilt by its factory, given its weights, and cut before its head."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tunekit.data.preparation import ALONE, RAW, Preparation
from tunekit.data.targets import Target
from tunekit.errors import FactoryError
from tunekit.families import NetData, NetFamily
from tunekit.space import Value
from tunekit.training.fitted import layout_of
from tunekit.training.nets import rebuild

if TYPE_CHECKING:
    import keras

HEADS = ("heads", "head")
"""The layer that `NetData.keras_head` makes; where it makes both, the first is what reads the features."""

FILES = ("model.weights.h5", "preparation.npz")
"""What a fold's folder holds of a net."""


@dataclass(frozen=True)
class EarlierNet:
    """A net that a study has trained; calling it gives a Keras model without its head, from pixels to features.

    It travels to other processes as it is: values and arrays, no code but its family.

    Args:
        label: of the trial, for messages.
        family: that built it.
        values: of the trial.
        shape: task, outputs and cardinalities of its study.
        rows: it was trained on.
        targets: what they are, if there are several.
        files: the contents of `FILES`.
    """

    label: str
    family: NetFamily
    values: dict[str, Value]
    shape: tuple[str, int, tuple[int, ...]]
    rows: int
    targets: tuple[Target, ...]
    files: dict[str, bytes]

    @property
    def digest(self) -> str:
        """Of its weights."""
        return hashlib.sha256(self.files[FILES[0]]).hexdigest()[:12]

    def __call__(self) -> keras.Model:
        """The base: pixels as its study's data had them, scaled as its fold scaled them, up to what the head read.

        Raises:
            FactoryError: it is no net of pictures, or it has no head to be cut off.
        """
        import keras

        with tempfile.TemporaryDirectory() as folder:
            for name, content in self.files.items():
                (Path(folder) / name).write_bytes(content)
            model = rebuild(self.family, self.values, Path(folder), self.shape, self.rows, self.targets)
            with np.load(Path(folder) / "preparation.npz") as arrays:
                preparation = Preparation.from_arrays(arrays)
        data = NetData.shaped(preparation, *self.shape, self.rows)
        name = self._picture(model, data)
        pixels = data.keras_array(name)
        scale = next(one for one in preparation.arrays if one.name == name)
        if scale.by >= 0:
            raise FactoryError(f"{self.label} scales each series by its own past; expected a net of pictures")
        raw = (self.family.layout(data) or "").startswith(RAW)
        x = pixels if raw else (pixels - scale.center) * scale.factor
        return keras.Model(pixels, self._cut(model)(x, training=False))

    def _picture(self, model: keras.Model, data: NetData) -> str:
        """The array column that the net reads."""
        layout = self.family.layout(data) or layout_of(model, data)
        names = [tensor.name for tensor in model.inputs]
        if layout.startswith((ALONE, RAW)):
            return layout.partition(" ")[2]
        if layout == "columns" and len(names) == 1 and names[0] in data.arrays:
            return str(names[0])
        told = ", ".join(names) if layout == "columns" else "one matrix"
        raise FactoryError(f"{self.label} reads {told}; expected a net that reads pictures alone, such as a convnet's")

    def _cut(self, model: keras.Model) -> keras.Model:
        """The net without its head, and without the dropout that stands before it."""
        import keras

        names = {layer.name: layer for layer in model.layers}
        head = next((names[name] for name in HEADS if name in names), None)
        if head is None:
            raise FactoryError(
                f"{self.label} has no layer named {HEADS[1]!r} (it has {', '.join(names)}); expected a net that ends "
                "with data.keras_head(x): what comes before that becomes the base"
            )
        features = head.input
        makers: dict[int, Any] = {id(layer.output): layer for layer in model.layers}
        while isinstance(makers.get(id(features)), keras.layers.Dropout):
            features = makers[id(features)].input
        return keras.Model(model.inputs[0], features)
