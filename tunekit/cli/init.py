"""Writes a study for a table: what was inferred, with the reasons as comments."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tunekit.data import Dataset, Split, Table, default_split
from tunekit.metrics import usual_metric

TEMPLATE = '''"""{title}  Run: tunekit search {output} --budget 10m"""

from pathlib import Path

import keras
import tunekit as tk

HERE = Path(__file__).parent


def net(hp, data):
    """A Keras model of your own; edit it freely. hp draws values, data knows the columns and the task."""
    inputs, x = data.keras_inputs()
    for i in range(hp.Int("layers", 1, 3, default=2)):
        with hp.name_scope(f"block_{{i}}"):
            x = keras.layers.Dense(hp.Int("units", 32, 256, step=2, sampling="log", default=128), activation="relu")(x)
            x = keras.layers.Dropout(hp.Float("dropout", 0.0, 0.5, default=0.2))(x)
    model = keras.Model(inputs, data.keras_head(x))
    model.compile(keras.optimizers.Adam(hp.Float("lr", 1e-4, 1e-2, sampling="log", default=1e-3)), loss=data.loss)
    return model


study = tk.Study(
    {name},
    # {rows} rows; {columns}.
    data=tk.Table(
        HERE / {path},
        target={target},  # {about_target}
{roles}        # kinds={{"COLUMN": "category"}},  # or "number", "boolean", "date", "text", "drop": corrects a type
    ),
    metric={metric},  # {why_metric}
    # {about_split}.
    split={split},
    families=[
        tk.Baseline(),  # what every other family has to beat
        tk.Linear(),
        tk.XGBoost(),
        # tk.LightGBM(), tk.CatBoost(),  # more boosted trees: pip install tunekit[gbdt]
        tk.Forest(),
        tk.TabM(),  # the strongest nets for tables, and the slowest
        tk.WideDeep(),
        tk.MLP(),
        tk.RealMLP(),
        tk.Keras(net),
    ],
    driver=tk.drivers.Optuna("tpe"),  # or tk.drivers.Random()
    stopper=tk.Median(),  # ends trials early that fall behind; tk.NeverStop() never does
    seed=0,
)

if __name__ == "__main__":
    result = study.run(budget="10m")  # resumes what is there
    print(result)
    result.export("model", overwrite=True)
'''

FEW = 1_000
"""Rows below which a score depends much on how the folds are drawn."""

LONGEST_COMMENT = 90
"""Letters of a text from the table that a comment repeats."""


def write_study(table: Path, output: Path, *, target: str, time: str | None, group: str | None) -> str:
    """Infer and write; what to tell its owner.

    Args:
        table: a CSV or Parquet file.
        output: the Python file.
        target: the column to predict.
        time: column for a temporal split, or None.
        group: column for a grouped split, or None.

    Raises:
        DataError: the table can't be used as it is.
    """
    data = Table(table, target=target, time=time, group=group).load()
    metric, reason = usual_metric(data.task, data.shares)
    split = default_split(data)
    split.apply(data, 0)  # says now what would fail later
    roles = {"time": time, "group": group}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(
        TEMPLATE.format(
            title=_in_docstring(f"Predicts {target} from {table.name}."),
            output=_in_docstring(output.name),
            name=_quoted(_study_name(table.stem)),
            rows=f"{len(data):,}",
            columns=_columns(data),
            path=_quoted(os.path.relpath(table.resolve(), output.resolve().parent)),
            target=_quoted(target),
            about_target=_in_comment(_about_target(data)),
            roles="".join(f"        {role}={_quoted(column)},\n" for role, column in roles.items() if column),
            metric=_quoted(metric),
            why_metric=reason,
            split=_split(data, split),
            about_split=f"{_about_split(data)}; {split.test:.0%} of the rows are set apart for the final judgement",
        ),
        encoding="utf-8",
    )
    notices = "".join(f"note: {notice}\n" for notice in data.notices)
    return f"{notices}wrote {output}: {data.task}, judged by {metric}. Next: tunekit search {output} --budget 10m"


def _split(data: Dataset, split: Split) -> str:
    """The split as Python source."""
    return f"tk.{type(split).__name__}({getattr(split, 'k', '')}{', repeats=2' if _few(data) else ''})"


def _few(data: Dataset) -> bool:
    """Whether its rows are to be divided twice."""
    return data.time is None and len(data) < FEW


def _quoted(text: str) -> str:
    """A text as Python source, in double quotes."""
    return json.dumps(text, ensure_ascii=False)


def _study_name(stem: str) -> str:
    name = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_") else "_" for letter in stem)
    return name.lstrip("-_") or "study"


def _in_comment(text: str) -> str:
    """A text from a table, which may hold anything, as part of one line that Python doesn't read."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    return line if len(line) <= LONGEST_COMMENT else f"{line[:LONGEST_COMMENT]}..."


def _in_docstring(text: str) -> str:
    return _in_comment(text).replace("\\", "\\\\").replace('"', '\\"')


def _columns(data: Dataset) -> str:
    names: dict[str, int] = {}
    for column in data.schema.columns:
        names[column.kind] = names.get(column.kind, 0) + 1
    plural = {"category": "categories", "boolean": "booleans", "number": "numbers", "date": "dates", "text": "texts"}
    return "columns: " + ", ".join(f"{count} {plural[kind] if count > 1 else kind}" for kind, count in names.items())


def _about_target(data: Dataset) -> str:
    if data.task == "regression":
        return f"regression: from {data.target.min():.6g} to {data.target.max():.6g}, mean {data.target.mean():.6g}"
    shares = ", ".join(f"{name} {share:.0%}" for name, share in list(zip(data.classes, data.shares, strict=True))[:5])
    more = f" and {len(data.classes) - 5} more" if len(data.classes) > 5 else ""
    positive = f"; {data.classes[1]!r} is the positive class" if data.task == "binary" else ""
    return f"{data.task}: {shares}{more}{positive}"


def _about_split(data: Dataset) -> str:
    if data.time is not None:
        grouped = "" if data.group is None else ", of the same groups too"
        return f"forward chaining: train on the past, judge on what follows{grouped}"
    told = "every class keeps its share in each fold" if data.classes else "folds of shuffled rows"
    told = "rows of one group stay together" if data.group is not None else told
    return f"{told}, drawn twice" if _few(data) else told
