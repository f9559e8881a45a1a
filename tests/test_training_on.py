"""`tunekit export --format keras` and `saved-model`: models that load safely and go on training."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folds import marks  # type: ignore[import-not-found]
from searches import attrition, houses, shown, write_study  # type: ignore[import-not-found]
from test_end_to_end import refused  # type: ignore[import-not-found]
from typer.testing import CliRunner

import tunekit as tk
from tunekit.bundle import Bundle
from tunekit.bundle.manifest import file_entry, read_models, sealed
from tunekit.cli import app
from tunekit.errors import BundleError, ExportError
from tunekit.study import load_study

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("kept_servers")]  # searches with nets

NET = """
mlp = tk.MLP()
mlp.epochs = 3

def net(hp, data):
    inputs, x = data.keras_inputs()
    x = keras.layers.Lambda(lambda x: x * 2.0)(keras.layers.Dense(8, activation="relu")(x))
    model = keras.Model(inputs, data.keras_head(x))
    model.compile("adam", loss=data.loss)
    return model
"""

EXTRA = [kind for kind in (tk.LightGBM, tk.CatBoost) if not marks(kind)]
FAMILIES = "tk.XGBoost(), mlp, tk.Keras(net, epochs=3), tk.Linear()" + "".join(
    f", tk.{kind.__name__}()" for kind in EXTRA
)


@pytest.fixture(scope="module")
def searched(tmp_path_factory) -> Path:
    folder: Path = tmp_path_factory.mktemp("binary")
    attrition().to_csv(folder / "train.csv", index=False)
    data = 'tk.Table(HERE / "train.csv", target="Attrition")'
    write_study(folder, data, FAMILIES, code=NET, options="split=tk.StratifiedKFold(2)")
    search(folder, 4 + len(EXTRA))
    return folder


def search(folder: Path, trials: int) -> None:
    """In this process and without MLflow, which saves their start."""
    load_study(folder / "study.py").run(trials=trials, workers=1, root=folder / "mlruns", observers=[])


def number_of(folder: Path, family: str) -> int:
    return next(int(trial["number"]) for trial in shown(folder)["trials"] if trial["family"] == family)


def export(folder: Path, output: Path, family: str, form: str) -> dict[str, Any]:
    options = ["--trial", str(number_of(folder, family)), "--format", form, "--root", str(folder / "mlruns")]
    done = CliRunner().invoke(app, ["export", str(folder / "study.py"), "-o", str(output), *options])
    assert done.exit_code == 0, done.exception or done.output
    assert "the models of the blend" in done.output
    return read_models(output)


def test_keras_files_load_in_safe_mode_and_go_on_training(searched, tmp_path) -> None:
    import keras

    manifest = export(searched, tmp_path / "models", "mlp", "keras")
    [member] = manifest["members"]
    assert (member["weight"], len(member["folds"])) == (1.0, 2)
    assert member["difference"] <= manifest["parity"]["tolerance"] == 5e-5
    for fold in member["folds"]:
        model = keras.saving.load_model(tmp_path / "models" / fold / "net.keras", safe_mode=True)
        rows = {tensor.name: np.zeros((4, *tensor.shape[1:]), tensor.dtype) for tensor in model.inputs}
        before = model.get_weights()
        assert np.isfinite(model.fit(rows, np.array([[0.0], [1.0], [0.0], [1.0]]), verbose=0).history["loss"]).all()
        assert any((old != new).any() for old, new in zip(before, model.get_weights(), strict=True))


def test_boosted_trees_are_xgboosts_own_files_and_go_on_training(searched, tmp_path) -> None:
    import xgboost

    manifest = export(searched, tmp_path / "models", "xgboost", "keras")
    [member] = manifest["members"]
    assert member["difference"] <= manifest["parity"]["tolerance"]
    for fold in member["folds"]:
        booster = xgboost.Booster(model_file=tmp_path / "models" / fold / "model.ubj")
        facts = json.loads((tmp_path / "models" / fold / "model.json").read_text())
        assert booster.num_boosted_rounds() == facts["rounds"]
        rows = np.zeros((4, booster.num_features()), np.float32)
        matrix = xgboost.DMatrix(rows, [0, 1, 0, 1], feature_types=booster.feature_types, enable_categorical=True)
        longer = xgboost.train({"objective": "binary:logistic"}, matrix, 3, xgb_model=booster)
        assert longer.num_boosted_rounds() == facts["rounds"] + 3


@pytest.mark.parametrize("kind", [pytest.param(tk.LightGBM, marks=marks(tk.LightGBM))])
def test_lightgbms_own_file_goes_on_training(kind, searched, tmp_path) -> None:
    import lightgbm

    manifest = export(searched, tmp_path / "models", kind.name, "keras")
    [member] = manifest["members"]
    assert member["difference"] <= manifest["parity"]["tolerance"]
    for fold in member["folds"]:
        booster = lightgbm.Booster(model_file=tmp_path / "models" / fold / "model.txt")
        assert booster.num_trees() == json.loads((tmp_path / "models" / fold / "model.json").read_text())["rounds"]
        rows = lightgbm.Dataset(np.random.default_rng(0).normal(size=(40, booster.num_feature())), [0, 1] * 20)
        settings = {"objective": "binary", "verbose": -1, "num_threads": 1}
        assert lightgbm.train(settings, rows, 3, init_model=booster).num_trees() == booster.num_trees() + 3


@pytest.mark.parametrize("kind", [pytest.param(tk.CatBoost, marks=marks(tk.CatBoost))])
def test_catboosts_own_file_goes_on_training(kind, searched, tmp_path) -> None:
    import catboost

    manifest = export(searched, tmp_path / "models", kind.name, "keras")
    [member] = manifest["members"]
    assert member["difference"] <= manifest["parity"]["tolerance"]
    for fold in member["folds"]:
        model = catboost.CatBoost().load_model(tmp_path / "models" / fold / "model.cbm")
        facts = json.loads((tmp_path / "models" / fold / "model.json").read_text())
        assert model.tree_count_ == facts["rounds"]
        numbers = np.random.default_rng(0).normal(size=(40, len(model.feature_names_) - len(facts["hot"])))
        names = np.full((40, len(facts["hot"])), b"1", dtype=object)
        rows = catboost.FeaturesData(num_feature_data=numbers.astype(np.float32), cat_feature_data=names)
        settings = {"loss_function": "Logloss", "iterations": 3, "boosting_type": "Plain", "thread_count": 1}
        longer = catboost.CatBoost({**settings, "logging_level": "Silent", "allow_writing_files": False})
        longer.fit(catboost.Pool(rows, [0, 1] * 20), init_model=model)
        assert longer.tree_count_ == model.tree_count_ + 3


def test_saved_models_predict_and_have_their_variables(searched, tmp_path) -> None:
    import tensorflow as tf

    manifest = export(searched, tmp_path / "models", "net", "saved-model")  # its Lambda is operations by then
    [member] = manifest["members"]
    assert member["difference"] <= manifest["parity"]["tolerance"]
    loaded = tf.saved_model.load(str(tmp_path / "models" / member["folds"][0] / "net"))
    assert loaded.signatures["serving_default"] is not None
    assert len(loaded.trainable_variables) >= 4


def test_models_that_are_arrays_are_copied(searched, tmp_path) -> None:
    manifest = export(searched, tmp_path / "models", "linear", "keras")
    assert manifest["members"][0]["difference"] is None  # nothing was converted
    [fold, _] = manifest["members"][0]["folds"]
    kept = searched / "mlruns" / "studies" / "small" / "trials"
    [weights] = list(kept.glob("*linear*/fold0/model.npz"))
    assert (tmp_path / "models" / fold / "model.npz").read_bytes() == weights.read_bytes()


def test_a_lambda_layer_is_refused_and_nothing_is_left(searched, tmp_path) -> None:
    options = ["--trial", number_of(searched, "net"), "--format", "keras", "--root", searched / "mlruns"]
    told = refused("export", searched / "study.py", "-o", tmp_path / "models", *options)
    assert "can't be loaded in Keras's safe mode" in told
    assert "no Lambda" in told
    assert list(tmp_path.iterdir()) == []


def test_what_was_changed_is_refused(searched, tmp_path) -> None:
    export(searched, tmp_path / "models", "mlp", "keras")
    manifest = json.loads((tmp_path / "models" / "manifest.json").read_text())
    name = next(name for name in manifest["files"] if name.endswith("net.keras"))
    with pytest.raises(
        BundleError, match="was written by `tunekit export --format keras`; expected what `tunekit export`"
    ):
        Bundle.load(tmp_path / "models")

    def spoiled(case: str) -> Path:
        return Path(shutil.copytree(tmp_path / "models", tmp_path / case))

    cut = spoiled("truncated")
    (cut / name).write_bytes((cut / name).read_bytes()[:-20])
    with pytest.raises(BundleError, match=r"net.keras' in .* is not the file that was exported"):
        read_models(cut)
    changed = spoiled("changed")
    (changed / "manifest.json").write_text(json.dumps(manifest | {"task": "regression"}))
    with pytest.raises(BundleError, match="was changed after it was exported"):
        read_models(changed)
    for away in ("../secret", "a/../../secret", "/etc/hostname"):
        left = spoiled(f"away{len(away)}")
        files = manifest["files"] | {away: file_entry(b"secret")}
        (left / "manifest.json").write_text(sealed(manifest | {"files": files}))
        with pytest.raises(BundleError, match="expected a plain file name inside the folder"):
            read_models(left)


def test_code_that_was_put_into_a_file_is_not_run(tmp_path) -> None:
    import keras

    from tunekit.export.net_files import load_net

    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Lambda(lambda x: x + 1)(inputs))
    model.save(tmp_path / "net.keras")
    with pytest.raises(ExportError, match="can't be loaded in Keras's safe mode"):
        load_net(tmp_path / "net.keras")


def test_registering_takes_a_bundle(searched, tmp_path) -> None:
    arguments = [
        "export",
        str(searched / "study.py"),
        "-o",
        str(tmp_path / "m"),
        "--format",
        "keras",
        "--register",
        "x",
    ]
    assert CliRunner().invoke(app, arguments).exit_code == 2


@pytest.mark.parametrize("kind", ["ordinal", "several"])
def test_heads_of_our_own(kind, tmp_path) -> None:
    table = houses()
    table["grade"] = np.array(["low", "mid", "top"])[np.digitize(table["Sale_Price"], [140_000, 190_000])]
    targets = {
        "ordinal": '"grade", classes=["low", "mid", "top"], ordered=True, kinds={"Sale_Price": "drop"}',
        "several": '["Sale_Price", "grade"]',
    }
    table.to_csv(tmp_path / "train.csv", index=False)
    data = f'tk.Table(HERE / "train.csv", target={targets[kind]})'
    write_study(tmp_path, data, "mlp, tk.XGBoost()", code=NET, options="split=tk.Holdout()")
    search(tmp_path, 2)
    for form in ("keras", "saved-model"):
        for family in ("mlp", "xgboost"):
            manifest = export(tmp_path, tmp_path / f"{form} {family}", family, form)
            assert manifest["members"][0]["difference"] <= manifest["parity"]["tolerance"]
