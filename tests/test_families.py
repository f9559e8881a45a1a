"""Families of arrays: one contract for all of them, on small real data.  Nets have their own file."""

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from folds import fold, hard_rows, time_fold  # type: ignore[import-not-found]

from tunekit.data import Preparation
from tunekit.families import Baseline, Family, Fitted, Fold, Forest, Linear, XGBoost, default_families
from tunekit.families.base import load_facts
from tunekit.families.boosting import boosted
from tunekit.space import HyperParameters, Value

FAMILIES: dict[str, Callable[[], Family]] = {
    "baseline": Baseline,
    "linear": Linear,
    "forest": Forest,
    "xgboost": XGBoost,
}
"""Every family of arrays; a new one gets the contract by being listed."""

TASKS = ["binary", "multiclass", "regression"]


def never(*_: object) -> bool:
    return False


def fitted(family: Family, one: Fold, **values: Value) -> tuple[Fitted, HyperParameters]:
    """Fitted with the defaults but for these values; fewer trees than usual, for speed."""
    values = {"trees": 100, **values}
    hp = HyperParameters(lambda dimension: values.get(dimension.name, dimension.default))
    return family.fit(hp, one, never), hp


@pytest.fixture(scope="module")
def folds() -> dict[str, Fold]:
    return {task: fold(task) for task in TASKS}


@pytest.fixture(scope="module")
def models(folds) -> dict[tuple[str, str], Fitted]:
    """Each family, fitted once per task with its defaults."""
    return {(name, task): fitted(make(), folds[task])[0] for name, make in FAMILIES.items() for task in TASKS}


@pytest.fixture(params=[(name, task) for name in FAMILIES for task in TASKS], ids="-".join)
def case(request, models, folds) -> tuple[str, Fitted, Fold]:
    name, task = request.param
    return name, models[name, task], folds[task]


def test_predictions_have_their_shape_and_range(case) -> None:
    _, model, one = case
    predictions = model.predict(one.valid.rows)
    assert predictions.shape == (len(one.valid), one.outputs)
    assert predictions.dtype == np.float64
    assert np.isfinite(predictions).all()
    if one.task != "regression":
        assert (predictions >= 0).all()
        assert (predictions <= 1).all()
    if one.task == "multiclass":
        # XGBoost's softmax adds three float32 shares.
        np.testing.assert_allclose(predictions.sum(axis=1), 1, atol=1e-6)


def test_it_beats_the_baseline(case, models) -> None:
    name, model, one = case
    if name == "baseline":
        return
    score = one.metric.score(one.valid.target, model.predict(one.valid.rows))
    baseline = one.metric.score(one.valid.target, models["baseline", one.task].predict(one.valid.rows))
    assert score < 0.7 * baseline, "penguins are easy: all of these halve the error or better"


def test_gaps_unseen_levels_and_far_numbers_are_predicted(case) -> None:
    _, model, one = case
    predictions = model.predict(hard_rows(one))
    assert np.isfinite(predictions).all()
    np.testing.assert_array_equal(predictions[:3], model.predict(one.valid.rows)[:3])


def test_rows_are_predicted_one_by_one_as_together(case) -> None:
    _, model, one = case
    together = model.predict(one.valid.rows)
    alone = np.concatenate([model.predict(one.valid.rows.take(np.array([row]))) for row in range(5)])
    # A matrix product of one row may add in another order.
    np.testing.assert_allclose(alone, together[:5], rtol=1e-12)


def test_the_seed_decides(case, folds) -> None:
    name, model, one = case
    again, _ = fitted(FAMILIES[name](), fold(one.task))
    np.testing.assert_array_equal(again.predict(one.valid.rows), model.predict(one.valid.rows))
    if name in ("forest", "xgboost"):
        other, _ = fitted(FAMILIES[name](), fold(one.task, seed=4))
        assert (other.predict(one.valid.rows) != model.predict(one.valid.rows)).any()


def test_validation_targets_choose_rounds_at_most(case) -> None:
    """Early stopping looks at them; nothing else may."""
    name, model, one = case
    if name == "xgboost":
        return
    turned = Fold(**{**{k: v for k, v in vars(one).items() if k != "preparation"}, "valid": one.train})
    again, _ = fitted(FAMILIES[name](), turned)
    np.testing.assert_array_equal(again.predict(one.valid.rows), model.predict(one.valid.rows))


def test_weights_count(case) -> None:
    name, model, one = case
    weighted = fold(one.task, weighted=True)
    again, _ = fitted(FAMILIES[name](), weighted)
    assert (again.predict(one.valid.rows) != model.predict(one.valid.rows)).any()


def test_files_hold_no_pickle(case, tmp_path: Path) -> None:
    family, model, one = case
    model.save(tmp_path)
    own = ["model.ubj"] if family == "xgboost" else []
    files = ["model.json", "model.npz", *own, "preparation.npz"]
    assert sorted(path.name for path in tmp_path.iterdir()) == files
    facts = load_facts(tmp_path)
    assert facts["kind"] in ("constant", "linear", "trees")
    assert json.loads((tmp_path / "model.json").read_text()) == facts
    for name in ("model.npz", "preparation.npz"):
        with np.load(tmp_path / name, allow_pickle=False) as arrays:
            assert {array: arrays[array].dtype.hasobject for array in arrays} == dict.fromkeys(arrays, False)
        with zipfile.ZipFile(tmp_path / name) as archive:
            assert {Path(member).suffix for member in archive.namelist()} == {".npy"}
    with np.load(tmp_path / "preparation.npz", allow_pickle=False) as arrays:
        read = Preparation.from_arrays(arrays)
    features = read.apply(one.valid.rows, facts["layout"])["features"]
    np.testing.assert_array_equal(features, one.preparation.apply(one.valid.rows, facts["layout"])["features"])


def test_xgboosts_own_file_is_the_model(folds, models, tmp_path: Path) -> None:
    for task in TASKS:
        model, one = models["xgboost", task], folds[task]
        (tmp_path / task).mkdir()
        model.save(tmp_path / task)
        np.testing.assert_array_equal(boosted(tmp_path / task, one.valid.rows), model.predict(one.valid.rows))


def test_the_files_of_a_linear_model_are_the_model(folds, models, tmp_path: Path) -> None:
    for task in TASKS:
        model = models["linear", task]
        model.save(tmp_path)
        with np.load(tmp_path / "model.npz", allow_pickle=False) as arrays:
            features = folds[task].preparation.apply(folds[task].valid.rows, "flat")["features"].astype(np.float64)
            raw = features @ arrays["weights"] + arrays["bias"]
        if task == "binary":
            raw = 1 / (1 + np.exp(-raw))
        if task == "multiclass":
            raw = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
        # Another way to the same figure, in doubles.
        np.testing.assert_allclose(raw, model.predict(folds[task].valid.rows), rtol=1e-9)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("task", TASKS)
def test_the_portfolio_lies_in_the_space(name, task, folds) -> None:
    family = FAMILIES[name]()
    _, hp = fitted(family, folds[task])
    space = {dimension.name: dimension for dimension in hp.space}
    assert space, "what it decides on is recorded"
    for values in family.portfolio(task, temporal=False):
        assert values.items() - {one.name: one.default for one in hp.space}.items(), "another than the defaults"
        for name_of, value in values.items():
            assert space[name_of].contains(value), f"{name_of}={value!r}"


def test_boosting_keeps_its_best_round(folds) -> None:
    model, _ = fitted(XGBoost(), folds["regression"], learning_rate=0.3)
    assert model.best_epoch is not None
    assert 1 <= model.best_epoch < 300, "large steps overfit soon"


def test_boosting_out_of_time_ends_with_what_it_has(folds) -> None:
    model, _ = fitted(XGBoost(), replace(folds["binary"], seconds=0.0))
    assert model.best_epoch == 1


def test_default_families_are_cheap_first() -> None:
    families = default_families()
    nets = ["tabm", "wide_deep", "mlp", "realmlp"]
    assert [family.name for family in families] == ["baseline", "linear", "xgboost", "forest", *nets]
    heavy = [family.needs_tensorflow for family in families]
    assert heavy == sorted(heavy), "those that need TensorFlow wait for it"
    assert repr(families[0]) == "Baseline('baseline')"


# The baseline: what everything else is judged against.


@pytest.mark.parametrize("weighted", [False, True])
def test_baselines_of_classes_are_shares(weighted) -> None:
    for task in ("binary", "multiclass"):
        one = fold(task, weighted=weighted)
        model, hp = fitted(Baseline(), one)
        counts = np.bincount(one.train.target.astype(int), weights=one.train.weight)
        shares = counts / counts.sum()
        expected = shares[1:] if task == "binary" else shares
        np.testing.assert_array_equal(model.predict(one.valid.rows), [expected] * len(one.valid))
        assert hp.values == {"constant": "shares"}


def test_baselines_of_numbers(folds) -> None:
    one = folds["regression"]
    family = Baseline()
    assert family.portfolio("regression", temporal=False) == [{"strategy": "median"}]
    for strategy, expected in (("mean", one.train.target.mean()), ("median", np.median(one.train.target))):
        model, _ = fitted(family, one, strategy=strategy)
        assert (model.predict(one.valid.rows) == expected).all()


def test_the_baseline_of_a_series_is_its_last_value() -> None:
    one = time_fold()
    assert one.last is not None
    assert one.last != len(one.train) - 1, "the latest row is not the last one"
    assert Baseline().portfolio("regression", temporal=True)[:2] == [{"strategy": "last"}, {"strategy": "mean"}]
    model, hp = fitted(Baseline(), one, strategy="last")
    assert (model.predict(one.valid.rows) == one.train.target.max()).all(), "it grows with time"
    assert hp.space[0].choices == ("mean", "median", "last")
