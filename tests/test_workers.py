"""The same trials come out of a search whatever the number of workers, and whether it was interrupted or not."""

from pathlib import Path
from typing import Any

import pytest
from searches import Listener, houses, records, write_study  # type: ignore[import-not-found]

from tunekit.study import load_study

LIGHT = "tk.Baseline(), tk.Linear(), tk.XGBoost(), tk.Forest()"
NETS = """
net = tk.MLP()
net.epochs = 2
"""

CLOSE = 1e-12
"""Relative difference of scores: a single worker has the threads of two, and these add numbers in another order."""

Found = dict[tuple[str, int], dict[str, Any]]


def search(folder: Path, *steps: int, workers: int, families: str = LIGHT) -> Found:
    """The trials by family and index, after searches up to so many trials each.

    Nothing is stopped early, for that depends on which others have ended by then.
    """
    folder.mkdir()
    houses(200).to_csv(folder / "train.csv", index=False)
    data = 'tk.Table(HERE / "train.csv", target="Sale_Price")'
    options = 'split=tk.KFold(2), driver="random", stopper=tk.NeverStop()'
    study = load_study(write_study(folder, data, families, code=NETS, options=options))
    for trials in steps:
        study.run(root=folder / "mlruns", observers=[Listener()], trials=trials, workers=workers)
    found = records(folder / "mlruns")
    assert {trial["state"] for trial in found} == {"complete"}
    return {(trial["family"], trial["index"]): trial for trial in found}


def check(one: Found, other: Found, *, least: int, close: float) -> None:
    """What both have tried has the same values, seeds and scores."""
    both = one.keys() & other.keys()
    assert len(both) >= least
    for key in both:
        for name in ("values", "seed", "best_epochs"):
            assert one[key][name] == other[key][name], (key, name)
        assert one[key]["fold_scores"] == pytest.approx(other[key]["fold_scores"], rel=close), key


@pytest.mark.slow
def test_one_worker_and_two_find_the_same(tmp_path) -> None:
    one = search(tmp_path / "one", 12, workers=1)
    two = search(tmp_path / "two", 12, workers=2)
    assert len(one) == len(two) == 12
    # Who gets the last ones depends on who was good by then.
    check(one, two, least=8, close=CLOSE)
    for key in one.keys() & two.keys():
        if key[0] in ("baseline", "linear", "forest"):  # to the last bit
            assert one[key]["fold_scores"] == two[key]["fold_scores"], key


@pytest.mark.slow  # two searches
def test_at_once_and_in_steps_it_is_the_same_sequence(tmp_path) -> None:
    whole = search(tmp_path / "whole", 12, workers=1)
    steps = search(tmp_path / "steps", 3, 8, 12, workers=1)
    assert {key: trial["number"] for key, trial in whole.items()} == {
        key: trial["number"] for key, trial in steps.items()
    }
    check(whole, steps, least=12, close=CLOSE)


@pytest.mark.slow  # TensorFlow
def test_one_worker_and_two_find_the_same_nets(tmp_path) -> None:
    one = search(tmp_path / "one", 4, workers=1, families="net")
    two = search(tmp_path / "two", 4, workers=2, families="net")
    # Float32, and each step builds on the last; here TensorFlow gives the same bits with one thread and with two.
    check(one, two, least=4, close=1e-4)
