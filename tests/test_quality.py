"""The benchmark of quality: its judge, its ranks, and one heat in full."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.quality.__main__ import known
from benchmarks.quality.report import ranks, report
from benchmarks.quality.running import Heat
from benchmarks.quality.tables import SOURCES, judged, write_split


def measured(system: str, table: str, score: float | None, seed: int = 0) -> dict[str, Any]:
    """What a heat leaves; it failed if there is no score."""
    told: dict[str, Any] = {"system": system, "table": table, "seed": seed, "seconds": 9.0, "peak_bytes": 2e8}
    if score is None:
        return {**told, "error": "exit code 1: no time"}
    return {**told, "error": None, "score": score, "fit_seconds": 8.0, "latency_ms": 0.5, "size_bytes": 3e6}


def test_ranks_follow_the_metric_and_failures_come_last() -> None:
    found = [
        measured("tunekit", "ames", 20_000.0),
        measured("flaml", "ames", 21_000.0),  # an error: less is better
        measured("tunekit", "spam7", 0.95),
        measured("flaml", "spam7", 0.97),  # more is better
        measured("tunekit", "diamonds", 550.0),
        measured("flaml", "diamonds", None),
        measured("tunekit", "attrition", 0.7),  # the other was not tried
    ]
    assert ranks(found, ["tunekit", "flaml"]) == {"tunekit": [1.0, 2.0, 1.0], "flaml": [2.0, 1.0, 2.0]}


def test_the_report_shows_scores_means_and_what_failed() -> None:
    found = [measured("tunekit", "ames", 20_000.0), measured("flaml", "ames", None)]
    text = report(found, ["tunekit", "flaml"])
    assert "| ames | rmse (down) | 0 | 20,000 | failed |" in text
    assert "| mean rank | 1.00 of 1 | 2.00 of 1 |" in text
    assert "| one row, median | 0.50 ms | - |" in text
    assert "flaml on ames, seed 0: exit code 1: no time" in text


def test_what_was_measured_elsewhere_is_known(tmp_path: Path) -> None:
    heats = [measured("tunekit", "ames", 20_000.0), measured("flaml", "ames", None)]
    for name, cores in (("one.json", 1), ("two.json", 2)):
        (tmp_path / name).write_text(json.dumps({"budget": 120.0, "cores": cores, "heats": heats}))
    found = known([tmp_path / "one.json", tmp_path / "two.json"], 120.0, 2)
    assert found == {Heat("tunekit", "ames", 0, 120.0, 2): heats[0]}, "what failed is run again"
    assert known([tmp_path / "one.json"], 600.0, 1) == {}


def saved(folder: Path, predictions: Any, classes: list[str]) -> Path:
    path = folder / "predictions.npz"
    np.savez(path, predictions=np.asarray(predictions, dtype=float), classes=np.array(classes, dtype=np.str_))
    return path


def test_the_judge_reads_the_second_class_as_the_one_that_is_looked_for(tmp_path: Path) -> None:
    truth = pd.DataFrame({"Attrition": ["No", "Yes", "No", "Yes"]})
    right = [[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]]
    assert judged("attrition", truth, saved(tmp_path, right, ["No", "Yes"])) == 1.0
    with pytest.raises(ValueError, match="expected them for"):
        judged("attrition", truth, saved(tmp_path, right, ["Yes", "No"]))
    with pytest.raises(ValueError, match="predictions for 4 rows"):
        judged("attrition", truth, saved(tmp_path, right[:3], ["No", "Yes"]))


def test_no_system_sees_the_targets_that_judge(tmp_path: Path) -> None:
    task = write_split("Sacramento", 0, tmp_path)
    train, test = pd.read_parquet(task["train"]), pd.read_parquet(task["test"])
    assert SOURCES["Sacramento"].target in train
    assert SOURCES["Sacramento"].target not in test
    whole = len(SOURCES["Sacramento"].rows())
    assert len(train) + len(test) == whole
    assert len(test) == pytest.approx(0.2 * whole, abs=1)


def test_what_was_measured_is_not_measured_again_but_what_failed_is(tmp_path: Path) -> None:
    heat = Heat("flaml", "ames", 0, 120.0, 2)
    assert heat.known(tmp_path) is None
    heat.place(tmp_path).mkdir(parents=True)
    for one, kept in ((measured("flaml", "ames", None), False), (measured("flaml", "ames", 1.0), True)):
        (heat.place(tmp_path) / "measured.json").write_text(json.dumps(one))
        assert (heat.known(tmp_path) is not None) == kept
    assert Heat("flaml", "ames", 0, 600.0, 2).known(tmp_path) is None  # another budget is another matter


@pytest.mark.slow
def test_a_heat_of_tunekit_leaves_its_figures_and_no_model(tmp_path: Path) -> None:
    heat = Heat("tunekit", "Sacramento", 0, 20.0, 2)
    found = heat.run(tmp_path)
    assert found["error"] is None
    prices = pd.read_parquet(tmp_path / "splits" / "Sacramento" / "0" / "truth.parquet")["price"]
    assert found["score"] < prices.std()  # better than their mean
    assert found["latency_ms"] > 0
    assert found["size_bytes"] > 1000
    assert found["peak_bytes"] > 100e6  # a Python with its libraries is not smaller
    assert heat.known(tmp_path) == found
    assert not (heat.place(tmp_path) / "model").exists()
