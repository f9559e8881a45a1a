"""A blend under a limit of latency or size: what is selected, what is said, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tunekit as tk
from tunekit.bundle import Bundle
from tunekit.errors import ExportError, StudyError
from tunekit.study.result import Result
from tunekit.study.serving import Serving
from tunekit.tracking.summary import summary_text

pytestmark = pytest.mark.usefixtures("kept_servers")


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A search whose best models are small and whose others are large, all worth a part of the blend."""
    import pandas as pd

    random = np.random.default_rng(0)
    table = pd.DataFrame(random.normal(size=(500, 4)), columns=list("abcd"))
    table["kind"] = random.choice(["x", "y", "z"], 500)
    table["y"] = table.a + np.sin(2 * table.b) + (table.kind == "x") * table.c + random.normal(0, 0.3, 500)
    families = [tk.Baseline(), tk.Linear(), tk.XGBoost(), tk.Forest()]
    data = tk.Table(table, target="y")
    study = tk.Study("limited", data=data, metric="rmse", families=families, split=tk.KFold(2), seed=1)
    root = tmp_path_factory.mktemp("limited") / "mlruns"
    found: Result = study.run(root=root, trials=5, workers=1, observers=[], size="300KB")
    return found


def size_of(folder: Path) -> float:
    return (folder / "model.onnx").stat().st_size / 1e6


def members_of(bundle: Bundle) -> list[str]:
    return [member["label"] for member in bundle.manifest["members"]]


def test_a_blend_within_the_limits_stays_as_it_is(result: Result, tmp_path: Path) -> None:
    said: list[str] = []
    bundle = Bundle.load(result.export(tmp_path / "model", size=500, latency="1s", tell=said.append))
    assert members_of(bundle) == [
        f"{one['trial']:03d} {one['family']}" for one in result.summary["ensemble"]["members"]
    ]
    assert said[0].startswith("the blend costs ")
    assert "within 1,000 ms and 500 MB" in said[0]


def test_a_smaller_blend_is_selected_and_its_cost_told(result: Result, tmp_path: Path) -> None:
    whole = result.summary["ensemble"]
    limit = 0.3
    said: list[str] = []
    folder = result.export(tmp_path / "model", size=limit, tell=said.append)
    bundle = Bundle.load(folder)
    assert 0 < size_of(folder) <= limit
    told = bundle.manifest["facts"]["ensemble"]
    assert told["serving"]["limits"] == {"size": limit}
    # The gate writes a graph deterministically, the measure doesn't: that differs by a few bytes of order.
    assert told["serving"]["costs"]["size"] == pytest.approx(size_of(folder), rel=0.01)
    assert said == [told["serving"]["told"]]
    assert f"{whole['oof_score']:.5g}" in said[0]
    assert f"{told['test_score']:.5g}" in said[0]
    assert told["verdict"]
    assert np.isfinite(bundle.predict([{"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4, "kind": "x"}])).all()


def test_the_limits_of_a_search_count_when_it_is_exported(result: Result, tmp_path: Path) -> None:
    assert result.summary["serving"] == {"size": 0.3}
    assert size_of(result.export(tmp_path / "model")) <= 0.3
    assert size_of(result.export(tmp_path / "larger", size="100MB")) > 0.3, "what export is told comes first"
    alone = next(one["number"] for one in result.summary["trials"] if one["family"] == "forest")
    assert size_of(result.export(tmp_path / "alone", trial=alone)) > 0.3, "limits select a blend, not a single trial"


def test_an_impossible_limit_says_what_is_possible(result: Result, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"no blend is within 0.001 MB: .* \(the smallest possible: 0\.0\d+ MB\)"):
        result.export(tmp_path / "model", size="1KB")
    with pytest.raises(ExportError, match=r"the smallest possible: .* ms, .* MB"):
        result.export(tmp_path / "model", size="1KB", latency="1us")
    with pytest.raises(ExportError, match=r"no blend is within 0.0009 MB \(of 0.001 MB, which leaves room for models"):
        result.export(tmp_path / "model", size="1KB", refit=True)
    assert not (tmp_path / "model").exists()


def test_members_that_are_fitted_once_more_are_measured_as_such(result: Result, tmp_path: Path) -> None:
    limit = 0.3
    said: list[str] = []
    of_folds = Bundle.load(result.export(tmp_path / "folds", size=limit)).manifest["facts"]["ensemble"]
    folder = result.export(tmp_path / "once", size=limit, refit=True, tell=said.append)
    of_all = Bundle.load(folder).manifest["facts"]["ensemble"]
    assert limit / 3 < size_of(folder) <= limit
    assert of_all["serving"]["costs"]["size"] == pytest.approx(size_of(folder), rel=0.01)
    assert of_all["oof_score"] < of_folds["oof_score"], (
        "one model a member takes less room: more of them, or better ones"
    )
    assert "with one model a member" in said[0]
    assert said[-1] == f"what was fitted on all rows costs {of_all['serving']['costs']['size']:.3g} MB"


def test_members_that_grew_beyond_the_limits_are_selected_again(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def grown(said: list[str]) -> list[float]:
        return [float(text.split()[-2]) for text in said if text.startswith("what was fitted on all rows costs")]

    whole: list[str] = []
    result.export(tmp_path / "whole", size=100, refit=True, tell=whole.append)
    limit = 0.97 * grown(whole)[0]  # the whole blend is within that before it learns from all rows
    monkeypatch.setattr("tunekit.study.bundling.ROOM", 1.0)
    said: list[str] = []
    assert size_of(result.export(tmp_path / "model", size=limit, refit=True, tell=said.append)) <= limit
    costs = grown(said)
    assert len(costs) > 1
    assert costs[0] > limit >= costs[-1]
    monkeypatch.setattr("tunekit.study.bundling.TRIES", 1)
    with pytest.raises(ExportError, match=r"fitted on all rows, the blend costs .* MB .*; expected .* MB at most"):
        result.export(tmp_path / "other", size=limit, refit=True)
    assert not (tmp_path / "other").exists()


def test_a_trial_and_a_limit_contradict_each_other(result: Result, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="trial=1 with a limit of latency or size; expected one"):
        result.export(tmp_path / "model", trial=1, latency=2)


def test_the_summary_says_how_members_are_combined(result: Result) -> None:
    combination = result.summary["ensemble"]["combination"]
    assert {"name", "told", "why", "on_rows_apart", "threshold", "tried", "fitted"} == set(combination)
    assert combination["on_rows_apart"]
    shown = " ".join(summary_text(result.summary).split())
    assert f"combined by {combination['told']}" in shown
    assert f"chosen: {combination['why']}" in shown


@pytest.mark.parametrize(
    ("latency", "size", "limits"),
    [
        ("2ms", None, {"latency": 2.0}),
        (2, "20MB", {"latency": 2.0, "size": 20.0}),
        ("0.3 s", "500 KB", {"latency": 300.0, "size": 0.5}),
        (None, 1.5, {"size": 1.5}),
    ],
)
def test_limits_are_read(latency: Any, size: Any, limits: dict[str, float]) -> None:
    serving = Serving.of(latency, size)
    assert serving is not None
    assert serving.limits == pytest.approx(limits)
    assert Serving.from_plain(serving.limits) == serving


@pytest.mark.parametrize("wrong", [{"latency": "soon"}, {"size": "small"}, {"latency": 0}, {"size": -1}])
def test_limits_that_are_none_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(StudyError, match="expected"):
        Serving.of(wrong.get("latency"), wrong.get("size"))


def test_no_limit_is_none() -> None:
    assert Serving.of(None, None) is None
    assert Serving.from_plain(None) is None
