"""All that is needed to get the same result again."""

from __future__ import annotations

import platform
from importlib import metadata

from tunekit import __version__
from tunekit.report.material import Material
from tunekit.report.section import Cell, Section, Table

PACKAGES = (
    *("keras", "tensorflow", "xgboost", "lightgbm", "catboost", "scikit-learn", "optuna", "numpy", "pandas"),
    *("onnx", "onnxruntime", "mlflow"),
)


def reproduce(material: Material) -> Section:
    """Seed, data, split, versions and commands."""
    facts = [[Cell(name), Cell(value)] for name, value in material.facts.items()]
    told = [
        "With the same data, split, metric and seed, the same values give the same scores. Which values are tried also "
        "depends on how many trials the time allowed."
    ]
    packages = [[Cell(name), Cell(version)] for name, version in versions().items()]
    tables = [
        Table("The study", ("the study", ""), facts, wraps=True),
        Table("Versions where this page was made", ("versions where this page was made", ""), packages),
    ]
    return Section("reproduce", "How to reproduce it", told, tables=tables, code=list(material.commands))


def versions() -> dict[str, str]:
    """Of Python, of tunekit and of the packages that make a difference, as far as they are installed."""
    found = {"python": platform.python_version(), "tunekit": __version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
