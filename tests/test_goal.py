"""When a search is over: a score that is good enough, a number of trials, and a budget that holds."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from folds import table  # type: ignore[import-not-found]
from searches import LONG, Listener, houses, write_study  # type: ignore[import-not-found]

from tunekit.data import KFold, StratifiedKFold
from tunekit.drivers import ProposalSampler, Random
from tunekit.executors import Child, Ended, Executor, Job, Limits, free_memory
from tunekit.families import MLP, Baseline, Family, Forest, Keras, Linear, TabM, XGBoost
from tunekit.ledger import Ledger
from tunekit.metrics import find_metric
from tunekit.space import Dimension
from tunekit.stopping import NeverStop
from tunekit.study import load_study
from tunekit.study.allocation import Tally
from tunekit.study.conductor import Conductor
from tunekit.study.effort import Effort, Site, usable_cores
from tunekit.study.goal import Clock, Goal, Refits
from tunekit.study.keeping import Keeping
from tunekit.study.prepared import prepare
from tunekit.study.shares import Shares
from tunekit.tracking import Observer, Observers
from tunekit.trial import State, Trial

pytestmark = pytest.mark.usefixtures("kept_servers")

# What a goal is


def goal(metric: str = "rmse", **more: Any) -> Goal:
    task = "binary" if metric == "roc_auc" else "regression"
    return Goal(Clock(None, 0.0), find_metric(metric, task, 1), **more)


def trial(score: float | None, state: State = State.COMPLETE) -> Trial:
    return Trial(0, "net", 0, seed=1, state=state, score=score)


@pytest.mark.parametrize(
    ("metric", "wanted", "scores", "reached"),
    [
        ("rmse", 2.0, [], False),
        ("rmse", 2.0, [3.0, 2.5], False),
        ("rmse", 2.0, [3.0, 2.0], True),
        ("rmse", 2.0, [1.0, 3.0], True),
        ("roc_auc", 0.75, [0.5, 0.625], False),
        ("roc_auc", 0.75, [0.75], True),
        ("roc_auc", 0.75, [0.875, 0.5], True),
    ],
)
def test_a_score_that_is_good_enough_or_better(metric, wanted, scores, reached) -> None:
    assert goal(metric, score=wanted).reached([trial(score) for score in scores]) is reached


def test_only_a_trial_that_is_complete_reaches_it() -> None:
    ended = [trial(1.0, state) for state in (State.STOPPED, State.FAILED, State.INTERRUPTED)]
    assert not goal(score=2.0).reached([*ended, trial(None)])
    assert not goal().reached([trial(1.0)])  # there is no score to reach


def test_a_clock_keeps_its_reserve_and_never_goes_below_nothing() -> None:
    begun = time.monotonic()
    assert Clock(None, 5.0, begun).left is None
    left = Clock(1000.0, 5.0, begun).left
    assert left is not None
    assert 900.0 < left <= 995.0  # but for what this test takes
    assert Clock(10.0, 5.0, begun - 7.0).left == 0.0


@pytest.mark.parametrize(
    ("budget", "reserve"),
    [("20s", 3.0), ("2m", 6.0), ("5m", 15.0), ("10m", 20.0), ("30m", 60.0), ("1h", 120.0), ("10h", 120.0)],
)
def test_a_longer_search_has_more_time_for_its_blend(budget: str, reserve: float, tmp_path: Path) -> None:
    assert Effort.of(Site(tmp_path), budget=budget).reserve == reserve


def complete(family: str, score: float, seconds: float) -> Trial:
    ended = trial(score)
    ended.family, ended.fit_seconds = family, seconds
    return ended


@pytest.mark.parametrize(
    ("seconds", "kept"),
    [((), 25.0), ((5.0, 5.0), 25.0), ((30.0, 5.0), 35.0), ((30.0, 20.0), 30.0), ((60.0, 20.0), 25.0)],
    ids=["none yet", "quick", "both", "the best alone", "the best takes too long"],
)
def test_a_clock_keeps_time_for_the_leading_trials_to_be_fitted_once_more(seconds, kept) -> None:
    names = ("xgboost", "lightgbm")
    leading = [complete(name, 1.0 + at, one) for at, (name, one) in enumerate(zip(names, seconds, strict=False))]
    best_first = [*leading, complete("xgboost", 5.0, 44.0), complete("forest", 6.0, 44.0)] if leading else []
    wished = goal(refits=Refits(0.25, 0.45, lambda one: one.fit_seconds))
    wished.keep_for_refits(best_first)
    assert wished.clock.refits == 0.0, "without a budget there is nothing to keep"
    wished = replace(wished, clock=Clock(100.0, 5.0))
    wished.keep_for_refits(best_first)
    assert wished.clock.refits == kept
    assert wished.clock.left == pytest.approx(95.0 - kept, abs=1.0)


def test_what_is_left_out_of_an_effort() -> None:
    site = Site(Path("mlruns"))
    assert Effort.of(site).budget == 600.0
    assert Effort.of(site, until=0.5).budget is None
    assert Effort.of(site, trials=5).budget is None
    assert Effort.of(site, until=0.5, budget="2m").budget == 120.0
    assert Effort.of(site, budget="1h").limits.seconds == 1800.0  # half of it for one trial


def test_cores_that_another_may_use_are_not_counted(monkeypatch) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")  # joblib's own limit, beside those of affinity and of a container
    assert usable_cores() == 1
    assert (Effort.of(Site(Path("mlruns"))).workers, Effort.of(Site(Path("mlruns"))).threads) == (1, 1)


def test_fewer_trials_at_a_time_where_memory_is_short_unless_somebody_said_how_many() -> None:
    site, free = Site(Path("mlruns")), free_memory()
    wished = replace(Effort.of(site), workers=8, threads=1)
    assert wished.with_room(free // 20) == wished
    short = wished.with_room(int(free / 2.5))
    assert (short.workers, short.threads) == (2, max(1, usable_cores() // 2))
    assert short.limits.memory == pytest.approx(0.45 * free, rel=0.2)  # others on this machine take and free some
    assert wished.with_room(2 * free).workers == 1, "it may yet be enough: numbers are estimates"
    for given in (Effort.of(site, workers=8), replace(Effort.of(site, limits=Limits(60.0)), workers=8)):
        assert given.with_room(free) == given


# What a conductor makes of it, with trials that end at once


class Scripted(Executor):
    """Each job ends at once, with the next of these scores for both of its folds.

    Args:
        scores: to come; a trial that finds none left goes on for ever.
        workers: at a time.
        seconds: that each fold is said to have taken.
        of_net: epochs and seconds of each fold of a net.
        pace: seconds of an epoch, that nets say.
    """

    def __init__(
        self,
        scores: list[float],
        workers: int = 1,
        seconds: float = 0.05,
        of_net: tuple[int, float] = (9, 0.05),
        pace: float | None = None,
    ) -> None:
        self.tasks: list[Any] = []
        self._seconds = seconds
        self._of_net = of_net
        self._pace = pace
        self.slow: set[int] = set()  # the numbers of trials that take so many times as long
        self.factor = 100.0
        self.late: set[int] = set()  # the numbers of trials that are ended by their limit
        self._scores = deque(scores)
        self._workers = workers
        self._words: list[tuple[Child, Any]] = []

    @property
    def workers(self) -> int:
        return self._workers

    def ready(self, *, heavy: bool) -> bool:
        return True

    def start(self, job: Job) -> Child:
        self.tasks.append(job.arguments[0])
        child = Silent()
        if self._scores:
            score = self._scores.popleft()
            said: list[Any] = [("suggest", Dimension("level", "float", 0.5, 0.0, 1.0)), ("settled",)]
            epochs, seconds = self._of_net if job.heavy else (0, self._seconds)
            seconds *= self.factor if len(self.tasks) - 1 in self.slow else 1
            if len(self.tasks) - 1 in self.late:
                self._words += [(child, word) for word in (*said, Ended("out of time: 500 s of 500 s", late=True))]
                return child
            for fold in (0, 1):
                said.append(("epochs", [(fold, 1 + epoch, score, {}) for epoch in range(epochs)], False))
                said.append(("fold", fold, score, None, (fold + 1) * seconds, self._pace if job.heavy else None))
            self._words += [(child, word) for word in (*said, ("done", 0.5, 1000), Ended())]
        return child

    def listen(self, timeout: float) -> list[tuple[Child, Any]]:
        words, self._words = self._words, []
        return words

    def close(self) -> None: ...


class Silent(Child):
    def send(self, word: Any) -> None: ...

    def kill(self) -> None: ...


class Heard(Observer):
    """Keeps what is said."""

    def __init__(self, said: list[str]) -> None:
        self._said = said

    def message(self, text: str) -> None:
        self._said.append(text)


Conduct = Callable[..., list[Trial]]


@pytest.fixture
def conduct(tmp_path) -> Iterator[Conduct]:
    """Run a conductor to its end; gives the trials."""
    ledger = Ledger(tmp_path, "small")

    def conduct(
        executor: Executor,
        *,
        metric: str = "rmse",
        families: tuple[Family, ...] = (Linear(), XGBoost()),
        budget: float | None = None,
        limits: Limits = Limits(),  # noqa: B008
        said: list[str] | None = None,
        plans: int = 1,
        **ends: Any,
    ) -> list[Trial]:
        task = "binary" if metric == "roc_auc" else "regression"
        split = StratifiedKFold(2) if task == "binary" else KFold(2)
        prepared = prepare(table(task).load(), split, metric, seed=0)
        ledger.open({"direction": prepared.metric.direction}, seed=3)
        for family in families:
            wanted: list[dict[str, Any]] = [{"defaults": True}, {"values": {"level": 0.25}}]
            ledger.add_family(family.name, ProposalSampler(Random(), 3, family.name), NeverStop(), wanted[:plans])
        conductor = Conductor(
            prepared,
            families,
            "random",
            NeverStop(),
            ledger,
            Observers([] if said is None else [Heard(said)]),
            goal=Goal(Clock(budget, 0.0), prepared.metric, **ends),
            threads=1,
            limits=limits,
            keeping=Keeping(ledger, prepared, 30, None),
        )
        conductor.run(executor)
        return conductor.trials

    yield conduct
    ledger.close()


@pytest.mark.parametrize(
    ("metric", "scores", "wanted"), [("rmse", [9.0, 8.0, 5.0, 1.0], 6.0), ("roc_auc", [0.5, 0.625, 0.75, 1.0], 0.75)]
)
def test_a_search_ends_with_the_first_score_that_is_good_enough(conduct, metric, scores, wanted) -> None:
    trials = conduct(Scripted(scores), metric=metric, score=wanted)
    assert [one.score for one in trials] == scores[:3]


def test_what_runs_beside_it_is_interrupted(conduct) -> None:
    trials = conduct(Scripted([9.0, 8.0, 5.0], workers=2), score=6.0)
    assert [one.score for one in trials if one.state is State.COMPLETE] == [9.0, 8.0, 5.0]
    assert [one.error for one in trials if one.state is not State.COMPLETE] == [
        "interrupted at the end of the search; it is run again with the same values"
    ]


def test_a_number_of_trials_ends_it_first(conduct) -> None:
    assert len(conduct(Scripted([9.0] * 9), score=6.0, trials=4)) == 4


def test_a_score_ends_it_before_a_number_of_trials(conduct) -> None:
    assert len(conduct(Scripted([9.0, 5.0, 9.0, 9.0]), score=6.0, trials=4)) == 2


@pytest.mark.parametrize("workers", [1, 3])
def test_exactly_so_many_trials_are_run(conduct, workers) -> None:
    trials = conduct(Scripted([9.0] * 20, workers), trials=7)
    assert [one.number for one in trials] == list(range(7))
    assert {one.state for one in trials} == {State.COMPLETE}


def test_a_family_that_is_not_known_gets_a_share_of_what_is_left_of_the_budget(conduct) -> None:
    executor = Scripted([9.0] * 4)
    conduct(executor, budget=2000.0, limits=Limits(seconds=5000.0), trials=4)
    first, second, *others = [task.seconds for task in executor.tasks]
    # The defaults of both families; but for what this test took.
    assert 900.0 < second <= first <= 1000.0
    assert others == [5000.0, 5000.0]


def test_a_family_that_would_take_too_much_of_the_time_is_ended_after_a_fold(conduct) -> None:
    trials = conduct(Scripted([9.0] * 2, seconds=600.0), budget=1000.0)
    assert [one.state for one in trials] == [State.INTERRUPTED] * 2
    assert trials[0].error is not None
    assert trials[0].error.startswith("ended after its first fold: all would take some 1200 s")


def test_as_long_as_no_family_has_learnt_anything_one_may_take_all_of_the_time(conduct) -> None:
    first, second, *_ = conduct(Scripted([9.0, 9.0, 5.0], seconds=400.0), budget=1000.0, score=6.0)
    assert [first.state, second.state] == [State.COMPLETE, State.INTERRUPTED]


@pytest.mark.parametrize(
    ("score", "seconds", "state"),
    [(8.5, 300.0, State.COMPLETE), (8.5, 400.0, State.INTERRUPTED), (9.5, 300.0, State.INTERRUPTED)],
    ids=["the second best", "too long even so", "the third best"],
)
def test_a_promising_family_may_take_more_of_the_time(conduct, score, seconds, state) -> None:
    executor = Scripted([8.0, 9.0, score, 5.0], seconds=1.0)
    executor.slow, executor.factor = {2}, seconds
    trials = conduct(executor, families=(Linear(), XGBoost(), Forest()), budget=1000.0, score=6.0)
    assert trials[2].family == "forest"
    assert trials[2].state is state


@pytest.mark.parametrize(
    ("epochs", "seconds", "score", "state"),
    [
        (2, 200.0, 9.0, State.INTERRUPTED),
        (2, 200.0, 8.0, State.COMPLETE),
        (8, 200.0, 9.0, State.COMPLETE),
        (2, 20.0, 9.0, State.COMPLETE),
    ],
    ids=["cut short", "the best even so", "slow, but it learns", "nothing more to learn"],
)
def test_a_net_that_its_share_leaves_a_few_epochs_is_ended_after_a_fold(conduct, epochs, seconds, score, state) -> None:
    executor = Scripted([9.0, score, 5.0], of_net=(epochs, seconds))
    first, net = conduct(executor, families=(Linear(), MLP()), budget=1000.0, score=6.0)[:2]
    assert [first.state, net.state] == [State.COMPLETE, state]
    assert (net.error or "").startswith("ended after its first fold: all would take some 1600 s") is (
        state is State.INTERRUPTED
    )


@pytest.mark.parametrize(
    ("pace", "state"), [(10.0, State.COMPLETE), (70.0, State.INTERRUPTED)], ids=["it took long to trace", "slow"]
)
def test_a_net_is_judged_by_the_pace_of_its_epochs(conduct, pace, state) -> None:
    executor = Scripted([9.0, 9.0, 5.0], of_net=(2, 200.0), pace=pace)
    net = conduct(executor, families=(Linear(), MLP()), budget=1000.0, score=6.0)[1]
    assert net.state is state
    # What was seen of one fold, and the 14 epochs that are still to come.
    assert (state is State.COMPLETE) or "all would take some 1180 s" in (net.error or "")


@pytest.mark.parametrize(("workers", "fair"), [(1, 250.0), (2, 500.0), (8, 1000.0)])
def test_nets_that_run_side_by_side_need_not_wait_for_each_other(workers, fair) -> None:
    families = {one.name: one for one in (Linear(), MLP(), TabM(), Keras(lambda hp: None, name="own"))}
    tallies = {name: Tally() for name in families}
    shares = Shares(
        replace(goal(), clock=Clock(1000.0, 0.0)), families, tallies, find_metric("rmse", "regression", 1), 2
    )
    assert shares.of(families["mlp"], (), workers).fair == pytest.approx(fair, abs=1.0)  # but for what this took


@pytest.mark.parametrize(
    ("pace", "of_user", "tried"),
    [
        (70.0, False, ["linear", "mlp", "tabm", "linear"]),
        (300.0, False, ["linear", "mlp", "linear"]),
        (300.0, True, ["linear", "mlp", "own", "linear"]),
    ],
    ids=["slow", "far too slow", "nets of one's own may be of any size"],
)
def test_where_one_net_is_far_too_slow_others_are_not_tried(conduct, pace, of_user, tried) -> None:
    executor = Scripted([9.0] * (len(tried) - 1) + [5.0], of_net=(2, 200.0), pace=pace)
    other = Keras(lambda hp: None, name="own") if of_user else TabM()
    said: list[str] = []
    trials = conduct(executor, families=(Linear(), MLP(), other), budget=1000.0, score=6.0, said=said)
    assert [one.family for one in trials] == tried
    assert any("no net is tried" in one and "(tabm)" in one for one in said) is ("tabm" not in tried and not of_user)


def test_a_trial_that_cannot_be_complete_in_time_is_ended(conduct) -> None:
    executor = Scripted([9.0, 8.0, 7.0, 5.0], seconds=40.0)
    executor.slow = {1, 2}  # the first has timed the family, so that they have no share of the time
    trials = conduct(executor, families=(Linear(),), budget=1000.0, score=6.0)
    told = "ended after 1 of 2 folds: the others would take some 4000 s, and "
    assert [one.state for one in trials] == [State.COMPLETE, State.STOPPED, State.STOPPED, State.COMPLETE]
    assert all((one.error or "").startswith(told) for one in trials[1:3])


@pytest.mark.parametrize(("planned", "state"), [(True, State.INTERRUPTED), (False, State.STOPPED)])
def test_what_was_planned_is_run_again_in_a_search_with_more(conduct, planned, state) -> None:
    executor = Scripted([9.0, 8.0, 7.0], seconds=40.0)
    executor.slow = {1}
    trials = conduct(executor, families=(Linear(),), budget=1000.0, plans=1 + planned, score=7.0)
    assert trials[1].state is state
    assert (trials[1].error or "").endswith("; it is run again in a search with more") is planned
    assert len(trials) == (2 if planned else 3), "the family is given up for this search"


@pytest.mark.parametrize(
    ("families", "budget", "limit", "state"),
    [
        ((Linear(), XGBoost()), 1000.0, 500.0, State.INTERRUPTED),
        ((Linear(), XGBoost()), 1000.0, 60.0, State.FAILED),
        ((Linear(), XGBoost()), None, 500.0, State.FAILED),
        ((Baseline(), Linear()), 1000.0, 500.0, State.FAILED),
    ],
    ids=["the budget is short", "the user's limit", "no budget", "nothing else can learn"],
)
def test_a_family_that_takes_half_of_the_budget_is_given_up_for_this_search(
    conduct, families, budget, limit, state
) -> None:
    executor = Scripted([9.0] * 5 + [5.0])
    slow = [one.name for one in families].index("linear")
    executor.late = {slow}
    trials = conduct(executor, families=families, budget=budget, limits=Limits(seconds=limit), score=6.0)
    assert (trials[slow].family, trials[slow].state) == ("linear", state)
    assert (trials[slow].error or "").endswith("it is run again in a search with more") is (state is State.INTERRUPTED)
    tried = {one.family for one in trials[2:]}
    assert ("linear" in tried) is (state is State.FAILED), "the time that is left is for the others"


class Waiting(Scripted):
    """TensorFlow is there once it was asked for; notes how many trials had begun by then."""

    asked: int | None = None

    def ready(self, *, heavy: bool) -> bool:
        return not heavy or self.asked is not None

    def prepare(self) -> None:
        self.asked = len(self.tasks) if self.asked is None else self.asked


@pytest.mark.parametrize(
    ("families", "budget", "asked"),
    [
        ((Linear(), XGBoost()), 1000.0, None),
        ((Linear(), XGBoost(), MLP()), 1000.0, 2),
        ((Linear(), MLP(), XGBoost()), 1000.0, 1),
        ((MLP(), Linear(), XGBoost()), 1000.0, 0),
        ((Linear(), XGBoost(), MLP()), 10.0, None),
        ((MLP(),), 10.0, 0),
    ],
    ids=["no nets", "after the trees", "before the trees", "first", "too late beside others", "late, but all there is"],
)
def test_tensorflow_is_imported_once_a_net_is_due(conduct, families, budget, asked) -> None:
    executor = Waiting([9.0, 9.0, 9.0, 5.0], seconds=0.01)
    conduct(executor, families=families, budget=budget, score=6.0)
    assert executor.asked == asked


def test_a_net_that_there_is_nothing_beside_is_not_ended(conduct) -> None:
    executor = Scripted([9.0, 9.0, 5.0], of_net=(2, 200.0))
    assert conduct(executor, families=(Baseline(), MLP()), budget=1000.0, score=6.0)[1].state is State.COMPLETE


def test_a_net_of_a_number_of_trials_is_not_ended(conduct) -> None:
    executor = Scripted([9.0] * 2, of_net=(2, 200.0))
    assert conduct(executor, families=(Linear(), MLP()), budget=1000.0, trials=2)[1].state is State.COMPLETE


def test_a_trial_gets_no_more_than_its_limit(conduct) -> None:
    executor = Scripted([9.0] * 2)
    conduct(executor, budget=1000.0, limits=Limits(seconds=50.0), trials=2)
    assert [task.seconds for task in executor.tasks] == [50.0, 50.0]


def test_without_budget_and_limit_a_trial_has_all_the_time(conduct) -> None:
    executor = Scripted([9.0] * 2)
    conduct(executor, trials=2)
    assert [task.seconds for task in executor.tasks] == [None, None]


def test_a_spent_budget_interrupts_what_runs(conduct) -> None:
    begun = time.monotonic()
    trials = conduct(Scripted([9.0], workers=2), budget=1.0)
    assert time.monotonic() - begun < LONG  # else it hangs
    assert [one.state for one in trials] == [State.COMPLETE, State.INTERRUPTED, State.INTERRUPTED]


# Whole searches


def run(folder: Path, data: pd.DataFrame, target: str, families: str, *, code: str = "", **goal: Any) -> dict[str, Any]:
    data.to_csv(folder / "train.csv", index=False)
    source = f'tk.Table(HERE / "train.csv", target="{target}")'
    study = load_study(write_study(folder, source, families, code=code, options="split=tk.KFold(2)"))
    return dict(study.run(root=folder / "mlruns", observers=[Listener()], **goal).summary)


def test_a_search_ends_where_a_linear_model_is_good_enough(tmp_path) -> None:
    families = "tk.Baseline(), tk.Linear(), tk.XGBoost()"
    goal: dict[str, Any] = {"until": 60_000.0, "workers": 1}  # dollars; a constant is wrong by some 80,000
    summary = run(tmp_path, houses(200), "Sale_Price", families, **goal)
    assert [one["family"] for one in summary["trials"]] == ["baseline", "linear"]
    assert summary["ensemble"]["members"]
    # It is reached already when the search is run again.
    assert run(tmp_path, houses(200), "Sale_Price", families, **goal)["trials"] == summary["trials"]


def test_a_baseline_alone_is_its_own_blend(tmp_path) -> None:
    summary = run(tmp_path, houses(100), "Sale_Price", "tk.Baseline()", trials=1, workers=1)
    assert [member["family"] for member in summary["ensemble"]["members"]] == ["baseline"]
    assert summary["ensemble"]["verdict"].startswith("No model is reliably better than the baseline")


def smooth(rows: int, columns: int) -> pd.DataFrame:
    """A table on which more rounds of boosting help for long: a sum of many columns."""
    random = np.random.default_rng(0)
    table = pd.DataFrame(random.normal(size=(rows, columns)), columns=[f"x{number}" for number in range(columns)])
    return table.assign(y=table.sum(axis=1) + 0.01 * random.normal(size=rows))


@pytest.mark.slow  # the whole of its budget
def test_boosting_that_would_outlast_the_budget_ends_within_it_with_what_it_has_learnt(tmp_path) -> None:
    budget = 20.0
    summary = run(tmp_path, smooth(60_000, 40), "y", "tk.XGBoost()", budget=budget, workers=1)
    first = load_study(tmp_path / "study.py").open_ledger_to_read(Site(tmp_path / "mlruns"))
    try:
        rounds = first.trials()[0].best_epochs
    finally:
        first.close()
    done = summary["trials"][0]
    assert (done["state"], len(done["fold_scores"])) == ("complete", 2)
    assert (
        done["seconds"] / sum(rounds) * len(rounds) * XGBoost.most_rounds > budget
    )  # at this pace it would have been too much
    assert all(0 < number < XGBoost.most_rounds for number in rounds)
    assert summary["ensemble"]["members"]
    assert summary["overhead"]["search_seconds"] <= budget
    assert summary["overhead"]["blend_seconds"] < LONG  # else it hangs


PATIENT = """
patient = tk.MLP()
patient.epochs = patient.patience = 10**6
"""


@pytest.mark.slow  # the whole of its budget
def test_a_net_that_would_outlast_the_budget_ends_within_it_with_its_best_epoch(tmp_path) -> None:
    summary = run(tmp_path, houses(200), "Sale_Price", "tk.Baseline(), patient", code=PATIENT, budget=30.0, workers=1)
    nets = [one for one in summary["trials"] if one["family"] == "mlp"]
    assert (nets[0]["state"], len(nets[0]["fold_scores"])) == ("complete", 2)
    assert summary["overhead"]["search_seconds"] <= 30.0
