"""TabM: many multilayer perceptrons in one, which share most of their weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunekit.families.nets import Draw, NetData, NetFamily
from tunekit.families.realmlp import few_or_embedded
from tunekit.space import HyperParameters

if TYPE_CHECKING:
    import keras

SMALL = 20_000
"""Rows up to which a net has half as many members and narrower layers by default: more is hardly better there."""


class TabM(NetFamily):
    """TabM with piecewise-linear embeddings of numbers (Gorishniy 2024, arXiv 2410.24210).

    Members differ by the factors with which they see features and layers; the loss is the mean of the members', the
    prediction the mean of their predictions. The space is the paper's, cut to what two cores train in minutes.
    """

    name = "tabm"
    chooses_target = True
    patience = 16

    def build(self, hp: HyperParameters, data: NetData) -> keras.Model:
        """See `NetFamily.build`."""
        import keras

        from tunekit.families.tabm_layers import MemberDense, MemberHeads, MemberScale, MembersModel

        inputs, x = data.keras_inputs(
            numbers=lambda numbers: _numbers(hp, data, numbers), codes=lambda codes: few_or_embedded(codes, data)
        )
        small = data.rows <= SMALL
        members = hp.Choice("members", [8, 16, 32], default=16 if small else 32)
        units = hp.Int("units", 64, 512, step=2, sampling="log", default=128 if small else 256)
        dropout = hp.Float("dropout", 0.0, 0.5, step=0.05, default=0.1)
        adapters = hp.Boolean("adapters", default=True)
        x = MemberScale(members)(x)
        for layer in range(hp.Int("layers", 1, 5, default=2)):
            x = keras.layers.ReLU()(MemberDense(units, adapters=adapters, scaled=layer > 0)(x))
            x = keras.layers.Dropout(dropout)(x) if dropout else x
        model = MembersModel(inputs, data.keras_activation(MemberHeads(data.units)(x)), members)
        rate = hp.Float("learning_rate", 1e-4, 5e-3, sampling="log", default=2e-3)
        decay = hp.Float("weight_decay", 1e-4, 1e-1, sampling="log", default=3e-4)
        model.compile(keras.optimizers.AdamW(rate, weight_decay=decay, clipnorm=1.0), loss=data.loss)
        return model

    def initialise(self, model: keras.Model, draw: Draw, seed: int) -> None:
        """Bins by training rows."""
        from tunekit.families.number_layers import adapt_bins

        del seed
        adapt_bins(model, draw)


def _numbers(hp: HyperParameters, data: NetData, numbers: keras.KerasTensor) -> keras.KerasTensor:
    """Numbers in bins or as they are; gap indicators as they are."""
    import keras

    from tunekit.families.number_layers import PiecewiseLinearEmbedding

    values = data.numbers - data.gaps
    if hp.Choice("numbers", ["bins", "plain"]) == "plain" or not values:
        return numbers
    bins = hp.Int("bins", 8, 128, sampling="log", default=32 if data.rows <= SMALL else 64)
    width = hp.Int("number_width", 4, 32, step=4, default=12)
    made = PiecewiseLinearEmbedding(bins, width)(numbers[:, :values])
    return keras.layers.Concatenate()([made, numbers[:, values:]]) if data.gaps else made
