"""What it costs to serve a trial: the time of one prediction and the size of the file, by the graph of an export."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunekit.bundle import open_graph
from tunekit.data.schema import Schema
from tunekit.data.targets import Target
from tunekit.export.blend import NetConverter, blend_graph
from tunekit.export.nets import nets_to_onnx
from tunekit.export.plan import BlendPlan, Member
from tunekit.families import Family, NetFamily
from tunekit.families.base import load_facts
from tunekit.space import Value
from tunekit.training.nets import rebuild

SECONDS = 0.3
"""Of measuring a latency."""

CALLS = 10
"""In a row, of which the mean is one measurement; the least of all measurements counts, as `timeit` advises: whatever
else runs on the machine can only add to it."""


OTHER = 1e-6
"""What weights of another fold's net differ by, as far as size and latency go."""


@dataclass(frozen=True)
class ServingCost:
    """Measures a trial, in the trial's process. The first fold's model stands for those that are not fitted yet.

    Args:
        names: of the costs that are wanted: "latency" in ms per row, predicted one by one on one thread, from raw
            columns to the prediction; "size" of the exported graph in MB.
        task: of the study.
        outputs: columns of a prediction.
        classes: in order.
        schema: of the columns.
        row: typed columns of one row.
        folds: of a trial.
        rows: that a fold trains on.
        targets: what they are, if there are several.
    """

    names: tuple[str, ...]
    task: str
    outputs: int
    classes: tuple[Any, ...]
    schema: Schema
    row: dict[str, npt.NDArray[Any]]
    folds: int
    rows: int
    targets: tuple[Target, ...] = ()

    def __call__(self, family: Family, values: dict[str, Value], folder: Path, fitted: int) -> dict[str, float]:
        """Measure.

        Args:
            family: of the trial.
            values: the trial's.
            folder: of the trial.
            fitted: how many folds it holds.

        Returns:
            Cost by name.

        Raises:
            ExportError: the model can't be exported.
        """
        plan = self._plan(folder, fitted)
        return costs_of(plan, lambda _: self._nets(family, values, folder), self.row, self.names)

    def _plan(self, folder: Path, fitted: int) -> BlendPlan:
        member = _Unfinished("trial", 1.0, folder, self.folds, fitted)
        predictions = np.zeros((1, 1, self.outputs))
        return BlendPlan(
            "trial",
            self.task,
            self.outputs,
            self.classes,
            self.schema,
            (member,),
            {},
            self.row,
            predictions,
            self.targets,
        )

    def _nets(self, family: Family, values: dict[str, Value], folder: Path) -> list[Any]:
        """The first fold's net for each fold. A graph stores equal constants once, so what was learnt must differ."""
        assert isinstance(family, NetFamily), "only nets are converted"
        shape = (self.task, self.outputs, self.schema.cardinalities)
        net = rebuild(family, values, folder / "fold0", shape, self.rows, self.targets)

        def copies() -> Iterator[Any]:
            for number in range(self.folds):
                for variable in net.trainable_variables if number else ():
                    variable.assign(variable + OTHER)
                yield net

        return list(nets_to_onnx(copies(), load_facts(folder / "fold0")["layout"]))


def costs_of(
    plan: BlendPlan, convert_nets: NetConverter, row: dict[str, npt.NDArray[Any]], names: tuple[str, ...]
) -> dict[str, float]:
    """What it costs to serve a blend.

    Args:
        plan: the blend.
        convert_nets: see `blend_graph`.
        row: typed columns of one row.
        names: of the costs that are wanted, see `ServingCost`.

    Raises:
        ExportError: the blend can't be exported.
    """
    model, outputs = blend_graph(plan, convert_nets)
    graph = model.SerializeToString()
    measured = {
        "size": lambda: len(graph) / 1e6,
        "latency": lambda: _latency(graph, outputs["prediction"], row, plan.schema),
    }
    return {name: float(measured[name]()) for name in names}


def _latency(graph: bytes, output: str, row: dict[str, npt.NDArray[Any]], schema: Schema) -> float:
    session = open_graph(graph, 1, "the graph that is measured", tuned=bool(schema.arrays or schema.texts))
    texts = {column.name: column.vocabulary for column in schema.texts}
    least, deadline = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < deadline:
        begun = time.perf_counter()
        for _ in range(CALLS):
            session.run([output], row | {name: known.rows(row[name]).padded() for name, known in texts.items()})
        least = min(least, (time.perf_counter() - begun) / CALLS)
    return 1e3 * least


@dataclass(frozen=True)
class _Unfinished(Member):
    """The first fold's model in place of those that are not fitted yet."""

    fitted: int

    def fold(self, number: int) -> Path:
        """See `Member.fold`."""
        return super().fold(number if number < self.fitted else 0)
