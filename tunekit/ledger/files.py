"""The files of trials: a folder each, here or at an address that every machine reaches."""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tunekit.errors import StudyError
from tunekit.trial import State, Trial

RECORD = "trial.json"

WITHOUT_FOLDERS = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oci", "oss"}
"""Where a folder needn't be made: what is missing is the bucket, and that is not ours to make."""

TRIES = 3
"""So often is a trial's upload begun before it is given up."""


class TrialFiles:
    """Folders of the trials of one study.

    Without artifacts they are where they were written. With artifacts they are copied to an address when a trial ends,
    and fetched from there where they are needed. A trial's record comes last, so it tells that the rest is there.

    Args:
        folder: of the study.
        study: its name.
        artifacts: an address that fsspec knows, such as "s3://bucket/tunekit"; None for no copies.

    Raises:
        StudyError: the address can't be used.
    """

    def __init__(self, folder: Path, study: str, artifacts: str | None) -> None:
        self._folder = folder / "trials"
        self._remote = None if artifacts is None else Remote(artifacts, f"{study}/trials")

    def folder(self, trial: Trial) -> Path:
        """Where a trial's files are on this machine."""
        return self._folder / trial.folder

    def claim(self, token: str) -> None:
        """Make sure that the folder holds files of this ledger only.

        Args:
            token: of the ledger.

        Raises:
            StudyError: another ledger's files are there, and nowhere else; or nothing can be copied to the artifacts.
        """
        marker = self._folder.with_name("ledger.token")
        owner = marker.read_text() if marker.exists() else None
        if owner != token and self._folder.exists():
            if self._remote is None:
                raise StudyError(
                    f"{self._folder} holds files of another ledger (another --storage, or one that was deleted); give "
                    "the study another name or root, or delete what is there with --fresh"
                )
            shutil.rmtree(self._folder)  # copies only
        _replace(marker, token)
        if self._remote is not None:
            self._remote.put(marker, marker.name)  # before the first trial depends on it

    def make_room(self, trial: Trial) -> None:
        """Empty the folder of a trial that starts: a machine that lost power may have forgotten one of its number."""
        shutil.rmtree(self.folder(trial), ignore_errors=True)

    def keep(self, trial: Trial, after_each: Callable[[], object]) -> None:
        """Copy what a trial left, but its record, to the artifacts.

        Args:
            trial: that is about to end; folds are copied only of one that is complete.
            after_each: called after each file, for large ones take long.
        """
        if self._remote is None:
            return
        folder = self.folder(trial)
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            of_fold = len(name.parts) > 1
            if path.is_file() and name.name != RECORD and (trial.state is State.COMPLETE or not of_fold):
                self._remote.put(path, f"{folder.name}/{name.as_posix()}")
                after_each()

    def record(self, trial: Trial, text: str | None = None) -> None:
        """Write a trial's record beside its files, for people and other tools: the ledger itself has its own.

        Args:
            trial: that ended.
            text: its record, if it is at hand.
        """
        folder = self.folder(trial)
        folder.mkdir(parents=True, exist_ok=True)
        _replace(folder / RECORD, text or record_of(trial))
        if self._remote is not None:
            with suppress(StudyError):  # it has ended, whether this succeeds or not
                self._remote.put(folder / RECORD, f"{folder.name}/{RECORD}")

    def complete(self, trial: Trial) -> None:
        """Write the record if the search was killed before it did."""
        if self._remote is None and not (self.folder(trial) / RECORD).exists():
            self.record(trial)

    def fetch(self, trial: Trial) -> Path:
        """A trial's folder, with its files on this machine.

        Raises:
            StudyError: they are on another machine only.
        """
        folder = self.folder(trial)
        if self._remote is not None and not (folder / RECORD).exists():
            self._remote.get(folder.name, folder, last=RECORD)
        if not folder.exists():
            where = str(self._folder) if self._remote is None else self._remote.name
            raise StudyError(
                f"the files of trial {trial.name} are not in {where}. Machines that work on one study need a folder "
                "that they share (--root), or an address for its files (--artifacts)"
            )
        return folder

    def forget(self, trial: Trial) -> None:
        """Delete the folders of a trial's folds, wherever they are; its record stays."""
        for path in self.folder(trial).glob("fold*"):
            shutil.rmtree(path, ignore_errors=True)
        if self._remote is not None:
            self._remote.delete(self.folder(trial).name, "fold")

    def size(self, trial: Trial) -> int:
        """Bytes of the folders of a trial's folds on this machine."""
        size = 0
        for path in self.folder(trial).glob("fold*/**/*"):
            with suppress(FileNotFoundError):  # another conductor may just have let go of it
                size += 0 if path.is_dir() else path.stat().st_size
        return size

    def clear(self) -> None:
        """Delete every file of the study's trials at the artifacts; the caller deletes its folder here."""
        if self._remote is not None:
            self._remote.delete("", "")


class Remote:
    """A folder at an address that fsspec knows.

    Args:
        address: such as "s3://bucket/tunekit".
        inside: the folder in it.

    Raises:
        StudyError: the address can't be used. It is not told in full, for it may hold a password.
    """

    def __init__(self, address: str, inside: str) -> None:
        self._protocol = address.partition("://")[0] if "://" in address else "file"
        self.name = f"the artifacts ({self._protocol}://...)"
        try:
            import fsspec

            self._files, base = fsspec.core.url_to_fs(address)
        except ImportError as error:
            needs = 'pip install "tunekit[artifacts]"' if error.name == "fsspec" else str(error)
            raise StudyError(f"{self.name} need a package that is not installed: {needs}") from None
        except ValueError as error:
            raise StudyError(
                f"{self.name} can't be used ({error}); expected an address that fsspec knows, such as s3://bucket/folder"
            ) from None
        self._base = f"{base.rstrip('/')}/{inside}"

    def put(self, path: Path, name: str) -> None:
        """Copy a file there.

        Raises:
            StudyError: it failed again and again.
        """
        remote = f"{self._base}/{name}"
        for left in reversed(range(TRIES)):
            try:
                try:
                    self._files.put_file(str(path), remote)
                except FileNotFoundError:
                    if self._protocol in WITHOUT_FOLDERS:
                        raise
                    self._files.makedirs(remote.rpartition("/")[0], exist_ok=True)
                    self._files.put_file(str(path), remote)
                return
            except Exception as error:  # each protocol has its own
                if not left:
                    raise StudyError(f"{name} can't be copied to {self.name}: {error}") from None
                time.sleep(1.0)

    def get(self, name: str, folder: Path, last: str) -> None:
        """Copy a folder from there; each file appears whole, and the one that is named after all others."""
        base = f"{self._base}/{name}"
        self._files.invalidate_cache()
        for remote in sorted(self._files.find(base), key=lambda found: found.endswith(f"/{last}")):
            target = folder / remote[len(base) + 1 :]
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = _partial(target)
            self._files.get_file(remote, str(partial))
            partial.replace(target)

    def delete(self, name: str, prefix: str) -> None:
        """Delete what is in a folder there and begins with the prefix."""
        base = f"{self._base}/{name}".rstrip("/")
        with suppress(FileNotFoundError):
            self._files.invalidate_cache()
            for remote in self._files.ls(base, detail=False):
                if remote.rstrip("/").rpartition("/")[2].startswith(prefix):
                    with suppress(FileNotFoundError):  # another conductor may be as fast
                        self._files.rm(remote, recursive=True)


def record_of(trial: Trial) -> str:
    """A trial as JSON: `Trial.to_json` without its copies, which take ten times as long for a net with many epochs."""
    return json.dumps(vars(trial), default=vars)


def write_json(path: Path, data: Any) -> None:
    """Write a JSON file whole or not at all, even if the machine loses power."""
    partial = _partial(path)
    with partial.open("w") as file:
        json.dump(data, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all, unless the machine loses power."""
    partial = _partial(path)
    partial.write_text(text)
    partial.replace(path)


def _partial(path: Path) -> Path:
    """A file that becomes another one when it is whole; of its own, for several may write the same at once."""
    return path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}.partial")
