"""Splits: one contract for all of them, and what each promises beside it."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tunekit.data import (
    Dataset,
    GroupHoldout,
    GroupKFold,
    Holdout,
    KFold,
    Schema,
    Split,
    StratifiedKFold,
    TimeSplit,
    default_split,
)
from tunekit.data.folds import halves
from tunekit.data.split import groups_on_both_sides
from tunekit.errors import DataError

ROWS = 157  # prime: no split comes out even

SPLITS: dict[str, Callable[[], Split]] = {
    "holdout": lambda: Holdout(test=0.25, valid=0.3),
    "kfold": lambda: KFold(4, test=0.2),
    "stratified": lambda: StratifiedKFold(4, test=0.2),
    "grouped": lambda: GroupKFold(4, test=0.2),
    "groups apart": lambda: GroupHoldout(test=0.2, valid=0.3),
    "time": lambda: TimeSplit(4, test=0.2),
}
"""Every split; a new one gets the contract by being listed."""


def rows(task: str = "binary", n: int = ROWS, *, moments: int = 40, groups: int = 0, seed: int = 0) -> Dataset:
    """Rows with a target, moments that several rows share, and groups if any; a quarter is in the second class."""
    random = np.random.default_rng(seed)
    classes = {"binary": ("no", "yes"), "multiclass": ("a", "b", "c"), "regression": ()}[task]
    if task == "regression":
        target = random.normal(size=n)
    else:
        shares = [0.75, 0.25] if task == "binary" else [0.5, 0.3, 0.2]
        target = random.permutation(np.repeat(np.arange(len(shares)), np.ceil(np.array(shares) * n).astype(int)))[:n]
    return Dataset(
        schema=Schema(()),
        columns={},
        target=np.asarray(target, dtype=np.float64),
        classes=classes,
        ids=np.arange(n),
        time=random.integers(0, moments, n).astype(np.float64),
        group=random.integers(0, groups, n) if groups else None,
    )


CASES = [(name, task) for name in SPLITS for task in ("binary", "multiclass", "regression")]
CASES.remove(("stratified", "regression"))  # it needs classes


@pytest.fixture(params=CASES, ids="-".join)
def case(request) -> tuple[Split, Dataset]:
    name, task = request.param
    return SPLITS[name](), rows(task, groups=23 if name.startswith("group") else 0)


def test_test_rows_are_in_no_fold(case) -> None:
    split, data = case
    folds = split.apply(data, 3)
    for train, valid in folds.pairs:
        assert not set(folds.test) & (set(train) | set(valid))
    assert not set(folds.test) & set(folds.development)
    assert sorted([*folds.test, *folds.development]) == list(range(ROWS)), "every row has a place"


def test_validation_rows_are_not_trained_on(case) -> None:
    split, data = case
    for train, valid in split.apply(data, 3).pairs:
        assert len(train)
        assert len(valid)
        assert not set(train) & set(valid)
        for part in (train, valid):
            assert part.dtype == np.int64
            assert (np.diff(part) > 0).all(), "in order, none twice"


def test_no_row_judges_twice(case) -> None:
    split, data = case
    folds = split.apply(data, 3)
    judged = np.concatenate([valid for _, valid in folds.pairs])
    assert len(np.unique(judged)) == len(judged)
    if isinstance(split, KFold) and not isinstance(split, TimeSplit):
        assert set(judged) == set(folds.development), "in k-fold each row judges once"


def test_every_class_is_learnt_in_every_fold(case) -> None:
    split, data = case
    for train, _ in split.apply(data, 3).pairs:
        assert set(data.target[train].astype(int)) >= set(range(len(data.classes)))


def test_same_seed_same_folds(case) -> None:
    split, data = case
    first, again = split.apply(data, 3), split.apply(data, 3)
    np.testing.assert_array_equal(first.test, again.test)
    for one, other in zip(first.pairs, again.pairs, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
    differs = not np.array_equal(first.test, split.apply(data, 4).test)
    assert differs is not isinstance(split, TimeSplit), "time has one order, whatever the seed"


def test_shares_are_kept(case) -> None:
    split, data = case
    folds = split.apply(data, 3)
    # Groups and moments are not cut: the largest group and the largest moment have under 9% of the rows each.
    slack = 0.09 if isinstance(split, (GroupKFold, GroupHoldout, TimeSplit)) else 1 / ROWS
    assert len(folds.test) / ROWS == pytest.approx(split.test, abs=slack)
    assert len(folds) == (1 if isinstance(split, Holdout) else 4)
    if isinstance(split, Holdout):
        assert len(folds.pairs[0][1]) / len(folds.development) == pytest.approx(split.valid, abs=max(slack, 1 / 100))


def test_its_words_name_its_settings(case) -> None:
    split, _ = case
    assert repr(split).startswith(type(split).__name__ + "(")
    assert f"test={split.test}" in repr(split), "a study's identity holds these words"


@pytest.mark.parametrize("split", [Holdout(), StratifiedKFold(5)])
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_strata_keep_their_shares(split, task) -> None:
    data = rows(task)
    folds = split.apply(data, 3)
    whole = np.bincount(data.target.astype(int)) / len(data)
    for part in [folds.test, *(rows for pair in folds.pairs for rows in pair)]:
        shares = np.bincount(data.target[part].astype(int), minlength=len(whole)) / len(part)
        # Shares are kept to the row in each of the two cuts (test, then folds): two rows of the part.
        np.testing.assert_allclose(shares, whole, atol=2 / len(part))


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("split", [GroupKFold(4), GroupHoldout()])
def test_groups_stand_on_one_side(split, task, seed) -> None:
    data = rows(task, seed=seed, groups=23)
    assert data.group is not None
    folds = split.apply(data, seed)
    assert not groups_on_both_sides(data, folds)
    assert not set(data.group[folds.test]) & set(data.group[folds.development])
    for train, valid in folds.pairs:
        assert not set(data.group[train]) & set(data.group[valid])


@pytest.mark.parametrize("split", [Holdout(), KFold(3), StratifiedKFold(3)])
def test_a_split_that_divides_groups_is_refused(split) -> None:
    told = r"2[0-3] of 23 groups have rows on both sides of .*\(test=0.2.*expected .*tk.GroupKFold\(5\)"
    data = rows(groups=23)
    with pytest.raises(DataError, match=told):
        split.apply(data, 0)
    split.apply(replace(data, group=np.arange(len(data))), 0)  # whose groups are of one row each


def test_in_time_groups_train_and_later_judge() -> None:
    data = rows("regression", groups=23)
    assert default_split(data) == TimeSplit(5)
    assert groups_on_both_sides(data, TimeSplit(5).apply(data, 0)) == "23 of 23 groups"


@pytest.mark.parametrize("moments", [12, 40, 100_000])
def test_the_future_judges_and_the_past_trains(moments) -> None:
    data = rows("regression", moments=moments)
    assert data.time is not None
    folds = TimeSplit(4).apply(data, 0)
    assert data.time[folds.test].min() > data.time[folds.development].max(), "not even one moment on both sides"
    latest = -np.inf
    for train, valid in folds.pairs:
        assert data.time[valid].min() > data.time[train].max()
        assert data.time[valid].min() > latest, "folds go forward"
        latest = data.time[valid].max()
    for (train, valid), (grown, _) in zip(folds.pairs, folds.pairs[1:], strict=False):
        assert set(grown) == set(train) | set(valid), "forward chaining: what judged is then learnt from"


def test_the_default_suits_the_data() -> None:
    plain = {**vars(rows("binary")), "time": None, "group": None}
    assert default_split(rows()) == TimeSplit(5)
    assert default_split(Dataset(**{**plain, "group": np.arange(ROWS)})) == GroupKFold(5)
    assert default_split(Dataset(**plain)) == StratifiedKFold(5)
    assert default_split(Dataset(**{**plain, "classes": ()})) == KFold(5)
    many = {**plain, "target": np.zeros(50_001), "classes": ()}
    assert default_split(Dataset(**many)) == Holdout()
    assert default_split(Dataset(**{**many, "group": np.arange(50_001)})) == GroupHoldout()


# What is refused.


def refused(split: Split, data: Dataset) -> str:
    with pytest.raises(DataError) as caught:
        split.apply(data, 0)
    return str(caught.value)


@pytest.mark.parametrize("share", [0, 1, -0.5, 20])
def test_shares_lie_between_0_and_1(share) -> None:
    with pytest.raises(DataError, match=f"test={share}; expected a share of the rows between 0 and 1, such as 0.2"):
        KFold(5, test=share)
    with pytest.raises(DataError, match=f"valid={share}; expected a share of the other rows between 0 and 1"):
        Holdout(valid=share)


@pytest.mark.parametrize("kind", [KFold, StratifiedKFold, GroupKFold, TimeSplit])
def test_one_fold_is_a_holdout(kind) -> None:
    with pytest.raises(DataError, match=r"k=1; expected at least 2 folds \(Holdout has a single validation part\)"):
        kind(1)


def test_a_class_of_one_row_is_refused() -> None:
    data = rows("multiclass")
    target = np.where(data.target == 2, 0.0, data.target)
    target[5] = 2
    lonely = Dataset(**{**vars(data), "target": target})
    for split in (Holdout(), KFold(3), StratifiedKFold(3), GroupKFold(3), GroupHoldout(), TimeSplit(3)):
        message = refused(split, lonely)
        assert "class 'c' has 1 row(s); expected at least 2" in message
        assert "merge it with another class, or leave it out" in message


def test_a_rare_class_is_spread_over_the_folds() -> None:
    data = rows("multiclass")
    target = np.where(data.target == 2, 0.0, data.target)
    target[[5, 50, 100, 150]] = 2
    folds = StratifiedKFold(5).apply(Dataset(**{**vars(data), "target": target}), 0)
    assert all((target[train] == 2).any() for train, _ in folds.pairs)


def test_fewer_rows_than_folds_in_every_class_are_refused() -> None:
    data = rows(n=12)
    target = np.array([0.0, 1.0] * 6)
    message = refused(StratifiedKFold(8), Dataset(**{**vars(data), "target": target}))
    assert "8 folds" in message
    assert "expected" in message
    group = Dataset(**{**vars(data), "target": target, "group": np.arange(12)})
    assert "expected" in refused(GroupKFold(8), group)


def test_too_few_rows_are_refused() -> None:
    data = rows("regression", n=5)
    assert "4 rows can't make 6 folds; expected at least one row per fold" in refused(KFold(6), data)
    assert "1 rows are too few to set 20% apart" in refused(KFold(2), rows("regression", n=1))


def test_what_a_split_needs_is_named() -> None:
    bare = Dataset(**{**vars(rows("regression")), "time": None, "group": None})
    assert "say Table(..., group='COLUMN')" in refused(GroupKFold(3), bare)
    assert "say Table(..., time='COLUMN')" in refused(TimeSplit(3), bare)
    assert "StratifiedKFold needs classes, but the target is a number; use KFold" in refused(StratifiedKFold(3), bare)
    assert "there are 3 groups; expected at least 6" in refused(GroupKFold(5), rows(groups=3))


def test_too_few_moments_are_refused() -> None:
    message = refused(TimeSplit(5), rows("regression", moments=4))
    assert "different moments" in message
    assert "fewer folds such as TimeSplit(2)" in message


def test_a_class_that_only_comes_late_is_refused() -> None:
    data = rows("binary")
    assert data.time is not None
    late = Dataset(**{**vars(data), "target": (data.time > 30).astype(float)})
    assert "class 'yes' has no training row in fold 0" in refused(TimeSplit(4), late)


def test_folds_may_be_drawn_several_times() -> None:
    """Each row is predicted once a draw, by a model that has not seen it, and the mean of these counts."""
    folds = StratifiedKFold(3, repeats=4).apply(rows(), seed=1)
    assert (len(folds), folds.repeats, folds.drawn_once) == (12, 4, 3)
    for draw in range(4):
        valid = np.concatenate([judging for _, judging in folds.pairs[3 * draw : 3 * draw + 3]])
        np.testing.assert_array_equal(np.sort(valid), folds.development)
    assert len({tuple(judging) for _, judging in folds.pairs}) == 12, "each draw is another one"
    predicted = [judging[:, None].astype(np.float64) + place // 3 for place, (_, judging) in enumerate(folds.pairs)]
    found = folds.out_of_fold(predicted)
    np.testing.assert_array_equal(found[:, 0], folds.covered + 1.5)  # 0, 1, 2 and 3 were added


def test_the_order_of_time_is_not_drawn_twice() -> None:
    with pytest.raises(DataError, match=r"repeats=2.*one order of time"):
        TimeSplit(3, repeats=2)
    with pytest.raises(DataError, match="repeats=0; expected at least 1"):
        KFold(3, repeats=0)


def test_what_is_decided_on_one_half_of_the_judging_rows_judges_the_other() -> None:
    data, judging = rows(), np.arange(20, 70)
    plain = replace(data, time=None, group=None)
    first, second = halves(plain, judging, seed=0)
    np.testing.assert_array_equal(np.sort(np.concatenate([first, second])), np.arange(50))
    assert len(first) == len(second) == 25
    group = np.arange(len(data)) // 7
    first, second = halves(replace(plain, group=group), judging, seed=0)
    assert not set(group[judging[first]]) & set(group[judging[second]]), "a group is on one side"
    assert min(len(first), len(second)) >= 15  # of 50, in groups of 7
    time = np.arange(len(data), 0, -1.0)
    first, second = halves(replace(plain, time=time), judging, seed=0)
    assert time[judging[first]].max() < time[judging[second]].min(), "the earlier half, and the later one"


def test_many_classes_are_judged_once() -> None:
    few, many = (
        replace(rows("multiclass", 30_000), time=None, group=None, classes=tuple(map(str, range(number))))
        for number in (6, 20)
    )
    assert isinstance(default_split(few), StratifiedKFold)
    assert isinstance(default_split(many), Holdout)
