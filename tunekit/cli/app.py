"""The commands and their options. Nothing heavy is imported before a command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

app = typer.Typer(
    name="tunekit",
    help="Search, track and blend Keras nets, boosted trees and wide-and-deep models; export one file that predicts.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Form = Literal["bundle", "keras", "saved-model"]
Where = Literal["local", "ray"]
Image = Literal["svg", "png"]
StudyFile = Annotated[Path, typer.Argument(metavar="STUDY.PY", exists=True, dir_okay=False, help="The study file.")]
Root = Annotated[Path, typer.Option(help="Where the ledger and MLflow's store are.", show_default=True)]
ROOT = Path("mlruns")
EXPORT_SECONDS = 300.0
"""How long an export waits for MLflow."""
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


def _driver(name: str) -> Any:
    """The driver of a name; refuse one that is unknown, or can't be used here, as a wrong call."""
    from tunekit.drivers import find_driver
    from tunekit.errors import StudyError

    try:
        return find_driver(name)
    except StudyError as error:
        raise typer.BadParameter(str(error)) from error


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
    table: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A CSV or Parquet file with a header.")],
    target: Annotated[str, typer.Option(help="The column to predict.")],
    time: Annotated[str | None, typer.Option(help="Column to order rows by: judge on later ones.")] = None,
    group: Annotated[str | None, typer.Option(help="Column whose groups never stand on both sides.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The study file to write.")] = Path("study.py"),
    force: Annotated[bool, typer.Option(help="Overwrite an existing file.")] = False,
) -> None:
    """Look at a table and write a study for it: readable, commented, yours to edit."""
    from tunekit.cli.init import write_study

    if output.exists() and not force:
        raise typer.BadParameter(f"{output} exists already; say --force to overwrite it, or -o OTHER.py")
    typer.echo(write_study(table, output, target=target, time=time, group=group))


@app.command()
def check(
    study: StudyFile,
    json: Annotated[bool, typer.Option("--json", help="Print plain data, for programs.")] = False,
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
        import json as formatter

        typer.echo(formatter.dumps({"study": loaded.name, "findings": findings}, indent=1))
    else:
        from rich.console import Console

        from tunekit.tracking.findings import findings_renderable

        Console().print(findings_renderable(loaded.name, findings))
    if strict and any(one["level"] == "problem" for one in findings):
        raise typer.Exit(1)


@app.command()
def grow(
    study: StudyFile,
    family: Annotated[
        str | None, typer.Option(help="Name of a family of nets (left out: mlp, or the study's first one).")
    ] = None,
    budget: Budget = None,
    json: Annotated[bool, typer.Option("--json", help="Print plain data, for programs.")] = False,
    root: Root = ROOT,
) -> None:
    """Train nets of doubling size until validation stops improving, and propose bounds. Run again, it resumes."""
    from tunekit.coach.grow import grow as walk
    from tunekit.study import load_study

    def tell(size: int, score: float, seconds: float) -> None:
        typer.echo(f"size {size}: score {score:.5g}, {seconds:.1f} s", err=json)

    growth = walk(load_study(study), family=family, budget=budget, root=root, tell=tell).to_json()
    if json:
        import json as formatter

        typer.echo(formatter.dumps(growth, indent=1))
    else:
        from rich.console import Console

        from tunekit.tracking.findings import growth_renderable

        Console().print(growth_renderable(growth))
    if not growth["rungs"]:
        typer.echo("No net was fitted on every fold: give it more time.", err=True)
        raise typer.Exit(1)


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
    storage: Storage = None,
    artifacts: Artifacts = None,
    root: Root = ROOT,
) -> None:
    """Search, track, blend and judge. Run again, it resumes; Ctrl-C ends it cleanly."""
    from tunekit.study import load_study

    chosen = _driver(driver) if driver is not None else None
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
    )
    if result.summary["ensemble"] is None:
        typer.echo("No trial was fitted on every fold, so there is no blend: give the search more time.", err=True)
        raise typer.Exit(1)
    typer.echo(f"Next: tunekit export {study} -o model/    tunekit show {study}    tunekit ui")


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
    root: Root = ROOT,
) -> None:
    """Run trials of a study that several machines work on; `search` with the same storage blends what they find."""
    from tunekit.study import load_study

    load_study(study).work(
        storage=storage,
        budget=budget,
        trials=trials,
        until=until,
        workers=workers,
        keep=keep,
        disk=disk,
        artifacts=artifacts,
        root=root,
    )


@app.command()
def show(
    study: StudyFile,
    json: Annotated[bool, typer.Option("--json", help="Print plain data, for programs.")] = False,
    storage: Storage = None,
    artifacts: Artifacts = None,
    root: Root = ROOT,
) -> None:
    """The leaderboard of trials, and the blend's members with their weights."""
    from tunekit.study import load_study

    summary = load_study(study).result(root, storage=storage, artifacts=artifacts).summary
    if json:
        import json as formatter

        typer.echo(formatter.dumps(summary, indent=1))
        return
    from rich.console import Console

    from tunekit.tracking.summary import summary_renderable

    Console().print(summary_renderable(summary))


@app.command()
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
    json: Annotated[bool, typer.Option("--json", help="Print where it is and what is in it, for programs.")] = False,
    storage: Storage = None,
    artifacts: Artifacts = None,
    root: Root = ROOT,
) -> None:
    """One page that needs no network: the verdict, every trial, curves, errors, and how to get there again."""
    from tunekit.study import load_study

    result = load_study(study).result(root, storage=storage, artifacts=artifacts)
    written = result.report(output, columns=columns, images=figures, form=form)
    if json:
        import json as formatter

        typer.echo(formatter.dumps(written.to_json(), indent=1))
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
    register: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Also make it the next version of this model in MLflow's registry."),
    ] = None,
    storage: Storage = None,
    artifacts: Artifacts = None,
    root: Root = ROOT,
) -> None:
    """Write the blend as one safe file that predicts without TensorFlow, checked against the Python models."""
    from tunekit.study import load_study
    from tunekit.tracking.mlflow import MlflowObserver

    if register and form != "bundle":
        raise typer.BadParameter(f"--register takes a bundle, not --format {form}")
    loaded = load_study(study)
    result = loaded.result(root, storage=storage, artifacts=artifacts)
    folder = result.export(
        output, overwrite=force, trial=trial, form=form, refit=refit, latency=latency, size=size, tell=typer.echo
    )
    written = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
    if form != "bundle":
        typer.echo(
            f"wrote {folder}/ ({written:.1f} MB): the models of the blend, which predict as those of the search do"
        )
        return
    mirror = MlflowObserver(root, flush_seconds=EXPORT_SECONDS)
    if trial is None or register:
        mirror.attach(loaded.name)
        mirror.bundle_written(folder, trial=trial, register=register)
        mirror.close()
    typer.echo(
        f"wrote {folder}/ ({written:.1f} MB), which predicts as the Python models do; tunekit predict {folder} NEW.CSV"
    )
    if register:
        typer.echo(f"registered {register}, version {mirror.registered()}")


@app.command()
def predict(
    bundle: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="A folder that `export` wrote.")],
    rows: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A CSV or Parquet file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The CSV or Parquet file to write.")],
) -> None:
    """Predict a file: columns `prediction` and, for classes, `proba_<class>`, in row order.

    Of several targets: `prediction_<target>` and `proba_<target>_<class>`.
    """
    from tunekit.cli.predict import predict_file

    count = predict_file(bundle, rows, output)
    typer.echo(f"wrote {output}: {count} predictions")


@app.command()
def serve(
    bundle: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="A folder that `export` wrote.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="To listen on; 0 for any that is free.")] = 8080,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option(envvar="TUNEKIT_TOKEN", help="Callers must send 'Authorization: Bearer TOKEN'."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="That one prediction may use.")] = 1,
) -> None:
    """Serve a bundle over HTTP: POST rows as JSON to /predict; /docs shows how, /health that it is up."""
    from tunekit.serve import serve as run

    run(bundle, host, port, token=token, threads=threads, tell=lambda text: typer.echo(text))


@app.command()
def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="On this machine.")] = 5000,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="TensorBoard instead, on what search --tensorboard wrote down.")
    ] = False,
    root: Root = ROOT,
) -> None:
    """Open MLflow on the studies' store: every trial, curve and bundle is there."""
    from tunekit.tracking.ui import serve, serve_tensorboard

    show = serve_tensorboard if tensorboard else serve
    raise typer.Exit(show(root, port, lambda text: typer.echo(text)))
