"""Members fitted once more on all rows: for how long, on which rows, and what is exported of them."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import keras_tuner
import numpy as np
import pytest
from folds import fold, fold_of  # type: ignore[import-not-found]
from searches import Listener, houses  # type: ignore[import-not-found]

import tunekit as tk
from tunekit.data import Folds
from tunekit.errors import ExportError, StudyError
from tunekit.families import Fold, NetFamily, RealMLP, XGBoost
from tunekit.families.base import Length
from tunekit.families.one_by_one import OneByOne
from tunekit.space import HyperParameters
from tunekit.study.blend import Candidate
from tunekit.study.prepared import prepare
from tunekit.study.refit import _expected, _length, _length_of_each
from tunekit.study.result import Result
from tunekit.training.nets import fit_net
from tunekit.training.refit import refusal
from tunekit.trial import Epoch, Trial

pytestmark = pytest.mark.usefixtures("kept_servers")


def answers(**values: Any) -> HyperParameters:
    return HyperParameters(lambda dimension: values.get(dimension.name, dimension.default))


def never(*_: object) -> bool:
    raise AssertionError("no rows judge this training")


def test_boosting_has_as_many_rounds_as_it_is_told() -> None:
    one = replace(fold("regression"), length=Length(17))
    model = XGBoost().fit(answers(), one, never)
    assert (model.best_epoch, model.out_of_fold) == (17, None)
    assert model.facts["rounds"] == 17  # type: ignore[attr-defined]


def price_and_area(folds: int = 2) -> list[Fold]:
    """Folds of houses whose price is hard to tell and whose area is in a column, nearly."""
    table = houses(120)
    table["Area"] = table["Gr_Liv_Area"] + np.random.default_rng(0).normal(size=len(table))
    data = tk.Table(table, target=["Sale_Price", "Area"]).load()
    ready = prepare(data, tk.KFold(folds), None, seed=0)
    return [replace(fold_of(ready, number), targets=data.targets) for number in range(folds)]


def test_each_of_several_targets_has_as_many_rounds_as_the_median_fold_took(tmp_path: Path) -> None:
    folds, found = price_and_area(), []
    for one in folds:
        fitted = OneByOne(XGBoost()).fit(answers(learning_rate=0.3), one, lambda *_: False)
        (folder := tmp_path / f"fold{one.number}").mkdir()
        fitted.save(folder)
        found.append([model.best_epoch or 0 for model in fitted.models])
    nothing = np.empty((0, 2))
    member = Candidate(Trial(0, "xgboost", 0, seed=0), nothing, nothing, tmp_path, len(folds))
    length = _length_of_each(member)
    assert length is not None
    assert length.each == tuple(np.min(found, axis=0)), "of two, the lower one"
    assert length.each[0] != length.each[1], "or this test shows nothing"
    again = OneByOne(XGBoost()).fit(answers(learning_rate=0.3), replace(folds[0], length=length), never)
    assert tuple(model.best_epoch for model in again.models) == length.each


def test_several_targets_share_the_time_of_a_fold() -> None:
    told: list[float] = []

    class Noting(tk.Baseline):
        """Notes the time that it is given."""

        def fit(self, hp: HyperParameters, fold: Fold, report: Any) -> Any:
            told.append(fold.seconds)
            return super().fit(hp, fold, report)

    OneByOne(Noting()).fit(answers(), replace(price_and_area()[0], seconds=60.0), never)
    assert told[0] == pytest.approx(30.0, abs=1.0), "a busy machine may have taken a second"
    assert told[1] == pytest.approx(60.0, abs=5.0), "all that the first left"


class Slow(tk.MLP):
    """Watches its rates."""

    epochs = 50

    def __init__(self) -> None:
        super().__init__()
        self.rates: list[float] = []

    def callbacks(self) -> list[Any]:
        def note(epoch: int, logs: Any) -> None:
            del epoch, logs
            self.rates.append(float(watching.model.optimizer.learning_rate))

        watching = keras.callbacks.LambdaCallback(on_epoch_end=note)
        return [watching]


def test_a_net_is_trained_by_the_rates_of_an_earlier_training() -> None:
    family = Slow()
    fitted = fit_net(family, answers(), replace(fold("binary"), length=Length(3, (0.01, 0.002, 0.0004))), never)
    assert family.rates == pytest.approx([0.01, 0.002, 0.0004])
    assert fitted.best_epoch == 3


def test_a_schedule_is_that_of_all_epochs_though_it_ends_before() -> None:
    family = RealMLP()
    one = fold("binary")
    fitted = fit_net(family, answers(), replace(one, length=Length(4, (0.01,) * 4)), never)
    optimizer = fitted.model.optimizer
    steps = int(optimizer.iterations)
    assert float(optimizer.steps) == steps / 4 * family.epochs


def test_the_median_fold_says_how_long() -> None:
    curve = [Epoch(one, epoch, {"learning_rate": one + epoch / 100}) for one in range(3) for epoch in range(1, 9)]
    trial = Trial(0, "mlp", 0, seed=0, best_epochs=[7, 2, 4], curve=curve)
    length = _length(trial, is_net=True)
    assert length == Length(4, tuple(2 + epoch / 100 for epoch in range(1, 5)))
    assert _length(trial, is_net=False) == Length(4)
    assert _length(Trial(0, "linear", 0, seed=0), is_net=False) is None


@pytest.mark.parametrize(
    ("family", "best_epochs", "seconds"),
    [
        (tk.XGBoost(), [150, 9], 7.5),  # of 200 rounds or more, the last 50 of which it does not need
        (tk.MLP(), [150, 9], 10.0),
        (tk.Linear(), [], 10.0),
        (tk.Pretrained(lambda: None), [7], np.inf),
        (None, [], np.inf),
    ],
    ids=["boosting", "net", "neither", "can't be", "not in the study"],
)
def test_a_refit_takes_as_long_as_a_fold_by_its_rows(family, best_epochs, seconds) -> None:
    pair = np.arange(40), np.arange(40, 60)
    prepared: Any = SimpleNamespace(data=range(80), folds=Folds(np.arange(60, 80), (pair, pair)))
    trial = Trial(0, "one", 0, seed=0, best_epochs=best_epochs, fit_seconds=10.0)
    assert _expected(trial, family, prepared) == seconds


@pytest.mark.parametrize(("family", "cores"), [(tk.Forest(), 4), (tk.Linear(), 1)], ids=["threaded", "not"])
def test_a_refit_has_every_core(family, cores, monkeypatch) -> None:
    monkeypatch.setattr("tunekit.study.refit.usable_cores", lambda: 4)
    pair = np.arange(60), np.arange(60, 80)
    prepared: Any = SimpleNamespace(data=range(60), folds=Folds(np.arange(0), (pair,)))
    for threads in (1, 2, 4, 8, None):
        trial = Trial(0, "one", 0, seed=0, fit_seconds=10.0, threads=threads)
        gain = max(1.0, cores / (threads or 4)) ** 0.5
        assert _expected(trial, family, prepared) == pytest.approx(10.0 / gain), threads


class Author(keras_tuner.HyperModel):
    """A HyperModel with a fit of its own."""

    def build(self, hp: Any) -> Any:
        model = keras.Sequential([keras.layers.Dense(1)])
        model.compile("adam", loss="mse")
        return model

    def fit(self, hp: Any, model: Any, *arguments: Any, **more: Any) -> Any:
        return model.fit(*arguments, **more)


def test_what_ends_by_rows_that_judge_is_refused() -> None:
    assert "author" in str(refusal(tk.Keras(Author())))
    assert "two phases" in str(refusal(tk.Pretrained(lambda: None)))
    families: list[NetFamily] = [tk.MLP(), tk.RealMLP(), tk.TabM()]
    assert [refusal(family) for family in families] == [None] * 3


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Trees and linear models, in three folds."""
    data = tk.Table(houses(240), target="Sale_Price")
    families = [tk.Baseline(), tk.Linear(), tk.XGBoost(), tk.Forest()]
    study = tk.Study("once", data=data, metric="rmse", families=families, split=tk.KFold(3), seed=1)
    root = tmp_path_factory.mktemp("once") / "mlruns"
    found: Result = study.run(root=root, trials=6, workers=1, observers=[Listener()])
    return found


def test_one_model_a_member_is_exported(result: Result, tmp_path: Path) -> None:
    told: list[str] = []
    whole = result.export(tmp_path / "whole")
    once = result.export(tmp_path / "once", refit=True, tell=told.append)
    bundle = tk.Bundle.load(once)
    size = {folder: (folder / "model.onnx").stat().st_size for folder in (whole, once)}
    assert size[once] < 0.9 * size[whole], "a third of the models, each of half as many rows again, in as many nodes"
    ensemble = bundle.manifest["facts"]["ensemble"]
    members = [member["trial"] for member in ensemble["members"]]
    assert members == [member["trial"] for member in result.summary["ensemble"]["members"]]
    test, rows = len(result.study.prepare().folds.test), len(houses(240))
    assert f"fitted on {rows - test:,} rows" in told[0]
    assert f"learnt from all {rows:,} rows, the test rows too" in told[0]
    assert ensemble["refit"]["told"] == told[0]
    # On rows that it has not seen it is about as good; on those that it has learnt from in the end it is better.
    assert ensemble["refit"]["test_score"] < 1.3 * result.summary["ensemble"]["test_score"]
    table = houses(240).iloc[result.study.prepare().folds.test]
    error = np.sqrt(np.mean((bundle.predict(table) - table["Sale_Price"].to_numpy()) ** 2))
    assert error < 0.9 * ensemble["refit"]["test_score"]


def test_a_taken_place_is_told_before_anything_is_fitted(result: Result, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    told: list[str] = []
    with pytest.raises(ExportError, match=r"no bundle's, such as 'notes.txt'"):
        result.export(tmp_path, refit=True, tell=told.append)
    assert not told, "what a refit is worth"


def test_a_family_that_left_the_study_is_missed(result: Result, tmp_path: Path) -> None:
    families = result.study.families
    left = result.summary["ensemble"]["members"][0]["family"]
    result.study.families = [family for family in families if family.name != left]
    try:
        with pytest.raises(StudyError, match=f"the study has no family '{left}' any more"):
            result.export(tmp_path / "model", refit=True)
    finally:
        result.study.families = families


@pytest.mark.slow
def test_nets_are_fitted_once_more_too(tmp_path: Path) -> None:
    families = [tk.MLP(), tk.TabM()]
    for family in families:
        family.epochs = 12
    data = tk.Table(houses(240), target="Sale_Price")
    study = tk.Study("nets", data=data, metric="rmse", families=families, split=tk.Holdout(valid=0.3), seed=1)
    found = study.run(root=tmp_path / "mlruns", trials=2, workers=1, observers=[Listener()])
    bundle = tk.Bundle.load(found.export(tmp_path / "once", refit=True))
    assert {member["family"] for member in bundle.manifest["facts"]["ensemble"]["members"]} == {"mlp", "tabm"}
    target = houses(240)["Sale_Price"].to_numpy()
    assert np.corrcoef(bundle.predict(houses(240)), target)[0, 1] > 0.8
    test = study.prepare().folds.test
    for number in (0, 1):  # each by itself: a blend may hide one that learnt nothing
        with np.load(tmp_path / f"mlruns/studies/nets/refit/all/trial{number}/fold0/predictions.npz") as left:
            assert np.corrcoef(left["unlabelled"][: len(test), 0], target[test])[0, 1] > 0.8
