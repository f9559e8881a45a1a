"""The gate: a written bundle must predict what the Python models predict, or it is not kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from tunekit.bundle import Bundle
from tunekit.data.schema import Schema
from tunekit.data.targets import places
from tunekit.errors import ExportError
from tunekit.export.plan import BlendPlan

_SINGLE_ROWS = 5
"""How many rows are also predicted alone, as a server gets them."""


@dataclass(frozen=True)
class Parity:
    """How far a bundle is from the Python models.

    Args:
        rows: that were compared.
        difference: the largest of the blend.
        members: the largest of each member, in order.
        tolerance: what was allowed.
    """

    rows: int
    difference: float
    members: tuple[float, ...]
    tolerance: float


def check_parity(bundle: Bundle, plan: BlendPlan) -> Parity:
    """Compare a loaded bundle with the plan's predictions, through the methods that its users call.

    Raises:
        ExportError: it predicts something else; the message names the member, the row and both values.
    """
    rows = as_given(plan)
    tolerance, units = tolerance_of(plan), _units(plan)
    members = np.moveaxis(bundle.predict_members(rows), 1, 0)
    worst = compared(plan, range(len(plan.members)), members, "graph")
    # What is combined are the graph's own members: trees and steep curves enlarge the rounding that those may have.
    expected = plan.combined.apply(members)
    received = _blend(bundle, rows)
    difference = float(_differences(received, expected, units).max())
    if difference > tolerance:
        raise ExportError(
            f"the blend of the written graph is {difference:.3g} off, though each member is right (tolerance "
            f"{tolerance:.3g}); this is a fault of tunekit's exporter: please report it"
        )
    _check_single_rows(bundle, plan, rows, received, tolerance)
    return Parity(plan.rows, difference, worst, tolerance)


def compared(plan: BlendPlan, positions: Sequence[int], received: Any, what: str) -> tuple[float, ...]:
    """The largest difference of each of these members from what the plan says of it.

    Args:
        plan: the blend.
        positions: of the members in the blend.
        received: what was written predicts for the plan's rows: (n, outputs) for each of the members.
        what: was written, for the message.

    Raises:
        ExportError: a member predicts something else; the message names it, the row and both values.
    """
    units, tolerance = _units(plan), tolerance_of(plan)
    pairs = zip(received, (plan.check_predictions[position] for position in positions), strict=True)
    differences = np.array([_differences(*pair, units) for pair in pairs]).reshape(-1, plan.rows)
    worst = differences.max(axis=1)
    if len(worst) and worst.max() > tolerance:
        member, row = np.unravel_index(int(differences.argmax()), differences.shape)
        wrong = f"{int((worst > tolerance).sum())} of {len(worst)} member(s) differ"
        _refuse(plan, positions[int(member)], received[int(member)], int(row), (what, wrong))
    return tuple(float(one) for one in worst)


def tolerance_of(plan: BlendPlan) -> float:
    """The largest difference that is rounding.

    Nets and XGBoost's sums are float32 on both sides, in another order of additions: a part in 10^7 of what is added,
    some hundred times over. A wrong operation, a lost category or a missing value gone astray shows far above.

    - A number may differ by 1e-4 of the predictions' standard deviation, which no metric notices, and by 4 units in the
      last place of float32 of the largest value: XGBoost and Keras return float32, however small the deviation is.
    - A probability may differ by 5e-5: deep nets with large logits reach 1e-5.
    - Of several targets each output has its own, and a difference counts in units of that: it may be 1.
    """
    return 1.0 if plan.targets else _tolerance(plan, plan.task, slice(None))


def _units(plan: BlendPlan) -> npt.NDArray[np.float64]:
    """(outputs,): what differences are divided by, so that those of several targets can be compared."""
    units = np.ones(plan.outputs)
    for _, target, outputs in places(plan.targets):
        units[outputs] = _tolerance(plan, target.task, outputs)
    return units


def _tolerance(plan: BlendPlan, task: str, outputs: slice) -> float:
    if task != "regression":
        return 5e-5
    expected = plan.check_predictions[:, :, outputs]
    blend = np.tensordot(plan.weights, expected, axes=1)  # in the members' units, however they are combined
    return float(1e-4 * np.std(blend) + 4 * np.finfo(np.float32).eps * np.abs(expected).max())


def as_given(plan: BlendPlan) -> dict[str, npt.NDArray[Any]]:
    """The plan's typed columns as a user would hand them over."""
    return given(plan.schema, plan.check_columns)


def given(schema: Schema, columns: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Typed columns as a user would hand them over: dates as dates, not as seconds."""
    made = {}
    for column in schema.columns:
        values = columns[column.name]
        if column.kind == "date":
            known = np.where(np.isnan(values), 0.0, values)
            stamps = np.round(known * 1e6).astype(np.int64).astype("datetime64[us]")
            values = np.where(np.isnan(values), np.datetime64("NaT", "us"), stamps)
        made[column.name] = values
    return made


def _differences(
    received: npt.NDArray[np.float64], expected: npt.NDArray[np.float64], units: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """(n,): the largest difference in each row; not-a-number differs from everything."""
    difference = (np.abs(received - expected) / units).max(axis=1)
    return np.where(np.isnan(difference), np.inf, difference)


def _blend(bundle: Bundle, rows: Any) -> npt.NDArray[np.float64]:
    """(n, outputs), through the methods that users call."""
    if not bundle.targets:
        return _outputs(bundle.task, lambda: bundle.predict(rows), lambda: bundle.predict_proba(rows))
    values, shares = bundle.predict(rows), bundle.predict_proba(rows)
    found = [
        _outputs(target["task"], partial(values.get, target["name"]), partial(shares.get, target["name"]))
        for target in bundle.targets
    ]
    return np.concatenate(found, axis=1)


def _outputs(task: str, predict: Callable[[], Any], predict_proba: Callable[[], Any]) -> npt.NDArray[np.float64]:
    if task == "regression":
        return np.asarray(predict())[:, None]
    probabilities: npt.NDArray[np.float64] = predict_proba()
    return probabilities[:, 1:] if task == "binary" else probabilities


def _refuse(plan: BlendPlan, member: int, received: npt.NDArray[np.float64], row: int, told: tuple[str, str]) -> None:
    what, wrong = told
    expected = plan.check_predictions[member, row]
    column = int(np.argmax(np.abs(received[row] - expected) / _units(plan)))
    which = f", class {plan.classes[column]!r}" if plan.outputs == len(plan.classes) else ""
    raise ExportError(
        f"the written {what} doesn't predict what Python predicts, and nothing is kept: member "
        f"{plan.members[member].label!r}, row {row}{which}: received {received[row, column]:.9g} from the {what}, "
        f"expected {expected[column]:.9g} (tolerance {tolerance_of(plan):.3g}); {wrong}. Leave that member out of the "
        f"blend. The row: {_told(as_given(plan), row)}"
    )


def _told(rows: dict[str, npt.NDArray[Any]], row: int, most: int = 8) -> str:
    shown = ", ".join(f"{name}={values[row]!s}" for name, values in list(rows.items())[:most])
    return shown if len(rows) <= most else f"{shown} and {len(rows) - most} more columns"


def _check_single_rows(
    bundle: Bundle,
    plan: BlendPlan,
    rows: dict[str, npt.NDArray[Any]],
    together: npt.NDArray[np.float64],
    tolerance: float,
) -> None:
    """A row alone gives what it gives among others: some operators go wrong only where there is one row."""
    for row in np.unique(np.linspace(0, plan.rows - 1, _SINGLE_ROWS).astype(int)):
        alone = _blend(bundle, [{name: values[row] for name, values in rows.items()}])
        difference = float(_differences(alone, together[row : row + 1], _units(plan)).max())
        if difference > tolerance:
            raise ExportError(
                f"row {row} predicted alone is {difference:.3g} off from the same row among others (tolerance "
                f"{tolerance:.3g}); expected the same: one of the members depends on its batch, and can't be exported"
            )
