"""A bundle as a model in MLflow: it loads, serves and registers there without TensorFlow, and without pickle.

MLflow is imported by the thread of `MlflowObserver`, which alone comes here.
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import LoggedModel
    from mlflow.models import Model, ModelSignature
    from mlflow.tracking import MlflowClient

SERVED = Path(__file__).with_name("served.py")
HOUSE = Path(__file__).parents[1]
READER = ("__init__.py", "errors.py", "bundle")
"""What of tunekit reads a bundle: the model brings it along."""

REQUIREMENTS = ("mlflow", "numpy", "onnxruntime", "pandas", "pillow")


def log_bundle(client: MlflowClient, run_id: str, folder: Path, name: str) -> LoggedModel:
    """Log a bundle as a model of a run, in place of an earlier one that is not registered.

    Args:
        client: of the store.
        run_id: of the run.
        folder: that `tunekit export` wrote.
        name: of the model; earlier ones of this name are replaced.
    """
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    run = client.get_run(run_id)
    earlier = _models_of(client, run.info.experiment_id, run_id, name)
    model = client.create_logged_model(run.info.experiment_id, name, run_id, model_type="tunekit")
    with tempfile.TemporaryDirectory() as place:
        written = Path(place) / "model"
        mlmodel = Model(
            artifact_path=model.artifact_location, model_uuid=model.model_id, run_id=run_id, model_id=model.model_id
        )
        save_bundle_model(folder, written, mlmodel)
        client.log_model_artifacts(model.model_id, str(written))
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    _delete_unregistered(client, run_id, earlier)
    return model


def register(client: MlflowClient, model: LoggedModel, name: str, *, local: bool) -> str:
    """Make a logged model the next version of a registered one; the version.

    Args:
        client: of the store.
        model: that was logged.
        name: of the registered model, made if it isn't there.
        local: whether the store is a database: MLflow would look for the model itself in the process-wide one.
    """
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = model.artifact_location if local else f"models:/{model.model_id}"
    return str(client.create_model_version(name, source, model.source_run_id, model_id=model.model_id).version)


def save_bundle_model(folder: Path, path: Path, model: Model | None = None) -> None:
    """Write a folder that `mlflow.pyfunc.load_model` and `mlflow models serve` take.

    Args:
        folder: that `tunekit export` wrote.
        path: to be created.
        model: what MLflow knows of it already.
    """
    import mlflow.pyfunc

    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as place:
        reader = Path(place) / "reader"
        for name in READER:
            _copy(HOUSE / name, reader / "tunekit" / name)
        shutil.copytree(folder, Path(place) / "bundle")
        mlflow.pyfunc.save_model(
            str(path),
            mlflow_model=model,
            python_model=str(SERVED),
            artifacts={"bundle": str(Path(place) / "bundle"), "reader": str(reader)},
            signature=_signature(manifest),
            input_example=_example(manifest),
            pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in REQUIREMENTS],
        )


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def _example(manifest: dict[str, Any]) -> pd.DataFrame | None:
    """One row; None where it would lack an array, of which large ones are left out."""
    import pandas as pd

    row = manifest["example"]
    if any(row[column["name"]] is None for column in manifest["columns"] if column["kind"] == "array"):
        return None
    names = pd.Index(list(row), dtype=object)  # MLflow compares them with a range, of which pandas' texts warn
    return pd.DataFrame([list(row.values())], columns=names)


def _signature(manifest: dict[str, Any]) -> ModelSignature:
    """The bundle's columns.

    Each takes "any" value, which the bundle itself then checks: where a column is declared a double, MLflow refuses
    whole numbers (int64), and as a string, categories of pandas'; booleans with gaps fit nothing.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import schema

    anything: Any = schema.AnyType  # published without types
    inputs: list[Any] = [
        schema.ColSpec(anything(), name=column["name"], required=False) for column in manifest["columns"]
    ]
    targets = manifest.get("targets") or [{"name": "", **{one: manifest[one] for one in ("task", "classes")}}]
    outputs: list[Any] = []
    for target in targets:
        label = f"_{target['name']}" if target["name"] else ""
        number = target["task"] == "regression"
        outputs.append(schema.ColSpec("double" if number else anything(), name=f"prediction{label}"))
        outputs += [schema.ColSpec("double", name=f"proba{label}_{one}") for one in target["classes"]]
    return ModelSignature(inputs=schema.Schema(inputs), outputs=schema.Schema(outputs))


def _models_of(client: MlflowClient, experiment: str, run_id: str, name: str) -> list[LoggedModel]:
    condition = f"source_run_id = '{run_id}' AND name = '{name}'"
    return list(client.search_logged_models([experiment], filter_string=condition))


def _delete_unregistered(client: MlflowClient, run_id: str, models: list[LoggedModel]) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    registered = {version.source for version in client.search_model_versions(f"run_id='{run_id}'")}
    for model in models:
        if {model.artifact_location, f"models:/{model.model_id}"} & registered:
            continue
        client.delete_logged_model(model.model_id)
        with suppress(NotImplementedError):  # some stores only grow
            repository: Any = get_artifact_repository(model.artifact_location, tracking_uri=client.tracking_uri)
            repository.delete_artifacts()
