"""Options that commands share, and how wrong values of theirs are refused. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

Form = Literal["bundle", "keras", "saved-model"]
Where = Literal["local", "ray"]
Image = Literal["svg", "png"]


def _there(next_step: str, *, folder: bool = False) -> Callable[[Path], Path]:
    """Refuse a path where no such file or folder is, and say what to do next."""

    def check(path: Path) -> Path:
        if path.exists() and path.is_dir() == folder:  # a pipe will do for a file
            return path
        wanted = "folder" if folder else "file"
        found = f"a {'file' if folder else 'directory'} is" if path.exists() else "nothing is"
        raise typer.BadParameter(f"{found} at {str(path)!r}; expected a {wanted}: {next_step}")

    return check


StudyFile = Annotated[
    Path,
    typer.Argument(
        metavar="STUDY.PY",
        help="The study file.",
        callback=_there("`tunekit init train.csv --target COLUMN` writes a study"),
    ),
]
TableFile = Annotated[
    Path,
    typer.Argument(
        help="A CSV or Parquet file with a header.", callback=_there("name a CSV or Parquet file with a header")
    ),
]
BundleFolder = Annotated[
    Path,
    typer.Argument(
        help="A folder that `export` wrote.",
        callback=_there("`tunekit export study.py -o model/` writes a bundle", folder=True),
    ),
]
Root = Annotated[Path, typer.Option(help="Where the ledger and MLflow's store are.", show_default=True)]
ROOT = Path("mlruns")
Storage = Annotated[
    str | None,
    typer.Option(
        envvar="TUNEKIT_STORAGE",
        metavar="postgresql://...",
        help="Keep the ledger in this database, so that several machines can work on the study.",
    ),
]
Artifacts = Annotated[
    str | None,
    typer.Option(
        envvar="TUNEKIT_ARTIFACTS",
        metavar="ADDRESS",
        help="Keep trials' files at an address that fsspec knows, such as s3://bucket/folder (left out: under --root).",
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(
        callback=lambda text: _duration(text),
        help="Time for everything: 90s, 10m, 1h30m (10m if there is neither --trials nor --until).",
    ),
]
Trials = Annotated[int | None, typer.Option(min=1, help="End when the study has this many trials.")]
Until = Annotated[float | None, typer.Option(help="End when a trial has this score, or a better one.")]
Keep = Annotated[
    int | None,
    typer.Option(min=1, help="So many of the best trials, and each family's best, keep their models (30)."),
]
Disk = Annotated[
    str | None,
    typer.Option(
        callback=lambda text: _size(text),
        help="Size that kept models may take: 500MB, 2GB (a fifth of the free space).",
    ),
]
Latency = Annotated[
    str | None,
    typer.Option(
        callback=lambda text: _serving(text, None),
        help="What one prediction of the exported blend may take: 2ms. Another blend is selected if need be.",
    ),
]
Size = Annotated[
    str | None,
    typer.Option(callback=lambda text: _serving(None, text), help="Size that the exported blend may have: 20MB."),
]
DRIVER_HELP = (
    "Who proposes values: random, grid, optuna:NAME (tpe, tpe-group, gp, cmaes, nsgaii, qmc, random), hyperopt:NAME "
    "(tpe, atpe, anneal, random), keras-tuner:NAME (bayesian, random). Left out: the study's own, or optuna:tpe."
)


def _duration(text: str | None) -> str | None:
    """Refuse a budget that is no duration, as a wrong call."""
    from tunekit.errors import StudyError
    from tunekit.study.duration import parse_duration

    try:
        parse_duration(text)
    except StudyError as error:
        raise typer.BadParameter(str(error)) from error
    return text


def _size(text: str | None) -> str | None:
    """Refuse a size that is none, as a wrong call."""
    from tunekit.errors import StudyError
    from tunekit.study.duration import parse_size

    try:
        parse_size(text)
    except StudyError as error:
        raise typer.BadParameter(str(error)) from error
    return text


def _serving(latency: str | None, size: str | None) -> str | None:
    """Refuse a limit that is none, as a wrong call."""
    from tunekit.errors import StudyError
    from tunekit.study.serving import Serving

    try:
        Serving.of(latency, size)
    except StudyError as error:
        raise typer.BadParameter(str(error)) from error
    return latency or size


def driver_of(name: str) -> Any:
    """The driver of a name; refuse one that is unknown, or can't be used here, as a wrong call."""
    from tunekit.drivers import find_driver
    from tunekit.errors import StudyError

    try:
        return find_driver(name)
    except StudyError as error:
        raise typer.BadParameter(str(error)) from error


Json = Annotated[bool, typer.Option("--json", help="Print plain data, for programs.")]


Facts = Mapping[str, Any]
"""What programs want to know of a line that a person reads."""


def telling(*, json: bool) -> Callable[[str, Facts], None]:
    """What takes the lines of a command that goes on, for a person or, one object a line, for programs."""
    if not json:
        return lambda text, facts: typer.echo(text)
    from tunekit.plain import strict_json

    return lambda text, facts: typer.echo(strict_json(facts))


def print_json(data: Any) -> None:
    """Print plain data; what isn't a number in JSON, such as NaN, is null."""
    from tunekit.plain import strict_json

    typer.echo(strict_json(data, indent=1))
