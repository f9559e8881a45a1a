"""Reads durations and sizes."""

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


UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def parse_size(text: str | int | None) -> int | None:
    """Bytes of "500MB", "2.5 GB", or of a number; None of None.

    >>> parse_size("500MB"), parse_size("2.5 GB"), parse_size(20)
    (500000000, 2500000000, 20)
    """
    if text is None or not isinstance(text, str):
        return text
    parts = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?B)?", text.strip().upper())
    if not parts:
        raise StudyError(f"size {text!r} is none; expected one such as 500MB or 2GB")
    return int(float(parts[1]) * UNITS[parts[2] or ""])


def parse_latency(text: str | float | None) -> float | None:
    """Milliseconds of "2ms", "0.5 s", "300us", or of a number; None of None.

    >>> parse_latency("2ms"), parse_latency("0.5 s"), parse_latency(3)
    (2.0, 500.0, 3.0)
    """
    if not isinstance(text, str):
        return None if text is None else float(text)
    parts = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(us|ms|s)?", text.strip().lower())
    if not parts:
        raise StudyError(f"latency {text!r} is none; expected one such as 2ms or 0.5ms")
    return float(parts[1]) * {"us": 1e-3, "s": 1e3}.get(parts[2] or "ms", 1.0)
