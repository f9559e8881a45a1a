"""KerasTuner's oracles as drivers, in a process of their own that ends with the search."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import weakref
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna

from tunekit.drivers.axis import Axis, Position
from tunekit.drivers.base import Driver
from tunekit.drivers.history import STARTUP_TRIALS, History, HistorySampler
from tunekit.errors import StudyError

ALGORITHMS = ("bayesian", "random")

HYPERBAND = (
    "keras-tuner:hyperband is not offered, for its oracle decides about epochs, which here is the stopper's part: give "
    "the study stopper=tk.Halving() and a driver: 'random' proposes as Hyperband does, 'optuna:tpe' as BOHB does"
)

PATIENCE = 300.0
"""Seconds for an answer, the 15 or more of importing TensorFlow included."""


@dataclass(frozen=True, repr=False)
class KerasTuner(Driver):
    """KerasTuner's oracles, stateless: a fresh one is shown the study's history for each proposal.

    They live in a process of their own, which imports TensorFlow (15 s, 800 MB) while the first trials run. The
    Bayesian oracle takes seconds for a proposal; `optuna:gp` and `optuna:tpe` are faster.

    Args:
        algorithm: "bayesian" (a Gaussian process and its lower confidence bound) or "random".
        oracles: the process; set by the search.

    Raises:
        StudyError: there is no such algorithm, or it is Hyperband.
    """

    algorithm: str = "bayesian"
    oracles: Oracles | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.algorithm == "hyperband":
            raise StudyError(HYPERBAND)
        if self.algorithm not in ALGORITHMS:
            raise StudyError(f"KerasTuner({self.algorithm!r}) is unknown; expected one of {', '.join(ALGORITHMS)}")

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name on the command line."""
        return f"keras-tuner:{self.algorithm}"

    def for_search(self, seed: int) -> Driver:
        """See `Driver.for_search`."""
        del seed
        return replace(self, oracles=self.oracles or shared_oracles())

    def sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        """See `Driver.sampler`."""
        oracles = self.oracles or shared_oracles()
        oracles.start()
        return _KerasTunerSampler(oracles, self.algorithm, seed)


class _KerasTunerSampler(HistorySampler):
    def __init__(self, oracles: Oracles, algorithm: str, seed: int) -> None:
        super().__init__(seed, None if algorithm == "random" else STARTUP_TRIALS)
        self._oracles = oracles

    def draw(self, name: str, axis: Axis, seed: int) -> Position:
        """See `HistorySampler.draw`."""
        return self._oracles.ask({"algorithm": "random", "seed": seed, "axes": _axes({name: axis}), "trials": []})[name]

    def propose(self, history: History, space: dict[str, Axis], number: int, seed: int) -> dict[str, Position]:
        """See `HistorySampler.propose`."""
        trials = [
            {"positions": positions, "loss": past.loss, "running": past.running}
            for past, positions in zip(history.trials, history.positions(space), strict=True)
        ]
        request = {"algorithm": "bayesian", "seed": seed, "startup": STARTUP_TRIALS, "trials": trials}
        return self._oracles.ask({**request, "axes": _axes(space)})


def _axes(space: dict[str, Axis]) -> dict[str, list[Any]]:
    return {name: [axis.kind, axis.low, axis.high, axis.log] for name, axis in sorted(space.items())}


class Oracles:
    """The process, started at need, and again if it dies; it ends when no one refers to this any more."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int | None:
        """Of the process, if it was started."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start it if it doesn't run; it imports TensorFlow meanwhile."""
        if self._process is not None and self._process.poll() is None:
            return
        house = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, [house, os.environ.get("PYTHONPATH")]))
        quiet = {"PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
        one_thread = {
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }  # trials have the cores; and sums stay the same
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tunekit.drivers.oracles", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **quiet, **one_thread},
            start_new_session=True,  # Ctrl-C is for the conductor
        )
        weakref.finalize(self, _end, self._process)

    def ask(self, request: dict[str, Any]) -> dict[str, Position]:
        """An oracle's answer.

        Raises:
            StudyError: it has none, and starting it again didn't help.
        """
        answer = self._ask_once(request) or self._ask_once(request)
        if answer is None:
            raise StudyError(
                "the process of KerasTuner's oracles died twice, or gave no answer; look for what ends it (memory?), "
                "or use another driver such as optuna:tpe"
            )
        if "error" in answer:
            raise StudyError(f"KerasTuner's oracle failed; use another driver such as optuna:tpe.\n{answer['error']}")
        return dict(answer["positions"])

    def _ask_once(self, request: dict[str, Any]) -> dict[str, Any] | None:
        self.start()
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            if select.select([process.stdout], [], [], PATIENCE)[0]:
                line = process.stdout.readline()
                if line.endswith("\n"):
                    return dict(json.loads(line))
        except OSError:
            pass
        _end(process)
        return None


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


_shared: weakref.ref[Oracles] | None = None


def shared_oracles() -> Oracles:
    """The one process of all searches that run."""
    global _shared
    oracles = _shared() if _shared else None
    if oracles is None:
        oracles = Oracles()
        _shared = weakref.ref(oracles)
    return oracles
