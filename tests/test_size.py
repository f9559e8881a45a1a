"""Large tables: the same rows, models and predictions as for small ones, without copies of everything."""

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from folds import fold, fold_of, hard_rows  # type: ignore[import-not-found]
from pyarrow import parquet
from searches import Listener  # type: ignore[import-not-found]

import tunekit as tk
from tunekit.bundle.columns import typed_column
from tunekit.data import Preparation, Table, TimeHoldout, default_split
from tunekit.data import split as splits
from tunekit.data.columnwise import Columns, typed_compactly
from tunekit.data.preparation import MOST_HOT
from tunekit.data.sparse import sparse_rows
from tunekit.errors import DataError
from tunekit.families import base, forest, linear, wide_deep
from tunekit.space import HyperParameters
from tunekit.study import load_study
from tunekit.study import prepared as preparing
from tunekit.study.prepared import prepare

pytestmark = pytest.mark.usefixtures("kept_servers")

FLIGHTS = Path(__file__).parents[1] / "studies" / "flights.py"


def many_levels(rows: int = 3000) -> pd.DataFrame:
    """Two numbers with gaps; a category of 600 levels, most of them rare; one of three; and what they tell."""
    rng = np.random.default_rng(0)
    number, code = rng.normal(size=rows), np.minimum(rng.geometric(0.01, rows), 600)
    effect = rng.normal(size=601)
    return pd.DataFrame(
        {
            "number": np.where(rng.random(rows) < 0.1, np.nan, number),
            "other": rng.normal(size=rows),
            "many": [f"plane {one}" for one in code],
            "few": rng.choice(["a", "b", "c"], rows),
            "y": number + effect[code] + rng.normal(0, 0.1, rows),
        }
    )


# Linear models without zeros.


def test_sparse_features_are_the_dense_ones() -> None:
    one = fold_of(prepare(Table(many_levels(), target="y").load(), tk.Holdout(), "rmse", seed=0))
    assert len(one.preparation.hot) == MOST_HOT + 3
    for layout in ("flat", "plain"):
        for rows in (one.train.rows, one.valid.rows, hard_rows(one)):
            dense = one.preparation.apply(rows, layout)["features"]
            np.testing.assert_array_equal(sparse_rows(one.preparation, rows, layout).toarray(), dense)


def test_numbers_alone_are_sparse_too() -> None:
    frame = many_levels().drop(columns=["many", "few"])
    one = fold_of(prepare(Table(frame, target="y").load(), tk.Holdout(), "rmse", seed=0))
    dense = one.preparation.apply(one.train.rows, "flat")["features"]
    np.testing.assert_array_equal(sparse_rows(one.preparation, one.train.rows, "flat").toarray(), dense)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("penalty", "numbers"), [(0.01, "clipped"), (3.0, "plain"), (1000.0, "clipped")])
def test_a_linear_model_is_the_same_without_zeros(
    task: str, weighted: bool, penalty: float, numbers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = fold(task, weighted=weighted)
    chosen: dict[str, float | str] = {"l2": penalty, "numbers": numbers}
    hp = HyperParameters(lambda dimension: chosen[dimension.name])
    dense = tk.Linear().fit(hp, one, lambda *_: False)
    monkeypatch.setattr(linear, "MOST_DENSE", 0)
    sparse = tk.Linear().fit(hp, one, lambda *_: False)
    # Ridge is solved exactly both times; lbfgs ends where its gradient is below 1e-4.
    tolerance = 1e-6 * np.std(one.train.target) if task == "regression" else 2e-3
    for rows in (one.valid.rows, hard_rows(one)):
        np.testing.assert_allclose(sparse.predict(rows), dense.predict(rows), atol=tolerance)


def late() -> pd.DataFrame:
    """What is to be told is proportional to a delay, of which a tenth are long."""
    rng = np.random.default_rng(0)
    delay = np.where(rng.random(600) < 0.1, rng.exponential(100, 600), rng.normal(0, 5, 600))
    delay[:20] = np.nan
    frame = pd.DataFrame({"delay": delay, "kind": rng.choice(["a", "b"], 600)})
    frame["y"] = np.nan_to_num(delay) + 3.0 * (frame["kind"] == "a") + rng.normal(0, 1, 600)
    return frame


def test_a_long_tail_is_told_by_plain_numbers_and_exported(tmp_path: Path) -> None:
    families = [tk.Baseline(), tk.Linear()]
    made = tk.Study("late", data=Table(late(), target="y"), families=families, split=tk.KFold(2), metric="rmse")
    result = made.run(root=tmp_path / "mlruns", trials=4, workers=1, observers=[Listener()])
    scores = {t["values"].get("numbers"): t["score"] for t in result.summary["trials"]}
    assert scores["plain"] < 1.2 < 3 < scores["clipped"]
    bundle = tk.Bundle.load(result.export(tmp_path / "model"))
    np.testing.assert_allclose(bundle.predict({"delay": [500.0, 5000.0], "kind": ["b", "b"]}), [500, 5000], rtol=0.01)


@pytest.mark.slow
def test_the_wide_part_of_a_net_follows_a_long_tail(tmp_path: Path) -> None:
    net = tk.WideDeep()
    net.epochs = 30
    families: list[Any] = [net]
    made = tk.Study("late", data=Table(late(), target="y"), families=families, split=tk.Holdout(), metric="rmse")
    result = made.run(root=tmp_path / "mlruns", trials=2, workers=1, observers=[Listener()])
    trials = {trial["values"].get("wide_numbers"): trial for trial in result.summary["trials"]}
    assert trials["plain"]["score"] < 0.5 * trials["clipped"]["score"]
    result.export(tmp_path / "model", trial=trials["plain"]["number"])  # which compares it with the Python model


def test_no_left_code_of_a_hashed_cross_is_lost() -> None:
    sizes, buckets = np.array([40, 4000, 250, 777]), np.array([400, 1000, 1000, 1000])
    strides = wide_deep._strides(sizes, buckets)
    assert strides.tolist() == [40, 4001, 251, 777]
    places = (np.arange(1000)[:, None] * strides[1:]) % 1000
    assert [len(set(column)) for column in places.T] == [1000, 1000, 1000]


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_trees_of_a_forest_stay_small_however_many_rows_there_are(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one = fold(task)
    nodes, scores = [], []
    for most in (len(one.train), 100):
        monkeypatch.setattr(forest, "MOST_OF_A_TREE", most)
        fitted: Any = tk.Forest().fit(HyperParameters(), one, lambda *_: False)
        nodes.append(len(fitted.arrays["feature"]))
        scores.append(one.metric.score(one.valid.target, fitted.predict(one.valid.rows)))
    assert nodes[1] < nodes[0] / 3
    constant = tk.Baseline().fit(HyperParameters(), one, lambda *_: False).predict(one.valid.rows)
    assert scores[1] < 0.85 * one.metric.score(one.valid.target, constant)


def test_many_rows_are_predicted_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    one = fold("regression")
    models = [family.fit(HyperParameters(), one, lambda *_: False) for family in (tk.Linear(), tk.XGBoost())]
    together = [model.predict(one.valid.rows) for model in models]
    monkeypatch.setattr(base, "PREDICTED", 7)
    for model, expected in zip(models, together, strict=True):
        np.testing.assert_allclose(model.predict(one.valid.rows), expected, rtol=1e-12)


# Tables.


@pytest.mark.parametrize(
    "values",
    [
        pd.Series(["b", None, "a", "b", " "]),
        pd.Series(["b", None, "a", "b", " "], dtype="str"),
        pd.Series(["b", None, "a", "b", " "], dtype="category"),
        pd.Series(["b", None, "a", "b", " "], dtype=object),
        pd.Series([3, 1, 3]),
        pd.Series([3.0, np.nan, 0.5, -0.0]),
        pd.Series([True, False, True]),
        pd.Series([1, True, 1.0, "1", None], dtype=object),
        pd.Series([3, None, 3], dtype="Int64"),
        pd.Series([3, None, 3], dtype="category"),
        pd.Series([datetime.date(2024, 1, 1), None]),
        pd.Series(["2024-01-01", None], dtype="datetime64[us]"),
        pd.Series([], dtype="str"),
    ],
)
def test_compact_categories_are_those_of_the_bundle(values: Any) -> None:
    expected, found = typed_column(values, "category", "x"), typed_compactly(values, "category", "x")
    assert list(found) == list(expected)
    assert found.dtype == object
    assert len({id(text) for text in found}) == len(set(found))


def test_a_parquet_file_gives_the_data_of_its_frame(tmp_path: Path) -> None:
    frame = many_levels(500)
    frame.loc[3, "y"] = np.nan
    frame["flag"] = frame["number"] > 0
    frame["when"] = pd.date_range("2024-01-01", periods=500)
    path = tmp_path / "table.parquet"
    frame.to_parquet(path, row_group_size=100)
    kinds = {"other": "drop"}
    expected, found = (Table(source, target="y", kinds=kinds).load() for source in (frame, path))
    assert found.digest == expected.digest
    assert found.schema == expected.schema
    assert found.notices == expected.notices
    frame.set_index("other").to_parquet(path)  # an index is no column
    assert list(Columns.of(path).columns) == ["number", "many", "few", "y", "flag", "when"]
    with pytest.raises(DataError, match="the table has no column 'other'; its 6 columns are number"):
        Table(path, target="other").load()


def test_a_dropped_column_of_a_parquet_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many_levels(500).to_parquet(tmp_path / "table.parquet")
    read: list[Any] = []
    plain = parquet.read_table

    def watched(path: Path, columns: list[str]) -> Any:
        read.extend(columns)
        return plain(path, columns=columns)

    monkeypatch.setattr(parquet, "read_table", watched)
    Table(tmp_path / "table.parquet", target="y", kinds={"many": "drop"}).load()
    assert sorted(set(read)) == ["few", "number", "other", "y"]
    assert len(read) == 4, "each once"


def test_a_large_table_is_encoded_as_a_small_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = many_levels(500)
    frame["when"] = pd.date_range("2024-01-01", periods=500)
    ready = prepare(Table(frame, target="y").load(), tk.KFold(2), "rmse", seed=0)
    ready.write(tmp_path / "together")
    monkeypatch.setattr(preparing, "MOST_ENCODED", 0)
    monkeypatch.setattr("tunekit.data.lazy.MOST_WRITTEN", 37)
    ready.write(tmp_path / "apart")
    together, apart = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("together", "apart")
    )
    assert together.keys() == apart.keys()
    for name in together:
        if name.endswith(".npy"):
            one, other = np.load(tmp_path / "together" / name), np.load(tmp_path / "apart" / name)
            np.testing.assert_array_equal(one, other)
        else:
            assert together[name] == apart[name]


def test_numbers_are_scaled_some_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    one = fold("regression")
    preparation = Preparation.fit(one.train.rows, one.cardinalities, one.train.target)
    expected = preparation.apply(one.valid.rows, "columns")["numbers"]
    monkeypatch.setattr("tunekit.data.preparation.SCALED", 7)
    np.testing.assert_array_equal(preparation.apply(one.valid.rows, "columns")["numbers"], expected)


# The split.


def test_a_holdout_by_time_judges_later_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    hours = rng.permutation(np.repeat(np.arange(100), 5))  # five rows of each hour
    frame = pd.DataFrame({"hour": hours, "x": rng.normal(size=500), "y": rng.normal(size=500)})
    data = Table(frame, target="y", time="hour").load()
    folds = TimeHoldout(test=0.2, valid=0.25).apply(data, seed=1)
    [(train, valid)] = folds.pairs
    assert (len(train), len(valid), len(folds.test)) == (300, 100, 100)
    assert hours[train].max() < hours[valid].min()
    assert hours[valid].max() < hours[folds.test].min()
    assert repr(default_split(data)).startswith("TimeSplit")
    monkeypatch.setattr(splits, "LARGE", 400)
    assert default_split(data) == TimeHoldout()
    with pytest.raises(DataError, match="needs a time column"):
        TimeHoldout().apply(Table(frame, target="y", kinds={"hour": "drop"}).load(), seed=1)


# The study.


@pytest.mark.slow
def test_flights(tmp_path: Path) -> None:
    study = load_study(FLIGHTS)
    study.families = [family for family in study.families if not family.needs_tensorflow]
    result = study.run(trials=3, workers=1, root=tmp_path / "mlruns", observers=[Listener()])
    scores = {trial["family"]: trial["score"] for trial in result.summary["trials"]}
    assert scores["xgboost"] < 18.5 < scores["linear"] < 26 < scores["baseline"]
    bundle = tk.Bundle.load(result.export(tmp_path / "model"))
    rows = study.data.load().raw_rows(np.arange(200))
    late = bundle.predict({**rows, "dep_delay": np.full(200, 60.0)}) - bundle.predict(
        rows | {"dep_delay": np.zeros(200)}
    )
    assert 40 < late.mean() < 70, "an hour late at departure is about an hour late on arrival"
    rows["tailnum"] = np.array(["a plane that no one knows"] * 200, dtype=object)
    assert np.isfinite(bundle.predict(rows)).all()
