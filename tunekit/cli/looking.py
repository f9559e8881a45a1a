"""The commands that look at a study and at what became of it: check, grow, show, report, ui."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from tunekit.cli.options import ROOT, Artifacts, Budget, Image, Json, Root, Storage, StudyFile, print_json, telling


def check(
    study: StudyFile,
    json: Json = False,
    strict: Annotated[bool, typer.Option("--strict", help="End with exit code 1 if there is a problem.")] = False,
    storage: Storage = None,
    artifacts: Artifacts = None,
    root: Root = ROOT,
) -> None:
    """Look at a study's data before a search (leaks, drift, folds), and at its trials if there are any."""
    from tunekit.coach import check_study
    from tunekit.study import load_study

    loaded = load_study(study)
    findings = [one.to_json() for one in check_study(loaded, root, storage=storage, artifacts=artifacts)]
    if json:
        print_json({"study": loaded.name, "findings": findings})
    else:
        from rich.console import Console

        from tunekit.tracking.findings import findings_renderable

        Console().print(findings_renderable(loaded.name, findings))
    if strict and any(one["level"] == "problem" for one in findings):
        raise typer.Exit(1)


def grow(
    study: StudyFile,
    family: Annotated[
        str | None, typer.Option(help="Name of a family of nets (left out: mlp, or the study's first one).")
    ] = None,
    budget: Budget = None,
    json: Json = False,
    root: Root = ROOT,
) -> None:
    """Train nets of doubling size until validation stops improving, and propose bounds. Run again, it resumes."""
    from tunekit.coach.grow import grow as walk
    from tunekit.study import load_study

    def tell(size: int, score: float, seconds: float) -> None:
        typer.echo(f"size {size}: score {score:.5g}, {seconds:.1f} s", err=json)

    growth = walk(load_study(study), family=family, budget=budget, root=root, tell=tell).to_json()
    if json:
        print_json(growth)
    else:
        from rich.console import Console

        from tunekit.tracking.findings import growth_renderable

        Console().print(growth_renderable(growth))
    if not growth["rungs"]:
        typer.echo("No net was fitted on every fold: give it more time.", err=True)
        raise typer.Exit(1)


def show(
    study: StudyFile,
    json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", help="Follow a search that runs elsewhere, until Ctrl-C.")] = False,
    storage: Storage = None,
    artifacts: Artifacts = None,
    root: Root = ROOT,
) -> None:
    """The leaderboard of trials, and the blend's members with their weights."""
    from tunekit.study import load_study

    if watch and json:
        raise typer.BadParameter("--watch with --json; expected one of them: call --json again and again instead")
    loaded = load_study(study)

    def summary() -> dict[str, Any]:
        return loaded.result(root, storage=storage, artifacts=artifacts).summary

    if json:
        print_json(summary())
    elif watch:
        from tunekit.tracking.watching import watch as follow

        follow(summary)
    else:
        from rich.console import Console

        from tunekit.tracking.summary import summary_renderable

        Console().print(summary_renderable(summary()))


def _keep_in_mlflow(study: str, root: Path, files: list[Path]) -> None:
    """Let the report be read there, too; a study whose searches MLflow hasn't seen has none there."""
    from tunekit.tracking.mlflow import MlflowObserver

    if not (root / "mlflow.db").exists() and "MLFLOW_TRACKING_URI" not in os.environ:
        return
    mirror = MlflowObserver(root)
    mirror.attach(study)
    mirror.report_written(files)
    mirror.close()


def report(
    study: StudyFile,
    output: Annotated[
        Path, typer.Option("--output", "-o", dir_okay=False, help="The page to write; what is there is replaced.")
    ] = Path("report.html"),
    columns: Annotated[
        bool,
        typer.Option(
            "--columns/--no-columns", help="Whether to find out which columns matter: the blend is exported for it."
        ),
    ] = True,
    figures: Annotated[
        Path | None,
        typer.Option(metavar="DIR", file_okay=False, help="Also write each figure to a file in this folder."),
    ] = None,
    form: Annotated[Image, typer.Option("--format", help="Of these files.")] = "svg",
    json: Json = False,
    storage: Storage = None,
    artifacts: Artifacts = None,
    root: Root = ROOT,
) -> None:
    """One page that needs no network: the verdict, every trial, curves, errors, and how to get there again."""
    from tunekit.coach import check_study
    from tunekit.study import load_study

    loaded = load_study(study)
    result = loaded.result(root, storage=storage, artifacts=artifacts)
    findings = check_study(loaded, root, storage=storage, artifacts=artifacts)
    written = result.report(output, findings=findings, columns=columns, images=figures, form=form)
    _keep_in_mlflow(loaded.name, root, [output, *written.images])
    if json:
        print_json(written.to_json())
        return
    shown = sum(len(section.drawings) for section in written.sections)
    typer.echo(
        f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB): {len(written.sections)} sections, {shown} figures"
    )
    for section in written.sections:
        for why in section.left_out:
            typer.echo(f"- {section.title}: {why}")
    if written.images:
        typer.echo(f"wrote {len(written.images)} figures to {figures}/")


def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="On this machine.")] = 5000,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="TensorBoard instead, on what search --tensorboard wrote down.")
    ] = False,
    json: Json = False,
    root: Root = ROOT,
) -> None:
    """Open MLflow on the studies' store: every trial, curve and bundle is there."""
    from tunekit.tracking.ui import serve, serve_tensorboard

    show = serve_tensorboard if tensorboard else serve
    raise typer.Exit(show(root, port, telling(json=json)))
