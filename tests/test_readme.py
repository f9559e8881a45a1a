"""What the README shows is what is there."""

import re
from pathlib import Path

import typer

from tunekit.cli.app import app

HOUSE = Path(__file__).parents[1]
README = (HOUSE / "README.md").read_text(encoding="utf-8")


def test_the_study_in_the_readme_is_the_one_in_the_repository():
    shown = next(block for block in re.findall(r"```python\n(.*?)```", README, flags=re.S) if "tk.Study(" in block)
    assert shown in (HOUSE / "studies" / "ames.py").read_text(encoding="utf-8")


def test_every_command_and_option_in_the_readme_exists():
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    shown = re.findall(r"^tunekit (\w+)(.*?)(?:#|$)", README, flags=re.M)
    assert {name for name, _ in shown} == set(commands), "and none is left out"
    for name, rest in shown:
        options = {option for parameter in commands[name].params for option in parameter.opts}
        assert set(re.findall(r"(?<= )--?[a-z][a-z-]*", rest)) <= options, name


def test_every_file_that_the_readme_links_to_exists():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (HOUSE / target).exists(), target


def test_every_make_target_in_the_readme_exists():
    makefile = (HOUSE / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make ([a-z-]+)", README, flags=re.M):
        assert re.search(rf"^{target}:", makefile, flags=re.M), target
