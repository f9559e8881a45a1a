"""Tells whether a study was changed since it was searched last."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path

from tunekit import __version__
from tunekit.families import Family, Keras


def program_digest(file: str | None, families: Sequence[Family]) -> str:
    """A digest of the code that declares a study: of its file, and of what it has imported from the folder of it.

    Args:
        file: that made the `Study`; None in a notebook, where the factories' own source is taken.
        families: of the study.
    """
    texts = [__version__]
    if file is not None and Path(file).exists():
        here = Path(file).resolve().parent
        loaded = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
        beside = {Path(one).resolve() for one in loaded if one and Path(one).resolve().parent == here}
        texts += [path.read_text() for path in sorted(beside | {Path(file).resolve()}) if path.suffix == ".py"]
    else:
        texts += [_source(family) for family in families]
    return hashlib.sha256("\x1f".join(texts).encode()).hexdigest()[:12]


def _source(family: Family) -> str:
    try:
        return inspect.getsource(family.factory if isinstance(family, Keras) else type(family))
    except (OSError, TypeError):  # typed into a prompt
        return ""
