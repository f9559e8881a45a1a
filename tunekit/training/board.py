"""What TensorBoard shows of a fit: curves, the graph, histograms of weights and gradients, and what was embedded.

None of it changes the training: gradients are those of some training rows without dropout, after each epoch.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tunekit.families import Fold
from tunekit.families.wide_deep import WIDE, wide_labels
from tunekit.training.fitted import FittedNet, shapes_of, target_of

MOST_ROWS = 256
"""Training rows that gradients are computed of."""

MOST_POINTS = 20_000
"""Rows of an embedding that the projector is given: its page holds all of them."""

MISSING, UNSEEN, PADDING, UNKNOWN = "(missing)", "(unseen)", "(padding)", "(unknown)"
"""Labels of codes and numbers that stand for no level and no word."""


class Board(keras.callbacks.Callback):  # type: ignore[misc]
    """Writes TensorBoard's files of a net's training. Each phase of it, each `fit`, has a folder of its own.

    Args:
        folder: of the first phase.
        fitted: the net that is trained. Others that an author trains with the same callbacks are not written down.
        fold: its rows.
    """

    def __init__(self, folder: Path, fitted: FittedNet, fold: Fold) -> None:
        super().__init__()
        self._folder = folder
        self._shapes = shapes_of(fitted.model)
        self._rows = _some_rows(fitted, fold)
        self._writer: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Write the graph of a prediction."""
        del logs
        if shapes_of(self.model) != self._shapes:
            return
        phase, folder = 1, self._folder
        while folder.exists():
            phase += 1
            folder = self._folder.with_name(f"{self._folder.name}-phase{phase}")
        self._writer = tf.summary.create_file_writer(str(folder))
        self._gradients = tf.function(self._compute_gradients)
        function = tf.function(lambda x: self.model(x, training=False))
        with self._writer.as_default():
            tf.summary.graph(function.get_concrete_function(self._rows[0]).graph)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write the epoch's figures and histograms."""
        if shapes_of(self.model) != self._shapes:
            return
        if self._writer is None:  # in a loop of an author's own, who tells of epochs only
            self.on_train_begin()
        with self._writer.as_default(step=epoch):
            for name, value in (logs or {}).items():
                tf.summary.scalar(name, float(value))
            for variable in self.model.trainable_variables:
                tf.summary.histogram(f"weights/{variable.path}", variable.value)
            for variable, gradient in zip(self.model.trainable_variables, self._gradients(), strict=True):
                if gradient is not None:
                    tf.summary.histogram(f"gradients/{variable.path}", gradient)
        self._writer.flush()

    def on_train_end(self, logs: Any = None) -> None:
        """Close the files."""
        del logs
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _compute_gradients(self) -> list[Any]:
        """Of the loss on the rows that were set aside for it, by trainable variable; None for each without a loss."""
        variables = [variable.value for variable in self.model.trainable_variables]
        if getattr(self.model, "loss", None) is None:
            return [None] * len(variables)
        x, y = self._rows
        with tf.GradientTape() as tape:
            loss = self.model.compute_loss(x=x, y=y, y_pred=self.model(x, training=False), training=False)
        return [None if one is None else tf.convert_to_tensor(one) for one in tape.gradient(loss, variables)]


def write_embeddings(folder: Path, model: keras.Model, labels: Labels) -> None:
    """Write a net's embeddings as TensorBoard's projector reads them.

    Args:
        folder: of the fit's board.
        model: trained.
        labels: what the rows of embeddings stand for.
    """
    from tensorboard.plugins import projector

    config = projector.ProjectorConfig()
    folder.mkdir(parents=True, exist_ok=True)
    for layer in _embeddings(model):
        values = np.asarray(layer.embeddings)[:MOST_POINTS]
        name = layer.path.replace("/", "_")
        entry = config.embeddings.add()
        entry.tensor_name, entry.tensor_path = layer.name, f"{name}.tsv"
        _write_rows(folder / entry.tensor_path, values)
        if rows := labels.of(layer.name, layer.input_dim):
            entry.metadata_path = f"{name}-labels.tsv"
            _write_rows(folder / entry.metadata_path, [[label] for label in rows[:MOST_POINTS]])
    if config.embeddings:
        projector.visualize_embeddings(str(folder), config)


class Labels:
    """What the rows of embeddings stand for: of all category columns in one table, and of each text column's words.

    Args:
        levels: of each category column.
        words: of each text column.
    """

    def __init__(self, levels: Mapping[str, Sequence[str]], words: Mapping[str, Sequence[str]]) -> None:
        self._codes = {name: [MISSING, *known, UNSEEN] for name, known in levels.items()}
        table = [f"{name}: {code}" for name, codes in self._codes.items() for code in codes]
        texts = [[PADDING, *known, UNKNOWN] for known in words.values()]
        self._by_rows = {len(rows): rows for rows in [table, *texts]}

    def of(self, layer: str, rows: int) -> list[str]:
        """The labels of an embedding; none where its rows stand for something else.

        Args:
            layer: its name.
            rows: how many it has.
        """
        return wide_labels(self._codes, rows) if layer == WIDE else self._by_rows.get(rows, [])


def _embeddings(model: keras.Model) -> Iterator[Any]:
    return (layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.Embedding))


def _write_rows(path: Path, rows: Sequence[Sequence[Any]] | npt.NDArray[Any]) -> None:
    """Write tab-separated rows; the projector knows no way to say that a label holds a tab or a line's end."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None)
        writer.writerows([" ".join(str(cell).split()) or " " for cell in row] for row in rows)


def _some_rows(fitted: FittedNet, fold: Fold) -> tuple[Any, Any]:
    """Some training rows as tensors: what the net takes, and what its loss takes."""
    rows = np.random.default_rng(fold.seed).permutation(len(fold.train))[:MOST_ROWS]

    def taken(arrays: Any) -> Any:
        return keras.tree.map_structure(lambda array: tf.constant(array[rows]), arrays)

    return taken(fitted.inputs(fold, "train")), taken(target_of(fitted, fold, fold.train))
