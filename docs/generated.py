"""What of the site is made when it is built: the page of commands, the gallery of the README, and the studies in full.

MkDocs calls `on_page_markdown` of this file (see mkdocs.yml). It needs typer, and nothing heavier of tunekit.
"""

from __future__ import annotations

import re
import sys
import typing
from pathlib import Path
from typing import Any

HOUSE = Path(__file__).parents[1]
KINDS = {str: "TEXT", int: "NUMBER", float: "NUMBER", Path: "PATH"}
"""What follows an option, by the type of its value."""

IN_README = re.compile(r"<!-- gallery: .*? -->\n(.*?)<!-- end of the gallery -->", flags=re.DOTALL)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put in what a page asks for by a mark such as `<!-- commands -->`."""
    for name, made in MADE.items():
        mark = f"<!-- {name} -->"
        if mark in markdown:
            markdown = markdown.replace(mark, made())
    return markdown


def gallery() -> str:
    """The table that `make gallery` wrote into the README."""
    found = IN_README.search((HOUSE / "README.md").read_text(encoding="utf-8"))
    if found is None:
        raise ValueError("README.md has no gallery; expected its two marks, as benchmarks/gallery.py writes them")
    return found[1]


def studies() -> str:
    """Every file of a study."""
    files = [path for path in sorted((HOUSE / "studies").glob("*.py")) if "tk.Study(" in path.read_text("utf-8")]
    return "\n\n".join(f"## {path.stem}\n\n```python\n{path.read_text('utf-8').rstrip()}\n```" for path in files)


def commands() -> str:
    """Every command with its arguments and options, as Markdown."""
    sys.path.insert(0, str(HOUSE))  # the site's environment has typer, but no tunekit
    import typer

    from tunekit.cli.app import app

    whole: Any = typer.main.get_command(app)
    return "\n\n".join(command(name, one) for name, one in whole.commands.items())


def command(name: str, one: Any) -> str:
    """The section of a command: how it is called, what it does, and a row for each option."""
    arguments = [parameter for parameter in one.params if parameter.param_type_name == "argument"]
    options = [parameter for parameter in one.params if parameter.param_type_name == "option"]
    must = [f"{shown(option)[0]} {kind(option)}" for option in options if option.required]
    call = " ".join([f"tunekit {name}", *(kind(argument) for argument in arguments), *must, "[OPTIONS]"])
    rows = [(f"`{kind(argument)}`", "required", argument.help) for argument in arguments]
    rows += [(names(option), default(option), described(option)) for option in options]
    table = ["| | left out | |", "|---|---|---|", *(f"| {' | '.join(cells)} |" for cells in rows)]
    return "\n".join([f"## tunekit {name}", "", "```text", call, "```", "", one.help.strip(), "", *table])


def shown(option: Any) -> list[str]:
    """The ways to say an option, the long one first, those that switch it off last."""
    return [*sorted(option.opts, key=len, reverse=True), *option.secondary_opts]


def kind(parameter: Any) -> str:
    """What a value of it stands for."""
    if parameter.metavar:
        return str(parameter.metavar)
    if parameter.param_type_name == "argument":
        return str(parameter.name).upper()
    wanted = parameter.type_descriptor.annotation
    choices = " or ".join(str(choice) for choice in typing.get_args(wanted))
    return choices or KINDS[wanted]


def names(option: Any) -> str:
    """An option as it is said, with what follows it."""
    told = ", ".join(f"`{name}`" for name in shown(option))
    return told if option.is_flag else f"{told} `{kind(option)}`"


def default(option: Any) -> str:
    """What holds where it is left out."""
    if option.required:
        return "required"
    if option.is_flag:
        return "yes" if option.default and option.secondary_opts else "no"
    return "" if option.default is None else f"`{option.default}`"


def described(option: Any) -> str:
    """What it does, and the environment variable that may say it."""
    told = option.help.replace("|", "\\|")
    return f"{told} Also: `{option.envvar}`." if option.envvar else told


MADE = {"commands": commands, "gallery": gallery, "studies": studies}
"""What a page may ask for."""
