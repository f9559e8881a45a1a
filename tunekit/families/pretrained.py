"""A base that was trained on other data, with a new head: first frozen, then its top blocks tuned along."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tunekit.data.preparation import RAW
from tunekit.errors import FactoryError
from tunekit.families.convnet import augmented
from tunekit.families.mlp import adamw
from tunekit.families.nets import NetData, NetFamily
from tunekit.space import HyperParameters

if TYPE_CHECKING:
    import keras

FEATURES = "features"
"""The layer where the base ends: what the head reads, (batch, width)."""

BLOCKS = 4
"""A base's layers with weights, normalisation aside, are so many groups of equal number, from bottom to top."""

ENDINGS = (".weights.h5", ".keras", ".h5")
"""Of files with weights: of `save_weights`, of `save`, and of Keras before its third version."""

GRAY = (0.299, 0.587, 0.114)
"""How bright red, green and blue are (ITU-R BT.601), as in Pillow's conversion to gray."""


class Pretrained(NetFamily):
    """A pretrained base under a new head, trained in the order that keeps what the base knows.

    1. The base is frozen. What it makes of each picture is computed once, and kept for every fold and trial of the
       study. The head is trained on that: an epoch costs next to nothing.
    2. If `unfreeze` says so, the top blocks of the base join: the net is compiled anew with a small rate, and head and
       blocks are trained together, on pictures that are shifted, turned and zoomed a little. The best epoch of both
       phases stays.

    Layers of batch normalisation stay in inference mode throughout: a few batches of new pictures would spoil what
    they know of many (Chollet: https://keras.io/guides/transfer_learning). So do dropout and augmentation in the base.
    Numbers and categories beside the pictures are not read.

    Args:
        base: returns a Keras model without its head, such as `lambda: keras.applications.MobileNetV2(include_top=False,
            weights=None, input_shape=(96, 96, 3))`; or `tk.from_study(...)`, a net of an earlier study.
        weights: a file of the base's weights: `.weights.h5`, `.keras`, or `.h5` in the format of earlier Keras, as
            those published for `keras.applications` (`..._no_top.h5`) are. Nothing but weights is read from it. If left
            out, `base` returns a model that has its weights already.
        image: the input with the pictures; the only array column if left out.
        preprocess: a function of pixels as the data has them, float32 (batch, height, width, channels), that returns
            them as the base's author wants them, such as `keras.applications.mobilenet_v2.preprocess_input`. It is part
            of the model. Pictures have the base's number of channels by then; if they don't have its size
            afterwards, they are resized.
        name: of the family.

    Raises:
        FactoryError: `base` can't be called, or the file of weights has another ending.

    >>> Pretrained(lambda: ..., weights="mobilenet.weights.h5")
    Pretrained('pretrained')
    """

    epochs = 100
    patience = 12
    fine_tuning_epochs = 40
    """At most, of the second phase."""

    def __init__(
        self,
        base: Callable[[], keras.Model],
        *,
        weights: str | Path | None = None,
        image: str | None = None,
        preprocess: Callable[[Any], Any] | None = None,
        name: str = "pretrained",
    ) -> None:
        _check(base)
        if weights is not None and not str(weights).endswith(ENDINGS):
            raise FactoryError(
                f"weights is {str(weights)!r}; expected a file of Keras's: {', '.join(ENDINGS)}, as "
                "model.save_weights(...) and model.save(...) write them"
            )
        self.base = base
        self.weights = None if weights is None else Path(weights)
        self.image = image
        self.preprocess = preprocess
        self.name = name

    def portfolio(self, task: str, *, rows: int, temporal: bool) -> list[dict[str, Any]]:
        """The frozen base alone, and all of it tuned."""
        del task, rows, temporal
        return [{"unfreeze": 0}, {"unfreeze": BLOCKS}]

    def layout(self, data: NetData) -> str:
        """Pixels as they are: the base has its author's scaling, not that of a fold's rows."""
        return RAW + data.array_name(self.image)

    def batch_size(self, hp: HyperParameters, data: NetData) -> int:
        """Rows per step."""
        return int(hp.Choice("batch_size", [16, 32, 64], default=64 if data.rows > 2000 else 32))

    def build(self, hp: HyperParameters, data: NetData) -> keras.Model:
        """The whole net from pixels to predictions, its base frozen."""
        import keras

        pixels = data.keras_array(self.image)
        base = self.load_base()
        hp.Fixed("base", self.base_digest())
        base.trainable = False
        blocks = hp.Int("unfreeze", 0, BLOCKS, default=BLOCKS // 2)
        x = pixels
        if blocks and len(pixels.shape) == 4:
            x = augmented(x, hp.Float("augment", 0.0, 0.2, step=0.05, default=0.05))
        x = base(self._as_wanted(x, base), training=False)
        x = keras.layers.Identity(name=FEATURES)(_pooled(x))
        dropout = hp.Float("dropout", 0.0, 0.7, step=0.1, default=0.3)
        units = hp.Choice("units", [0, 64, 128, 256], default=0)
        if units:
            x = keras.layers.Dense(units, activation="relu", kernel_initializer="he_normal")(x)
        if dropout:
            x = keras.layers.Dropout(dropout)(x)
        model = keras.Model(pixels, data.keras_head(x))
        if blocks:
            hp.Float("fine_tuning_rate", 1e-5, 1e-3, sampling="log", default=2e-4)
        model.compile(adamw(hp), loss=data.loss)
        return model

    def frozen(self, model: keras.Model) -> keras.Model:
        """The part of a net that doesn't change in the first phase: from pixels to features."""
        import keras

        return keras.Model(model.inputs[0], model.get_layer(FEATURES).output)

    def head(self, hp: HyperParameters, data: NetData, model: keras.Model) -> keras.Model:
        """The rest of it, from features to predictions, compiled to be trained alone; it shares the net's layers."""
        import keras

        head = keras.Model(model.get_layer(FEATURES).output, model.output)
        head.compile(adamw(hp), loss=data.loss)
        return head

    def unfreeze(self, hp: HyperParameters, data: NetData, model: keras.Model) -> bool:
        """Let the base's top blocks train too, and compile the net with a small rate; False if none should."""
        blocks = hp.Int("unfreeze", 0, BLOCKS, default=BLOCKS // 2)
        if not blocks:
            return False
        import keras

        thaw(_base_in(model), blocks)
        rate = hp.Float("fine_tuning_rate", 1e-5, 1e-3, sampling="log", default=2e-4)
        decay = adamw(hp).weight_decay
        model.compile(keras.optimizers.AdamW(rate, weight_decay=decay, clipnorm=1.0), loss=data.loss)
        return True

    def base_digest(self) -> str:
        """Tells trials on one base from those on another: of its weights' file, or of an earlier study's net."""
        if self.weights is None:
            return str(getattr(self.base, "digest", ""))
        with self.weights.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:12]

    def load_base(self) -> keras.Model:
        """The base with its weights.

        Raises:
            FactoryError: it isn't a model that can be one, or the weights don't fit it.
        """
        import keras

        base = self.base()
        if not isinstance(base, keras.Model):
            raise FactoryError(f"the base returned a {type(base).__name__}; expected a keras.Model without its head")
        if not base.built or len(base.inputs or ()) != 1 or len(base.outputs) != 1:
            raise FactoryError(
                f"the base {base.name!r} has {len(base.inputs or ()) if base.built else 'no known'} input(s); expected "
                "a built model with one input and one output"
            )
        if self.weights is not None:
            if not self.weights.is_file():
                raise FactoryError(
                    f"there is no file {str(self.weights)!r} (relative to {Path.cwd()}); expected the base's weights, "
                    "on every machine that runs trials"
                )
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error", UserWarning)  # it warns of layers that stay as they are
                    base.load_weights(self.weights)
            except (ValueError, OSError, KeyError, UserWarning) as error:
                raise FactoryError(
                    f"the weights in {str(self.weights)!r} don't fit the base {base.name!r}: {error}; expected those "
                    "of a model of the same layers: was it saved with its head (include_top), or renamed? Keras tells "
                    "its present format, .weights.h5, from the earlier one, .h5, by the name alone"
                ) from error
        return base

    def _as_wanted(self, pixels: keras.KerasTensor, base: keras.Model) -> keras.KerasTensor:
        """Pixels with the base's channels, as its author scales them, in its size."""
        import keras

        shape = tuple(base.inputs[0].shape[1:])
        x = _with_channels(pixels, shape[-1]) if len(shape) == 3 == len(pixels.shape) - 1 else pixels
        if self.preprocess is not None:
            x = self.preprocess(x)
        if len(shape) == 3 == len(x.shape) - 1 and None not in shape and x.shape[1:3] != shape[:2]:
            x = keras.layers.Resizing(*shape[:2])(x)
        fits = len(x.shape) == len(shape) + 1 and all(
            want in (None, got) for want, got in zip(shape, x.shape[1:], strict=True)
        )
        if not fits:
            raise FactoryError(
                f"the base {base.name!r} reads arrays of shape {shape}, and preprocessing gives {tuple(x.shape[1:])}; "
                "expected the same: let preprocess= bring them to it"
            )
        return x


def _check(base: Any) -> None:
    of_keras = any(one.__module__.startswith("keras.") for one in type(base).__mro__)  # told without importing it
    if not callable(base) or of_keras:
        raise FactoryError(
            f"the base is a {type(base).__name__}; expected a function that returns a Keras model, such as "
            "lambda: keras.applications.MobileNetV2(include_top=False, weights=None), or tk.from_study(...)"
        )


def thaw(base: keras.Model, blocks: int) -> None:
    """Let the top blocks of a base train; its other layers, and all of batch normalisation, stay frozen.

    Args:
        base: frozen or not.
        blocks: so many of `BLOCKS`; a base of few layers has fewer.
    """
    import keras

    learning = [layer for layer in _leaves(base) if not isinstance(layer, keras.layers.BatchNormalization)]
    per_block = max(len(learning) / BLOCKS, 1.0)
    top = learning[max(0, round(len(learning) - blocks * per_block)) :]
    base.trainable = True  # of itself and all that is in it; then leaf by leaf
    for leaf in _leaves(base):
        leaf.trainable = any(leaf is one for one in top)
    for layer in base._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def _leaves(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The layers with weights, from bottom to top; those of models in the model, too."""
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer)
        elif layer.weights:
            yield layer


def _base_in(model: keras.Model) -> keras.Model:
    """The base of a net that `Pretrained.build` made: the one model in it."""
    import keras

    return next(layer for layer in model.layers if isinstance(layer, keras.Model))


def _pooled(x: keras.KerasTensor) -> keras.KerasTensor:
    """Maps as their averages, (batch, channels)."""
    import keras

    if len(x.shape) == 4:
        return keras.layers.GlobalAveragePooling2D()(x)
    return keras.layers.GlobalAveragePooling1D()(x) if len(x.shape) == 3 else keras.layers.Flatten()(x)


def _with_channels(pixels: keras.KerasTensor, channels: int) -> keras.KerasTensor:
    """Gray pictures as colours and colours as gray, where the base wants the other."""
    import keras

    given = pixels.shape[-1]
    if given == 1 and channels == 3:
        return keras.layers.Concatenate()([pixels] * 3)
    if given == 3 and channels == 1:
        return keras.ops.sum(pixels * np.array(GRAY, dtype=np.float32), axis=-1, keepdims=True)
    return pixels
