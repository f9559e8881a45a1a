"""What a student learns of a blend: what it says of rows that it has not learnt from, and of made rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tunekit.bundle import Bundle
from tunekit.bundle.tasks import MANY_CLASSES
from tunekit.data import Encoded
from tunekit.data.munging import munged
from tunekit.data.preparation import BEYOND, Preparation
from tunekit.data.scales import suits_logarithm
from tunekit.data.store import Store
from tunekit.ensemble import Combination
from tunekit.export.parity import given
from tunekit.study.blend import Candidate
from tunekit.study.prepared import Prepared
from tunekit.training.student import SOFT

Rows = npt.NDArray[np.int64]
Predictions = npt.NDArray[np.float64]

TRUTH = 0.3
"""Share of the targets themselves in what is learnt of a row, beside what the blend says of it."""

MADE = 4
"""Made rows for each real one, up to `MOST_MADE` in all."""

MOST_MADE = 20_000

DUMMIES = 8
"""Training rows that stand where a fold has rows that judge, if none do."""


@dataclass(frozen=True)
class Lesson:
    """Rows, and what is to be learnt of them.

    A blend that has learnt a row says little more of it than its target. So of each row its word out of fold is taken,
    and of the test rows the one by which it was judged; the targets have a share in it (Hinton 2015, arXiv 1503.02531).
    Made rows, labelled by the bundle, show what the blend says between the real ones (Bucila 2006; Fakoor 2020, arXiv
    2006.14284).

    Args:
        prepared: the rows.
        teacher: the blend's bundle.
        soft: (rows of the data, outputs): values or shares of classes to be learnt.
        logarithm: whether the logarithm of values is learnt: see `suits_logarithm`.
    """

    prepared: Prepared
    teacher: Bundle
    soft: Predictions
    logarithm: bool | None

    @classmethod
    def of(cls, prepared: Prepared, teacher: Bundle, members: Sequence[Candidate], combination: Combination) -> Lesson:
        """Mix the targets with what a blend says of rows that it has not learnt from.

        Of rows that only ever train, such as the earliest of a split in time, it says nothing: there the targets stay.
        """
        data, tests = prepared.data, prepared.folds.test
        many = data.task in MANY_CLASSES
        soft = np.eye(data.outputs)[data.target.astype(int)] if many else data.target[:, None].copy()
        lesson = cls(prepared, teacher, soft, suits_logarithm(data, prepared.folds.development))
        out_of_fold = combination.apply(np.stack([one.out_of_fold for one in members]))
        of_tests = combination.apply(np.stack([one.unlabelled[: len(tests)] for one in members]))
        # Where classes weigh differently, the blend's shares are those of weighted rows; the targets' are not.
        share = TRUTH if data.class_weight is None else 0.0
        for rows, said in ((prepared.covered, out_of_fold), (tests, of_tests)):
            soft[rows] = lesson._mixed(soft[rows], said, share)
        return lesson

    def write(self, folder: Path, train: Rows, valid: Rows, seed: int) -> None:
        """Write a store for `tunekit.training.student.run_student`.

        Args:
            folder: of the store.
            train: positions of the rows to learn from, and to make rows of.
            valid: positions of rows apart, which say how long to learn; none if that is known.
            seed: of the made rows.
        """
        prepared, data, schema = self.prepared, self.prepared.data, self.prepared.schema
        rows = np.concatenate([train, valid])
        encoded = schema.encode(data.raw_rows(rows))
        made, source = munged(data.raw_rows(train), self._features(encoded, train), _count(train), seed)
        taught = np.concatenate([self.soft[rows], self._within(self.teacher.raw(given(schema, made)))])
        like = np.concatenate([rows, train[source]])
        places = np.arange(len(like))
        judging = places[len(train) : len(rows)] if len(valid) else places[:DUMMIES]
        store = Store(folder)
        store.write(
            facts={
                "task": data.task,
                "outputs": data.outputs,
                "cardinalities": list(schema.cardinalities),
                "array_names": [],
                "text_columns": [],
                "targets": [],
                "class_weight": None,
                "scaled_by": [],
                "naive": {},
                "anchor": -1,
                "logarithm": self.logarithm,
            },
            rows=Encoded.joined(encoded, schema.encode(made)),
            target=data.target[like],
            weight=None if data.weight is None else data.weight[like],
            time=None,
            pairs=[(np.delete(places, np.arange(len(train), len(rows))), judging)],
            unlabelled=Encoded.joined(
                schema.encode(data.raw_rows(prepared.folds.test)), schema.encode(prepared.probes)
            ),
        )
        np.save(folder / f"{SOFT}.npy", taught)

    def _features(self, encoded: Encoded, train: Rows) -> npt.NDArray[np.float32]:
        """By which the rows to learn from are alike."""
        own = encoded.take(np.arange(len(train)))
        features: npt.NDArray[np.float32] = Preparation.fit(own, self.prepared.schema.cardinalities).apply(own, "flat")[
            "features"
        ]
        return features

    def _mixed(self, target: Predictions, said: Predictions, share: float) -> Predictions:
        """The targets' share and the blend's word, in the scale that is learnt."""
        if not self.logarithm:
            return share * target + (1.0 - share) * said
        return np.exp(share * np.log(target) + (1.0 - share) * np.log(self._within(said)))

    def _within(self, said: Predictions) -> Predictions:
        """Values whose logarithm can be learnt: a blend of models that did not learn it may say 0, or less."""
        if not self.logarithm:
            return said
        lowest = float(self.prepared.data.target[self.prepared.folds.development].min())
        return np.maximum(said, lowest / BEYOND)


def _count(train: Rows) -> int:
    """How many rows are made."""
    return min(math.ceil(MADE * len(train)), MOST_MADE)
