"""The blend as its models, for those who want to go on training: their libraries' own files, fold by fold.

Nets are `.keras` files that load in Keras's safe mode, or SavedModels; boosted trees are XGBoost's UBJ, LightGBM's text
or CatBoost's CBM. Beside each are `model.json`, `preparation.npz` and `model.npz` as the search wrote them; none of it
is a pickle. What was converted is read back and compared with what the Python models predicted, or nothing is written.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunekit import __version__
from tunekit.bundle.manifest import MANIFEST, MODELS, MODELS_VERSION, file_entry, sealed
from tunekit.data.schema import Encoded
from tunekit.export.parity import compared, tolerance_of
from tunekit.export.plan import BlendPlan, Member
from tunekit.export.writer import check_place, place, plain, sync, write
from tunekit.families.base import load_facts
from tunekit.families.boosting import UBJ, boosted
from tunekit.families.cat_boost import CBM, catboost_predicts
from tunekit.families.light_gbm import TEXT, lightgbm_predicts
from tunekit.families.one_by_one import KIND as SEVERAL
from tunekit.families.one_by_one import target_folder

KINDS = ("keras", "saved-model")

NetWriter = Callable[[int, list[Path], Encoded], npt.NDArray[np.float64]]
"""Called with a member's position in the blend, the folders of its folds to write into, and rows.

Returns (n, outputs): what the written nets predict for these rows, the mean over folds.
"""

BOOSTED = {UBJ: boosted, TEXT: lightgbm_predicts, CBM: catboost_predicts}
"""The libraries' own files of boosted trees, and what reads them and predicts."""

COPIED = ("model.json", "preparation.npz", "model.npz", *BOOSTED)


def write_models(plan: BlendPlan, folder: str | Path, kind: str, write_nets: NetWriter, *, overwrite: bool) -> None:
    """Write a blend as its models.

    Args:
        plan: the blend, and what to compare it with.
        folder: where to; its parent is made if it isn't there.
        kind: "keras" or "saved-model", of the nets.
        write_nets: called for each member that is a net.
        overwrite: whether models that are already there are replaced. Anything else there is never replaced.

    Raises:
        ExportError: the folder is taken, a net can't be written, or what is written predicts something else. Nothing is
            left behind then.
    """
    folder = Path(folder).absolute()
    check_place(folder, overwrite)
    rows = plan.schema.encode(plan.check_columns)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}.draft"
    try:
        draft.mkdir()
        received: list[Any] = []
        for position, member in enumerate(plan.members):
            own = draft / _place_of(member)
            for number in range(member.folds):
                _copy(member.fold(number), own / f"fold{number}")
            if load_facts(member.fold(0))["kind"] == "keras":
                folds = [own / f"fold{number}" for number in range(member.folds)]
                received.append(write_nets(position, folds, rows))
            else:
                received.append(_mean_of_boosted(own, member.folds, rows))
        checked = [position for position, one in enumerate(received) if one is not None]
        worst = compared(plan, checked, [received[position] for position in checked], f"{kind} files")
        differences = dict(zip(checked, worst, strict=True))
        write(draft / MANIFEST, sealed(_manifest(plan, kind, draft, differences)).encode())
        sync(draft)
        place(draft, folder, overwrite)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _place_of(member: Member) -> str:
    return member.label.replace(" ", "_")


def _copy(source: Path, target: Path) -> None:
    """What the search wrote of a fold, but weights and what was made of them."""
    for name in COPIED:
        for path in [source / name, *source.glob(f"target*/{name}")]:
            if path.exists():
                copy = target / path.relative_to(source)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)


def _mean_of_boosted(folder: Path, folds: int, rows: Encoded) -> npt.NDArray[np.float64] | None:
    """What libraries' own files predict, the mean over folds; None where a member has none: its arrays are copies."""
    found = []
    for number in range(folds):
        fold = folder / f"fold{number}"
        parts = [fold]
        if (facts := load_facts(fold))["kind"] == SEVERAL:
            parts = [target_folder(fold, column) for column in range(facts["targets"])]
        own = next((name for name in BOOSTED if all((part / name).exists() for part in parts)), None)
        if own is None:
            return None
        found.append(np.concatenate([BOOSTED[own](part, rows) for part in parts], axis=1))
    return np.asarray(np.mean(found, axis=0))


def _manifest(plan: BlendPlan, kind: str, draft: Path, differences: dict[int, float]) -> dict[str, Any]:
    files = {path.relative_to(draft).as_posix(): file_entry(path.read_bytes()) for path in _files(draft)}
    content = {
        "format": MODELS,
        "version": MODELS_VERSION,
        "kind": kind,
        "name": plan.name,
        "task": plan.task,
        "outputs": plan.outputs,
        "classes": list(plan.classes),
        "targets": [target.plain for target in plan.targets],
        "columns": [asdict(column) for column in plan.schema.columns],
        "members": [
            {
                "label": member.label,
                "weight": member.weight,
                "folds": [f"{_place_of(member)}/fold{number}" for number in range(member.folds)],
                "difference": differences.get(position),
            }
            for position, member in enumerate(plan.members)
        ],
        "facts": plan.facts,
        "versions": {"tunekit": __version__, **_versions()},
        "parity": {"rows": plan.rows, "tolerance": tolerance_of(plan)},
        "files": files,
    }
    return plain(content)


def _versions() -> dict[str, str]:
    """Of what is installed of the libraries whose files there are."""
    found = {}
    for name in ("keras", "tensorflow", "xgboost", "lightgbm", "catboost", "numpy"):
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())
