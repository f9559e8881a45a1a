"""Tree ensembles as arrays: the same predictions as the libraries that trained them."""

from typing import Any

import numpy as np
import pytest
import xgboost
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)

from tunekit.errors import ExportError
from tunekit.families.tree_arrays import TreeArrays, from_forest, from_xgboost

# XGBoost adds leaves in float32; the arrays add in float64.  Up to 60 leaves of size about 1: 60 * 6e-8.
FLOAT32_SUMS = 5e-6

KINDS = ["q", "q", "q", "c", "c"]


def features(rows: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 5)).astype(np.float32)
    x[:, 1] = np.round(x[:, 1], 1)  # ties with thresholds
    x[:, 3] = rng.integers(0, 5, rows)
    x[:, 4] = rng.integers(0, 90, rows)
    x[rng.random(x.shape) < 0.1] = np.nan
    return x


def hard_features() -> np.ndarray:
    """Rows as a model may meet them: all missing, codes that no training row had, huge numbers."""
    x = features(200, seed=9)
    x[0] = np.nan
    x[1:20, 3] = np.arange(5, 24)
    x[1:20, 4] = np.arange(90, 2000, 100)[:19]
    x[20:30, 0] = 1e30
    x[30:40, 0] = -1e30
    return x


def boosted(objective: str, target: np.ndarray, x: np.ndarray, rounds: int = 20, **settings) -> xgboost.Booster:
    matrix = xgboost.DMatrix(x, target, feature_types=KINDS, enable_categorical=True)
    given = {
        "objective": objective,
        "max_depth": 4,
        "nthread": 1,
        "max_cat_to_onehot": 3,
        "seed": 0,
        **settings,
    }
    booster: xgboost.Booster = xgboost.train(given, matrix, rounds)
    return booster


def own(booster: xgboost.Booster, x: np.ndarray) -> np.ndarray:
    return np.asarray(booster.predict(xgboost.DMatrix(x, feature_types=KINDS, enable_categorical=True)))


def signal(x: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.asarray(
        np.nan_to_num(x[:, 0]) + np.isin(x[:, 3], [1, 4]) + np.sin(x[:, 4] * 7) + rng.normal(0, 0.1, len(x))
    )


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return features(600, seed=0)


@pytest.fixture(scope="module")
def y(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.nan_to_num(signal(x)))


def classes(y: np.ndarray, count: int) -> np.ndarray:
    return np.asarray(np.searchsorted(np.quantile(y, np.arange(1, count) / count), y))


@pytest.mark.parametrize(
    ("objective", "settings", "link"),
    [
        ("reg:squarederror", {}, "identity"),
        ("reg:squarederror", {"base_score": 3.5}, "identity"),
        ("reg:absoluteerror", {}, "identity"),
        ("reg:squarederror", {"num_parallel_tree": 2, "subsample": 0.5}, "identity"),
        ("reg:squarederror", {"booster": "dart", "rate_drop": 0.3}, "identity"),
        ("reg:squarederror", {"max_cat_to_onehot": 200}, "identity"),
        ("reg:squarederror", {"gamma": 1e9}, "identity"),  # trees of one leaf
        ("binary:logistic", {}, "sigmoid"),
        ("binary:logistic", {"base_score": 0.2}, "sigmoid"),
        ("reg:logistic", {}, "sigmoid"),
    ],
)
def test_boosted_trees_with_one_output(x, y, objective, settings, link) -> None:
    target = classes(y, 2) if link == "sigmoid" else y
    booster = boosted(objective, target, x, **settings)
    arrays = from_xgboost(booster, 1, link)
    for rows in (x, hard_features()):
        np.testing.assert_allclose(arrays.predict(rows)[:, 0], own(booster, rows), atol=FLOAT32_SUMS)


def test_boosted_trees_with_one_output_per_class(x, y) -> None:
    booster = boosted("multi:softprob", classes(y, 3), x, num_class=3)
    arrays = from_xgboost(booster, 3, "softmax")
    np.testing.assert_allclose(arrays.predict(hard_features()), own(booster, hard_features()), atol=FLOAT32_SUMS)


def test_only_the_kept_rounds_count(x, y) -> None:
    booster = boosted("reg:squarederror", y, x)[:7]
    arrays = from_xgboost(booster, 1, "identity")
    assert len(arrays.roots) == 7
    np.testing.assert_allclose(arrays.predict(x)[:, 0], own(booster, x), atol=FLOAT32_SUMS)


def test_a_regression_far_from_zero_loses_no_digits(x, y) -> None:
    booster = boosted("reg:squarederror", 200_000 + 1_000 * y, x)
    expected = own(booster, x)
    # The library's own float32 holds 200,000 to 0.008.
    np.testing.assert_allclose(from_xgboost(booster, 1, "identity").predict(x)[:, 0], expected, atol=0.05)


@pytest.mark.parametrize("forest", [RandomForestClassifier, ExtraTreesClassifier])
@pytest.mark.parametrize(("task", "count"), [("binary", 2), ("multiclass", 4)])
def test_forests_of_classifiers(x, y, forest, task, count) -> None:
    fitted = forest(12, min_samples_leaf=3, random_state=0, class_weight="balanced").fit(x, classes(y, count))
    expected = fitted.predict_proba(hard_features())
    expected = expected[:, 1:] if task == "binary" else expected
    # The same float64 additions in another order.
    np.testing.assert_allclose(from_forest(fitted, task).predict(hard_features()), expected, atol=1e-13)


@pytest.mark.parametrize("forest", [RandomForestRegressor, ExtraTreesRegressor])
def test_forests_of_regressors(x, y, forest) -> None:
    fitted = forest(12, random_state=0).fit(x, y)
    expected = fitted.predict(hard_features())
    np.testing.assert_allclose(from_forest(fitted, "regression").predict(hard_features())[:, 0], expected, atol=1e-13)


def test_a_row_on_a_threshold_goes_where_the_library_sends_it(x, y) -> None:
    coarse = np.round(np.nan_to_num(x) * 2) / 2  # every threshold's neighbours are values
    forest = RandomForestRegressor(5, random_state=0).fit(coarse, y)
    arrays = from_forest(forest, "regression")
    rows = np.repeat(coarse[:1], len(arrays.threshold), axis=0)
    split = np.flatnonzero(arrays.feature >= 0)
    rows[split, arrays.feature[split]] = arrays.threshold[split]  # each row sits on one threshold
    np.testing.assert_allclose(arrays.predict(rows)[:, 0], forest.predict(rows), atol=1e-13)
    booster = boosted("reg:squarederror", y, coarse)
    boosted_arrays = from_xgboost(booster, 1, "identity")
    split = np.flatnonzero((boosted_arrays.feature >= 0) & (boosted_arrays.set_size == 0))
    rows = np.repeat(coarse[:1], len(split), axis=0)
    rows[np.arange(len(split)), boosted_arrays.feature[split]] = boosted_arrays.threshold[split]
    np.testing.assert_allclose(boosted_arrays.predict(rows)[:, 0], own(booster, rows), atol=FLOAT32_SUMS)


def test_arrays_survive_a_file_without_pickle(x, y, tmp_path) -> None:
    arrays = from_xgboost(boosted("reg:squarederror", y, x), 1, "identity")
    saved: dict[str, Any] = arrays.to_arrays()
    np.savez(tmp_path / "model.npz", **saved)
    with np.load(tmp_path / "model.npz", allow_pickle=False) as loaded:
        again = TreeArrays.from_arrays(loaded)
    np.testing.assert_array_equal(again.predict(x), arrays.predict(x))
    assert (again.link, again.inclusive, again.scale) == ("identity", False, 1.0)


def test_no_rows_give_no_predictions(x, y) -> None:
    assert from_xgboost(boosted("reg:squarederror", y, x), 1, "identity").predict(x[:0]).shape == (0, 1)


def test_boosters_that_are_no_sum_of_trees_are_refused(x, y) -> None:
    numbers = np.nan_to_num(x[:, :3])
    linear = xgboost.train(
        {"booster": "gblinear", "updater": "coord_descent", "nthread": 1}, xgboost.DMatrix(numbers, y), 2
    )
    with pytest.raises(ExportError, match="booster 'gblinear' came; expected trees"):
        from_xgboost(linear, 1, "identity")
    vector = xgboost.train(
        {"multi_strategy": "multi_output_tree", "tree_method": "hist", "nthread": 1},
        xgboost.DMatrix(numbers, np.stack([y, -y], axis=1)),
        2,
    )
    with pytest.raises(ExportError, match="one_output_per_tree"):
        from_xgboost(vector, 2, "identity")


def test_an_objective_with_another_link_is_refused(x, y) -> None:
    counts = boosted("count:poisson", np.abs(np.round(y)), x)
    with pytest.raises(ExportError, match=r"objective 'count:poisson' came for link 'identity'"):
        from_xgboost(counts, 1, "identity")
    with pytest.raises(ExportError, match="expected one of binary:logistic, reg:logistic"):
        from_xgboost(boosted("reg:squarederror", y, x), 1, "sigmoid")


def test_an_unexpected_number_of_outputs_is_refused(x, y) -> None:
    with pytest.raises(ExportError, match="3 intercepts; expected 1"):
        from_xgboost(boosted("multi:softprob", classes(y, 3), x, num_class=3), 1, "softmax")
    with pytest.raises(ExportError, match=r"4 class\(es\) came for task 'binary'"):
        from_forest(RandomForestClassifier(2, random_state=0).fit(x, classes(y, 4)), "binary")


@pytest.mark.parametrize(
    ("objective", "outputs", "link"), [("reg:squarederror", 1, "identity"), ("multi:softprob", 3, "softmax")]
)
def test_many_rounds_are_read_some_at_a_time(
    x: np.ndarray, y: np.ndarray, monkeypatch: pytest.MonkeyPatch, objective: str, outputs: int, link: str
) -> None:
    from tunekit.families import tree_arrays

    target = y if outputs == 1 else classes(y, outputs)
    more = {} if outputs == 1 else {"num_class": outputs}
    booster = boosted(objective, target, x, 23, **more)
    whole = from_xgboost(booster, outputs, link)
    monkeypatch.setattr(tree_arrays, "PARSED", 5)
    for name, array in from_xgboost(booster, outputs, link).to_arrays().items():
        np.testing.assert_array_equal(array, whole.to_arrays()[name])
