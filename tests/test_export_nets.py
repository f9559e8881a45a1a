"""Nets in the exported graph: they need TensorFlow, whose import takes longer than the tests."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from blends import House, house, save  # type: ignore[import-not-found]

from tunekit.data.preparation import Preparation
from tunekit.data.schema import Encoded
from tunekit.errors import ExportError
from tunekit.export import Member, write_bundle


def nets(made: House, kind: str, folder: Path) -> tuple[Member, list[Any]]:
    """A member of untrained Keras nets with weights of some size; regression nets predict standardised targets."""
    import keras

    keras.utils.set_random_seed(7)
    columns = 2 if kind == "two columns" else made.outputs
    activation = {"binary": "softmax" if columns == 2 else "sigmoid", "multiclass": "softmax"}.get(made.task)
    member, layout = Member(kind, 1.0, folder / kind, made.folds), "flat" if kind == "flat" else "columns"
    models = []
    for fold in range(made.folds):
        preparation = made.preparations[fold]
        width = len(preparation.center) + len(preparation.gaps)
        if kind == "flat":
            inputs = [keras.Input((width + len(preparation.hot),))]
            x = keras.layers.LayerNormalization()(inputs[0])
        else:
            inputs = [
                keras.Input((width,), name="numbers"),
                keras.Input((len(made.schema.categorical),), dtype="int32", name="codes"),
            ]
            embedded = keras.layers.Embedding(sum(made.schema.cardinalities), 3)(inputs[1])
            x = keras.layers.Concatenate()([inputs[0], keras.layers.Flatten()(embedded)])
        x = keras.layers.Dense(16, activation=lambda x: keras.activations.gelu(x, approximate=False))(x)
        x = keras.layers.Dropout(0.5)(keras.layers.BatchNormalization()(x))
        model = keras.Model(inputs, keras.layers.Dense(columns, activation=activation)(x))
        for variable in model.trainable_variables:
            variable.assign(keras.random.normal(variable.shape, stddev=0.5, seed=fold))
        models.append(model)
        save(member.fold(fold), layout, {"kind": "keras", "columns": columns}, {}, preparation)
    made.predictors[kind] = [net_predictor(made, *pair, layout) for pair in zip(models, made.preparations, strict=True)]
    return member, models


def net_predictor(made: House, model: Any, preparation: Preparation, layout: str) -> Any:
    def predict(rows: Encoded) -> np.ndarray:
        given = preparation.apply(rows, layout)
        output = model([given[tensor.name if layout == "columns" else "features"] for tensor in model.inputs])
        output = np.asarray(output, dtype=np.float64)
        if made.task == "regression":
            return output * preparation.target_scale + preparation.target_center
        return output[:, 1:] if made.task == "binary" and output.shape[1] == 2 else output

    return predict


@pytest.mark.parametrize(
    ("task", "kind"),
    [("binary", "columns"), ("binary", "two columns"), ("multiclass", "columns"), ("regression", "flat")],
)
def test_nets_predict_what_keras_predicts(task, kind, tmp_path) -> None:
    from tunekit.export.nets import nets_to_onnx

    made = house(task, tmp_path)
    member, models = nets(made, kind, tmp_path)
    others = [made.fit(one, 0.25) for one in ("linear", "boosted")]
    asked = []

    def convert(position: int) -> list[onnx.ModelProto]:
        asked.append(position)
        return list(nets_to_onnx(models, "flat" if kind == "flat" else "columns"))

    parity = write_bundle(made.plan(others[0], replace(member, weight=0.5), others[1]), tmp_path / "model", convert)
    assert asked == [1]
    # float32 nets on both sides, in another order of additions; how far they are apart differs with the processor
    assert parity.members[1] <= 1e-5 * (100_000 if task == "regression" else 1.0)


def test_folds_that_differ_in_their_weights_only_are_converted_once(tmp_path, monkeypatch) -> None:
    import keras

    from tunekit.export import nets as module

    _, models = nets(house("binary", tmp_path), "columns", tmp_path)
    converted = []
    convert = module._convert

    def counted(*given, **named):
        converted.append(given)
        return convert(*given, **named)

    monkeypatch.setattr(module, "_convert", counted)
    list(module.nets_to_onnx(models, "columns"))
    assert len(converted) == 1
    inputs = keras.Input((3,))
    other = [keras.Model(inputs, keras.layers.Rescaling(scale)(inputs)) for scale in (2.0, 3.0)]
    first, second = module.nets_to_onnx(other, "flat")  # a constant differs, which is no weight
    assert len(converted) == 3
    assert first.SerializeToString() != second.SerializeToString()


def test_nets_that_keep_their_weights_constant(tmp_path) -> None:
    """Loops and convolutions, from a Sequential model without an Input."""
    import keras
    import onnxruntime

    from tunekit.export.nets import net_to_onnx

    layers = [keras.layers.Reshape((6, 1)), keras.layers.Conv1D(4, 3), keras.layers.LSTM(3), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    x = np.linspace(-2, 2, 24, dtype=np.float32).reshape(4, 6)
    expected = np.asarray(model(x))
    session = onnxruntime.InferenceSession(net_to_onnx(model, "flat").SerializeToString())
    received = session.run(None, {session.get_inputs()[0].name: x})[0]
    np.testing.assert_allclose(received, expected, atol=1e-6)  # float32


def test_operations_that_tf2onnx_does_not_know() -> None:
    """And inputs in a dict, and what an adapted layer captured."""
    import keras
    import onnxruntime

    from tunekit.export.nets import net_to_onnx

    rng = np.random.default_rng(0)
    given = {
        "numbers": rng.normal(size=(50, 3)).astype(np.float32),
        "codes": rng.integers(0, 9, (50, 2), dtype=np.int32),
    }
    inputs = {"numbers": keras.Input((3,), name="numbers"), "codes": keras.Input((2,), name="codes", dtype="int32")}
    scaled = keras.layers.Normalization()
    scaled.adapt(given["numbers"] * 3 + 1)
    x = scaled(inputs["numbers"])
    parts = [
        keras.layers.Discretization(bin_boundaries=[-0.5, 0.0, 1.0])(inputs["numbers"]),
        keras.activations.celu(x),
        keras.activations.gelu(x, approximate=False),
        inputs["codes"],
    ]
    model = keras.Model(inputs, keras.layers.Concatenate()([keras.ops.cast(part, "float32") for part in parts]))
    session = onnxruntime.InferenceSession(net_to_onnx(model, "columns").SerializeToString())
    received = session.run(None, given)[0]
    np.testing.assert_allclose(received, np.asarray(model(given)), atol=1e-6)  # float32


def test_grouped_convolutions_which_keras_compiles_by_itself() -> None:
    import keras
    import onnxruntime
    import tensorflow as tf

    from tunekit.export.nets import net_to_onnx

    usual = tf.function
    inputs = keras.Input((8, 8, 4))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(6, 3, groups=2)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1)(x))
    graph = net_to_onnx(model, "array image")
    assert tf.function is usual
    cells = np.random.default_rng(0).normal(size=(3, 8, 8, 4)).astype(np.float32)
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    found = session.run(None, {session.get_inputs()[0].name: cells})[0]
    np.testing.assert_allclose(found, model(cells), atol=1e-6)  # float32


def test_nets_that_do_not_fit_are_refused() -> None:
    import keras

    from tunekit.export.nets import net_to_onnx

    inputs = keras.Input((3,), name="numbers")
    two = keras.Model(inputs, [keras.layers.Dense(1)(inputs), keras.layers.Dense(1)(inputs)])
    with pytest.raises(ExportError, match="expected one output of shape"):
        net_to_onnx(two, "columns")
    other = keras.Input((3,), name="prices")
    pair = keras.Model([inputs, other], keras.layers.Dense(1)(keras.layers.Add()([inputs, other])))
    with pytest.raises(ExportError, match="layout 'flat'; expected one input"):
        net_to_onnx(pair, "flat")
    unknown = keras.Model(inputs, keras.ops.erfinv(inputs))
    with pytest.raises(ExportError, match=r"a net can't be written as ONNX: .*received Erfinv"):
        net_to_onnx(unknown, "columns")
