"""A study whose space was changed between two runs: what drivers are shown of earlier trials, and what is said."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest
from searches import houses, shown, tunekit, write_study  # type: ignore[import-not-found]
from test_drivers import listed  # type: ignore[import-not-found]

from tunekit.drivers import DRIVERS, Driver, ProposalSampler, find_driver
from tunekit.ledger import Ledger
from tunekit.space import HyperParameters, Value
from tunekit.stopping import NeverStop
from tunekit.trial import State

Factory = Callable[[HyperParameters], Any]
IDENTITY = {"direction": "minimize", "data": "digest"}
PLANS: list[dict[str, Any]] = [{"defaults": True}, {"values": {"units": 64}}]


@contextmanager
def opened(
    folder: Path, program: str = "one", driver: Driver = DRIVERS["random"], plans: Sequence[dict[str, Any]] = ()
) -> Iterator[Ledger]:
    ledger = Ledger(folder, "study")
    ledger.open(IDENTITY, seed=7, program=program)
    try:
        ledger.add_family("net", ProposalSampler(driver, 7, "net"), NeverStop(), list(plans))
        yield ledger
    finally:
        ledger.close()


def run(ledger: Ledger, factory: Factory, trials: int = 1, state: State = State.COMPLETE) -> list[dict[str, Value]]:
    found = []
    for _ in range(trials):
        running = ledger.start("net", 0.0)
        factory(HyperParameters(partial(ledger.suggest, running)))
        ledger.settle(running)
        values = running.trial.values
        running.trial.state, running.trial.score = state, _score(values)
        ledger.end(running)
        found.append(values)
    return found


def _score(values: dict[str, Value]) -> float:
    return sum(abs(float(value)) for value in values.values() if not isinstance(value, str)) % 10


def seen(ledger: Ledger) -> list[optuna.trial.FrozenTrial]:
    """What a driver sees."""
    return ledger._families["net"].study.get_trials(deepcopy=False)


def choosing(*choices: Value) -> Factory:
    return lambda hp: hp.Choice("kind", list(choices))


def units(low: int, high: int) -> Factory:
    return lambda hp: hp.Int("units", low, high, step=2, sampling="log")


def test_a_new_choice_joins_those_that_were_tried(tmp_path: Path) -> None:
    with opened(tmp_path, "one") as ledger:
        before = [values["kind"] for values in run(ledger, choosing("a", "b"), 6)]
        assert ledger.take_changes() == []
    with opened(tmp_path, "two") as ledger:
        after = run(ledger, choosing("a", "b", "c"))
        assert ledger.take_changes() == [
            "net: kind is ['a', 'b', 'c'] now, was ['a', 'b']: 6 of 6 earlier trials fit and still count"
        ]
        assert [trial.params for trial in seen(ledger)] == [{"kind": kind} for kind in before] + after
        assert len({str(trial.distributions) for trial in seen(ledger)}) == 1
        run(ledger, choosing("a", "b", "c"), 3)
        assert ledger.take_changes() == []
    with opened(tmp_path, "two") as ledger:
        assert len({str(trial.distributions) for trial in seen(ledger)}) == 1, "from the start"
        run(ledger, choosing("a", "b", "c"))
        assert ledger.take_changes() == []


def test_a_value_that_can_not_be_any_more_guides_no_driver_until_it_can_again(tmp_path: Path) -> None:
    with opened(tmp_path, "one") as ledger:
        before = [values["units"] for values in run(ledger, units(32, 512), 12)]
    unfit = [number for number, value in enumerate(before) if not 64 <= int(value) <= 256]
    assert 0 < len(unfit) < 12
    with opened(tmp_path, "two") as ledger:
        run(ledger, units(64, 256))
        [told] = ledger.take_changes()
        assert told.startswith("net: units is 64..256 (log, step 2) now, was 32..512 (log, step 2): ")
        numbers = ", ".join(f"{number:03d}" for number in unfit)
        count = f"{12 - len(unfit)} of 12 earlier trials fit and still count"
        assert told.endswith(f"{count}; {numbers} can't guide the search any more")
        complete = [trial for trial in seen(ledger) if trial.state is optuna.trial.TrialState.COMPLETE]
        assert [trial.number for trial in complete] == [n for n in range(13) if n not in unfit]
        assert len(ledger.trials()) == 13, "the record is what it was"
        assert all(trial.state is State.COMPLETE for trial in ledger.trials())
    with opened(tmp_path, "one") as ledger:
        run(ledger, units(32, 512))
        assert "13 of 13 earlier trials fit" in ledger.take_changes()[0]
        assert all(trial.state is optuna.trial.TrialState.COMPLETE for trial in seen(ledger))


def test_positions_on_a_grid_stand_for_the_same_values_on_a_new_one(tmp_path: Path) -> None:
    with opened(tmp_path, "one") as ledger:
        before = run(ledger, units(32, 512), 5)
    with opened(tmp_path, "two") as ledger:
        run(ledger, units(8, 512))
        positions = [trial.params["units"] for trial in seen(ledger)][:5]
    assert [8 * 2**position for position in positions] == [values["units"] for values in before]


def test_what_looked_changed_but_varies_is_shown_as_it_was(tmp_path: Path) -> None:
    def capped(high: float) -> Factory:
        return lambda hp: hp.Float("x", 0.0, high)

    with opened(tmp_path) as ledger:
        run(ledger, capped(1.0), 8)
    with opened(tmp_path, "two") as ledger:
        run(ledger, capped(0.25))
        assert len(ledger.take_changes()) == 1
        assert any(trial.state is optuna.trial.TrialState.FAIL for trial in seen(ledger))
        run(ledger, capped(0.75))  # so it is not the same for every trial
        assert all(trial.state is optuna.trial.TrialState.COMPLETE for trial in seen(ledger))


def test_what_varies_from_trial_to_trial_was_not_changed(tmp_path: Path) -> None:
    def varying(hp: HyperParameters) -> None:
        hp.Float("lr", 1e-4, 1e-2 if hp.Choice("optimizer", ["adam", "sgd"]) == "adam" else 1.0, sampling="log")

    for program, trials in (("one", 8), ("two", 8), ("two", 1), ("two", 1)):
        with opened(tmp_path, program) as ledger:
            run(ledger, varying, trials)
            assert ledger.take_changes() == []
            shown = [trial.distributions["lr"].high for trial in seen(ledger)]  # type: ignore[attr-defined]
            assert set(shown) == {1e-2, 1.0}


def test_the_same_program_is_never_said_to_have_changed(tmp_path: Path) -> None:
    """What varies may look like a change where there were few trials."""
    for high in (0.5, 1.0):
        with opened(tmp_path) as ledger:
            run(ledger, lambda hp, high=high: hp.Float("x", 0.0, high), 2)  # type: ignore[misc]
            assert ledger.take_changes() == []
            assert all(trial.state is optuna.trial.TrialState.COMPLETE for trial in seen(ledger))


def test_hyperparameters_that_come_or_go_are_told_once(tmp_path: Path) -> None:
    def old(hp: HyperParameters) -> None:
        hp.Float("rate", 0.0, 1.0)
        hp.Int("depth", 1, 4)

    def new(hp: HyperParameters) -> None:
        hp.Float("rate", 0.0, 1.0)
        hp.Float("dropout", 0.0, 0.5)
        hp.Boolean("norm")

    with opened(tmp_path, "one") as ledger:
        run(ledger, old, 3)
    with opened(tmp_path, "two") as ledger:
        run(ledger, new, 2)
        assert ledger.take_changes() == [
            "net: dropout and norm are new; the 3 earlier trials had no such hyperparameter, and still count",
            "net: depth is not asked for any more; the 3 earlier trials had it, and still count",
        ]
        assert all(trial.params["rate"] for trial in seen(ledger))


def test_what_failed_under_another_program_is_planned_again(tmp_path: Path) -> None:
    with opened(tmp_path, "one", plans=PLANS) as ledger:
        failed = run(ledger, units(32, 512), 3, State.FAILED)
    with opened(tmp_path, "one", plans=PLANS) as ledger:
        assert ledger.planned("net") == 0
        assert ledger.take_changes() == []
        assert not any(ledger.is_outdated(trial) for trial in ledger.trials())
    for program in ("two", "three"):
        with opened(tmp_path, program, plans=PLANS) as ledger:
            [told] = ledger.take_changes()
            assert told == "net: the study file has changed, its 3 failed trial(s) are tried again"
        with opened(tmp_path, program, plans=PLANS) as ledger:
            assert ledger.take_changes() == [], "they are planned already"
            assert all(ledger.is_outdated(trial) for trial in ledger.trials())
            assert run(ledger, units(32, 512), 3, State.FAILED) == failed
            assert ledger.planned("net") == 0


def test_where_others_did_not_fail_only_plans_are_tried_again(tmp_path: Path) -> None:
    with opened(tmp_path, "one", plans=PLANS) as ledger:
        planned, _ = run(ledger, units(32, 512), 2, State.FAILED)
        run(ledger, units(32, 512), 1)
        [proposed] = run(ledger, units(32, 512), 1, State.FAILED)
    with opened(tmp_path, "two", plans=PLANS) as ledger:
        assert ledger.planned("net") == 2
        assert run(ledger, units(32, 512), 1) == [planned]
        running = ledger.start("net", 0.0)
        running.plan = {"values": proposed}
        units(32, 512)(HyperParameters(partial(ledger.suggest, running)))
        assert running.trial.values == proposed
        assert ledger.settle(running) is None, "they failed under another program"


def wide(hp: HyperParameters) -> None:
    hp.Float("rate", 1e-4, 1.0, sampling="log")
    hp.Int("units", 8, 512, step=2, sampling="log")
    hp.Float("drop", 0.1, 0.9, sampling="reverse_log")
    hp.Choice("kind", ["a", "b", "c"])
    hp.Boolean("flag")


def narrow(hp: HyperParameters) -> None:
    hp.Float("rate", 1e-3, 1e-1, sampling="log")
    hp.Int("units", 32, 256, step=2, sampling="log")
    hp.Float("drop", 0.1, 0.5, sampling="reverse_log")
    hp.Choice("kind", ["c", "b"])
    hp.Fixed("flag", True)


@pytest.mark.parametrize("name", listed(sorted(DRIVERS)))
@pytest.mark.parametrize(("old", "new"), [(wide, narrow), (narrow, wide)], ids=["narrowed", "widened"])
def test_any_driver_goes_on_in_the_new_space_as_if_it_had_not_been_interrupted(
    name: str, old: Factory, new: Factory, tmp_path: Path
) -> None:
    driver = find_driver(name)
    if name == "grid":
        pytest.skip("its grids have no floats")
    found = []
    for folder, breaks in ((tmp_path / "one", False), (tmp_path / "two", True)):
        with opened(folder, "one", driver) as ledger:
            values = run(ledger, old, 8)
        with opened(folder, "two", driver) as ledger:
            values += run(ledger, new, 4)
            if not breaks:
                values += run(ledger, new, 5)
        if breaks:
            with opened(folder, "two", driver) as ledger:
                values += run(ledger, new, 5)
        found.append(values)
        hp = HyperParameters()
        new(hp)
        for one in values[8:]:
            assert all(dimension.contains(one[dimension.name]) for dimension in hp.space)
    assert found[0] == found[1]


@pytest.mark.slow
def test_a_study_file_that_was_changed_tells_what_became_of_its_trials(tmp_path: Path) -> None:
    houses(200).to_csv(tmp_path / "train.csv", index=False)
    source = 'tk.Table(HERE / "train.csv", target="Sale_Price")'
    code = '''
class Shrunk(tk.families.Family):
    """A constant between the mean and zero."""

    name = "shrunk"

    def fit(self, hp, fold, report):
        share = hp.Float("share", 0.0, HIGHEST)
        hp.settle()
        fitted = tk.Baseline().fit(tk.HyperParameters(), fold, report)
        plain = fitted.function
        fitted.function = lambda rows: share * plain(rows)
        fitted.arrays = {name: share * array for name, array in fitted.arrays.items()}
        return fitted
'''
    write_study(tmp_path, source, "Shrunk(), tk.Linear()", code=f"HIGHEST = 1.0\n{code}", options="split=tk.KFold(2)")
    tunekit(tmp_path, "search", "study.py", "--trials", "8", "--workers", "1")
    write_study(tmp_path, source, "Shrunk(), tk.Forest()", code=f"HIGHEST = 0.5\n{code}", options="split=tk.KFold(2)")
    told = tunekit(tmp_path, "search", "study.py", "--trials", "16", "--workers", "1").stdout
    assert "shrunk: share is 0..0.5 now, was 0..1: " in told
    assert "forest is new in this study" in told
    assert "linear is not in this study any more: its " in told
    summary = shown(tmp_path)
    assert {member["family"] for member in summary["ensemble"]["members"]} <= {"shrunk", "forest"}
    assert {trial["family"] for trial in summary["trials"]} == {"shrunk", "linear", "forest"}
