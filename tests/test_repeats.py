"""A configuration that was tried is not run again: the trial reuses the earlier result, and says so."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from searches import (  # type: ignore[import-not-found]
    Listener,
    check_mirror,
    houses,
    mlflow_runs,
    records,
    shown,
    tunekit,
    write_study,
)

from tunekit.study import load_study
from tunekit.study.conductor import MOST_REPEATS
from tunekit.study.result import Result

pytestmark = pytest.mark.usefixtures("kept_servers")

FAMILY = '''
class Tiny(tk.families.Family):
    """Six configurations, which look like eighteen: so it is never known that all were tried."""

    name = "tiny"

    def fit(self, hp, fold, report):
        kind = hp.Choice("kind", ["mean", "other"])
        with hp.conditional_scope("kind", "mean"):
            share = hp.Choice("share", [0.5, 1.0, 2.0])
        with hp.conditional_scope("kind", "other"):
            quantile = hp.Choice("quantile", [0.0, 0.5, 1.0])
        hp.settle()
        with (HERE / "fitted.txt").open("a") as file:
            file.write(f"{fold.number} {kind} {share} {quantile}\\n")
        if quantile == 1.0:
            raise ValueError("too dear")
        target = fold.train.target
        value = np.array([share * target.mean() if kind == "mean" else np.quantile(target, quantile)])

        def predict(rows):
            return np.repeat(value[None], len(rows), axis=0)

        return tk.families.base.ArrayModel("constant", "flat", fold.preparation, {"value": value}, predict)
'''


def prepare(folder: Path, families: str = "Tiny(), tk.Baseline()") -> None:
    houses(100).to_csv(folder / "train.csv", index=False)
    data = 'tk.Table(HERE / "train.csv", target="Sale_Price")'
    write_study(folder, data, families, code=FAMILY, options='split=tk.KFold(2), driver="random"')


def run(folder: Path, listener: Listener | None = None, **goal: Any) -> Result:
    observers = [listener or Listener()]
    return load_study(folder / "study.py").run(root=folder / "mlruns", observers=observers, **goal)


def fits(folder: Path) -> Counter[str]:
    """How often each configuration was fitted, by fold and values."""
    return Counter((folder / "fitted.txt").read_text().splitlines())


def values_of(trial: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(sorted(trial["values"].items()))


@pytest.fixture(scope="module")
def searched(tmp_path_factory) -> tuple[Path, Listener]:
    """A search of one worker that ended by itself, long before its budget."""
    folder = tmp_path_factory.mktemp("repeats")
    prepare(folder)
    listener = Listener()
    run(folder, listener, budget="1h", workers=1)
    return folder, listener


def test_each_configuration_is_fitted_once(searched) -> None:
    folder, _ = searched
    assert set(fits(folder).values()) == {1}
    tiny = [trial for trial in shown(folder)["trials"] if trial["family"] == "tiny"]
    tried = [values_of(trial) for trial in tiny if trial["same_as"] is None]
    assert len(set(tried)) == len(tried)
    # Twenty repeats in a row were all of the configurations before them: by chance, one of six may never be proposed.
    assert len(tried) >= 5
    assert {values_of(trial) for trial in tiny} == set(tried)


def test_a_repeat_has_the_result_of_the_first(searched) -> None:
    folder, _ = searched
    trials = {trial["number"]: trial for trial in records(folder / "mlruns")}
    repeats = [trial for trial in trials.values() if trial["same_as"] is not None]
    assert {trial["family"] for trial in repeats} == {"tiny"}
    assert {trial["state"] for trial in repeats} == {"complete", "failed", "stopped"}  # by the study's seed
    for trial in repeats:
        first = trials[trial["same_as"]]
        assert first["same_as"] is None
        assert first["number"] < trial["number"]
        for name in ("family", "values", "state", "score", "fold_scores", "best_epochs"):
            assert trial[name] == first[name], name
        said = f"not run again: the same values as trial {first['number']}"
        assert trial["error"] == (said if first["error"] is None else f"{said}: {first['error']}")
        assert not list((folder / "mlruns/studies/small/trials").glob(f"{trial['number']:04d}-tiny/fold*"))
    assert any(": ValueError: too dear (in fit, study.py line" in trial["error"] for trial in repeats)


def test_repeats_are_shown_as_such(searched) -> None:
    folder, _ = searched
    told = {trial["number"]: trial["same_as"] for trial in records(folder / "mlruns")}
    summary = shown(folder)
    assert {trial["number"]: trial["same_as"] for trial in summary["trials"]} == told
    assert all(told[member["trial"]] is None for member in summary["ensemble"]["members"])


def test_a_family_that_only_repeats_is_done_and_the_search_ends(searched) -> None:
    folder, listener = searched
    tiny = [trial for trial in records(folder / "mlruns") if trial["family"] == "tiny"]
    repeated = [trial["same_as"] is not None for trial in tiny]
    assert all(repeated[-MOST_REPEATS:])
    rows = "".join("r" if one else "." for one in repeated[:-1])
    assert "r" * MOST_REPEATS not in rows  # it was the first row of so many
    told = [text for text in listener.messages if text.startswith("tiny is done")]
    assert told == [
        f"tiny is done: the last {MOST_REPEATS} proposals were all tried before; to go on, widen its search space or "
        "choose another driver"
    ]


def test_a_number_of_trials_counts_those_that_were_run(tmp_path) -> None:
    prepare(tmp_path, "Tiny()")
    for limit in (4, 6):  # what was tried before is known to the next search, too
        trials = run(tmp_path, trials=limit, workers=1).summary["trials"]
        tried = [values_of(trial) for trial in trials if trial["same_as"] is None]
        assert len(set(tried)) == len(tried) == limit
        assert trials[-1]["same_as"] is None  # it ended with the last of them
    assert set(fits(tmp_path).values()) == {1}
    assert len(trials) > 6  # by the study's seed; of six that are drawn at random, some are drawn twice


def test_with_more_workers_what_has_ended_is_not_run_again(tmp_path) -> None:
    prepare(tmp_path, "Tiny()")
    run(tmp_path, budget="1h", workers=2)
    trials = records(tmp_path / "mlruns")
    for trial in trials:
        same = [one for one in trials if values_of(one) == values_of(trial)]
        ended = [one for one in same if one["started"] + one["seconds"] < trial["started"]]
        assert trial["same_as"] is not None or not ended


@pytest.mark.slow  # MLflow
def test_mlflow_has_a_run_for_each_repeat(tmp_path) -> None:
    prepare(tmp_path, "Tiny()")
    tunekit(tmp_path, "search", "study.py", "--trials", "5", "--workers", "1")
    trials = shown(tmp_path)["trials"]
    check_mirror(tmp_path / "mlruns", trials)
    tags = [run["tags"] for run in mlflow_runs(tmp_path / "mlruns") if "tunekit.trial" in run["tags"]]
    told = {int(one["tunekit.trial"]): one.get("tunekit.same_as") for one in tags}
    assert told == {one["number"]: None if one["same_as"] is None else str(one["same_as"]) for one in trials}
