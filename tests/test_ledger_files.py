"""The files of trials: kept where every machine reaches them, fetched, let go of."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from ledgers import end, open_ledger, start  # type: ignore[import-not-found]

from tunekit.errors import StudyError
from tunekit.ledger import Ledger
from tunekit.trial import State, Trial

fsspec = pytest.importorskip("fsspec")


def write_files(ledger: Ledger, trial: Trial) -> dict[str, str]:
    """What a trial of two folds leaves; by path in its folder."""
    files = {"log.txt": "words", "fold0/model": "zero", "fold0/deep/weights": "w" * 1000, "fold1/model": "one"}
    for name, text in files.items():
        path = ledger.trial_folder(trial) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return files


def files_in(folder: Path) -> dict[str, str]:
    return {str(one.relative_to(folder)): one.read_text() for one in folder.rglob("*") if one.is_file()}


def ended(ledger: Ledger, state: State = State.COMPLETE) -> Trial:
    running = start(ledger)
    write_files(ledger, running.trial)
    return end(ledger, running, state)  # type: ignore[no-any-return]


@pytest.fixture(params=["here", "file", "memory"])
def artifacts(request, tmp_path: Path) -> Any:
    """Where trials are kept."""
    if request.param == "memory":
        yield "memory://bucket/tunekit"
        fsspec.filesystem("memory").store.clear()
    else:
        yield None if request.param == "here" else f"file://{tmp_path / 'kept'}"


def test_what_a_trial_left_is_there_until_it_is_let_go_of(artifacts, tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, where={"artifacts": artifacts})
    trial, other = ended(ledger), ended(ledger)
    files = files_in(ledger.trial_folder(trial))
    assert ledger.fetch(trial) == ledger.trial_folder(trial)
    assert sorted(files) == ["fold0/deep/weights", "fold0/model", "fold1/model", "log.txt", "trial.json"]
    assert ledger.files_size(trial) == 1007
    for _ in range(2):
        ledger.forget(trial)
        assert sorted(files_in(ledger.fetch(trial))) == ["log.txt", "trial.json"]
        assert ledger.files_size(trial) == 0
    assert ledger.files_size(other) == 1007
    assert ledger.trials() == [trial, other]
    ledger.close()
    ledger = open_ledger(tmp_path, where={"artifacts": artifacts}, fresh=True)
    assert not ledger.trial_folder(other).exists()
    ledger.close()
    if artifacts is not None:
        left = fsspec.core.url_to_fs(artifacts)[0].find(f"{artifacts}/houses")
        assert [Path(name).name for name in left] == ["ledger.token"]


def test_another_machine_fetches_what_it_lacks(tmp_path: Path) -> None:
    where: dict[str, Any] = {"artifacts": f"file://{tmp_path / 'kept'}"}
    ledger = open_ledger(tmp_path / "one", where=where)
    trial = ended(ledger)
    files = files_in(ledger.trial_folder(trial))
    ledger.close()
    other = Ledger(tmp_path / "two", "houses", **where)
    assert files_in(other.fetch(trial)) == files
    (other.trial_folder(trial) / "fold0" / "model").write_text("as it is here")
    assert files_in(other.fetch(trial))["fold0/model"] == "as it is here", "what is here whole is not fetched again"
    other.forget(trial)
    assert sorted(files_in(ledger.fetch(trial))) == sorted(files), (
        "copies elsewhere stay until they are let go of there"
    )
    third = Ledger(tmp_path / "three", "houses", **where)
    assert sorted(files_in(third.fetch(trial))) == ["log.txt", "trial.json"]


def test_a_fetch_that_was_cut_off_is_made_whole(tmp_path: Path, monkeypatch) -> None:
    where: dict[str, Any] = {"artifacts": f"file://{tmp_path / 'kept'}"}
    ledger = open_ledger(tmp_path / "one", where=where)
    trial = ended(ledger)
    ledger.close()
    other = Ledger(tmp_path / "two", "houses", **where)
    replace, left = Path.replace, [2]

    def dies(path: Path, target: Path) -> Path:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", dies)
        with pytest.raises(KeyboardInterrupt):
            other.fetch(trial)
    kept = {name: text for name, text in files_in(other.fetch(trial)).items() if not name.endswith(".partial")}
    assert kept == files_in(ledger.trial_folder(trial))


@pytest.mark.parametrize("state", [State.STOPPED, State.FAILED, State.INTERRUPTED])
def test_models_of_trials_that_no_blend_may_use_are_not_kept_elsewhere(state, tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, where={"artifacts": f"file://{tmp_path / 'kept'}"})
    trial = ended(ledger, state)
    kept = tmp_path / "kept" / "houses" / "trials" / ledger.trial_folder(trial).name
    assert sorted(files_in(kept)) == ["log.txt", "trial.json"]
    ledger.close()


def test_a_trial_is_told_after_its_files_are_kept_and_its_record_comes_last(tmp_path: Path, monkeypatch) -> None:
    ledger = open_ledger(tmp_path, where={"artifacts": f"file://{tmp_path / 'kept'}"})
    events: list[str] = []
    remote: Any = ledger._files._remote
    storage: Any = ledger._opened.storage
    put, told = type(remote).put, type(storage).end

    def putting(self: Any, path: Path, name: str) -> None:
        events.append(name)
        put(self, path, name)

    def telling(*given: Any) -> bool:
        events.append("told")
        return bool(told(*given))

    monkeypatch.setattr(type(remote), "put", putting)
    monkeypatch.setattr(type(storage), "end", telling)
    folder = ledger.trial_folder(ended(ledger)).name
    names = ["fold0/deep/weights", "fold0/model", "fold1/model", "log.txt"]
    assert events == [*(f"{folder}/{name}" for name in names), "told", f"{folder}/trial.json"]
    ledger.close()


def test_a_trial_whose_files_cannot_be_kept_fails_and_the_search_goes_on(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tunekit.ledger.files.time.sleep", lambda seconds: None)
    where = {"artifacts": f"file://{tmp_path / 'kept'}"}
    ledger = open_ledger(tmp_path, where=where)
    shutil.rmtree(tmp_path / "kept")
    (tmp_path / "kept").write_text("a file where the folder is to be")
    trial = ended(ledger)
    assert trial.state is State.FAILED
    assert "fold0/deep/weights can't be copied to the artifacts (file://...)" in str(trial.error)
    assert ended(ledger, State.INTERRUPTED).state is State.INTERRUPTED, "it is run again; nobody needs its files"
    assert ledger.planned("net") == 2
    assert [one.state for one in ledger.trials()] == [State.FAILED, State.INTERRUPTED]
    ledger.close()
    with pytest.raises(StudyError, match="can't be copied to the artifacts"):
        open_ledger(tmp_path, where=where)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("nowhere://me:secret@bucket", r"the artifacts \(nowhere://\.\.\.\) can't be used .*expected an address that"),
        ("webhdfs+x://me:secret@bucket", r"the artifacts \(webhdfs\+x://\.\.\.\) can't be used"),
    ],
)
def test_an_address_that_nobody_knows_is_refused_and_no_password_is_told(address, told, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=told) as caught:
        Ledger(tmp_path, "houses", artifacts=address)
    assert "secret" not in str(caught.value)


def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(StudyError, match=r"the artifacts \(s3://\.\.\.\) need a package that is not installed: .*s3fs"):
        Ledger(tmp_path, "houses", artifacts="s3://me:secret@bucket/tunekit")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(StudyError, match=r'pip install "tunekit\[artifacts\]"'):
        Ledger(tmp_path, "houses", artifacts="s3://me:secret@bucket/tunekit")
