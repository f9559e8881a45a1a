"""The ladder of capacity: what made curves tell, how sizes are asked for, and a walk with real nets."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from searches import houses, tunekit  # type: ignore[import-not-found]

import tunekit as tk
from tunekit.coach.grow import Growth, grow
from tunekit.coach.ladder import Ladder, proposal, rung_of, size_of, start_of, told
from tunekit.coach.noise import Difference
from tunekit.errors import FactoryError, StudyError
from tunekit.families.sized import DEEPEST, WIDEST, Sized
from tunekit.space import Dimension, HyperParameters
from tunekit.study import load_study
from tunekit.tracking.findings import growth_renderable
from tunekit.trial import Epoch, State, Trial

UNITS = Dimension("units", "int", 64, 1, WIDEST, sampling="log")


def trial(size: int, score: float, *, overfits: bool = False) -> Trial:
    """A trial of one fold whose validation loss turns up, or does not."""
    valid = [1.0 / epoch + (0.05 * max(0, epoch - 10) if overfits else 0.0) for epoch in range(1, 31)]
    curve = [Epoch(0, n + 1, {"loss": 1.0 / (n + 1), "val_loss": loss}) for n, loss in enumerate(valid)]
    best = int(np.argmin(valid)) + 1
    return Trial(
        size,
        "net",
        0,
        0,
        state=State.COMPLETE,
        values={"units": size},
        dimensions=[UNITS],
        score=score,
        curve=curve,
        best_epochs=[best],
        costs={"parameters": 10.0 * size},
        seconds=2.0,
    )


def compare(one: Trial, other: Trial) -> Difference:
    """Smaller is better; less than 1 is noise."""
    gain = (other.score or 0.0) - (one.score or 0.0)
    return Difference(gain, 0.5, 0.01 if gain > 1 else 0.5)


def ladder(*scores: float, overfit_from: int = 1000) -> Ladder:
    sizes = [8 * 2**step for step in range(len(scores))]
    made = [trial(size, score, overfits=size >= overfit_from) for size, score in zip(sizes, scores, strict=True)]
    return Ladder.of([(one.number, one) for one in made], compare)


def test_a_rung_tells_what_its_trial_did() -> None:
    rung = rung_of(trial(32, 5.0, overfits=True), 32)
    assert (rung.size, rung.parameters, rung.score, rung.overfits) == (32, 320, 5.0, True)
    assert rung.best_epoch == 10
    assert rung.train_loss == pytest.approx(0.1)
    assert not rung_of(trial(32, 5.0), 32).overfits


def test_it_goes_up_until_two_in_a_row_are_not_better() -> None:
    assert not ladder(10.0).done
    assert not ladder(10.0, 7.0, 6.5).done
    found = ladder(10.0, 7.0, 6.5, 6.2)
    assert found.done
    assert found.rungs[found.enough].size == 16
    late = ladder(10.0, 9.5, 7.0)  # the second was bad luck
    assert late.rungs[late.enough].size == 32
    assert not late.done


def test_small_steps_that_add_up_are_an_improvement() -> None:
    found = ladder(10.0, 9.2, 8.4)  # each is noise for the one before, but not for the first
    assert found.rungs[found.enough].size == 32


def test_bounds_are_proposed_around_what_is_enough_up_to_where_nets_overfit() -> None:
    found = ladder(10.0, 7.0, 6.5, 6.2, overfit_from=64)
    assert (found.overfits, found.bounds) == (64, (8, 64, 16))
    assert proposal(found, tk.MLP(), [UNITS]) == "tk.MLP(units=(8, 64)),"
    line = 'hp.Int("units", 8, 64, step=2, sampling="log", default=16)'
    assert proposal(found, tk.Keras(lambda hp: None), [UNITS]) == line
    assert proposal(found, tk.WideDeep(), [UNITS]) == "", "its bounds can't be said in a study"
    assert "16 is enough" in told(found, "rmse")
    assert "From 64 on nets overfit" in told(found, "rmse")
    never = ladder(10.0, 7.0, 6.5, 6.2)
    assert (never.overfits, never.bounds) == (None, (8, 32, 16))
    assert "None of these overfits" in told(never, "rmse")
    short = ladder(10.0, 7.0)  # knows nothing of larger ones
    assert "give it more time" in told(short, "rmse")
    assert proposal(short, tk.MLP(units=(4, 512)), [UNITS]) == "tk.MLP(units=(8, 512)),"
    assert proposal(short, tk.Keras(lambda hp: None), [UNITS]) == ""
    assert (proposal(Ladder(), tk.MLP(), []), told(Ladder(), "rmse")[:6]) == ("", "No net")


def test_the_table_fits_a_terminal() -> None:
    found = ladder(24010.2, 23007.1, 22906.5, 22906.2, overfit_from=64)
    growth = Growth("net", ("block_0/units", "block_1/units"), "rmse", found, told(found, "rmse"), "hp.Int()", "")
    with io.StringIO() as file:
        Console(file=file, width=80).print(growth_renderable(growth.to_json()))
        lines = file.getvalue().splitlines()
    assert not any("…" in line for line in lines)
    assert [line.split()[0] for line in lines[3:7]] == ["8", "16", "32", "64"]
    assert lines[6].endswith("yes")


def test_the_first_size_is_a_sixteenth_of_the_usual_one() -> None:
    def usual(size: int) -> list[Dimension]:
        return [Dimension("units", "int", size, 1, WIDEST, sampling="log")]

    assert [start_of(usual(size)) for size in (256, 64, 100, 3)] == [16, 4, 6, 1]


def test_a_trial_has_a_size_if_all_of_its_layers_have_the_same() -> None:
    two = [Dimension(f"block_{n}/units", "int", 8, 1, 64) for n in range(2)]
    values: dict[str, Any] = {"block_0/units": 8, "block_1/units": 16}
    done = Trial(0, "net", 0, 0, state=State.COMPLETE, values=values)
    assert size_of(done, two) is None
    assert size_of(done, two[:1]) == 8
    assert size_of(Trial(0, "net", 0, 0, state=State.FAILED, values=values), two[:1]) is None


def test_sizes_may_leave_their_bounds_and_nothing_else_does() -> None:
    def build(hp: Any) -> Any:
        with hp.name_scope("block_0"):
            hp.Int("units", 32, 512, step=32, default=64)
        hp.Choice("filters", [16, 32, 64], default=32)
        hp.Int("layers", 1, 4)
        hp.Int("batch_size", 16, 64)
        hp.Choice("activation", ["relu", "selu"])
        return None

    class Bare(tk.Keras):
        def build(self, hp: Any, data: Any) -> Any:
            return build(hp)

    hp = HyperParameters(lambda one: 4096 if one.name == "block_0/units" else one.default)
    Sized(Bare(build)).build(hp, None)  # type: ignore[arg-type]
    assert hp.values == {"block_0/units": 4096, "filters": 32, "layers": 1, "batch_size": 16, "activation": "relu"}
    bounds = {one.name: one.bounds for one in hp.space if one.kind == "int"}
    wide, deep = (1, WIDEST), (1, DEEPEST)
    assert bounds == {"block_0/units": wide, "filters": wide, "layers": deep, "batch_size": (16, 64)}


def test_mlp_takes_the_bounds_that_are_proposed() -> None:
    assert tk.MLP().units == (32, 512)
    assert tk.MLP(units=(8, 64)).units == (8, 64)
    wrong: Any
    for wrong in ((64, 8), (0, 8), (8,), ("a", 8)):
        with pytest.raises(FactoryError, match="expected the fewest and the most units"):
            tk.MLP(units=wrong)


def test_a_family_that_cant_be_grown_is_refused(tmp_path: Path) -> None:
    table = tk.Table(houses(100), target="Sale_Price")
    study = tk.Study("small", data=table, families=[tk.Linear(), tk.MLP()])
    with pytest.raises(StudyError, match=r"family 'linear' can't be grown; expected one of .* mlp"):
        grow(study, family="linear", root=tmp_path)
    assert not list(tmp_path.iterdir())


NET = """
def net(hp):
    x = inputs = keras.Input((12,))
    x = keras.layers.Dense(hp.Int("units", 16, 64, step=16, default=64), activation="relu")(x)
    model = keras.Model(inputs, keras.layers.Dense(1)(x))
    model.compile(keras.optimizers.Adam(0.01), loss="mse")
    return model


def waves():
    random = np.random.default_rng(0)
    x = random.normal(size=(240, 12))
    y = np.sin(3 * x[:, 0]) + 0.5 * random.normal(size=240)
    return pd.DataFrame(x).rename(columns=lambda n: f"x{n}").assign(y=y)
"""


@pytest.mark.slow
def test_a_walk_with_real_nets_goes_on_where_it_was_and_can_be_used(tmp_path: Path) -> None:
    path = tmp_path / "study.py"
    path.write_text(
        f"import keras\nimport numpy as np\nimport pandas as pd\nimport tunekit as tk\n{NET}\n"
        'study = tk.Study("waves", data=tk.Table(waves, target="y"), split=tk.KFold(3),\n'
        "    families=[tk.Baseline(), tk.Keras(net, epochs=80, batch_size=32)])\n"
    )
    done = tunekit(tmp_path, "grow", "study.py", "--budget", "3m", "--json")
    told = json.loads(done.stdout)
    sizes = [rung["size"] for rung in told["rungs"]]
    assert sizes[:3] == [4, 8, 16]
    assert told["stopped"] == ""
    # 12 columns, one of which tells something that a line can't follow, and 128 rows to train on: wide nets learn the
    # noise by heart.
    assert told["overfits"] is not None
    counted = {rung["size"]: rung["parameters"] for rung in told["rungs"]}
    assert counted[16] == 12 * 16 + 16 + 16 + 1
    losses = [rung["train_loss"] for rung in told["rungs"]]
    assert losses[0] > losses[-1]
    assert told["change"].startswith('hp.Int("units", ')

    ledger = tmp_path / "mlruns" / "studies" / "waves-grow"
    before = len(list((ledger / "trials").iterdir()))
    again = grow(load_study(path), root=tmp_path / "mlruns", budget=60)
    assert again.to_json() == told, "nothing is trained twice"
    assert len(list((ledger / "trials").iterdir())) == before
    assert not (ledger.parent / "waves").exists(), "the study's own ledger is left alone"
