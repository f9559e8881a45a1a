"""Bundles as models in MLflow: they load, serve and register without TensorFlow, and need no tunekit there."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from blends import frame, hard_frame, small_bundle  # type: ignore[import-not-found]
from test_tracking_mlflow import TRIALS, artifact, client, runs, search  # type: ignore[import-not-found]

from tunekit.bundle import Bundle
from tunekit.errors import StudyError
from tunekit.tracking.mirror import follow_a_move
from tunekit.tracking.mlflow import MlflowObserver
from tunekit.tracking.models import save_bundle_model

pytestmark = pytest.mark.usefixtures("kept_servers")

WITHOUT_TUNEKIT = """
import sys
sys.meta_path = [one for one in sys.meta_path if "editable" not in repr(one)]
sys.path = [one for one in sys.path if not __import__("os").path.exists(one + "/tunekit/cli")]
import importlib.util
assert importlib.util.find_spec("tunekit") is None
def refuse(*_, **__):
    raise AssertionError("unpickled")
import mlflow, pandas, pickle, cloudpickle
pickle.load = pickle.Unpickler = cloudpickle.load = refuse
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all: making its tables takes seconds."""
    made = tmp_path_factory.mktemp("m r") / "mlruns"
    for study in ("kept", "registered", "moved"):
        search(made, study, [], TRIALS[:1])
    return made


@pytest.fixture(autouse=True)
def no_server_of_the_developers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return small_bundle("binary", tmp_path_factory.mktemp("binary"))


@pytest.fixture(scope="module")
def saved(binary: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As MLflow keeps it."""
    path: Path = tmp_path_factory.mktemp("saved") / "model"
    save_bundle_model(binary[1], path)
    return path


def export(root: Path, study: str, folder: Path, **how: Any) -> MlflowObserver:
    """As `tunekit export` does, in a process of its own."""
    observer = MlflowObserver(root, flush_seconds=120)
    observer.attach(study)
    observer.bundle_written(folder, **how)
    observer.close()
    return observer


def models(root: Path, study: str) -> list[Any]:
    experiment = client(root).get_experiment_by_name(study).experiment_id
    return list(client(root).search_logged_models([experiment]))


def kept_bundle(model: Any) -> Path:
    return Path(model.artifact_location.removeprefix("file://").replace("%20", " ")) / "artifacts" / "bundle"


@pytest.mark.parametrize(
    "rows",
    [
        frame(30),
        hard_frame(),
        frame(5).assign(garden=[True, False, True, True, False]),
        frame(5).assign(street=frame(5)["street"].astype("category")),
        frame(5).convert_dtypes(),
    ],
    ids=["whole numbers, dates, gaps", "hard rows", "booleans", "categories", "pandas' own types"],
)
def test_the_model_predicts_any_frame_that_the_bundle_predicts(saved: Path, binary: Any, rows: pd.DataFrame) -> None:
    import mlflow.pyfunc

    expected = pd.DataFrame(binary[0].predict_columns(rows))
    pd.testing.assert_frame_equal(mlflow.pyfunc.load_model(str(saved)).predict(rows), expected)
    assert expected.columns.tolist() == ["prediction", "proba_no", "proba_yes"]


def test_the_model_says_what_it_takes_and_gives(saved: Path, binary: Any) -> None:
    from mlflow.models import Model

    model = Model.load(str(saved))
    names = [name for name, _ in binary[0].columns]
    assert model.get_input_schema().input_names() == names
    assert model.get_input_schema().required_input_names() == []
    assert model.get_output_schema().input_names() == ["prediction", "proba_no", "proba_yes"]
    example = model.load_input_example(str(saved))
    assert binary[0].predict(example).shape == (1,)
    needed = (saved / "requirements.txt").read_text().split()
    assert {one.partition("==")[0] for one in needed} == {"mlflow", "numpy", "onnxruntime", "pandas", "pillow"}
    assert not [path for path in saved.rglob("*") if path.suffix in (".pkl", ".pickle", ".joblib", ".pyc")]


def test_the_model_needs_neither_tunekit_nor_tensorflow_and_unpickles_nothing(saved: Path, binary: Any) -> None:
    script = f"""{WITHOUT_TUNEKIT}
model = mlflow.pyfunc.load_model({str(saved)!r})
print(model.predict(model.input_example)["proba_yes"].tolist())
print(sorted({{name.partition(".")[0] for name in sys.modules}} & {{"tensorflow", "keras", "xgboost", "onnx"}}))
print(sys.modules["tunekit"].__file__)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=saved, capture_output=True, text=True, check=False, env=_environment()
    )
    assert done.returncode == 0, done.stderr
    shares, heavy, reader = done.stdout.splitlines()
    assert json.loads(shares) == binary[0].predict_proba([binary[0].manifest["example"]])[:, 1].tolist()
    assert heavy == "[]"
    assert Path(reader).is_relative_to(saved)


def test_the_bundle_is_the_parents_model_and_an_earlier_one_is_replaced(
    root: Path, binary: Any, tmp_path: Path
) -> None:
    other = small_bundle("regression", tmp_path)
    export(root, "kept", other[1])
    [first] = models(root, "kept")
    export(root, "kept", binary[1])
    [model] = models(root, "kept")
    [parent], _ = runs(root, "kept")
    assert (model.name, model.source_run_id, str(model.status)) == ("bundle", parent.info.run_id, "READY")
    assert model.model_id in [one.model_id for one in parent.outputs.model_outputs]
    assert Bundle.load(kept_bundle(model)).task == "binary"
    assert not kept_bundle(first).exists()
    assert parent.data.tags["tunekit.bundle"] == str(binary[1].resolve())
    assert parent.info.status == "FINISHED"


def test_a_registered_bundle_stays_and_the_next_one_is_the_next_version(root: Path, binary: Any) -> None:
    assert export(root, "registered", binary[1], register="houses").registered() == "1"
    assert export(root, "registered", binary[1], register="houses").registered() == "2"
    assert export(root, "registered", binary[1], trial=7, register="houses of 7").registered() == "1"
    export(root, "registered", binary[1])
    versions = client(root).search_model_versions("name='houses'")
    assert sorted(version.version for version in versions) == [1, 2]
    assert sorted(model.name for model in models(root, "registered")) == ["bundle", "bundle", "bundle", "bundle_007"]
    script = f"""{WITHOUT_TUNEKIT}
mlflow.set_tracking_uri("sqlite:///{root.resolve().as_posix()}/mlflow.db")
model = mlflow.pyfunc.load_model("models:/houses/1")
print(len(model.predict(model.input_example)))
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, env=_environment())
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_what_can_not_be_registered_is_an_error(root: Path, binary: Any) -> None:
    with pytest.warns(UserWarning, match="no run of study 'never searched'"):
        observer = export(root, "never searched", binary[1], register="houses")
    with pytest.raises(StudyError, match=r"was written, but not registered: StudyError: MLflow at .* has no run"):
        observer.registered()


def test_models_are_found_after_the_folder_was_moved(root: Path, binary: Any, tmp_path: Path) -> None:
    export(root, "moved", binary[1], register="moved houses")
    there = tmp_path / "else where" / "mlruns"
    shutil.copytree(root, there)
    follow_a_move(there)
    [model] = models(there, "moved")
    assert kept_bundle(model).is_relative_to(there)
    assert Bundle.load(kept_bundle(model)).name == "houses"
    [version] = client(there).search_model_versions("name='moved houses'")
    address = client(there).get_model_version_download_uri("moved houses", version.version)
    assert address == model.artifact_location
    assert artifact(runs(there, "moved")[0][0], "summary.json").exists()


def _environment() -> dict[str, str]:
    """What a process of MLflow's finds; its commands are beside Python's."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return kept | {"PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true"}


@pytest.fixture
def served(saved: Path, tmp_path: Path) -> Iterator[str]:
    """The address of `mlflow models serve` on the model."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["-m", str(saved), "--env-manager", "local", "-h", "127.0.0.1", "-p", str(port)]
    command = [sys.executable, "-m", "mlflow", "models", "serve", *options]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=_environment(), start_new_session=True)
        try:
            address = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + 120
            while True:
                try:
                    urllib.request.urlopen(f"{address}/ping", timeout=5)
                    break
                except OSError:
                    assert server.poll() is None, (tmp_path / "log").read_text()
                    assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                    time.sleep(0.5)
            yield address
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(30)


@pytest.mark.slow
def test_mlflow_serves_the_model(served: str, binary: Any) -> None:
    rows = json.loads(hard_frame().to_json(orient="split", date_format="iso"))
    del rows["index"]
    whole = _asked(served, {"dataframe_split": rows})
    given = [dict(zip(rows["columns"], row, strict=True)) for row in rows["data"]]
    # text of JSON has fewer digits than float64
    expected = binary[0].predict_proba(given)[:, 1]
    assert [row["proba_yes"] for row in whole] == pytest.approx(expected.tolist(), abs=1e-6)
    assert len(_asked(served, {"dataframe_records": given[:3]})) == 3
    del given[0]["street"]
    with pytest.raises(urllib.error.HTTPError) as refused:
        _asked(served, {"dataframe_records": given[:1]})
    assert refused.value.code in (400, 500)
    assert "'street'" in refused.value.read().decode()


def _asked(address: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    request = urllib.request.Request(f"{address}/invocations", json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: list[dict[str, Any]] = json.loads(answer.read())["predictions"]
    return found
