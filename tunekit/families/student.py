"""The net that learns what a blend predicts: small and fast in the exported graph, with nothing left to search."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunekit.bundle.tasks import MANY_CLASSES
from tunekit.families.nets import Draw, NetData, NetFamily
from tunekit.families.realmlp import few_or_embedded
from tunekit.space import HyperParameters

if TYPE_CHECKING:
    import keras

UNITS = 128

DROPOUT = 0.2
"""For classes. Of numbers it draws far ones to the middle: on Ames the rmse was 26,562 with it, 23,160 without."""

BINS, WIDTH = 16, 8
"""Of a number's piecewise-linear embedding."""

RATE, DECAY = 1e-3, 1e-2


class Student(NetFamily):
    """Two dense layers on numbers in bins and on categories: an MLP-PLE (Gorishniy 2022, arXiv 2203.05556).

    Taught what blends predict it was better than RealMLP of 64 epochs, and far better than a perceptron that takes
    numbers as they are, which can't follow trees. It has no hyperparameters but the usual scale of the target. A family
    of no study: see `tunekit.study.distill`.
    """

    name = "student"
    chooses_target = True
    epochs = 100
    patience = 12

    def batch_size(self, hp: HyperParameters, data: NetData) -> int:
        """Rows per step."""
        del hp
        return 64 if data.rows < 2_000 else 128 if data.rows < 10_000 else 256

    def build(self, hp: HyperParameters, data: NetData) -> keras.Model:
        """See `NetFamily.build`. It does not depend on the number of rows."""
        import keras

        from tunekit.families.number_layers import PiecewiseLinearEmbedding

        del hp

        def in_bins(numbers: keras.KerasTensor) -> keras.KerasTensor:
            values = data.numbers - data.gaps
            if not values:
                return numbers
            made = PiecewiseLinearEmbedding(BINS, WIDTH)(numbers[:, :values])
            return keras.layers.Concatenate()([made, numbers])

        inputs, x = data.keras_inputs(numbers=in_bins, codes=lambda codes: few_or_embedded(codes, data))
        for _ in range(2):
            x = keras.layers.Dense(UNITS, activation="relu", kernel_initializer="he_normal")(x)
            x = x if data.task == "regression" else keras.layers.Dropout(DROPOUT)(x)
        model = keras.Model(inputs, data.keras_head(x))
        loss = "categorical_crossentropy" if data.task in MANY_CLASSES else data.loss  # classes come as shares
        model.compile(keras.optimizers.AdamW(RATE, weight_decay=DECAY, clipnorm=1.0), loss=loss)
        return model

    def initialise(self, model: keras.Model, draw: Draw, seed: int) -> None:
        """Bins by training rows."""
        from tunekit.families.number_layers import adapt_bins

        del seed
        adapt_bins(model, draw)
