"""Writes a bundle: built in a folder beside its place, checked there, and moved into place whole."""

from __future__ import annotations

import datetime
import importlib.metadata
import math
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tunekit import __version__
from tunekit.bundle import Bundle
from tunekit.bundle.columns import ARRAY, TEXTS
from tunekit.bundle.manifest import FORMAT, GRAPH, MANIFEST, VERSION, file_entry, names_in, sealed
from tunekit.data.schema import Column
from tunekit.errors import ExportError
from tunekit.export.blend import NetConverter, blend_graph
from tunekit.export.graph import OPSETS
from tunekit.export.parity import Parity, as_given, check_parity, tolerance_of
from tunekit.export.plan import BlendPlan

LARGEST_EXAMPLE = 4096
"""Values of an array in the example of a manifest."""


EXAMPLE_WORDS = 8
"""Words of a text in the example of a manifest."""


def write_bundle(plan: BlendPlan, folder: str | Path, convert_nets: NetConverter, *, overwrite: bool = False) -> Parity:
    """Write a blend as a bundle, if it predicts what the Python models predict.

    Args:
        plan: the blend, and what to compare it with.
        folder: where to; its parent is made if it isn't there.
        convert_nets: called with the position of each member that is a net; returns its nets as ONNX models, one per
            fold, as `tunekit.export.nets.nets_to_onnx` makes them.
        overwrite: whether a bundle that is already there is replaced. Anything else there is never replaced.

    Returns:
        How far the bundle is from the Python models.

    Raises:
        ExportError: the folder is taken, a member can't be written, or the graph predicts something else. Nothing is
            left behind then, and a bundle that was there still is.
    """
    folder = Path(folder).absolute()
    check_place(folder, overwrite)
    model, outputs = blend_graph(plan, convert_nets)
    graph = _bytes(model)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}.draft"
    try:
        draft.mkdir()
        write(draft / GRAPH, graph)
        write(draft / MANIFEST, sealed(_manifest(plan, outputs, graph, None)).encode())
        parity = check_parity(Bundle.load(draft), plan)
        write(draft / MANIFEST, sealed(_manifest(plan, outputs, graph, parity)).encode())
        sync(draft)
        place(draft, folder, overwrite)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return parity


def check_place(folder: Path, overwrite: bool) -> None:
    """Refuse a place that holds something which is not ours to replace."""
    if not folder.exists() and not folder.is_symlink():
        return
    if folder.is_symlink() or not folder.is_dir():
        raise ExportError(f"{str(folder)!r} is a file or a link; expected a folder, or nothing: choose another place")
    held = sorted(path.name for path in folder.iterdir())
    if not held:
        return
    if foreign := sorted(set(held) - names_in(folder)):
        raise ExportError(
            f"the folder {str(folder)!r} holds {len(foreign)} thing(s) that are no bundle's, such as {foreign[0]!r}; "
            "expected an empty folder, a bundle or nothing: choose another place, or remove it yourself"
        )
    if not overwrite:
        raise ExportError(
            f"there already is a bundle in {str(folder)!r}; expected an empty place: choose another one, or ask to "
            "replace it (overwrite=True; on the command line --force)"
        )


def place(draft: Path, folder: Path, overwrite: bool) -> None:
    """Move the draft to its place; a bundle that is replaced is gone only once the new one is there."""
    check_place(folder, overwrite)  # once more: it was some time ago
    if not folder.exists():
        draft.rename(folder)
    else:
        old = draft.with_suffix(".old")
        folder.rename(old)
        try:
            draft.rename(folder)
        except OSError:
            old.rename(folder)
            raise
        shutil.rmtree(old, ignore_errors=True)
    sync(folder.parent)


def write(path: Path, data: bytes) -> None:
    """Write a file that is on disk when this returns."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync(folder: Path) -> None:
    """Make the names in a folder durable; systems that can't open folders do so by themselves."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _bytes(model: onnx.ModelProto) -> bytes:
    try:
        return bytes(model.SerializeToString(deterministic=True))
    except Exception as error:  # protobuf raises errors of several kinds beyond 2 GB
        raise ExportError(
            f"the blend can't be written as one file: {error}; expected a graph below 2 GB: export fewer members, or "
            "forests with fewer trees"
        ) from error


def _manifest(plan: BlendPlan, outputs: dict[str, str], graph: bytes, parity: Parity | None) -> dict[str, Any]:
    libraries = ("numpy", "onnx", "onnxruntime")
    content = {
        "format": FORMAT,
        "version": VERSION,
        "name": plan.name,
        "task": plan.task,
        "classes": list(plan.classes),
        "targets": [target.plain for target in plan.targets],
        "columns": [_described(column) for column in plan.schema.columns],
        "outputs": plan.outputs,
        "members": [{"label": member.label, "weight": member.weight} for member in plan.members],
        "combination": plan.combined.told,
        "threshold": plan.combined.threshold,
        "example": example_row(plan),
        "facts": plan.facts,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {
            "tunekit": __version__,
            "opset": OPSETS[""],
            "opset_ml": OPSETS["ai.onnx.ml"],
            **{name: importlib.metadata.version(name) for name in libraries},
        },
        "graph": {"file": GRAPH, **outputs},
        "files": {GRAPH: file_entry(graph)},
        "parity": {
            "rows": plan.rows,
            "tolerance": tolerance_of(plan),
            "difference": parity.difference if parity else None,
            "members": list(parity.members) if parity else None,
        },
    }
    return plain(content)


def _described(column: Column) -> dict[str, Any]:
    told: dict[str, Any] = {"name": column.name, "kind": column.kind}
    if column.held:
        told["held"] = column.held
    if column.kind in TEXTS:
        return told | {"length": column.most_read, "words": list(column.levels)}
    return told if column.kind != ARRAY else told | {"shape": list(column.shape), "dtype": column.dtype}


def example_row(plan: BlendPlan) -> dict[str, Any]:
    """One typical row for whoever serves the bundle: the middle or the most frequent value of each column.

    No row of the data: bundles are handed on, rows may be private. Of arrays, zeros; of large ones None. Of texts, the
    most frequent words.
    """
    row: dict[str, Any] = {}
    shapes = {column.name: column.shape for column in plan.schema.arrays}
    said = {column.name: " ".join(column.levels[:EXAMPLE_WORDS]) for column in plan.schema.texts}
    for name, values in as_given(plan).items():
        if name in said:
            row[name] = said[name]
            continue
        if name in shapes:
            row[name] = np.zeros(shapes[name]).tolist() if math.prod(shapes[name]) <= LARGEST_EXAMPLE else None
            continue
        present = values[values != ""] if values.dtype == object else values[values == values]
        if not len(present):
            row[name] = None
            continue
        found, counts = np.unique(present, return_counts=True)
        kind = next(column.kind for column in plan.schema.columns if column.name == name)
        typical = found[counts.argmax()] if kind in ("category", "boolean") else np.sort(present)[len(present) // 2]
        row[name] = bool(typical) if kind == "boolean" else str(typical) if kind == "date" else typical
    return row


def plain(value: dict[str, Any]) -> dict[str, Any]:
    """A manifest's content as strict JSON can hold it: what is no number becomes null, unknown objects their text."""
    return {name: _plain(item) for name, item in value.items()}


def _plain(value: Any) -> Any:
    """A value as strict JSON can hold it: numbers that are none become null, unknown objects their text."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
