"""Inputs of arrays whose whole numbers are names: what a net of one's own looks up in an `Embedding`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from searches import Listener  # type: ignore[import-not-found]

import tunekit as tk
from tunekit.data.scales import ArrayScale
from tunekit.errors import DataError

pytestmark = pytest.mark.usefixtures("kept_servers")

RANDOM = np.random.default_rng(0)
WORDS = RANDOM.integers(1, 50, (600, 20))
TOLD = (WORDS == 7).any(axis=1).astype(int)
"""Whether word 7 is among them: scaled as amounts, the words say nothing of it."""


def build(hp: Any, data: Any) -> Any:
    import keras

    words = data.keras_array("words")
    x = keras.layers.GlobalMaxPooling1D()(keras.layers.Embedding(50, hp.Int("width", 8, 16))(words))
    model = keras.Model(words, data.keras_head(x))
    model.compile(keras.optimizers.Adam(0.02), loss=data.loss)
    return model


def drawn() -> Iterator[Any]:
    for start in range(0, len(WORDS), 100):
        yield {"words": WORDS[start : start + 100]}, TOLD[start : start + 100]


KINDS = {"words": "codes"}
SOURCES = {
    "arrays": lambda: tk.Arrays({"words": WORDS}, TOLD, kinds=KINDS),
    "batches": lambda: tk.Batches(drawn, kinds=KINDS),
}


@pytest.mark.parametrize("source", SOURCES)
def test_codes_stay_what_they_are(source: str) -> None:
    data = SOURCES[source]().load()
    assert data.schema.columns[0].dtype == "int32"
    cells = data.columns["words"][np.arange(5)]
    np.testing.assert_array_equal(cells, WORDS[:5])
    assert not any("amounts" in notice for notice in data.notices)
    np.testing.assert_array_equal(ArrayScale.fit("words", WORDS.astype(np.int32)).apply(WORDS), WORDS)


def test_whole_numbers_of_which_nothing_is_said_are_told_of() -> None:
    said = "the whole numbers of input 'words' are read as amounts and scaled; if they are codes"
    batches = tk.Batches(lambda: drawn()).load()
    for data in (tk.Arrays({"words": WORDS}, TOLD).load(), batches):
        assert any(said in notice for notice in data.notices)
        assert data.schema.columns[0].dtype == "float32"
    assert not tk.Arrays(WORDS / 2, TOLD).load().notices


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda: tk.Arrays(WORDS, TOLD, kinds={"word": "codes"}).load(), "names no input; expected one of array"),
        (lambda: tk.Arrays({"words": WORDS / 2}, TOLD, kinds=KINDS).load(), r"holds \d+\.5, expected whole numbers of"),
        (lambda: tk.Arrays({"words": WORDS * 2**40}, TOLD, kinds=KINDS).load(), "expected whole numbers of up to 32"),
        (lambda: tk.Arrays(WORDS, TOLD, kinds={"other": "text"}).load(), "names 'other', which is no target, no input"),
        (lambda: tk.Batches(drawn, kinds={"words": "text"}), "the kind 'text' is none of an input of batches"),
    ],
)
def test_what_can_not_be_codes_is_refused(made: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        made()


def test_rows_that_were_drawn_as_another_kind_are_not_used(tmp_path: Path) -> None:
    tk.Batches(drawn, folder=tmp_path / "rows").load()
    with pytest.raises(DataError, match="has input 'words' of another kind; delete it to draw it anew"):
        tk.Batches(drawn, folder=tmp_path / "rows", kinds=KINDS).load()


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
def test_a_net_with_an_embedding_learns_from_codes_and_is_exported(source: str, tmp_path: Path) -> None:
    families = [tk.Linear(), tk.Keras(build, name="own", epochs=30)]
    study = tk.Study("codes", data=SOURCES[source](), metric="roc_auc", families=families, split=tk.KFold(2))
    result = study.run(trials=2, workers=1, root=tmp_path, observers=[Listener()])
    net = next(one for one in result.summary["trials"] if one["family"] == "own")
    assert net["score"] > 0.9, "scaled, it is half"
    bundle = tk.Bundle.load(result.export(tmp_path / "model", trial=net["number"]))
    found = bundle.predict_proba({"words": WORDS})[:, 1]
    assert found[TOLD == 1].mean() > found[TOLD == 0].mean() + 0.3
    np.testing.assert_allclose(bundle.predict_proba([{"words": WORDS[0].tolist()}])[0, 1], found[0], atol=1e-6)
    with pytest.raises(DataError, match="expected whole numbers of up to 32 bits"):
        bundle.predict({"words": WORDS + 0.5})
