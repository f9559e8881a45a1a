"""Layouts "flat" and "plain" of rows with categories, without their zeros."""

from __future__ import annotations

from typing import Any

import numpy as np

from tunekit.data.preparation import Preparation
from tunekit.data.schema import Encoded


def sparse_rows(preparation: Preparation, rows: Encoded, layout: str) -> Any:
    """What `Preparation.apply(rows, layout)` gives, as a `scipy.sparse.csr_array` of float64 (n, D + M + H).

    A row has one 1 at most for each category column, however many levels there are: of flights with their aeroplanes
    and destinations, that is a fiftieth of the memory.

    Args:
        preparation: of a fold.
        rows: without arrays, which have no zeros to leave out.
        layout: "flat" or "plain".
    """
    from scipy import sparse

    parts = [sparse.csr_array(preparation.numbers(rows.numbers, clip=layout != "plain").astype(np.float64))]
    pairs = preparation.hot
    if len(pairs):
        place = np.full(len(preparation.lookup), -1, dtype=np.int64)
        place[preparation.offsets[pairs[:, 0]] + pairs[:, 1]] = np.arange(len(pairs))
        places = place[preparation.lookup[rows.codes + preparation.offsets] + preparation.offsets]
        known = places >= 0
        ends = np.concatenate([[0], np.cumsum(known.sum(axis=1))])
        ones = np.ones(int(ends[-1]))
        parts.append(sparse.csr_array((ones, places[known], ends), shape=(len(rows), len(pairs))))
    return sparse.hstack(parts, format="csr")
