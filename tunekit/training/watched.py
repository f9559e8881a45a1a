"""Callbacks of the author's own, and the figures that they look at. It imports Keras: import it late."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from tunekit.errors import FactoryError
from tunekit.families import Fold
from tunekit.training.fitted import FittedNet, target_of, weight_of
from tunekit.training.judge import Judge
from tunekit.training.traced import is_lazy

VALIDATION = "val_"


def monitors(callbacks: Sequence[Any]) -> dict[str, str]:
    """Names of the figures that callbacks look at, such as "val_accuracy", and whose callback's class does."""
    every = keras.tree.flatten(list(callbacks))
    named = ((getattr(one, "monitor", None), type(one).__name__) for one in every)
    return {name: who for name, who in named if isinstance(name, str)}


def watched(callbacks: Sequence[Any], judge: Judge) -> list[Any]:
    """An author's callbacks, with the figures that they may look at; none if there are none."""
    every = keras.tree.flatten(list(callbacks))
    looked_at = [part for one in every for part in (_Figures(monitors([one])), one)]
    return [_StudysMetric(judge), *looked_at] if every else []


def unjudged(callbacks: Sequence[Any]) -> list[Any]:
    """Those that look at no validation rows, for a training that has none."""
    return [one for one in keras.tree.flatten(list(callbacks)) if not _looks_at_validation(one)]


def _looks_at_validation(callback: Any) -> bool:
    return any(name.startswith(VALIDATION) for name in monitors([callback]))


def validation_for(callbacks: Sequence[Any], fitted: FittedNet, fold: Fold) -> Any:
    """The validation rows, as `fit` takes them, if a callback looks at a figure that the judge doesn't give; else None.

    Raises:
        FactoryError: the rows are streamed, and only the judge reads them.
    """
    given = {f"{VALIDATION}loss", f"{VALIDATION}{fold.metric.name}"}
    more = {name: who for name, who in monitors(callbacks).items() if name.startswith(VALIDATION) and name not in given}
    if not more:
        return None
    x = fitted.inputs(fold, "valid")
    if is_lazy(x):
        name, who = next(iter(more.items()))
        raise FactoryError(
            f"callback {who} monitors {name!r}, which is not computed where the rows are more than memory should hold; "
            f"expected one of {', '.join(sorted(given))}"
        )
    weight = weight_of(fold, fold.valid)
    data = (x, target_of(fitted, fold, fold.valid))
    return data if weight is None else (*data, weight)


class _StudysMetric(keras.callbacks.Callback):  # type: ignore[misc]
    """Adds the study's metric under the name that Keras would give it."""

    def __init__(self, judge: Judge) -> None:
        super().__init__()
        self._judge = judge

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """See the class."""
        del epoch
        if logs is not None:
            logs.setdefault(f"{VALIDATION}{self._judge.metric}", self._judge.score)


class _Figures(keras.callbacks.Callback):  # type: ignore[misc]
    """Refuses figures that there are none of before a callback looks at them; those before it may have added some.

    Keras only warns of those, in a log that nobody reads: training would not stop early, or never at a smaller rate.
    """

    def __init__(self, asked: dict[str, str]) -> None:
        super().__init__()
        self._asked = asked

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """See the class."""
        del epoch
        for name, who in self._asked.items() if logs is not None else ():
            if name not in logs:
                raise FactoryError(
                    f"callback {who} monitors {name!r}, which an epoch doesn't have; expected one of "
                    f"{', '.join(sorted(logs))}: compile the model with that metric, or monitor another"
                )
