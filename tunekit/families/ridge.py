"""Ridge regression on a sparse matrix, exactly: what scikit-learn solves for sparse rows by iterations only."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def sparse_ridge(features: Any, target: Floats, alpha: float, weight: Floats | None = None) -> tuple[Floats, float]:
    """The coefficients and the intercept that `sklearn.linear_model.Ridge(alpha)` finds for the dense matrix.

    The normal equations of the centered features, without centering them: that would fill in every zero.

    Args:
        features: a `scipy.sparse.csr_array` of float64 (n, F); F * F numbers must fit into memory.
        target: (n,).
        alpha: the penalty.
        weight: (n,) or None.
    """
    from scipy import linalg, sparse

    weight = np.ones(len(target)) if weight is None else np.asarray(weight, dtype=np.float64)
    total = weight.sum()
    center = (features.T @ weight) / total
    middle = float(weight @ target) / total
    weighted = sparse.diags_array(weight) @ features
    gram = (features.T @ weighted).toarray() - total * np.outer(center, center)
    gram[np.diag_indices_from(gram)] += alpha
    moments = weighted.T @ (target - middle)
    coefficients = linalg.solve(gram, moments, assume_a="pos")
    return coefficients, middle - float(center @ coefficients)
