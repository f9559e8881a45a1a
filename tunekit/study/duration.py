"""Reads durations."""

from __future__ import annotations

import re

from tunekit.errors import StudyError


def parse_duration(text: str | float | None) -> float | None:
    """Seconds of "90", "90s", "10m", "1h30m", or of a number; None of None.

    >>> parse_duration("1h30m"), parse_duration("45s"), parse_duration(20)
    (5400.0, 45.0, 20.0)
    """
    if text is None:
        return None
    if not isinstance(text, str) or re.fullmatch(r"\d+(\.\d+)?", text.strip()):
        seconds = float(text)
    else:
        parts = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text.strip().lower())
        if not parts or not any(parts.groups()):
            raise StudyError(f"budget {text!r} is no duration; expected one such as 90s, 10m or 1h30m")
        hours, minutes, rest = (int(part or 0) for part in parts.groups())
        seconds = 3600.0 * hours + 60.0 * minutes + rest
    if not seconds > 0:
        raise StudyError(f"budget {text!r} leaves no time; expected more than 0 seconds")
    return seconds
