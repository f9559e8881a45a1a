"""The command line: a skin. Each command opens one object and calls one method of it."""

from __future__ import annotations

import sys

from tunekit.cli.app import app
from tunekit.errors import TunekitError

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 the work failed and said why, 2 the call was wrong."""
    try:
        app()
    except TunekitError as error:
        from rich.console import Console
        from rich.text import Text

        told = Text.assemble(("error:", "bold red"), f" {error}")  # as it is: messages hold brackets of their own
        Console(stderr=True, soft_wrap=True).print(told)
        sys.exit(1)
