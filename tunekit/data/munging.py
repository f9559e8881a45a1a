"""Rows that are made of real ones, to ask a model what it predicts for them: so another model can learn it.

A made row is a real one with some of its values from a row that is like it, so that it stays plausible: what few
columns say of each other mostly holds. Values are taken as they are, gaps and categories too (Bucila 2006, "Model
compression", whose MUNGE moves numbers a little besides).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

NEIGHBOURS = 8
"""Rows that are most like a row, of which one lends it values."""

SWAPPED = 0.3
"""Share of a row's values that are lent."""

MOST_COMPARED = 10_000
"""Rows among which neighbours are looked for: time grows with the square of their number."""


def munged(
    columns: Mapping[str, npt.NDArray[Any]], features: npt.NDArray[np.float32], count: int, seed: int
) -> tuple[dict[str, npt.NDArray[Any]], npt.NDArray[np.int64]]:
    """Make rows.

    Args:
        columns: typed arrays (n,) by column name, n at least 2.
        features: (n, width) by whose Euclidean distance rows are alike.
        count: how many rows to make; all real ones are used as often, but for the remainder.
        seed: of the draw.

    Returns:
        The columns of the made rows, (count,) each; and for each of them the position of the real row that it was.
    """
    from sklearn.neighbors import NearestNeighbors

    random = np.random.default_rng(seed)
    compared = random.permutation(len(features))[:MOST_COMPARED]
    some = features[compared]
    near = min(NEIGHBOURS + 1, len(some))  # the row itself is among them
    neighbours = NearestNeighbors(n_neighbors=near).fit(some).kneighbors(some, return_distance=False)
    source = np.concatenate([random.permutation(len(some)) for _ in range(-(-count // len(some)))])[:count]
    lender = compared[neighbours[source, random.integers(0, near, count)]]
    source = compared[source]
    swapped = random.random((count, len(columns))) < SWAPPED
    made = {
        name: np.where(swapped[:, place], values[lender], values[source])
        for place, (name, values) in enumerate(columns.items())
    }
    return made, source
