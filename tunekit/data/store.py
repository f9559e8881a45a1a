"""Encoded rows on disk, which every process that trains maps into its memory instead of copying.

Test rows are here without their targets: a trial predicts them along with its folds, and only the final judgement,
which holds their targets, scores them.
"""

from __future__ import annotations

import json
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
    ) -> None:
        """Write everything.

        Args:
            facts: task, outputs, cardinalities, and names of the array columns.
            rows: the development rows.
            target: theirs.
            weight: theirs, or None.
            time: theirs, or None.
            pairs: (training, validation) positions in `rows`, per fold.
            unlabelled: rows to predict only: the test rows, and rows to check an export with.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {"numbers": rows.numbers, "codes": rows.codes, "target": target}
        arrays |= {"unlabelled_numbers": unlabelled.numbers, "unlabelled_codes": unlabelled.codes}
        for prefix, part in (("", rows), ("unlabelled_", unlabelled)):
            arrays |= {f"{prefix}array_{number}": array for number, array in enumerate(part.arrays)}
        arrays |= {name: array for name, array in (("weight", weight), ("time", time)) if array is not None}
        for number, (train, valid) in enumerate(pairs):
            arrays |= {f"train_{number}": train, f"valid_{number}": valid}
        for name, array in arrays.items():
            np.save(self.folder / f"{name}.npy", np.ascontiguousarray(array))
        counts = {"folds": len(pairs), "arrays": len(rows.arrays)}
        (self.folder / "facts.json").write_text(json.dumps({**facts, **counts}))

    @property
    def facts(self) -> dict[str, Any]:
        """Task, outputs, cardinalities, names of the array columns, and the numbers of folds and of array columns."""
        facts: dict[str, Any] = json.loads((self.folder / "facts.json").read_text())
        return facts

    @property
    def rows(self) -> Encoded:
        """The development rows, mapped."""
        return self._encoded("")

    @property
    def unlabelled(self) -> Encoded:
        """The rows to predict only, mapped."""
        return self._encoded("unlabelled_")

    def _encoded(self, prefix: str) -> Encoded:
        arrays = tuple(self.array(f"{prefix}array_{number}") for number in range(self.facts["arrays"]))
        return Encoded(self.array(f"{prefix}numbers"), self.array(f"{prefix}codes"), arrays)

    def array(self, name: str) -> npt.NDArray[Any]:
        """A mapped array."""
        array: npt.NDArray[Any] = np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        return array

    def optional(self, name: str) -> npt.NDArray[Any] | None:
        """A mapped array, or None if the data has no such thing."""
        return self.array(name) if (self.folder / f"{name}.npy").exists() else None
