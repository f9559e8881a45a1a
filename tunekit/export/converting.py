"""Converts a trial's nets to ONNX, in a process that has TensorFlow."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path

import onnx

from tunekit.data.targets import Target
from tunekit.executors import Place
from tunekit.export.nets import nets_to_onnx
from tunekit.export.plan import Member
from tunekit.families import NetFamily
from tunekit.families.base import load_facts
from tunekit.space import Value
from tunekit.training.nets import rebuild

NET = "net.onnx"


def converted(member: Member) -> list[onnx.ModelProto]:
    """The nets of a member's folds, as `convert_trial` left them."""
    return [onnx.load(member.fold(number) / NET) for number in range(member.folds)]


def convert_trial(
    place: Place,
    family: NetFamily,
    values: dict[str, Value],
    folders: list[Path],
    shape: tuple[str, int, tuple[int, ...]],
    rows: int,
    targets: tuple[Target, ...],
) -> bool:
    """Write `net.onnx` into each fold's folder, then send None, or the reason why that failed.

    Args:
        place: its channel takes the answer.
        family: of the trial.
        values: the trial's.
        folders: of its folds.
        shape: task, outputs and cardinalities.
        rows: training rows.
        targets: what they are, if there are several.
    """
    try:
        models: Iterator[object] = (rebuild(family, values, folder, shape, rows, targets) for folder in folders)
        layout = load_facts(folders[0])["layout"]
        for folder, model in zip(folders, nets_to_onnx(models, layout), strict=True):
            onnx.save(model, folder / NET)
        place.channel.send(None)
    except Exception as error:
        traceback.print_exc()
        place.channel.send(f"{type(error).__name__}: {error}")
    return False
