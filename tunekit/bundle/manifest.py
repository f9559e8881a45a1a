"""`manifest.json`: what a bundle is, and the digests that tell whether it still is what was written.

The manifest names every file with its SHA-256 and its size, and carries a digest of itself. Digests tell damage and
mix-ups; they are no signature: whoever can write the folder can write them too.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from tunekit.bundle.columns import ARRAY, ARRAY_TYPES, KINDS, TEXTS
from tunekit.bundle.tasks import EVEN, SEVERAL, TASKS
from tunekit.errors import BundleError

FORMAT = "tunekit-bundle"
VERSION = 1
MODELS = "tunekit-models"
MODELS_VERSION = 1
MANIFEST = "manifest.json"
GRAPH = "model.onnx"

_DIGEST = "sha256"
_WRITTEN_BY = {FORMAT: "tunekit export", MODELS: "tunekit export --format keras"}


def sealed(content: dict[str, Any]) -> str:
    """The text of a manifest, with its own digest added.

    Args:
        content: plain values that strict JSON can hold: no NaN, no infinity.
    """
    content = {name: value for name, value in content.items() if name != _DIGEST}
    return json.dumps(content | {_DIGEST: _digest_of(content)}, indent=1, ensure_ascii=False, allow_nan=False)


def file_entry(data: bytes) -> dict[str, Any]:
    """What a manifest says of one file."""
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def names_in(folder: Path) -> set[str]:
    """What a folder holds that is ours by its manifest, sound or not; nothing if it has no manifest of ours."""
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if content["format"] in (FORMAT, MODELS):
            return {MANIFEST, *(name.partition("/")[0] for name in content["files"])}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        pass
    return set()


def read_bundle(folder: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The manifest, and the content of every file that it names, each checked against its digest.

    Raises:
        BundleError: the folder holds no bundle, a newer one, or one that was changed.
    """
    manifest = _manifest_of(folder, FORMAT, VERSION)
    if fault := _fault(manifest):
        raise BundleError(f"{MANIFEST} in {str(folder)!r} {fault}; export the bundle again")
    return manifest, {name: _intact(folder, name, entry) for name, entry in manifest["files"].items()}


def read_models(folder: Path) -> dict[str, Any]:
    """The manifest of what `tunekit export --format keras` or `saved-model` wrote, every file being what was written.

    Raises:
        BundleError: the folder holds no such models, newer ones, or some that were changed.
    """
    manifest = _manifest_of(folder, MODELS, MODELS_VERSION)
    if fault := _file_fault(manifest):
        raise BundleError(f"{MANIFEST} in {str(folder)!r} {fault}; export the models again")
    for name, entry in manifest["files"].items():
        _intact(folder, name, entry)
    return manifest


def _manifest_of(folder: Path, form: str, version: int) -> dict[str, Any]:
    if not folder.is_dir():
        raise BundleError(f"there is no folder {str(folder)!r}; expected a bundle, as `tunekit export` writes it")
    manifest = _parsed(_read(folder, MANIFEST), folder, form)
    _check_version(manifest, folder, version)
    content = {name: value for name, value in manifest.items() if name != _DIGEST}
    if manifest.get(_DIGEST) != _digest_of(content):
        raise BundleError(
            f"{MANIFEST} in {str(folder)!r} was changed after it was exported: its content doesn't have the digest "
            f"{str(manifest.get(_DIGEST))[:12]!r} that it states; copy it again, or export the bundle again"
        )
    return manifest


def _intact(folder: Path, name: str, entry: dict[str, Any]) -> bytes:
    """The content of a file, which is the one that was exported."""
    data = _read(folder, name)
    if len(data) != entry["bytes"] or hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise BundleError(
            f"{name!r} in {str(folder)!r} is not the file that was exported: received {len(data)} bytes, SHA-256 "
            f"{hashlib.sha256(data).hexdigest()[:12]}..., expected {entry['bytes']} bytes, "
            f"{entry['sha256'][:12]}...; copy the whole bundle again, or export it again"
        )
    return data


def _read(folder: Path, name: str) -> bytes:
    """One file of the folder, and of no other place, whatever its name or its links say."""
    path = folder / name
    steps = name.split("/")
    if any(step in ("", ".", "..") or "\\" in step or ":" in step for step in steps):
        raise BundleError(
            f"the manifest of {str(folder)!r} names the file {name!r}; expected a plain file name inside the folder: "
            "this bundle was not written by tunekit, don't use it"
        )
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BundleError(
            f"{name!r} in {str(folder)!r} is a link to {str(path.resolve())!r}, outside the folder; expected the file "
            "itself: copy the bundle with its files"
        )
    if not path.is_file():
        raise BundleError(
            f"{str(folder)!r} has no file {name!r}; expected a complete bundle, as `tunekit export` writes it"
        )
    return path.read_bytes()


def _parsed(data: bytes, folder: Path, form: str) -> dict[str, Any]:
    try:
        manifest = json.loads(data)
    except ValueError as error:
        raise BundleError(
            f"{MANIFEST} in {str(folder)!r} is no JSON ({error}); expected the file as it was exported: copy the "
            "bundle again"
        ) from None
    received = manifest.get("format") if isinstance(manifest, dict) else None
    if received != form and received in _WRITTEN_BY:
        raise BundleError(
            f"{str(folder)!r} was written by `{_WRITTEN_BY[received]}`; expected what `{_WRITTEN_BY[form]}` writes: "
            "export that as well"
        )
    if received != form:
        raise BundleError(
            f'{MANIFEST} in {str(folder)!r} is not one of tunekit\'s; expected "format": {form!r}, as '
            f"`{_WRITTEN_BY[form]}` writes it"
        )
    assert isinstance(manifest, dict)
    return manifest


def _check_version(manifest: dict[str, Any], folder: Path, version: int) -> None:
    """Refuse a manifest of another version than this tunekit reads, and say which one does.

    Versions grow only where an older reader would be wrong; what is added is optional. A version that this tunekit no
    longer reads is named with the last tunekit that does, which stands in every manifest.
    """
    received = manifest.get("version")
    if received == version:
        return
    versions = manifest.get("versions")
    writer = versions.get("tunekit") if isinstance(versions, dict) else None
    use = f"use tunekit {writer}, which wrote it" if writer else "use the tunekit that wrote it"
    if isinstance(received, int) and received > version:
        use += ", or a later one"
    raise BundleError(
        f"the bundle {str(folder)!r} has format version {received!r}, and this tunekit reads version {version}; {use}, "
        "or export the bundle again with this one"
    )


def _fault(manifest: dict[str, Any]) -> str | None:
    """What is wrong with a manifest whose digest is right; None if nothing is."""
    expected = {"name": str, "task": str, "classes": list, "columns": list, "outputs": int, "members": list}
    expected |= {"graph": dict, "files": dict}
    for name, kind in expected.items():
        if not isinstance(manifest.get(name), kind):
            return f"has no {name!r} of type {kind.__name__}"
    if manifest["task"] not in TASKS:
        return f"says task {manifest['task']!r}; expected one of {', '.join(TASKS)}"
    if manifest["task"] == SEVERAL:
        if not _are_targets(manifest.get("targets"), manifest["outputs"]):
            return f"describes its targets as {manifest.get('targets')!r}; expected a name, a task and classes of each"
        return _column_fault(manifest)
    threshold = manifest.get("threshold", EVEN)
    if not isinstance(threshold, (int, float)) or not 0 < threshold < 1:
        return f"says a threshold of {threshold!r}; expected a probability between 0 and 1"
    classes = len(manifest["classes"])
    fits = {"binary": classes == 2, "regression": classes == 0}.get(manifest["task"], classes > 2)
    if not fits or manifest["outputs"] != (classes if classes > 2 else 1):
        return f"says {classes} classes and {manifest['outputs']} outputs, which don't fit {manifest['task']!r}"
    return _column_fault(manifest)


def _column_fault(manifest: dict[str, Any]) -> str | None:
    for column in manifest["columns"]:
        if not isinstance(column, dict) or not column.get("name") or column.get("kind") not in (*KINDS, ARRAY):
            return f"describes a column as {column!r}; expected a name and a kind, one of {', '.join((*KINDS, ARRAY))}"
        if column["kind"] == ARRAY and not _is_array(column):
            return f"describes a column as {column!r}; expected its shape and a type, one of {', '.join(ARRAY_TYPES)}"
        if column["kind"] in TEXTS and not _is_text(column):
            return f"describes the text column {column['name']!r} wrongly; expected its words and how many are read"
    if fault := _file_fault(manifest):
        return fault
    if GRAPH not in manifest["files"]:
        return f"doesn't name {GRAPH!r} among its files"
    if nested := [name for name in manifest["files"] if "/" in name]:
        return f"names the file {nested[0]!r}; expected a plain file name inside the folder"
    return None


def _file_fault(manifest: dict[str, Any]) -> str | None:
    if not isinstance(manifest.get("files"), dict):
        return "has no 'files' of type dict"
    for entry in manifest["files"].values():
        if not isinstance(entry, dict) or not isinstance(entry.get("sha256"), str) or "bytes" not in entry:
            return f"describes a file as {entry!r}; expected its sha256 and its bytes"
    return None


def _digest_of(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _is_array(column: dict[str, Any]) -> bool:
    shape = column.get("shape")
    sizes = isinstance(shape, list) and shape and all(isinstance(size, int) and size > 0 for size in shape)
    return bool(sizes) and column.get("dtype") in ARRAY_TYPES


def _is_text(column: dict[str, Any]) -> bool:
    words, length = column.get("words"), column.get("length")
    known = isinstance(words, list) and all(isinstance(word, str) for word in words)
    return known and isinstance(length, int) and length > 0


def _are_targets(targets: Any, outputs: int) -> bool:
    try:
        sizes = [len(target["classes"]) for target in targets]
        named = all(isinstance(target["name"], str) and target["task"] in TASKS for target in targets)
    except (TypeError, KeyError):
        return False
    return named and sum(size if size > 2 else 1 for size in sizes) == outputs
