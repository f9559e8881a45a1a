"""`tk.Keras`: a user's own model factory, or a KerasTuner `HyperModel`, as a family."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tunekit.errors import FactoryError
from tunekit.families.nets import NetData, NetFamily
from tunekit.space import HyperParameters

if TYPE_CHECKING:
    import keras

EXPECTED = "expected a function build(hp) or build(hp, data), or a HyperModel"


class Keras(NetFamily):
    """A user's factory `build(hp)` or `build(hp, data)`, or a KerasTuner `HyperModel`, unchanged.

    A model with inputs named "numbers" and "codes" (as `data.keras_inputs()` makes them) gets those; any other model
    gets one float matrix: scaled numbers, then one-hot categories. Regression targets are standardised for training
    and predictions come back in the target's units. Classes are one-hot for a model with a categorical crossentropy,
    else their positions.

    A `HyperModel` with a `fit` of its own is trained by that, as KerasTuner calls it; `epochs` and `batch_size` are
    then what `tuner.search` would be given. If they are left out, it isn't given them; where it doesn't decide either,
    batches of 32 and at most 200 epochs with early stopping are used. `patience` turns early stopping on for it.

    Args:
        build: the factory; it returns a compiled model whose last layer fits the task.
        name: unique in the study; the factory's own name if left out.
        epochs: at most this many; 200 if left out.
        patience: epochs without a better validation loss before training ends; 18 if left out.
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
        epochs: int | None = None,
        patience: int | None = None,
        batch_size: int | None = None,
        callbacks: Callable[[], list[Any]] | None = None,
    ) -> None:
        _check(build)
        self._declare = getattr(build, "declare_hyperparameters", None)
        self.factory = build.build if hasattr(build, "build") else build
        self._takes_data = _arguments(getattr(build, "_build", self.factory)) >= 2
        self.name = name or _name_of(build)
        self.epochs = NetFamily.epochs if epochs is None else epochs
        self.patience = NetFamily.patience if patience is None else patience
        self._batch_size = batch_size
        self._callbacks = callbacks
        self.own_fit = _own_fit(build)
        """A HyperModel's own `fit(hp, model, x, y, **more)`, or None."""
        self.told = {"epochs": epochs, "patience": patience, "batch_size": batch_size}
        """What was said, rather than left out."""

    def build(self, hp: HyperParameters, data: NetData) -> keras.Model:
        """The factory's model.

        Raises:
            FactoryError: it returned something else than a compiled Keras model.
        """
        import keras

        if self._declare:
            self._declare(hp)
        model = self.factory(hp, data) if self._takes_data else self.factory(hp)
        if not isinstance(model, keras.Model):
            raise FactoryError(
                f"factory {self.name!r} returned {type(model).__name__}; expected a compiled keras.Model (is a "
                "`return` missing?)"
            )
        if not model.compiled and self.own_fit is None:
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


def _check(build: Any) -> None:
    if inspect.isclass(build):
        raise FactoryError(f"received the class {build.__name__}; expected an instance of it: {build.__name__}()")
    if any(base.__module__.startswith("keras.") for base in type(build).__mro__):  # told without importing Keras
        raise FactoryError(
            f"received a {type(build).__name__}, one object; {EXPECTED}, which makes a new one each time"
        )
    if not callable(getattr(build, "build", build)):
        raise FactoryError(f"received a {type(build).__name__}; {EXPECTED}")


def _name_of(build: Any) -> str:
    own = getattr(build, "__name__", None)
    if hasattr(build, "build"):
        own = getattr(build, "name", None) or type(build).__name__.lower()
    return "keras" if own in (None, "build", "<lambda>") else str(own)


def _own_fit(build: Any) -> Callable[..., Any] | None:
    """The object's `fit`, unless it is the one that `HyperModel` has: that is only `model.fit`."""
    fit = getattr(build, "fit", None)
    if not callable(fit) or not hasattr(build, "build") or str(fit.__module__).startswith("keras_tuner."):
        return None
    return fit  # type: ignore[no-any-return]


def _arguments(function: Callable[..., Any]) -> int:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return sum(1 for one in parameters if one.kind in kinds and one.default is inspect.Parameter.empty)
