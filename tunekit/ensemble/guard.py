"""The guard against leaks: if there is one in out-of-fold predictions, stacking learns from it what no new row has.

A fold's models predict its rows after training on the others, so that their predictions may say something of the rows'
targets that predictions of new rows don't: through doubled rows, through means of targets, through early stopping on
the rows that are predicted. AutoGluon found 63 of 244 data sets where its second layer was worse on new rows for it
(issue 2779). No score on out-of-fold rows shows that; these signs do, and they look at no target of a test row.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tunekit.ensemble.combination import Combination
from tunekit.ensemble.judged import Predictions

TOO_GOOD = 0.2
"""Share of the best member's loss that a combination of honest predictions rarely takes away."""

TIMES = 3.0
"""And so many times what the selection gains."""

SHIFT = 0.1
"""In standard deviations of the predictions: how far the stacking's departure from the selection may differ, on the
mean, between rows that were out of a fold and new rows."""

WIDER = 1.5
"""How much wider predictions may be spread on rows that were out of a fold than on new rows. The latter are a mean over
the folds' models, and so somewhat narrower by nature."""


def refusal_by_score(loss: float, selected: float, single: float) -> str | None:
    """Why a nested score is too good to be true; None if it isn't.

    Args:
        loss: of the stacking on rows that it was not fitted on.
        selected: of the selection there.
        single: of the best member there.
    """
    gain, usual = single - loss, max(single - selected, 0.0)
    if gain > TOO_GOOD * abs(single) and gain > TIMES * usual:
        return (
            f"it takes {gain / abs(single):.0%} off the best member's loss, where the selection takes "
            f"{usual / abs(single):.0%}: that is too good for predictions that tell nothing of their rows' targets"
        )
    return None


def refusal_by_new_rows(
    stacking: Combination, selection: Combination, known: Predictions, new: Predictions
) -> str | None:
    """Why a stacking should not be trusted with new rows; None if it may.

    Args:
        stacking: fitted on `known`.
        selection: fitted on `known`.
        known: out-of-fold predictions (candidates, n, outputs).
        new: predictions of rows that no fold trained on or judged (candidates, m, outputs).
    """
    for place in stacking.used:
        ratio = _ratio(known[place], new[place])
        if ratio > WIDER:
            return (
                f"predictions of one of its members are spread {ratio:.1f} times as wide out of fold as on new rows: "
                "it seems to know the rows that it predicts"
            )
    departures = [stacking.uncalibrated(rows) - selection.uncalibrated(rows) for rows in (known, new)]
    size = selection.uncalibrated(known).std(axis=0) + np.finfo(float).tiny
    shift = (departures[0].mean(axis=0) - departures[1].mean(axis=0)) / size
    noise = np.sqrt(sum(one.var(axis=0) / len(one) for one in departures)) / size
    worst = int(np.argmax(np.abs(shift)))
    if abs(shift[worst]) > max(SHIFT, 4 * noise[worst]):
        return (
            f"it departs from the selection otherwise on new rows than out of fold (by {abs(shift[worst]):.2f} "
            "standard deviations on the mean): it follows what only out-of-fold predictions hold"
        )
    return None


def _ratio(known: npt.NDArray[np.float64], new: npt.NDArray[np.float64]) -> float:
    """How much wider the former are spread, over all outputs, by quantiles: no single row matters."""
    wide, narrow = (float(np.subtract(*np.quantile(one, [0.9, 0.1], axis=0)).sum()) for one in (known, new))
    return wide / narrow if narrow > 0 else 1.0
