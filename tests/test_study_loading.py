"""Study files: read without TensorFlow, refused in words, and their functions travel to other processes."""

import json
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest

from tunekit.errors import StudyError
from tunekit.study import Study, load_study

HEAD = """
import numpy as np
import pandas as pd
import tunekit as tk

def rows():
    return pd.DataFrame({"x": np.arange(30.0) ** 2, "y": np.arange(30.0) + 0.5})
"""
STUDY = 'study = tk.Study("houses", data=tk.Table(rows, target="y"), families=[tk.Baseline()])\n'


def write(folder: Path, text: str, name: str = "houses.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def refused(path: Path) -> str:
    with pytest.raises(StudyError) as caught:
        load_study(path)
    return str(caught.value)


@pytest.fixture(autouse=True)
def tidy(monkeypatch) -> None:
    """Loading a study leaves its module and its folder behind, for the functions in it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))


def test_a_study_is_found_by_its_type(tmp_path: Path) -> None:
    study = load_study(write(tmp_path, HEAD + STUDY.replace("study =", "anything =")))
    assert isinstance(study, Study)
    assert study.name == "houses"
    assert len(study.data.load()) == 30


def test_two_names_for_one_study_are_one(tmp_path: Path) -> None:
    assert load_study(write(tmp_path, HEAD + STUDY + "same = study\n")).name == "houses"


def test_files_beside_it_can_be_imported(tmp_path: Path) -> None:
    write(tmp_path, "TARGET = 'y'\n", "lies_beside_it.py")
    text = HEAD + "from lies_beside_it import TARGET\n" + STUDY.replace('"y"', "TARGET")
    assert load_study(str(write(tmp_path, text))).name == "houses"


def test_running_under_main_is_not_triggered(tmp_path: Path) -> None:
    load_study(write(tmp_path, HEAD + STUDY + "if __name__ == '__main__':\n    raise SystemExit('ran')\n"))


LAZY = """
import json, sys
from pathlib import Path
from tunekit.study import load_study

study = load_study(sys.argv[1])
loaded = sorted(name for name in ("tensorflow", "keras", "keras.src") if name in sys.modules)
import cloudpickle
from tunekit.families import Keras
(family,) = [one for one in study.families if isinstance(one, Keras)]
Path(sys.argv[2]).write_bytes(cloudpickle.dumps(family))
pickled = sorted(name for name in ("tensorflow", "keras.src") if name in sys.modules)
print(json.dumps([loaded, pickled]))
"""

NET = """
import keras
import tensorflow as tf
WIDTH = 5

def net(hp, data):
    return hp.Int("units", 1, WIDTH), keras.__name__, tf.__name__

"""


def run(script: str, *arguments: Path) -> str:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_keras_at_the_top_costs_nothing_and_functions_travel(tmp_path: Path) -> None:
    """The conductor never imports TensorFlow; a trial's process gets the factory, and there keras is keras."""
    text = NET + HEAD + STUDY.replace("tk.Baseline()", "tk.Baseline(), tk.Keras(net)")
    path = write(tmp_path, text)
    loaded, pickled = json.loads(run(LAZY, path, tmp_path / "family.pickle"))
    assert loaded == []
    assert pickled == []
    path.unlink()
    there = """
import pickle, sys, types
from pathlib import Path

stand_in = types.ModuleType("tensorflow")  # this test imports no real one
sys.modules["tensorflow"], sys.modules["keras"] = stand_in, types.ModuleType("keras")
family = pickle.loads(Path(sys.argv[1]).read_bytes())
from tunekit.space import HyperParameters
print(family.name, family.factory(HyperParameters(), None))
"""
    assert run(there, tmp_path / "family.pickle").strip() == "net (1, 'keras', 'tensorflow')"


def test_functions_of_the_file_travel_by_value(tmp_path: Path) -> None:
    study = load_study(write(tmp_path, HEAD + STUDY))
    sent = cloudpickle.dumps(study.data.source)  # type: ignore[attr-defined]
    there = "import pickle, sys; print(len(pickle.loads(bytes.fromhex(sys.argv[1]))()))"
    done = subprocess.run([sys.executable, "-c", there, sent.hex()], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "30", done.stderr


def test_the_stand_ins_are_gone_after_loading(tmp_path: Path) -> None:
    before = {name: sys.modules.get(name) for name in ("keras", "tensorflow")}
    load_study(write(tmp_path, NET + HEAD + STUDY))
    assert {name: sys.modules.get(name) for name in ("keras", "tensorflow")} == before
    refused(write(tmp_path, NET + "1 / 0\n"))
    assert {name: sys.modules.get(name) for name in ("keras", "tensorflow")} == before


# What is refused.


def test_no_file(tmp_path: Path) -> None:
    message = refused(tmp_path / "nowhere.py")
    assert "there is no study file" in message
    assert "tunekit init" in message
    assert "there is no study file" in refused(tmp_path)


def test_not_a_python_file(tmp_path: Path) -> None:
    assert "is not a Python file" in refused(write(tmp_path, "x,y\n1,2\n", "rows.csv"))


def test_no_study(tmp_path: Path) -> None:
    message = refused(write(tmp_path, "import tunekit as tk\n"))
    assert "declares 0 studies; expected exactly one, such as `study = tk.Study(...)`" in message


def test_two_studies(tmp_path: Path) -> None:
    text = HEAD + STUDY + STUDY.replace("study =", "other =")
    assert "declares 2 studies; expected exactly one" in refused(write(tmp_path, text))


def test_a_syntax_error_is_placed(tmp_path: Path) -> None:
    message = refused(write(tmp_path, "import tunekit as tk\nstudy = tk.Study(\n"))
    assert "houses.py', line 2" in message
    assert "expected valid Python" in message


def test_a_syntax_error_in_a_file_beside_it_is_placed_there(tmp_path: Path) -> None:
    write(tmp_path, "ok = 1\n\ndef broken(:\n", "broken_lies_beside_it.py")
    message = refused(write(tmp_path, "from broken_lies_beside_it import ok\n"))
    assert "broken_lies_beside_it.py', line 3" in message


def test_an_exception_in_the_file_is_placed(tmp_path: Path) -> None:
    message = refused(write(tmp_path, HEAD + "columns = rows()\nprice = columns['price']\n" + STUDY))
    line = (HEAD + "columns = rows()\nprice").count("\n") + 1
    assert f"houses.py', line {line}: KeyError: 'price'" in message
    assert "expected" in message


def test_an_exception_is_placed_where_the_path_is_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "import tunekit as tk\n\nraise KeyError('price')\n")
    monkeypatch.chdir(tmp_path)
    assert "'houses.py', line 3: KeyError" in refused(Path("houses.py"))


def test_an_absent_module_is_named(tmp_path: Path) -> None:
    message = refused(write(tmp_path, "import no_such_module\n"))
    assert "houses.py', line 1: ModuleNotFoundError: No module named 'no_such_module'" in message


def test_an_error_of_ours_keeps_its_words_and_gets_a_place(tmp_path: Path) -> None:
    message = refused(write(tmp_path, HEAD + STUDY.replace('"houses"', '"my houses"')))
    assert "the study's name is 'my houses'; expected letters, digits" in message
    assert f"line {HEAD.count(chr(10)) + 1}" in message
