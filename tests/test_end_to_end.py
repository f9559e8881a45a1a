"""From a table to a file of predictions through the command line, once per task, each command a process of its own."""

import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from searches import (  # type: ignore[import-not-found]
    attrition,
    check_mirror,
    houses,
    penguins,
    run,
    shown,
    tunekit,
    write_study,
)
from sklearn.metrics import mean_poisson_deviance
from typer.testing import CliRunner

import tunekit as tk
from tunekit.bundle import Bundle
from tunekit.cli import app
from tunekit.coach import check_study
from tunekit.errors import TunekitError

LIGHT = "tk.Baseline(), tk.Linear(), tk.XGBoost()"
TRIAL = {"number", "family", "state", "interrupted", "score", "fold_scores", "values", "seconds", "error"}
ENSEMBLE = {"members", "oof_score", "test_score", "test_interval", "best_single", "verdict"}


def check_summary(summary: dict[str, Any], folds: int) -> None:
    """What `show --json` promises in DESIGN.md."""
    assert {"study", "metric", "direction", "baseline", "trials", "ensemble"} <= set(summary)
    assert summary["direction"] in ("minimize", "maximize")
    numbers = [trial["number"] for trial in summary["trials"]]
    assert numbers == sorted(set(numbers))
    for trial in summary["trials"]:
        assert set(trial) >= TRIAL
        if trial["state"] == "complete":
            assert len(trial["fold_scores"]) == folds
            # a mean, summed in the same order
            assert math.isclose(trial["score"], np.mean(trial["fold_scores"]), rel_tol=1e-12)
            assert trial["error"] is None
            assert trial["seconds"] > 0
    assert isinstance(summary["baseline"], float)
    check_ensemble(summary)


def check_ensemble(summary: dict[str, Any]) -> None:
    ensemble = summary["ensemble"]
    assert set(ensemble) >= ENSEMBLE
    trials = {trial["number"]: trial for trial in summary["trials"]}
    # weights are shares of at most some hundred picks: what is lost is float64's rounding
    assert math.isclose(sum(member["weight"] for member in ensemble["members"]), 1.0, rel_tol=1e-9)
    for member in ensemble["members"]:
        trial = trials[member["trial"]]
        assert (member["family"], member["score"]) == (trial["family"], trial["score"])
        assert trial["state"] == "complete"
        assert 0 < member["weight"] <= 1
    fitted = {trial["family"] for trial in summary["trials"] if trial["state"] == "complete"}
    if fitted != {"baseline"}:
        assert "baseline" not in {member["family"] for member in ensemble["members"]}, "it is what others are judged by"
    scores = [trial["score"] for trial in summary["trials"] if trial["state"] == "complete"]
    best = min(scores) if summary["direction"] == "minimize" else max(scores)
    assert ensemble["best_single"]["score"] == best
    judged = [ensemble["test_interval"], ensemble["best_single"]["test_interval"], ensemble["test_baseline_interval"]]
    for low, high in filter(None, judged):
        assert low <= high
    assert judged[1], "the single has one, too; the baseline only where it was fitted on every fold"
    assert ensemble["verdict"]


def check_predictions(folder: Path, rows: pd.DataFrame, target: str) -> pd.DataFrame:
    """Predict a CSV file with `model/`: the file holds what `Bundle` predicts of the frame, row by row."""
    new = rows.drop(columns=target)
    new.to_csv(folder / "new.csv", index=False)
    tunekit(folder, "predict", "model", "new.csv", "-o", "out.csv")
    written = pd.read_csv(folder / "out.csv")
    bundle = Bundle.load(folder / "model")
    assert written["prediction"].tolist() == bundle.predict(new).tolist()  # 17 digits are written: the same float64
    if bundle.task == "regression":
        assert written.columns.tolist() == ["prediction"]
    else:
        assert written.columns.tolist() == ["prediction", *(f"proba_{name}" for name in bundle.classes)]
        shares = written.drop(columns="prediction").to_numpy()
        np.testing.assert_array_equal(shares, bundle.predict_proba(new))
        # sums of float32 probabilities
        np.testing.assert_allclose(shares.sum(axis=1), 1.0, atol=1e-5)
    turned = new.iloc[::-1]
    # the same rows elsewhere in a batch: vector instructions may add float32 numbers in another order
    if bundle.task == "regression":
        np.testing.assert_allclose(bundle.predict(turned), written["prediction"][::-1], rtol=1e-5)
    else:
        np.testing.assert_allclose(bundle.predict_proba(turned), shares[::-1], atol=1e-5)
    return written


def refused(*arguments: Any) -> str:
    """Why a command fails; in this process, which saves the start of another."""
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    assert done.exit_code == 1, done.output
    assert isinstance(done.exception, TunekitError), done.exception
    return str(done.exception)


# Binary, without TensorFlow: the quick one


@pytest.fixture(scope="module")
def searched(tmp_path_factory) -> Path:
    """A folder with a table, its study, and the ledger of a search that ended."""
    folder: Path = tmp_path_factory.mktemp("binary")
    attrition().to_csv(folder / "train.csv", index=False)
    data = 'tk.Table(HERE / "train.csv", target="Attrition")'
    write_study(folder, data, LIGHT, options="split=tk.StratifiedKFold(2)", run="trials=4, workers=1")
    printed = tunekit(folder, "search", "study.py", "--trials", "4", "--workers", "1").stdout
    assert "tunekit export" in printed  # says what to do next
    return folder


@pytest.fixture(scope="module")
def exported(searched) -> Path:
    told = json.loads(tunekit(searched, "export", "study.py", "-o", "model", "--json").stdout)
    assert (told["folder"], told["format"], told["registered_version"]) == ("model", "bundle", None)
    assert told["size_mb"] > 0
    printed = tunekit(searched, "export", "study.py", "-o", "model", "--register", "people", "--force").stdout
    assert "registered people, version 1" in printed
    return Path(searched)


def test_a_search_leaves_its_trials_and_a_blend(searched) -> None:
    summary = shown(searched)
    again = tunekit(searched, "search", "study.py", "--trials", "4", "--json")  # nothing is left to do
    assert json.loads(again.stdout)["trials"] == summary["trials"]
    assert "small" in again.stderr, "people are told aside"
    check_summary(summary, folds=2)
    assert (summary["study"], summary["metric"], summary["direction"]) == ("small", "average_precision", "maximize")
    assert [trial["state"] for trial in summary["trials"]] == ["complete"] * 4
    assert {trial["family"] for trial in summary["trials"]} == {"baseline", "linear", "xgboost"}
    check_mirror(searched / "mlruns", summary["trials"])


def test_what_is_exported_predicts_a_file(exported) -> None:
    written = check_predictions(exported, attrition(), "Attrition")
    assert set(written["prediction"]) <= {"No", "Yes"}
    assert ((written["proba_Yes"] >= 0.5) == (written["prediction"] == "Yes")).all()
    bundle = Bundle.load(exported / "model")
    assert bundle.classes == ["No", "Yes"]
    files = {path.name for path in (exported / "model").iterdir()}
    assert "manifest.json" in files
    assert not [name for name in files if name.endswith((".pkl", ".pickle", ".joblib"))]
    kept = list((exported / "mlruns" / "artifacts").glob("models/*/artifacts/artifacts/bundle/manifest.json"))
    assert len(kept) == 1  # the parent run's model
    assert kept[0].read_bytes() == (exported / "model" / "manifest.json").read_bytes()


def test_a_bundle_with_a_changed_byte_is_refused(exported, tmp_path) -> None:
    attrition(5).drop(columns="Attrition").to_csv(tmp_path / "new.csv", index=False)
    for name in [path.name for path in (exported / "model").iterdir()]:
        spoiled = tmp_path / f"spoiled_{name}"
        shutil.copytree(exported / "model", spoiled)
        content = bytearray((spoiled / name).read_bytes())
        content[len(content) // 2] ^= 1
        (spoiled / name).write_bytes(content)
        told = refused("predict", spoiled, tmp_path / "new.csv", "-o", tmp_path / "out.csv")
        assert name in told
        assert not (tmp_path / "out.csv").exists()


def test_an_export_does_not_overwrite_what_is_there(exported, tmp_path) -> None:
    before = (exported / "model" / "manifest.json").read_bytes()
    told = refused("export", exported / "study.py", "-o", exported / "model", "--root", exported / "mlruns")
    assert "model" in told
    assert (exported / "model" / "manifest.json").read_bytes() == before


def test_run_again_it_resumes(exported, tmp_path) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "copy"))
    before = shown(folder)["trials"]
    tunekit(folder, "search", "study.py", "--trials", "6", "--workers", "1")
    summary = shown(folder)
    check_summary(summary, folds=2)
    assert summary["trials"][:4] == before
    assert [trial["number"] for trial in summary["trials"]] == list(range(6))
    check_mirror(folder / "mlruns", summary["trials"])


def test_what_was_searched_with_another_seed_is_read_with_it(tmp_path) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(90, 3)), columns=["a", "b", "target"])

    def study(seed: int) -> tk.Study:
        return tk.Study("seeds", data=tk.Table(table, target="target"), families=[tk.Linear()], seed=seed)

    study(5).run(root=tmp_path / "mlruns", trials=1, workers=1, observers=[])  # as search --seed 5 does
    result = study(0).result(tmp_path / "mlruns")
    assert result.study.seed == 5
    assert len(tk.Bundle.load(result.export(tmp_path / "model")).predict(table)) == 90
    assert not [one for one in check_study(study(0), tmp_path / "mlruns") if one.kind == "other-trials"]


@pytest.mark.parametrize("target", ["count", ["count", "size"]])
def test_what_a_metric_has_no_value_for_is_not_predicted(tmp_path, target) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(300, 3)), columns=["a", "b", "size"])
    table["count"] = rng.poisson(np.exp(1.5 * table["a"]))
    data = tk.Table(table, target=target, kinds={"count": "number"})
    metric: Any = "neg_mean_poisson_deviance"
    if target != "count":
        metric = {"count": metric, "size": "rmse"}
    study = tk.Study("counts", data=data, metric=metric, families=[tk.Baseline(), tk.Linear()], split=tk.KFold(3))
    result = study.run(root=tmp_path / "mlruns", trials=3, workers=1, observers=[])
    assert {trial["state"] for trial in result.summary["trials"]} == {"complete"}
    test = table.iloc[study.prepare().folds.test]
    for trial in (None, 1):
        bundle = tk.Bundle.load(result.export(tmp_path / f"model{trial}", trial=trial))
        found = bundle.predict(table)
        counts = np.asarray(found if target == "count" else found["count"])
        least = study.prepare().least
        assert least is not None
        assert (counts >= 0.999 * least[0]).all()
        assert (counts < 1.001 * least[0]).sum() > 10, "a linear model predicts less than nothing for some"
    if target == "count":
        blend = mean_poisson_deviance(test["count"], np.asarray(tk.Bundle.load(tmp_path / "modelNone").predict(test)))
        assert blend == pytest.approx(result.summary["ensemble"]["test_score"], rel=1e-4)


def test_a_search_on_other_data_is_refused(searched, tmp_path) -> None:
    folder = Path(shutil.copytree(searched, tmp_path / "copy"))
    before = shown(folder)
    table = attrition()
    table.loc[0, "Age"] += 1
    table.to_csv(folder / "train.csv", index=False)
    told = refused("search", folder / "study.py", "--trials", 9, "--root", folder / "mlruns")
    assert "data was" in told
    assert "--fresh" in told
    assert shown(folder) == before
    told = refused("export", folder / "study.py", "-o", folder / "other", "--root", folder / "mlruns")
    assert "data was" in told
    assert not (folder / "other").exists()


@pytest.mark.slow  # a search from the start, and one that goes on
def test_python_and_the_command_line_and_resuming_do_the_same(searched, tmp_path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    for name in ("study.py", "train.csv"):
        shutil.copy(searched / name, folder)
    run([sys.executable, "study.py"], folder)

    def told(summary: dict[str, Any]) -> list[Any]:
        names = ("number", "family", "state", "score", "fold_scores", "values")
        return [{name: trial[name] for name in names} for trial in summary["trials"]]

    one, other = shown(searched), shown(folder)
    assert told(one) == told(other)
    assert one["ensemble"] == other["ensemble"]
    # Four trials and then two more, or six at once: proposals depend on the history alone.
    for root in ("mlruns", "whole"):  # in this process, which saves the start of two others
        again = ["search", folder / "study.py", "--trials", 6, "--workers", 1, "--root", folder / root]
        assert CliRunner().invoke(app, [str(one) for one in again]).exit_code == 0
    assert told(shown(folder)) == told(shown(folder, root="whole"))


# Multiclass, as `tunekit init` writes it: a baseline, and all families of tables but nets


@pytest.mark.slow
def test_multiclass_with_the_study_that_init_writes(tmp_path) -> None:
    table = penguins()
    table.to_csv(tmp_path / "penguins.csv", index=False)
    told = tunekit(tmp_path, "init", "penguins.csv", "--target", "species").stdout
    assert "multiclass" in told
    tunekit(tmp_path, "search", "study.py", "--trials", "4")  # nets come next: ten folds would take minutes each
    summary = shown(tmp_path)
    check_summary(summary, folds=10)  # five, drawn twice: there are few penguins
    families = {trial["family"] for trial in summary["trials"] if trial["state"] == "complete"}
    assert families == {"baseline", "linear", "xgboost", "forest"}
    failed = {trial["family"]: trial["error"] for trial in summary["trials"] if trial["state"] == "failed"}
    assert failed == {}
    assert summary["ensemble"]["oof_score"] < summary["baseline"] / 4  # species are told apart by eye
    tunekit(tmp_path, "export", "study.py", "-o", "model")
    written = check_predictions(tmp_path, table, "species")
    # most of these rows were trained on; a blend that errs on one in twenty of them would have lost its columns
    assert (written["prediction"] == table["species"]).mean() > 0.95
    check_mirror(tmp_path / "mlruns", summary["trials"])


# Regression, with a net of one's own


NETS = """
def build(hp):
    model = keras.Sequential([keras.layers.Dense(hp.Int("units", 8, 32, step=8), activation="relu")])
    model.add(keras.layers.Dense(1))
    model.compile(keras.optimizers.Adam(hp.Float("lr", 1e-3, 1e-1, sampling="log", default=1e-2)), loss="mse")
    return model


def net(hp, data):
    inputs, x = data.keras_inputs()
    x = keras.layers.Dense(16, activation="relu")(x)
    x = keras.layers.BatchNormalization()(x)
    model = keras.Model(inputs, data.keras_head(x))
    model.compile(keras.optimizers.Adam(hp.Float("lr", 1e-3, 1e-1, sampling="log", default=1e-2)), loss=data.loss)
    return model
"""


@pytest.mark.slow
def test_regression_with_nets_of_ones_own(tmp_path) -> None:
    table = houses()
    table.to_parquet(tmp_path / "houses.parquet", index=False)
    write_study(
        tmp_path,
        'tk.Table(HERE / "houses.parquet", target="Sale_Price")',
        f"{LIGHT}, tk.Keras(build, epochs=8, batch_size=32), tk.Keras(net, epochs=8, batch_size=32)",
        code=NETS,
        options="split=tk.KFold(2)",
    )
    tunekit(tmp_path, "search", "study.py", "--trials", "5")
    summary = shown(tmp_path)
    check_summary(summary, folds=2)
    assert summary["metric"] == "rmse"
    assert [trial["error"] for trial in summary["trials"] if trial["state"] == "failed"] == []
    families = {trial["family"] for trial in summary["trials"] if trial["state"] == "complete"}
    assert families == {"baseline", "linear", "xgboost", "keras", "net"}
    assert summary["ensemble"]["oof_score"] < summary["baseline"]
    tunekit(tmp_path, "export", "study.py", "-o", "model")
    check_predictions(tmp_path, table, "Sale_Price")
    manifest = json.loads((tmp_path / "model" / "manifest.json").read_text())
    assert len(manifest["members"]) == len(summary["ensemble"]["members"])
    check_mirror(tmp_path / "mlruns", summary["trials"])
