"""Inputs of arrays whose whole numbers are names, such as those of words: they are not scaled."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from tunekit.errors import DataError

CODES = "codes"
"""The kind of an input whose whole numbers are names."""


def check_codes(codes: Collection[str], inputs: Iterable[object]) -> None:
    """Refuse codes of what is no input.

    Raises:
        DataError: there is no such input.
    """
    known = sorted(map(str, inputs))
    if wrong := sorted(set(codes) - set(known)):
        raise DataError(f"kinds={{{wrong[0]!r}: {CODES!r}}} names no input; expected one of {', '.join(known)}")


def amounts(name: str) -> str:
    """What is said of whole numbers that may be codes."""
    return (
        f"the whole numbers of input {name!r} are read as amounts and scaled; if they are codes, such as the numbers "
        f"of words, say kinds={{{name!r}: {CODES!r}}}"
    )
