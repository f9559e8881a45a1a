"""`Bundle`: a blend that predicts raw rows, from one folder, with numpy and onnxruntime alone."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunekit.bundle.columns import ARRAY, TEXTS, array_column, raw_columns, typed_column
from tunekit.bundle.manifest import GRAPH, read_bundle
from tunekit.bundle.tasks import EVEN, MANY_CLASSES, decided, shares_of
from tunekit.bundle.texts import Vocabulary
from tunekit.errors import BundleError, DataError

BATCH = 1_000
"""Rows that the graph sees at once. Larger batches are no faster and need more memory."""

BATCH_VALUES = 4 * 2**20
"""Values of arrays, and of texts, that the graph sees at once."""

_TYPES = {
    "number": "tensor(double)",
    "boolean": "tensor(double)",
    "date": "tensor(double)",
    "category": "tensor(string)",
    **dict.fromkeys(TEXTS, "tensor(int32)"),
}

_ARRAY_TYPES = {"uint8": "tensor(uint8)", "int32": "tensor(int32)", "float32": "tensor(float)"}


class Bundle:
    """A blend of models with all of its preparation, loaded from a folder.

    Rows come as a DataFrame, a list of dicts, or a dict of columns, with the columns of the data that the models were
    trained on. A value may be missing (None, NaN, "") and a category may be new; a column may not be missing, nor may
    an array, such as an image. For an image, the path of its file may stand. Columns that the models don't read are
    ignored. Loading runs no code of the sender. One bundle may serve several threads.

    Attributes:
        name: of the study.
        task: "binary", "multiclass", "ordinal", "regression" or "several".
        classes: the classes in order, empty for regression; of two, the second is the positive one.
        targets: name, task and classes of each of several targets; empty for a single one.
        threshold: the probability from which on the second of two classes is predicted: what was best for the study's
            metric, where it counts decisions, else a half; also in bundles that say none.
        columns: (name, kind) of each column that the models read.
        manifest: what `manifest.json` says: the blend's members and weights, scores, versions, digests.

    Example:
        ```python
        bundle = Bundle.load("model")
        bundle.predict([{"Lot_Area": 9600, "Neighborhood": "North_Ames", ...}])
        ```
    """

    def __init__(self, manifest: dict[str, Any], session: Any, *, files: bool = True) -> None:
        self.manifest = manifest
        self.name: str = manifest["name"]
        self.task: str = manifest["task"]
        self.classes: list[Any] = list(manifest["classes"])
        self.targets: list[dict[str, Any]] = list(manifest.get("targets", []))
        self.threshold: float = manifest.get("threshold", EVEN)
        self.columns: list[tuple[str, str]] = [(column["name"], column["kind"]) for column in manifest["columns"]]
        self._arrays = {
            column["name"]: (tuple(column["shape"]), column["dtype"])
            for column in manifest["columns"]
            if column["kind"] == ARRAY
        }
        self._vocabularies = {
            column["name"]: Vocabulary(column["words"], column["length"], TEXTS[column["kind"]])
            for column in manifest["columns"]
            if column["kind"] in TEXTS
        }
        widths = {given.name: given.shape[-1] for given in session.get_inputs() if given.name in self._vocabularies}
        self._widths = {name: width if isinstance(width, int) else None for name, width in widths.items()}
        self._session = session
        self._files = files

    @classmethod
    def load(cls, folder: str | Path, *, threads: int = 1, files: bool = True) -> Bundle:
        """Load a bundle, after checking every file against its digest.

        Args:
            folder: as `tunekit export` wrote it.
            threads: how many one prediction may use; one is best for single rows and for servers with workers.
            files: whether for a picture the path of its file may stand: not, where rows come from other machines.

        Raises:
            BundleError: the folder holds no bundle, a changed one, or one for another version.
        """
        folder = Path(folder)
        manifest, contents = read_bundle(folder)
        tuned = any(column["kind"] == ARRAY or column["kind"] in TEXTS for column in manifest["columns"])
        graph = open_graph(contents[GRAPH], threads, f"{GRAPH} in {str(folder)!r}", tuned=tuned)
        bundle = cls(manifest, graph, files=files)
        bundle._check_graph(folder)
        return bundle

    def predict(self, rows: Any) -> Any:
        """Predict the value of each row, or its class.

        A binary class is the second one from a probability of `threshold` on; of more, the most probable one. Of
        classes in an order it is the middle one: neither those below nor those above have more than half of the
        probability.

        Args:
            rows: a DataFrame, a list of dicts, or a dict of columns; n rows.

        Returns:
            (n,): float64 values, or classes as in `classes`. Of several targets, a dict with those of each by its name.

        Raises:
            DataError: a column is missing, or a value does not fit its column.
        """
        found = {
            name: decided(part, task, classes, threshold=self.threshold)
            for name, task, classes, part in self.parts(self.raw(rows))
        }
        return found if self.targets else found[""]

    def predict_proba(self, rows: Any) -> Any:
        """Predict the probability of each class.

        Args:
            rows: a DataFrame, a list of dicts, or a dict of columns; n rows.

        Returns:
            (n, K), in the order of `classes`; two columns for a binary task. Of several targets, a dict with those of
            each that has classes.

        Raises:
            BundleError: the bundle predicts a number, which has no classes.
            DataError: a column is missing, or a value does not fit its column.
        """
        if self.task == "regression":
            raise BundleError(f"the bundle {self.name!r} predicts a number, not classes; use predict(rows)")
        parts = self.parts(self.raw(rows))
        found = {name: shares_of(part, task) for name, task, _, part in parts if task != "regression"}
        return found if self.targets else found[""]

    def predict_columns(self, rows: Any) -> dict[str, Any]:
        """Predict all there is, as columns of a table.

        Args:
            rows: a DataFrame, a list of dicts, or a dict of columns; n rows.

        Returns:
            (n,) each: `prediction` and, for classes, `proba_<class>`. Of several targets, `prediction_<target>` and
            `proba_<target>_<class>`.

        Raises:
            DataError: a column is missing, or a value does not fit its column.
        """
        values: dict[str, Any] = {}
        shares: dict[str, Any] = {}
        for name, task, classes, part in self.parts(self.raw(rows)):
            label = f"_{name}" if name else ""
            values[f"prediction{label}"] = decided(part, task, classes, threshold=self.threshold)
            if task != "regression":
                found = shares_of(part, task)
                shares |= {f"proba{label}_{one}": found[:, at] for at, one in enumerate(classes)}
        return values | shares

    def predict_members(self, rows: Any) -> npt.NDArray[np.float64]:
        """Predict with each member of the blend: where they disagree, the blend is less sure.

        Args:
            rows: a DataFrame, a list of dicts, or a dict of columns; n rows.

        Returns:
            (n, members, outputs): values, the probability of the second class, or of each class; members in the order
            of `manifest["members"]`. Where `manifest["combination"]` is a mean, their weighted sum over members is the
            blend's prediction.

        Raises:
            DataError: a column is missing, or a value does not fit its column.
        """
        return self._run(rows, "members")

    def __repr__(self) -> str:
        members = len(self.manifest["members"])
        return f"Bundle({self.name!r}, {self.task}, {members} member(s), {len(self.columns)} columns)"

    def raw(self, rows: Any) -> npt.NDArray[np.float64]:
        """What `predict` and `predict_proba` are made of: (n, outputs), see `parts`.

        Args:
            rows: a DataFrame, a list of dicts, or a dict of columns; n rows.

        Raises:
            DataError: a column is missing, or a value does not fit its column.
        """
        return self._run(rows, "prediction")

    def parts(self, raw: npt.NDArray[np.float64]) -> list[tuple[str, str, list[Any], npt.NDArray[np.float64]]]:
        """Name, task, classes and columns of raw predictions, of each target; a single one has the name ""."""
        if not self.targets:
            return [("", self.task, self.classes, raw)]
        found, start = [], 0
        for target in self.targets:
            width = len(target["classes"]) if target["task"] in MANY_CLASSES else 1
            found.append((target["name"], target["task"], target["classes"], raw[:, start : start + width]))
            start += width
        return found

    def _run(self, rows: Any, output: str) -> npt.NDArray[np.float64]:
        typed, count = self._typed(rows)
        name = self.manifest["graph"][output]
        batches = [self._batch(name, batch) for batch in self._batches(typed, count)]
        if not batches:
            outputs: int = self.manifest["outputs"]
            return np.empty((0, outputs) if output == "prediction" else (0, len(self.manifest["members"]), outputs))
        return np.asarray(batches[0] if len(batches) == 1 else np.concatenate(batches))

    def _batches(self, typed: dict[str, npt.NDArray[Any]], count: int) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """The columns as the graph takes them, some rows at a time; fewer where texts are long."""
        step = self._at_once
        for start in range(0, count, step):
            batch: dict[str, Any] = {column: values[start : start + step] for column, values in typed.items()}
            texts = {column: known.rows(batch[column]) for column, known in self._vocabularies.items()}
            widest = sum(int(rows.lengths.max(initial=1)) for rows in texts.values())
            some = max(1, min(step, BATCH_VALUES // max(widest, 1)))
            for first in range(0, min(step, count - start), some):
                place = slice(first, first + some)
                words = {column: rows.take(place).padded(self._widths[column]) for column, rows in texts.items()}
                yield {column: values[place] for column, values in batch.items()} | words

    @property
    def _at_once(self) -> int:
        """Rows that the graph sees at once: `BATCH`, or fewer where arrays are large."""
        values = sum(math.prod(shape) for shape, _ in self._arrays.values())
        return max(1, min(BATCH, int(BATCH_VALUES // max(values, 1))))

    def _batch(self, output: str, columns: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
        try:
            return np.asarray(self._session.run([output], columns)[0])
        except UnicodeEncodeError as error:
            raise DataError(
                f"the text {error.object!r} has half of a character (a lone surrogate); expected text that UTF-8 can "
                "hold: read the file with its own encoding"
            ) from None

    def _typed(self, rows: Any) -> tuple[dict[str, npt.NDArray[Any]], int]:
        raw, count = raw_columns(rows)
        if not raw and not count:  # an empty list has no columns to name
            return {}, 0
        absent = [name for name, _ in self.columns if name not in raw]
        if absent:
            raise DataError(
                f"{len(absent)} of {len(self.columns)} column(s) are missing: {_absent(absent, list(raw))}; expected "
                "every column that the models were trained on (a value may be missing, a column may not)"
            )
        typed = {
            name: array_column(raw[name], *self._arrays[name], name, files=self._files)
            if kind == ARRAY
            else typed_column(raw[name], kind, name)
            for name, kind in self.columns
        }
        for name, values in typed.items():
            if values.shape[:1] != (count,) or (values.ndim > 1 and name not in self._arrays):
                raise DataError(
                    f"column {name!r} has shape {values.shape}; expected one value for each of {count} rows"
                )
        return typed, count

    def _check_graph(self, folder: Path) -> None:
        expected = {name: _TYPES[kind] for name, kind in self.columns if kind != ARRAY}
        expected |= {name: _ARRAY_TYPES[dtype] for name, (_, dtype) in self._arrays.items()}
        received = {given.name: given.type for given in self._session.get_inputs()}
        outputs = {given.name for given in self._session.get_outputs()}
        graph = self.manifest["graph"]
        if expected != received or not {graph.get("prediction"), graph.get("members")} <= outputs:
            raise BundleError(
                f"{GRAPH} in {str(folder)!r} reads {len(received)} column(s) that differ from the "
                f"{len(expected)} that the manifest names; expected the same: export the bundle again"
            )


def open_graph(graph: bytes, threads: int, name: str, *, tuned: bool) -> Any:
    """An onnxruntime session of a graph.

    Args:
        graph: an ONNX model.
        threads: that one prediction may use.
        name: of the graph, in the error.
        tuned: whether onnxruntime rewrites the graph first, which pays for nets on pictures and sequences. Models of
            tables are no faster by it, and it takes up to three quarters of the time to load them.

    Raises:
        BundleError: onnxruntime can't load it.
    """
    import onnxruntime  # 0.1 s, and only needed where something is predicted

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    if not tuned:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no public base
        raise BundleError(
            f"onnxruntime {onnxruntime.__version__} can't load {name}: {error}; expected onnxruntime 1.23 or later: "
            "pip install -U onnxruntime"
        ) from error


def _absent(absent: list[str], present: list[str], most: int = 10) -> str:
    """The missing names, each with the received name that it may have become."""
    told = []
    for name in absent[:most]:
        near = difflib.get_close_matches(name, present, n=1, cutoff=0.8)
        told.append(f"{name!r} (received {near[0]!r}?)" if near else repr(name))
    return ", ".join(told) + (f" and {len(absent) - most} more" if len(absent) > most else "")
