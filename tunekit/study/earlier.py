"""`from_study`: the net of an earlier study as the base of a pretrained one."""

from __future__ import annotations

import copy
import json
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.data.targets import Target
from tunekit.errors import StudyError
from tunekit.families import Baseline, NetFamily, Pretrained
from tunekit.study.blend import best_first
from tunekit.study.duration import parse_duration
from tunekit.training.earlier import FILES, EarlierNet

if TYPE_CHECKING:
    from tunekit.ledger import Ledger
    from tunekit.study.effort import Effort, Site
    from tunekit.study.prepared import Prepared
    from tunekit.study.study import Study
    from tunekit.trial import Trial

BASES = "bases"
"""The folder of a study with the bases that it took from earlier ones."""

FACTS = "base.json"


class FromStudy:
    """The best net of an earlier study; see `from_study`. It can be called once `bring` has found that net.

    Args:
        study: the earlier one.
        family: of the net.
        budget: of a search for that net, if there is none yet; None to refuse that.
    """

    def __init__(self, study: Study, family: str, budget: str | float | None) -> None:
        self.study = study
        self.budget = budget
        known = {one.name: one for one in study.families if isinstance(one, NetFamily)}
        if family not in known:
            raise StudyError(
                f"the study {study.name!r} has no net family {family!r}; expected one of its nets: "
                f"{', '.join(known) or 'it has none'}"
            )
        self.family = known[family]
        self._net: EarlierNet | None = None

    @property
    def net(self) -> EarlierNet:
        """The net.

        Raises:
            StudyError: it has not been brought.
        """
        if self._net is None:
            raise StudyError(
                f"the net of study {self.study.name!r} has not been looked up; expected a search or an export, "
                "which do so as they start"
            )
        return self._net

    @property
    def searchable(self) -> Study:
        """The earlier study with the net's family alone, beside its baseline: the time of a search is for the net."""
        study = copy.copy(self.study)
        study.families = [one for one in study.families if isinstance(one, Baseline) or one is self.family]
        study.start_from = [start for start in study.start_from if start.family in (None, self.family.name)]
        return study

    @property
    def digest(self) -> str:
        """See `EarlierNet.digest`."""
        return self.net.digest

    def __call__(self) -> Any:
        """See `EarlierNet.__call__`."""
        return self.net()

    def __reduce__(self) -> Any:
        """What other processes need is the net alone."""
        net = self.net
        return EarlierNet, (net.label, net.family, net.values, net.shape, net.rows, net.targets, net.files)

    def folder_in(self, ledger: Ledger) -> Path:
        """Where the later study keeps the net."""
        return ledger.folder / BASES / f"{self.study.name}-{self.family.name}"

    def searched(self, site: Site) -> bool:
        """Whether the earlier study has a trial that can be the base."""
        try:
            return self._best(site)[0] is not None
        except StudyError:
            return False

    def bring(self, site: Site, ledger: Ledger) -> str:
        """Find the net: the one that the later study began with, or the best one there is now, which is then kept.

        Args:
            site: where both studies are recorded.
            ledger: of the later study.

        Returns:
            What was found, in words.

        Raises:
            StudyError: the earlier study has no such net.
        """
        bring_bases(self.study, site, site.ledger(self.study.name))
        folder = self.folder_in(ledger)
        if not (folder / FACTS).exists():
            self._keep(site, folder)
        facts = json.loads((folder / FACTS).read_text())
        task, outputs, cardinalities = facts["shape"]
        self._net = EarlierNet(
            facts["label"],
            self.family,
            facts["values"],
            (task, outputs, tuple(cardinalities)),
            facts["rows"],
            tuple(Target.of(plain) for plain in facts["targets"]),
            {name: (folder / name).read_bytes() for name in FILES},
        )
        return f"{facts['label']}, {facts['metric']} {facts['score']:.4g}"

    def _keep(self, site: Site, folder: Path) -> None:
        """Copy the net of the best trial's first fold: the later study depends on it for good."""
        trial, prepared, source = self._best(site)
        if trial is None or source is None:
            way = (
                "run `tunekit search` on it first, or let it be run: tk.from_study(..., budget='2m')"
                if self.budget is None
                else "the time that it was searched for was too short: search with a larger budget"
            )
            raise StudyError(
                f"the study {self.study.name!r} has no complete trial of {self.family.name!r} in {str(site.root)!r}; "
                f"{way}"
            )
        facts = {
            "label": f"trial {trial.name} of study {self.study.name!r}",
            "metric": prepared.metric.name,
            "score": trial.score,
            "values": trial.values,
            "shape": [prepared.data.task, prepared.data.outputs, list(prepared.schema.cardinalities)],
            "rows": len(prepared.folds.pairs[0][0]),
            "targets": [target.plain for target in prepared.data.targets],
        }
        partial = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}.partial")
        partial.mkdir(parents=True)
        for name in FILES:
            shutil.copyfile(source / name, partial / name)
        (partial / FACTS).write_text(json.dumps(facts))
        partial.rename(folder)

    def _best(self, site: Site) -> tuple[Trial | None, Prepared, Path | None]:
        """The best trial whose files were kept, its rows, and the folder of its first fold."""
        prepared = self.study.prepare()
        ledger = self.study.open_ledger_to_read(site)
        try:
            ledger.check_identity(self.study.identity(prepared))
            for trial in best_first(ledger.trials(), prepared):
                if trial.family == self.family.name and (fold := _first_fold(ledger, trial)) is not None:
                    return trial, prepared, fold
            return None, prepared, None
        finally:
            ledger.close()


def from_study(study: Study | Path | str, family: str, *, budget: str | float | None = None) -> FromStudy:
    """The best net of an earlier study as a base: `tk.Pretrained(tk.from_study("digits.py", "convnet"))`.

    It is the net of the best complete trial's first fold, rebuilt by its factory and cut before its head; its fold's
    scaling becomes part of the base, which therefore reads pixels as the earlier study's data had them. A study keeps
    the base that it began with, whatever the earlier study does later, until it is searched with `--fresh`.

    Args:
        study: a `Study`, or the file that declares it: relative to the file that says so, or to the working directory.
        family: name of one of its families of nets.
        budget: if the earlier study has no such trial yet, that family of it is searched for so long first, which
            counts towards the later one's budget. If left out, the later study refuses to start.

    Raises:
        StudyError: there is no such study, or it has no such family.
    """
    if isinstance(study, (str, Path)):
        from tunekit.study.loading import load_study

        said_in = sys._getframe(1).f_globals.get("__file__")
        beside = None if said_in is None else Path(said_in).parent / study
        study = load_study(beside if beside is not None and beside.is_file() else study)
    return FromStudy(study, family, budget)


def bases_of(study: Study) -> Iterator[tuple[str, FromStudy]]:
    """The earlier studies that a study builds on, by the name of its family."""
    for family in study.families:
        if isinstance(family, Pretrained) and isinstance(family.base, FromStudy):
            yield family.name, family.base


def bring_bases(study: Study, site: Site, ledger: Ledger) -> list[str]:
    """Look up every base that comes from an earlier study, so that nets can be built on it; what was found."""
    return [f"{name} builds on {base.bring(site, ledger)}" for name, base in bases_of(study)]


def search_earlier(study: Study, site: Site, effort: Effort, *, fresh: bool, quiet: bool) -> Effort:
    """Search for the nets of earlier studies that have none yet, if they were given a budget for that.

    Args:
        study: the later one.
        site: where both are recorded, and run.
        effort: what the later one may spend; an earlier one gets half of it at most.
        fresh: whether the later one forgets the base that it began with.
        quiet: whether nobody watches.

    Returns:
        What is left of the effort.
    """
    started = time.monotonic()
    for _, base in bases_of(study):
        kept = (base.folder_in(site.ledger(study.name)) / FACTS).exists() and not fresh
        seconds = parse_duration(base.budget)
        if seconds is None or kept or base.searched(site):
            continue
        base.searchable.run(
            budget=seconds if effort.budget is None else min(seconds, effort.budget / 2),
            workers=effort.workers,
            observers=[] if quiet else None,
            root=site.root,
            storage=site.storage,
            artifacts=site.artifacts,
            executor=site.executor,
            ray_address=site.ray_address,
        )
    spent = time.monotonic() - started
    return effort if effort.budget is None else replace(effort, budget=max(1.0, effort.budget - spent))


def _first_fold(ledger: Ledger, trial: Trial) -> Path | None:
    """The folder of a trial's first fold, if its net was kept."""
    try:
        folder = ledger.fetch(trial) / "fold0"
    except StudyError:
        return None
    return folder if all((folder / name).exists() for name in FILES) else None
