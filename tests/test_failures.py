"""Families that raise, hang, crash or diverge: each is one failed trial with its reason, and the search goes on."""

import re
import threading
from pathlib import Path
from typing import Any

import pytest
from searches import Listener, houses, records, write_study  # type: ignore[import-not-found]

import tunekit as tk
from tunekit.errors import StudyError
from tunekit.executors import Limits
from tunekit.study import load_study
from tunekit.study.conductor import MOST_LOST

GOOD = "tk.Baseline(), tk.Linear(), tk.XGBoost()"
MIB = 2**20

BAD_FAMILIES = """
import errno
import time


class Bad(tk.families.Family):
    def fit(self, hp, fold, report):
        hp.Float("rate", 0.0, 1.0)
        return self.work(fold)


class Raises(Bad):
    name = "raises"

    def work(self, fold):
        raise ValueError("no such\\ncolumn")


class Ends(Bad):
    name = "ends"

    def work(self, fold):
        os._exit(3)


class Aborts(Bad):
    name = "aborts"

    def work(self, fold):
        os.abort()


class Hangs(Bad):
    name = "hangs"

    def work(self, fold):
        time.sleep(3600)


class Grows(Bad):
    name = "grows"

    def work(self, fold):
        kept = []
        for _ in range(200):
            kept.append(np.ones(2**20))  # 8 MiB
            time.sleep(0.02)
        time.sleep(3600)


class RunsOut(Bad):
    name = "runs_out"

    def work(self, fold):
        np.ones((2**20, 2**20, 2**10))  # no machine has that


class Fills(Bad):
    name = "fills"

    def work(self, fold):
        raise OSError(errno.ENOSPC, "No space left on device")


class Diverges(Bad):
    name = "diverges"

    def work(self, fold):
        return tk.families.base.ArrayModel(
            "constant",
            "flat",
            fold.preparation,
            {"value": np.array([np.nan])},
            lambda features: np.full((len(features), 1), np.nan),
        )


class Forgets(Bad):
    name = "forgets"

    def work(self, fold):
        pass
"""

FIX = ('raise ValueError("no such\\ncolumn")', "return tk.Baseline().fit(tk.HyperParameters(), fold, None)")
"""How to mend one of them."""

REASONS = {
    "raises": r"ValueError: no such column \(in work, study\.py line \d+\)",
    "ends": r"the process ended by itself \(exit code 3\)",
    "aborts": r"the process was ended by signal 6 \(SIGABRT\)",
    "hangs": r"out of time: \d+ s of 8 s",
    "grows": r"out of memory: \d\.\d GiB of \d\.\d GiB",
    "runs_out": r"out of memory at \d\.\d GiB: .*\(in work, study\.py line \d+\)",
    "diverges": r"\d+ of \d+ predictions are NaN or infinite; expected finite numbers: .*",
    "forgets": r"AttributeError: .*'NoneType'.*",
}
"""What is said of each bad family, as a pattern."""


def prepare(folder: Path, families: str, code: str) -> Any:
    houses(200).to_csv(folder / "train.csv", index=False)
    data = 'tk.Table(HERE / "train.csv", target="Sale_Price")'
    return load_study(write_study(folder, data, families, code=code, options="split=tk.KFold(2)"))


def check(summary: dict[str, Any], reasons: dict[str, str]) -> None:
    """One failed trial for each bad family, with its reason; and a blend of the good ones."""
    failed = {trial["family"]: trial for trial in summary["trials"] if trial["state"] == "failed"}
    assert set(failed) == set(reasons)
    for family, pattern in reasons.items():
        told = failed[family]["error"]
        assert re.match(pattern, told), f"{family}: {told}"
        assert failed[family]["fold_scores"] == []
    for trial in summary["trials"]:
        assert trial["family"] in reasons or trial["state"] == "complete", trial
    members = {member["family"] for member in summary["ensemble"]["members"]}
    assert members
    assert not members & set(reasons)
    assert summary["ensemble"]["oof_score"] < summary["baseline"]


def test_every_way_to_fail_is_one_failed_trial(tmp_path) -> None:
    families = f"Raises(), Ends(), Aborts(), Hangs(), Grows(), RunsOut(), Diverges(), Forgets(), {GOOD}"
    study = prepare(tmp_path, families, BAD_FAMILIES)
    # A child without TensorFlow has some 200 MiB; the good families take a second or so of their eight.
    limits = Limits(seconds=8, memory=600 * MIB)
    result = study.run(trials=len(REASONS) + 3, workers=2, root=tmp_path / "mlruns", observers=[], limits=limits)
    check(result.summary, REASONS)
    assert len(result.summary["trials"]) == len(REASONS) + 3


def test_a_family_that_only_fails_is_given_up_and_the_search_ends(tmp_path) -> None:
    study = prepare(tmp_path, "Raises(), tk.Baseline()", BAD_FAMILIES)
    listener = Listener()
    result = study.run(budget="10m", workers=1, root=tmp_path / "mlruns", observers=[listener])
    states = [(trial["family"], trial["state"]) for trial in result.summary["trials"]]
    assert sorted(states) == [("baseline", "complete")] * 2 + [("raises", "failed")] * 3
    told = [text for text in listener.messages if "given up" in text]
    assert len(told) == 1
    assert told[0].startswith("raises is given up, all its trials failed; the last: ValueError: no such column")


def test_what_failed_is_tried_again_once_the_study_file_has_changed(tmp_path) -> None:
    found = []
    for code in (BAD_FAMILIES, BAD_FAMILIES.replace(*FIX)):
        listener, study = Listener(), prepare(tmp_path, "Raises(), tk.Baseline()", code)
        result = study.run(trials=5, workers=1, root=tmp_path / "mlruns", observers=[listener])
        found.append([one for one in result.summary["trials"] if one["family"] == "raises"])
    failed, mended = found[0], found[1][len(found[0]) :]
    assert {one["state"] for one in failed} == {"failed"}
    assert {one["state"] for one in mended} == {"complete"}
    assert [one["values"] for one in mended] == [one["values"] for one in failed]
    assert listener.messages[-1] == (
        f"raises: the study file has changed, its {len(failed)} failed trial(s) are tried again"
    )


def test_a_family_that_no_other_process_can_have_is_named_before_the_data_are_loaded(tmp_path) -> None:
    guard = threading.Lock()

    def build(hp: Any) -> Any:
        with guard:
            return hp

    def load() -> Any:
        raise AssertionError("too early")

    study = tk.Study("locked", data=tk.Table(load, target="y"), families=[tk.Linear(), tk.Keras(build, name="net")])
    with pytest.raises(StudyError, match=r"^family 'net' can't be sent .*: TypeError: cannot pickle '_thread.lock'"):
        study.run(root=tmp_path / "mlruns", observers=[])


def test_a_full_disk_ends_the_search_and_is_no_fault_of_the_trial(tmp_path) -> None:
    study = prepare(tmp_path, "Fills(), tk.Baseline()", BAD_FAMILIES)
    with pytest.raises(StudyError, match=r"^000 fills could not write: OSError: .*No space left .*: make some"):
        study.run(trials=5, workers=1, root=tmp_path / "mlruns", observers=[])
    assert [(one["family"], one["state"]) for one in records(tmp_path / "mlruns")] == [("fills", "interrupted")]


def test_a_search_in_which_all_fails_ends_without_a_blend(tmp_path) -> None:
    study = prepare(tmp_path, "Raises(), Ends()", BAD_FAMILIES)
    result = study.run(budget="10m", workers=2, root=tmp_path / "mlruns", observers=[])
    assert {trial["state"] for trial in result.summary["trials"]} == {"failed"}
    assert result.summary["ensemble"] is None
    assert result.summary["baseline"] is None


# Process servers that die


TAKES_SERVER = (
    BAD_FAMILIES
    + """
import signal


class TakesServer(Bad):
    name = "takes_server"

    def __init__(self, times):
        self.times = times

    def work(self, fold):
        taken = HERE / "taken.txt"
        with taken.open("a") as file:
            file.write("x")
        if len(taken.read_text()) <= self.times:
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(3600)
        value = np.array([1.0])
        return tk.families.base.ArrayModel(
            "constant", "flat", fold.preparation, {"value": value}, lambda features: np.ones((len(features), 1))
        )
"""
)
LOST = "its process server was killed"


@pytest.mark.parametrize(("times", "state"), [(1, "complete"), (9, "failed")], ids=["once", "again_and_again"])
def test_a_trial_that_lost_its_process_server_is_run_again_but_not_for_ever(tmp_path, times, state) -> None:
    study = prepare(tmp_path, f"TakesServer({times})", TAKES_SERVER)
    trials = study.run(trials=1, workers=1, root=tmp_path / "mlruns", observers=[]).summary["trials"]
    lost, last = trials[:-1], trials[-1]
    assert len(lost) == min(times, MOST_LOST - 1)
    for trial in lost:
        assert trial["interrupted"]
        assert trial["error"] == f"{LOST}; it is run again with the same values"
        assert trial["values"] == last["values"]
    assert (last["state"], last["interrupted"]) == (state, False)
    assert last["error"] == (None if state == "complete" else LOST)


# Factories of Keras models


BAD_FACTORIES = """
import time


def sound(hp):
    model = keras.Sequential([keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(hp.Float("lr", 1e-3, 1e-1, sampling="log", default=1e-2)), loss="mse")
    return model


def raises(hp):
    hp.Int("units", 1, 4)
    raise KeyError("unit")


def mistyped(hp):
    return keras.layers.Danse(3)


def nothing(hp):
    sound(hp)


def uncompiled(hp):
    return keras.Sequential([keras.layers.Dense(1)])


def three_units(hp):
    model = keras.Sequential([keras.layers.Dense(3)])
    model.compile("adam", loss="mse")
    return model


def diverges(hp):
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("adam", loss=lambda y, p: keras.ops.log(-keras.ops.square(y - p) - 1.0))
    return model


def hangs(hp):
    time.sleep(3600)


def grows(hp):
    kept = []
    for _ in range(400):
        kept.append(np.ones(2**20))  # 8 MiB
        time.sleep(0.02)
    time.sleep(3600)


def aborts(hp):
    os.abort()


def crashes_later(hp):
    return sound(hp)


def callbacks():
    class Crash(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 2:
                os._exit(7)

    return [Crash()]
"""

FACTORY_REASONS = {
    "raises": r"KeyError: 'unit' \(in raises, study\.py line \d+\)",
    "mistyped": r"AttributeError: .*Danse.* \(in mistyped, study\.py line \d+\)",
    "nothing": r"factory 'nothing' returned NoneType; expected a compiled keras\.Model",
    "uncompiled": r"factory 'uncompiled' returned a model that is not compiled; expected model\.compile\(",
    "three_units": r"factory 'three_units': the model has 3 output units; expected 1 for a regression target",
    "diverges": r"the loss became nan .* in epoch 1; expected a finite number",
    "hangs": r"out of time: \d+ s of 40 s",
    "grows": r"out of memory: \d\.\d GiB of 2\.0 GiB",
    "aborts": r"the process was ended by signal 6 \(SIGABRT\)",
    "crashes_later": r"the process ended by itself \(exit code 7\)",
}
"""What is said of each bad factory, as a pattern."""


@pytest.mark.slow
def test_every_bad_factory_is_one_failed_trial(tmp_path) -> None:
    bad = [f"tk.Keras({name}, epochs=3, batch_size=32)" for name in FACTORY_REASONS if name != "crashes_later"]
    bad.append("tk.Keras(crashes_later, epochs=3, batch_size=32, callbacks=callbacks)")
    study = prepare(tmp_path, ", ".join([GOOD, *bad, "tk.Keras(sound, epochs=3, batch_size=32)"]), BAD_FACTORIES)
    # A child with TensorFlow has some 700 MiB; the sound ones take a few seconds of their forty.
    limits = Limits(seconds=40, memory=2048 * MIB)
    count = len(bad) + 4
    result = study.run(trials=count, workers=2, root=tmp_path / "mlruns", observers=[], limits=limits)
    check(result.summary, FACTORY_REASONS)
    assert len(result.summary["trials"]) == count
    assert "sound" in {trial["family"] for trial in result.summary["trials"] if trial["state"] == "complete"}
