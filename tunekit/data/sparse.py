"""Layout "flat" of rows with categories, without its zeros."""

from __future__ import annotations

from typing import Any

import numpy as np

from tunekit.data.preparation import Preparation
from tunekit.data.schema import Encoded


def sparse_flat(preparation: Preparation, rows: Encoded) -> Any:
    """What `Preparation.apply(rows, "flat")` gives, as a `scipy.sparse.csr_array` of float64 (n, D + M + H).

    A row has one 1 at most for each category column, however many levels there are: of flights with their aeroplanes
    and destinations, that is a fiftieth of the memory.

    Args:
        preparation: of a fold.
        rows: without arrays, which have no zeros to leave out.
    """
    from scipy import sparse

    columns = preparation.apply(rows, "columns")
    numbers, codes = columns["numbers"].astype(np.float64), columns["codes"]
    parts = [sparse.csr_array(numbers)]
    pairs = preparation.hot
    if len(pairs):
        place = np.full(len(preparation.lookup), -1, dtype=np.int64)
        place[preparation.offsets[pairs[:, 0]] + pairs[:, 1]] = np.arange(len(pairs))
        places = place[codes + preparation.offsets]
        known = places >= 0
        ends = np.concatenate([[0], np.cumsum(known.sum(axis=1))])
        ones = np.ones(int(ends[-1]))
        parts.append(sparse.csr_array((ones, places[known], ends), shape=(len(rows), len(pairs))))
    return sparse.hstack(parts, format="csr")
