"""Encoded rows on disk, which every process that trains maps into its memory instead of copying.

Test rows are here without their targets: a trial predicts them along with its folds, and only the final judgement,
which holds their targets, scores them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunekit.bundle.texts import TokenRows
from tunekit.data.lazy import FileRows, write_npy
from tunekit.data.schema import Encoded

MOST_IN_MEMORY = 256 * 2**20
"""Bytes, as the float32 that nets read, of the development rows' arrays: if there are more, they are streamed.

It depends on the data alone, so that a study gives the same trials on any machine. Where rows are that large, a step
costs more than what streaming adds to it.
"""

PLACES = "_rows"
"""Ends the name of the file with the positions of a linked file's rows."""

LENGTHS = "_lengths"
"""Ends the name of the file that says how many tokens each text has: the texts' own file has those of all."""

FROZEN = "frozen-"
"""Begins the names of files that trials add: what a frozen base makes of the rows."""


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
        halves: Sequence[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = (),
        words: Mapping[str, Sequence[str]] | None = None,
        levels: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Write everything.

        Args:
            facts: task, outputs, cardinalities, and what a `Fold` is told of array and text columns.
            rows: the development rows.
            target: theirs.
            weight: theirs, or None.
            time: theirs, or None.
            pairs: (training, validation) positions in `rows`, per fold.
            unlabelled: rows to predict only: the test rows, and rows to check an export with.
            halves: of the validation rows per fold, as positions among them; see `tunekit.data.folds.halves`.
            words: of each text column by its name, in the order of their numbers.
            levels: of each category column by its name, in the order of their codes.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.glob(f"{FROZEN}*"):  # of an earlier run, whose study file may have said other things
            path.unlink()
        arrays: dict[str, Any] = {"target": target}
        for prefix, part in (("rows", rows), ("unlabelled", unlabelled)):
            for number, array in enumerate(part.all):
                tokens = {"": array.flat(), LENGTHS: array.lengths} if isinstance(array, TokenRows) else {"": array}
                arrays |= {f"{prefix}_{number}{end}": values for end, values in tokens.items()}
        arrays |= {name: array for name, array in (("weight", weight), ("time", time)) if array is not None}
        for number, (train, valid) in enumerate(pairs):
            arrays |= {f"train_{number}": train, f"valid_{number}": valid}
        for number, parts in enumerate(halves):
            arrays |= {f"half_{number}_{which}": part for which, part in enumerate(parts)}
        streamed = 4 * sum(array.size for array in rows.arrays) > MOST_IN_MEMORY
        for name, array in arrays.items():
            self._save(name, array, linked=streamed)
        counts = {"folds": len(pairs), "arrays": len(rows.arrays), "columns": len(rows.all), "streamed": streamed}
        (self.folder / "words.json").write_text(json.dumps(dict(words or {})))
        (self.folder / "levels.json").write_text(json.dumps(dict(levels or {})))
        (self.folder / "facts.json").write_text(json.dumps({**facts, **counts}))

    def _save(self, name: str, array: Any, *, linked: bool) -> None:
        """Write an array; rows of a file that would take much room are not written again, but linked to."""
        path, places = self.folder / f"{name}.npy", self.folder / f"{name}{PLACES}.npy"
        path.unlink(missing_ok=True)  # an earlier search's may be a link: the file behind it is to stay
        places.unlink(missing_ok=True)
        if linked and isinstance(array, FileRows):
            with suppress(OSError):  # it is on another disk
                path.hardlink_to(array.path)
                np.save(places, array.places)
                return
        write_npy(path, array)

    @property
    def facts(self) -> dict[str, Any]:
        """What `write` was given; the numbers of folds, of array columns and of all arrays of `Encoded`; "streamed".

        Streamed array columns are read as they are needed, instead of copied into memory.
        """
        facts: dict[str, Any] = json.loads((self.folder / "facts.json").read_text())
        return facts

    def words(self) -> dict[str, list[str]]:
        """The words of each text column by its name, in the order of their numbers."""
        words: dict[str, list[str]] = json.loads((self.folder / "words.json").read_text())
        return words

    def levels(self) -> dict[str, list[str]]:
        """The levels of each category column by its name, in the order of their codes, from 1."""
        levels: dict[str, list[str]] = json.loads((self.folder / "levels.json").read_text())
        return levels

    @property
    def rows(self) -> Encoded:
        """The development rows, mapped; array columns are lazy if they are streamed."""
        return self._encoded("rows")

    @property
    def unlabelled(self) -> Encoded:
        """The rows to predict only, mapped."""
        return self._encoded("unlabelled")

    def _encoded(self, prefix: str) -> Encoded:
        facts = self.facts
        lazy = range(2, 2 + facts["arrays"]) if facts["streamed"] else ()
        names = [f"{prefix}_{number}" for number in range(facts["columns"])]
        parts: list[Any] = [self._lazy(n) if number in lazy else self.array(n) for number, n in enumerate(names)]
        for number in range(2 + facts["arrays"], facts["columns"]):
            parts[number] = TokenRows.laid(parts[number], self.array(f"{names[number]}{LENGTHS}"))
        return Encoded.of(parts, facts["arrays"])

    def _lazy(self, name: str) -> FileRows:
        return FileRows(self.folder / f"{name}.npy", self.optional(f"{name}{PLACES}"))

    def halves(self, number: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None:
        """Of a fold's validation rows, if they were written."""
        parts = [self.optional(f"half_{number}_{which}") for which in range(2)]
        return None if parts[0] is None or parts[1] is None else (parts[0], parts[1])

    def array(self, name: str) -> npt.NDArray[Any]:
        """A mapped array."""
        array: npt.NDArray[Any] = np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        return array

    def optional(self, name: str) -> npt.NDArray[Any] | None:
        """A mapped array, or None if the data has no such thing."""
        return self.array(name) if (self.folder / f"{name}.npy").exists() else None
