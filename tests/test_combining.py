"""Ways to combine candidates: the same contract for all, how one is chosen, the guard, and the export of each."""

import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blends import CLASSES, House, house, no_nets  # type: ignore[import-not-found]

from tunekit.bundle import Bundle
from tunekit.data.targets import Target
from tunekit.ensemble import (
    COMBINERS,
    Combination,
    Combiner,
    Fitting,
    Judged,
    choose,
    greedy_selection,
    polished_like,
    score_like,
)
from tunekit.ensemble.calibration import Calibration, calibrate, kinds_for
from tunekit.ensemble.few import Few
from tunekit.ensemble.guard import refusal_by_new_rows, refusal_by_score
from tunekit.ensemble.nesting import blocks, nested, thinned
from tunekit.ensemble.quick import COUNTS, MANY, MEANS, OF_CLASSES, scores_of
from tunekit.ensemble.threshold import best_threshold
from tunekit.errors import ExportError
from tunekit.export import write_bundle
from tunekit.metrics import SHORT_NAMES, Metric, TargetMetric, find_metric, mean_metric

OUTPUTS = {"binary": 1, "multiclass": 3, "regression": 1}
USUAL = {"binary": "logloss", "multiclass": "logloss", "regression": "rmse"}
ROWS = 1500


def made_up(task: str, rows: int = ROWS, seed: int = 0, candidates: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Targets, and predictions (candidates, rows, outputs) that are noisy and, one more than the other, too timid."""
    random = np.random.default_rng(seed)
    signal = random.normal(size=(rows, 3 if task == "multiclass" else 1)) * 2
    noisy = [signal + random.normal(0, 0.5 + one / 3, signal.shape) for one in range(candidates)]
    timid = np.stack([one * (0.5 + 0.1 * place) for place, one in enumerate(noisy)])
    if task == "regression":
        return signal[:, 0] + random.normal(0, 0.3, rows), timid
    if task == "binary":
        return (random.random(rows) < 1 / (1 + np.exp(-signal[:, 0]))).astype(float), 1 / (1 + np.exp(-timid))
    shares = np.exp(timid)
    target = (signal + random.gumbel(size=signal.shape)).argmax(axis=1).astype(float)
    return target, shares / shares.sum(axis=2, keepdims=True)


def in_parts(target: np.ndarray, parts: int = 5, **more: Any) -> Judged:
    order = np.random.default_rng(1).permutation(len(target)) if "time" not in more else np.arange(len(target))
    return Judged(target, tuple(np.array_split(order, parts)), **more)


def fitting(task: str, rows: int = ROWS, *, weight: bool = False, metric: str | None = None, seed: int = 0) -> Fitting:
    target, stack = made_up(task, rows, seed)
    judged = in_parts(target, weight=np.linspace(0.5, 2.0, rows) if weight else None)
    found = find_metric(metric or USUAL[task], task, OUTPUTS[task])
    return Fitting(stack, judged, found, task, greedy_selection(stack, judged, found), float("inf"), 0)


# The contract of all ways to combine.

each = pytest.mark.parametrize("combiner", COMBINERS, ids=lambda one: one.name)
every_task = pytest.mark.parametrize("task", OUTPUTS)


@each
@every_task
@pytest.mark.parametrize("weight", [False, True], ids=["", "weighted"])
def test_a_combination_is_sound(combiner: Combiner, task: str, weight: bool) -> None:
    given = fitting(task, weight=weight)
    combination = combiner.fit(given)
    found = combination.apply(given.stack)
    assert found.shape == given.stack.shape[1:]
    assert np.isfinite(found).all()
    assert (combination.weights >= 0).all()
    assert combination.importance.sum() == pytest.approx(1, abs=1e-9)  # shares in floats
    if task != "regression":
        assert (found >= 0).all()
        assert (found <= 1).all()
    if task == "multiclass":
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-9)  # sums of shares in floats


@each
@every_task
def test_it_does_no_worse_than_the_worst_member_on_new_rows(combiner: Combiner, task: str) -> None:
    given = fitting(task)
    target, stack = made_up(task, seed=7)
    everything = np.arange(len(target))
    rows = Judged(target, (everything,))
    fitted = combiner.fit(given)
    combined, alone = scores_of(given.metric, rows, fitted.apply(stack)[None])[0], scores_of(given.metric, rows, stack)
    assert combined < alone.min(), "the smaller, the better: five noisy ones help"


@each
@every_task
def test_the_same_rows_give_the_same_combination(combiner: Combiner, task: str) -> None:
    given = fitting(task)
    assert combiner.fit(given).plain == combiner.fit(given).plain


@each
@every_task
def test_plain_data_holds_all_of_it(combiner: Combiner, task: str) -> None:
    given = fitting(task)
    combination = replace(combiner.fit(given), threshold=0.4, calibration=Calibration("temperature", 1.5))
    used = combination.used
    kept = combination.of(used)
    plain = json.loads(json.dumps(kept.plain))
    again = Combination.from_plain(plain, task, kept.importance)
    if task == "regression":
        combination, again = replace(combination, calibration=None), replace(again, calibration=None)
    # Sums over fewer members are added in another order.
    np.testing.assert_allclose(again.apply(given.stack[used]), combination.apply(given.stack), rtol=1e-9, atol=1e-12)
    assert again.threshold == 0.4


@each
def test_candidates_may_be_one_or_alike(combiner: Combiner) -> None:
    target, stack = made_up("regression")
    for same in (stack[:1], np.repeat(stack[:1], 4, axis=0)):
        given = replace(fitting("regression"), stack=same, selection=np.eye(len(same))[0], rows=in_parts(target))
        assert np.isfinite(combiner.fit(given).apply(same)).all()


def test_weights_of_a_linear_stacking_undo_what_is_timid() -> None:
    """Members at four fifths of the size: no mean of them can be right, a sum of weights above one can."""
    random = np.random.default_rng(0)
    target = random.normal(size=2000)
    stack = np.stack([0.8 * target + random.normal(0, 0.2, 2000) for _ in range(3)])[:, :, None]
    rows = in_parts(target)
    metric = find_metric("rmse", "regression", 1)
    chosen = choose(list(stack), rows, metric, task="regression")
    assert chosen.name == "linear stacking"
    # 1.25 x 0.2 / sqrt(3) of noise remain, 0.144, and a mean leaves a fifth of the targets' deviation of 1 beside that.
    assert chosen.score == pytest.approx(0.144, abs=0.01)
    assert chosen.combination.weights.sum() == pytest.approx(1.23, abs=0.04)  # a bit below 1 / 0.8, for the noise


# Which rows fit, and which judge.


def test_folds_judge_in_turn() -> None:
    rows = in_parts(np.random.default_rng(0).normal(size=500))
    pairs = nested(rows, 0)
    assert len(pairs) == 5
    for part, (fit, judge) in zip(rows.parts, pairs, strict=True):
        np.testing.assert_array_equal(judge, part)
        assert not set(fit) & set(judge)
        assert len(fit) + len(judge) == 500


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("horizon", [0.0, 25.0])
def test_in_time_earlier_rows_fit(parts: int, horizon: float) -> None:
    time = np.sort(np.random.default_rng(0).integers(0, 300, 900)).astype(float)
    shuffled = [np.random.default_rng(2).permutation(part) for part in np.array_split(np.arange(900), parts)]
    rows = Judged(np.arange(900.0), tuple(shuffled), time=time, horizon=horizon)
    pairs = nested(rows, 0)
    assert len(pairs) >= 3
    for fit, judge in pairs:
        assert time[fit].max() < time[judge].min()
        assert time[fit].max() <= time[judge].min() - horizon


def test_the_rows_of_a_single_fold_are_cut_with_groups_whole() -> None:
    group = np.random.default_rng(0).integers(0, 40, 600)
    rows = Judged(np.random.default_rng(1).normal(size=600), (np.arange(600),), group=group)
    pairs = nested(rows, 0)
    assert len(pairs) == 5
    for fit, judge in pairs:
        assert not set(group[fit]) & set(group[judge])
    assert sorted(np.concatenate([judge for _, judge in pairs])) == list(range(600))


def test_every_block_has_both_classes() -> None:
    target = np.r_[np.zeros(450), np.ones(50)]
    rows = Judged(target, (np.arange(500),))
    parts = blocks(rows, np.arange(500), 0)
    assert len(parts) == 10
    assert all(target[part].sum() == 5 for part in parts)


def test_few_positives_are_dealt_to_as_many_blocks() -> None:
    target = np.r_[np.zeros(496), np.ones(4)]
    parts = blocks(Judged(target, (np.arange(500),)), np.arange(500), 0)
    assert [target[part].sum() for part in parts] == [1, 1, 1, 1]


@pytest.mark.parametrize("groups", [3, 40])
def test_blocks_have_whole_groups(groups: int) -> None:
    group = np.random.default_rng(0).integers(0, groups, 1_000)
    rows = Judged(np.zeros(1_000), (np.arange(1_000),), group=group)
    judge = np.arange(200, 900)
    parts = blocks(rows, judge, 0)
    assert len(parts) == min(groups, 10)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(700))
    assert sum(len(np.unique(group[judge[part]])) for part in parts) == groups


@pytest.mark.parametrize("share", [0.001, 0.02, 0.3])
def test_rows_that_are_drawn_keep_the_shares_of_classes_and_parts(share: float) -> None:
    target = np.zeros(40_000)
    target[:: round(1 / share)] = 1
    rows = in_parts(target)
    drawn = thinned(rows, np.arange(40_000), 2_000, seed=3)
    assert len(drawn) == pytest.approx(max(2_000, min(10_000, 50 / share)), abs=10)  # one more for each part and class
    for part in rows.parts:
        kept = target[np.intersect1d(drawn, part)]
        # Drawn in turn: of each class in each part, one more or less than its share, and one at least.
        assert kept.sum() == pytest.approx(target[part].sum() * len(drawn) / 40_000, abs=1.01)
        assert kept.sum() >= 1


def test_of_many_classes_none_is_lost_where_rows_are_drawn() -> None:
    target = np.where(np.arange(30_000) % 1_000 == 0, 1.0, np.arange(30_000) % 2 * 2.0)  # the rare one in the middle
    rows = in_parts(target)
    drawn = thinned(rows, np.arange(30_000), 2_000, seed=0)
    assert len(drawn) <= 2_010
    assert all(len(np.unique(target[np.intersect1d(drawn, part)])) == 3 for part in rows.parts)


def test_rows_that_weigh_nothing_neither_fit_nor_judge() -> None:
    weight = np.where(np.arange(600) < 200, 0.0, 1.0)
    rows = in_parts(np.random.default_rng(0).normal(size=600), 1, time=np.arange(600.0), weight=weight)
    for fit, judge in nested(rows, 0):
        assert weight[fit].all()
        assert weight[judge].all()
    assert weight[thinned(rows, np.arange(600), 100, seed=0)].all()


def rare(rows: int, share: float, seed: int = 0) -> tuple[np.ndarray, list[np.ndarray]]:
    """Targets with a rare class, and probabilities of three candidates."""
    random = np.random.default_rng(seed)
    target = np.zeros(rows)
    target[random.permutation(rows)[: round(rows * share)]] = 1
    odds = random.normal(size=rows) + 3 * target - 4
    return target, [(1 / (1 + np.exp(-odds - random.normal(size=rows))))[:, None] for _ in range(3)]


@pytest.mark.parametrize("name", ["roc_auc", "average_precision", "balanced_accuracy"])
def test_a_rare_class_is_blended(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunekit.ensemble.course.MOST_FITTED", 500)
    monkeypatch.setattr("tunekit.ensemble.course.MOST_NESTED", (200, 100))
    target, candidates = rare(6_000, 0.002)
    for seed in range(3):  # of rows drawn without regard to class, nearly none had both classes in each part
        rows = Judged(target, tuple(np.concatenate(part) for part in alike(target)))
        metric = find_metric(name, "binary", 1)
        assert choose(candidates, rows, metric, task="binary", seed=seed, combiners=COMBINERS[:2]).apart


def alike(target: np.ndarray) -> list[tuple[np.ndarray, ...]]:
    """Five parts with the same share of each class."""
    return [tuple(np.flatnonzero(target == one)[start::5] for one in (0, 1)) for start in range(5)]


@pytest.mark.parametrize("how", ["time", "group", "weight"])
def test_a_stretch_without_a_class_does_not_judge(how: str) -> None:
    target, candidates = rare(1_000, 0.1)
    place = np.arange(1_000)
    more: dict[str, Any] = {"time": place.astype(float)}
    if how == "weight":
        more["weight"] = np.where((place >= 250) & (place < 500), 0.0, 1.0)
    else:
        target[250:500] = 0
        more = more if how == "time" else {"group": place // 250}
    rows = in_parts(target, 1, **more)
    chosen = choose(candidates, rows, find_metric("roc_auc", "binary", 1), task="binary", combiners=COMBINERS[:2])
    assert chosen.apart
    assert np.isfinite(chosen.score)


def test_what_no_blend_can_be_scored_by_is_the_best_alone() -> None:
    """A metric of one's own that has no value for means of predictions."""
    target, stack = made_up("regression", 300)
    stack = np.round(stack)

    def whole(truth: np.ndarray, found: np.ndarray) -> float:
        return float(np.abs(truth - found).mean()) if np.array_equal(found, np.round(found)) else math.nan

    chosen = choose(list(stack), in_parts(target), Metric("whole", whole, "minimize"), task="regression")
    losses = np.abs(stack[:, :, 0] - target).mean(axis=1)
    assert chosen.combination.used.tolist() == [losses.argmin()]
    assert chosen.score == pytest.approx(losses.min(), rel=0.05)  # a mean over parts of the same rows
    assert "as no blend can be scored" in chosen.why


# Quick scores.


QUICK = sorted(name for name, scorer in SHORT_NAMES.items() if scorer in {**COUNTS, **MEANS})


@pytest.mark.parametrize("name", [*QUICK, "f1_weighted"])
def test_a_quick_score_is_scikit_learns(name: str) -> None:
    scorer = SHORT_NAMES.get(name, name)
    tasks = ["regression"] if scorer.startswith("neg_m") or name in ("r2", "rmse") else ["binary"]
    tasks += ["multiclass"] if scorer in MANY or scorer in OF_CLASSES else []
    for task in tasks:
        target, stack = made_up(task, 400)
        stack = np.round(stack, 1 if name in ("roc_auc", "average_precision") else 12)  # many of one probability
        metric = find_metric(name, task, OUTPUTS[task])
        for weight in (None, np.linspace(0.1, 2.0, 400)):
            rows = in_parts(target, weight=weight)
            expected = [rows.score(metric, one) for one in stack]
            np.testing.assert_allclose(scores_of(metric, rows, stack), expected, rtol=1e-10)  # sums in another order


@pytest.mark.parametrize("name", ["f1_macro", "f1_weighted"])
def test_a_quick_score_leaves_out_classes_that_are_not_there(name: str) -> None:
    metric, random = find_metric(name, "multiclass", 4), np.random.default_rng(0)
    target, stack = random.integers(0, 2, 60).astype(float), random.dirichlet([9, 9, 1, 1e-9], (5, 60))
    expected = [metric.score(target, one) for one in stack]
    rows = Judged(target, (np.arange(60),))
    np.testing.assert_allclose(scores_of(metric, rows, stack), expected, rtol=1e-12)


def test_a_quick_score_of_classes_in_an_order_counts_hits_of_the_middle_class() -> None:
    metric, random = find_metric("accuracy", "ordinal", 3), np.random.default_rng(0)
    target, stack = random.integers(0, 3, 60).astype(float), random.dirichlet(np.ones(3), (5, 60))
    expected = [metric.score(target, one) for one in stack]
    likeliest = [(one.argmax(axis=1) == target).mean() for one in stack]
    found = scores_of(metric, in_parts(target), stack)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert not np.allclose(found, likeliest)


def test_a_quick_score_of_several_targets_is_the_mean_of_theirs() -> None:
    (labels, shares), (kinds, many), (prices, values) = (made_up(task, 400) for task in OUTPUTS)
    labels[:80] = 0  # the first part has no row with the label
    target, stack = np.stack([labels, kinds, prices], axis=1), np.concatenate([shares, many, values], axis=2)
    told = [
        (Target("label", "binary", (0, 1)), "average_precision"),
        (Target("kind", "multiclass", (0, 1, 2)), "logloss"),
        (Target("price", "regression"), "rmse"),
    ]
    outputs = [slice(0, 1), slice(1, 4), slice(4, 5)]
    parts = [
        TargetMetric(column, own, find_metric(name, one.task, one.outputs), one.name, one.classes)
        for column, ((one, name), own) in enumerate(zip(told, outputs, strict=True))
    ]
    constant = np.r_[labels.mean(), np.bincount(kinds.astype(int)) / 400, prices.mean()]
    metric = mean_metric(parts, target, constant)
    for weight in (None, np.linspace(0.1, 2.0, 400)):
        rows = Judged(target, tuple(np.arange(400).reshape(5, 80)), weight)
        expected = [rows.score(metric, one) for one in stack]
        np.testing.assert_allclose(scores_of(metric, rows, stack), expected, rtol=1e-10)  # sums in another order


def test_a_metric_of_ones_own_is_asked_itself() -> None:
    target, stack = made_up("regression", 100)
    metric = Metric("rmse", lambda y, p: float(len(y)), "minimize")
    np.testing.assert_array_equal(scores_of(metric, in_parts(target), stack), [20.0] * 5)


# The choice.


def test_the_simplest_stands_where_nothing_else_tells_more() -> None:
    random = np.random.default_rng(0)
    target = random.normal(size=600)
    stack = [(target + random.normal(0, 1, 600))[:, None] for _ in range(2)]
    shrunk = [0.5 * one for one in stack]  # what the best linear model would make of each
    chosen = choose(shrunk, in_parts(target), find_metric("r2", "regression", 1), task="regression")
    assert chosen.apart
    assert {one.name for one in chosen.tried} >= {"greedy selection", "bagged selection", "linear stacking"}
    assert all(one.said for one in chosen.tried)


def test_the_score_is_of_rows_that_were_not_fitted_on() -> None:
    """Thirty candidates of pure noise: the selection finds some that fit these rows; others tell that it is luck."""
    random = np.random.default_rng(0)
    target = random.normal(size=120)
    stack = [random.normal(0, 0.3, (120, 1)) for _ in range(30)]
    rows, metric = in_parts(target), find_metric("rmse", "regression", 1)
    chosen = choose(stack, rows, metric, task="regression", combiners=COMBINERS[:1])
    fitted = rows.score(metric, chosen.combination.apply(np.stack(stack)))
    assert chosen.apart
    assert fitted < rows.score(metric, np.zeros((120, 1)))
    assert fitted < 0.98 * chosen.score, "what fits by luck is some percent better than it is on other rows"


def test_the_best_alone_is_used_where_others_help_by_luck_only() -> None:
    random = np.random.default_rng(0)
    target = random.normal(size=100)
    stack = [(target + random.normal(0, 0.3, 100))[:, None], *(random.normal(0, 2, (100, 1)) for _ in range(60))]
    rows, metric = in_parts(target), find_metric("mae", "regression", 1)
    assert np.count_nonzero(greedy_selection(stack, rows, metric)) > 1
    chosen = choose(stack, rows, metric, task="regression", combiners=COMBINERS[:2])
    assert chosen.name == "equal shares of the best"
    assert chosen.combination.used.tolist() == [0]
    assert "against" in chosen.why


@pytest.mark.parametrize(
    ("noise", "members"), [((0.3, 0.3, 0.3, 2.0, 2.0), [0, 1, 2]), ((0.1, 0.9, 0.9), [0]), ((0.5,) * 9, 5)]
)
def test_the_best_get_equal_shares_where_their_mean_is_better(noise, members) -> None:
    random = np.random.default_rng(0)
    target = random.normal(size=500)
    stack = np.stack([(target + random.normal(0, size, 500))[:, None] for size in noise])
    given = replace(fitting("regression"), stack=stack, rows=in_parts(target), selection=np.zeros(len(stack)))
    shares = Few().fit(given).weights
    used = np.flatnonzero(shares)
    assert (len(used) == members) if isinstance(members, int) else (used.tolist() == members)
    np.testing.assert_allclose(shares[used], 1 / len(used))


@pytest.mark.parametrize("seconds", [0.0, 1e-3])
def test_without_time_it_is_the_selection_and_says_so(seconds: float) -> None:
    target, stack = made_up("binary", 600)
    chosen = choose(list(stack), in_parts(target), find_metric("roc_auc", "binary", 1), task="binary", seconds=seconds)
    assert not chosen.apart
    assert chosen.name == "greedy selection"
    assert "too little time" in chosen.why


def test_with_few_rows_it_is_the_selection_and_says_so() -> None:
    target, stack = made_up("regression", 30)
    chosen = choose(list(stack), in_parts(target), find_metric("rmse", "regression", 1), task="regression")
    assert not chosen.apart
    assert "too few rows" in chosen.why


def test_a_nested_score_of_rows_in_time_judges_later_ones() -> None:
    target, stack = made_up("regression", 800)
    rows = in_parts(target, 3, time=np.arange(800.0))
    chosen = choose(list(stack), rows, find_metric("mae", "regression", 1), task="regression")
    assert chosen.apart


# The guard.


def leaking(rows: int = 2000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Out of fold, one candidate knows half of the noise in its rows' targets: of new rows, it knows nothing of it."""
    random = np.random.default_rng(seed)
    signal, noise = random.normal(size=rows), random.normal(size=rows)
    honest = [0.9 * signal + random.normal(0, 0.5, rows) for _ in range(2)]
    known = np.stack([*honest, 0.2 * (signal + noise) + random.normal(0, 0.02, rows)])[:, :, None]
    other = random.normal(size=rows)
    new = [0.9 * other + random.normal(0, 0.5, rows) for _ in range(2)]
    return signal + noise, known, np.stack([*new, 0.05 * other])[:, :, None]


def test_what_only_out_of_fold_predictions_know_is_not_stacked() -> None:
    target, known, new = leaking()
    metric, rows = find_metric("rmse", "regression", 1), in_parts(target)
    chosen = choose(list(known), rows, metric, task="regression", new=list(new))
    assert "stacking" not in chosen.name
    refused = [one for one in chosen.tried if one.said.startswith("refused")]
    assert refused
    assert "was refused" in chosen.why


def test_a_score_too_good_to_be_true_is_refused() -> None:
    assert refusal_by_score(0.5, 0.98, 1.0) is not None
    assert "takes 50% off the best member's loss, where the selection takes 2%" in str(refusal_by_score(0.5, 0.98, 1.0))
    assert refusal_by_score(0.85, 0.98, 1.0) is None, "some gain is what stacking is for"
    assert refusal_by_score(0.5, 0.7, 1.0) is None, "the selection gains about as much"


def test_predictions_that_are_wider_out_of_fold_are_refused() -> None:
    _, stack = made_up("regression")
    selection = Combination.weighted("regression", np.full(5, 0.2), 1)
    assert refusal_by_new_rows(selection, selection, stack, stack[:, ::-1]) is None
    said = refusal_by_new_rows(selection, selection, stack, 0.5 * stack)
    assert said is not None
    assert "2.0 times as wide" in said


def test_a_departure_that_new_rows_dont_show_is_refused() -> None:
    _, stack = made_up("regression")
    selection = Combination.weighted("regression", np.full(5, 0.2), 1)
    stacking = replace(selection, kind="linear", weights=np.array([0.0, 0.0, 0.0, 0.0, 1.0]))
    moved = stack.copy()
    moved[4] += 1.0
    assert refusal_by_new_rows(stacking, selection, stack, stack) is None
    assert "departs from the selection" in str(refusal_by_new_rows(stacking, selection, stack, moved))


def test_honest_predictions_are_not_refused() -> None:
    for seed in range(5):
        target, stack = made_up("binary", 2 * ROWS, seed)
        known, new = stack[:, :ROWS], stack[:, ROWS:]
        metric = find_metric("logloss", "binary", 1)
        chosen = choose(list(known), in_parts(target[:ROWS]), metric, task="binary", new=list(new))
        assert not [one for one in chosen.tried if one.said.startswith("refused")]


# Calibration and threshold.


@pytest.mark.parametrize("kind", ["temperature", "isotonic"])
def test_a_calibration_makes_timid_probabilities_bolder(kind: str) -> None:
    random = np.random.default_rng(0)
    odds = random.normal(size=4000) * 2
    target = (random.random(4000) < 1 / (1 + np.exp(-odds))).astype(float)
    timid = 1 / (1 + np.exp(-odds / 2))[:, None]
    metric = find_metric("logloss", "binary", 1)
    found = calibrate(kind, timid[:2000], target[:2000], None)
    truth = metric.score(target[2000:], 1 / (1 + np.exp(-odds[2000:]))[:, None])
    after = metric.score(target[2000:], found.apply(timid[2000:]))
    assert after < metric.score(target[2000:], timid[2000:])
    # The truth is the limit; a curve of some dozen knots, or one number, from 2,000 rows comes within a hundredth.
    assert after == pytest.approx(truth, abs=0.01)
    if kind == "temperature":
        assert found.temperature == pytest.approx(0.5, abs=0.08)  # its standard error is some 0.02


@pytest.mark.parametrize(
    ("metric", "task", "kinds"),
    [
        ("logloss", "binary", ["temperature", "isotonic"]),
        ("brier", "binary", ["temperature", "isotonic"]),
        ("logloss", "multiclass", ["temperature"]),
        ("roc_auc", "binary", []),
        ("accuracy", "binary", []),
        ("rmse", "regression", []),
    ],
)
def test_only_metrics_that_reward_it_are_calibrated_for(metric: str, task: str, kinds: list[str]) -> None:
    assert kinds_for(find_metric(metric, task, OUTPUTS[task]), task, 2000) == kinds


def test_a_threshold_is_found_for_rare_classes() -> None:
    random = np.random.default_rng(0)
    odds = random.normal(size=6000) * 1.5 - 2.5
    target = (random.random(6000) < 1 / (1 + np.exp(-odds))).astype(float)
    shares = [(1 / (1 + np.exp(-odds - random.normal(0, 0.3, 6000))))[:, None] for _ in range(2)]
    rows, metric = in_parts(target[:3000]), find_metric("f1", "binary", 1)
    chosen = choose([one[:3000] for one in shares], rows, metric, task="binary")
    assert chosen.combination.threshold < 0.45, "f1 wants more of the rare class than probabilities above a half"
    found = chosen.combination.apply(np.stack(shares)[:, 3000:])
    decided = chosen.combination.decisive(found)
    np.testing.assert_array_equal(decided >= 0.5, found >= chosen.combination.threshold)
    assert metric.score(target[3000:], decided) > metric.score(target[3000:], found) + 0.05
    assert "predicted from a probability of" in chosen.why
    assert best_threshold(find_metric("accuracy", "binary", 1), rows, shares[0][:3000]) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(("share", "shrunk"), [(0.01, 1.0), (0.003, 0.3), (0.003, 0.02)])
def test_a_threshold_is_found_where_next_to_no_row_is_positive(share: float, shrunk: float) -> None:
    random = np.random.default_rng(0)
    target = (random.random(40_000) < share).astype(float)
    odds = random.normal(size=40_000) + 3 * target  # calibrated, but for the shrinking
    found = shrunk / (1 + np.exp(-(3 * odds - 4.5 + np.log(share / (1 - share)))))[:, None]
    metric = find_metric("f1", "binary", 1)
    half = Judged(target[:20_000], (np.arange(20_000),))
    threshold = best_threshold(metric, half, found[:20_000])
    best = max(
        metric.score(target[20_000:], found[20_000:] >= one)
        for one in np.quantile(found, 1 - np.geomspace(1e-4, 0.1, 300))
    )
    # Of the other half, the best threshold in hindsight; some sixty positives leave that much noise.
    assert metric.score(target[20_000:], (found[20_000:] >= threshold).astype(float)) > best - 0.07
    assert threshold < 0.5 * shrunk + 0.1


@pytest.mark.parametrize("seconds", [0.0, math.inf])
def test_a_threshold_is_there_though_there_is_no_time_to_compare(seconds: float) -> None:
    target, candidates = rare(4_000, 0.05)
    candidates = [one**2 for one in candidates]  # too timid: next to none is above a half
    metric = find_metric("f1", "binary", 1)
    chosen = choose(candidates, in_parts(target), metric, task="binary", combiners=COMBINERS[:2], seconds=seconds)
    assert chosen.apart == bool(seconds)
    assert chosen.combination.threshold < 0.3
    decided = metric.score(target, chosen.combination.decisive(chosen.combination.apply(np.stack(candidates))))
    assert decided > 0.5
    # Not apart, it is at the best threshold of each fold, as the trials' are.
    assert decided - 0.02 < chosen.score < decided + (0.02 if seconds else 0.08)
    assert metric.score(target, np.mean(candidates, axis=0)) < decided - 0.2, "at a half"


def test_members_are_selected_by_what_they_know_and_not_by_how_bold_they_are() -> None:
    target, (wise, *_) = rare(4_000, 0.05)
    bold = np.sqrt(np.clip(wise + np.random.default_rng(1).normal(0, 0.2, wise.shape), 0, 1))
    wise = wise**3
    metric, rows = find_metric("f1", "binary", 1), in_parts(target)
    assert metric.score(target, bold) > metric.score(target, wise), "at a half"
    chosen = choose([bold, wise], rows, metric, task="binary", combiners=COMBINERS[:1])
    assert chosen.combination.weights[1] > 0.5


@pytest.mark.parametrize("name", ["f1", "mcc", "logloss"])
def test_two_copies_of_a_model_are_no_better_than_one(name: str) -> None:
    """What a threshold or a calibration gains is not credited to blending."""
    target, (own, *_) = rare(4_000, 0.1, seed=2)
    own = own**3 if name == "logloss" else own  # far too timid: to be calibrated
    rows, metric = in_parts(target), find_metric(name, "binary", 1)
    chosen = choose([own, own], rows, metric, task="binary", combiners=COMBINERS[:1], seed=3)
    assert chosen.combination.calibration is not None or chosen.combination.threshold != 0.5
    alone = polished_like(chosen.combination, own, rows, metric, task="binary", seed=3)
    blended = chosen.combination.apply(np.stack([own, own]))
    np.testing.assert_allclose(alone.decisive(alone.apply(own[None])), chosen.combination.decisive(blended), rtol=1e-12)
    apart = score_like(chosen.combination, own, rows, metric, task="binary", seed=3)
    assert apart == pytest.approx(chosen.score, rel=1e-9)
    assert score_like(chosen.combination, own, rows, metric, task="binary", seconds=0.0) is None


# The export of each.


def exported(made: House, combination: Combination, folder: Path, **more: Any) -> tuple[Bundle, np.ndarray]:
    """The bundle of three members and its raw predictions, after its own gate."""
    kinds = ("linear", "boosted", "forest")
    members = [made.fit(kind, float(share)) for kind, share in zip(kinds, combination.importance, strict=True)]
    write_bundle(made.plan(*members, combination=combination, **more), folder, no_nets)
    bundle = Bundle.load(folder)
    return bundle, bundle.raw(made.table)


@every_task
@each
def test_the_graph_combines_as_python_does(combiner: Combiner, task: str, tmp_path: Path) -> None:
    made = house(task, tmp_path)
    random = np.random.default_rng(0)
    target, stack = made_up(task, candidates=3)
    if task == "regression":  # of the size of the house's prices
        stack, target = stack * 50_000 + 200_000, target * 50_000 + 200_000
    rows = in_parts(target)
    metric = find_metric(USUAL[task], task, OUTPUTS[task])
    shares = random.dirichlet(np.ones(3))
    given = Fitting(stack, rows, metric, task, shares, float("inf"), 0)
    combination = combiner.fit(given)
    importance = combination.importance + 1e-3
    bundle, raw = exported(made, replace(combination, importance=importance / importance.sum()), tmp_path / "model")
    expected = combination.apply(np.moveaxis(bundle.predict_members(made.table), 1, 0))
    # Python and onnxruntime have other logarithms and exponentials, in their last digits; and the latter adds trees'
    # leaves as float32: some ten additions of a part in 10^7.
    rtol = 1e-6 if combination.trees is not None else 1e-9
    np.testing.assert_allclose(raw, expected, rtol=rtol, atol=1e-12)
    assert bundle.manifest["combination"] == combination.told


CALIBRATIONS = [
    Calibration("temperature", 0.6),
    Calibration("isotonic", 1.0, np.array([0.1, 0.3, 0.31, 0.9]), np.array([0.05, 0.2, 0.5, 0.97])),
    Calibration("isotonic", 1.0, np.array([0.4]), np.array([0.3])),
]


@pytest.mark.parametrize("calibration", CALIBRATIONS, ids=["temperature", "isotonic", "one knot"])
def test_the_graph_calibrates_as_python_does(calibration: Calibration, tmp_path: Path) -> None:
    made = house("binary", tmp_path)
    combination = replace(Combination.weighted("binary", np.array([0.2, 0.5, 0.3]), 1), calibration=calibration)
    bundle, raw = exported(made, replace(combination, threshold=0.3), tmp_path / "model")
    expected = combination.apply(np.moveaxis(bundle.predict_members(made.table), 1, 0))
    np.testing.assert_allclose(raw, expected, rtol=1e-9, atol=1e-12)  # as above
    assert bundle.threshold == 0.3
    found = np.asarray(bundle.predict(made.table))
    np.testing.assert_array_equal(found, np.array(CLASSES["binary"])[(raw[:, 0] >= 0.3).astype(int)])
    assert (found != np.array(CLASSES["binary"])[(raw[:, 0] >= 0.5).astype(int)]).any(), "0.3 decides some rows"
    np.testing.assert_array_equal(bundle.predict_columns(made.table)["prediction"], found)


def test_probabilities_of_several_classes_are_cooled_in_the_graph(tmp_path: Path) -> None:
    made = house("multiclass", tmp_path)
    plain = Combination.weighted("multiclass", np.array([0.2, 0.5, 0.3]), 3)
    combination = replace(plain, calibration=Calibration("temperature", 1.7))
    bundle, raw = exported(made, combination, tmp_path / "model")
    expected = combination.apply(np.moveaxis(bundle.predict_members(made.table), 1, 0))
    np.testing.assert_allclose(raw, expected, rtol=1e-9, atol=1e-12)  # as above


def test_the_graph_predicts_no_less_than_it_may(tmp_path: Path) -> None:
    made = house("regression", tmp_path)
    combination = Combination.weighted("regression", np.array([0.2, 0.5, 0.3]), 1)
    plain = exported(made, combination, tmp_path / "plain")[1]
    least = np.array([float(np.median(plain))])
    raw = exported(made, combination, tmp_path / "model", least=least)[1]
    np.testing.assert_array_equal(raw, np.maximum(plain, least))
    assert (raw > plain).any()


def test_a_combination_of_other_members_is_refused(tmp_path: Path) -> None:
    made = house("binary", tmp_path)
    with pytest.raises(ExportError, match="a combination of 2 member"):
        made.plan(made.fit("linear", 1.0), combination=Combination.weighted("binary", np.array([0.5, 0.5]), 1))


class Nothing(Combiner):
    """Is better on every pair of rows, but of all rows it only makes the selection."""

    name = "a stacking"
    stacks = True

    def fit(self, given: Fitting) -> Combination:
        plain = Combination.weighted(given.task, given.selection, given.outputs)
        if len(given.rows) == ROWS:
            return plain
        return replace(plain, kind="linear", weights=1.2 * plain.weights)


def test_a_stacking_that_adds_nothing_of_all_rows_is_the_selection_by_name() -> None:
    target, stack = made_up("regression")
    metric, rows = find_metric("rmse", "regression", 1), in_parts(target)
    chosen = choose(list(stack), rows, metric, task="regression", combiners=(COMBINERS[0], Nothing()))
    assert chosen.name == "greedy selection"
    told = {one.name: one for one in chosen.tried}
    assert told["a stacking"].score is not None
    assert told["a stacking"].score < chosen.score, "it was better on rows apart"
    assert told["a stacking"].said == "fitted on all rows, it adds nothing"


@pytest.mark.parametrize("seconds", [0.5, 1.0])
def test_it_ends_in_about_the_time_that_it_has(seconds: float) -> None:
    target, stack = made_up("binary", 20_000, candidates=10)
    begun = time.monotonic()
    choose(list(stack), in_parts(target), find_metric("roc_auc", "binary", 1), task="binary", seconds=seconds)
    # One step that has begun is ended: on a busy machine, a round of the selection takes some tenths of a second.
    assert time.monotonic() - begun < seconds + 2.0
