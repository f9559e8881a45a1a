"""The whole blend as one ONNX graph: raw columns in, predictions out.

Everything is float64, but what the models themselves do in float32: nets, and the features that trees compare.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import onnx

from tunekit.bundle.columns import ARRAY, TEXTS
from tunekit.data.preparation import BY_NAME, Preparation
from tunekit.data.schema import Column
from tunekit.errors import ExportError
from tunekit.export.combining import add_combination
from tunekit.export.features import Encoding, Prepared
from tunekit.export.graph import ROWS, Graph, Value
from tunekit.export.neighbors import add_neighbors
from tunekit.export.plan import BlendPlan, Member
from tunekit.export.side_by_side import SideBySide
from tunekit.export.trees import add_trees, bare_base
from tunekit.families.base import load_facts
from tunekit.families.neighbors import KIND as NEIGHBORS
from tunekit.families.neighbors import Neighborhood
from tunekit.families.one_by_one import KIND as SEVERAL
from tunekit.families.one_by_one import target_folder
from tunekit.families.tree_arrays import TreeArrays

NetConverter = Callable[[int], list[onnx.ModelProto]]
"""Called with a member's position in the blend; returns its nets as ONNX models, one per fold."""

Made = TypeVar("Made")

_KINDS = ("constant", "linear", "trees", "feature", NEIGHBORS, "keras")


def blend_graph(plan: BlendPlan, convert_nets: NetConverter) -> tuple[onnx.ModelProto, dict[str, str]]:
    """Build the graph.

    Args:
        plan: the blend.
        convert_nets: called once for each member that is a net.

    Returns:
        The model; and the names of its outputs "prediction", (rows, outputs), and "members", (rows, members, outputs).

    Raises:
        ExportError: a member's files are absent, or hold something that can't be exported.
    """
    graph = Graph([(column.name, _type_of(column), _shape_of(column)) for column in plan.schema.columns])
    encoding = Encoding(graph, plan.schema)
    axis = graph.constant(np.array([1], dtype=np.int64))
    sides = SideBySide(graph)
    members = []
    for position, member in enumerate(plan.members):
        mean = sides.mean(list(_folds(encoding, plan, member, partial(convert_nets, position))))
        members.append(graph.node("Unsqueeze", mean, axis))
    together = graph.concat(members, axis=1)
    blend = add_combination(graph, together, plan.combined)
    names = {
        "prediction": graph.output("prediction", blend, [ROWS, plan.outputs]),
        "members": graph.output("members", together, [ROWS, len(members), plan.outputs]),
    }
    return graph.model(plan.name), names


def _type_of(column: Column) -> str:
    if column.kind == ARRAY:
        return column.dtype
    if column.kind in TEXTS:
        return "int32"
    return "string" if column.kind == "category" else "double"


def _shape_of(column: Column) -> tuple[int | str, ...]:
    """Of a row's value; texts come with as many words as the longest has."""
    return (f"words of {column.name}",) if column.kind in TEXTS else column.shape


def _folds(
    encoding: Encoding, plan: BlendPlan, member: Member, convert: Callable[[], list[onnx.ModelProto]]
) -> Iterator[str]:
    """Each fold's prediction, (rows, outputs)."""
    nets: list[onnx.ModelProto] | None = None
    for fold in range(member.folds):
        folder = member.fold(fold)
        facts = _read(member, folder, lambda folder: load_facts(folder))
        if facts["kind"] == SEVERAL:
            folders = [target_folder(folder, column) for column in range(len(plan.targets))]
            yield encoding.graph.concat([_alone(encoding, member, each) for each in folders], axis=1)
        elif facts["kind"] == "keras":
            nets = nets or convert()
            if len(nets) != member.folds:
                raise ExportError(
                    f"member {member.label!r} has {member.folds} folds, but {len(nets)} nets were converted"
                )
            prepared = _prepared(encoding, member, folder)
            output = _net(prepared, facts, nets[fold], plan)
            yield _in_units(encoding.graph, output, _read(member, folder, _model_arrays)) if plan.targets else output
        else:
            yield _alone(encoding, member, folder)


def _alone(encoding: Encoding, member: Member, folder: Path) -> str:
    """The prediction of one model that is no net."""
    facts, arrays = _read(member, folder, lambda folder: (load_facts(folder), _model_arrays(folder)))
    prepared = _prepared(encoding, member, folder)
    output = _model(prepared, facts, arrays, member)
    return prepared.in_units(output) if facts.get("standardised") else output


def _prepared(encoding: Encoding, member: Member, folder: Path) -> Prepared:
    arrays = _read(member, folder, lambda folder: _arrays(folder / "preparation.npz"))
    return encoding.prepared(_read(member, folder, lambda _: Preparation.from_arrays(arrays)))


def _read(member: Member, folder: Path, read: Callable[[Path], Made]) -> Made:
    """What is read of a fold's folder."""
    try:
        return read(folder)
    except (OSError, ValueError, KeyError) as error:
        raise ExportError(
            f"member {member.label!r}: the files of {folder.relative_to(member.folder)} can't be read: {error}; "
            "expected model.json, preparation.npz and the model as the search wrote them: run the search again"
        ) from error


def _in_units(graph: Graph, output: str, arrays: dict[str, npt.NDArray[Any]]) -> str:
    """The outputs of a net for several targets, the numbers among them in their units."""
    scaled = Value(graph, output) * Value(graph, graph.constant(arrays["scale"]))
    return (scaled + Value(graph, graph.constant(arrays["center"]))).name


def _model(prepared: Prepared, facts: dict[str, Any], arrays: dict[str, Any], member: Member) -> str:
    graph = prepared.graph
    if facts["kind"] == "constant":
        return prepared.encoding.repeated(np.asarray(arrays["value"], dtype=np.float64))
    if facts["kind"] == "feature":
        return graph.cast(prepared.column(prepared.features(facts["layout"]), facts["position"]), "double")
    if facts["kind"] == "linear":
        weighed = Value(graph, prepared.weighed(arrays["weights"], facts["layout"]))
        return _linked(graph, (weighed + Value(graph, graph.constant(arrays["bias"]))).name, facts["link"])
    if facts["kind"] == "trees":
        trees = TreeArrays.from_arrays(arrays)
        raw_trees = add_trees(graph, prepared.features(facts["layout"]), trees)
        return _linked(graph, raw_trees or prepared.encoding.repeated(bare_base(trees)), trees.link)
    if facts["kind"] == NEIGHBORS:
        return add_neighbors(graph, prepared.features(facts["layout"]), Neighborhood.from_arrays(arrays))
    raise ExportError(f"member {member.label!r} is of kind {facts['kind']!r}; expected one of {', '.join(_KINDS)}")


def _net(prepared: Prepared, facts: dict[str, Any], net: onnx.ModelProto, plan: BlendPlan) -> str:
    """One net: for regression in the target's units, for two classes the probability of the second."""
    graph = prepared.graph
    bindings = {}
    for given in net.graph.input:
        value = prepared.group(given.name) if facts["layout"] in BY_NAME else prepared.features(facts["layout"])
        bindings[given.name] = graph.cast(value, given.type.tensor_type.elem_type)
    output = graph.cast(graph.splice(net, bindings)[0], "double")
    if plan.task == "binary" and facts.get("columns", 1) == 2:
        output = graph.node("Gather", output, graph.constant(np.array([1], dtype=np.int64)), axis=1)
    if plan.task == "regression":
        output = prepared.in_units(output)
    return output


def _linked(graph: Graph, raw: str, link: str) -> str:
    if link == "identity":
        return raw
    return graph.node("Sigmoid", raw) if link == "sigmoid" else graph.node("Softmax", raw, axis=1)


def _model_arrays(folder: Path) -> dict[str, npt.NDArray[Any]]:
    return _arrays(folder / "model.npz")


def _arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    with np.load(path, allow_pickle=False) as loaded:
        return dict(loaded)
