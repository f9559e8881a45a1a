"""A blend as one small net: taught by it, judged beside it on rows that are new to both, then taught by all rows."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tunekit.bundle import Bundle
from tunekit.ensemble import Combination
from tunekit.errors import ExportError, StudyError
from tunekit.executors import Job, Limits, LocalExecutor, answer_of
from tunekit.export import BlendPlan, write_bundle
from tunekit.export.converting import converted
from tunekit.export.serving import costs_of
from tunekit.families.base import Length
from tunekit.families.student import Student
from tunekit.ledger import Ledger
from tunekit.study.blend import Candidate, polished_alone
from tunekit.study.bundling import convert_nets, plan_of
from tunekit.study.effort import usable_cores
from tunekit.study.lesson import Lesson
from tunekit.study.prepared import Prepared
from tunekit.study.rivals import Rival, report
from tunekit.study.serving import UNITS, Serving, costs_text
from tunekit.training.student import StudentTask, run_student
from tunekit.trial import Trial, derive_seed

if TYPE_CHECKING:
    from tunekit.study.study import Study

SECONDS = 3600.0
"""A fit that takes longer is given up."""

NONE = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Distilled:
    """What came of it.

    Args:
        student: the net that learnt from all rows.
        plan: of its export; the facts say how it compares.
        told: the same in words.
    """

    student: Candidate
    plan: BlendPlan
    told: str


def distilled(
    study: Study,
    prepared: Prepared,
    ledger: Ledger,
    teacher: tuple[BlendPlan, Sequence[Candidate]],
    single: Candidate | None,
    serving: Serving | None,
) -> Distilled:
    """Teach a net what the blend predicts, judge it without the test rows, then teach it with them.

    How long it learns is found on the validation rows of the last fold: their targets end a first training on the
    other rows. A second one, as long, on all rows but the test rows is judged on these, beside the blend and the best
    single model. A third one, as long again, on all rows, the test rows too, is what is exported: of the test rows it
    learns the targets and what the blend said when it was judged. See `Lesson` for what is learnt of a row.

    Args:
        study: the declaration.
        prepared: its rows.
        ledger: of the study, in whose folder the student is left.
        teacher: the blend, and its members.
        single: the best single model, unless that is the blend.
        serving: limits that the student must keep to, if any.

    Raises:
        StudyError: the data is of a kind that no student learns, or it can't be trained.
        ExportError: the blend can't be exported, or the student is not within the limits.
    """
    blend, members = teacher
    if reason := refusal(study, prepared):
        raise StudyError(f"distill=True (--distill): {reason}")
    folder = ledger.folder / "distill"
    shutil.rmtree(folder, ignore_errors=True)
    convert_nets(study, prepared, ledger, list(members))
    write_bundle(blend, folder / "teacher", lambda position: converted(blend.members[position]))
    lesson = Lesson.of(prepared, Bundle.load(folder / "teacher"), members, blend.combined)
    judged, final = _students(study, lesson, ledger.folder, folder)

    def costs(plan: BlendPlan) -> dict[str, float]:
        row = prepared.data.raw_rows(prepared.folds.test[:1])
        return costs_of(plan, lambda position: converted(plan.members[position]), row, tuple(UNITS))

    convert_nets(study, prepared, ledger, [final, *([] if single is None else [single])])
    plan = _plan(study, prepared, final, blend)
    student = Rival("the student", _of_tests(prepared, [judged], plan.combined), costs(plan))
    if serving is not None and not serving.fits(student.costs):
        raise ExportError(
            f"the student costs {costs_text(student.costs)}; expected no more than {costs_text(serving.limits)}: allow "
            "that, or leave out --distill to have the best blend within these limits"
        )
    rivals = [Rival("the blend", _of_tests(prepared, members, blend.combined), costs(blend))]
    if single is not None:
        alone = replace(
            plan_of(study, prepared, [single], [1.0]),
            combination=polished_alone(single, blend.combined, prepared, study.seed),
        )
        rivals.append(
            Rival(
                f"the best single model ({single.trial.name})",
                _of_tests(prepared, [single], alone.combined),
                costs(alone),
                single.trial.number,
            )
        )
    facts = report(prepared, student, rivals, seed=derive_seed(study.seed, "bootstrap"))
    shutil.rmtree(folder / "teacher")
    ensemble = {**blend.facts["ensemble"], "distilled": facts}
    return Distilled(final, replace(plan, facts={**blend.facts, "ensemble": ensemble}), facts["told"])


def refusal(study: Study, prepared: Prepared) -> str | None:
    """Why no student learns such data; None if one does."""
    data, schema = prepared.data, prepared.schema
    instead = "export without it, or with --refit, or under a limit such as --latency 2ms"
    if data.targets:
        return f"the study has {len(data.targets)} targets, and a student learns one; {instead}"
    if data.horizon is not None or schema.arrays or schema.texts:
        kinds = "a series" if data.horizon is not None else "arrays such as images" if schema.arrays else "texts"
        return f"the data holds {kinds}; expected numbers, dates and categories, as a student reads them: {instead}"
    if any(family.name == Student.name for family in study.families):
        return f"a family of the study is named {Student.name!r}, as the net that learns the blend is; rename it"
    return None


def _students(study: Study, lesson: Lesson, log_folder: Path, folder: Path) -> tuple[Candidate, Candidate]:
    """The student that learnt without the test rows, and the one that learnt from all."""
    folds, data = lesson.prepared.folds, lesson.prepared.data
    rows, everything = (data.teaching(some) for some in (folds.development, np.arange(len(data), dtype=np.int64)))
    lessons = {"apart": folds.pairs[-1], "judged": (rows, NONE), "all": (everything, NONE)}
    stores = folder / "data"
    for name, (train, valid) in lessons.items():
        lesson.write(stores / name, train, valid, derive_seed(study.seed, "munging", name))
    threads = usable_cores()
    executor = LocalExecutor(1, threads, log_folder / "executor.log", stores)

    def fit(name: str, length: Length | None) -> Any:
        seed = derive_seed(study.seed, "student", name)
        task = StudentTask(Student(), lesson.prepared.metric, name, length, seed, threads)
        place = folder / name
        place.mkdir()
        job = Job(run_student, (task,), place, Limits(SECONDS), heavy=True)
        return answer_of(executor, job, StudyError, "the student could not be taught")

    try:
        length = fit("apart", None)
        found = []
        for name in ("judged", "all"):
            fit(name, length)
            with np.load(folder / name / "fold0" / "predictions.npz") as arrays:
                trial = Trial(0, Student.name, 0, seed=study.seed)
                found.append(Candidate(trial, np.empty((0, data.outputs)), arrays["unlabelled"], folder / name, 1))
        return found[0], found[1]
    finally:
        executor.close()
        shutil.rmtree(stores, ignore_errors=True)


def _plan(study: Study, prepared: Prepared, student: Candidate, blend: BlendPlan) -> BlendPlan:
    """Of a student's export: it decides from the same threshold as the blend."""
    plan = plan_of(study, prepared, [student], [1.0])
    alone = Combination.weighted(plan.task, np.ones(1), plan.outputs)
    member = replace(plan.members[0], label=Student.name)
    return replace(plan, members=(member,), combination=replace(alone, threshold=blend.combined.threshold))


def _of_tests(prepared: Prepared, members: Sequence[Candidate], combination: Combination) -> npt.NDArray[np.float64]:
    """Predictions of the test rows as a metric takes them."""
    tests = len(prepared.folds.test)
    blended = combination.apply(np.stack([one.unlabelled[:tests] for one in members]))
    return combination.decisive(blended)
