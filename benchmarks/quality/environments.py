"""The environments of the peers, each with what it needs and nothing of tunekit's."""

import subprocess
import sys
import time
from pathlib import Path

SYSTEMS = ("tunekit", "autogluon", "flaml", "xgboost")
"""In the order in which they run."""

HOME = Path(__file__).parent / "systems"

# Each list is one call of pip. AutoGluon's torch comes first: a build for CPUs, where pip finds one, saves gigabytes.
NEEDS: dict[str, list[list[str]]] = {
    "autogluon": [["torch==2.13.0"], ["autogluon.tabular[all]==1.6.3", "pyarrow"]],
    "flaml": [["flaml[automl]==2.8.0", "pyarrow"]],
    "xgboost": [["xgboost-cpu==3.2.0", "optuna==5.0.0", "pandas", "pyarrow", "scikit-learn==1.9.1"]],
}


def python_of(system: str, cache: Path) -> Path:
    """The interpreter that a system runs with."""
    return Path(sys.executable) if system == "tunekit" else cache / system / "bin" / "python"


def install(system: str, cache: Path) -> None:
    """Make a system's environment, or bring it to what it should be."""
    if system == "tunekit":
        return
    begun = time.monotonic()
    python = python_of(system, cache)
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(cache / system)], check=True)
    for packages in NEEDS[system]:
        subprocess.run([str(python), "-m", "pip", "install", "-q", *packages], check=True)
    size = sum(path.lstat().st_size for path in (cache / system).rglob("*") if path.is_file())
    print(f"{system}: {cache / system}, {size / 1e9:.1f} GB, {time.monotonic() - begun:.0f} s", flush=True)


def command(system: str, cache: Path, folder: Path) -> list[str]:
    """What runs a system on the task of a folder.

    Raises:
        SystemExit: it has no environment yet.
    """
    python = python_of(system, cache)
    if not python.exists():
        sys.exit(f"{system} has no environment in {cache}; make it with --install")
    return [str(python), str(HOME / f"run_{system}.py"), str(folder)]
