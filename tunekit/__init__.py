"""Search, track and blend Keras nets, boosted trees and wide-and-deep models; export one safe file that predicts.

Public names are imported on first use, so that `import tunekit` costs nothing and
`tunekit.bundle` needs only numpy and onnxruntime.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Arrays": "tunekit.data",
    "Baseline": "tunekit.families",
    "Batches": "tunekit.data",
    "Bundle": "tunekit.bundle",
    "CatBoost": "tunekit.families",
    "ConvNet": "tunekit.families",
    "Forest": "tunekit.families",
    "GroupHoldout": "tunekit.data",
    "GroupKFold": "tunekit.data",
    "Halving": "tunekit.stopping",
    "Holdout": "tunekit.data",
    "HyperParameters": "tunekit.space",
    "Images": "tunekit.data",
    "Joint": "tunekit.families",
    "KFold": "tunekit.data",
    "Keras": "tunekit.families",
    "LightGBM": "tunekit.families",
    "Limits": "tunekit.executors",
    "Linear": "tunekit.families",
    "MLP": "tunekit.families",
    "Median": "tunekit.stopping",
    "Metric": "tunekit.metrics",
    "Neighbors": "tunekit.families",
    "NeverStop": "tunekit.stopping",
    "Pretrained": "tunekit.families",
    "RealMLP": "tunekit.families",
    "Recurrent": "tunekit.families",
    "Series": "tunekit.data",
    "StratifiedKFold": "tunekit.data",
    "Study": "tunekit.study",
    "TabM": "tunekit.families",
    "Table": "tunekit.data",
    "Text": "tunekit.data",
    "TextNet": "tunekit.families",
    "TimeHoldout": "tunekit.data",
    "TimeSplit": "tunekit.data",
    "TunekitClassifier": "tunekit.estimators",
    "TunekitRegressor": "tunekit.estimators",
    "WideDeep": "tunekit.families",
    "XGBoost": "tunekit.families",
    "from_study": "tunekit.study",
    "start_from": "tunekit.study",
}
_ROOMS = ("bundle", "data", "drivers", "ensemble", "errors", "families", "metrics", "space", "stopping")

__all__ = sorted([*_HOMES, *_ROOMS])  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"tunekit.{name}")
    raise AttributeError(f"module 'tunekit' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
