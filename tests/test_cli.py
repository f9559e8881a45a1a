"""The command line: its help, its exit codes, what `init` writes, and what it says to wrong calls and bad tables."""

import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from searches import attrition, houses, penguins, tunekit  # type: ignore[import-not-found]
from typer.testing import CliRunner

from tunekit import __version__
from tunekit.cli import app
from tunekit.cli.options import print_json, telling
from tunekit.errors import TunekitError
from tunekit.families import Keras
from tunekit.study import Study, load_study

COMMANDS = ("init", "search", "show", "report", "export", "predict", "ui")


def invoke(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.fixture
def table(tmp_path) -> Path:
    path = tmp_path / "train.csv"
    attrition(200).to_csv(path, index=False)
    return Path(path)


# Help and version


def test_help_names_every_command() -> None:
    told = invoke("--help")
    assert told.exit_code == 0
    for name in COMMANDS:
        assert re.search(rf"\b{name}\b", told.output)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_for_itself_and_its_options(name) -> None:
    told = invoke(name, "--help")
    assert told.exit_code == 0
    assert told.output == invoke(name, "-h").output
    functions: list[Any] = [one.callback for one in app.registered_commands]
    first = next(function.__doc__ for function in functions if function.__name__ == name).splitlines()[0]
    assert first.split(".")[0][:40] in " ".join(told.output.split())


def test_the_help_of_search_names_its_options() -> None:
    told = invoke("search", "--help").output
    for option in ("--budget", "--trials", "--workers", "--driver", "--seed", "--fresh", "--root"):
        assert option in told


def test_shells_complete_commands_and_options() -> None:
    def completed(words: str, last: int) -> list[str]:
        asked = {"_TUNEKIT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(last)}
        command = [sys.executable, "-c", "from tunekit.cli import app; app(prog_name='tunekit')"]
        done = subprocess.run(command, env={**os.environ, **asked}, capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert set(completed("tunekit s", 1)) == {"search", "serve", "show"}
    assert "--workers" in completed("tunekit search --w", 2)


@pytest.mark.parametrize("colours", [True, False])
def test_no_color_is_heeded_by_terminals(colours: bool, tmp_path) -> None:
    """In a terminal of its own: a pipe has no colours anyway."""
    primary, secondary = os.openpty()
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    environment |= {"TERM": "xterm-256color"} | ({} if colours else {"NO_COLOR": "1"})
    command = [sys.executable, "-m", "tunekit", "search", "no.py"]
    subprocess.run(command, stdout=secondary, stderr=secondary, env=environment, cwd=tmp_path, check=False)
    os.close(secondary)
    told = b""
    with suppress(OSError):  # how Linux says that nothing is left
        while part := os.read(primary, 4096):
            told += part
    os.close(primary)
    assert b"no.py" in told
    assert (re.search(rb"\x1b\[[0-9;]*3[0-7]m", told) is not None) == colours


def test_the_version_is_told() -> None:
    told = invoke("--version")
    assert (told.exit_code, told.output.strip()) == (0, f"tunekit {__version__}")


def test_without_a_command_it_shows_the_help() -> None:
    told = invoke()
    assert told.exit_code == 2
    assert "search" in told.output


# Exit code 2: the call was wrong


WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "no such command": (("serch",), "serch"),
    "no such option": (("search", "{study}", "--trails", "5"), "--trails"),
    "no study file": (("search", "nowhere.py"), "nowhere.py"),
    "no study file to show": (("show", "nowhere.py"), "nowhere.py"),
    "no study file to report on": (("report", "nowhere.py"), "nowhere.py"),
    "a folder as report": (("report", "{study}", "-o", "{folder}"), "directory"),
    "figures of no known form": (("report", "{study}", "--format", "bmp"), "bmp"),
    "no study file to export": (("export", "nowhere.py", "-o", "model"), "nowhere.py"),
    "a folder as study file": (("search", "{folder}"), "directory"),
    "a budget that is no duration": (("search", "{study}", "--budget", "soon"), "'soon'"),
    "a budget of nothing": (("search", "{study}", "--budget", "0s"), "0s"),
    "an unknown driver": (("search", "{study}", "--driver", "oracle"), "oracle"),
    "no trials": (("search", "{study}", "--trials", "0"), "--trials"),
    "no workers": (("search", "{study}", "--workers", "0"), "--workers"),
    "a seed that is no number": (("search", "{study}", "--seed", "lucky"), "--seed"),
    "no table": (("init", "nowhere.csv", "--target", "y"), "nowhere.csv"),
    "no target": (("init", "{table}"), "--target"),
    "no output": (("export", "{study}"), "--output"),
    "two ways to one model": (("export", "{study}", "-o", "model", "--distill", "--refit"), "expected one"),
    "a student for Keras": (("export", "{study}", "-o", "model", "--distill", "--format", "keras"), "saved-model"),
    "no bundle": (("predict", "nowhere", "{table}", "-o", "out.csv"), "nowhere"),
    "no rows": (("predict", "{folder}", "nowhere.csv", "-o", "out.csv"), "nowhere.csv"),
    "a port that is none": (("ui", "--port", "0"), "--port"),
}


@pytest.mark.parametrize(
    ("arguments", "next_step"),
    [
        (("search", "nowhere.py"), "tunekit init"),
        (("init", "nowhere.csv", "--target", "y"), "CSV"),
        (("predict", "nowhere", "{table}", "-o", "out.csv"), "tunekit export"),
    ],
)
def test_what_is_not_there_is_told_with_what_to_do_next(arguments, next_step, table) -> None:
    told = invoke(*(one.format(table=table) for one in arguments))
    assert told.exit_code == 2
    assert "nothing is at 'nowhere" in told.output
    assert next_step in told.output


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_call_is_told_and_ends_with_2(name, table, tmp_path) -> None:
    arguments, told = WRONG[name]
    study = tmp_path / "study.py"
    study.write_text(STUDY)
    places = {"study": study, "table": table, "folder": tmp_path}
    done = invoke(*(one.format(**places) for one in arguments))
    assert done.exit_code == 2, done.output
    assert told in re.sub(r"[│\s]+", "", done.stderr) or told in done.stderr
    assert not (tmp_path / "mlruns").exists()


# Exit code 1: the work failed, and said why


STUDY = """
from pathlib import Path
import tunekit as tk

study = tk.Study(
    "small", data=tk.Table(Path(__file__).parent / "train.csv", target="Attrition"), families=[tk.Baseline()]
)
"""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (STUDY.replace("families=[", "families=[("), "line 6"),
        ("import tunekit as tk", "declares 0 studies; expected exactly one"),
        (STUDY + "other = tk.Study('other', data=study.data)", "declares 2 studies; expected exactly one"),
        (STUDY.replace("[tk.Baseline()]", "[]"), "such as [tk.Baseline(), tk.XGBoost(), tk.MLP()]"),
        (STUDY.replace('"small"', '"a/b"'), "'a/b'; expected letters"),
        (STUDY.replace("[tk.Baseline()]", "[tk.Baseline(), tk.Baseline()]"), "expected unique names"),
        (STUDY.replace("families=", "metric='rsme', families="), "'rsme' is unknown; expected one of"),
    ],
)
def test_a_study_that_cant_be_run_is_refused_with_the_reason(table, tmp_path, text, told) -> None:
    (tmp_path / "study.py").write_text(text)
    done = invoke("search", tmp_path / "study.py", "--root", tmp_path / "mlruns", "--trials", 1)
    assert done.exit_code == 1
    assert isinstance(done.exception, TunekitError)
    assert told in str(done.exception)


def test_a_study_that_was_not_run_has_nothing_to_show_or_export(table, tmp_path) -> None:
    (tmp_path / "study.py").write_text(STUDY)
    for arguments in (("show",), ("show", "--json"), ("export", "-o", "model")):
        name, *options = arguments
        done = invoke(name, tmp_path / "study.py", *options, "--root", tmp_path / "mlruns")
        assert done.exit_code == 1
        assert "run `tunekit search` on it first" in str(done.exception)
    assert not (tmp_path / "mlruns").exists()


def test_a_folder_that_is_no_bundle_is_refused(table, tmp_path) -> None:
    done = invoke("predict", tmp_path, table, "-o", tmp_path / "out.csv")
    assert done.exit_code == 1
    assert "manifest.json" in str(done.exception)


def test_an_error_reaches_its_reader_whole(tmp_path) -> None:
    """In a process of its own: the message is printed as it is, brackets and all, without a traceback."""
    (tmp_path / "study.py").write_text(STUDY.replace("[tk.Baseline()]", "[]"))
    told = tunekit(tmp_path, "search", "study.py", expect=1).stderr
    assert told.startswith("error: ")
    assert told.endswith("families is empty; expected at least one, such as [tk.Baseline(), tk.XGBoost(), tk.MLP()]\n")
    assert told.count("\n") == 1
    pd.DataFrame({"[/x]": [1.0, 2.0], "y": [1.0, 2.0]}).to_csv(tmp_path / "odd.csv", index=False)
    told = tunekit(tmp_path, "init", "odd.csv", "--target", "[bold]z", "-o", "odd.py", expect=1).stderr
    assert told == "error: target: the table has no column '[bold]z'; its 2 columns are [/x], y\n"


def test_what_the_system_refuses_is_told_with_advice(table, tmp_path) -> None:
    (tmp_path / "FILE").write_text("no folder")
    told = tunekit(tmp_path, "init", table, "--target", "Attrition", "-o", "FILE/study.py", expect=1).stderr
    assert told.startswith("error: [Errno ")
    assert told.endswith("'; expected a folder, or nothing, at each part of the path: name another place\n")
    assert told.count("\n") == 1


# Bad tables


def bad_tables() -> dict[str, tuple[pd.DataFrame, list[str]]]:
    """A table that can't be used, and what must be said of it: what was received, what was expected, the way out."""
    rows = 60
    good = pd.DataFrame({"size": np.arange(rows) / 7, "kind": ["a", "b"] * (rows // 2), "y": np.arange(rows) * 1.5})
    one_row = good.assign(y=["no"] * 30 + ["yes"] * 29 + ["maybe"])
    mixed = good.assign(size=[*map(str, range(rows - 1)), "unknown"])
    infinite = good.assign(size=[*np.arange(rows - 1.0), np.inf])
    infinite_target = good.assign(y=[*np.arange(rows - 1.0) / 7, np.inf])
    return {
        "no target column": (good.drop(columns="y"), ["no column 'y'", "size, kind"]),
        "no rows": (good.head(0), ["empty", "0 rows", "expected rows"]),
        "target missing everywhere": (good.assign(y=None), ["missing in every row", "expected a value"]),
        "constant target": (good.assign(y=5), ["is 5 in every row", "expected at least two different values"]),
        "a class with one row": (one_row, ["'maybe' has 1 row", "expected at least 2", "merge it"]),
        "mixed types": (mixed, ["'size' mixes types", "'unknown'", "expected one type", "kinds="]),
        "infinite numbers": (infinite, ["'size'", "infinite", "expected"]),
        "an infinite target": (infinite_target, ["'y'", "infinite", "expected"]),
        "a text per row as target": (good.assign(y=[f"t{n}" for n in range(rows)]), ["60 different", "expected"]),
        "nothing to learn from": (good[["y"]], ["no column is left", "expected at least one"]),
        "doubled names": (good.set_axis(["y", "a", "a"], axis=1), []),  # pandas renames the second
    }


@pytest.mark.parametrize("name", [name for name, (_, told) in bad_tables().items() if told])
@pytest.mark.parametrize("command", ["init", "search"])
def test_a_table_that_cant_be_used_is_refused_with_the_reason(tmp_path, name, command) -> None:
    frame, told = bad_tables()[name]
    frame.to_csv(tmp_path / "train.csv", index=False)
    study = tmp_path / "study.py"
    if command == "init":
        done = invoke("init", tmp_path / "train.csv", "--target", "y", "-o", study)
        assert not study.exists()
    else:
        study.write_text(STUDY.replace("Attrition", "y"))
        done = invoke("search", study, "--root", tmp_path / "mlruns", "--trials", 1)
        assert not (tmp_path / "mlruns" / "studies").exists()
    assert done.exit_code == 1
    assert isinstance(done.exception, TunekitError), done.exception
    for words in told:
        assert words in str(done.exception)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_file_that_is_no_table_is_refused_with_the_reason(tmp_path, suffix) -> None:
    path = tmp_path / f"train{suffix}"
    for content in (b"", b"\x00\xff\xfe\x93NUMPY" * 20):
        path.write_bytes(content)
        done = invoke("init", path, "--target", "y", "-o", tmp_path / "study.py")
        assert done.exit_code == 1
        assert isinstance(done.exception, TunekitError), repr(done.exception)
        assert "expected" in str(done.exception)


# What `init` writes


def written(tmp_path: Path, frame: pd.DataFrame, suffix: str, *arguments: str) -> tuple[Study, str, str]:
    """The study of a table, its text, and what `init` said."""
    path = tmp_path / f"my table{suffix}"
    (frame.to_csv if suffix == ".csv" else frame.to_parquet)(path, index=False)
    output = tmp_path / "studies" / "study.py"
    done = invoke("init", path, *arguments, "-o", output)
    assert done.exit_code == 0, done.output
    return load_study(output), output.read_text(), done.output


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(
    ("frame", "target", "task", "metric", "split"),
    [
        (houses(), "Sale_Price", "regression", "rmse", "KFold(test=0.2, k=5, repeats=2)"),
        (attrition(), "Attrition", "binary", "average_precision", "StratifiedKFold(test=0.2, k=5, repeats=2)"),
        (penguins(), "species", "multiclass", "logloss", "StratifiedKFold(test=0.2, k=5, repeats=2)"),
    ],
    ids=["regression", "imbalanced", "multiclass"],
)
def test_init_writes_a_study_that_fits_the_table(tmp_path, suffix, frame, target, task, metric, split) -> None:
    study, text, told = written(tmp_path, frame, suffix, "--target", target)
    assert f"{task}, judged by {metric}" in told
    compile(text, "study.py", "exec")
    assert max(map(len, text.splitlines())) <= 120
    assert study.name == "my_table"
    assert study.metric == metric
    prepared = study.prepare()
    assert (prepared.data.task, repr(prepared.split), prepared.metric.name) == (task, split, metric)
    assert len(prepared.data) == len(frame)
    assert {"baseline", "linear", "xgboost", "mlp", "wide_deep"} <= {family.name for family in study.families}
    assert any(isinstance(family, Keras) for family in study.families)  # a factory to edit
    assert target not in {column.name for column in prepared.schema.columns}


def test_balanced_classes_are_judged_by_how_well_they_are_told_apart(tmp_path) -> None:
    table = attrition()
    even = pd.concat([table[table["Attrition"] == name].head(40) for name in ("Yes", "No")])
    study, _, _ = written(tmp_path, even, ".csv", "--target", "Attrition")
    assert study.metric == "roc_auc"


def test_a_time_column_gives_a_temporal_split(tmp_path) -> None:
    frame = houses().assign(sold=pd.date_range("2020-01-01", periods=300).astype(str))
    study, _, _ = written(tmp_path, frame, ".csv", "--target", "Sale_Price", "--time", "sold")
    prepared = study.prepare()
    assert repr(prepared.split) == "TimeSplit(test=0.2, k=5)"
    time = prepared.data.time
    assert time is not None
    assert time[prepared.folds.development].max() < time[prepared.folds.test].min()
    for train, valid in prepared.folds.pairs:
        assert time[train].max() < time[valid].min()


def test_a_group_column_gives_a_grouped_split(tmp_path) -> None:
    frame = houses()
    study, _, _ = written(tmp_path, frame, ".csv", "--target", "Sale_Price", "--group", "Neighborhood")
    prepared = study.prepare()
    assert repr(prepared.split) == "GroupKFold(test=0.2, k=5, repeats=2)"
    assert "Neighborhood" not in {column.name for column in prepared.schema.columns}
    group = frame["Neighborhood"].to_numpy()
    assert not set(group[prepared.folds.development]) & set(group[prepared.folds.test])
    for train, valid in prepared.folds.pairs:
        assert not set(group[train]) & set(group[valid])


def test_names_of_any_kind_are_written_as_python(tmp_path) -> None:
    odd = '"""; raise SystemExit; """ \\ {in} €\'s\n'
    frame = houses().rename(columns={"Sale_Price": odd, "Lot_Area": "a\nb"})
    study, _, _ = written(tmp_path, frame, ".parquet", "--target", odd, "--group", "Neighborhood")
    assert study.prepare().data.task == "regression"
    assert study.data.target == odd  # type: ignore[attr-defined]


def test_classes_of_any_kind_are_written_as_comments(tmp_path) -> None:
    """What a table holds is never run: a comment ends where its line does, and so would the study's own code start."""
    frame = attrition().replace({"Attrition": {"Yes": "y\nraise SystemExit", "No": "n{o}\r\x00\x0c"}})
    study, _, _ = written(tmp_path, frame, ".parquet", "--target", "Attrition")
    assert study.prepare().data.task == "binary"


def test_init_overwrites_only_when_told(table, tmp_path) -> None:
    output = tmp_path / "mine.py"
    output.write_text("mine")
    done = invoke("init", table, "--target", "Attrition", "-o", output)
    assert done.exit_code == 2
    assert "--force" in done.stderr
    assert output.read_text() == "mine"
    done = invoke("init", table, "--target", "Attrition", "-o", output, "--force")
    assert done.exit_code == 0
    assert load_study(output).name == "train"


def test_a_column_that_is_not_there_is_named(table, tmp_path) -> None:
    for role in ("--time", "--group"):
        done = invoke("init", table, "--target", "Attrition", role, "whenever", "-o", tmp_path / "study.py")
        assert done.exit_code == 1
        assert f"{role[2:]}: the table has no column 'whenever'" in str(done.exception)


def test_what_is_printed_for_programs_is_strict_json(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    facts = {"score": float("nan"), "interval": [np.float64(1.5), np.inf], "rows": np.int64(3), "path": Path("a")}
    print_json({"trials": [facts]})
    telling(json=True)("for people", facts)
    whole, line = capsys.readouterr().out.rsplit("\n", 2)[:2]
    told = {"score": None, "interval": [1.5, None], "rows": 3, "path": "a"}
    assert json.loads(whole, parse_constant=refuse) == {"trials": [told]}
    assert json.loads(line, parse_constant=refuse) == told
