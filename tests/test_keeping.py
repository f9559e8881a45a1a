"""Which trials' files stay: what the blend may need, never more than a stated size, and the last blend's members."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from folds import METRICS, table  # type: ignore[import-not-found]
from searches import Listener, houses, write_study  # type: ignore[import-not-found]

from tunekit.bundle import Bundle
from tunekit.data import KFold, StratifiedKFold
from tunekit.drivers import ProposalSampler, Random
from tunekit.ledger import Ledger, write_json
from tunekit.stopping import NeverStop
from tunekit.study import load_study
from tunekit.study.keeping import Keeping
from tunekit.study.prepared import Prepared, prepare
from tunekit.study.result import Result
from tunekit.trial import State, Trial

pytestmark = pytest.mark.usefixtures("kept_servers")

SIZE = 1000
"""Bytes of a trial's files, if not said otherwise."""


class Watcher(Listener):
    """Looks at the files whenever a trial starts: with one worker, no other is at work then."""

    def __init__(self, trials: Path, at: int | None = None, do: Any = None) -> None:
        super().__init__()
        self.trials = trials
        self.sizes: list[int] = []
        self._at, self._do = at, do

    def trial_started(self, trial: Trial) -> None:
        self.sizes.append(size_of(self.trials))
        if trial.number == self._at:
            self._do()


@pytest.fixture(scope="module")
def regression() -> Prepared:
    return prepare(table("regression").load(), KFold(2), METRICS["regression"], seed=0)


def size_of(trials: Path) -> int:
    """Bytes of all trials' models and predictions."""
    return sum(path.stat().st_size for path in trials.glob("*/fold*/*"))


def open_ledger(root: Path) -> Ledger:
    ledger = Ledger(root, "small")
    ledger.open({"direction": "minimize"}, seed=3)
    for family in ("net", "trees", "baseline"):
        ledger.add_family(family, ProposalSampler(Random(), 3, family), NeverStop(), [])
    return ledger


@pytest.fixture
def ledger(tmp_path) -> Iterator[Ledger]:
    opened = open_ledger(tmp_path)
    yield opened
    opened.close()


def ended(
    ledger: Ledger, family: str, score: float, *, size: int = SIZE, state: State = State.COMPLETE, **facts: Any
) -> Trial:
    """A trial that has ended and left files of that size, in two folds."""
    running = ledger.start(family, 0.0)
    trial = running.trial
    trial.state, trial.score, trial.fold_scores = state, score, [score, score]
    for name, value in facts.items():
        setattr(trial, name, value)
    for number, part in enumerate((size // 2, size - size // 2)):
        folder = ledger.trial_folder(trial) / f"fold{number}"
        folder.mkdir(parents=True)
        (folder / "predictions.npz").write_bytes(b"0" * part)
    ledger.end(running)
    return trial


def on_disk(ledger: Ledger) -> set[int]:
    """Numbers of the trials that have files."""
    return {trial.number for trial in ledger.trials() if ledger.files_size(trial)}


def test_the_best_and_each_familys_best_stay(ledger, regression) -> None:
    keeping = Keeping(ledger, regression, keep=2, disk=None)
    scores = [
        ("net", 5.0),
        ("net", 3.0),
        ("trees", 9.0),
        ("net", 4.0),
        ("net", 2.0),
        ("baseline", 20.0),
        ("trees", 8.0),
    ]
    for family, score in scores:
        assert keeping.look([ended(ledger, family, score)]) is None
    assert on_disk(ledger) == {1, 4, 5, 6}  # scores 3 and 2, the baseline, and the better one of the trees
    assert [(trial.family, trial.score) for trial in ledger.trials()] == scores  # what is known of them stays


def test_larger_scores_may_be_the_better_ones(ledger) -> None:
    binary = prepare(table("binary").load(), StratifiedKFold(2), "roc_auc", seed=0)
    keeping = Keeping(ledger, binary, keep=1, disk=None)
    for score in (0.5, 0.75, 0.625):
        keeping.look([ended(ledger, "net", score)])
    assert on_disk(ledger) == {1}


@pytest.mark.parametrize(
    ("state", "facts"),
    [(State.FAILED, {}), (State.STOPPED, {}), (State.INTERRUPTED, {}), (State.COMPLETE, {"same_as": 0})],
)
def test_what_can_be_in_no_blend_goes(ledger, regression, state, facts) -> None:
    keeping = Keeping(ledger, regression, keep=30, disk=None)
    for trial in (ended(ledger, "net", 2.0), ended(ledger, "net", 1.0, state=state, **facts)):
        keeping.look([trial])
    assert on_disk(ledger) == {0}
    assert len(ledger.trials()) == 2


def test_the_files_never_take_more_than_stated_and_the_worst_go_first(ledger, regression) -> None:
    keeping = Keeping(ledger, regression, keep=30, disk=3 * SIZE + SIZE // 2)
    expected = [{0}, {0, 1}, {0, 1, 2}, {0, 2, 3}, {0, 2, 3}, {0, 3, 5}]
    for score, staying in zip([3.0, 5.0, 4.0, 2.0, 6.0, 1.0], expected, strict=True):
        assert keeping.look([ended(ledger, "net", score)]) is None
        assert on_disk(ledger) == staying


def test_a_trial_that_is_too_large_by_itself_is_told(ledger, regression) -> None:
    keeping = Keeping(ledger, regression, keep=30, disk=3_000_000)
    keeping.look([ended(ledger, "net", 3.0)])
    told = keeping.look([ended(ledger, "net", 1.0, size=4_000_000)])
    assert told == (
        "the files of 001 net take 4.0 MB and are not kept, for all together may take 3.0 MB; it can't be in the "
        "blend: give --disk more"
    )
    assert on_disk(ledger) == {0}  # the others needn't go for it
    assert keeping.look([ended(ledger, "net", 2.0)]) is None  # it is told once
    assert on_disk(ledger) == {0, 2}


def test_members_of_the_last_blend_stay_whatever_is_better_by_now(ledger, regression) -> None:
    blended = [ended(ledger, "net", 8.0), ended(ledger, "net", 9.0)]
    members = [{"trial": trial.number} for trial in blended]
    write_json(ledger.folder / "result.json", {"ensemble": {"members": members}})
    keeping = Keeping(ledger, regression, keep=1, disk=3 * SIZE)
    for score in (7.0, 6.0, 5.0):
        keeping.look([ended(ledger, "net", score)])
    assert on_disk(ledger) == {0, 1, 4}
    again = Keeping(ledger, regression, keep=30, disk=2 * SIZE)
    again.look([ended(ledger, "net", 1.0)])
    assert on_disk(ledger) == {0, 1}  # the next blend is not made yet


def test_a_search_without_a_blend_has_no_members(ledger, regression) -> None:
    write_json(ledger.folder / "result.json", {"ensemble": None})
    keeping = Keeping(ledger, regression, keep=1, disk=None)
    keeping.look([ended(ledger, "net", 1.0)])
    assert on_disk(ledger) == {0}


@pytest.mark.parametrize(("keep", "disk"), [(3, None), (30, 3 * SIZE)])
def test_what_earlier_searches_left_counts(tmp_path, regression, keep, disk) -> None:
    ledger = open_ledger(tmp_path)
    keeping = Keeping(ledger, regression, keep=30, disk=None)
    for score in (3.0, 1.0, 5.0, 2.0):
        keeping.look([ended(ledger, "net", score)])
    assert on_disk(ledger) == {0, 1, 2, 3}
    ledger.close()
    ledger = open_ledger(tmp_path)
    keeping = Keeping(ledger, regression, keep, disk)
    keeping.look([ended(ledger, "net", 4.0)])
    assert on_disk(ledger) == {0, 1, 3}
    ledger.close()


def test_what_was_let_go_of_by_an_earlier_search_is_not_missed(tmp_path, regression) -> None:
    ledger = open_ledger(tmp_path)
    for score in (1.0, 2.0):
        ledger.forget(ended(ledger, "net", score))
    ledger.close()
    ledger = open_ledger(tmp_path)
    keeping = Keeping(ledger, regression, keep=2, disk=2 * SIZE)
    for score in (4.0, 5.0):
        assert keeping.look([ended(ledger, "net", score)]) is None
    # Two better ones have no files, but these may be needed: a blend is made of what is there.
    assert on_disk(ledger) == {2, 3}
    ledger.close()


# Whole searches


TRIALS = "mlruns/studies/small/trials"


def run(folder: Path, listener: Listener | None = None, **more: Any) -> Result:
    study = load_study(folder / "study.py")
    return study.run(root=folder / "mlruns", observers=[listener or Listener()], workers=1, **more)


def kept(folder: Path) -> set[int]:
    """Numbers of the trials that have models and predictions."""
    return {int(path.parent.name[:4]) for path in (folder / TRIALS).glob("*/fold*")}


def members(result: Result) -> set[int]:
    return {member["trial"] for member in result.summary["ensemble"]["members"]}


def needed(result: Result, keep: int) -> set[int]:
    """The best trials, and each family's best."""
    complete = [
        trial for trial in result.summary["trials"] if trial["state"] == "complete" and trial["same_as"] is None
    ]
    ranked = sorted(complete, key=lambda trial: (trial["score"], trial["number"]))
    first = {trial["family"]: trial["number"] for trial in reversed(ranked)}
    return {*(trial["number"] for trial in ranked[:keep]), *first.values()}


@pytest.fixture(scope="module")
def searched(tmp_path_factory) -> tuple[Path, Result]:
    """A search that kept the two best, and each family's best."""
    folder = tmp_path_factory.mktemp("searched")
    houses(200).to_csv(folder / "train.csv", index=False)
    data = 'tk.Table(HERE / "train.csv", target="Sale_Price")'
    families = "tk.Baseline(), tk.Linear(), tk.XGBoost()"
    write_study(folder, data, families, options='split=tk.KFold(2), driver="random", stopper=tk.NeverStop()')
    return folder, run(folder, trials=9, keep=2)


@pytest.fixture
def copied(searched, tmp_path) -> Path:
    return Path(shutil.copytree(searched[0], tmp_path / "copy"))


def test_after_a_search_only_what_the_blend_may_need_is_on_disk(searched, tmp_path) -> None:
    folder, result = searched
    assert kept(folder) == needed(result, keep=2)
    assert members(result) <= kept(folder)
    assert len(kept(folder)) < len(result.summary["trials"]) == 9
    assert len(Bundle.load(result.export(tmp_path / "model")).predict(houses(5))) == 5


def test_the_last_blend_can_be_exported_while_the_next_search_runs(copied) -> None:
    before = load_study(copied / "study.py").result(copied / "mlruns")

    def export() -> None:
        load_study(copied / "study.py").result(copied / "mlruns").export(copied / "model")

    result = run(copied, Watcher(copied / TRIALS, at=12, do=export), trials=13, keep=1)
    assert Bundle.load(copied / "model").predict(houses(5)).shape == (5,)
    assert kept(copied) == needed(result, keep=1) | members(before)
    assert members(result) <= kept(copied)
    assert len(result.summary["trials"]) == 13


@pytest.mark.slow  # two searches
def test_kept_files_never_take_more_than_stated(copied) -> None:
    largest = max(sum(file.stat().st_size for file in path.glob("fold*/*")) for path in (copied / TRIALS).iterdir())
    watcher = Watcher(copied / TRIALS)
    result = run(copied, watcher, fresh=True, trials=9, disk=largest + largest // 2)
    assert largest // 2 < max(watcher.sizes) <= largest + largest // 2
    assert members(result) <= kept(copied)
    result.export(copied / "model")
    result = run(copied, trials=10, disk=largest // 2)  # a search that goes on may be given less
    assert size_of(copied / TRIALS) <= largest // 2
    assert members(result) <= kept(copied)


@pytest.mark.slow  # a search
def test_a_search_goes_on_and_blends_though_files_are_gone(copied) -> None:
    before = load_study(copied / "study.py").result(copied / "mlruns").summary
    best = before["ensemble"]["best_single"]["trial"]
    for path in (copied / TRIALS).glob(f"{best:04d}-*/fold*"):
        shutil.rmtree(path)
    result = run(copied, trials=10, keep=30)
    assert best not in members(result)
    assert members(result)
    assert result.summary["trials"][:9] == before["trials"]
    result.export(copied / "model")
