"""What the documentation shows is what is there. None of it needs MkDocs: `make docs` looks at the site itself."""

import ast
import inspect
import re
import runpy
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

import tunekit
from tunekit.cli.app import app
from tunekit.study import Result

HOUSE = Path(__file__).parents[1]
DOCS = HOUSE / "docs"
PAGES = {str(path.relative_to(DOCS)): path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("**/*.md"))}
NAMES = sorted(PAGES)
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]

FENCED = re.compile(r"(?:^<!-- (?P<mark>runs[a-z, ]*) -->\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
METHODS = {"run": tunekit.Study.run, "work": tunekit.Study.work, "export": Result.export}
"""Methods that pages call on an object, where their arguments have names."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its mark ("runs", "runs, slowly" or none) and its text."""

    mark: str
    text: str


def blocks(page: str, kind: str) -> list[Block]:
    """The blocks of a language."""
    return [Block(one["mark"] or "", one["text"]) for one in FENCED.finditer(PAGES[page]) if one["kind"] == kind]


def with_python(*marks: str) -> list[str]:
    """The pages that have Python of these marks."""
    return [page for page in NAMES if any(block.mark in marks for block in blocks(page, "python"))]


# The command line.


def test_the_page_of_commands_has_every_command_and_option():
    page = runpy.run_path(str(DOCS / "generated.py"))["commands"]()
    sections = dict(re.findall(r"^## tunekit (\w+)\n(.*?)(?=^## |\Z)", page, flags=re.M | re.S))
    assert set(sections) == set(COMMANDS)
    for name, command in COMMANDS.items():
        for parameter in command.params:
            said = parameter.opts if parameter.param_type_name == "option" else [parameter.metavar or parameter.name]
            for one in said:
                assert f"`{one}`" in sections[name] or f"`{one.upper()}`" in sections[name], (name, one)
    assert "<!-- commands -->" in PAGES["reference/commands.md"], "and there is a page that it stands on"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_and_option_says_what_it_does(name):
    command = COMMANDS[name]
    assert command.help, name
    assert not [parameter.name for parameter in command.params if not parameter.help]


@pytest.mark.parametrize("page", NAMES)
def test_every_command_that_a_page_shows_can_be_called(page):
    shell = "\n".join(block.text for block in blocks(page, "bash"))
    shown = re.findall(r"^(?:\$ )?tunekit (\w+)([^#\n]*)", shell, flags=re.M)
    for name, rest in shown + re.findall(r"`(?:\w+ -\w+ \d+ )?tunekit ([a-z]+)\b([^`]*)`", PAGES[page]):
        assert name in COMMANDS, f"tunekit {name}"
        options = {one for parameter in COMMANDS[name].params for one in (*parameter.opts, *parameter.secondary_opts)}
        assert set(re.findall(r"(?<= )--?[a-z][a-z-]*", rest)) - {"-h", "--help"} <= options, f"tunekit {name}{rest}"


def test_every_environment_variable_of_a_command_is_told():
    told = {parameter.envvar for command in COMMANDS.values() for parameter in command.params} - {None}
    assert all(f"`{name}`" in PAGES["reference/environment.md"] for name in told)


# The pages and what they link to.


def test_the_navigation_names_every_page_once():
    settings = (HOUSE / "mkdocs.yml").read_text(encoding="utf-8")
    assert sorted(re.findall(r": (\S+\.md)$", settings, flags=re.M)) == NAMES


@pytest.mark.parametrize("page", NAMES)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", PAGES[page])):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (DOCS / page).parent / path if path else DOCS / page
        assert there.is_file(), f"{page} links to {target}"
        if anchor and there.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", FENCED.sub("", there.read_text(encoding="utf-8")), flags=re.M)
            assert anchor in [slug(heading) for heading in headings], f"{page} links to {target}"


def slug(heading: str) -> str:
    """The anchor that MkDocs gives a heading."""
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading.lower())).strip("-")


def test_the_gallery_is_that_of_the_readme_and_shows_every_study():
    page = runpy.run_path(str(DOCS / "generated.py"))["on_page_markdown"](PAGES["gallery.md"])
    found = re.findall(r"^\| `studies/(\w+)\.py`", (HOUSE / "README.md").read_text(encoding="utf-8"), flags=re.M)
    assert found
    assert re.findall(r"^\| `studies/(\w+)\.py`", page, flags=re.M) == found
    for name in found:
        assert (HOUSE / "studies" / f"{name}.py").read_text(encoding="utf-8") in page


def test_every_name_of_the_reference_exists():
    for page in NAMES:
        for path in re.findall(r"^::: ([\w.]+)$", PAGES[page], flags=re.M):
            place, _, name = path.rpartition(".")
            found = getattr(__import__(place, fromlist=[name]), name)
            heading = re.search(rf"^::: {re.escape(path)}\n(.*?)(?=^:::|^#|\Z)", PAGES[page], flags=re.M | re.S)
            members = re.search(r"members: \[(.*?)\]", heading[1]) if heading else None
            for member in members[1].split(", ") if members else []:
                assert hasattr(found, member), f"{page}: {path}.{member}"


def test_every_public_name_is_in_the_reference():
    told = " ".join(text for page, text in PAGES.items() if page.startswith("reference/"))
    rooms = {name for name in tunekit.__all__ if inspect.ismodule(getattr(tunekit, name))}
    absent = {name for name in set(tunekit.__all__) - rooms if not re.search(rf"^::: [\w.]+\.{name}$", told, re.M)}
    assert absent == set()


# The Python in them.


@pytest.mark.parametrize("page", NAMES)
def test_every_name_in_a_text_exists(page):
    for path in re.findall(r"\btk\.[A-Za-z]\w*(?:\.\w+)?", PAGES[page]):
        look_up(path)


def test_every_name_in_the_readme_exists():
    for path in re.findall(r"\btk\.[A-Za-z]\w*(?:\.\w+)?", (HOUSE / "README.md").read_text(encoding="utf-8")):
        look_up(path)


@pytest.mark.parametrize("page", with_python("", "runs", "runs, slowly"))
def test_every_python_block_is_python_and_its_names_exist(page):
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block.text, page)):
            if isinstance(node, ast.Attribute) and (path := dotted(node)) and path.startswith("tk."):
                look_up(path)
            if isinstance(node, ast.Call):
                check_call(node, page)


def dotted(node: ast.expr) -> str | None:
    """An attribute as it is written, such as "tk.drivers.Optuna"; None if it is one of something else."""
    if isinstance(node, ast.Name):
        return node.id
    above = dotted(node.value) if isinstance(node, ast.Attribute) else None
    return f"{above}.{node.attr}" if above and isinstance(node, ast.Attribute) else None


def look_up(path: str) -> Any:
    found: Any = tunekit
    for name in path.split(".")[1:]:
        found = getattr(found, name)
    return found


def check_call(call: ast.Call, page: str) -> None:
    """Whether the arguments that it names are there."""
    path = dotted(call.func) or ""
    if path.startswith("tk."):
        called = look_up(path)
    elif isinstance(call.func, ast.Attribute) and call.func.attr in METHODS:
        called = METHODS[call.func.attr]
    else:
        return
    parameters = inspect.signature(called).parameters
    if not any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        assert {one.arg for one in call.keywords if one.arg} <= set(parameters), f"{page}: {ast.unparse(call)}"


def runnable(page: str, *marks: str) -> str:
    return "\n".join(block.text for block in blocks(page, "python") if block.mark in marks)


@pytest.mark.parametrize("page", with_python("runs"))
def test_blocks_that_are_marked_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(runnable(page, "runs"), page, "exec"), {"__name__": "shown"})  # declares and loads; nothing searches


@pytest.mark.slow
@pytest.mark.parametrize("page", with_python("runs, slowly"))
def test_blocks_that_search_run(page, tmp_path):
    (tmp_path / "page.py").write_text(runnable(page, "runs", "runs, slowly"), encoding="utf-8")
    ended = subprocess.run([sys.executable, "page.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
