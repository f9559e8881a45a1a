"""The command line: a skin. Each command opens one object and calls one method of it."""

from __future__ import annotations

import errno
import sys

from tunekit.cli.app import app
from tunekit.errors import TunekitError

__all__ = ["app", "main"]

ADVICE = {
    errno.EACCES: "expected a place where this user may read and write: name another, or change its permissions",
    errno.EDQUOT: "expected room on the disk: make some, or name a place on another",
    errno.EEXIST: "expected a folder, or nothing, at each part of the path: name another place",
    errno.EISDIR: "expected a file there: name one",
    errno.ENOENT: "expected it to be there: check the path, which is relative to the working directory",
    errno.ENOSPC: "expected room on the disk: make some, or name a place on another",
    errno.ENOTDIR: "expected a folder, or nothing, at each part of the path: name another place",
    errno.EPERM: "expected a place where this user may read and write: name another, or change its permissions",
    errno.EROFS: "expected a place that can be written: name another, such as by --root",
}
"""By the number of what the operating system refused, what helps."""


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 the work failed and said why, 2 the call was wrong."""
    try:
        app()
    except TunekitError as error:
        _fail(str(error))
    except OSError as error:
        if error.errno not in ADVICE:
            raise
        _fail(f"{error}; {ADVICE[error.errno]}")


def _fail(told: str) -> None:
    from rich.console import Console
    from rich.text import Text

    text = Text.assemble(("error:", "bold red"), f" {told}")  # as it is: messages hold brackets of their own
    Console(stderr=True, soft_wrap=True).print(text)
    sys.exit(1)
