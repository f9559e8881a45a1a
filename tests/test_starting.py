"""Values that their owner wants tried first."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

import tunekit as tk
from tunekit.errors import StudyError
from tunekit.tracking import Observer

pytestmark = pytest.mark.usefixtures("kept_servers")


class Messages(Observer):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def message(self, text: str) -> None:
        self.texts.append(text)


def small(**facts: Any) -> tk.Study:
    random = np.random.default_rng(0)
    x = random.normal(size=(120, 2))
    frame = pd.DataFrame(x, columns=["a", "b"]).assign(y=x[:, 0] + random.normal(size=120) / 9)
    return tk.Study("small", data=tk.Table(frame, target="y"), split=tk.Holdout(), **facts)


def test_known_good_values_come_first_then_the_defaults(tmp_path) -> None:
    study = small(families=[tk.Linear()], start_from=[tk.start_from({"l2": 0.5}), tk.start_from({"l2": 0.25})])
    trials = study.run(trials=3, workers=1, root=tmp_path, observers=[]).summary["trials"]
    assert [trial["values"]["l2"] for trial in trials] == [0.5, 0.25, 3.0]


def test_values_given_later_are_tried_on_resume(tmp_path) -> None:
    small(families=[tk.Linear()]).run(trials=1, workers=1, root=tmp_path, observers=[])
    study = small(families=[tk.Linear()], start_from=[tk.start_from({"l2": 0.5}, family="linear")])
    trials = study.run(trials=3, workers=1, root=tmp_path, observers=[]).summary["trials"]
    assert [trial["values"]["l2"] for trial in trials] == [3.0, 3.0, 0.5], "after what was planned before"


def test_what_is_ignored_is_told(tmp_path) -> None:
    watcher = Messages()
    study = small(families=[tk.Linear()], start_from=[tk.start_from({"l2": -1.0, "depth": 3})])
    trials = study.run(trials=1, workers=1, root=tmp_path, observers=[watcher]).summary["trials"]
    assert trials[0]["values"] == {"l2": 3.0, "numbers": "clipped"}
    assert (
        "000 linear: ignored depth (not asked for) and l2=-1.0 (not in the search space); it asks for l2, numbers"
        in watcher.texts
    )


def test_whose_values_they_are_must_be_clear() -> None:
    with pytest.raises(StudyError, match=r"is for family None; expected one of baseline, linear"):
        small(families=[tk.Baseline(), tk.Linear()], start_from=[tk.start_from({"l2": 1.0})])
    with pytest.raises(StudyError, match=r"is for family 'mlp'; expected one of linear"):
        small(families=[tk.Linear()], start_from=[tk.start_from({"l2": 1.0}, family="mlp")])
