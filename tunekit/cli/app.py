"""The commands. Nothing heavy is imported before one runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tunekit.cli.looking import check, grow, report, show, ui
from tunekit.cli.options import (
    DRIVER_HELP,
    ROOT,
    Artifacts,
    Budget,
    BundleFolder,
    Disk,
    Form,
    Json,
    Keep,
    Latency,
    Root,
    Size,
    Storage,
    StudyFile,
    TableFile,
    Trials,
    Until,
    Where,
    driver_of,
    print_json,
    telling,
)

app = typer.Typer(
    name="tunekit",
    help="Search, track and blend Keras nets, boosted trees and wide-and-deep models; export one file that predicts.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

EXPORT_SECONDS = 300.0
"""How long an export waits for MLflow."""


def _version(asked: bool) -> None:
    if asked:
        from tunekit import __version__

        typer.echo(f"tunekit {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Search, track and blend Keras nets, boosted trees and wide-and-deep models; export one file that predicts."""
    del version


@app.command()
def init(
    table: TableFile,
    target: Annotated[str, typer.Option(help="The column to predict.")],
    time: Annotated[str | None, typer.Option(help="Column to order rows by: judge on later ones.")] = None,
    group: Annotated[
        str | None, typer.Option(help="Column whose groups never stand on both sides, unless the split is in time.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The study file to write.")] = Path("study.py"),
    force: Annotated[bool, typer.Option(help="Overwrite an existing file.")] = False,
    json: Json = False,
) -> None:
    """Look at a table and write a study for it: readable, commented, yours to edit."""
    from tunekit.cli.init import write_study

    if output.exists() and not force:
        raise typer.BadParameter(f"{output} exists already; say --force to overwrite it, or -o OTHER.py")
    told = write_study(table, output, target=target, time=time, group=group)
    if json:
        print_json({"study": str(output), "told": told})
    else:
        typer.echo(told)


@app.command()
def search(
    study: StudyFile,
    budget: Budget = None,
    trials: Trials = None,
    until: Until = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Trials at a time (one per core, or as many as a cluster has room for).")
    ] = None,
    driver: Annotated[str | None, typer.Option(help=DRIVER_HELP)] = None,
    seed: Annotated[int | None, typer.Option(help="Replaces the study's seed.")] = None,
    fresh: Annotated[bool, typer.Option(help="Delete the study's earlier trials first.")] = False,
    keep: Keep = None,
    disk: Disk = None,
    latency: Latency = None,
    size: Size = None,
    executor: Annotated[Where, typer.Option(help="Where trials run: on this machine, or on a Ray cluster.")] = "local",
    ray_address: Annotated[
        str | None, typer.Option(help="Of the Ray cluster (left out: the one Ray finds, else one on this machine).")
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write down what TensorBoard shows of each net: see ui --tensorboard.")
    ] = False,
    json: Json = False,
    storage: Storage = None,
    artifacts: Artifacts = None,
    root: Root = ROOT,
) -> None:
    """Search, track, blend and judge. Run again, it resumes; Ctrl-C ends it cleanly."""
    from tunekit.study import load_study

    chosen = driver_of(driver) if driver is not None else None
    loaded = load_study(study)
    loaded.driver = chosen or loaded.driver
    loaded.seed = loaded.seed if seed is None else seed
    result = loaded.run(
        budget=budget,
        trials=trials,
        until=until,
        workers=workers,
        fresh=fresh,
        root=root,
        keep=keep,
        disk=disk,
        latency=latency,
        size=size,
        storage=storage,
        artifacts=artifacts,
        executor=executor,
        ray_address=ray_address,
        tensorboard=tensorboard,
        observers=_watching_aside(root, fresh=fresh) if json else None,
    )
    if json:
        print_json(result.summary)
    if result.summary["ensemble"] is None:
        typer.echo("No trial was fitted on every fold, so there is no blend: give the search more time.", err=True)
        raise typer.Exit(1)
    if json:
        return
    typer.echo(f"Next: tunekit export {study} -o model/    tunekit show {study}    tunekit ui")


def _watching_aside(root: Path, *, fresh: bool) -> list[Any]:
    """The usual observers, with standard output left to the data for programs."""
    from tunekit.tracking.mlflow import MlflowObserver

    return [_aside(), MlflowObserver(root, fresh=fresh)]


def _aside() -> Any:
    """The console's observer on standard error."""
    from rich.console import Console

    from tunekit.tracking.console import ConsoleObserver

    return ConsoleObserver(Console(stderr=True), live=False)


@app.command()
def worker(
    study: StudyFile,
    storage: Annotated[
        str,
        typer.Option(envvar="TUNEKIT_STORAGE", metavar="postgresql://...", help="The database that the study is in."),
    ],
    budget: Budget = None,
    trials: Trials = None,
    until: Until = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Trials at a time on this machine (one per core).")] = None,
    keep: Keep = None,
    disk: Disk = None,
    artifacts: Artifacts = None,
    json: Json = False,
    root: Root = ROOT,
) -> None:
    """Run trials of a study that several machines work on; `search` with the same storage blends what they find."""
    from tunekit.study import load_study

    loaded = load_study(study)
    loaded.work(
        storage=storage,
        budget=budget,
        trials=trials,
        until=until,
        workers=workers,
        keep=keep,
        disk=disk,
        artifacts=artifacts,
        root=root,
        observers=[_aside()] if json else None,
    )
    if json:
        print_json(loaded.result(root, storage=storage, artifacts=artifacts).summary)


@app.command()
def export(
    study: StudyFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="The bundle's folder, to be created.")],
    force: Annotated[bool, typer.Option(help="Replace a bundle that is there.")] = False,
    trial: Annotated[
        int | None, typer.Option(min=0, help="Number of a trial to write instead, such as one of the Pareto front.")
    ] = None,
    latency: Latency = None,
    size: Size = None,
    form: Annotated[
        Form,
        typer.Option(
            "--format",
            help="bundle: one graph that predicts. keras, saved-model: the models themselves, to go on training.",
        ),
    ] = "bundle",
    refit: Annotated[
        bool,
        typer.Option(
            "--refit",
            help="Fit each member once more, on all rows: one model instead of one per fold, smaller and faster.",
        ),
    ] = False,
    distill: Annotated[
        bool,
        typer.Option(
            "--distill",
            help="Teach one small net what the blend predicts, and write that: judged first, beside the blend.",
        ),
    ] = False,
    register: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Also make it the next version of this model in MLflow's registry."),
    ] = None,
    json: Json = False,
    storage: Storage = None,
    artifacts: Artifacts = None,
    root: Root = ROOT,
) -> None:
    """Write the blend as one safe file that predicts without TensorFlow, checked against the Python models."""
    from tunekit.study import load_study
    from tunekit.tracking.mlflow import MlflowObserver

    if register and form != "bundle":
        raise typer.BadParameter(f"--register takes a bundle, not --format {form}")
    if distill and refit:
        raise typer.BadParameter(
            "--distill and --refit; expected one: a net that learns the blend, or its members fitted once more"
        )
    if distill and form == "keras":
        raise typer.BadParameter("--distill with --format keras; expected bundle or saved-model: see Result.export")
    loaded = load_study(study)
    result = loaded.result(root, storage=storage, artifacts=artifacts)
    told: list[str] = []
    folder = result.export(
        output,
        overwrite=force,
        trial=trial,
        form=form,
        refit=refit,
        distill=distill,
        latency=latency,
        size=size,
        tell=told.append if json else typer.echo,
    )
    size_mb = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
    mirror = MlflowObserver(root, flush_seconds=EXPORT_SECONDS)
    if form == "bundle" and (trial is None or register):
        mirror.attach(loaded.name)
        mirror.bundle_written(folder, trial=trial, register=register)
        mirror.close()
    version = mirror.registered() if register else None
    if json:
        print_json(
            {"folder": str(folder), "format": form, "size_mb": size_mb, "told": told, "registered_version": version}
        )
        return
    what = {"bundle": f", which predicts as the Python models do; tunekit predict {folder} NEW.CSV"}
    usual = ": the models of the blend, which predict as those of the search do"
    typer.echo(f"wrote {folder}/ ({size_mb:.1f} MB){what.get(form, usual)}")
    if register:
        typer.echo(f"registered {register}, version {version}")


@app.command()
def predict(
    bundle: BundleFolder,
    rows: TableFile,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The CSV or Parquet file to write. If left out, CSV is printed."),
    ] = None,
    json: Json = False,
) -> None:
    """Predict a file: columns `prediction` and, for classes, `proba_<class>`, in row order.

    Of several targets: `prediction_<target>` and `proba_<target>_<class>`.
    """
    from tunekit.cli.predict import predict_file

    if json and output is None:
        raise typer.BadParameter("received no --output; expected the file whose name and rows --json is to tell")
    count = predict_file(bundle, rows, output)
    if output is None:
        return
    if json:
        print_json({"predictions": str(output), "rows": count})
    else:
        typer.echo(f"wrote {output}: {count} predictions")


@app.command()
def serve(
    bundle: BundleFolder,
    port: Annotated[int, typer.Option(min=0, max=65535, help="To listen on; 0 for any that is free.")] = 8080,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option(envvar="TUNEKIT_TOKEN", help="Callers must send 'Authorization: Bearer TOKEN'."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="That one prediction may use.")] = 1,
    json: Json = False,
) -> None:
    """Serve a bundle over HTTP: POST rows as JSON to /predict; /docs shows how, /health that it is up."""
    from tunekit.serve import serve as run

    run(bundle, host, port, token=token, threads=threads, tell=telling(json=json))


for command in (check, grow, show, report, ui):
    app.command()(command)
