"""Families: named factories, each with a search space and strong defaults."""

from contextlib import suppress

from tunekit.errors import StudyError
from tunekit.families.base import Family, Fitted, Fold, Part
from tunekit.families.baseline import Baseline
from tunekit.families.boosting import XGBoost
from tunekit.families.cat_boost import CatBoost
from tunekit.families.convnet import ConvNet
from tunekit.families.factory import Keras
from tunekit.families.forest import Forest
from tunekit.families.joint import Joint
from tunekit.families.light_gbm import LightGBM
from tunekit.families.linear import Linear
from tunekit.families.mlp import MLP
from tunekit.families.neighbors import Neighbors
from tunekit.families.nets import NetData, NetFamily
from tunekit.families.pretrained import Pretrained
from tunekit.families.realmlp import RealMLP
from tunekit.families.recurrent import Recurrent
from tunekit.families.tabm import TabM
from tunekit.families.textnet import TextNet
from tunekit.families.wide_deep import WideDeep

__all__ = [
    "MLP",
    "Baseline",
    "CatBoost",
    "ConvNet",
    "Family",
    "Fitted",
    "Fold",
    "Forest",
    "Joint",
    "Keras",
    "LightGBM",
    "Linear",
    "Neighbors",
    "NetData",
    "NetFamily",
    "Part",
    "Pretrained",
    "RealMLP",
    "Recurrent",
    "TabM",
    "TextNet",
    "WideDeep",
    "XGBoost",
    "default_families",
]


def default_families(suits: str = "table") -> list[Family]:
    """What suits a kind of data, cheap ones first: they need no TensorFlow, which takes seconds to load.

    Args:
        suits: "table", "arrays", "images", "text" or "series".
    """
    if suits == "series":
        return [Baseline(), Linear(), XGBoost(), Recurrent()]
    if suits == "images":
        return [Baseline(), Linear(), Forest(), ConvNet()]
    if suits == "text":
        return [Baseline(), Linear(), XGBoost(), Forest(), TextNet()]
    if suits == "arrays":
        return [Baseline(), Linear(), XGBoost(), Forest(), MLP()]
    return [Baseline(), Linear(), XGBoost(), *_extra(), Forest(), TabM(), WideDeep(), MLP(), RealMLP()]


def _extra() -> list[Family]:
    """Other boosted trees, where their packages are installed."""
    found: list[Family] = []
    for family in (LightGBM, CatBoost):
        with suppress(StudyError):
            found.append(family())
    return found
