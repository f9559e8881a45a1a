"""`grow`: walks the ladder of capacity with real trials, in a ledger of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunekit.coach.ladder import Ladder, proposal, size_of, sizes_of, start_of, told
from tunekit.coach.noise import Difference, difference, difference_by_rows
from tunekit.data.targets import Target
from tunekit.drivers import ProposalSampler
from tunekit.errors import StudyError
from tunekit.executors import Executor, LocalExecutor
from tunekit.families import MLP, Family, Keras, NetFamily, Pretrained
from tunekit.families.sized import DEEPEST, WIDEST, Sized
from tunekit.ledger import Ledger
from tunekit.space import Dimension, Value
from tunekit.stopping import NeverStop
from tunekit.study import Study
from tunekit.study.blend import load_candidate
from tunekit.study.conductor import Conductor
from tunekit.study.effort import Effort, Site
from tunekit.study.goal import Clock, Goal
from tunekit.study.keeping import Keeping
from tunekit.study.prepared import Prepared
from tunekit.study.study import ROOT
from tunekit.tracking import Observers
from tunekit.training.nets import rebuild
from tunekit.trial import State, Trial

TWICE = 2.0
"""So many times as long as the net before it a net is expected to take."""


@dataclass(frozen=True)
class Growth:
    """What a walk up the ladder tells.

    Args:
        family: name of the family.
        names: of the hyperparameters that were grown together.
        metric: of the study.
        ladder: the sizes.
        told: the findings in words.
        change: the line of the study to change, as code; "" where its family has no bounds to change.
        stopped: why it ended before it was done, in words; "" if it was done.
    """

    family: str
    names: tuple[str, ...]
    metric: str
    ladder: Ladder
    told: str
    change: str
    stopped: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        rungs = self.ladder.rungs
        return {
            "family": self.family,
            "names": list(self.names),
            "metric": self.metric,
            "rungs": [rung.to_json() for rung in rungs],
            "enough": rungs[self.ladder.enough].size if rungs else None,
            "overfits": self.ladder.overfits,
            "bounds": list(self.ladder.bounds[:2]) if self.ladder.done else None,
            "told": self.told,
            "change": self.change,
            "stopped": self.stopped,
        }


def grow(
    study: Study,
    *,
    family: str | None = None,
    budget: str | float | None = None,
    root: Path | str = ROOT,
    tell: Callable[[int, float, float], object] = lambda size, score, seconds: None,
) -> Growth:
    """Train nets of one family, each twice as large as the one before, until validation stops improving.

    The first net is a sixteenth as wide as its factory's default (or as deep, if no width is searched); everything else
    has its default. Larger ones follow until two in a row are not better than the best one so far by more than the
    noise of the folds (or of the rows, with fewer than three folds). Trials are kept in a ledger of their own,
    `studies/<name>-grow`: called again, it goes on.

    Args:
        study: the declaration.
        family: name of a family of nets; `MLP` if left out, else the study's first one.
        budget: time for everything, such as "5m"; ten minutes if left out.
        root: where the ledger is.
        tell: is told each size that was fitted, with its score and the seconds that its trial took.

    Raises:
        StudyError: there is no such family, or it has no hyperparameter for its size.
    """
    wanted = _family(study, family)
    site = Site(Path(root))
    effort = Effort.of(site, budget=budget, workers=1)
    clock = Clock(effort.budget, 0.0)
    prepared = study.prepare()
    with ExitStack() as stack:
        ledger = site.ledger(f"{study.name}-grow")
        stack.callback(ledger.close)
        ledger.open({**prepared.identity, "seed": study.seed}, seed=study.seed, program=study.program)
        data = ledger.folder / "data"
        prepared.write(data)
        executor = LocalExecutor(1, effort.threads, ledger.folder / "executor.log", data, heavy=True)
        stack.callback(executor.close)
        walk = _Walk(study, wanted, prepared, ledger, effort, clock)
        return walk.up(executor, tell)


class _Walk:
    """One walk up the ladder.

    Args:
        study: the declaration.
        family: whose nets are grown.
        prepared: the rows.
        ledger: open.
        effort: of the trials.
        clock: of the walk.
    """

    def __init__(
        self, study: Study, family: NetFamily, prepared: Prepared, ledger: Ledger, effort: Effort, clock: Clock
    ) -> None:
        self._study, self._family, self._sized = study, family, Sized(family)
        self._prepared, self._ledger, self._effort, self._clock = prepared, ledger, effort, clock

    def up(self, executor: Executor, tell: Callable[[int, float, float], object]) -> Growth:
        """Go up until it is done, or time is over."""
        self._plan({"defaults": True})
        shown = 0
        while True:
            self._run(executor)
            sizes = self._sizes()
            ladder = self._ladder(sizes)
            for rung in ladder.rungs[shown:]:
                tell(rung.size, rung.score, rung.seconds)
            shown = max(shown, len(ladder.rungs))
            stopped = self._stopped(sizes, ladder)
            if ladder.done or stopped:
                return self._growth(sizes, ladder, "" if ladder.done else stopped)
            self._plan({"values": dict.fromkeys((one.name for one in sizes), self._next(sizes, ladder))})

    def _plan(self, plan: dict[str, Any]) -> None:
        sampler = ProposalSampler(self._study.driver, self._study.seed, self._family.name)
        self._ledger.add_family(self._family.name, sampler, NeverStop(), [plan])

    def _run(self, executor: Executor) -> None:
        """Run what is planned, and nothing that a driver would propose."""
        prepared, data = self._prepared, self._prepared.data
        shape = (data.task, data.outputs, self._prepared.schema.cardinalities)
        goal = Goal(self._clock, prepared.metric, self._spent + self._ledger.planned(self._family.name))
        conductor = Conductor(
            prepared,
            [self._sized],
            self._study.driver.name,
            NeverStop(),
            self._ledger,
            Observers([]),
            goal=goal,
            threads=self._effort.threads,
            limits=self._effort.limits,
            keeping=Keeping(self._ledger, prepared, self._effort.keep, None),
            costs=CountParameters(shape, len(prepared.folds.pairs[0][0]), data.targets),
        )
        conductor.run(executor)

    @property
    def _spent(self) -> int:
        """Trials, of every family, that count towards a limit of trials."""
        ended = self._ledger.trials()
        return sum(trial.state is not State.INTERRUPTED and trial.same_as is None for trial in ended)

    def _own(self) -> list[Trial]:
        return [trial for trial in self._ledger.trials() if trial.family == self._family.name]

    def _sizes(self) -> list[Dimension]:
        """The hyperparameters of size, once a trial has asked for them."""
        first = next((trial for trial in self._own() if trial.dimensions and trial.state is State.COMPLETE), None)
        sizes = [] if first is None else sizes_of(first)
        if first is not None and not sizes:
            names = ", ".join(one.name for one in first.dimensions)
            raise StudyError(
                f"family {self._family.name!r} asks for {names}, of which none is known to say how large its net is; "
                "expected a whole number with a name such as units, filters, width or layers"
            )
        return sizes

    def _ladder(self, sizes: Sequence[Dimension]) -> Ladder:
        """The rungs that follow each other without a gap, from the smallest one on."""
        if not sizes:
            return Ladder()
        found: dict[int, Trial] = {}
        for trial in self._own():
            size = size_of(trial, sizes)
            if size is not None and trial.same_as is None:
                found.setdefault(size, trial)
        trials, size = [], start_of(sizes)
        while size in found:
            trials.append((size, found[size]))
            size *= 2
        return Ladder.of(trials, self._compare)

    def _next(self, sizes: Sequence[Dimension], ladder: Ladder) -> int:
        return ladder.rungs[-1].size * 2 if ladder.rungs else start_of(sizes)

    def _stopped(self, sizes: Sequence[Dimension], ladder: Ladder) -> str:
        """Why it can't go on; "" if it can."""
        failed = [trial for trial in self._own() if trial.state is State.FAILED]
        if not sizes or (failed and self._size_wanted(failed[-1], sizes) == self._next(sizes, ladder)):
            return f"the net failed: {failed[-1].error}" if failed else "the time was over before a net was fitted"
        if self._next(sizes, ladder) > max(one.bounds[1] for one in sizes):
            return f"no net is grown beyond {DEEPEST if max(one.bounds[1] for one in sizes) < WIDEST else WIDEST}"
        left = self._clock.left
        expected = TWICE * ladder.rungs[-1].seconds if ladder.rungs else 0.0
        if left is not None and left <= expected:
            return f"{left:.0f} s are left, and the next size is expected to take {expected:.0f} s"
        return ""

    def _size_wanted(self, trial: Trial, sizes: Sequence[Dimension]) -> Any:
        return trial.values.get(sizes[0].name)

    def _compare(self, one: Trial, other: Trial) -> Difference:
        by_folds = difference(one, other, self._prepared)
        if by_folds is not None:
            return by_folds
        candidates = [load_candidate(self._ledger, trial, self._prepared) for trial in (one, other)]
        return difference_by_rows(candidates[0], candidates[1], self._prepared)

    def _growth(self, sizes: Sequence[Dimension], ladder: Ladder, stopped: str) -> Growth:
        metric = self._prepared.metric.name
        names = tuple(one.key for one in sizes)
        change = proposal(ladder, self._family, sizes)
        return Growth(self._family.name, names, metric, ladder, told(ladder, metric), change, stopped)


def _family(study: Study, name: str | None) -> NetFamily:
    """The family of that name; else `MLP`, or the first family of nets.

    Raises:
        StudyError: there is none that can be grown.
    """
    nets = {
        one.name: one
        for one in study.families
        if isinstance(one, NetFamily)
        and not isinstance(one, Pretrained)
        and not (isinstance(one, Keras) and one.own_fit)
    }
    if name is not None and name not in nets:
        raise StudyError(
            f"family {name!r} can't be grown; expected one of the study's families of nets: "
            f"{', '.join(nets) or 'it has none'} (not a pretrained one, nor a HyperModel with a fit of its own)"
        )
    if name is not None:
        return nets[name]
    first = next((one for one in nets.values() if isinstance(one, MLP)), None)
    return first or next(iter(nets.values()), None) or MLP()


@dataclass(frozen=True)
class CountParameters:
    """Counts a trial's parameters, in the trial's process.

    Args:
        shape: task, outputs and cardinalities.
        rows: that a fold trains on.
        targets: what they are, if there are several.
    """

    shape: tuple[str, int, tuple[int, ...]]
    rows: int
    targets: tuple[Target, ...] = ()

    def __call__(self, family: Family, values: dict[str, Value], folder: Path, fitted: int) -> dict[str, float]:
        """The parameters of the first fold's net; those of the others are as many."""
        del fitted
        assert isinstance(family, NetFamily)
        model = rebuild(family, values, folder / "fold0", self.shape, self.rows, self.targets)
        return {"parameters": float(model.count_params())}
