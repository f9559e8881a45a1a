"""Running a study: prepare, search, blend, judge."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.data.store import MOST_IN_MEMORY, Store
from tunekit.drivers import ProposalSampler
from tunekit.executors import Executor, LocalExecutor, check_travels
from tunekit.families import Baseline, NetFamily
from tunekit.ledger import Ledger, write_json
from tunekit.study.blend import best_first, blend
from tunekit.study.conductor import Conductor
from tunekit.study.earlier import bases_of, bring_bases
from tunekit.study.effort import Effort, Site, usable_cores
from tunekit.study.goal import Clock, Goal
from tunekit.study.keeping import Keeping
from tunekit.study.prepared import Prepared
from tunekit.study.refit import refits_of
from tunekit.study.result import summarise
from tunekit.study.starting import plans_for
from tunekit.tracking import Observer, Observers, StudyFacts
from tunekit.training.trial import MeasureCosts
from tunekit.trial import Trial

if TYPE_CHECKING:
    from tunekit.study.study import Study


LONGEST_BLEND = 120.0
"""Seconds for selecting and judging the blend of a search without a budget."""


BYTES_PER_CELL = 30
"""Of memory that a trial needs for each cell of a fold: the rows, their copies, and what a model makes of them."""


SHARE_OF_DISK = 0.2
"""Of the free space, what kept files may take if nothing else is said."""


def search(
    study: Study, effort: Effort, site: Site, observers: Sequence[Observer], *, fresh: bool, judge: bool = True
) -> dict[str, Any]:
    """Run a study's search and return its summary.

    Args:
        study: the declaration.
        effort: how much to spend.
        site: where to record, and where to run trials.
        observers: who watches.
        fresh: delete the study's earlier trials first.
        judge: whether to blend and judge in the end; not, if another does.

    Raises:
        TunekitError: the study can't start.
        KeyboardInterrupt: it was stopped, and the effort says so.
    """
    clock = Clock(effort.budget, effort.reserve if judge else 0.0)
    check_travels(study.metric, "metric=")
    awaited = {name for name, _ in bases_of(study)}
    for family in study.families:
        if family.name not in awaited:  # these have nothing to send before their nets are brought
            check_travels(family, f"family {family.name!r}")
    prepared = study.prepare()
    with ExitStack() as stack:
        ledger = site.ledger(study.name)
        stack.callback(ledger.close)
        observer = Observers(observers)
        stack.callback(observer.close)
        _open(ledger, study, prepared, fresh=fresh)
        found = bring_bases(study, site, ledger)
        data = _data_folder(ledger, stack)
        store = prepared.write(data)
        wished, effort = effort, effort.with_room(_memory_of_a_trial(prepared, store))
        executor = _executor(study, effort, site, ledger, data)
        stack.callback(executor.close)
        observer.study_started(_facts(study, prepared, effort, executor.workers, ledger.folder), ledger.trials())
        notices = [
            *prepared.data.notices,
            *found,
            *_thresholds(prepared),
            *_streamed(study, store),
            *_crowded(wished, effort),
        ]
        for notice in [*notices, *_changed_families(study, ledger.trials())]:
            observer.message(notice)
        disk = int(SHARE_OF_DISK * shutil.disk_usage(ledger.folder).free) if effort.disk is None else effort.disk
        goal = Goal(clock, prepared.metric, effort.trials, effort.until, refits_of(study, prepared, effort.refits))
        goal.keep_for_refits(best_first(ledger.trials(), prepared))
        conductor = Conductor(
            prepared,
            study.families,
            study.driver.name,
            study.stopper,
            ledger,
            observer,
            goal=goal,
            threads=effort.threads,
            limits=effort.limits,
            keeping=Keeping(ledger, prepared, effort.keep, disk, study.also_minimize),
            costs=_serving_cost(study, prepared),
            board=effort.tensorboard,
        )
        conductor.run(executor)
        workers = executor.workers
        executor.close()
        if effort.quits and conductor.asked_to_stop:
            raise KeyboardInterrupt
        searched = clock.elapsed
        blended = None
        if judge:
            seconds = LONGEST_BLEND if effort.budget is None else max(0.0, effort.budget - clock.refits - searched)
            names = {family.name for family in study.families}
            candidates = [trial for trial in conductor.trials if trial.family in names]
            cheap = {family.name for family in study.families if family.cheap}
            blended = blend(ledger, candidates, prepared, study.seed, seconds, effort.keep, cheap)
        overhead = _overhead(searched, clock.elapsed, conductor.busy_seconds, workers)
        summary = summarise(study, prepared, conductor.trials, blended, overhead)
        if effort.serving is not None:
            summary["serving"] = effort.serving.limits
        if judge:
            write_json(ledger.folder / "result.json", summary)
        observer.study_ended(summary)
        if judge:
            observer.report_ready(partial(_report, study, site, summary, prepared))
    return summary


def _report(study: Study, site: Site, summary: dict[str, Any], prepared: Prepared) -> dict[str, str]:
    from tunekit.study.reporting import report_texts  # Plotly, which only who keeps a report should wait for

    return report_texts(study, site, summary, prepared)


def _open(ledger: Ledger, study: Study, prepared: Prepared, *, fresh: bool) -> None:
    """Open the ledger with every family's plans."""
    study.driver.check(1 + len(study.also_minimize))
    ledger.open(study.identity(prepared), seed=study.seed, fresh=fresh, program=study.program)
    data = prepared.data
    rows = len(prepared.folds.pairs[0][0])
    starts = plans_for(study.start_from, [family.name for family in study.families])
    for family in study.families:
        plans: list[dict[str, Any]] = [*starts[family.name], {"defaults": True}]
        portfolio = family.portfolio(data.task, rows=rows, temporal=data.time is not None)
        plans += [{"values": values} for values in portfolio]
        ledger.add_family(family.name, ProposalSampler(study.driver, study.seed, family.name), study.stopper, plans)


def _streamed(study: Study, store: Store) -> list[str]:
    """What is to be said where the rows are more than memory should hold."""
    names = [family.name for family in study.families if not isinstance(family, (NetFamily, Baseline))]
    if not store.facts["streamed"]:
        return []
    told = f"; {', '.join(names)} learn from a sample that memory holds" if names else ""
    return [f"the rows are larger than {MOST_IN_MEMORY / 2**20:.0f} MiB: nets are trained batch by batch{told}"]


def _thresholds(prepared: Prepared) -> list[str]:
    """What is to be said of a metric of decisions between two classes."""
    if prepared.metric_of_trials is prepared.metric:
        return []
    return [
        f"{prepared.metric.name} counts decisions: trials are compared at the threshold that is best for each; the "
        "blend's is tuned out of fold"
    ]


def _memory_of_a_trial(prepared: Prepared, store: Store) -> int:
    """Bytes, by the cells of its largest fold; what is large of arrays and texts is not copied, so they don't count."""
    rows = store.rows
    largest = max(len(train) + len(judged) for train, judged in prepared.folds.pairs)
    columns = int(rows.numbers.shape[1] + rows.codes.shape[1])
    return max(1, BYTES_PER_CELL * largest * columns)


def _crowded(wished: Effort, effort: Effort) -> list[str]:
    """What is to be said where memory is short for as many trials at a time as there are cores."""
    if wished == effort:
        return []
    return [
        f"memory is short for {wished.workers} trials at a time on these rows, so it is {effort.workers}, with "
        f"{effort.threads} thread(s) each; --workers says otherwise"
    ]


def _changed_families(study: Study, trials: Sequence[Trial]) -> list[str]:
    """What is to be said of families that came or went since the study was searched before."""
    before = Counter(trial.family for trial in trials)
    names = [family.name for family in study.families]
    new = [f"{name} is new in this study" for name in names if before and name not in before]
    gone = [name for name in before if name not in names]
    return new + [f"{name} is not in this study any more: its {before[name]} trials stay, unblended" for name in gone]


def _data_folder(ledger: Ledger, stack: ExitStack) -> Path:
    """Where this search's trials find the rows: where several share the study's folder, one of its own."""
    if not ledger.shared:
        return ledger.folder / "data"
    folder = Path(tempfile.mkdtemp(prefix="tunekit-data-"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _executor(study: Study, effort: Effort, site: Site, ledger: Ledger, data: Path) -> Executor:
    heavy = any(family.needs_tensorflow for family in study.families)
    if site.executor == "ray":
        from tunekit.executors.ray import RayExecutor

        return RayExecutor(effort.workers, effort.threads, data, heavy=heavy, address=site.ray_address)
    own = f"-{socket.gethostname()}-{os.getpid()}" if ledger.shared else ""
    log = ledger.folder / f"executor{own}.log"
    workers = effort.workers or 1
    spare = workers * effort.threads < usable_cores()
    return LocalExecutor(workers, effort.threads, log, data, heavy=heavy, at_once=spare)


def _serving_cost(study: Study, prepared: Prepared) -> MeasureCosts | None:
    if not study.also_minimize:
        return None
    from tunekit.export.serving import ServingCost

    data, (train, _) = prepared.data, prepared.folds.pairs[0]
    row = data.raw_rows(train[:1])
    folds = len(prepared.folds)
    return ServingCost(
        study.also_minimize,
        data.task,
        data.outputs,
        data.classes,
        prepared.schema,
        row,
        folds,
        len(train),
        data.targets,
    )


def _facts(study: Study, prepared: Prepared, effort: Effort, workers: int, folder: Path) -> StudyFacts:
    return StudyFacts(
        name=study.name,
        metric=prepared.metric.name,
        direction=prepared.metric.direction,
        task=prepared.data.task,
        families=tuple(family.name for family in study.families),
        driver=study.driver.name,
        split=repr(prepared.split),
        rows=len(prepared.data),
        columns=len(prepared.schema.columns),
        seed=study.seed,
        digest=prepared.data.digest,
        budget=effort.budget,
        trial_limit=effort.trials,
        workers=workers,
        also_minimize=study.also_minimize,
        kinds={column.name: column.kind for column in prepared.schema.columns},
        folder=folder,
        program=None if study.file is None else Path(study.file),
    )


def _overhead(searched: float, elapsed: float, busy: float, workers: int) -> dict[str, float]:
    """What the search itself cost: worker time in which no trial was building, fitting or predicting."""
    return {
        "share_of_worker_time": max(0.0, 1.0 - busy / (elapsed * max(workers, 1))),
        "search_seconds": searched,
        "blend_seconds": elapsed - searched,
    }
