"""Blends: chosen out of fold, judged on rows that nothing touched, and called what they are."""

import numpy as np
import pytest

from tunekit.ensemble import Judged, gain_over, greedy_selection, judge
from tunekit.errors import StudyError
from tunekit.metrics import Metric, find_metric

MAE = find_metric("mae", "regression", 1)
RMSE = find_metric("rmse", "regression", 1)


def whole(target: np.ndarray, weight: np.ndarray | None = None) -> Judged:
    return Judged(target, (np.arange(len(target)),), weight)


def column(values: list[float] | np.ndarray) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)[:, None]


# Selection.


def test_opposite_errors_cancel() -> None:
    target = np.array([1.0, 2.0, 3.0])
    weights = greedy_selection([column(target + 1), column(target - 1), column(target + 5)], whole(target), MAE)
    np.testing.assert_array_equal(weights, [0.5, 0.5, 0.0])


def test_errors_of_two_to_one_are_weighted_one_to_two() -> None:
    target = np.zeros(4)
    weights = greedy_selection([column(target + 2), column(target - 1)], whole(target), MAE)
    np.testing.assert_allclose(weights, [1 / 3, 2 / 3], atol=1e-15)  # thirds in floats


def test_the_best_single_stands_alone_where_nothing_helps() -> None:
    target = np.array([0.0, 1.0, 2.0, 3.0])
    candidates = [column(target + 0.3), column(target + 0.1), column(target + 0.2)]
    np.testing.assert_array_equal(greedy_selection(candidates, whole(target), MAE), [0, 1, 0])
    np.testing.assert_array_equal(greedy_selection([candidates[0]], whole(target), MAE), [1])


def test_a_perfect_candidate_stands_alone() -> None:
    target = np.array([0.0, 1.0, 2.0])
    np.testing.assert_array_equal(greedy_selection([column(target), column(target * 2)], whole(target), RMSE), [1, 0])


@pytest.mark.parametrize("seed", range(5))
def test_it_comes_near_the_best_weights(seed) -> None:
    """Independent errors of sizes 1, 1 and 2: the best weights go with 1 / variance."""
    random = np.random.default_rng(seed)
    target = random.normal(size=3000)
    sizes = np.array([1.0, 1.0, 2.0])
    candidates = [column(target + random.normal(0, size, len(target))) for size in sizes]
    weights = greedy_selection(candidates, whole(target), RMSE)
    best = 1 / sizes**2 / (1 / sizes**2).sum()
    # Weights have steps of 1/50, and 3000 rows tell correlations up to about 1/sqrt(3000) = 0.02 each.
    np.testing.assert_allclose(weights, best, atol=0.06)
    blended = sum(weight * one for weight, one in zip(weights, candidates, strict=True))
    assert RMSE.score(target, np.asarray(blended)) < min(RMSE.score(target, one) for one in candidates) * 0.8


TASKS = [
    ("binary", "roc_auc"),
    ("binary", "logloss"),
    ("binary", "accuracy"),
    ("binary", "average_precision"),
    ("multiclass", "logloss"),
    ("multiclass", "accuracy"),
    ("multiclass", "roc_auc"),
    ("regression", "rmse"),
    ("regression", "r2"),
]


@pytest.mark.parametrize(("task", "name"), TASKS)
def test_every_task(task, name) -> None:
    random = np.random.default_rng(0)
    rows, classes = 300, 3 if task == "multiclass" else 1
    metric = find_metric(name, task, classes)
    target, candidates = made_up(task, rows, random)
    folds = Judged(target, tuple(np.array_split(random.permutation(rows), 3)))
    weights = greedy_selection(candidates, folds, metric)
    assert weights.shape == (len(candidates),)
    assert weights.sum() == pytest.approx(1, abs=1e-12)  # a sum of at most 50 shares
    assert (weights >= 0).all()
    blended = np.asarray(sum(weight * one for weight, one in zip(weights, candidates, strict=True)))
    best = folds.score(metric, candidates[0])
    for one in candidates[1:]:
        best = max(
            best, folds.score(metric, one), key=lambda score: score if metric.direction == "maximize" else -score
        )
    assert not metric.better(best, folds.score(metric, blended)), "never worse than the best single, out of fold"


def made_up(task: str, rows: int, random: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray]]:
    if task == "regression":
        target = random.normal(size=rows)
        return target, [column(target + random.normal(0, 1, rows)) for _ in range(4)]
    if task == "binary":
        target = random.integers(0, 2, rows).astype(float)
        raw = [(2 * target - 1) / 2 + random.normal(0, 1, rows) for _ in range(4)]
        return target, [column(1 / (1 + np.exp(-one))) for one in raw]
    target = random.integers(0, 3, rows).astype(float)
    shares = [np.exp(np.eye(3)[target.astype(int)] + random.normal(0, 1, (rows, 3))) for _ in range(4)]
    return target, [one / one.sum(axis=1, keepdims=True) for one in shares]


@pytest.mark.parametrize("name", ["rmse", "r2"])
def test_members_that_gain_next_to_nothing_are_left_out(name: str) -> None:
    metric = find_metric(name, "regression", 1)
    random = np.random.default_rng(0)
    target = random.normal(size=1000)
    sizes = [1.0, 1.0, 6.0, 6.0]  # the last two deserve 1/74 each of the weight
    candidates = [column(target + random.normal(0, size, len(target))) for size in sizes]
    everything = greedy_selection(candidates, whole(target), metric, idle=0.0)
    weights = greedy_selection(candidates, whole(target), metric)
    assert np.count_nonzero(everything) > np.count_nonzero(weights) == 2
    sign = 1 if metric.direction == "minimize" else -1
    full, fewer, *single = (
        sign * metric.score(target, np.tensordot(one, np.stack(candidates), axes=1))
        for one in (everything, weights, *np.eye(4))
    )
    assert full < fewer <= full + 0.05 * (min(single) - full)
    np.testing.assert_array_equal(weights[2:], 0)
    np.testing.assert_allclose(weights[:2], everything[:2] / everything[:2].sum())


def test_candidates_that_are_alike_are_told_apart_by_order() -> None:
    target = np.arange(4.0)
    weights = greedy_selection([column(target + 1)] * 3, whole(target), MAE)
    np.testing.assert_array_equal(weights, [1, 0, 0])


def test_more_rounds_are_finer() -> None:
    target = np.zeros(3)
    candidates = [column(target + 9), column(target - 1)]  # best: one to nine
    np.testing.assert_array_equal(greedy_selection(candidates, whole(target), MAE, rounds=5), [0, 1])
    np.testing.assert_allclose(greedy_selection(candidates, whole(target), MAE), [0.1, 0.9], atol=1e-15)


def test_nothing_to_blend_is_refused() -> None:
    with pytest.raises(StudyError, match="nothing to blend: no trial was fitted on every fold; give the search more"):
        greedy_selection([], whole(np.zeros(2)), MAE)


def test_a_score_is_the_mean_over_folds() -> None:
    target = np.zeros(6)
    predictions = column([1, 1, 1, 1, 4, 4])
    folds = Judged(target, (np.arange(4), np.arange(4, 6)))
    assert folds.score(MAE, predictions) == (1 + 4) / 2, "each fold counts alike, whatever its size"
    assert whole(target).score(MAE, predictions) == 2


def test_a_score_is_weighted_within_folds() -> None:
    weight = np.array([3.0, 1.0, 1.0, 1.0])
    folds = Judged(np.zeros(4), (np.array([0, 1]), np.array([2, 3])), weight)
    assert folds.score(MAE, column([0, 4, 2, 4])) == (1 + 3) / 2


# The verdict.

NAMES = {
    "single": "the best single model (003 trees)",
    "members": "4",
    "cheap": "The cheap reference (001 linear)",
}


def verdict(
    blend: float,
    single: float,
    baseline: float | None = 3.0,
    cheap: float | None = None,
    *,
    rows: int = 400,
    noise: float = 0.0,
    **names,
):
    """Judge models with exactly these RMSEs; `noise` is the part of the errors that they do not share."""
    random = np.random.default_rng(0)
    target = random.normal(0, 3, rows)
    shared = random.normal(size=rows)
    predictions = {}
    for name, size in {"blend": blend, "single": single, "baseline": baseline, "cheap": cheap}.items():
        errors = shared + noise * random.normal(size=rows)
        if size is not None:
            predictions[name] = column(target + size * errors / np.sqrt((errors**2).mean()))
    return judge(RMSE, target, None, predictions, {**NAMES, **names}, seed=1)


def test_a_cheap_model_that_does_as_well_is_named() -> None:
    near = verdict(1.0, 1.001, cheap=1.005, noise=0.3)
    assert near.verdict.endswith(
        f" The cheap reference (001 linear) does as well: {near.cheap:.5g}, within the noise of these rows."
    )
    ahead = verdict(1.0, 1.001, cheap=0.5, noise=0.3)
    assert ahead.cheap_interval is not None
    assert ahead.cheap_interval[1] < 0
    assert ahead.verdict.endswith(
        f" The cheap reference (001 linear) is better, and the 95% interval of that is above zero: {ahead.cheap:.5g}."
    )
    far = verdict(1.0, 1.2, cheap=1.5, noise=0.3)
    assert "cheap" not in far.verdict
    assert far.cheap_interval is not None
    assert far.cheap_interval[0] > 0
    nothing = verdict(3.0, 3.0, 3.0, 3.0, noise=0.3)
    assert "cheap" not in nothing.verdict, "where not even the baseline is beaten, that is what counts"
    assert verdict(1.0, 1.2).cheap is None


def test_a_clear_gain() -> None:
    judgement = verdict(1.0, 1.2, noise=0.3)
    assert judgement.verdict.startswith("The blend is worth it: rmse ")
    assert "better than the best single model (003 trees), and the 95% interval of the gain is above zero" in (
        judgement.verdict
    )
    assert judgement.gain == judgement.single - judgement.blend > 0
    assert judgement.gain == pytest.approx(0.2)
    assert judgement.gain_interval[0] > 0
    share = judgement.gain / judgement.single
    assert f"{judgement.blend:.5g} against {judgement.single:.5g}, {share:.1%} better" in judgement.verdict


def test_a_gain_within_noise() -> None:
    judgement = verdict(1.0, 1.02, noise=1.0)
    low, high = judgement.gain_interval
    assert low < 0 < judgement.gain < high
    assert judgement.verdict.startswith("The blend is probably worth it")
    assert "includes zero" in judgement.verdict


def test_no_gain_within_noise() -> None:
    judgement = verdict(1.03, 1.0, noise=1.0)
    low, high = judgement.gain_interval
    assert low < judgement.gain < 0 < high
    assert "is not better than the best single model (003 trees) on these rows" in judgement.verdict
    assert "the single is simpler" in judgement.verdict


def test_a_clear_loss() -> None:
    judgement = verdict(1.3, 1.0, noise=0.3)
    assert judgement.gain_interval[1] < 0
    assert judgement.verdict.startswith("The blend is not worth it")
    assert "use that one alone" in judgement.verdict


def test_one_member() -> None:
    judgement = verdict(1.0, 1.0, members="1")
    assert judgement.verdict == "One model is enough: nothing improves the best single model (003 trees) out of fold."
    assert judgement.gain == 0


@pytest.mark.parametrize("baseline", [1.0, 0.9])
def test_a_baseline_that_is_not_beaten_comes_first(baseline) -> None:
    judgement = verdict(1.0, 1.5, baseline, noise=0.3)
    assert judgement.verdict.startswith("No model is reliably better than the baseline (rmse ")
    assert "the columns may say little about the target" in judgement.verdict
    assert f"against {judgement.baseline:.5g}" in judgement.verdict


def test_without_a_baseline() -> None:
    judgement = verdict(1.0, 1.2, None, noise=0.3)
    assert judgement.baseline is None
    assert judgement.verdict.startswith("The blend is worth it")


def test_larger_may_be_better() -> None:
    random = np.random.default_rng(0)
    target = random.integers(0, 2, 400).astype(float)
    raw = {"blend": 2.0, "single": 1.0, "baseline": 0.0}
    predictions = {
        name: column(1 / (1 + np.exp(-size * (2 * target - 1) - random.normal(size=400)))) for name, size in raw.items()
    }
    judgement = judge(find_metric("roc_auc", "binary", 1), target, None, predictions, NAMES, seed=1)
    assert judgement.gain == judgement.blend - judgement.single > 0
    assert judgement.gain_interval[0] > 0
    assert judgement.verdict.startswith("The blend is worth it")


def test_the_same_seed_gives_the_same_intervals() -> None:
    assert verdict(1.0, 1.1, noise=0.5) == verdict(1.0, 1.1, noise=0.5)


def test_the_interval_covers() -> None:
    """Over many data sets the 95% interval holds the true error in about 95 of 100."""
    random = np.random.default_rng(0)
    metric = Metric("mae", lambda y, p: np.abs(y - p).mean(), "minimize")
    truth, sets, held = np.sqrt(2 / np.pi), 100, 0
    for seed in range(sets):
        errors = random.normal(size=150)
        predictions = {"blend": column(errors), "single": column(errors)}
        low, high = judge(metric, np.zeros(150), None, predictions, NAMES, seed=seed).intervals["blend"]
        held += low <= truth <= high
    # 100 draws at 95% are between 88 and 100 with 99.6%; a 90% or narrower interval would hold in 90 or fewer.
    assert 88 <= held <= 100


@pytest.mark.parametrize("name", ["mae", "medae"])  # many resamples at once, and one by one
def test_the_interval_covers_where_rows_of_a_group_err_together(name: str) -> None:
    """Two models as good as each other, and which one is better differs by group: the interval says so."""
    random = np.random.default_rng(0)
    metric, sets, sure = find_metric(name, "regression", 1), 40, {True: 0, False: 0}
    group = np.repeat(np.arange(40), 25)
    for seed in range(sets):
        one, other = (random.normal(random.normal(0, 2, 40)[group]) for _ in range(2))
        for whole in sure:
            drawn = group if whole else None
            gain = gain_over(
                metric, np.zeros(1000), None, column(one), column(other), seed=seed, seconds=0, group=drawn
            )
            low, high = gain.interval
            sure[whole] += low > 0 or high < 0
    assert sure[True] <= 6  # of 40 at 5%, two are expected; more than six come by chance once in a hundred
    assert sure[False] > 20


def test_the_rows_of_a_single_group_are_drawn() -> None:
    errors = column(np.random.default_rng(0).normal(size=100))
    alone, none = (
        gain_over(MAE, np.zeros(100), None, errors, errors + 0.1, seed=0, group=group)
        for group in (np.full(100, 7), None)
    )
    assert alone == none


def test_each_that_is_compared_has_its_interval() -> None:
    judgement = verdict(1.0, 1.2, cheap=1.5, noise=0.3)
    scores = {name: getattr(judgement, name) for name in ("blend", "single", "baseline", "cheap")}
    assert judgement.intervals.keys() == scores.keys()
    for name, (low, high) in judgement.intervals.items():
        assert low < scores[name] < high
        # An RMSE over 400 normal errors has a standard error of 1/sqrt(800), 3.5%: twice 1.96 of these are 14%; the
        # ends of 500 resamples, and the chance of the rows, blur that by some tenths.
        assert high - low == pytest.approx(0.14 * scores[name], rel=0.3)
    assert verdict(1.0, 1.2, None).intervals.keys() == {"blend", "single"}


def test_weights_count() -> None:
    target = np.zeros(200)
    weight = np.r_[np.full(100, 1.0), np.full(100, 1e-9)]
    predictions = {"blend": column(np.r_[np.ones(100), np.full(100, 5.0)]), "single": column(np.full(200, 2.0))}
    judgement = judge(MAE, target, weight, predictions, NAMES, seed=0)
    assert judgement.blend == pytest.approx(1.0, abs=1e-6)  # what is left of 5 with weights of 1e-9
    assert judgement.gain_interval[0] > 0


def test_samples_without_a_class_are_left_out() -> None:
    """Two rows of the second class among 60: one resample in seven has none, and no ROC-AUC."""
    target = np.r_[np.zeros(58), np.ones(2)]
    shares = column(np.linspace(0, 1, 60))
    metric = find_metric("roc_auc", "binary", 1)
    judgement = judge(metric, target, None, {"blend": shares, "single": shares}, NAMES, seed=0)
    assert judgement.blend == 1.0
    assert np.isfinite(judgement.intervals["blend"]).all()
