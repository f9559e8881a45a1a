"""`review`: looks at a search that was run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from tunekit.coach.check import check
from tunekit.coach.curves import fits, rates
from tunekit.coach.finding import Finding, most_urgent_first
from tunekit.coach.members import alike, edges, failures, wasted
from tunekit.coach.searched import Searched
from tunekit.coach.standing import baseline, cheap, converged, noise
from tunekit.errors import StudyError
from tunekit.study import Result, Study
from tunekit.study.prepared import Prepared
from tunekit.study.study import ROOT

LOOKS: tuple[Callable[[Searched], Iterator[Finding]], ...] = (
    baseline,
    failures,
    rates,
    cheap,
    fits,
    edges,
    noise,
    converged,
    alike,
    wasted,
)
"""Each looks for one thing."""


def review(result: Result, *, prepared: Prepared | None = None) -> list[Finding]:
    """Look at a search that was run: what stands in its way, and what to change.

    Args:
        result: as `study.run` or `study.result` returns it.
        prepared: the study's rows, if they are prepared already.

    Returns:
        The findings, the most urgent first; none where no trial has ended.

    Raises:
        StudyError: the ledger can't be read, or holds trials on other rows.
        TunekitError: the data can't be loaded.
    """
    study = result.study
    prepared = study.prepare() if prepared is None else prepared
    ledger = study.open_ledger_to_read(result.site)
    try:
        ledger.check_identity(study.identity(prepared))
        searched = Searched.read(study, prepared, result.summary, ledger)
    finally:
        ledger.close()
    return look_at(searched)


def check_study(
    study: Study, root: Path | str = ROOT, *, storage: str | None = None, artifacts: str | None = None
) -> list[Finding]:
    """What `check` says of a study's data and, where it has trials, `review` of its search.

    Args:
        study: the declaration.
        root: see `Study.run`.
        storage: see `Study.run`.
        artifacts: see `Study.run`.

    Raises:
        TunekitError: the data can't be loaded or split.
    """
    try:
        result = study.result(root, storage=storage, artifacts=artifacts)
    except StudyError:  # it was not searched yet
        return check(study)
    prepared = result.study.prepare()
    findings = check(result.study, prepared=prepared)
    try:
        return most_urgent_first([*findings, *review(result, prepared=prepared)])
    except StudyError as error:
        told = Finding("hint", "other-trials", "its trials are not looked at", str(error))
        return most_urgent_first([*findings, told])


def look_at(searched: Searched) -> list[Finding]:
    """All findings of a search."""
    return most_urgent_first([found for look in LOOKS for found in look(searched)])
