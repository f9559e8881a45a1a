"""Starts MLflow's own web page on the studies' store, or TensorBoard's on their trials."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tunekit.errors import StudyError
from tunekit.tracking.mirror import follow_a_move
from tunekit.tracking.mlflow import QUIET

Tell = Callable[[str, Mapping[str, str]], None]


def serve(root: Path, port: int, tell: Tell) -> int:
    """Run `mlflow ui` on this machine's loopback address until it is ended; its exit code.

    Args:
        root: the `mlruns` folder.
        port: to listen on.
        tell: takes the one line that says where it is, and the same for programs.

    Raises:
        StudyError: there is nothing to show.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if uri and uri.startswith("http"):
        tell(f"MLFLOW_TRACKING_URI is set: the studies are on {uri}", {"url": uri})
        return 0
    if not uri:
        database = root / "mlflow.db"
        if not database.exists():
            raise StudyError(f"there is no {database}; run `tunekit search` first, or say --root where it was run")
        follow_a_move(root)
        uri = f"sqlite:///{database}"
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    return _serve("MLflow", command, port, tell)


def serve_tensorboard(root: Path, port: int, tell: Tell) -> int:
    """Run TensorBoard on this machine's loopback address until it is ended; its exit code.

    Args:
        root: the `mlruns` folder.
        port: to listen on.
        tell: takes the one line that says where it is, and the same for programs.

    Raises:
        StudyError: there is nothing to show.
    """
    studies = root / "studies"
    if not any(studies.glob("*/trials/*/tensorboard")):
        raise StudyError(
            f"no trial in {studies} was written down for TensorBoard; expected one: run `tunekit search --tensorboard` "
            "on a study with nets, or say --root where it was run"
        )
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(studies), "--host", "127.0.0.1"]
    return _serve("TensorBoard", [*command, "--port", str(port)], port, tell)


def _serve(name: str, command: list[str], port: int, tell: Tell) -> int:
    url = f"http://127.0.0.1:{port}"
    tell(f"{name} opens at {url} in some seconds; Ctrl-C ends it", {"url": url})
    try:
        return subprocess.run(command, env={**QUIET, **os.environ}, check=False).returncode
    except KeyboardInterrupt:
        return 0
