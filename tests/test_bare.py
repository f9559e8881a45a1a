"""`tunekit.bundle` in a virtual environment that has numpy and onnxruntime and nothing else."""

import importlib.util
import json
import subprocess
import venv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blends import frame, small_bundle  # type: ignore[import-not-found]

HOUSE = Path(__file__).parents[1]

SCRIPT = """
import importlib.util, json, sys
import tunekit.bundle
assert tunekit.Bundle is tunekit.bundle.Bundle
bundle = tunekit.Bundle.load(sys.argv[1])
rows = json.load(open(sys.argv[2]))
there = [name for name in ("pandas", "tensorflow", "keras", "xgboost", "sklearn", "onnx", "mlflow", "typer")
         if importlib.util.find_spec(name)]
found = [there, tunekit.__file__, sys.prefix, bundle.predict_columns(rows)]
print(json.dumps(found, default=lambda array: array.tolist()))
"""


@pytest.fixture(scope="module", params=["binary", "multiclass", "regression"])
def made(request, tmp_path_factory) -> Any:
    return small_bundle(request.param, tmp_path_factory.mktemp(request.param))


def check(python: Path, made: Any, folder: Path) -> None:
    """The bundle predicts there what it predicts here."""
    bundle, model, _ = made
    text = frame(20).to_json(orient="records", date_format="iso", double_precision=15)
    (folder / "rows.json").write_text(text)
    command = [str(python), "-c", SCRIPT, str(model), str(folder / "rows.json")]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(HOUSE)}
    )
    assert done.returncode == 0, done.stderr
    there, home, prefix, received = json.loads(done.stdout)
    assert (there, Path(home).parent, Path(prefix)) == ([], HOUSE / "tunekit", python.parents[1])
    expected = bundle.predict_columns(json.loads(text))
    assert received.keys() == expected.keys()
    for name, values in expected.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(received[name], values, rtol=1e-12)  # the same graph on the same machine
        else:
            assert received[name] == values.tolist()


def test_a_bundle_predicts_where_there_is_only_numpy_and_onnxruntime(made, tmp_path) -> None:
    """An empty environment, into which this one's two libraries are linked: no network is needed."""
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    packages = next((tmp_path / "bare").glob("lib/python*/site-packages"))
    for name in ("numpy", "onnxruntime"):
        found = importlib.util.find_spec(name)
        assert found is not None
        assert found.origin is not None
        home = Path(found.origin).parent
        for folder in (home, home.with_name(f"{name}.libs")):
            if folder.exists():
                (packages / folder.name).symlink_to(folder)
    check(tmp_path / "bare" / "bin" / "python", made, tmp_path)


@pytest.mark.slow
def test_a_bundle_predicts_where_only_numpy_and_onnxruntime_were_installed(tmp_path) -> None:
    """As whoever gets a bundle does it, in the versions that tunekit is tested with."""
    venv.create(tmp_path / "bare", with_pip=True, symlinks=True)
    python = tmp_path / "bare" / "bin" / "python"
    pinned = str(HOUSE / "constraints.txt")
    command = [str(python), "-m", "pip", "install", "-q", "numpy", "onnxruntime", "-c", pinned]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    check(python, small_bundle("binary", tmp_path), tmp_path)
