"""The rooms of the house: who may import whom, which libraries live where, and what an import costs."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1] / "tunekit"

GROUND = {"errors", "plain", "bundle", "space", "trial", "objectives", "metrics", "data"}
MIDDLE = GROUND | {"families", "drivers", "ledger", "stopping", "tracking"}
UPPER = MIDDLE | {"training", "executors", "ensemble", "export", "advice"}

# Which rooms each room may import, beside itself.  A module that stands in no room fails: give it one.
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "plain": set(),
    "bundle": {"errors"},  # leaves the house: needs nothing but itself
    "space": {"errors"},
    "trial": {"errors", "space"},
    "objectives": {"errors", "trial"},
    "metrics": {"errors", "bundle"},  # how a prediction becomes a decision
    "data": {"errors", "bundle"},  # its column conversions
    "families": GROUND,
    "drivers": GROUND,
    "advice": GROUND | {"drivers"},  # their scales
    "stopping": GROUND,
    "tracking": GROUND,
    "ledger": GROUND | {"drivers", "stopping"},  # proposals and stops are part of what is recorded
    "training": MIDDLE | {"executors"},  # a trial is a job
    "executors": GROUND,
    "ensemble": GROUND | {"families"},  # stacks with their trees, and links as they do
    "export": MIDDLE | {"training", "executors", "ensemble"},  # above the study, whose result exports itself
    "report": GROUND | {"advice", "tracking"},  # below the study, whose result reports itself
    "study": UPPER | {"report"},
    "estimators": UPPER | {"study"},  # a study with scikit-learn's face
    "coach": UPPER | {"study"},  # looks at a study and at its search
    "serve": {"errors", "bundle"},  # predicts, and knows nothing of how it was searched
    "cli": UPPER | {"study", "coach", "serve"},
    "__main__": {"cli"},
    "__init__": set(),  # the public names are imported on first use
}

# Where each third-party library lives.  One that is not listed fails: give it a room.
ANYWHERE = set(ROOMS) - {"bundle"}
LIBRARIES: dict[str, set[str]] = {
    "numpy": set(ROOMS),
    "pandas": ANYWHERE,
    "scipy": ANYWHERE,
    "pyarrow": {"data"},
    "PIL": {"bundle"},  # imported only where a picture's file is read
    "sklearn": {
        "families",
        "metrics",
        "data",
        "executors",
        "ensemble",
        "estimators",
        "report",
        "coach",
    },  # executors: preloading only
    "joblib": {"study"},
    "threadpoolctl": {"ensemble"},
    "keras": {"families", "training", "export", "executors"},  # executors: preloading only
    "tensorboard": {"training"},
    "tensorflow": {"families", "training", "export", "executors"},
    "xgboost": {"families", "executors", "ensemble"},
    "lightgbm": {"families", "executors"},
    "catboost": {"families", "executors"},
    "optuna": {"advice", "drivers", "ledger", "stopping"},
    "hyperopt": {"drivers"},
    "keras_tuner": {"drivers", "families"},
    "sqlalchemy": {"ledger", "tracking"},  # the tables of Optuna, and of MLflow
    "fsspec": {"ledger"},
    "mlflow": {"tracking"},
    "cloudpickle": {"executors"},
    "psutil": {"executors"},
    "ray": {"executors"},
    "onnx": {"export"},
    "tf2onnx": {"export"},
    "skl2onnx": {"export"},
    "onnxruntime": {"bundle", "export"},
    "jinja2": {"report"},
    "plotly": {"report"},
    "kaleido": {"report"},
    "rich": {"cli", "tracking"},
    "typer": {"cli"},
    "fastapi": {"serve"},
    "pydantic": {"serve"},
    "pydantic_core": {"serve"},
    "uvicorn": {"serve"},
}

HEAVY = {
    "tensorflow",
    "keras",
    "mlflow",
    "optuna",
    "pandas",
    "sklearn",
    "xgboost",
    "onnxruntime",
    "plotly",
    "jinja2",
    "lightgbm",
    "catboost",
}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Every import of a module, wherever it stands: its line and its absolute dotted name."""
    package = ("tunekit", *path.relative_to(HOUSE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                start = package[: len(package) - level + 1] if level else ()
                base = ".".join([*start, *([module] if module else [])])
                yield from ((node.lineno, f"{base}.{alias.name}") for alias in names)
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield node.lineno, name


def wrong(room: str, name: str) -> str | None:
    """Why a room may not import this name; None where it may."""
    library, *inside = name.split(".")
    if library in sys.stdlib_module_names or name == "tunekit.__version__":
        return None
    if library != "tunekit":
        homes = LIBRARIES.get(library, set())
        return None if room in homes else f"{library} lives in {sorted(homes) or 'no room: give it one'}"
    if not inside or inside[0] not in ROOMS:
        return "inside the house a name is imported from its room, not from tunekit itself"
    allowed = ROOMS[room] | {room}
    return None if inside[0] in allowed else f"'{room}' may import {sorted(allowed)}"


def loaded(code: str) -> set[str]:
    """The top-level modules, beside the standard library's, that a fresh Python holds after this code."""
    script = f"{code}\nimport sys\nprint(*sys.modules)"
    run = [sys.executable, "-c", script]
    result = subprocess.run(run, cwd=HOUSE.parent, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return {name.partition(".")[0] for name in result.stdout.split()} - set(sys.stdlib_module_names)


@pytest.mark.parametrize("path", sorted(HOUSE.rglob("*.py")), ids=lambda path: str(path.relative_to(HOUSE)))
def test_a_module_imports_only_what_its_room_may(path: Path) -> None:
    room = path.relative_to(HOUSE).parts[0].removesuffix(".py")
    assert room in ROOMS, f"tunekit/{room} stands in no room of DESIGN.md"
    faults = [f"line {line}: {name}: {why}" for line, name in imports(path) if (why := wrong(room, name))]
    assert not faults, "\n".join(faults)


def test_no_two_rooms_import_each_other() -> None:
    below: set[str] = set()
    left = dict(ROOMS)
    while left:
        ready = {room for room, allowed in left.items() if allowed <= below}
        assert ready, f"these rooms import each other: {sorted(left)}"
        below |= ready
        left = {room: allowed for room, allowed in left.items() if room not in ready}


@pytest.mark.parametrize(
    ("room", "name", "allowed"),
    [
        ("study", "tunekit.ensemble.greedy", True),
        ("ensemble", "tunekit.study.Study", False),
        ("metrics", "tunekit.data.Table", False),
        ("bundle", "pandas", False),
        ("bundle", "onnxruntime", True),
        ("ledger", "optuna.storages", True),
        ("study", "optuna", False),
        ("report", "plotly.graph_objects", True),
        ("study", "plotly", False),
        ("report", "tunekit.study.result", False),
        ("cli", "tunekit.Study", False),
        ("cli", "tunekit.__version__", True),
        ("cli", "requests", False),
    ],
)
def test_the_tables_are_read_as_meant(room: str, name: str, allowed: bool) -> None:
    assert (wrong(room, name) is None) == allowed


def test_importing_tunekit_and_its_command_line_loads_nothing_heavy() -> None:
    assert not loaded("import tunekit, tunekit.cli") & HEAVY


def test_importing_the_bundle_loads_only_numpy_and_onnxruntime() -> None:
    alone = loaded("import numpy, onnxruntime")  # with what these two load themselves
    assert loaded("import tunekit.bundle") <= alone | {"tunekit"}
