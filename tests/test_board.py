"""What a search writes down for TensorBoard, as TensorBoard's own reader and server find it."""

import json
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from searches import attrition, command, shown, started, tunekit, write_study  # type: ignore[import-not-found]
from servers import answer_of, free_port  # type: ignore[import-not-found]

from tunekit.families.wide_deep import WIDE, crosses, wide_part
from tunekit.study import load_study
from tunekit.training.board import MISSING, UNSEEN, Labels, write_embeddings

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("kept_servers")]


@pytest.fixture(scope="module")
def searched(tmp_path_factory) -> Path:
    """A folder with two searches of the same study: with TensorBoard and without."""
    folder: Path = tmp_path_factory.mktemp("board")
    attrition().to_csv(folder / "train.csv", index=False)
    data = 'tk.Table(HERE / "train.csv", target="Attrition")'
    code = "mlp = tk.MLP()\nmlp.epochs = 4"
    write_study(folder, data, "tk.Baseline(), mlp", options="split=tk.StratifiedKFold(2)", code=code)
    for root in ("mlruns", "plain"):
        study = load_study(folder / "study.py")
        study.run(trials=2, workers=1, observers=[], root=folder / root, tensorboard=root == "mlruns")
    return folder


def test_it_changes_nothing(searched: Path) -> None:
    written, plain = (shown(searched, root)["trials"] for root in ("mlruns", "plain"))
    assert [trial["fold_scores"] for trial in written] == [trial["fold_scores"] for trial in plain]
    assert [len(trial["fold_scores"]) for trial in plain] == [2, 2]
    assert not list((searched / "plain").rglob("tensorboard"))


def test_curves_graph_histograms_and_embeddings_are_there(searched: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    [trial] = (searched / "mlruns/studies/small/trials").glob("*-mlp")
    curve = [point for point in json.loads((trial / "trial.json").read_text())["curve"] if point["fold"] == 1]
    board = trial / "tensorboard" / "fold1"
    found = EventAccumulator(str(board), size_guidance={"tensors": 0})
    found.Reload()
    tags = found.Tags()
    assert tags["graph"]
    assert {"loss", "val_loss", "average_precision", "learning_rate"} <= set(tags["tensors"])
    written = [float(make_ndarray(event.tensor_proto)) for event in found.Tensors("val_loss")]
    assert written == pytest.approx([point["logs"]["val_loss"] for point in curve])
    for kind in ("weights", "gradients"):
        kernels = [tag for tag in tags["tensors"] if tag.startswith(f"{kind}/") and tag.endswith("kernel")]
        assert kernels
        assert len(found.Tensors(kernels[0])) == len(curve)
    assert "metadata_path" in (board / "projector_config.pbtxt").read_text()
    [labels], [rows] = board.glob("*-labels.tsv"), [path for path in board.glob("*.tsv") if "labels" not in path.name]
    named = labels.read_text().splitlines()
    assert len(named) == len(rows.read_text().splitlines())
    assert {"JobRole: Manager", f"JobRole: {MISSING}", f"JobRole: {UNSEEN}"} <= set(named)


OWN = """
import keras_tuner

class Own(keras_tuner.HyperModel):
    def build(self, hp):
        hidden = keras.layers.Dense(hp.Choice("units", [8, 16]), "relu")
        model = keras.Sequential([hidden, keras.layers.Dense(1, "sigmoid")])
        model.compile("adam", "binary_crossentropy")
        return model

    def fit(self, hp, model, x, y, callbacks=None, **more):
        coder = keras.Sequential([keras.layers.Dense(3), keras.layers.Dense(x.shape[1])])
        coder.compile("adam", "mse")
        coder.fit(x, x, callbacks=callbacks, epochs=1, verbose=0)
        for rate in (0.01, 0.001):
            model.optimizer.learning_rate = rate
            history = model.fit(x, y, callbacks=callbacks, epochs=2, verbose=0, **more)
        return history
"""


def test_a_fit_of_the_authors_own_is_written_down_phase_by_phase(tmp_path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    attrition().to_csv(tmp_path / "train.csv", index=False)
    data = 'tk.Table(HERE / "train.csv", target="Attrition")'
    families = "tk.Baseline(), tk.Keras(Own())"
    write_study(tmp_path, data, families, options="split=tk.StratifiedKFold(2)", code=OWN)
    tunekit(tmp_path, "search", "study.py", "--trials", "2", "--workers", "1", "--tensorboard")
    boards = sorted((tmp_path / "mlruns/studies/small/trials").glob("*/tensorboard/*"))
    assert [board.name for board in boards] == ["fold0", "fold0-phase2", "fold1", "fold1-phase2"]  # not the coder's
    for board in boards:
        found = EventAccumulator(str(board), size_guidance={"tensors": 0})
        found.Reload()
        tags = found.Tags()
        assert tags["graph"]
        assert [event.step for event in found.Tensors("val_loss")] == [0, 1]
        assert {kind for tag in tags["tensors"] for kind in ("weights", "gradients") if tag.startswith(kind)} == {
            "weights",
            "gradients",
        }


def test_tensorboard_opens_on_it(searched: Path) -> None:
    port = free_port()
    printed = searched / "printed.txt"
    with started(command("ui", "--tensorboard", "--port", str(port), "--json"), searched):
        address = f"http://127.0.0.1:{port}"
        answer_of(f"{address}/data/environment", printed)
        assert json.dumps({"url": address}) in printed.read_text().splitlines()
        with urllib.request.urlopen(f"{address}/data/runs", timeout=30) as answer:
            runs = json.load(answer)
    assert any(run.endswith("tensorboard/fold0") for run in runs)


def test_without_any_it_says_how_to_get_some(searched: Path) -> None:
    said = tunekit(searched, "ui", "--tensorboard", "--root", "plain", expect=1)
    assert "tunekit search --tensorboard" in said.stderr


def test_labels_are_those_of_one_table_for_all_columns_and_of_each_text() -> None:
    labels = Labels({"size": ["L", "S"]}, {"said": ["good"]})
    assert labels.of("embedding", 4) == ["size: (missing)", "size: L", "size: S", "size: (unseen)"]
    assert labels.of("embedding", 3) == ["(padding)", "good", "(unknown)"]
    assert labels.of("embedding", 5) == Labels({}, {}).of("embedding", 5) == []


def test_the_wide_part_has_labels_of_its_crosses(tmp_path: Path) -> None:
    """Each row's weights say which one it is, so that the output for some categories says which rows are read."""
    import keras

    levels = {"size": ["L", "S"], "colour": ["red"], "street": [f"street {number}" for number in range(300)]}
    sizes, alone = np.array([4, 3, 302]), {"size: S", "colour: red", "street: street 6"}
    crossed = {"size: S, colour: red", "colour: red, street: street 6"}
    for columns, expected, buckets in ((0, alone, 0), (2, alone, 1), (3, alone | crossed, 1)):
        rows = int(sizes.sum() + crosses(sizes, columns)[1].sum())
        codes = keras.Input((3,), dtype="int32")
        data: Any = SimpleNamespace(cardinalities=tuple(sizes.tolist()), units=rows)
        model = keras.Model(codes, wide_part(codes, data, columns, None))
        model.get_layer(WIDE).embeddings.assign(np.eye(rows))
        labels = Labels(levels, {}).of(WIDE, rows)
        assert len(labels) == rows
        read = {labels[row] for row in np.flatnonzero(model(np.array([[2, 1, 7]]))[0])}
        assert {label for label in read if "bucket" not in label} == expected
        assert len([label for label in read if label.startswith("size x street: bucket ")]) == buckets
        assert Labels(levels, {}).of(WIDE, rows + 1) == []
    data.units = 1
    model = keras.Model(codes, wide_part(codes, data, 3, None))
    write_embeddings(tmp_path, model, Labels(levels, {}))
    [named] = tmp_path.glob("*-labels.tsv")
    assert len(named.read_text().splitlines()) == rows
