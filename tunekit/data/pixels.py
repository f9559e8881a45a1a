"""Which numbers are those of pictures in files: whole, from 0 to 255."""

from __future__ import annotations

from typing import Any

import numpy as np

from tunekit.bundle.pictures import MODES
from tunekit.data.lazy import rows_at_once

EIGHT_BITS = 128
"""Numbers of eight bits reach this. Where none of all pictures' does, they may be of another scale, such as 0 and 1."""


def are_pictures(shape: tuple[int, ...]) -> bool:
    """Whether a file can be read as a cell of this shape: height, width and channels."""
    return len(shape) == 3 and shape[2] in MODES


def are_bytes(cells: Any) -> bool:
    """Whether numbers of any type are bytes.

    >>> are_bytes(np.array([0.0, 255.0])), are_bytes(np.array([0.5])), are_bytes(np.array([256])), are_bytes([True])
    (True, False, False, False)
    """
    cells = np.asarray(cells)
    step = rows_at_once(cells)
    parts = (cells[start : start + step] for start in range(0, len(cells), step))
    return cells.dtype.kind in "iuf" and all(bool(((p >= 0) & (p <= 255) & (p % 1 == 0)).all()) for p in parts)


def need_bytes(cells: Any) -> bool:
    """Whether pictures are bytes, and of that scale.

    >>> need_bytes(np.array([0, 200])), need_bytes(np.array([0, 1]))
    (True, False)
    """
    return are_bytes(cells) and float(np.max(cells, initial=0)) >= EIGHT_BITS
