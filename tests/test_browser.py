"""What a person sees of a study in MLflow: its real pages on a real search, in a real browser."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from browser import Page, browse, needs_chromium  # type: ignore[import-not-found]
from searches import command, houses, mlflow_runs, started, tunekit, write_study  # type: ignore[import-not-found]
from servers import answer_of, free_port  # type: ignore[import-not-found]

pytestmark = [pytest.mark.slow, needs_chromium]


@pytest.fixture(scope="module")
def searched(tmp_path_factory) -> Path:
    """A folder with a study that was searched and exported."""
    folder: Path = tmp_path_factory.mktemp("seen")
    houses().to_csv(folder / "train.csv", index=False)
    data = 'tk.Table(HERE / "train.csv", target="Sale_Price")'
    families = "tk.Baseline(), tk.Linear(), net"
    code = "net = tk.MLP()\nnet.epochs = 4"
    write_study(folder, data, families, code=code, options="split=tk.KFold(2, test=0.2)")
    tunekit(folder, "search", "study.py", "--trials", "3", "--workers", "1")
    tunekit(folder, "export", "study.py", "-o", "model")
    tunekit(folder, "report", "study.py", "--no-columns")
    return folder


@pytest.fixture(scope="module")
def address(searched: Path) -> Iterator[str]:
    """Where `tunekit ui` shows it."""
    port = free_port()
    with started(command("ui", "--port", str(port)), searched):
        url = f"http://127.0.0.1:{port}"
        answer_of(f"{url}/health", searched / "printed.txt")
        yield url


def unfolded(run: str) -> str:
    """JavaScript that opens the nested runs of a run in the table; false while the run isn't there."""
    row = f"[...document.querySelectorAll('[role=row]')].find(row => row.innerText.split('\\n').includes({run!r}))"
    return f"(() => {{ const button = {row}?.querySelector('button'); button?.click(); return Boolean(button) }})()"


def test_a_study_is_found_with_its_trials_curves_and_artifacts(searched: Path, address: str) -> None:
    runs = mlflow_runs(searched / "mlruns")
    [parent] = [one["id"] for one in runs if one["tags"]["tunekit.kind"] == "search"]
    net = next(one for one in runs if one["tags"]["tunekit.kind"] == "trial" and one["tags"]["tunekit.family"] == "mlp")
    name = net["tags"]["mlflow.runName"]
    folds = [one for one in runs if one["tags"].get("mlflow.parentRunId") == net["id"]]
    assert [one["tags"]["tunekit.fold"] for one in folds] == ["0", "1"]

    async def visit(page: Page) -> None:
        await page.shows("small")
        await page.picture("mlflow-1-experiments")
        experiment = await page.until("[...document.querySelectorAll('a')].find(a => a.innerText == 'small')?.href")
        experiment = experiment.partition("?")[0].rstrip("/").removesuffix("/runs")

        await page.go(f"{experiment}/runs")
        await page.until(unfolded("small"))
        await page.shows("000 baseline", name)
        await page.picture("mlflow-2-trials")
        await page.until(unfolded(name))
        await page.shows(f"{name} fold 0", f"{name} fold 1")
        await page.picture("mlflow-3-folds")

        await page.go(f"{experiment}/runs/{parent}")
        await page.shows("small", "Best trials", "best_score", "digest")
        await page.picture("mlflow-4-search")
        await page.go(f"{experiment}/runs/{parent}/artifacts")
        await page.shows("summary.json", "report")
        await page.picture("mlflow-5-artifacts")

        await page.go(f"{experiment}/runs/{net['id']}")
        await page.shows(name, "val_loss", "layers")
        await page.picture("mlflow-6-trial")
        await page.go(f"{experiment}/runs/{net['id']}/model-metrics")
        await page.until("document.querySelectorAll('.main-svg, .js-plotly-plot').length > 0")
        await page.shows("val_loss")
        await page.picture("mlflow-7-curves")
        await page.go(f"{experiment}/runs/{net['id']}/artifacts/model.txt")
        await page.shows("model.txt", "Total params")
        await page.picture("mlflow-8-layers")

        trials = [one["id"] for one in runs if one["tags"]["tunekit.kind"] == "trial"]
        number = experiment.rpartition("/")[2]
        chosen = f"runs={quote(json.dumps(trials))}&experiments={quote(json.dumps([number]))}"
        await page.go(f"{address}/#/compare-runs?{chosen}")
        await page.shows(f"Comparing {len(trials)} Runs", "Parallel Coordinates Plot")
        await page.until("document.querySelectorAll('.parcoords').length > 0")
        await page.picture("mlflow-9-parallel-coordinates")

    browse(visit, address, height=2400)  # what is below the window is not drawn
