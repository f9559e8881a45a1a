"""LightGBM's and CatBoost's trees as arrays: the same predictions as the libraries that trained them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from test_tree_arrays import classes, features, hard_features, signal  # type: ignore[import-not-found]

from tunekit.errors import ExportError
from tunekit.export.trees import float32_thresholds
from tunekit.families.catboost_trees import from_catboost
from tunekit.families.lightgbm_trees import from_lightgbm
from tunekit.families.tree_arrays import TreeArrays

lightgbm = pytest.importorskip("lightgbm", reason="needs lightgbm: pip install tunekit[gbdt]")
catboost = pytest.importorskip("catboost", reason="needs catboost: pip install tunekit[gbdt]")

EXACT = 1e-12
"""Both libraries add leaves in float64, as the arrays do; in another order."""

CATEGORIES = [3, 4]


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    made: np.ndarray = features(600, seed=0)
    made[:, 2] = np.nan_to_num(made[:, 2])  # no gap where it learns
    return made


@pytest.fixture(scope="module")
def y(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.nan_to_num(signal(x)))


def light(x: np.ndarray, y: np.ndarray, rounds: int = 20, **settings: Any) -> Any:
    fixed = {"num_leaves": 16, "num_threads": 1, "verbose": -1, "seed": 0, "min_data_per_group": 5, "cat_smooth": 1}
    rows = lightgbm.Dataset(x, y, categorical_feature=CATEGORIES, params={"verbose": -1, "feature_pre_filter": False})
    return lightgbm.train({**fixed, **settings}, rows, rounds)


@pytest.mark.parametrize(
    ("settings", "outputs", "link"),
    [
        ({"objective": "regression"}, 1, "identity"),
        ({"objective": "regression", "max_cat_to_onehot": 100}, 1, "identity"),
        ({"objective": "regression", "use_missing": False}, 1, "identity"),
        ({"objective": "regression", "extra_trees": True, "bagging_freq": 1, "bagging_fraction": 0.5}, 1, "identity"),
        ({"objective": "regression", "boosting": "dart"}, 1, "identity"),
        ({"objective": "regression", "min_data_in_leaf": 500}, 1, "identity"),  # trees of one leaf
        ({"objective": "binary"}, 1, "sigmoid"),
        ({"objective": "multiclass", "num_class": 3}, 3, "softmax"),
    ],
)
def test_lightgbms_trees(x, y, settings, outputs, link) -> None:
    target = y if link == "identity" else classes(y, 2 if outputs == 1 else 3)
    booster = light(x, target, **settings)
    arrays = from_lightgbm(booster, 20, outputs, link)
    assert arrays.set_size.any() or "min_data_in_leaf" in settings
    for rows in (x, hard_features()):
        np.testing.assert_allclose(arrays.predict(rows).squeeze(), booster.predict(rows), atol=EXACT)
    np.testing.assert_allclose(
        from_lightgbm(booster, 7, outputs, link).predict(x).squeeze(), booster.predict(x, num_iteration=7), atol=EXACT
    )


def test_lightgbms_mean_is_no_part_of_the_leaves(x, y) -> None:
    """Leaves become float32 in the graph: with 200,000 in them they would lose what they differ by."""
    booster = light(x, 200_000 + y, objective="regression")
    arrays = from_lightgbm(booster, 20, 1, "identity")
    assert np.abs(arrays.value).max() < 10
    np.testing.assert_allclose(arrays.predict(x)[:, 0], booster.predict(x), atol=1e-9)


def test_what_lightgbm_predicts_by_other_rules_is_refused(x, y) -> None:
    cases: Sequence[tuple[dict[str, Any], str]] = (
        ({"objective": "poisson"}, "objective 'poisson' came for link 'identity'"),
        ({"objective": "regression", "zero_as_missing": True}, "zero_as_missing"),
        ({"objective": "regression", "linear_tree": True}, "linear_tree"),
        ({"objective": "regression", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}, "boosted"),
    )
    for settings, told in cases:
        rows = lightgbm.Dataset(np.nan_to_num(x[:, :3]), np.abs(y), params={"verbose": -1, **settings})
        booster = lightgbm.train({"num_threads": 1, "verbose": -1, **settings}, rows, 2)
        with pytest.raises(ExportError, match=told):
            from_lightgbm(booster, 2, 1, "identity")
    with pytest.raises(ExportError, match="3 outputs; expected 4"):
        from_lightgbm(light(x, classes(y, 3), objective="multiclass", num_class=3), 2, 4, "softmax")


def pool(x: np.ndarray, y: np.ndarray | None = None) -> Any:
    names = np.array([b"none", *(b"%d" % code for code in range(3000))], dtype=object)
    codes = names[np.where(np.isnan(x[:, CATEGORIES]), -1, x[:, CATEGORIES]).astype(int) + 1]
    numbers = np.ascontiguousarray(x[:, :3])
    return catboost.Pool(catboost.FeaturesData(num_feature_data=numbers, cat_feature_data=codes), y)


def cat(x: np.ndarray, y: np.ndarray, **settings: Any) -> Any:
    fixed = {"iterations": 20, "depth": 5, "thread_count": 1, "logging_level": "Silent", "random_seed": 0}
    more = {"allow_writing_files": False, "one_hot_max_size": 255, "boosting_type": "Plain", **settings}
    return catboost.CatBoost({**fixed, **more}).fit(pool(x, y))


def arrays_of(model: Any, x: np.ndarray, outputs: int, link: str) -> TreeArrays:
    return from_catboost(model, pool(x), [0, 1, 2], CATEGORIES, outputs, link)


@pytest.mark.parametrize(
    ("settings", "outputs", "link"),
    [
        ({"loss_function": "RMSE"}, 1, "identity"),
        ({"loss_function": "RMSE", "nan_mode": "Max"}, 1, "identity"),
        ({"loss_function": "RMSE", "depth": 1, "learning_rate": 1.0}, 1, "identity"),
        ({"loss_function": "Logloss"}, 1, "sigmoid"),
        ({"loss_function": "MultiClass"}, 3, "softmax"),
    ],
)
def test_catboosts_trees(x, y, settings, outputs, link) -> None:
    target = y if link == "identity" else classes(y, 2 if outputs == 1 else 3)
    model = cat(x, target, **settings)
    arrays = arrays_of(model, x, outputs, link)
    assert arrays.set_size.any()
    kind = "RawFormulaVal" if link == "identity" else "Probability"
    for rows in (x, hard_features()):
        expected = model.predict(pool(rows), prediction_type=kind)
        found = arrays.predict(rows)
        np.testing.assert_allclose(found.squeeze(), expected[:, 1] if link == "sigmoid" else expected, atol=EXACT)


def test_leaves_that_no_row_reached_are_one(x, y) -> None:
    """Of 20 trees of depth 9 over 600 rows, most of the 512 leaves are empty."""
    arrays = arrays_of(cat(x, y, loss_function="RMSE", depth=9), x, 1, "identity")
    assert (arrays.left < 0).sum() < 0.7 * 20 * 512


def test_many_rounds_of_catboost_are_read_some_at_a_time(x, y, monkeypatch) -> None:
    model = cat(x, y, loss_function="RMSE")
    whole = arrays_of(model, x, 1, "identity")
    monkeypatch.setattr("tunekit.families.catboost_trees.PARSED", 6)
    for name, array in arrays_of(model, x, 1, "identity").to_arrays().items():
        np.testing.assert_array_equal(array, whole.to_arrays()[name])


def test_what_catboost_predicts_by_other_rules_is_refused(x, y) -> None:
    with pytest.raises(ExportError, match="loss 'Poisson' came for link 'identity'"):
        arrays_of(cat(x, np.abs(y), loss_function="Poisson"), x, 1, "identity")
    with pytest.raises(ExportError, match="grow_policy 'Depthwise'"):
        arrays_of(cat(x, y, loss_function="RMSE", grow_policy="Depthwise"), x, 1, "identity")
    with pytest.raises(ExportError, match="split of type 'OnlineCtr'"):
        arrays_of(cat(x, y, loss_function="RMSE", one_hot_max_size=2), x, 1, "identity")


def test_thresholds_beyond_float32_send_all_numbers_to_one_side() -> None:
    least, most = float(np.finfo(np.float32).min), float(np.finfo(np.float32).max)
    np.testing.assert_array_equal(
        float32_thresholds(np.array([1e300, least, most]), inclusive=True), [most, least, most]
    )
