"""From a study's ledger to its report."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tunekit.bundle import Bundle
from tunekit.bundle.columns import ARRAY
from tunekit.data import Schema
from tunekit.ensemble import Combination
from tunekit.errors import MetricError, TunekitError
from tunekit.ledger import Ledger
from tunekit.report import (
    Absent,
    ColumnImportance,
    Finding,
    Material,
    Members,
    Section,
    Shown,
    errors_of,
    figures_of,
    file_name,
    importance,
    page,
    sections,
    write_figures,
)
from tunekit.report.columns import MOST_ROWS
from tunekit.study.blend import Candidate, best_first, load_candidate
from tunekit.study.bundling import BUNDLE, Wanted, export
from tunekit.study.effort import usable_cores
from tunekit.study.prepared import Prepared
from tunekit.trial import Trial

if TYPE_CHECKING:
    from tunekit.study.effort import Site
    from tunekit.study.study import Study


@dataclass(frozen=True)
class Written:
    """A report that was written.

    Args:
        path: of the page.
        sections: what is on it.
        images: the figures as files, where they were asked for.
    """

    path: Path
    sections: list[Section]
    images: list[Path]

    def to_json(self) -> dict[str, Any]:
        """What `tunekit report --json` prints."""
        return {
            "report": str(self.path),
            "sections": [section.plain for section in self.sections],
            "images": [str(path) for path in self.images],
        }


@dataclass(frozen=True)
class _Predicted:
    """The rows with what is predicted for them."""

    prepared: Prepared
    candidates: list[Candidate]
    combination: Combination
    shown: Shown


def write_report(
    study: Study,
    site: Site,
    summary: Mapping[str, Any],
    path: Path,
    *,
    findings: Sequence[Finding] = (),
    columns: bool = True,
    images: Path | None = None,
    form: str = "svg",
) -> Written:
    """Write the page, and the figures as files if a folder is given for them.

    Args:
        study: the declaration.
        site: where its ledger is.
        summary: of the ledger, with its blend.
        path: of the page; what is there is replaced.
        findings: shown below the verdict.
        columns: whether to find out which columns matter, for which the blend is exported.
        images: a folder for the figures as files.
        form: of these, "svg" or "png".

    Raises:
        StudyError: the ledger can't be read, or the figures can't be written as files.
    """
    material = gather(study, site, summary, columns=columns)
    made = sections(material)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(material, made, findings), encoding="utf-8")
    files = [] if images is None else write_figures(figures_of(made), images, form)
    return Written(path, made, files)


def report_texts(study: Study, site: Site, summary: Mapping[str, Any], prepared: Prepared) -> dict[str, str]:
    """The page and each figure as Plotly's JSON, by the names of their files: what is quickly made after a search.

    Neither the importance of columns nor what a coach says is on this page.

    Args:
        study: the declaration.
        site: where its ledger is.
        summary: of the ledger, with its blend.
        prepared: the rows.
    """
    material = gather(study, site, summary, columns=False, prepared=prepared)
    made = sections(material)
    figures = {f"figures/{file_name(name)}.json": str(one.to_json()) for name, one in figures_of(made).items()}
    return {"report.html": page(material, made), **figures}


def gather(
    study: Study,
    site: Site,
    summary: Mapping[str, Any],
    *,
    columns: bool = True,
    prepared: Prepared | None = None,
) -> Material:
    """All that a report shows; what can't be shown is there as the reason why.

    Args:
        study: the declaration.
        site: where its ledger is.
        summary: of the ledger, with its blend.
        columns: see `write_report`.
        prepared: the rows, where they are at hand; else they are loaded.
    """
    ledger = study.open_ledger_to_read(site)
    try:
        trials = [*ledger.trials(), *ledger.running()]
        identity = ledger.identity
        found = _predicted(study, ledger, trials, summary, prepared)
    finally:
        ledger.close()
    shown: Shown | Absent = found if isinstance(found, Absent) else found.shown
    members: Members | Absent = found if isinstance(found, Absent) else _members(found, summary)
    needed: ColumnImportance | Absent = Absent("it was not asked for")
    if isinstance(found, Absent):
        needed = Absent(f"which columns matter can't be shown: {found.why}")
    elif columns:
        needed = _columns(study, site, summary, found)
    return Material(
        summary=summary,
        trials=trials,
        families=[family.name for family in study.families],
        facts=_facts(study, identity, found),
        commands=_commands(study, site),
        shown=shown,
        members=members,
        columns=needed,
        lookup={
            name: value for name in ("time", "series") if isinstance(value := getattr(study.data, name, None), str)
        },
    )


def _predicted(
    study: Study, ledger: Ledger, trials: Sequence[Trial], summary: Mapping[str, Any], prepared: Prepared | None
) -> _Predicted | Absent:
    """What the blend predicts, or where there is none the best trial; on the test rows, or without any out of fold."""
    try:
        prepared = prepared or study.prepare()
        ledger.check_identity(study.identity(prepared))
    except (TunekitError, OSError) as error:
        return Absent(f"the rows that were searched on can't be loaded ({error})")
    by_number = {trial.number: trial for trial in trials}
    ensemble = summary.get("ensemble")
    if ensemble:
        chosen = [by_number.get(one["trial"]) for one in ensemble["members"]]
        weights = np.array([one["weight"] for one in ensemble["members"]], dtype=float)
        who = "the blend"
    else:
        ranked = best_first(trials, prepared)
        if not ranked:
            return Absent("no trial was fitted on every fold")
        chosen, weights, who = [ranked[0]], np.ones(1), f"trial {ranked[0].name}"
    try:
        candidates = [load_candidate(ledger, trial, prepared) for trial in chosen if trial is not None]
    except (TunekitError, OSError) as error:
        return Absent(f"the predictions of {who} are not there any more ({error})")
    if len(candidates) < len(chosen):
        return Absent("trials of the blend are not in the ledger any more; run `tunekit search` again")
    fitted = ((ensemble or {}).get("combination") or {}).get("fitted")
    data = prepared.data
    combination = (
        Combination.from_plain(fitted, data.task, weights)
        if fitted
        else Combination.weighted(data.task, weights, data.outputs)
    )
    combination = replace(combination, least=prepared.least)
    tests = prepared.folds.test
    parts = [one.unlabelled[: len(tests)] if len(tests) else one.out_of_fold for one in candidates]
    rows = tests if len(tests) else prepared.covered
    predictions = combination.apply(np.stack(parts))
    shown = Shown(data, prepared.metric, who, rows, predictions, bool(len(tests)), combination.threshold)
    return _Predicted(prepared, candidates, combination, shown)


def _members(found: _Predicted, summary: Mapping[str, Any]) -> Members | Absent:
    """What each member gets wrong, out of fold."""
    ensemble = summary.get("ensemble")
    if not ensemble:
        return Absent("there is no blend yet")
    errors = []
    for one in found.candidates:
        errors.append(errors_of(replace(found.shown, rows=found.prepared.covered, predictions=one.out_of_fold).parts))
    return Members(
        tuple(one.trial.name for one in found.candidates),
        tuple(one.trial.family for one in found.candidates),
        tuple(one["weight"] for one in ensemble["members"]),
        np.stack(errors),
    )


def _columns(study: Study, site: Site, summary: Mapping[str, Any], found: _Predicted) -> ColumnImportance | Absent:
    """Importance of the raw columns for the exported blend, on a sample of the test rows."""
    data, shown = found.prepared.data, found.shown
    if not shown.untouched:
        return Absent("there are no test rows, and models predict the rows that they learnt from too well to ask them")
    pieces = _pieces(study, found.prepared)
    if len(pieces) < 2:
        return Absent(f"the predictions read one column alone ({next(iter(pieces))}), so it is the one that they need")
    rows = np.random.default_rng(0).permutation(shown.rows)[:MOST_ROWS]
    given = {name: _as_given(values, data.schema, name) for name, values in data.raw_rows(rows).items()}
    weight = None if data.weight is None else data.weight[rows]
    with tempfile.TemporaryDirectory(prefix="tunekit-report-") as folder:
        try:
            place = export(
                study, site, _exported(summary, found), Path(folder) / "model", Wanted(BUNDLE, *NOTHING_MORE)
            )
            bundle = Bundle.load(place, threads=usable_cores())
            return importance(
                given,
                pieces,
                data.target[rows],
                weight,
                found.prepared.metric,
                lambda columns: found.combination.decisive(bundle.raw(columns)),
            )
        except MetricError as error:
            return Absent(f"the score can't be computed on {len(rows)} test rows ({error})")
        except TunekitError as error:
            return Absent(f"which columns matter is asked of the exported blend, which could not be written: {error}")


NOTHING_MORE = (False, False, False, None, None)
"""Of an export: it replaces nothing, refits nothing, distils nothing, has no limits, and tells nobody."""


def _exported(summary: Mapping[str, Any], found: _Predicted) -> dict[str, Any]:
    """The summary with a blend: where there is none, the trial that is shown alone."""
    if summary.get("ensemble"):
        return dict(summary)
    trial = found.candidates[0].trial
    member = {"trial": trial.number, "family": trial.family, "weight": 1.0, "score": trial.score}
    return {**summary, "ensemble": {"members": [member], "oof_score": trial.score}}


def _pieces(study: Study, prepared: Prepared) -> dict[str, tuple[str, int | None]]:
    """What can be shuffled by itself: a column, or of series a channel of the windows."""
    pieces: dict[str, tuple[str, int | None]] = {}
    for column in prepared.data.schema.columns:
        if column.kind == ARRAY and prepared.data.horizon is not None:
            channels = (getattr(study.data, "told", None) or {}).get("channels", [])
            pieces |= {f"past of {name}": (column.name, place) for place, name in enumerate(channels)}
        else:
            pieces[column.name] = (column.name, None)
    return pieces


def _as_given(values: Any, schema: Schema, name: str) -> Any:
    """A typed column as a caller of the bundle has it: dates are dates."""
    column = next(one for one in schema.columns if one.name == name)
    return (values * 1e6).round().astype("datetime64[us]") if column.kind == "date" else values


def _facts(study: Study, identity: Mapping[str, Any], found: _Predicted | Absent) -> dict[str, str]:
    """What must be the same for the same result."""
    facts = {
        "name": study.name,
        "metric": f"{identity['metric']} ({identity['direction']})",
        "split": str(identity["split"]),
        "seed": str(identity["seed"]),
        "data, SHA-256": str(identity["data"]),
        "driver": study.driver.name,
        "families": ", ".join(family.name for family in study.families),
    }
    if not isinstance(found, Absent):
        data, folds = found.prepared.data, found.prepared.folds
        rows = f"{len(data):,}, {len(folds.test):,} of them test rows; {len(folds)} folds of the others"
        facts |= {"task": data.task, "rows": rows, "columns": f"{len(data.schema.columns):,}"}
    return facts


def _commands(study: Study, site: Site) -> list[str]:
    """How to run the study and write this page again; a database's address may hold a password and is not told."""
    if study.file is None:
        return ["study.run()", 'study.result().report("report.html")']
    path = Path(os.path.relpath(study.file))
    name = path.name if ".." in path.parts else str(path)
    where = "" if str(site.root) == "mlruns" or site.root.is_absolute() else f" --root {site.root}"
    where += " --storage ADDRESS" if site.storage else ""
    where += " --artifacts ADDRESS" if site.artifacts else ""
    return [
        f"tunekit search {name}{where} --seed {study.seed}",
        f"tunekit report {name}{where} -o report.html",
    ]
