"""The estimators: what scikit-learn expects of one, rows of all kinds, and what a fit leaves behind."""

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from searches import records  # type: ignore[import-not-found]
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import tunekit as tk
from tunekit.data import Dataset, Schema
from tunekit.data.schema import Column
from tunekit.errors import DataError, StudyError
from tunekit.estimators.splitting import LEAST_OF_CLASS, often_enough, suitable_split

CHEAP = {"families": [tk.Linear()], "trials": 1, "workers": 1, "random_state": 0}
"""One trial of a linear model."""

SPLITS = (
    "fit splits the rows at random into folds: a row that weighs 2 stands in one fold, a row that is there twice may "
    "stand in two, and trains a model that the other one judges"
)
EXPECTED = {"check_sample_weight_equivalence_on_dense_data": SPLITS}


def expected_failures(estimator: object) -> dict[str, str]:
    return EXPECTED


# Some fifty fits each, at a second or two.
@pytest.mark.slow
@parametrize_with_checks(
    [tk.TunekitClassifier(**CHEAP), tk.TunekitRegressor(**CHEAP)],
    expected_failed_checks=expected_failures,
    xfail_strict=True,
)
def test_scikit_learn_finds_nothing_wrong(estimator, check) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def people() -> tuple[pd.DataFrame, np.ndarray]:
    """A number, a category and a boolean, each with gaps, and names of classes that follow from them."""
    rng = np.random.default_rng(0)
    x = pd.DataFrame(
        {
            "age": rng.normal(40, 10, 120),
            "town": pd.Categorical(rng.choice(["Ames", "Boone", "Nevada"], 120)),
            "member": pd.array(rng.choice([True, False], 120), dtype="boolean"),
        }
    )
    stays = (x["age"] > 40) ^ (x["town"] == "Boone").to_numpy()
    for name in x:
        x.loc[rng.choice(120, 6, replace=False), name] = None
    return x, np.where(stays, "stays", "leaves")


@pytest.fixture(scope="module")
def fitted(people) -> tk.TunekitClassifier:
    return tk.TunekitClassifier(**CHEAP).fit(*people)


def test_a_frame_with_categories_and_gaps_is_learnt_and_predicted(people, fitted) -> None:
    x, y = people
    assert list(fitted.classes_) == ["leaves", "stays"]
    assert list(fitted.feature_names_in_) == ["age", "town", "member"]
    assert fitted.n_features_in_ == 3
    shares = fitted.predict_proba(x)
    assert shares.shape == (120, 2)
    assert np.array_equal(fitted.predict(x), fitted.classes_[(shares[:, 1] >= 0.5).astype(int)])
    assert fitted.score(x, y) > max(np.mean(y == "stays"), np.mean(y == "leaves"))
    unseen = pd.DataFrame({"age": [None], "town": ["Paris"], "member": [None]})
    assert fitted.predict_proba(unseen).sum() == pytest.approx(1.0)


def test_a_fitted_estimator_is_pickled_with_its_bundle_and_not_with_its_session(people, fitted) -> None:
    x, _ = people
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.predict_proba(x), fitted.predict_proba(x))
    assert again.summary_ == fitted.summary_


def test_an_unpickled_estimator_predicts_without_tensorflow(people, fitted, tmp_path: Path) -> None:
    x, _ = people
    (tmp_path / "model.pickle").write_bytes(pickle.dumps((fitted, x)))
    code = (
        "import pickle, sys; model, x = pickle.load(open(sys.argv[1], 'rb')); model.predict(x); "
        "print(*{'tensorflow', 'keras', 'mlflow'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "model.pickle")]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == ""


def test_classes_are_decided_by_the_tuned_threshold() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 3))
    y = rng.random(2000) < 1 / (1 + np.exp(3 - x.sum(axis=1)))  # a rare class that f1 wants from low probabilities on
    model = tk.TunekitClassifier(**CHEAP, metric="f1").fit(x, y)
    assert model.bundle_.threshold < 0.45
    decided = model.predict(x)
    np.testing.assert_array_equal(decided, model.predict_proba(x)[:, 1] >= model.bundle_.threshold)
    columns = model.bundle_.predict_columns(pd.DataFrame(x, columns=["x0", "x1", "x2"]))
    np.testing.assert_array_equal(columns["prediction"], decided)


def test_an_exported_estimator_is_a_bundle(people, fitted, tmp_path: Path) -> None:
    x, _ = people
    bundle = tk.Bundle.load(fitted.export(tmp_path / "model"))
    assert np.array_equal(bundle.predict_proba(x), fitted.predict_proba(x))
    assert np.array_equal(bundle.predict(x), fitted.predict(x))
    with pytest.raises(FileExistsError):
        fitted.export(tmp_path / "model")


def test_a_clone_is_not_fitted_and_a_seed_gives_the_same_model_again(people, fitted) -> None:
    x, y = people
    again = clone(fitted)
    with pytest.raises(NotFittedError):
        again.predict(x)
    assert np.array_equal(again.fit(x, y).predict_proba(x), fitted.predict_proba(x))


@pytest.mark.parametrize(
    "classes",
    [
        np.array([False, True]),
        np.array([3.0, -1.0]),
        np.array(["", "b"]),
        np.array(["c", "a", "b"], dtype=object),
    ],
    ids=["booleans", "floats", "an empty text", "texts"],
)
def test_classes_of_any_type_come_back_as_they_were(classes: np.ndarray) -> None:
    positions = np.arange(60) % len(classes)
    x = positions[:, None] + np.random.default_rng(0).normal(0.0, 0.1, (60, 2))
    model = tk.TunekitClassifier(**CHEAP).fit(x, classes[positions])
    assert model.classes_.dtype == classes.dtype
    assert list(model.predict(x)) == list(classes[positions])  # the classes are far apart


def test_it_works_in_a_pipeline_and_under_a_grid_search() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 3))
    y = x[:, 0] + 0.1 * rng.normal(size=60)
    x[::7, 1] = np.nan
    grid = {"tunekitregressor__metric": ["rmse", "mae"]}
    search = GridSearchCV(make_pipeline(SimpleImputer(), tk.TunekitRegressor(**CHEAP)), grid, cv=2).fit(x, y)
    assert search.best_score_ > 0.8  # y is nearly one of the columns
    assert search.best_estimator_[-1].summary_["metric"] in ("rmse", "mae")


def test_rows_without_weight_count_for_nothing(people) -> None:
    x, y = people
    weight = np.r_[np.ones(100), np.zeros(20)]
    wrong = np.r_[y[:100], np.roll(y, 1)[100:]]
    weighed = tk.TunekitClassifier(**CHEAP).fit(x, wrong, sample_weight=weight)
    without = tk.TunekitClassifier(**CHEAP).fit(x[:100], y[:100], sample_weight=weight[:100])
    assert np.array_equal(weighed.predict_proba(x), without.predict_proba(x))


def test_a_search_with_a_root_stays_there_and_is_resumed(people, tmp_path: Path) -> None:
    x, y = people
    model = tk.TunekitClassifier(**CHEAP, root=tmp_path).fit(x, y)
    again = clone(model).fit(x, y)
    folders = list((tmp_path / "studies").iterdir())
    assert [folder.name.split("-")[0] for folder in folders] == ["TunekitClassifier"]
    assert [trial["seconds"] for trial in again.summary_["trials"]] == [
        trial["seconds"] for trial in model.summary_["trials"]
    ]
    clone(model).fit(x[:90], y[:90])  # other rows are another study, and no error
    assert len(list((tmp_path / "studies").iterdir())) == 2
    clone(model).set_params(random_state=None).fit(x, y)
    assert len(list((tmp_path / "studies").iterdir())) == 2, "without a seed it is the same one again"


def test_ctrl_c_ends_a_fit_and_what_runs_is_run_again(people, tmp_path: Path) -> None:
    class Interrupts(tk.families.Family):
        name = "interrupts"
        pid = os.getpid()

        def fit(self, hp: Any, fold: Any, report: Any) -> Any:
            hp.settle()
            os.kill(self.pid, signal.SIGINT)
            time.sleep(60)

    with pytest.raises(KeyboardInterrupt):
        tk.TunekitClassifier(**CHEAP | {"families": [Interrupts()]}, root=tmp_path).fit(*people)
    [folder] = (tmp_path / "studies").iterdir()
    assert [trial["state"] for trial in records(tmp_path, folder.name)] == ["interrupted"]
    assert not (folder / "result.json").exists(), "nothing was blended"


@pytest.mark.parametrize(
    ("x", "y", "told"),
    [
        ([[1.0], [2.0], [3.0]], [0, 1, 0], "minimum of 4 is required"),
        (pd.DataFrame({"a": [1.0]}), [0], "n_samples = 1; expected at least 4 rows"),
        ([[1.0], [2.0], [3.0], [4.0]], [1, 1, 1, 1], "one class, .*1.*; expected at least two classes"),
        ([[1.0], [2.0], [3.0], [4.0]], None, "target y is None; expected fit"),
        ([[1.0], [np.inf], [3.0], [4.0]], [0, 1, 0, 1], "infinity"),
        (pd.DataFrame({"a": [np.inf, *range(7)]}), [0, 1] * 4, "1 infinite value"),
    ],
)
def test_what_cannot_be_learnt_is_refused_as_scikit_learn_does(x, y, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        tk.TunekitClassifier(**CHEAP).fit(x, y)


@pytest.mark.slow
def test_where_one_part_judges_models_learn_from_all_rows_in_the_end(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(400, 3))
    split = tk.Holdout(test=0.05, valid=0.4)
    estimator = tk.TunekitRegressor(
        budget="2m", trials=3, families=[tk.Forest()], split=split, random_state=0, root=tmp_path
    ).fit(x, x.sum(axis=1))
    told = estimator.bundle_.manifest["facts"]["ensemble"]["refit"]["told"]
    members = estimator.summary_["ensemble"]["members"]
    assert told.startswith("fitted once more on all 400 rows, unjudged: ")
    assert any(f"{one['trial']:03d} forest" in told for one in members)
    anew = list(tmp_path.glob("studies/*/refit/all/trial*/fold0/model.npz"))
    assert anew
    first = tmp_path.glob(f"studies/*/trials/{members[0]['trial']:04d}-forest/fold0/model.npz")
    assert all(path.read_bytes() != one.read_bytes() for path in first for one in anew), "other rows, other trees"


def test_a_budget_that_is_too_short_says_what_to_give(people) -> None:
    with pytest.raises(StudyError, match=r"within budget='1s', trials=None; expected more of either"):
        tk.TunekitClassifier(budget="1s", families=[tk.Linear()]).fit(*people)  # less than the blend needs


def test_an_error_of_the_rows_is_a_value_error() -> None:
    assert issubclass(DataError, ValueError)


def data_of(labels: np.ndarray, classes: int) -> Dataset:
    column = {"x": np.arange(float(len(labels)))}
    classes_ = tuple(range(classes))
    return Dataset(
        schema=Schema((Column("x", "number"),)),
        columns=column,
        target=labels.astype(float),
        classes=classes_,
        ids=np.arange(len(labels)),
    )


@pytest.mark.parametrize(
    "counts", [(2, 2), (1, 30), (4, 500), (5, 5), (50, 50), (1, 1, 8), (3, 3, 3), (40, 5, 1, 2), (19, 21), (20, 20)]
)
def test_each_class_is_learnt_in_each_fold_however_rare_it_is(counts: tuple[int, ...]) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    rows, weight = often_enough(labels)
    assert set(rows) == set(range(len(labels)))
    total = np.ones(len(rows)) if weight is None else weight
    assert np.allclose(np.bincount(rows, total), 1.0)  # together a row's copies weigh 1
    used = labels[rows]
    assert np.bincount(used).min() >= LEAST_OF_CLASS
    data = data_of(used, len(counts))
    folds = suitable_split(data).apply(data, seed=0)  # or it raises
    if len(counts) == 2:
        for part in [folds.test, *(valid for _, valid in folds.pairs)]:
            assert len(np.unique(used[part])) == 2


@pytest.mark.parametrize("rows", [4, 5, 9, 10, 19, 1000])
def test_numbers_are_split_however_few_they_are(rows: int) -> None:
    data = data_of(np.zeros(rows), 0)
    folds = suitable_split(data).apply(data, seed=0)
    assert len(folds.test) == max(2, rows // 20)
    assert len(folds) == 5 or rows < 10
