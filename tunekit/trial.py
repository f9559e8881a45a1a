"""The record of one configuration: plain data, written once by whoever runs it, read by everyone else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tunekit.space import Dimension, Value

MODEL_SUMMARY = "model.txt"
"""File in a trial's folder in which a net's layers are told."""


class State(StrEnum):
    """What happened to a trial."""

    RUNNING = "running"
    COMPLETE = "complete"
    STOPPED = "stopped"  # by the stopper: not worth another epoch or fold
    FAILED = "failed"  # with the reason in `Trial.error`
    INTERRUPTED = "interrupted"  # by the budget, Ctrl-C or a crash: runs again with the same values


@dataclass(frozen=True)
class Epoch:
    """One point of a learning curve: the fold, the epoch from 1, and what was measured there by name."""

    fold: int
    epoch: int
    logs: dict[str, float]


@dataclass
class Trial:
    """One configuration of one family.

    Args:
        number: unique in the study, from 0, in the order of starting.
        family: name of the family.
        index: number of the trial within its family, from 0.
        seed: what every random step of it is seeded with, together with the fold.
        state: what happened.
        values: hyperparameter values by name.
        dimensions: the dimension behind each value.
        score: mean of the fold scores, in the metric's own sign; None until a fold is judged.
        fold_scores: one score per judged fold.
        curve: every epoch of every fold, in order; empty for families without epochs.
        best_epochs: the epoch that was kept, per fold; empty for families without epochs.
        costs: of serving it, by name, where the study has such objectives: see `tunekit.objectives`.
        fold_ends: seconds from the start to the end of each judged fold; empty where a result is reused, or where the
            record is older than this.
        seconds: wall-clock time from start to end.
        fit_seconds: of these, building, fitting and predicting.
        proposal_seconds: what the driver took to propose its values; 0 if they were planned.
        started: seconds since 1970 at the start.
        memory: peak memory in bytes, None if unknown.
        error: the reason in words if it failed or was stopped or interrupted.
        retry_of: the index of the interrupted trial whose values it repeats.
        same_as: the number of the earlier trial with the same values whose result it reuses.
        program: digest of the study file that it was searched with.
        threads: that its fits could use, None where the record is older than this.
    """

    number: int
    family: str
    index: int
    seed: int
    state: State = State.RUNNING
    values: dict[str, Value] = field(default_factory=dict)
    dimensions: list[Dimension] = field(default_factory=list)
    score: float | None = None
    fold_scores: list[float] = field(default_factory=list)
    curve: list[Epoch] = field(default_factory=list)
    best_epochs: list[int] = field(default_factory=list)
    costs: dict[str, float] = field(default_factory=dict)
    fold_ends: list[float] = field(default_factory=list)
    seconds: float = 0.0
    fit_seconds: float = 0.0
    proposal_seconds: float = 0.0
    started: float = 0.0
    memory: int | None = None
    error: str | None = None
    retry_of: int | None = None
    same_as: int | None = None
    program: str = ""
    threads: int | None = None

    @property
    def name(self) -> str:
        """How people read it: "017 wide_deep"."""
        return f"{self.number:03d} {self.family}"

    @property
    def folder(self) -> str:
        """Name of the folder that its files are in."""
        return f"{self.number:04d}-{self.family}"

    def is_outdated(self, program: str) -> bool:
        """Whether it failed with another study file than this one, whose fault that may have been."""
        return self.state is State.FAILED and self.program != program

    def to_json(self) -> dict[str, Any]:
        """Plain data, for a ledger."""
        dimensions = [dimension.to_json() for dimension in self.dimensions]
        return {**vars(self), "dimensions": dimensions, "curve": [vars(point) for point in self.curve]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Trial:
        """The inverse of `to_json`."""
        dimensions = [Dimension.from_json(one) for one in data["dimensions"]]
        curve = [Epoch(**one) for one in data["curve"]]
        return cls(**{**data, "dimensions": dimensions, "curve": curve, "state": State(data["state"])})


def derive_seed(*parts: object) -> int:
    """A 32-bit seed from the study's seed and whatever tells this use of it from others, in any process the same.

    >>> derive_seed(7, "fit", "mlp", 0) == derive_seed(7, "fit", "mlp", 0) != derive_seed(7, "fit", "mlp", 1)
    True
    """
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big")
