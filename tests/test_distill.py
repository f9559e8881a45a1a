"""A net that learns what a blend predicts: of which rows it learns what, how it is judged, and what is exported."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from folds import fold, prepared, table  # type: ignore[import-not-found]
from searches import Listener, houses, penguins  # type: ignore[import-not-found]

import tunekit as tk
from tunekit.bundle import Bundle
from tunekit.data import Holdout
from tunekit.data.munging import NEIGHBOURS, munged
from tunekit.ensemble import Combination, Gain, gain_over
from tunekit.errors import ExportError, StudyError
from tunekit.families.student import Student
from tunekit.metrics import find_metric
from tunekit.study import distill
from tunekit.study.blend import Candidate
from tunekit.study.lesson import TRUTH, Lesson
from tunekit.study.prepared import Prepared, prepare
from tunekit.study.result import Result
from tunekit.study.rivals import Rival, how_much, verdict
from tunekit.training.fitted import net_target
from tunekit.trial import Trial

pytestmark = pytest.mark.usefixtures("kept_servers")

# Made rows


def clusters(rows: int = 120) -> dict[str, np.ndarray]:
    """Two kinds of rows, far apart; within a kind a number and a category that tell the row."""
    kind = np.arange(rows) % 2
    return {
        "kind": kind.astype(float),
        "number": 1000.0 * kind + np.arange(rows),
        "gap": np.where(np.arange(rows) % 7 == 0, np.nan, 1.0),
        "text": np.array([f"{'ab'[one]}{row}" for row, one in enumerate(kind)], dtype=object),
    }


def features(columns: dict[str, np.ndarray]) -> np.ndarray:
    return np.stack([columns["kind"] * 100, columns["number"] / 1000], axis=1).astype(np.float32)


def test_a_made_row_has_values_of_two_rows_that_are_alike() -> None:
    real = clusters()
    made, source = munged(real, features(real), 500, seed=1)
    assert {name: (len(values), values.dtype) for name, values in made.items()} == {
        name: (500, values.dtype) for name, values in real.items()
    }
    texts = np.array([int(text[1:]) for text in made["text"]])
    numbers = (made["number"] % 1000).astype(int)
    assert (made["kind"] == real["kind"][source]).all(), "neighbours are of one kind"
    assert (np.array([text[0] for text in made["text"]]) == np.array(["a", "b"])[source % 2]).all()
    lent = (texts != source) | (numbers != source)
    assert 0.3 < lent.mean() < 0.7, "some values are lent, most are the row's own"
    assert (np.abs(texts - source) <= 2 * 2 * NEIGHBOURS).all(), "the lender is near"
    assert (texts != numbers).any(), "each value is lent by itself"
    assert np.isnan(made["gap"]).any()


def test_made_rows_depend_on_the_seed_alone_and_use_all_rows_alike() -> None:
    real = clusters()
    first, again, other = (munged(real, features(real), 240, seed=seed) for seed in (1, 1, 2))
    assert (first[0]["text"] == again[0]["text"]).all()
    assert (first[0]["text"] != other[0]["text"]).any()
    assert (np.bincount(first[1], minlength=120) == 2).all()


def test_few_rows_have_few_neighbours() -> None:
    real = {name: values[:2] for name, values in clusters().items()}
    made, _ = munged(real, features(real), 5, seed=0)
    assert set(made["text"]) <= {"a0", "b1"}


# What is learnt of a row


def candidate(ready: Prepared, out_of_fold: float, tests: float) -> Candidate:
    """Says one value of all rows out of fold, and another of the test rows."""
    outputs = ready.data.outputs
    known = np.full((len(ready.covered), outputs), out_of_fold)
    return Candidate(Trial(0, "any", 0, seed=0), known, np.full((len(ready.folds.test), outputs), tests), Path(), 1)


def lesson(ready: Prepared, *said: tuple[float, float]) -> Lesson:
    members = [candidate(ready, *one) for one in said]
    weights = np.full(len(said), 1 / len(said))
    combination = Combination.weighted(ready.data.task, weights, ready.data.outputs)
    return Lesson.of(ready, cast(Bundle, None), members, combination)


def test_of_each_row_the_word_of_models_that_have_not_learnt_it_is_taken() -> None:
    ready = prepared("binary")
    soft, target = lesson(ready, (0.2, 0.6), (0.4, 0.8)).soft[:, 0], ready.data.target
    train = ready.folds.pairs[0][0]
    assert soft[ready.covered] == pytest.approx(TRUTH * target[ready.covered] + (1 - TRUTH) * 0.3)
    assert soft[ready.folds.test] == pytest.approx(TRUTH * target[ready.folds.test] + (1 - TRUTH) * 0.7)
    assert soft[train] == pytest.approx(target[train]), "of rows that no model judged, their targets"


def test_of_more_classes_their_shares_are_learnt() -> None:
    ready = prepared("multiclass")
    soft = lesson(ready, (1 / 3, 1 / 3)).soft
    assert soft.shape == (len(ready.data), 3)
    assert soft.sum(axis=1) == pytest.approx(np.ones(len(soft)))
    row = int(ready.covered[0])
    assert soft[row, int(ready.data.target[row])] == pytest.approx(TRUTH + (1 - TRUTH) / 3)


def test_weighted_classes_are_learnt_from_the_blend_alone() -> None:
    frame = table("binary").load
    ready = prepare(replace(frame(), class_weight="balanced"), Holdout(test=0.2, valid=0.3), "logloss", seed=0)
    assert lesson(ready, (0.2, 0.6)).soft[ready.covered] == pytest.approx(0.2)


def prices() -> Prepared:
    return prepare(tk.Table(houses(200), target="Sale_Price").load(), Holdout(test=0.2, valid=0.3), "rmse", seed=0)


def test_long_tails_are_mixed_by_their_logarithms_and_stay_positive() -> None:
    ready = prices()
    target = ready.data.target[ready.covered]
    taught = lesson(ready, (100_000.0, -5.0))
    assert taught.logarithm
    expected = np.exp(TRUTH * np.log(target) + (1 - TRUTH) * np.log(100_000.0))
    assert taught.soft[ready.covered, 0] == pytest.approx(expected)
    assert (taught.soft > 0).all(), "though the blend said a price below nothing"
    weight = prepared("regression")
    assert not lesson(weight, (4000.0, -5.0)).logarithm


def test_a_net_takes_shares_of_classes_for_targets() -> None:
    one = fold("multiclass")
    shares = np.full((len(one.train), 3), 1 / 3)
    taught = net_target(one, replace(one.train, target=shares), one_hot=3)
    assert taught.dtype == np.float32
    assert taught == pytest.approx(shares)
    assert set(np.unique(net_target(one, one.valid, one_hot=3))) == {0.0, 1.0}, "those that judge have their classes"


# What is refused


def study(data: Any, *families: Any) -> tk.Study:
    return tk.Study("small", data=data, families=list(families) or [tk.Linear()], seed=1)


def refused(one: tk.Study) -> str | None:
    return distill.refusal(one, one.prepare())


def test_what_no_student_learns_is_refused_in_words() -> None:
    frame = houses(60)
    assert refused(study(tk.Table(frame, target="Sale_Price"))) is None
    several = refused(study(tk.Table(frame, target=["Sale_Price", "Lot_Area"])))
    assert "2 targets" in str(several)
    assert "--refit" in str(several)
    said = pd.DataFrame({"said": [f"the house number {row} is large" for row in range(60)], "y": np.arange(60) / 7})
    assert "texts" in str(refused(study(tk.Table(said, target="y"))))
    images = tk.Arrays(np.random.default_rng(0).random((60, 4, 4, 1)).astype(np.float32), np.arange(60) % 2)
    assert "images" in str(refused(study(images)))


def test_a_family_of_the_students_name_is_told_to_go() -> None:
    linear = tk.Linear()
    linear.name = Student.name
    assert "rename" in str(refused(study(tk.Table(houses(60), target="Sale_Price"), linear)))


# The words


def rival(name: str, latency: float, size: float, trial: int | None = None) -> Rival:
    return Rival(name, np.zeros((3, 1)), {"latency": latency, "size": size}, trial)


SURE, UNSURE, LOSES, GAINS = (
    Gain(gain, span)
    for gain, span in ((-0.1, (-0.2, -0.01)), (-0.1, (-0.2, 0.01)), (-0.3, (-0.4, -0.2)), (0.1, (0.01, 0.2)))
)


@pytest.mark.parametrize(
    ("student", "gains", "told"),
    [
        ((3.0, 30.0), [GAINS, GAINS], "It is not worth it: the student costs no less"),
        (
            (0.1, 0.5),
            [UNSURE, SURE],
            "It is not worth it: the best one is better by more than noise; export that: --trial 4",
        ),
        (
            (0.1, 0.5),
            [LOSES, UNSURE],
            "loses to the blend by more than noise, but is 20.0 times as fast and 20.0 times as small",
        ),
        ((0.1, 0.5), [UNSURE, GAINS], "may lose to the blend, within noise, and is 20.0 times as fast"),
        ((0.1, 0.5), [Gain(0.1, (-0.1, 0.3)), GAINS], "does as well as the blend on these rows"),
        ((0.1, 0.5), [GAINS, GAINS], "is better than the blend"),
        ((0.1, 20.0), [UNSURE], "20.0 times as fast and not as small"),
    ],
)
def test_the_verdict(student: tuple[float, float], gains: list[Gain], told: str) -> None:
    rivals = [rival("the blend", 2.0, 10.0), rival("the best one", 1.0, 5.0, 4)][: len(gains)]
    assert told in verdict(rival("the student", *student), rivals, gains)


@pytest.mark.parametrize(
    ("gain", "other", "told"),
    [
        (UNSURE, 2.0, "5.0% worse, within noise"),
        (GAINS, 2.0, "5.0% better"),
        (SURE, 0.0, "0.1 worse"),
        (Gain(0.0, (-1.0, 1.0)), 2.0, "as good"),
        (Gain(0.1, (float("nan"), float("nan"))), 2.0, "5.0% better, within noise"),
    ],
)
def test_a_difference_in_words(gain: Gain, other: float, told: str) -> None:
    assert how_much(gain, other) == told


def test_a_gain_is_that_of_the_first_whatever_the_direction() -> None:
    random = np.random.default_rng(0)
    target = random.normal(size=200)
    near, far = (target[:, None] + scale * random.normal(size=(200, 1)) for scale in (0.1, 1.0))
    for name in ("rmse", "r2"):
        metric = find_metric(name, "regression", 1)
        gain = gain_over(metric, target, None, near, far, seed=1)
        assert 0 < gain.interval[0] < gain.gain < gain.interval[1]
        assert gain_over(metric, target, None, far, near, seed=1).gain == pytest.approx(-gain.gain)


def test_what_contradicts_a_student_is_told(tmp_path: Path) -> None:
    empty = Result(study(tk.Table(houses(60), target="Sale_Price")), cast(Any, None), {"ensemble": None})
    with pytest.raises(StudyError, match="expected one: a net that learns the blend, or its members"):
        empty.export(tmp_path / "model", distill=True, refit=True)
    with pytest.raises(StudyError, match="expected 'bundle' or 'saved-model'"):
        empty.export(tmp_path / "model", distill=True, form="keras")


# The whole


LEFT = "mlruns/studies/taught/distill/all/fold0/predictions.npz"
"""What the student predicts that has learnt all rows."""


def searched(root: Path, data: Any, metric: str, split: Any) -> Result:
    families = [tk.Baseline(), tk.Linear(), tk.XGBoost()]
    one = tk.Study("taught", data=data, metric=metric, families=families, split=split, seed=1)
    found: Result = one.run(root=root, trials=3, workers=1, observers=[Listener()])
    return found


@pytest.mark.slow
def test_a_student_of_houses_is_judged_and_exported(tmp_path: Path) -> None:
    frame = houses(300)
    frame.loc[::17, "Lot_Area"] = np.nan
    result = searched(tmp_path / "mlruns", tk.Table(frame, target="Sale_Price"), "rmse", tk.KFold(3))
    told: list[str] = []
    bundle = Bundle.load(result.export(tmp_path / "model", distill=True, tell=told.append))
    facts = bundle.manifest["facts"]["ensemble"]["distilled"]
    assert told == [facts["told"]]
    assert [member["label"] for member in bundle.manifest["members"]] == ["student"]
    whole = result.summary["ensemble"]
    blend, single = facts["against"]
    assert blend["test_score"] == pytest.approx(whole["test_score"])
    assert single["trial"] == whole["best_single"]["trial"]
    assert single["test_score"] == pytest.approx(whole["best_single"]["test_score"])
    assert facts["test_score"] < 0.6 * whole["test_baseline"]
    assert facts["costs"]["size"] < blend["costs"]["size"]
    # What is exported is another net than the one that was judged: it has learnt the test rows, too.
    test = frame.iloc[result.study.prepare().folds.test]
    error = np.sqrt(np.mean((bundle.predict(test) - test["Sale_Price"].to_numpy()) ** 2))
    assert error < facts["test_score"]
    gaps = [dict.fromkeys(frame.columns), {**dict.fromkeys(frame.columns), "Neighborhood": "nowhere"}]
    assert np.isfinite(bundle.predict(gaps)).all()
    with np.load(tmp_path / LEFT) as arrays:
        first = arrays["unlabelled"]
    with pytest.raises(ExportError, match=r"the student costs .* expected no more than 0\.001 MB"):
        result.export(tmp_path / "small", distill=True, size="1KB")
    assert not (tmp_path / "small").exists()
    with np.load(tmp_path / LEFT) as arrays:
        assert arrays["unlabelled"] == pytest.approx(first, rel=1e-4), "the seed decides, but for rounding"


@pytest.mark.slow
def test_a_student_of_penguins_has_their_classes(tmp_path: Path) -> None:
    data = tk.Table(penguins(), target="species")
    result = searched(tmp_path / "mlruns", data, "logloss", tk.Holdout(valid=0.3))
    bundle = Bundle.load(result.export(tmp_path / "model", distill=True))
    assert bundle.classes == ["Adelie", "Chinstrap", "Gentoo"]
    shares = bundle.predict_proba(penguins())
    assert shares.sum(axis=1) == pytest.approx(np.ones(len(shares)), abs=1e-6)
    assert (bundle.predict(penguins()) == penguins()["species"]).mean() > 0.95
    facts = bundle.manifest["facts"]["ensemble"]["distilled"]
    assert facts["test_score"] < 0.4 * result.summary["ensemble"]["test_baseline"]
    # Of one trial, as TensorFlow's own file.
    trial = next(one["number"] for one in result.summary["trials"] if one["family"] == "xgboost")
    folder = result.export(tmp_path / "saved", distill=True, trial=trial, form="saved-model")
    assert (folder / "student" / "fold0" / "net" / "saved_model.pb").exists()
