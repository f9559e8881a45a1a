"""`tk.Keras`: a user's own model factory as a family."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tunekit.errors import FactoryError
from tunekit.families.nets import NetData, NetFamily
from tunekit.space import HyperParameters

if TYPE_CHECKING:
    import keras


class Keras(NetFamily):
    """A user's factory `build(hp)` or `build(hp, data)`, or a KerasTuner `HyperModel`, unchanged.

    A model with inputs named "numbers" and "codes" (as `data.keras_inputs()` makes them) gets those; any other model
    gets one float matrix: scaled numbers, then one-hot categories. Regression targets are standardised for training
    and predictions come back in the target's units.

    Args:
        build: the factory; it returns a compiled model whose last layer fits the task.
        name: unique in the study; the factory's own name if left out.
        epochs: at most this many.
        patience: epochs without a better validation loss before training ends.
        batch_size: rows per step; None to search it (or the factory asks for "batch_size" itself).
        callbacks: returns fresh Keras callbacks for each fit.

    >>> def net(hp, data): ...
    >>> Keras(net).name
    'net'
    """

    def __init__(
        self,
        build: Callable[..., keras.Model] | Any,
        *,
        name: str | None = None,
        epochs: int = NetFamily.epochs,
        patience: int = NetFamily.patience,
        batch_size: int | None = None,
        callbacks: Callable[[], list[Any]] | None = None,
    ) -> None:
        self._factory = build.build if hasattr(build, "build") else build
        if not callable(self._factory):
            raise FactoryError(
                f"received a {type(build).__name__}; expected a function build(hp) or build(hp, data), or a HyperModel"
            )
        own = getattr(build, "__name__", None) or type(build).__name__.lower()
        self.name = name or ("keras" if own in ("build", "<lambda>") else own)
        self.epochs = epochs
        self.patience = patience
        self._batch_size = batch_size
        self._callbacks = callbacks
        self._takes_data = _arguments(self._factory) >= 2

    def build(self, hp: HyperParameters, data: NetData) -> keras.Model:
        """The factory's model.

        Raises:
            FactoryError: it returned something else than a compiled Keras model.
        """
        import keras

        model = self._factory(hp, data) if self._takes_data else self._factory(hp)
        if not isinstance(model, keras.Model):
            raise FactoryError(
                f"factory {self.name!r} returned {type(model).__name__}; expected a compiled keras.Model (is a "
                "`return` missing?)"
            )
        if not model.compiled:
            raise FactoryError(
                f"factory {self.name!r} returned a model that is not compiled; expected model.compile(optimizer, "
                f"loss={data.loss!r}) before it is returned"
            )
        return model

    def batch_size(self, hp: HyperParameters, data: NetData) -> int:
        """The given size, or a searched one."""
        return self._batch_size or super().batch_size(hp, data)

    def callbacks(self) -> list[Any]:
        """The user's callbacks."""
        return self._callbacks() if self._callbacks else []


def _arguments(function: Callable[..., Any]) -> int:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return sum(1 for one in parameters if one.kind in kinds and one.default is inspect.Parameter.empty)
