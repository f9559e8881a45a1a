"""One search at a time on a study in a folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from tunekit.errors import StudyError


class FolderLock:
    """A lock that ends with its process, however that ends.

    Args:
        path: of the file that is locked.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def take(self) -> None:
        """Take it.

        Raises:
            StudyError: another process has it.
        """
        file = self._path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            file.close()
            raise StudyError(
                f"another search is running on this study (process {owner}); wait for it, stop it, or give this study "
                "another name"
            ) from None
        self._file = file
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()

    def release(self) -> None:
        """Release it, if it was taken."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def taken(self) -> bool:
        """Whether a process has it."""
        with self._path.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return True
        return False
