"""The search space: what a factory may ask for, and what it is answered."""

import inspect
import itertools
import json
import math
import time
from typing import Any

import numpy as np
import pytest

from tunekit.drivers.translate import from_stored, to_stored
from tunekit.errors import SpaceError
from tunekit.space import Dimension, HyperParameters, Value, space_size


class Recorder(HyperParameters):
    """Answers with the last value of a grid, or the upper bound; remembers what it was asked."""

    def __init__(self, **answers: Value) -> None:
        self.asked: list[Dimension] = []
        self.answers = answers
        super().__init__(self.answer)

    def answer(self, dimension: Dimension) -> Value:
        self.asked.append(dimension)
        last = dimension.bounds[1] if dimension.grid is None else dimension.grid[-1]
        return self.answers.get(dimension.name, last)


def the(hp: HyperParameters) -> Dimension:
    (dimension,) = hp.space
    return dimension


def ask(kind: str, *arguments: Any, **options: Any) -> Dimension:
    hp = HyperParameters()
    getattr(hp, kind)("x", *arguments, **options)
    return the(hp)


@pytest.mark.parametrize(
    ("dimension", "grid"),
    [
        (ask("Int", 1, 4), (1, 2, 3, 4)),
        (ask("Int", -2, 2, step=2), (-2, 0, 2)),
        (ask("Int", 1, 10, step=4), (1, 5, 9)),
        (ask("Int", 5, 5), (5,)),
        (ask("Int", 32, 512, step=2, sampling="log"), (32, 64, 128, 256, 512)),
        (ask("Int", 1, 1000, step=10, sampling="log"), (1, 10, 100, 1000)),
        (ask("Int", 3, 100, step=3, sampling="log"), (3, 9, 27, 81)),
        (ask("Int", 1, 3, sampling="log"), (1, 2, 3)),
        (ask("Int", 1, 3, sampling="reverse_log"), (1, 2, 3)),
        (ask("Float", 0, 1, step=0.2), (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
        (ask("Float", 0, 1, step=0.3), (0.0, 0.3, 0.6, 0.9)),
        (ask("Float", 0.1, 0.7, step=0.2), (0.1, 0.3, 0.5, 0.7)),
        (ask("Float", 0.0, 0.5, step=0.05), tuple(number / 20 for number in range(11))),
        (ask("Float", 1, 8, step=2, sampling="log"), (1.0, 2.0, 4.0, 8.0)),
        (ask("Float", 0, 1), None),
        (ask("Float", 1e-4, 1, sampling="log"), None),
        (ask("Choice", ["a", "b"]), ("a", "b")),
        (ask("Boolean"), (False, True)),
        (ask("Fixed", 3), (3,)),
    ],
    ids=str,
)
def test_grids_end_with_the_largest_value(dimension, grid) -> None:
    assert dimension.grid == grid
    for value in grid or dimension.bounds:
        assert dimension.contains(value)
        assert type(value) is type(dimension.default)
    assert dimension.count == (math.inf if grid is None else len(grid))
    for index, value in enumerate(grid or ()):
        assert dimension.value_at(index) == value
        assert dimension.kind not in ("int", "float") or dimension.index_near(float(value)) == index


def test_a_log_grid_of_floats_ends_inside() -> None:
    grid = ask("Float", 1e-4, 1e-1, step=10, sampling="log").grid
    assert grid == pytest.approx((1e-4, 1e-3, 1e-2, 1e-1), rel=1e-12)  # powers cost the last places
    assert grid is not None
    assert max(float(one) for one in grid) <= 1e-1


def test_what_is_contained() -> None:
    whole = ask("Int", 0, 10, step=5)
    assert [value for value in range(-5, 16) if whole.contains(value)] == [0, 5, 10]
    assert whole.contains(5.0)
    assert not any(whole.contains(value) for value in (5.5, "5", True, None))
    number = ask("Float", 0, 1, step=0.1)
    assert number.contains(0.1 + 0.2), "a float that misses the grid in its last place is on it"
    assert not any(number.contains(value) for value in (0.25, 1.1, -0.1, math.nan, "0.1", None))
    choice = ask("Choice", ["a", "b"])
    assert choice.contains("b")
    assert not choice.contains("c")


def test_answers_come_from_the_suggest_that_is_handed_in() -> None:
    hp = Recorder()
    assert hp.Int("layers", 1, 4) == 4
    assert hp.Float("dropout", 0, 1, step=0.2) == 1.0
    assert hp.Choice("activation", ["relu", "selu"]) == "selu"
    assert hp.Boolean("norm") is True
    assert hp.Fixed("version", 3) == 3
    assert hp.values == {"layers": 4, "dropout": 1.0, "activation": "selu", "norm": True, "version": 3}
    assert [dimension.name for dimension in hp.asked] == list(hp.values)
    assert hp.space == hp.asked


def test_defaults() -> None:
    hp = HyperParameters()
    assert hp.Int("a", 2, 8) == 2
    assert hp.Int("b", 2, 8, default=5) == 5
    assert hp.Float("c", 0.5, 8) == 0.5
    assert hp.Float("d", 0, 8, default=0) == 0.0
    assert hp.Choice("e", ["x", "y"]) == "x"
    assert hp.Choice("f", [1, 0], default=0) == 0
    assert hp.Boolean("g") is False
    assert hp.Boolean("h", default=True) is True


def test_numbers_have_the_type_of_their_kind() -> None:
    hp = HyperParameters()
    assert type(hp.Int("a", 2.0, 8.0)) is int  # type: ignore[arg-type]
    assert type(hp.Int("b", 2, 8, default=4.0)) is int  # type: ignore[arg-type]
    assert type(hp.Float("c", 2, 8)) is float
    assert type(hp.Float("d", 2, 8, default=4)) is float


def test_asking_again_returns_the_first_value() -> None:
    hp = Recorder()
    assert hp.Int("units", 1, 8) == 8
    assert hp.Int("units", 1, 99) == 8
    assert len(hp.asked) == len(hp.space) == 1


def test_scopes_name_what_is_inside() -> None:
    hp = HyperParameters()
    with hp.name_scope("tower"):
        hp.Int("units", 1, 8)
        with hp.name_scope("block_0"):
            hp.Int("units", 2, 8)
            assert hp.get("units") == 2
            assert "units" in hp
        assert hp["units"] == 1
    hp.Int("units", 3, 8)
    assert hp.values == {"tower/units": 1, "tower/block_0/units": 2, "units": 3}
    assert hp.get("units") == 3
    assert hp.get("tower/units") == 1
    assert "tower/block_0/units" in hp
    assert "block_0/units" not in hp
    with hp.name_scope("other"):
        assert "units" not in hp, "a name stands for that of its scope only"
        with pytest.raises(SpaceError, match="'other/units' has no value"):
            hp.get("units")
    with hp.name_scope(7):  # type: ignore[arg-type]
        hp.Int(1, 5, 9)  # type: ignore[arg-type]
    assert hp.get("7/1") == 5


def test_a_scope_ends_even_by_an_error() -> None:
    hp = HyperParameters()
    with pytest.raises(RuntimeError), hp.name_scope("a"):
        raise RuntimeError
    with pytest.raises(SpaceError), hp.conditional_scope("nobody", 1):
        pass
    hp.Int("x", 1, 2)
    assert list(hp.values) == ["x"]
    assert the(hp).conditions == ()


def test_what_is_inactive_is_none_and_not_asked_for() -> None:
    hp = Recorder(optimizer="adam")
    hp.Choice("optimizer", ["adam", "sgd"])
    with hp.conditional_scope("optimizer", ["sgd"]):
        assert hp.Float("momentum", 0, 1) is None
        assert hp.Boolean("nesterov") is None
    with hp.conditional_scope("optimizer", "adam"):
        assert hp.Float("beta", 0, 1) == 1.0
    assert hp.Int("sgd_only", 1, 3, parent_name="optimizer", parent_values="sgd") is None
    assert hp.Fixed("fixed", 1, parent_name="optimizer", parent_values=["sgd"]) is None
    assert hp.Choice("both", ["a"], parent_name="optimizer", parent_values=["adam", "sgd"]) == "a"
    assert hp.values == {"optimizer": "adam", "beta": 1.0, "both": "a"}
    assert "momentum" not in hp
    assert "beta" in hp
    assert len(hp.space) == 7, "the space holds the inactive ones too"
    with pytest.raises(SpaceError, match="'momentum' has no value; it is inactive"):
        hp.get("momentum")
    assert [hp.is_active(one) for one in hp.space] == [True, False, False, True, False, False, True]
    assert [hp.is_active(one.name) for one in hp.space] == [hp.is_active(one) for one in hp.space]
    assert not hp.is_active("nobody")


def test_conditions_nest() -> None:
    for optimizer, schedule in itertools.product(["adam", "sgd"], [True, False]):
        hp = Recorder(optimizer=optimizer, schedule=schedule)
        hp.Choice("optimizer", ["adam", "sgd"])
        with hp.conditional_scope("optimizer", "sgd"):
            hp.Boolean("schedule")
            with hp.conditional_scope("schedule", True):
                value = hp.Int("steps", 1, 9)
        assert (value is not None) == (optimizer == "sgd" and schedule)


def test_a_parent_is_found_in_its_scope_or_by_its_full_name() -> None:
    hp = HyperParameters()
    hp.Boolean("on", default=True)
    with hp.name_scope("block"):
        hp.Boolean("on", default=False)
        with hp.conditional_scope("on", True):
            assert hp.Int("inner", 1, 2) is None, "the nearest one"
        with hp.conditional_scope("block/on", False):
            assert hp.Int("full", 1, 2) == 1
        hp.Boolean("other", default=True)
    with hp.conditional_scope("block/other", True):
        assert hp.Int("outside", 1, 2) == 1


def test_one_name_under_two_conditions_is_two_dimensions() -> None:
    for optimizer, high in (("adam", 0.01), ("sgd", 1.0)):
        hp = Recorder(optimizer=optimizer)
        hp.Choice("optimizer", ["adam", "sgd"])
        with hp.conditional_scope("optimizer", "adam"):
            hp.Float("lr", 1e-4, 0.01, sampling="log")
        with hp.conditional_scope("optimizer", "sgd"):
            hp.Float("lr", 1e-4, 1.0, sampling="log")
        assert hp.values == {"optimizer": optimizer, "lr": high}
        assert [one.key for one in hp.space] == ["optimizer", "lr [optimizer=adam]", "lr [optimizer=sgd]"]


def test_what_is_known_is_not_asked_for() -> None:
    hp = Recorder()
    hp.values["units"] = 3
    assert hp.get("units") == hp.Int("units", 1, 8) == 3
    assert hp.asked == []


def test_values_are_plain() -> None:
    """A study may compute them by NumPy; a ledger can't hold what that gives."""
    hp = HyperParameters()
    given = [
        hp.Choice("text", list(np.array(["a", "b"]))),
        hp.Choice("number", [0.5, np.float64(0.25)], default=np.float64(0.25)),
        hp.Choice("coerced", ["1", "2"], default=2),
        hp.Choice("flag", [True, False], default=0),
        hp.Int("int", np.int64(2), np.int64(8)),  # type: ignore[arg-type]
        hp.Boolean("boolean", default=1),  # type: ignore[arg-type]
        hp.Fixed("fixed", np.float64(0.5)),
    ]
    assert given == ["a", 0.25, "2", False, 2, True, 0.5]
    assert [type(one) for one in given] == [str, float, str, bool, int, bool, float]


@pytest.mark.parametrize("value", [[1, 2.5, "a"], {"a": [True, None]}, None, (1, 2)], ids=str)
def test_a_fixed_value_may_be_all_that_json_holds(value) -> None:
    hp = Recorder()
    assert hp.Fixed("x", value) == value
    assert hp.Fixed("x", value) == hp.get("x") == hp.values["x"] == value
    assert hp.asked[0].default == json.dumps(value), "as the ledger keeps it"
    assert HyperParameters(lambda dimension: "[3]").Fixed("x", value) == [3], "what is recorded counts"
    again = HyperParameters(lambda dimension: hp.values[dimension.name])
    assert again.Fixed("x", value) == value
    hp.Boolean("on")
    assert hp.Fixed("y", value, parent_name="on", parent_values=False) is None


def test_a_copy_knows_all_and_tells_nothing() -> None:
    hp = Recorder(kind="b")
    hp.Choice("kind", ["a", "b"])
    with hp.name_scope("scope"), hp.conditional_scope("kind", "b"):
        hp.Int("units", 1, 8)
        copied = hp.copy()
        assert copied.Int("more", 1, 8) == 1, "a default, outside of any scope"
        assert copied.values == {"kind": "b", "scope/units": 8, "more": 1}
        assert copied.Choice("kind", ["a", "b"]) == "b"
    assert hp.values == {"kind": "b", "scope/units": 8}
    assert len(hp.asked) == len(hp.space) == 2


def test_a_configuration_is_plain_and_can_be_read_again() -> None:
    hp = Recorder(kind="b")
    hp.Choice("kind", ["a", "b"])
    hp.Choice("size", [16, 32], default=32)
    with hp.name_scope("block"), hp.conditional_scope("kind", ["b"]):
        hp.Int("units", 32, 512, step=2, sampling="log", default=64)
        hp.Float("rate", 0.1, 0.7, step=0.2)
    hp.Boolean("norm", default=True)
    hp.Fixed("version", 3)
    config = json.loads(json.dumps(hp.get_config()))
    assert config["values"] == hp.values
    assert config["space"][2] == {
        "class_name": "Int",
        "config": {
            "name": "block/units",
            "default": 64,
            "conditions": [{"class_name": "Parent", "config": {"name": "kind", "values": ["b"]}}],
            "min_value": 32,
            "max_value": 512,
            "step": 2,
            "sampling": "log",
        },
    }
    back = HyperParameters.from_config(config)
    assert back.space == hp.space
    assert back.values == hp.values
    back.Int("outside", 1, 2)
    assert back.space[-1].conditions == ()


def test_merging_takes_over_what_another_knows() -> None:
    hp, other = HyperParameters(), HyperParameters()
    hp.Int("units", 1, 8)
    other.Int("units", 4, 8)
    other.Boolean("norm")
    hp.merge(other, overwrite=False)
    assert hp.values == {"units": 1, "norm": False}
    hp.merge(other.space)
    assert hp.values == {"units": 4, "norm": False}


def test_values_follow_their_conditions() -> None:
    hp = Recorder(kind="a")
    hp.Choice("kind", ["a", "b"])
    hp.Int("of_a", 1, 2, parent_name="kind", parent_values="a")
    hp.Int("of_b", 1, 3, parent_name="kind", parent_values="b")
    assert hp.values == {"kind": "a", "of_a": 2}
    hp.values["kind"] = "b"
    hp.ensure_active_values()
    assert hp.values == {"kind": "b", "of_b": 3}


def test_the_key_of_a_condition_has_one_order() -> None:
    """A set has another order in each process; the key names the dimension in the ledger."""
    hp = HyperParameters()
    hp.Choice("kind", ["a", "b", "c", "d"])
    hp.Int("x", 1, 2, parent_name="kind", parent_values={"c", "a", "b"})
    assert hp.space[1].key == "x [kind=a|b|c]"


def test_a_dimension_survives_json() -> None:
    hp = HyperParameters()
    hp.Choice("kind", ["a", "b"])
    with hp.name_scope("block"), hp.conditional_scope("kind", ["a", "b"]):
        hp.Int("units", 32, 512, step=2, sampling="log", default=64)
        hp.Float("rate", 0.1, 0.7, step=0.2)
        hp.Boolean("norm", default=True)
        hp.Fixed("version", 3)
    hp.Int("level", 1, 2, parent_name="block/units", parent_values=[32, 64])
    for dimension in hp.space:
        back = Dimension.from_json(json.loads(json.dumps(dimension.to_json())))
        assert back == dimension
        assert back.key == dimension.key
        assert hash(back) == hash(dimension)
        assert [type(one) for one in back.grid or ()] == [type(one) for one in dimension.grid or ()]


def test_the_size_of_a_space() -> None:
    dimensions = [ask("Int", 1, 4), ask("Choice", ["a", "b", "c"]), ask("Boolean"), ask("Fixed", 1)]
    assert space_size(dimensions) == 24
    assert space_size([]) == 1
    assert space_size([*dimensions, ask("Float", 0, 1)]) == math.inf


def test_a_wide_int_costs_no_more_than_a_narrow_one() -> None:
    for wide in (ask("Int", 0, 2**31 - 1), ask("Int", 0, 2**31 - 1, step=1), ask("Int", 1, 2**31 + 1, step=2)):
        begun = time.perf_counter()
        assert space_size([wide, ask("Boolean")]) == 2 * wide.count
        assert wide.count >= 2**30
        high = int(wide.top)
        assert wide.contains(high)
        assert not wide.contains(high + 1)
        assert from_stored(wide, to_stored(wide, high)) == high
        assert {type(wide.value_at(index)) for index in (0, int(wide.count) - 1)} == {int}
        assert time.perf_counter() - begun < 0.1, "listing them takes minutes; this takes a millisecond"


# What is refused.


@pytest.mark.parametrize(
    ("kind", "arguments", "options", "told"),
    [
        ("Int", (4, 1), {}, "received the range 4 to 1; expected min_value <= max_value"),
        ("Float", (1.0, 0.5), {}, "received the range 1.0 to 0.5"),
        ("Float", (math.nan, 1.0), {}, "expected min_value <= max_value"),
        ("Int", (1, 4), {"default": 5}, "default 5 lies outside 1 to 4"),
        ("Float", (0, 1), {"default": -0.1}, "default -0.1 lies outside 0.0 to 1.0"),
        ("Int", (1.5, 4), {}, "min_value=1.5; expected a whole number"),
        ("Int", (1, 4.5), {}, "max_value=4.5; expected a whole number"),
        ("Int", (1, 4), {"step": 0.5}, "step=0.5; expected a whole number"),
        ("Int", (1, 4), {"default": 2.5}, "default=2.5; expected a whole number"),
        ("Int", (0, 4), {"sampling": "log"}, "log sampling needs min_value > 0, received 0"),
        ("Float", (0, 1), {"sampling": "log"}, "log sampling needs min_value > 0, received 0.0"),
        ("Float", (-1, 1), {"sampling": "reverse_log"}, "reverse_log sampling needs min_value > 0"),
        ("Float", (1, 2), {"sampling": "exp"}, "sampling='exp'; expected one of linear, log, reverse_log"),
        ("Int", (1, 4), {"step": 0}, "step=0; expected more than 0 under linear sampling"),
        ("Float", (1, 4), {"step": -1.0}, "step=-1.0; expected more than 0"),
        ("Int", (1, 4), {"step": 1, "sampling": "log"}, "step=1; expected more than 1 under log sampling"),
        ("Choice", ([],), {}, "received no values; expected at least one to choose from"),
        ("Choice", (["a", 1],), {}, "values ['a', 1] are of different types; expected one type"),
        ("Choice", ([1, 2.0],), {}, "are of different types"),
        ("Choice", ([0, True],), {}, "are of different types"),
        ("Choice", (["a", "b"],), {"default": "c"}, "default 'c' is not among its values ['a', 'b']"),
        ("Choice", ([None, "a"],), {}, "received None, a NoneType; expected int, float, str or bool"),
        ("Choice", ({"a", "b"},), {}, "received a set; expected a list, which has the same order everywhere"),
        ("Choice", (["a", "b"],), {"ordered": True}, "ordered=True for ['a', 'b']; expected numbers, or ordered=False"),
        ("Int", (None, 4), {}, "min_value=None; expected a whole number"),
        ("Float", ("much", 4), {}, "min_value='much'; expected a number"),
        ("Boolean", ("yes",), {}, "default 'yes' is not among its values [False, True]"),
        ("Fixed", (object,), {}, "is not JSON serializable; expected a value that JSON can hold"),
    ],
)
def test_contradictions_are_refused(kind, arguments, options, told) -> None:
    with pytest.raises(SpaceError) as caught:
        ask(kind, *arguments, **options)
    assert told in str(caught.value)
    assert "'x'" in str(caught.value), "names the hyperparameter"


def test_an_unknown_parent_is_refused() -> None:
    hp = HyperParameters()
    with pytest.raises(SpaceError, match="parent 'kind' is not known; it has to be asked for before"):
        hp.Int("x", 1, 2, parent_name="kind", parent_values=["a"])


def test_a_condition_without_sense_is_refused() -> None:
    hp = HyperParameters()
    hp.Choice("kind", ["a", "b"])
    with pytest.raises(SpaceError, match="parent 'kind': received no values; expected those that make it active"):
        hp.Int("x", 1, 2, parent_name="kind", parent_values=[])
    with pytest.raises(SpaceError, match="parent 'kind': received None, a NoneType"):
        hp.Int("x", 1, 2, parent_name="kind")
    with pytest.raises(SpaceError, match="'kind' depends on a parent of its own name; expected another name"):
        hp.Int("kind", 1, 2, parent_name="kind", parent_values="a")
    assert len(hp.space) == 1


def test_a_name_without_a_value_is_refused_with_those_that_have_one() -> None:
    hp = HyperParameters()
    hp.Int("layers", 1, 2)
    with pytest.raises(SpaceError, match=r"'units' has no value; it has to be asked for first \(so far: layers\)"):
        hp["units"]
    for kind in (KeyError, ValueError):  # what KerasTuner raises
        with pytest.raises(kind):
            hp["units"]


def test_only_numbers_have_bounds() -> None:
    with pytest.raises(SpaceError, match="'x' is a choice; only an int or float has bounds"):
        _ = ask("Choice", ["a"]).bounds


def test_the_signatures_are_those_of_keras_tuner() -> None:
    """Written down, so that a change is noticed without importing it: keras_tuner 1.4.8, engine/hyperparameters."""
    expected = {
        "Choice": "name values ordered default parent_name parent_values",
        "Int": "name min_value max_value step sampling default parent_name parent_values",
        "Float": "name min_value max_value step sampling default parent_name parent_values",
        "Boolean": "name default parent_name parent_values",
        "Fixed": "name value parent_name parent_values",
        "get": "name",
        "name_scope": "name",
        "conditional_scope": "parent_name parent_values",
    }
    expected |= {
        "is_active": "hyperparameter",
        "copy": "",
        "merge": "hps overwrite",
        "ensure_active_values": "",
        "get_config": "",
    }
    for name, parameters in expected.items():
        assert list(inspect.signature(getattr(HyperParameters, name)).parameters)[1:] == parameters.split()
