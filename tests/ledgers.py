"""Ledgers and trials for tests, and ways to kill them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tunekit.drivers import ProposalSampler, Random
from tunekit.ledger import Ledger, Running
from tunekit.ledger.database import Database
from tunekit.space import Dimension, HyperParameters
from tunekit.stopping import Median
from tunekit.trial import State, Trial

IDENTITY = {"data": "0123456789abcdef" * 4, "split": "KFold(5)", "metric": "rmse", "direction": "minimize", "seed": 7}
DEFAULTS: dict[str, Any] = {"defaults": True}
PORTFOLIO: list[dict[str, Any]] = [{"values": {"units": 128}}, {"values": {"lr": 0.01, "kind": "b"}}]


def factory(hp: HyperParameters) -> None:
    hp.Int("units", 32, 512, step=2, sampling="log", default=64)  # stored as a position
    hp.Float("lr", 1e-4, 1e-1, sampling="log", default=1e-3)
    hp.Choice("kind", ["a", "b", "c"])


def space() -> list[Dimension]:
    hp = HyperParameters()
    factory(hp)
    return hp.space


def open_ledger(
    root: Path,
    *,
    name: str = "houses",
    plans: list[dict[str, Any]] | None = None,
    seed: int = 7,
    fresh: bool = False,
    where: dict[str, Any] | None = None,
    **changed: Any,
) -> Ledger:
    """A ledger of two families, open for a search.

    Args:
        root: of its files.
        name: of the study.
        plans: of each family.
        seed: of the study.
        fresh: start anew.
        where: the other arguments of `Ledger`.
        changed: parts of the identity.
    """
    ledger = Ledger(root, name, **(where or {}))
    try:
        ledger.open({**IDENTITY, "seed": seed, **changed}, seed=seed, fresh=fresh)
        for family in ("net", "trees"):
            given: list[dict[str, Any]] = [DEFAULTS, *PORTFOLIO] if plans is None else plans
            ledger.add_family(family, ProposalSampler(Random(), seed, family), Median(startup=1), given)
    except BaseException:
        ledger.close()
        raise
    return ledger


def start(ledger: Ledger, family: str = "net", dimensions: int = 3) -> Running:
    """Start a trial and ask for so many of its values."""
    running = ledger.start(family, started=100.0)
    for dimension in space()[:dimensions]:
        ledger.suggest(running, dimension)
    if dimensions == 3:
        ledger.settle(running)
    return running


def end(ledger: Ledger, running: Running, state: State = State.COMPLETE, score: float | None = 1.5) -> Trial:
    running.trial.state, running.trial.score = state, score
    ledger.end(running)
    return running.trial


class Killed(Exception):
    """Stands for SIGKILL: nothing after it happens, and nobody tidies up."""


def dies(*_: Any, **__: Any) -> NoReturn:
    raise Killed


def die_in_transaction(patch: pytest.MonkeyPatch, nth: int, *, committed: bool) -> Callable[[], bool]:
    """Die in the n-th transaction from now: at its end, or right after; whether that is still to come."""
    run = Database.run
    left = [nth]

    def dying(self: Database, work: Callable[[Any], Any], **options: Any) -> Any:
        left[0] -= 1
        if left[0]:
            return run(self, work, **options)
        if committed:
            run(self, work, **options)
            raise Killed

        def interrupted(connection: Any) -> NoReturn:
            work(connection)
            raise Killed

        return run(self, interrupted, **options)

    patch.setattr(Database, "run", dying)
    return lambda: left[0] > 0
