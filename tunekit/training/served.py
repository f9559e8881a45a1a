"""`model.fit` for arrays in memory, served by the loop of `tunekit.training.loop`. It imports Keras: import it late."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np
from keras.src.trainers.data_adapters.array_slicing import can_slice_array, train_validation_split

from tunekit.training.loop import fit, needs_plain_fit
from tunekit.training.traced import TracedModel

logger = logging.getLogger(__name__)

USUAL_BATCH = 32
"""Rows per step where `model.fit` isn't told."""

NOT_SERVED = {"steps_per_epoch": None, "validation_steps": None, "initial_epoch": 0, "validation_freq": 1}
"""Arguments of `model.fit` that the loop doesn't know, with what they are if they are left out."""


class ServedFit:
    """Takes the place of a model's `fit`: one graph per epoch where the call allows it, else Keras's own.

    Args:
        model: whose `fit` it is.
        running: entered for each call.
        fill: adds what a call leaves out.
        given: the rows that the one who calls was given to train on.
        name: of the factory, for messages.
        seed: of the order of rows.
    """

    def __init__(
        self,
        model: keras.Model,
        running: Callable[[], AbstractContextManager[None]],
        fill: Callable[[dict[str, Any]], None],
        given: Any,
        name: str,
        seed: int,
    ) -> None:
        self._model = model
        self._fit = model.fit
        self._running = running
        self._fill = fill
        self._given = given
        self._name = name
        self._random = np.random.default_rng(seed)
        self._compiled: Any = None
        self._traced = TracedModel(model)
        self._looked = False

    def __call__(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Train, as `model.fit` would."""
        call = dict(inspect.signature(self._fit).bind(*args, **kwargs).arguments)
        call.setdefault("verbose", 0)
        call["callbacks"] = keras.tree.flatten(call.get("callbacks") or [])
        with self._running():
            self._fill(call)
            self._look_at(call.get("x"))
            reason = self._reason_against(call)
            if reason is None:
                return self._fit_in_graphs(call)
            logger.info("model.fit is used: %s", reason)
            return self._fit(**call)

    def _reason_against(self, call: dict[str, Any]) -> str | None:
        """Why the loop can't serve a call, or None if it can."""
        for name, usual in NOT_SERVED.items():
            if call.get(name, usual) != usual:
                return f"it was called with {name}={call[name]!r}"
        if call.get("shuffle", True) not in (True, False):
            return f"it was called with shuffle={call['shuffle']!r}"
        if call.get("validation_batch_size") not in (None, _batch_size(call)):
            return "it validates in batches of another size"
        if call.get("y") is None or not all(can_slice_array(array) for array in keras.tree.flatten(_rows(call))):
            return "its rows are no arrays"
        validates = bool(call.get("validation_data") or call.get("validation_split"))
        return needs_plain_fit(self._model, call["callbacks"], validates=validates)

    def _fit_in_graphs(self, call: dict[str, Any]) -> keras.callbacks.History:
        rows, validation = _rows(call), call.get("validation_data")
        if validation is None and call.get("validation_split"):
            rows, validation = train_validation_split(rows, call["validation_split"])
        x, y, sample_weight = rows
        count = len(keras.tree.flatten(y)[0])
        return fit(
            self._traced_now(),
            x,
            y,
            batch_size=_batch_size(call),
            epochs=call.get("epochs", 1),
            callbacks=call["callbacks"],
            sample_weight=sample_weight,
            class_weight=call.get("class_weight"),
            validation_data=validation,
            order=(lambda epoch: self._random.permutation(count)) if call.get("shuffle", True) else None,
        )

    def _traced_now(self) -> TracedModel:
        """The model's graphs; new ones if it was compiled again, as Keras makes new ones."""
        if self._compiled is not self._model._compile_config:
            self._compiled, self._traced = self._model._compile_config, TracedModel(self._model)
        return self._traced

    def _look_at(self, x: Any) -> None:
        """Say once if the net is trained on other rows than predictions will see."""
        if self._looked or isinstance(self._given, dict) or not hasattr(x, "shape"):
            return
        self._looked = True
        if tuple(x.shape) != self._given.shape or not np.allclose(np.asarray(x), self._given):
            logger.warning(
                "factory %r: its fit trains on other rows than it was given. Leaving out, adding or reordering rows is "
                "fine; but scores and predictions come from rows as they were given, so a step that changes values "
                "(such as scaling) belongs into the model, for example as a Normalization layer",
                self._name,
            )


def _batch_size(call: dict[str, Any]) -> int:
    return int(call.get("batch_size") or USUAL_BATCH)


def _rows(call: dict[str, Any]) -> tuple[Any, Any, Any]:
    return call.get("x"), call.get("y"), call.get("sample_weight")
