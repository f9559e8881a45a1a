"""Which family gets the next trial, and when there is nothing left to try."""

from functools import partial
from typing import Any

import pytest

from tunekit.metrics import find_metric
from tunekit.space import Dimension, HyperParameters, Value
from tunekit.study.allocation import LEAST_SHARE, MOST_FAILURES, Tally, fits, next_family
from tunekit.trial import State, Trial

RMSE, R2 = find_metric("rmse", "regression", 1), find_metric("r2", "regression", 1)
FAMILIES = ["linear", "trees", "net"]
NOTHING = dict.fromkeys(FAMILIES, 0)


def trial(family: str, score: float | None = 1.0, state: State = State.COMPLETE, **facts: Any) -> Trial:
    return Trial(0, family, 0, seed=0, state=state, score=score, **facts)


def tallied(trials: list[Trial]) -> dict[str, Tally]:
    return {name: Tally(one for one in trials if one.family == name) for name in FAMILIES}


def is_exhausted(trials: list[Trial]) -> bool:
    return Tally(trials).exhausted


def _answer(value: Value, dimension: Dimension) -> Value:
    return value


def tried(*values: Value, state: State = State.COMPLETE) -> list[Trial]:
    """Trials of a family whose space is one choice of three."""
    made = []
    for value in values:
        hp = HyperParameters(partial(_answer, value))
        hp.Choice("kind", ["a", "b", "c"])
        made.append(trial("linear", state=state, values=hp.values, dimensions=hp.space))
    return made


def test_planned_trials_come_first_family_by_family() -> None:
    planned = {"linear": 1, "trees": 2, "net": 1}
    started = dict(NOTHING)
    order = []
    while family := next_family([name for name in FAMILIES if planned[name]], planned, started, tallied([]), RMSE):
        planned[family] -= 1
        started[family] += 1
        order.append(family)
    assert order == ["linear", "trees", "net", "trees"], "every family's defaults, then the rest of the portfolios"


def test_planned_trials_come_before_better_families() -> None:
    trials = [trial("linear", 0.1)]
    assert (
        next_family(FAMILIES, {**NOTHING, "net": 1}, {"linear": 1, "trees": 1, "net": 50}, tallied(trials), RMSE)
        == "net"
    )


@pytest.mark.parametrize(("metric", "scores"), [(RMSE, (3.0, 1.0, 2.0)), (R2, (0.3, 0.9, 0.6))])
def test_better_families_get_more(metric, scores) -> None:
    hp = HyperParameters()
    hp.Float("x", 0, 1)
    facts: dict[str, Any] = {"values": hp.values, "dimensions": hp.space}
    trials = [trial(name, score, **facts) for name, score in zip(FAMILIES, scores, strict=True)]
    started = dict.fromkeys(FAMILIES, 1)
    for _ in range(108):
        family = next_family(FAMILIES, NOTHING, started, tallied(trials), metric)
        assert family is not None
        started[family] += 1
    # In proportion 6 : 3 : 2 (1, 1/2, 1/3), but for one trial of each on the way.
    assert started["trees"] == pytest.approx(111 * 6 / 11, abs=2)
    assert started["net"] == pytest.approx(111 * 3 / 11, abs=2)
    assert started["linear"] == pytest.approx(111 * 2 / 11, abs=2)


def test_a_family_without_a_score_comes_last_but_is_not_forgotten() -> None:
    hp = HyperParameters()
    hp.Float("x", 0, 1)
    facts: dict[str, Any] = {"values": hp.values, "dimensions": hp.space}
    trials = [trial("linear", 1.0, **facts), trial("net", None, State.FAILED, **facts)]
    assert next_family(["linear", "net"], NOTHING, {"linear": 1, "net": 1}, tallied(trials), RMSE) == "linear"
    assert next_family(["linear", "net"], NOTHING, {"linear": 9, "net": 1}, tallied(trials), RMSE) == "net"


def test_only_those_that_can_start_are_chosen() -> None:
    assert next_family(["net"], NOTHING, NOTHING, tallied([]), RMSE) == "net"
    assert next_family([], NOTHING, NOTHING, tallied([]), RMSE) is None


def test_the_exhausted_get_nothing() -> None:
    exhausted = tallied(tried("a", "b", "c"))
    assert next_family(["linear"], NOTHING, {"linear": 3}, exhausted, RMSE) is None
    assert next_family(["linear", "net"], NOTHING, {"linear": 3, "net": 99}, exhausted, RMSE) == "net"
    assert next_family(["linear"], {"linear": 1}, {"linear": 3}, exhausted, RMSE) == "linear", "but what is planned"


def test_a_space_is_exhausted_when_all_of_it_was_tried() -> None:
    assert not is_exhausted([])
    assert not is_exhausted(tried("a", "b"))
    assert not is_exhausted(tried("a", "b", "b", "a"))
    assert is_exhausted(tried("a", "b", "c"))
    assert is_exhausted(tried("a", "b") + tried("c", state=State.STOPPED))
    assert not is_exhausted(tried("a", "b") + tried("c", state=State.INTERRUPTED)), "it is run again"


def test_without_hyperparameters_one_trial_is_all() -> None:
    assert is_exhausted([trial("constant")])


def test_a_space_without_end_is_never_exhausted() -> None:
    hp = HyperParameters()
    hp.Float("x", 0, 1)
    assert not is_exhausted([trial("net", values=hp.values, dimensions=hp.space)] * 100)


def test_a_family_that_only_fails_is_given_up() -> None:
    failed = trial("net", None, State.FAILED, error="no")
    assert not is_exhausted([failed] * (MOST_FAILURES - 1))
    assert is_exhausted([failed] * MOST_FAILURES)
    hp = HyperParameters()
    hp.Float("x", 0, 1)
    assert not is_exhausted([failed] * 9 + [trial("net", values=hp.values, dimensions=hp.space)]), "one was good"
    assert not is_exhausted([trial("net", None, State.INTERRUPTED)] * 9)


def test_a_trial_is_started_if_it_can_end_in_time() -> None:
    net = Tally(trial("net", seconds=seconds) for seconds in (8.0, 10.0, 100.0))
    assert fits(net, LEAST_SHARE * 10 + 0.1)
    assert not fits(net, LEAST_SHARE * 10 - 0.1)
    assert fits(net, None), "no budget"
    assert fits(Tally(), 0.1), "nothing is known of it"
    assert fits(Tally([trial("net", state=State.FAILED, seconds=1e6)]), 1.0), "failures say nothing of a fit's time"


def test_what_is_reused_is_no_trial_that_was_run() -> None:
    again = trial("net", seconds=0.1, same_as=0)
    tally = Tally([trial("net", seconds=9.0), again, trial("net", state=State.INTERRUPTED)])
    assert (tally.ended, tally.spent, tally.run) == (3, 2, 1)
    assert tally.seconds == 9.0


def test_what_improves_the_blend_comes_before_what_is_good_alone() -> None:
    hp = HyperParameters()
    hp.Float("x", 0, 1)
    facts: dict[str, Any] = {"values": hp.values, "dimensions": hp.space}
    trials = [trial(name, float(place), **facts) for place, name in enumerate(FAMILIES)]
    started = {"linear": 4, "trees": 4, "net": 4}
    assert next_family(FAMILIES, NOTHING, started, tallied(trials), RMSE) == "linear"
    assert next_family(FAMILIES, NOTHING, started, tallied(trials), RMSE, {"net": 0.6, "linear": 0.4}) == "net"
    more = {**started, "net": 20}
    assert next_family(FAMILIES, NOTHING, more, tallied(trials), RMSE, {"net": 0.6, "linear": 0.4}) == "linear"


def test_quick_families_get_more_trials_where_time_ends_the_search() -> None:
    hp = HyperParameters()
    hp.Float("x", 0, 1)
    facts: dict[str, Any] = {"values": hp.values, "dimensions": hp.space}
    took = {"linear": 0.01, "trees": 4.0, "net": 64.0}
    tallies = tallied([trial(name, 1.0, seconds=took[name], **facts) for name in FAMILIES])

    def drawn(*, by_time: bool) -> dict[str, int]:
        started = dict.fromkeys(FAMILIES, 1)
        for _ in range(200):
            family = next_family(FAMILIES, NOTHING, started, tallies, RMSE, by_time=by_time)
            assert family is not None
            started[family] += 1
        return started

    # 1, 1/2 and 1/3 by rank; by the roots of 1 (at least), 4 and 64 seconds 1, 1/4 and 1/24
    assert drawn(by_time=False)["net"] == pytest.approx(203 * 2 / 11, abs=2)
    timed = drawn(by_time=True)
    assert timed["linear"] == pytest.approx(203 * 24 / 31, abs=2)
    assert timed["net"] == pytest.approx(203 * 1 / 31, abs=2)
    planned = {"linear": 0, "trees": 1, "net": 1}
    started = {"linear": 1, "trees": 3, "net": 1}
    assert next_family(FAMILIES, planned, started, tallies, RMSE) == "net"
    assert next_family(FAMILIES, planned, started, tallies, RMSE, by_time=True) == "trees"
    assert next_family(FAMILIES, planned, {**started, "net": 0}, tallies, RMSE, by_time=True) == "net", "defaults first"
