"""Hyperopt's algorithms as drivers. The library is imported at the first proposal (2 s)."""

from __future__ import annotations

import datetime
import importlib.util
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from math import log
from typing import Any

import numpy as np
import optuna

from tunekit.drivers.axis import Axis, Position
from tunekit.drivers.base import Driver
from tunekit.drivers.history import STARTUP_TRIALS, History, HistorySampler
from tunekit.errors import StudyError

ALGORITHMS = ("tpe", "atpe", "anneal", "random")


@dataclass(frozen=True, repr=False)
class Hyperopt(Driver):
    """Hyperopt's algorithms, stateless: the library is shown the study's history for each proposal.

    A dimension that a trial was not asked for stays unknown for that trial, as under `hp.choice`. Running trials count
    as proposals without a result, failed ones as the worst.

    Args:
        algorithm: "tpe" (Bergstra 2011), "atpe" (TPE with learnt settings; needs lightgbm), "anneal" or "random".

    Raises:
        StudyError: there is no such algorithm.
    """

    algorithm: str = "tpe"

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise StudyError(f"Hyperopt({self.algorithm!r}) is unknown; expected one of {', '.join(ALGORITHMS)}")

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name on the command line."""
        return f"hyperopt:{self.algorithm}"

    def check(self, objectives: int = 1) -> None:
        """See `Driver.check`."""
        if self.algorithm == "atpe" and importlib.util.find_spec("lightgbm") is None:
            raise StudyError(
                "hyperopt:atpe needs the package lightgbm, which is not installed: pip install lightgbm, or use "
                "hyperopt:tpe, the same algorithm with fixed settings"
            )

    def sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        """See `Driver.sampler`."""
        self.check()
        return _HyperoptSampler(self.algorithm, seed)


STARTUPS = {"tpe": STARTUP_TRIALS, "atpe": STARTUP_TRIALS, "anneal": 1, "random": None}
"""Results before each algorithm is asked; annealing starts from the first one, random never asks."""


class _HyperoptSampler(HistorySampler):
    def __init__(self, algorithm: str, seed: int) -> None:
        super().__init__(seed, STARTUPS[algorithm])
        self._algorithm = algorithm

    def draw(self, name: str, axis: Axis, seed: int) -> Position:
        """See `HistorySampler.draw`."""
        from hyperopt import rand

        return _positions(rand.suggest([0], _domain({name: axis}), _trials([]), seed))[name]

    def propose(self, history: History, space: dict[str, Axis], number: int, seed: int) -> dict[str, Position]:
        """See `HistorySampler.propose`."""
        domain = _domain(space)
        if self._algorithm == "tpe":
            from hyperopt import tpe

            documents = tpe.suggest(
                [number], domain, _told(history, space), seed, n_startup_jobs=STARTUP_TRIALS, verbose=False
            )
        elif self._algorithm == "anneal":
            from hyperopt import anneal

            documents = anneal.suggest([number], domain, _told(history, space), seed)
        else:
            documents = _atpe(domain, history, space, number, seed)
        return _positions(documents)


def _space(axis: Axis, name: str) -> Any:
    """The dimension in Hyperopt's terms."""
    from hyperopt import hp

    if axis.kind == "choice":
        return hp.randint(name, int(axis.high) + 1)
    if axis.kind == "float":
        return hp.loguniform(name, log(axis.low), log(axis.high)) if axis.log else hp.uniform(name, axis.low, axis.high)
    low, high = axis.low - 0.5, axis.high + 0.5  # rounded to whole numbers, each with the same share
    return hp.qloguniform(name, log(low), log(high), 1) if axis.log else hp.quniform(name, low, high, 1)


def _domain(space: dict[str, Axis]) -> Any:
    """Hyperopt's description of the space. Flat: to an algorithm that treats each parameter alone it equals nesting."""
    from hyperopt import Domain

    return Domain(None, {name: _space(space[name], name) for name in sorted(space)})


def _trials(documents: list[dict[str, Any]]) -> Any:
    from hyperopt import Trials

    trials = Trials()
    trials._dynamic_trials = documents
    trials.refresh()
    return trials


def _told(history: History, space: dict[str, Axis]) -> Any:
    """The history in Hyperopt's terms: what a trial was not asked for is empty, what has no result has no loss."""
    documents = []
    for past, positions in zip(history.trials, history.positions(space), strict=True):
        result = {"status": "fail"} if past.loss is None else {"status": "ok", "loss": past.loss}
        document = _document(past.number, positions, space, {"status": "new"} if past.running else result)
        documents.append({**document, "state": 1 if past.running else 2})
    return _trials(documents)


def _document(
    number: int, positions: dict[str, Position], space: dict[str, Axis], result: dict[str, Any]
) -> dict[str, Any]:
    then = datetime.datetime(2000, 1, 1)  # atpe wants times, which are not to matter
    misc = {
        "tid": number,
        "cmd": None,
        "workdir": None,
        "idxs": {name: [number] if name in positions else [] for name in space},
        "vals": {name: [positions[name]] if name in positions else [] for name in space},
    }
    facts = {"tid": number, "spec": None, "result": result, "misc": misc, "exp_key": None, "owner": None, "version": 0}
    return {**facts, "state": 2, "book_time": then, "refresh_time": then}


def _positions(documents: list[dict[str, Any]]) -> dict[str, Position]:
    """What was proposed, as plain numbers."""
    found = documents[0]["misc"]["vals"]
    return {name: np.asarray(values).ravel()[0].item() for name, values in found.items() if len(values)}


def _atpe(domain: Any, history: History, space: dict[str, Axis], number: int, seed: int) -> list[dict[str, Any]]:
    """Adaptive TPE knows only results: failures get the worst one there is, and so do running trials."""
    from hyperopt import atpe

    _load_models()
    worst = max(past.loss for past in history.trials if past.loss is not None)
    documents = [
        _document(past.number, positions, space, {"status": "ok", "loss": worst if past.loss is None else past.loss})
        for past, positions in zip(history.trials, history.positions(space), strict=True)
    ]
    with _seeded(seed), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="An input array is constant")  # it correlates what hasn't varied yet
        return list(atpe.suggest([number], domain, _trials(documents), seed))


@cache
def _load_models() -> None:
    """What adaptive TPE imports at its first use draws from the global generators: let it, before they are seeded."""
    from hyperopt import atpe

    atpe.ATPEOptimizer()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global generators, and put them back: adaptive TPE knows no others."""
    plain, numeric = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(plain)
        np.random.set_state(numeric)  # noqa: NPY002
