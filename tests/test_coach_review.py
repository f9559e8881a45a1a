"""What the coach says of searches whose truth is known, and where it must stay silent."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from searches import houses  # type: ignore[import-not-found]
from typer.testing import CliRunner

import tunekit as tk
from tunekit.cli import app
from tunekit.coach import review
from tunekit.coach.curves import curves_of, exploded, fits, rates
from tunekit.coach.members import alike, edges, failures, wasted
from tunekit.coach.noise import difference, difference_by_rows
from tunekit.coach.progress import expected_gain, next_hour
from tunekit.coach.review import look_at
from tunekit.coach.searched import Searched
from tunekit.coach.standing import baseline, cheap, converged, noise
from tunekit.space import Dimension
from tunekit.study.blend import Candidate
from tunekit.trial import Epoch, State, Trial

pytestmark = pytest.mark.usefixtures("kept_servers")

FOLDS = 5
EPOCHS = 40


def net(hp: Any, data: Any) -> Any:
    """Never built here."""


def made(families: Sequence[Any] = (), metric: str = "rmse", k: int = FOLDS) -> tk.Study:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"x": random.normal(size=500), "y": random.normal(size=500)})
    chosen = list(families) or [tk.Baseline(), tk.Linear(), tk.Forest(), tk.MLP(), tk.Keras(net)]
    return tk.Study("made", data=tk.Table(frame, target="y"), metric=metric, families=chosen, split=tk.KFold(k))


STUDY = made()
PREPARED = STUDY.prepare()


def trial(number: int, family: str, score: float, *, spread: float = 0.0, **facts: Any) -> Trial:
    """A complete trial; its folds' scores differ from its score by their own noise."""
    own = np.random.default_rng(number).normal(0.0, 1.0, FOLDS)
    scores = score + spread * (own - own.mean()) + np.array([3.0, -1.0, -2.0, 1.0, -1.0])  # folds differ, too
    usual = {"state": State.COMPLETE, "score": score, "fold_scores": [float(one) for one in scores]}
    usual |= {"seconds": 20.0, "fit_seconds": 20.0, "started": 20.0 * number}
    return Trial(number, family, number, 0, **{**usual, **facts})


def searched(trials: list[Trial], members: Sequence[Any] = (), **summary: Any) -> Searched:
    return Searched(STUDY, PREPARED, trials, {"ensemble": None, **summary}, list(members))


def said(look: Any, given: Searched) -> list[tuple[str, str]]:
    return [(one.level, one.kind) for one in look(given)]


# Against others.


def test_a_search_that_beats_nothing_is_a_problem() -> None:
    first = trial(0, "baseline", 100.0)
    assert said(baseline, searched([first, trial(1, "mlp", 60.0, spread=1.0)])) == [("good", "beats-baseline")]
    for score, level in ((99.5, "hint"), (104.0, "problem")):
        worse = searched([first, trial(1, "mlp", score, spread=2.0)])
        assert said(baseline, worse) == [(level, "no-better-than-baseline")]
    assert said(baseline, searched([first])) == []


def test_cheap_models_that_do_as_well_are_told_and_others_are_not() -> None:
    first = trial(0, "baseline", 100.0)

    def against(score: float, spread: float) -> list[tuple[str, str]]:
        return said(cheap, searched([first, trial(1, "linear", 50.0), *nets(score, spread)]))

    def nets(score: float, spread: float = 0.0, count: int = 5) -> list[Trial]:
        return [trial(2 + n, "mlp", score + n, spread=spread) for n in range(count)]

    assert against(49.8, 0.5) == [("hint", "cheap-as-good")]
    assert against(55.0, 0.5) == [("hint", "cheap-as-good")]
    assert against(40.0, 0.5) == [], "the net is better"
    assert against(44.0, 9.0) == [], "it may be better, nobody knows"
    assert against(51.0, 9.0) == [], "or worse"
    (found,) = cheap(searched([first, trial(1, "linear", 50.0), *nets(51.0)]))
    assert found.change == "families=[tk.Baseline(), tk.Linear(), tk.Forest(), tk.Keras(net)],"
    assert "the net is worse by 1.0" in found.text
    assert said(cheap, searched([first, trial(1, "linear", 50.0), *nets(51.0, count=4)])) == [], "hardly tried"
    assert said(cheap, searched([first, trial(1, "linear", 99.9, spread=2.0), *nets(104.0)])) == [], "neither learns"


def test_the_test_on_folds_is_neither_too_eager_nor_blind() -> None:
    random = np.random.default_rng(1)

    def better(effect: float) -> float:
        count = 0
        for _ in range(400):
            fold = random.normal(0.0, 5.0, FOLDS)  # what both share is no evidence
            one, other = (fold + shift + random.normal(0.0, 1.0, FOLDS) for shift in (-effect, 0.0))
            pair = [Trial(0, "a", 0, 0, fold_scores=list(scores)) for scores in (one, other)]
            found = difference(pair[0], pair[1], PREPARED)
            assert found is not None
            count += found.better
        return count / 400

    # Independent folds are the easy case: the corrected variance then says "better" even less often than 5%.
    assert better(0.0) < 0.05
    assert better(6.0) > 0.9


def candidate(one: Trial, predictions: Any) -> Candidate:
    return Candidate(one, np.asarray(predictions)[:, None], np.zeros((1, 1)), Path(), FOLDS)


def test_with_few_folds_rows_tell_whether_one_is_better() -> None:
    target = PREPARED.judged.target
    random = np.random.default_rng(2)
    good, same, bad = (candidate(trial(0, "mlp", 1.0), target + s * random.normal(size=len(target))) for s in (1, 1, 2))
    assert difference_by_rows(good, bad, PREPARED).better
    assert not difference_by_rows(bad, good, PREPARED).better
    assert not difference_by_rows(good, same, PREPARED).better


def test_trials_that_differ_by_chance_only_are_told() -> None:
    random = np.random.default_rng(3)
    alike_ones = [trial(n, "mlp", 50.0 + 0.2 * random.random(), spread=2.0) for n in range(20)]
    (found,) = noise(searched(alike_ones))
    assert found.change == "split=tk.KFold(test=0.2, k=5, repeats=3),"
    for step, spread in ((2.0, 0.1), (0.5, 0.5)):
        apart = [trial(n, "mlp", 50.0 + step * n, spread=spread) for n in range(20)]
        assert said(noise, searched(apart)) == []
    assert said(noise, searched(alike_ones[:5])) == [], "of five trials nothing is said"


# The next hour.


@pytest.mark.parametrize(("draw", "least"), [("exponential", 0.85), ("normal", 0.85)])
def test_what_more_trials_gain_is_what_is_expected(draw: str, least: float) -> None:
    random = np.random.default_rng(4)
    expected, gained, within = [], [], 0
    for seed in range(60):
        losses = -random.exponential(1.0, 60) if draw == "exponential" else random.normal(size=60)
        more = -random.exponential(1.0, 60) if draw == "exponential" else random.normal(size=60)
        found = expected_gain(losses, float(losses.min()), 60, seed)
        gain = max(0.0, float(losses.min() - more.min()))
        expected.append(found.gain)
        gained.append(gain)
        within += found.low <= gain <= found.high
    # An exponential tail is right for the first and too long for the second, whose true gain is smaller. Over 60
    # searches the mean gain is known to within a fifth.
    assert 0.7 * np.mean(gained) < np.mean(expected) < (1.4 if draw == "exponential" else 2.5) * np.mean(gained)
    assert within / 60 > least


def test_a_search_that_goes_nowhere_has_converged_and_a_young_one_has_not() -> None:
    random = np.random.default_rng(5)
    first = trial(0, "baseline", 100.0)
    flat = [trial(n, "mlp", 50.0 + 0.01 * random.random()) for n in range(1, 60)]
    assert said(converged, searched([first, *flat])) == [("good", "converged")]
    wide = [trial(n, "mlp", 90.0 - random.exponential(6.0)) for n in range(1, 60)]
    assert said(converged, searched([first, *wide])) in ([("hint", "goes-on")], [])
    assert next_hour(flat[:10], "minimize") is None


def test_an_hour_holds_as_many_trials_as_ran_at_once() -> None:
    two_at_a_time = [trial(n, "mlp", 50.0 + n % 7, started=20.0 * (n // 2)) for n in range(40)]
    found = next_hour(two_at_a_time, "minimize")
    assert found is not None
    assert found.trials == 360  # 20 s each, two at a time
    assert found.seen == 20


# Curves.


def curve(train: Any, valid: Any, folds: int = FOLDS) -> dict[str, Any]:
    """Every fold with these losses by epoch, and a little noise of its own."""
    epochs = np.arange(1, EPOCHS + 1)
    points, best = [], []
    for fold in range(folds):
        random = np.random.default_rng(fold)
        losses = [one(epochs) * (1 + 0.002 * random.normal(size=EPOCHS)) for one in (train, valid)]
        best.append(int(losses[1].argmin()) + 1)
        for epoch, loss, val_loss in zip(epochs, *losses, strict=True):
            points.append(Epoch(fold, int(epoch), {"loss": float(loss), "val_loss": float(val_loss)}))
    return {"curve": points, "best_epochs": best}


def falling(epochs: Any) -> Any:
    return 1.0 + 1.0 / (1 + 0.02 * epochs)


def flat(epochs: Any) -> Any:
    return 0.5 + np.exp(-epochs / 4.0)


UNITS = Dimension("units", "int", 64, 16, 128, sampling="log")
DROPOUT = Dimension("dropout", "float", 0.1, 0.0, 0.4)
RATE = Dimension("lr", "float", 0.001, 1e-4, 1.0, sampling="log")
SPACE: dict[str, Any] = {"dimensions": [UNITS, DROPOUT], "values": {"units": 128, "dropout": 0.1}}


def test_nets_that_could_be_larger_are_told_with_the_bound() -> None:
    growing = curve(falling, falling)
    (found,) = fits(searched([trial(0, "net", 1.0, **growing, **SPACE)]))
    assert (found.kind, found.change) == ("underfits", 'hp.Int("units", 16, 512, sampling="log", default=64)')
    usual = curve(flat, lambda epochs: 0.6 + np.exp(-epochs / 4.0) + 0.002 * np.maximum(epochs - 20, 0))
    assert said(fits, searched([trial(0, "net", 1.0, **usual, **SPACE)])) == []


def test_nets_that_overfit_at_once_are_told_with_the_knob() -> None:
    heart = curve(lambda epochs: np.exp(-epochs / 8.0), lambda epochs: 1.0 + 0.05 * np.abs(epochs - 2))
    (found,) = fits(searched([trial(0, "net", 1.0, **heart, **SPACE)]))
    assert (found.kind, found.change) == ("overfits-at-once", 'hp.Float("dropout", 0, 0.8, default=0.1)')
    (found,) = fits(searched([trial(0, "net", 1.0, **heart)]))
    assert "Dropout(hp.Float" in found.change
    (found,) = fits(searched([trial(0, "mlp", 1.0, **heart, **SPACE)]))
    assert found.change == "", "the study has no line for that"


def test_nets_that_know_the_rows_by_heart_are_told() -> None:
    def deep(best: int) -> dict[str, Any]:
        return curve(lambda epochs: np.exp(-epochs / 4.0), lambda epochs: 1.0 + 0.002 * np.abs(epochs - best))

    (found,) = fits(searched([trial(0, "net", 1.0, **deep(8), **SPACE)]))
    assert found.kind == "overfits-at-once"
    assert "learnt by heart" in found.text
    slow = curve(lambda epochs: 1.2 * np.exp(-epochs / 60.0), lambda epochs: 1.0 + 0.05 * np.abs(epochs - 9))
    assert said(fits, searched([trial(0, "net", 1.0, **slow)])) == [("hint", "overfits-at-once")], "9 of 40 is early"
    usual = curve(flat, lambda epochs: 0.6 + np.exp(-epochs / 4.0) + 0.002 * np.maximum(epochs - 20, 0))
    others = [trial(n, "net", 1.0 + n, **usual) for n in (1, 2)]
    assert said(fits, searched([trial(0, "net", 1.0, **deep(8)), *others])) == [("hint", "overfits-at-once")]
    assert said(fits, searched(others)) == []


def test_a_curve_that_only_jumps_does_not_turn_up() -> None:
    random = np.random.default_rng(6)
    false = 0
    for number in range(100):
        jumps = 1.0 + 0.02 * random.normal(size=EPOCHS)
        logs = [{"loss": float(1 / epoch), "val_loss": float(jumps[epoch - 1])} for epoch in range(1, EPOCHS + 1)]
        points = [Epoch(0, epoch + 1, one) for epoch, one in enumerate(logs)]
        (found,) = curves_of(Trial(number, "net", 0, 0, curve=points, best_epochs=[int(jumps.argmin()) + 1]))
        false += found.turns_up
    assert false <= 5, "the best of many noisy epochs is always below the last ones: it takes more than that"
    (rising,) = curves_of(Trial(0, "net", 0, 0, **curve(lambda e: 1 / e, lambda e: 1 + 0.02 * np.abs(e - 8), folds=1)))
    assert rising.turns_up


def test_rates_at_which_losses_explode_are_told_with_the_bound() -> None:
    random = np.random.default_rng(7)
    trials = []
    for number, rate in enumerate(10 ** random.uniform(-4, 0, 30)):
        facts: dict[str, Any] = {"dimensions": [RATE], "values": {"lr": float(rate)}}
        if rate > 0.1:
            error = "the loss became nan (validation: nan) in epoch 3; expected a finite number"
            facts |= {"state": State.FAILED, "error": error}
        trials.append(trial(number, "net", 1.0, **facts))
    lowest = min(one.values["lr"] for one in trials if one.state is State.FAILED)
    (found,) = rates(searched(trials))
    assert (found.level, found.kind) == ("hint", "explodes")
    assert found.change == f'hp.Float("lr", 0.0001, {lowest:.3g}, sampling="log", default=0.001)'
    fine = [one for one in trials if one.state is State.COMPLETE]
    assert said(rates, searched(fine)) == []
    bursting = curve(lambda epochs: np.where(epochs == 9, 400.0, 1.0), falling)
    assert exploded(trial(0, "net", 1.0, **bursting))


# Members and their cost.


def test_members_with_the_same_errors_are_told_unless_all_errors_are_noise() -> None:
    random = np.random.default_rng(8)
    target = PREPARED.judged.target
    signal, other = random.normal(size=(2, len(target)))

    def members(*predictions: Any) -> list[Any]:
        return [(candidate(trial(n, "mlp", 1.0), one), 0.5) for n, one in enumerate(predictions)]

    (found,) = alike(searched([], members(target + signal, target + signal + 0.05 * other)))
    assert found.kind == "alike"
    assert found.change.endswith("tk.Keras(net), tk.XGBoost()],")
    assert said(alike, searched([], members(target + signal, target + other))) == []
    # Two that know next to nothing: errors are the target itself, but they say different things.
    assert said(alike, searched([], members(0.01 * signal, 0.01 * other))) == []


def test_families_without_weight_are_told_after_a_fair_trial() -> None:
    trials = [trial(n, ["linear", "mlp", "forest"][n % 3], 50.0) for n in range(30)]
    ensemble = {"members": [{"family": "linear", "weight": 1.0, "trial": 0, "score": 50.0}]}
    (found,) = wasted(searched(trials, ensemble=ensemble))
    assert "67%" in found.text
    assert found.change == "families=[tk.Baseline(), tk.Linear(), tk.Keras(net)],"
    assert said(wasted, searched(trials[:6], ensemble=ensemble)) == []
    assert said(wasted, searched(trials)) == [], "there is no blend yet"


def test_trials_that_fail_for_one_reason_are_told() -> None:
    def failed(number: int, error: str) -> Trial:
        return trial(number, "net", 0.0, state=State.FAILED, error=error)

    many = [failed(n, f"out of memory at {n}.5 GiB") for n in range(4)]
    (found,) = failures(searched([*many, trial(9, "net", 1.0)]))
    assert (found.level, found.kind) == ("problem", "failures")
    assert "4 of 5 trials" in found.text
    assert said(failures, searched([failed(0, "a"), failed(1, "b"), failed(2, "c")])) == []


def test_best_values_at_their_bound_are_told_with_the_line() -> None:
    random = np.random.default_rng(9)
    trials = []
    for number in range(60):
        units = int(2 ** random.uniform(4, 7))
        score = 50.0 - 8 * math.log2(units / 16) + 0.1 * random.normal()
        trials.append(trial(number, "net", score, dimensions=[UNITS], values={"units": units}))
    (found,) = edges(searched(trials))
    assert (found.kind, found.change) == ("edge", 'hp.Int("units", 16, 512, sampling="log", default=64)')


def test_of_a_family_that_has_learnt_nothing_no_bound_is_told() -> None:
    trials = []
    for number in range(60):
        units = int(2 ** np.random.default_rng(number).uniform(4, 7))
        score = 130.0 - 8 * math.log2(units / 16)
        trials.append(trial(number + 1, "net", score, dimensions=[UNITS], values={"units": units}))
    assert said(edges, searched(trials)) == [("hint", "edge")]
    assert said(edges, searched([trial(0, "baseline", 100.0), *trials])) == []


def test_of_an_ordinary_search_nothing_bad_is_said() -> None:
    random = np.random.default_rng(10)
    usual = curve(flat, lambda epochs: 0.6 + np.exp(-epochs / 4.0) + 0.002 * np.maximum(epochs - 20, 0))
    trials = [trial(0, "baseline", 100.0), trial(1, "linear", 70.0, spread=1.0)]
    for number in range(2, 40):
        units = int(2 ** random.uniform(4, 7))
        score = 40.0 + 6 * random.gamma(2.0)
        space = {"dimensions": [UNITS], "values": {"units": units}}
        trials.append(trial(number, "mlp", score, spread=1.0, **usual, **space))
    ensemble = {"members": [{"family": "mlp", "weight": 1.0, "trial": 2, "score": 40.0}]}
    found = look_at(searched(trials, ensemble=ensemble))
    assert {one.kind for one in found if one.level != "good"} <= {"goes-on"}
    assert look_at(searched([])) == []


# A search that was run.


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("coached")
    houses(300).to_csv(folder / "houses.csv", index=False)
    path = folder / "study.py"
    path.write_text(
        "from pathlib import Path\nimport tunekit as tk\n"
        'data = tk.Table(str(Path(__file__).parent / "houses.csv"), target="Sale_Price")\n'
        'study = tk.Study("small", data=data, families=[tk.Baseline(), tk.Linear()], split=tk.KFold(3))\n'
    )
    from tunekit.study import load_study

    result = load_study(path).run(trials=4, observers=[], root=folder / "mlruns", workers=1)
    return path, folder / "mlruns", result


@pytest.mark.slow
def test_a_search_is_reviewed(found: Any) -> None:
    _, _, result = found
    assert "beats-baseline" in {one.kind for one in review(result)}


@pytest.mark.slow
def test_the_command_adds_what_the_trials_tell(found: Any) -> None:
    path, root, _ = found
    done = CliRunner().invoke(app, ["check", str(path), "--root", str(root), "--json"])
    assert done.exit_code == 0, done.output
    kinds = {one["kind"] for one in json.loads(done.stdout)["findings"]}
    assert {"beats-baseline", "no-leak"} <= kinds


@pytest.mark.slow
def test_trials_on_other_rows_are_not_looked_at(found: Any) -> None:
    path, root, _ = found
    table = path.parent / "houses.csv"
    before = table.read_text()
    try:
        houses(250).to_csv(table, index=False)
        done = CliRunner().invoke(app, ["check", str(path), "--root", str(root), "--json"])
    finally:
        table.write_text(before)
    kinds = {one["kind"] for one in json.loads(done.stdout)["findings"]}
    assert "other-trials" in kinds
    assert "beats-baseline" not in kinds
