"""Digits of 8 x 8 pixels with 100 labels: a base that this tool trained on MNIST, against training from scratch.

Run: tunekit search studies/transfer.py --budget 4m

The base is the best convolutional net of `studies/digits.py`. If that study has no such net yet, it is searched
for that net alone first, for two minutes, within the budget.
"""

import keras
from sklearn.datasets import load_digits

import tunekit as tk


def pictures():
    """1,797 pictures of 8 x 8 pixels, and the digits that they show; as bright as MNIST's."""
    digits = load_digits()
    return (digits.images * 255 / 16).astype("uint8"), digits.target


def like_mnist(pixels):
    """Pictures as large as the base knows them: MNIST's digits fill 20 of 28 pixels."""
    return keras.layers.ZeroPadding2D(4)(keras.layers.Resizing(20, 20)(pixels))


study = tk.Study(
    "transfer",
    data=tk.Images(pictures),
    metric="accuracy",
    families=[
        tk.Baseline(),
        tk.Linear(),
        tk.Forest(),
        tk.ConvNet(),
        tk.Pretrained(tk.from_study("digits.py", "convnet", budget="2m"), preprocess=like_mnist),
    ],
    split=tk.StratifiedKFold(3, test=1697 / 1797),  # 100 labels are left to learn from
    seed=7,
)

if __name__ == "__main__":
    print(study.run(budget="4m"))
