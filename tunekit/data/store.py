"""Encoded rows on disk, which every process that trains maps into its memory instead of copying.

Test rows are here without their targets: a trial predicts them along with its folds, and only the final judgement,
which holds their targets, scores them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunekit.data.schema import Encoded


@dataclass(frozen=True)
class Store:
    """The folder of a study's rows.

    Args:
        folder: holds `.npy` files and `facts.json`.
    """

    folder: Path

    def write(
        self,
        *,
        facts: dict[str, Any],
        rows: Encoded,
        target: npt.NDArray[np.float64],
        weight: npt.NDArray[np.float64] | None,
        time: npt.NDArray[np.float64] | None,
        pairs: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]],
        unlabelled: Encoded,
        words: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Write everything.

        Args:
            facts: task, outputs, cardinalities, names of the array columns, and the text columns.
            rows: the development rows.
            target: theirs.
            weight: theirs, or None.
            time: theirs, or None.
            pairs: (training, validation) positions in `rows`, per fold.
            unlabelled: rows to predict only: the test rows, and rows to check an export with.
            words: of each text column by its name, in the order of their numbers.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {"target": target}
        for prefix, part in (("rows", rows), ("unlabelled", unlabelled)):
            arrays |= {f"{prefix}_{number}": array for number, array in enumerate(part.all)}
        arrays |= {name: array for name, array in (("weight", weight), ("time", time)) if array is not None}
        for number, (train, valid) in enumerate(pairs):
            arrays |= {f"train_{number}": train, f"valid_{number}": valid}
        for name, array in arrays.items():
            np.save(self.folder / f"{name}.npy", np.ascontiguousarray(array))
        counts = {"folds": len(pairs), "arrays": len(rows.arrays), "columns": len(rows.all)}
        (self.folder / "words.json").write_text(json.dumps(dict(words or {})))
        (self.folder / "facts.json").write_text(json.dumps({**facts, **counts}))

    @property
    def facts(self) -> dict[str, Any]:
        """What `write` was given, and the numbers of folds, of array columns and of all arrays of `Encoded`."""
        facts: dict[str, Any] = json.loads((self.folder / "facts.json").read_text())
        return facts

    def words(self) -> dict[str, list[str]]:
        """The words of each text column by its name, in the order of their numbers."""
        words: dict[str, list[str]] = json.loads((self.folder / "words.json").read_text())
        return words

    @property
    def rows(self) -> Encoded:
        """The development rows, mapped."""
        return self._encoded("rows")

    @property
    def unlabelled(self) -> Encoded:
        """The rows to predict only, mapped."""
        return self._encoded("unlabelled")

    def _encoded(self, prefix: str) -> Encoded:
        facts = self.facts
        return Encoded.of([self.array(f"{prefix}_{number}") for number in range(facts["columns"])], facts["arrays"])

    def array(self, name: str) -> npt.NDArray[Any]:
        """A mapped array."""
        array: npt.NDArray[Any] = np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        return array

    def optional(self, name: str) -> npt.NDArray[Any] | None:
        """A mapped array, or None if the data has no such thing."""
        return self.array(name) if (self.folder / f"{name}.npy").exists() else None
