"""Trains a net by its author's own `fit`, as KerasTuner calls it. It imports Keras: import it late.

What KerasTuner's callbacks do for a search, a `Judge` does here: it is among the `callbacks` that the author hands on
to `model.fit`, or calls in a loop of his own.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras

from tunekit.errors import TrialError
from tunekit.families import Fold, Keras
from tunekit.families.base import EpochReport
from tunekit.space import HyperParameters
from tunekit.training.fitted import FittedNet, net_inputs, shapes_of, target_of, weight_of
from tunekit.training.judge import Judge
from tunekit.training.served import USUAL_BATCH, ServedFit
from tunekit.training.traced import TracedModel
from tunekit.training.watched import watched


class Enough(BaseException):
    """Leaves an author's fit where more is not worth it; no `except Exception` in it holds this up."""


def fit_by_author(family: Keras, hp: HyperParameters, fitted: FittedNet, fold: Fold, report: EpochReport) -> None:
    """Call the author's `fit(hp, model, x, y, validation_data=..., callbacks=...)`; the net keeps its best weights.

    Args:
        family: whose `own_fit` it is.
        hp: what its `build` was given; `fit` may ask for more.
        fitted: the net, untrained.
        fold: its rows.
        report: as in `Family.fit`.
    """
    author = family.own_fit
    assert author is not None
    if fold.streamed:
        raise TrialError(
            f"factory {family.name!r} has a fit of its own, which takes arrays, but the rows are more than memory "
            "should hold; expected a HyperModel without one, or build(hp): its nets are trained batch by batch"
        )
    judge = AuthorsJudge(fitted, fold, report, hp)
    x, y, *weight = _rows(fitted, fold, "train")
    more = {"validation_data": _rows(fitted, fold, "valid")} | ({"sample_weight": weight[0]} if weight else {})
    told = {name: family.told[name] for name in ("epochs", "batch_size") if family.told[name] is not None}
    needed = _needed(author, family)
    ends_early = family.told["patience"] is not None or "epochs" in needed.keys() - told.keys()
    more["callbacks"] = [judge, *([early_stopping(family)] if ends_early else [])]
    more["callbacks"] += watched(family.callbacks(), judge)
    if fold.board is not None:
        from tunekit.training.board import Board

        more["callbacks"].append(Board(fold.board, fitted, fold))
    may_be_told = "epochs" in _accepted(author, {"epochs": None})
    with _serving(judge, family, fitted, fold, may_be_told=may_be_told):
        try:
            author(hp, fitted.model, x, y, **_accepted(author, needed | told | more))
            judge.begin()
        except Enough as enough:
            if enough.__cause__ is not None:
                raise enough.__cause__ from None
    if not judge.stopped:
        judge.keep_best()
    fitted.best_epoch = judge.best_epoch or None
    fitted.stopped, fitted.out_of_fold = judge.stopped, judge.out_of_fold


def early_stopping(family: Keras) -> keras.callbacks.Callback:
    """Ends a `model.fit` that no longer gets better."""
    return keras.callbacks.EarlyStopping("val_loss", patience=family.patience, restore_best_weights=True)


class AuthorsJudge(Judge):
    """A judge in a fit that isn't ours. It keeps the best weights, over all of the fit's phases.

    Args:
        fitted: see `Judge`.
        fold: see `Judge`.
        report: see `Judge`.
        hp: settled when the training begins.
    """

    def __init__(self, fitted: FittedNet, fold: Fold, report: EpochReport, hp: HyperParameters) -> None:
        super().__init__(fitted, fold, report)
        self._served = False
        self._given = self._attached = fitted.model
        self._compiled: Any = None
        self._hp = hp
        self._begun = False
        self._foreign = False
        self._best: list[Any] | None = None

    def begin(self) -> None:
        """Settle the hyperparameters, once.

        Raises:
            Enough: the trial needn't be run, or was stopped.
        """
        if self.stopped:
            raise Enough
        if not self._begun:
            self._begun = True
            try:
                self._hp.settle()
            except Exception as error:
                raise Enough from error

    @contextmanager
    def running(self) -> Iterator[None]:
        """While a `model.fit` runs, which will look at `stop_training`."""
        self.begin()
        self._served = True
        try:
            yield
        finally:
            self._served = False

    def set_model(self, model: keras.Model) -> None:
        """Judge this model: the given one or another of its shape, such as a clone. Others are let be."""
        super().set_model(model)
        self._foreign = model is not self._given and shapes_of(model) != shapes_of(self._given)
        if not self._foreign:
            self._attached = model
            self.begin()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """See `Judge.on_epoch_end`."""
        if self._foreign:
            return
        self.begin()
        if self.late and self.epochs and not self._served:
            raise Enough  # a loop of the author's own
        self._trace_now()
        super().on_epoch_end(epoch, logs)
        if self.best_epoch == self.epochs:
            self._best = self._fitted.model.get_weights()

    def keep_best(self) -> None:
        """Give the net the weights of its best epoch, or leave it as the fit left it if that is better."""
        self._trace_now()
        try:
            loss, _ = self.judge()
        except TrialError:
            loss = math.inf
        weights = self._best
        if weights is None or loss < self.best_loss:
            weights = self._fitted.model.get_weights()
            self.best_epoch = self.epochs
        self._given.set_weights(weights)
        if self._fitted.model is not self._given:
            self._fitted.traced = TracedModel(self._given)

    def _trace_now(self) -> None:
        """Have the net judged by graphs of the model in training as it is compiled now, the best weights too."""
        model = self._attached
        compiled = getattr(model, "_compile_config", None)
        if self._fitted.model is model and self._compiled is compiled:
            return
        self._fitted.traced, self._compiled = TracedModel(model), compiled
        if self._best is not None:  # losses can't be compared if they are not the same
            now = model.get_weights()
            model.set_weights(self._best)
            self.forget()
            self.best_loss, self.best_score = self.judge()
            model.set_weights(now)


def _rows(fitted: FittedNet, fold: Fold, part: str) -> tuple[Any, ...]:
    """Rows as `model.fit` takes them: x, y and, if there are any, weights. The author may change them."""
    x = net_inputs(fitted.model, fold.features(part, fitted.layout), fitted.layout)
    side = fold.train if part == "train" else fold.valid
    y = target_of(fitted, fold, side)
    weight = () if side.weight is None else (_floats(weight_of(fold, side)),)
    return (keras.tree.map_structure(lambda array: array.copy(), x), y, *weight)


def _floats(weight: Any) -> Any:
    return keras.tree.map_structure(lambda array: array.astype("float32"), weight)


@contextmanager
def _serving(judge: AuthorsJudge, family: Keras, fitted: FittedNet, fold: Fold, *, may_be_told: bool) -> Iterator[None]:
    """Put a `ServedFit` in the place of `model.fit`, unless the model brings its own.

    Args:
        judge: of the fit.
        family: whose fit it is.
        fitted: the net.
        fold: its rows.
        may_be_told: whether a call without `epochs` may be one that hands on what a search was told.
    """
    model = fitted.model
    if type(model).fit is not keras.Model.fit:
        yield
        return
    given = net_inputs(model, fold.features("train", fitted.layout), fitted.layout)

    def fill(call: dict[str, Any]) -> None:
        if "epochs" not in call and may_be_told and judge in call["callbacks"]:
            call["epochs"] = family.epochs
            if family.told["patience"] is None:
                call["callbacks"].append(early_stopping(family))

    model.fit = ServedFit(model, judge.running, fill, given, family.name, fold.seed)
    try:
        yield
    finally:
        del model.fit


def _needed(author: Callable[..., Any], family: Keras) -> dict[str, Any]:
    """What a `fit` asks for by name beside rows and callbacks, without a default."""
    usual = {"epochs": family.epochs, "batch_size": USUAL_BATCH, "verbose": 0}
    parameters = inspect.signature(author).parameters.values()
    return {one.name: usual[one.name] for one in parameters if one.name in usual and one.default is one.empty}


def _accepted(author: Callable[..., Any], more: dict[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(author).parameters.values()
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return more
    names = {one.name for one in parameters}
    return {name: value for name, value in more.items() if name in names}
