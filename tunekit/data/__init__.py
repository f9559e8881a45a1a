"""Rows: read, typed, split, encoded and prepared."""

from tunekit.data.batches import Batches
from tunekit.data.dataset import Dataset
from tunekit.data.folds import Folds
from tunekit.data.images import Arrays, Images
from tunekit.data.kinds import infer_kind
from tunekit.data.preparation import Preparation
from tunekit.data.reading import GAPS, column_names, read_chunks, read_frame
from tunekit.data.schema import Column, Encoded, Schema
from tunekit.data.series import Series
from tunekit.data.split import (
    GroupHoldout,
    GroupKFold,
    Holdout,
    KFold,
    Split,
    StratifiedKFold,
    TimeHoldout,
    TimeSplit,
    default_split,
)
from tunekit.data.table import Table
from tunekit.data.text import Text
from tunekit.data.writing import write_chunks

__all__ = [
    "GAPS",
    "Arrays",
    "Batches",
    "Column",
    "Dataset",
    "Encoded",
    "Folds",
    "GroupHoldout",
    "GroupKFold",
    "Holdout",
    "Images",
    "KFold",
    "Preparation",
    "Schema",
    "Series",
    "Split",
    "StratifiedKFold",
    "Table",
    "Text",
    "TimeHoldout",
    "TimeSplit",
    "column_names",
    "default_split",
    "infer_kind",
    "read_chunks",
    "read_frame",
    "write_chunks",
]
