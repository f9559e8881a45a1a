"""Families of arrays: one contract for all of them, on small real data.  Nets have their own file."""

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folds import fold, hard_rows, marks, time_fold  # type: ignore[import-not-found]

from tunekit.data import Preparation
from tunekit.data.schema import Encoded
from tunekit.errors import StudyError
from tunekit.export.training_on import BOOSTED
from tunekit.families import (
    Baseline,
    CatBoost,
    Family,
    Fitted,
    Fold,
    Forest,
    LightGBM,
    Linear,
    Neighbors,
    XGBoost,
    default_families,
)
from tunekit.families.base import ArrayModel, Length, load_facts
from tunekit.families.rounds import SMALL, Boosting
from tunekit.families.tree_arrays import TreeArrays
from tunekit.space import HyperParameters, Value


def brief(kind: type[Boosting]) -> Callable[[], Boosting]:
    """Boosting that ends soon: penguins are told apart ever more surely, round after round."""

    def make() -> Boosting:
        family = kind()
        family.most_rounds = 150
        return family

    return make


BOOSTERS: dict[str, Callable[[], Boosting]] = {
    "xgboost": brief(XGBoost),
    "lightgbm": brief(LightGBM),
    "catboost": brief(CatBoost),
}
FAMILIES: dict[str, Callable[[], Family]] = {
    "baseline": Baseline,
    "linear": Linear,
    "forest": Forest,
    "neighbors": Neighbors,
    **BOOSTERS,
}
"""Every family of arrays; a new one gets the contract by being listed."""

NAMES = [pytest.param(name, marks=marks(make)) for name, make in FAMILIES.items()]
BOOSTED_NAMES = [pytest.param(name, marks=marks(make)) for name, make in BOOSTERS.items()]

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
    there = {name: make for name, make in FAMILIES.items() if not marks(make)}
    return {(name, task): fitted(make(), folds[task])[0] for name, make in there.items() for task in TASKS}


@pytest.fixture(params=NAMES)
def name(request) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture(params=TASKS)
def case(request, name, models, folds) -> tuple[str, Fitted, Fold]:
    return name, models[name, request.param], folds[request.param]


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
    if name == "forest" or name in BOOSTERS:
        other, _ = fitted(FAMILIES[name](), fold(one.task, seed=4))
        assert (other.predict(one.valid.rows) != model.predict(one.valid.rows)).any()


def test_validation_targets_choose_rounds_at_most(case) -> None:
    """Early stopping looks at them; nothing else may."""
    name, model, one = case
    if name in BOOSTERS:
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
    own = {"xgboost": ["model.ubj"], "lightgbm": ["model.txt"], "catboost": ["model.cbm"]}.get(family, [])
    files = ["model.json", "model.npz", *own, "preparation.npz"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)
    facts = load_facts(tmp_path)
    assert facts["kind"] in ("constant", "linear", "neighbors", "trees")
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


@pytest.mark.parametrize("name", BOOSTED_NAMES)
def test_a_librarys_own_file_is_the_model(name, folds, models, tmp_path: Path) -> None:
    for task in TASKS:
        model, one = models[name, task], folds[task]
        (tmp_path / task).mkdir()
        model.save(tmp_path / task)
        [predicts] = [predicts for own, predicts in BOOSTED.items() if (tmp_path / task / own).exists()]
        np.testing.assert_array_equal(predicts(tmp_path / task, one.valid.rows), model.predict(one.valid.rows))


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


@pytest.mark.parametrize("task", TASKS)
def test_the_portfolio_lies_in_the_space(name, task, folds) -> None:
    family = FAMILIES[name]()
    _, hp = fitted(family, folds[task])
    space = {dimension.name: dimension for dimension in hp.space}
    assert space, "what it decides on is recorded"
    for values in [
        *family.portfolio(task, rows=300, temporal=False),
        *family.portfolio(task, rows=10**6, temporal=False),
    ]:
        assert values.items() - {one.name: one.default for one in hp.space}.items(), "another than the defaults"
        for name_of, value in values.items():
            assert space[name_of].contains(value), f"{name_of}={value!r}"


@pytest.mark.parametrize("name", BOOSTED_NAMES)
def test_small_tables_of_two_classes_or_numbers_get_shallow_trees_second(name) -> None:
    family = BOOSTERS[name]()

    def second(task: str, rows: int) -> list[dict[str, Any]]:
        return family.portfolio(task, rows=rows, temporal=False)

    for task in ("binary", "regression"):
        assert second(task, SMALL - 1) != second(task, SMALL)
    assert second("multiclass", SMALL - 1) == second("multiclass", SMALL) == second("binary", SMALL)


@pytest.mark.parametrize("name", BOOSTED_NAMES)
def test_boosting_keeps_its_best_round(name, folds) -> None:
    model, _ = fitted(BOOSTERS[name](), folds["regression"], learning_rate=0.3)
    assert model.best_epoch is not None
    assert 1 <= model.best_epoch < 140, "large steps overfit soon"


@pytest.mark.parametrize("name", BOOSTED_NAMES)
def test_boosting_out_of_time_ends_with_what_it_has(name, folds) -> None:
    model, _ = fitted(BOOSTERS[name](), replace(folds["binary"], seconds=0.0))
    assert model.best_epoch == 1


@pytest.mark.parametrize("task", ["regression", "multiclass"])
def test_a_forest_grows_the_trees_that_there_is_time_for(folds, task) -> None:
    one = folds[task]
    plain, _ = fitted(Forest(), one)
    ample, _ = fitted(Forest(), replace(one, seconds=1e6))
    np.testing.assert_array_equal(ample.predict(one.valid.rows), plain.predict(one.valid.rows))
    short, _ = fitted(Forest(), replace(one, seconds=0.0))
    assert short.best_epoch == 10
    again, _ = fitted(Forest(), replace(one, length=Length(10)))
    np.testing.assert_array_equal(again.predict(one.valid.rows), short.predict(one.valid.rows))


@pytest.mark.parametrize("name", BOOSTED_NAMES)
def test_boosting_has_as_many_rounds_as_it_is_told(name, folds) -> None:
    model, _ = fitted(BOOSTERS[name](), replace(folds["binary"], length=Length(17)))
    assert isinstance(model, ArrayModel)
    assert (model.best_epoch, model.out_of_fold, model.facts["rounds"]) == (17, None, 17)
    assert len(model.arrays["roots"]) == 17


@pytest.mark.parametrize("name", BOOSTED_NAMES)
def test_each_half_is_predicted_by_the_rounds_that_the_other_chooses(name, folds) -> None:
    whole = folds["regression"]
    halves = np.arange(0, len(whole.valid), 2), np.arange(1, len(whole.valid), 2)
    one = replace(whole, halves=halves)
    model, _ = fitted(BOOSTERS[name](), one, learning_rate=0.3)
    assert model.out_of_fold is not None
    for half, other in (halves, halves[::-1]):
        alone = replace(whole, valid=whole.valid.take(other), memo={"preparation": whole.preparation})
        chosen, _ = fitted(BOOSTERS[name](), alone, learning_rate=0.3)
        np.testing.assert_array_equal(model.out_of_fold[half], chosen.predict(whole.valid.rows.take(half)))
    assert (model.out_of_fold != model.predict(whole.valid.rows)).any()


def with_gaps(one: Fold) -> Encoded:
    """Rows with gaps where no training row has any, codes that none has, and far numbers."""
    rows = one.train.rows.take(np.arange(100))
    random = np.random.default_rng(0)
    numbers = np.where(random.random(rows.numbers.shape) < 0.3, np.nan, rows.numbers)
    numbers[:3] = [[0.0], [-1e30], [1e30]]
    codes = random.integers(0, np.array(one.cardinalities), rows.codes.shape).astype(np.int32)
    return Encoded(numbers, codes)


@pytest.mark.parametrize("name", BOOSTED_NAMES)
@pytest.mark.parametrize("task", TASKS)
def test_the_arrays_of_boosted_trees_predict_as_their_library(name, task, folds, models) -> None:
    model, one = models[name, task], folds[task]
    trees = TreeArrays.from_arrays(model.arrays)
    for rows in (one.train.rows, hard_rows(one), with_gaps(one)):
        features = one.preparation.apply(rows, model.layout)["features"]
        expected = model.function(features)
        # LightGBM and CatBoost add in float64 as the arrays do; XGBoost in float32, of numbers of some 4,000.
        tolerance = 1e-9 if name != "xgboost" else 0.01 if task == "regression" else 1e-6
        np.testing.assert_allclose(trees.predict(features), expected, atol=tolerance)


@pytest.mark.parametrize(("family", "package"), [(LightGBM, "lightgbm"), (CatBoost, "catboost")])
@pytest.mark.parametrize("error", [ImportError("No module"), OSError("libgomp.so.1: cannot open shared object file")])
def test_a_package_that_cannot_be_imported_is_named(family, package, error, monkeypatch) -> None:
    def fail(name: str) -> None:
        raise error

    monkeypatch.setattr("tunekit.families.extra.importlib.import_module", fail)
    told = rf"{family.__name__}\(\) needs the package {package}, .*pip install tunekit\[gbdt\]"
    with pytest.raises(StudyError, match=told):
        family()
    assert not {"lightgbm", "catboost"} & {one.name for one in default_families()}


def test_default_families_are_cheap_first() -> None:
    families = default_families()
    nets = ["tabm", "wide_deep", "mlp", "realmlp"]
    extra = [name for name, make in (("lightgbm", LightGBM), ("catboost", CatBoost)) if not marks(make)]
    assert [family.name for family in families] == ["baseline", "linear", "xgboost", *extra, "forest", *nets]
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
    assert family.portfolio("regression", rows=300, temporal=False) == [{"strategy": "median"}]
    for strategy, expected in (("mean", one.train.target.mean()), ("median", np.median(one.train.target))):
        model, _ = fitted(family, one, strategy=strategy)
        assert (model.predict(one.valid.rows) == expected).all()


def test_the_baseline_of_a_series_is_its_last_value() -> None:
    one = time_fold()
    assert one.last is not None
    assert one.last != len(one.train) - 1, "the latest row is not the last one"
    assert Baseline().portfolio("regression", rows=300, temporal=True)[:2] == [
        {"strategy": "last"},
        {"strategy": "mean"},
    ]
    model, hp = fitted(Baseline(), one, strategy="last")
    assert (model.predict(one.valid.rows) == one.train.target.max()).all(), "it grows with time"
    assert hp.space[0].choices == ("mean", "median", "last")
