"""Advice: searches whose truth is known, what is said of them, and what must not be said; and drivers too slow."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunekit.advice.advice import WIDTH, Advice, _share_near, advise, natural
from tunekit.advice.evidence import judge, position, standings
from tunekit.drivers import ProposalSampler, Random, find_driver
from tunekit.drivers.cost import LAST, LEAST, ProposalCost, too_slow
from tunekit.drivers.translate import from_stored
from tunekit.ledger import Ledger
from tunekit.space import Dimension, HyperParameters, Value
from tunekit.stopping import NeverStop
from tunekit.tracking import StudyFacts
from tunekit.tracking.records import note, summary_record
from tunekit.tracking.standings import Standings
from tunekit.tracking.summary import summary_text
from tunekit.trial import State, Trial

pytestmark = pytest.mark.usefixtures("kept_servers")

Space = Callable[[HyperParameters], Any]
Places = dict[str, float]


def trees(hp: HyperParameters) -> None:
    """A dimension of every kind, where nothing is natural about most bounds."""
    hp.Float("rate", 1e-3, 1e-1, sampling="log", default=1e-2)
    hp.Int("depth", 2, 10, default=4)
    hp.Float("share", 0.5, 1.0, default=0.8)
    hp.Float("dropout", 0.0, 0.5, step=0.05)
    hp.Int("units", 32, 512, step=2, sampling="log", default=128)
    hp.Choice("kind", ["a", "b", "c"])
    hp.Boolean("flag")


def draw(dimension: Dimension, share: float) -> Value:
    """The value below which this share of a dimension's values lie."""
    if dimension.kind not in ("int", "float"):
        return dimension.choices[int(share * len(dimension.choices))]
    if dimension.grid is not None:
        return dimension.grid[int(share * len(dimension.grid))]
    low, high = dimension.bounds
    if dimension.sampling == "reverse_log":
        return from_stored(dimension, share)
    return low * (high / low) ** share if dimension.sampling == "log" else low + (high - low) * share


def tried(number: int, space: Space, rng: np.random.Generator, loss: Callable[[Places], float], **facts: Any) -> Trial:
    """A trial at random; its loss is told by where its values stand, from 0 to 1."""
    dimensions: list[Dimension] = []

    def suggest(dimension: Dimension) -> Value:
        dimensions.append(dimension)
        return draw(dimension, rng.random())

    hp = HyperParameters(suggest)
    space(hp)
    score = loss({one.name: position(one, hp.values[one.name]) for one in dimensions})
    usual = {"family": "net", "index": number, "seed": 0, "state": State.COMPLETE, "score": score}
    return Trial(number, values=dict(hp.values), dimensions=dimensions, **{**usual, **facts})


def search(
    loss: Callable[[Places], float], trials: int = 40, *, seed: int = 0, space: Space = trees, noise: float = 0.05
) -> list[Trial]:
    """A search at random."""
    rng = np.random.default_rng(seed)
    return [tried(n, space, rng, lambda at: loss(at) + noise * rng.normal()) for n in range(trials)]


def deep(at: Places) -> float:
    """The deeper, the better; of the others, the rate matters a little."""
    return -at["depth"] + 0.3 * abs(at["rate"] - 0.5)


def valley(at: Places) -> float:
    """The best rate is in the middle, and "b" is better than the others."""
    return 2 * (at["rate"] - 0.5) ** 2 + 0.3 * abs(at["kind"] - 1)


def said(found: list[Advice], kind: str) -> list[str]:
    """The names that something of a kind is said of."""
    return [one.name for one in found if one.kind == kind]


# What is found.


def test_what_matters_and_what_does_not_is_told_apart() -> None:
    found = advise(search(valley, 60), "minimize")
    assert set(said(found, "matters")) == {"rate", "kind"}
    idle = said(found, "does not matter")
    assert len(idle) >= 3, "of the five that make no difference, most"
    assert set(idle) <= {"depth", "share", "dropout", "units", "flag"}
    assert said(found, "edge") == []
    shares = {one.name: one.numbers["importance"] for one in found}
    assert 0.8 < shares["rate"] + shares["kind"] <= 1, "the rest is noise, and what they only do together"
    kinds = [one.kind for one in found]
    assert kinds == sorted(kinds, key=["edge", "matters", "does not matter"].index), "the most useful first"


def test_the_words_carry_their_evidence() -> None:
    texts = {(one.kind, one.name): one.text for one in advise(search(deep, 60, seed=3), "minimize")}
    assert texts["edge", "depth"] == (
        "net: depth is 10 in the best trial and in 6 of the best 10, the upper bound of its range 2..10: widen it"
    )
    assert texts["matters", "depth"] == (
        "net: depth matters (99% of the variance): 9..10 in the best 10 of 60 trials, 3..8 in the others"
    )
    assert texts["does not matter", "flag"] == (
        "net: flag hardly matters (0% of the variance in 60 trials): keep False"
    )


def test_a_choice_is_told_by_its_best_value() -> None:
    [text] = [one.text for one in advise(search(valley, 60), "minimize") if one.name == "kind"]
    assert text == "net: kind matters (75% of the variance): 'b' in 10 of the best 10 trials, in 4 of the other 50"


@pytest.mark.parametrize("seed", range(3))
def test_a_score_to_maximize_is_read_the_other_way_round(seed: int) -> None:
    trials = search(deep, seed=seed)
    turned = [replace(trial, score=-(trial.score or 0.0)) for trial in trials]
    assert advise(turned, "maximize") == advise(trials, "minimize")
    assert "edge" not in {one.kind for one in advise(trials, "maximize")}, "the worst trials have no say"


EDGES: list[tuple[Space, bool, str]] = [
    (lambda hp: hp.Int("x", 2, 10), True, "2..10"),
    (lambda hp: hp.Int("x", 2, 10), False, "2..10"),
    (lambda hp: hp.Int("x", 2, 200, sampling="log"), True, "2..200"),
    (lambda hp: hp.Int("x", 32, 512, step=2, sampling="log"), True, "32..512"),
    (lambda hp: hp.Int("x", 10, 99, step=10), True, "10..99"),
    (lambda hp: hp.Float("x", 1e-4, 1e-1, sampling="log"), False, "0.0001..0.1"),
    (lambda hp: hp.Float("x", 0.0, 0.5), True, "0..0.5"),
    (lambda hp: hp.Float("x", 0.1, 0.9, sampling="reverse_log"), True, "0.1..0.9"),
    (lambda hp: hp.Float("x", -3.0, 3.0, step=0.5), False, "-3..3"),
]


@pytest.mark.parametrize(("space", "upper", "words"), EDGES)
def test_an_edge_is_found_on_every_scale(space: Space, upper: bool, words: str) -> None:
    found = advise(search(lambda at: -at["x"] if upper else at["x"], 60, space=space), "minimize")
    [edge] = [one for one in found if one.kind == "edge"]
    assert f"{'upper' if upper else 'lower'} bound of " in edge.text
    assert words in edge.text
    assert edge.text.endswith(": widen it")
    assert edge.numbers["at_edge"] <= edge.numbers["best"] <= edge.numbers["trials"] == 60


def test_an_edge_beyond_the_last_step_is_told_by_what_can_be_reached() -> None:
    found = advise(search(lambda at: -at["x"], 60, space=lambda hp: hp.Int("x", 10, 99, step=10)), "minimize")
    assert [one.numbers["bound"] for one in found if one.kind == "edge"] == [90.0]


# What is not said.


@pytest.mark.parametrize(
    ("space", "upper"),
    [
        (lambda hp: hp.Float("dropout", 0.0, 0.5), False),
        (lambda hp: hp.Float("subsample", 0.5, 1.0), True),
        (lambda hp: hp.Float("momentum", 0.5, 1.0, sampling="reverse_log"), True),
        (lambda hp: hp.Int("layers", 1, 8), False),
        (lambda hp: hp.Int("crossed", 0, 10, step=2), False),
    ],
)
def test_a_natural_bound_is_left_alone(space: Space, upper: bool) -> None:
    sign = -1 if upper else 1
    trials = search(lambda at: sign * next(iter(at.values())), 60, space=space)
    assert natural(trials[0].dimensions[0], upper=upper)
    assert said(advise(trials, "minimize"), "edge") == []


@pytest.mark.parametrize("trials", [0, 1, 14])
def test_few_trials_tell_nothing(trials: int) -> None:
    assert advise(search(deep, trials, noise=0.0), "minimize") == []


def test_noise_tells_nothing() -> None:
    findings = sum(bool(advise(search(lambda at: 0.0, 40, seed=seed), "minimize")) for seed in range(8))
    assert findings <= 2, "one is to be expected; the seeds are fixed"


def test_equal_scores_tell_nothing() -> None:
    assert advise(search(lambda at: 1.0, noise=0.0), "minimize") == []


def test_a_value_that_drifted_while_scores_improved_is_not_taken_for_their_cause() -> None:
    rng = np.random.default_rng(1)
    trials = search(lambda at: 0.0, 60)
    for trial in trials:  # the driver gets better by another hyperparameter, and meanwhile likes high rates
        share = min(rng.beta(1 + trial.number / 6, 1.0), 1.0)
        trial.values["rate"] = draw(trial.dimensions[0], share)
        trial.score = -trial.number / 60 + 0.05 * rng.normal()
    found = advise(trials, "minimize")
    assert "rate" not in [one.name for one in found]


def test_where_a_driver_has_not_been_nothing_is_unimportant() -> None:
    trials = search(valley, 60)
    for trial in trials:
        trial.values["share"] = 0.5 + 0.3 * (float(trial.values["share"]) - 0.5)  # the lowest third alone
    assert "share" in said(advise(search(valley, 60), "minimize"), "does not matter")
    assert "share" not in said(advise(trials, "minimize"), "does not matter")


# Which trials count.


def test_repeats_failures_and_interrupted_trials_do_not_count() -> None:
    rng = np.random.default_rng(0)
    odd = [
        tried(100, trees, rng, lambda at: -9.0, same_as=3),
        tried(101, trees, rng, lambda at: -9.0, state=State.FAILED),
        tried(102, trees, rng, lambda at: -9.0, state=State.INTERRUPTED),
        tried(103, trees, rng, lambda at: math.nan),
        tried(104, trees, rng, lambda at: -math.inf),
        tried(105, trees, rng, lambda at: 0.0, score=None),
        Trial(106, "baseline", 0, 0, State.COMPLETE, score=-9.0),
    ]
    trials = search(deep)
    assert advise([*odd, *reversed(trials)], "minimize") == advise(trials, "minimize")


def test_a_stopped_trial_is_never_among_the_best_but_tells_of_the_worse_ones() -> None:
    trials = search(deep, 41)
    trials[40] = replace(trials[40], state=State.STOPPED, score=-99.0)
    judged = judge(trials, "minimize")
    assert judged[40].loss == pytest.approx(np.median([trial.score or 0.0 for trial in trials[:40]]))
    assert not judged[40].complete
    shallow = [
        replace(trial, state=State.STOPPED) if (trial.score or 0.0) > -0.3 else trial for trial in search(deep, 60)
    ]
    assert said(advise(shallow, "minimize"), "edge") == ["depth"]


def test_one_diverged_trial_hides_nothing() -> None:
    trials = search(deep)
    trials[7] = replace(trials[7], score=1e30)
    assert said(advise(trials, "minimize"), "matters") == ["depth"]


def nested(hp: HyperParameters) -> None:
    """A hyperparameter that half of the trials have."""
    hp.Choice("optimizer", ["adam", "sgd"])
    hp.Float("rate", 1e-3, 1e-1, sampling="log")
    hp.Float("momentum", 0.1, 0.9, parent_name="optimizer", parent_values="sgd")


def test_a_conditional_hyperparameter_is_judged_among_the_trials_that_had_it() -> None:
    found = advise(search(lambda at: at["optimizer"] - at.get("momentum", 0.0), 80, space=nested), "minimize")
    assert "momentum [optimizer=sgd]" in said(found, "matters")
    [momentum] = [one for one in found if one.kind == "matters" and one.name.startswith("momentum")]
    assert momentum.numbers["importance"] > 0.9, "where it exists, it is all that makes a difference"
    assert 20 < momentum.numbers["trials"] < 60
    assert said(found, "edge") == [], "adam is as good: to widen momentum would not help"


def test_a_changed_factory_is_judged_as_it_is_now() -> None:
    def wider(hp: HyperParameters) -> None:
        hp.Int("depth", 2, 20)
        hp.Float("rate", 1e-3, 1e-1, sampling="log")

    rng = np.random.default_rng(5)
    before = search(deep, 30)
    after = [tried(n, wider, rng, lambda at: abs(at["depth"] - 0.5)) for n in range(30, 90)]
    found = advise([*before, *after], "minimize")
    assert "share" not in [one.name for one in found], "it is gone"
    assert "depth" not in said(found, "edge"), "10 is no longer a bound"


# As data, and as it is shown.


def test_any_space_gives_plain_data() -> None:
    from test_drivers import every_dimension  # type: ignore[import-not-found]

    found = advise(search(lambda at: at["int_step"] + at["float_reverse"], 45, space=every_dimension), "minimize")
    assert found
    text = json.dumps([one.to_json() for one in found], allow_nan=False)
    assert [Advice.from_json(one) for one in json.loads(text)] == found


FACTS = StudyFacts(
    "ames", "rmse", "minimize", "regression", ("net",), "random", "KFold(k=2)", 9, 3, 7, "ab", None, 60, 2
)  # fmt: skip


def test_a_summary_shows_a_few_lines_and_mlflow_has_the_numbers() -> None:
    found = advise(search(deep, 60, seed=3), "minimize")
    summary = {"study": "ames", "advice": [one.to_json() for one in found]}
    lines = summary_text(summary).splitlines()
    begin = lines.index("advice")
    shown = lines[begin + 1 : lines.index("", begin)]
    assert shown[0].startswith("- net: depth is 10 in the best trial")
    assert len(shown) <= 6
    assert sum("hardly matter" in line for line in shown) == 1, "one line for all of a family"
    text = note(Standings(FACTS), summary)
    assert f"### Advice\n- {found[0].text}" in text
    record = summary_record(summary, 0)
    metrics = {point.key: point.value for point in record.points}
    assert metrics["importance/net/depth"] == next(one.numbers["importance"] for one in found if one.kind == "matters")
    assert record.tags["advice"].splitlines()[0] == found[0].text


@pytest.mark.parametrize(
    "advice", [None, [], {}, "words", [None, {}, {"text": None, "numbers": 3}, {"numbers": {"importance": math.nan}}]]
)
def test_odd_advice_is_shown_as_none(advice: Any) -> None:
    summary = {"study": "ames", "advice": advice}
    assert "advice" not in summary_text(summary)
    assert "Advice" not in note(Standings(FACTS), summary)
    record = summary_record(summary, 0)
    assert not [point for point in record.points if point.key.startswith("importance")]
    assert record.tags["advice"] == "none"


def test_standings_take_out_what_all_neighbours_share() -> None:
    steps = np.repeat([2.0, 1.0, 0.0], 20) + np.tile([0.0, 0.1], 30)
    found = standings(steps)
    assert found[10] == pytest.approx(found[50]), "far from the steps, only the neighbours count"
    assert standings(np.zeros(3)).tolist() == [0.5] * 3


# A real driver.


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_search_by_tpe_finds_the_edge_and_no_other(seed: int, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "edges")
    rng = np.random.default_rng(seed)
    try:
        ledger.open({"direction": "minimize", "data": "digest"}, seed=seed)
        ledger.add_family(
            "net", ProposalSampler(find_driver("optuna:tpe"), seed, "net"), NeverStop(), [{"defaults": True}]
        )
        for _ in range(60):
            running = ledger.start("net", started=0.0)
            trees(HyperParameters(partial(ledger.suggest, running)))
            ledger.settle(running)
            trial = running.trial
            trial.score = deep({one.name: position(one, trial.values[one.name]) for one in trial.dimensions})
            trial.score += 0.1 * rng.normal()
            trial.state = State.COMPLETE
            ledger.end(running)
        found = advise(ledger.trials(), "minimize")
    finally:
        ledger.close()
    assert said(found, "edge") == ["depth"]
    assert "depth" in said(found, "matters")


# Drivers that are too slow.


def end(cost: ProposalCost, index: int, proposal: float | None, seconds: float, **facts: Any) -> str | None:
    """A trial ends; its proposal, if it had one, took so long."""
    told = {"state": State.COMPLETE, "seconds": seconds, "proposal_seconds": proposal or 0.0, **facts}
    return cost.look(Trial(index, "net", index, 0, **told))


def test_a_slow_driver_is_told_once() -> None:
    cost = ProposalCost("keras-tuner:bayesian")
    texts = [end(cost, index, 3.0, 10.0) for index in range(30)]
    assert texts[LEAST - 1] == (
        "keras-tuner:bayesian takes 3 s per proposal, 30% of a trial; optuna:tpe takes about 0.02 s: "
        "--driver optuna:tpe"
    )
    assert [text for text in texts if text] == [texts[LEAST - 1]]


def test_planned_trials_repeats_and_failures_say_nothing_of_the_cost() -> None:
    cost = ProposalCost("optuna:gp")
    for index in range(30):
        assert end(cost, index, None, 0.1) is None
        assert end(cost, 100 + index, 9.0, 0.1, same_as=3) is None
        assert end(cost, 200 + index, 9.0, 0.1, state=State.FAILED) is None
    assert not cost._last


def test_the_first_proposal_imports_a_library_and_trials_of_two_families_are_taken_together() -> None:
    cost = ProposalCost("hyperopt:tpe")
    assert end(cost, 0, 14.0, 20.0) is None
    texts = [end(cost, index, 0.05, 0.1 if index % 2 else 20.0) for index in range(1, LAST)]
    assert not any(texts), "half a second of each trial's ten is proposing, though it is half of a quick one"


class Slow(Random):
    """Takes its time for each value."""

    def sampler(self, seed: int) -> Any:
        sampler: Any = super().sampler(seed)
        independent = sampler.sample_independent

        def slow(*args: Any) -> Any:
            time.sleep(0.02)
            return independent(*args)

        sampler.sample_independent = slow
        return sampler


def test_the_time_of_proposals_is_in_the_records_of_those_that_were_not_planned(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "slow")
    try:
        ledger.open({"direction": "minimize"}, seed=0)
        ledger.add_family("net", ProposalSampler(Slow(), 0, "net"), NeverStop(), [{"defaults": True}])
        for _ in range(2):
            running = ledger.start("net", time.time())
            hp = HyperParameters(lambda dimension, running=running: ledger.suggest(running, dimension))  # type: ignore[misc]
            hp.Float("rate", 0.0, 1.0)
            hp.Int("depth", 1, 3)
            running.trial.state, running.trial.score = State.COMPLETE, 1.0
            ledger.end(running)
        planned, proposed = (trial.proposal_seconds for trial in ledger.trials())
        assert (planned, proposed >= 0.04) == (0.0, True)
    finally:
        ledger.close()


@pytest.mark.parametrize(
    ("driver", "proposal", "trial", "instead"),
    [
        ("optuna:gp", 0.25, 20.0, None),
        ("optuna:gp", 0.25, 5.0, "optuna:tpe"),
        ("hyperopt:atpe", 0.5, 0.3, "random"),  # optuna:tpe would be too slow for such trials as well
        ("optuna:tpe", 0.03, 0.5, "random"),
        ("optuna:tpe-group", 0.05, 0.5, "random"),
        ("optuna:CmaEsSampler", 1.0, 10.0, "optuna:tpe"),
        ("random", 0.03, 0.5, None),  # nothing is cheaper
        ("optuna:tpe", 0.002, 0.01, None),
    ],
)
def test_the_driver_to_use_instead_is_one_that_is_quick_enough(
    driver: str, proposal: float, trial: float, instead: str | None
) -> None:
    text = too_slow(driver, proposal, trial)
    assert (text or "--driver None").endswith(f"--driver {instead}")


@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("options", [{}, {"sampling": "log"}, {"sampling": "reverse_log"}, {"step": 7}], ids=str)
def test_the_share_of_values_at_an_edge_is_that_of_all_values(options: dict[str, Any], upper: bool) -> None:
    dimension = Dimension("x", "int", 20, 2, 1000, **options)
    grid = dimension.grid
    assert grid is not None
    places = [position(dimension, value) for value in grid]
    near = [value for value, at in zip(grid, places, strict=True) if (1.0 - at if upper else at) <= WIDTH]
    expected = len(near) / len(grid)
    if dimension.sampling == "log":
        first, last = int(near[0]), int(near[-1])
        expected = math.log((last + 0.5) / (first - 0.5)) / math.log(1000.5 / 1.5)
    assert _share_near(dimension, upper=upper) == pytest.approx(expected, rel=1e-12)


def test_the_share_of_a_wide_range_at_its_edge_takes_no_time() -> None:
    begun = time.perf_counter()
    assert _share_near(Dimension("seed", "int", 0, 0, 2**31 - 1), upper=True) == pytest.approx(0.1, rel=1e-6)
    assert time.perf_counter() - begun < 0.5, "listing the values takes minutes; this takes a millisecond"
