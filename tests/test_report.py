"""The report: every kind of study has every section, and what can't be shown says why; nothing is loaded or run."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from plotly.io import read_json
from searches import Listener, attrition, houses, penguins, write_study  # type: ignore[import-not-found]
from typer.testing import CliRunner

import tunekit as tk
from tunekit.cli import app
from tunekit.errors import StudyError
from tunekit.executors import Limits
from tunekit.report import Absent, Material, Part, errors_of, figures_of, page, sections, write_figures
from tunekit.report.columns import importance
from tunekit.report.curves import courses
from tunekit.report.history import best_so_far, ended_at
from tunekit.report.page import script_json
from tunekit.report.style import PALETTE, looks
from tunekit.study.reporting import gather
from tunekit.trial import Epoch, State, Trial

pytestmark = pytest.mark.usefixtures("kept_servers")

SECTIONS = [
    *("verdict", "leaderboard", "history", "hyperparameters", "parallel", "curves", "members"),
    *("predictions", "columns", "worst", "costs", "reproduce"),
]
EVIL = "<script>alert('x')</script>"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")


class Parsed(HTMLParser):
    """What a page is made of.

    Attributes:
        headings: texts of h1 and h2.
        sections: ids of the sections.
        scripts: attributes and texts of the scripts.
        links: every address that a page would load or go to.
        text: what is read, without scripts and styles.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.sections: list[str] = []
        self.scripts: list[tuple[dict[str, Any], str]] = []
        self.links: list[str] = []
        self.labels: list[str] = []
        self.metas: dict[str, str] = {}
        self.text, self.open = "", list[str]()
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Any]]) -> None:
        given = dict(attrs)
        if tag not in ("meta", "br", "link", "img", "polyline"):
            self.open.append(tag)
        if tag == "section":
            self.sections.append(given["id"])
        if tag == "script":
            self.scripts.append((given, ""))
        if tag == "meta":
            self.metas[given.get("name") or given.get("http-equiv") or "charset"] = given.get("content") or ""
        self.links += [given[name] for name in ("src", "href", "data", "action", "xlink:href") if given.get(name)]
        if "aria-label" in given:
            self.labels.append(given["aria-label"])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, Any]]) -> None:
        assert tag == "polyline", tag

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            given, text = self.scripts[-1]
            self.scripts[-1] = given, text + data
        elif not self.open or self.open[-1] != "style":
            self.text += data


def check_page(html: str, figures: dict[str, go.Figure]) -> Parsed:
    """A page with every section, that loads nothing and has plotly.js once."""
    parsed = Parsed(html)
    assert [one for one in parsed.sections if one != "findings"] == SECTIONS
    assert all(link.startswith("#") for link in parsed.links), parsed.links
    assert parsed.metas["viewport"] == "width=device-width, initial-scale=1"
    assert "default-src 'none'" in parsed.metas["Content-Security-Policy"]
    code = [text for given, text in parsed.scripts if given.get("type") != "application/json"]
    assert [len(text) > 1_000_000 for text in code] == [True, False], "plotly.js and the page's own"
    drawn = [json.loads(text) for given, text in parsed.scripts if given.get("type") == "application/json"]
    assert len(drawn) == len(figures) + 1, "and the themes"
    assert len(parsed.labels) >= len(figures)
    assert len(html) < 6_000_000
    return parsed


# A real small study of each kind.


def weather() -> pd.DataFrame:
    """Two places, hour by hour, for three weeks."""
    random, hours = np.random.default_rng(0), 24 * 21
    made = []
    for place, level in (("shore", 10.0), ("hill", 4.0)):
        day = 5 * np.sin(np.arange(hours) / 24 * 2 * np.pi)
        temp = level + day + random.normal(0, 1, hours).cumsum() * 0.1
        time = pd.date_range("2024-03-01", periods=hours, freq="h")
        made.append(pd.DataFrame({"place": place, "time": time, "temp": temp, "wind": random.random(hours)}))
    together: pd.DataFrame = pd.concat(made)
    return together


def pictures(rows: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """Small pictures with a bright left or right half."""
    random = np.random.default_rng(0)
    cells, side = random.random((rows, 8, 8, 1)).astype(np.float32), random.integers(0, 2, rows)
    for row, right in enumerate(side):
        cells[row, :, 4 * right : 4 * right + 4] += 0.25
    return cells, np.where(side == 1, "right", "left")


def evil_table() -> pd.DataFrame:
    """Who leaves, in a table whose names and classes are code."""
    table = attrition(300).rename(columns={"JobRole": EVIL, "Age": "<img src=x onerror=alert(1)>"})
    changed: pd.DataFrame = table.assign(Attrition=table["Attrition"].map({"No": "stays & <b>works</b>", "Yes": EVIL}))
    return changed


CHEAP = [tk.Baseline(), tk.Linear()]


@dataclass(frozen=True)
class Kind:
    """A study, and what must be seen of it."""

    data: Any
    trials: int
    figures: Sequence[str]
    words: Sequence[str]
    families: Sequence[Any] = tuple(CHEAP)
    split: Any = None
    options: Any = None


def kinds() -> dict[str, Kind]:
    text = ["good fine great", "bad awful poor", "great film fine", "poor plot bad"] * 30
    several = houses(200).assign(old=lambda table: np.where(table["Year_Built"] < 1970, "yes", "no"))
    grades = houses(240).drop(columns="Sale_Price")
    grades["grade"] = pd.qcut(houses(240)["Sale_Price"], 3, labels=["low", "mid", "top"]).astype(str)
    ordered = tk.Table(grades, target="grade", classes=["low", "mid", "top"], ordered=True)
    series = tk.Series(weather(), target="temp", time="time", series="place", lookback=24, step=6, delay=6)
    confusion = ["confusion", "roc", "precision_recall", "calibration"]
    return {
        "regression": Kind(
            tk.Table(houses(300), target="Sale_Price"),
            9,
            [
                "verdict",
                "history",
                "slices_linear",
                "parallel_linear",
                "residuals",
                "residual_histogram",
                "columns",
                "costs",
            ],
            ["explain", "rows with the largest absolute error"],
        ),
        "binary": Kind(
            tk.Table(evil_table(), target="Attrition", classes=["stays & <b>works</b>", EVIL]),
            6,
            [*confusion, "columns", "weights"],
            ["threshold", EVIL, "recall"],
            options={"metric": "f1"},
        ),
        "multiclass": Kind(
            tk.Table(penguins().dropna(subset=["species"]), target="species"), 3, confusion, ["Gentoo", "told best"]
        ),
        "ordinal": Kind(ordered, 3, confusion, ["qwk", "confused most"]),
        "several": Kind(
            tk.Table(several, target=["Sale_Price", "old"]),
            3,
            ["residuals_Sale_Price", "confusion_old", "roc_old"],
            ["old: ", "Sale_Price: "],
        ),
        "images": Kind(
            tk.Images(*pictures()), 3, [*confusion, "worst_pictures"], ["one column alone (image)", "right"]
        ),
        "texts": Kind(tk.Text(text, ["yes", "no", "yes", "no"] * 30), 3, confusion, ["one column alone (text)"]),
        "series": Kind(
            series,
            3,
            ["forecast_shore", "forecast_hill", "error_by_time", "error_by_hour", "residuals", "columns"],
            ["6 hours ahead", "the simple one", "past of temp"],
            split=tk.TimeSplit(2),
        ),
    }


def run(folder: Path, kind: Kind) -> Any:
    study = tk.Study(
        "small",
        data=kind.data,
        families=list(kind.families),
        split=kind.split or tk.KFold(2),
        seed=3,
        **(kind.options or {}),
    )
    limits = Limits(120.0)  # of time alone: other processes may need the memory meanwhile
    root = folder / "mlruns"
    result = study.run(root=root, trials=kind.trials, workers=1, observers=[Listener()], limits=limits)
    assert result.summary["ensemble"] is not None, result.summary["trials"]
    return result


Searched = Callable[[str], Any]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """The result of a kind of study, which is searched once for all tests: they only read it."""
    return cache(lambda name: run(tmp_path_factory.mktemp(name), kinds()[name]))


def copied(result: Any, folder: Path) -> Any:
    """The same study in a folder that a test may change."""
    shutil.copytree(result.site.root, folder / "mlruns")
    study = copy(result.study)
    return study.result(folder / "mlruns")


SLOW = ("several", "texts", "images")
"""Kinds whose search takes more than a few seconds."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in kinds()]
)
def test_every_kind_of_study_is_shown(name: str, searched: Searched, tmp_path: Path) -> None:
    kind, result = kinds()[name], searched(name)
    written = result.report(tmp_path / "report.html", columns=name not in ("multiclass", "ordinal"))  # to save time
    figures = figures_of(written.sections)
    parsed = check_page((tmp_path / "report.html").read_text(), figures)
    assert set(kind.figures) <= set(figures), sorted(figures)
    told = parsed.text + json.dumps([one.to_plotly_json() for one in figures.values()], default=str)
    for words in kind.words:
        assert words in parsed.text or words in told, words
    assert "Traceback" not in parsed.text
    assert f"{result.summary['ensemble']['test_rows']} untouched test rows" in parsed.text
    drawn = {one.name for section in written.sections for one in section.drawings if one.alt}
    assert drawn == set(figures), "each has words for those who don't see it"


def test_a_figure_of_each_name_can_be_had_and_edited(searched: Searched, tmp_path: Path) -> None:
    result = searched("multiclass")
    figures = result.figures()
    assert {"history", "confusion", "weights"} <= set(figures)
    assert "columns" not in figures, "that takes an export"
    assert isinstance(figures["confusion"].update_layout(title="mine"), go.Figure)


# Escaping.


def test_what_a_user_names_is_shown_and_never_run(searched: Searched, tmp_path: Path) -> None:
    result = searched("binary")
    finding = Said("<b>Look</b>", EVIL, "tk.Study(...)  # </script>", "problem")
    result.report(tmp_path / "report.html", findings=[finding, Said("Fine", "All is.", "", "good")], columns=False)
    html = (tmp_path / "report.html").read_text()
    parsed = check_page(html, figures_of(sections(gather(result.study, result.site, result.summary, columns=False))))
    assert parsed.sections[:2] == ["verdict", "findings"]
    assert "<b>Look</b>" in parsed.text, "as a text"
    assert "1 problem and 1 good sign" in parsed.text
    assert EVIL in parsed.text
    plotly = max((text for _, text in parsed.scripts), key=len)
    ours = html.replace(plotly, "")
    assert "<script>alert" not in ours
    assert "<img" not in ours
    assert "<b>works" not in ours
    for given, text in parsed.scripts:
        if given.get("type") == "application/json":
            assert "<" not in text, "nothing in a script element can end it"
    labels = json.loads(next(text for _, text in parsed.scripts if '"heatmap"' in text and "predicted" in text))
    assert labels["data"][0]["x"][1].startswith("&lt;script&gt;"), "Plotly reads tags in texts"


@dataclass(frozen=True)
class Said:
    title: str
    text: str
    change: str
    level: str


def test_json_in_a_script_element_cant_end_it() -> None:
    assert json.loads(script_json({"a": "</script><!--"})) == {"a": "</script><!--"}
    assert "<" not in script_json({"a": "</script><!--"})


# Studies with little to show.


def left_out(written: Any) -> dict[str, str]:
    return {section.key: " ".join(section.left_out) for section in written.sections if section.left_out}


class Broken(tk.XGBoost):
    def fit(self, *given: Any) -> Any:
        raise ValueError("no tree will grow")


def test_a_study_with_failed_trials_alone_says_why(tmp_path: Path) -> None:
    study = tk.Study("small", data=tk.Table(houses(), target="Sale_Price"), families=[Broken()], split=tk.KFold(2))
    result = study.run(root=tmp_path, trials=2, workers=1, observers=[Listener()])
    assert {trial["state"] for trial in result.summary["trials"]} == {"failed"}
    written = result.report(tmp_path / "report.html")
    parsed = check_page((tmp_path / "report.html").read_text(), figures_of(written.sections))
    missing = left_out(written)
    assert {"verdict", "history", "members", "predictions", "columns", "worst"} <= set(missing)
    assert "no trial was fitted on every fold" in missing["predictions"]
    assert "2 trials failed; the most frequent reason (2): " in parsed.text
    assert result.summary["trials"][0]["error"].splitlines()[0] in parsed.text


@pytest.mark.slow
def test_one_trial_is_enough(tmp_path: Path) -> None:
    kind = replace(kinds()["multiclass"], families=[tk.Baseline()], trials=1)
    result = run(tmp_path, kind)
    written = result.report(tmp_path / "report.html")
    check_page((tmp_path / "report.html").read_text(), figures_of(written.sections))
    missing = left_out(written)
    assert "a single member" in missing["members"]
    assert {"verdict", "history", "confusion"} <= set(figures_of(written.sections))


def test_without_a_blend_the_best_trial_is_shown(searched: Searched, tmp_path: Path) -> None:
    result = searched("regression")
    copied(result, tmp_path)
    (tmp_path / "mlruns/studies/small/result.json").unlink()  # as a search leaves it that was killed
    again = result.study.result(tmp_path / "mlruns")
    assert again.summary["ensemble"] is None
    written = again.report(tmp_path / "report.html")
    parsed = check_page((tmp_path / "report.html").read_text(), figures_of(written.sections))
    assert "There is no blend yet" in parsed.text
    best = min((one for one in again.summary["trials"] if one["state"] == "complete"), key=lambda one: one["score"])
    assert f"What trial {best['number']:03d} {best['family']} predicts" in parsed.text
    assert {"residuals", "columns"} <= set(figures_of(written.sections))


def test_the_verdict_has_an_interval_for_each_that_is_compared(searched: Searched) -> None:
    result = searched("regression")
    material = gather(result.study, result.site, result.summary, columns=False)
    (table,) = sections(material)[0].tables
    assert [row[0].text.partition(":")[0] for row in table.rows][:2] == ["blend", "best single"]
    assert all(" to " in row[2].text for row in table.rows)
    bars = sections(material)[0].drawings[0].figure.data
    assert all(bar.error_x.array is not None for bar in bars)

    ensemble = dict(result.summary["ensemble"])  # as an earlier version left it
    del ensemble["test_baseline_interval"]
    ensemble["best_single"] = {name: one for name, one in ensemble["best_single"].items() if name != "test_interval"}
    before = replace(material, summary={**result.summary, "ensemble": ensemble})
    (table,) = sections(before)[0].tables
    told = {row[0].text.partition(":")[0]: row[2].text for row in table.rows}
    assert told["best single"] == told["baseline"] == "-"
    assert " to " in told["blend"]


def test_a_running_search_is_told(searched: Searched) -> None:
    result = searched("multiclass")
    material = gather(result.study, result.site, result.summary, columns=False)
    flying = replace(material, trials=[*material.trials, Trial(9, "linear", 4, 0)])
    parsed = Parsed(page(flying, sections(flying)))
    assert "A search is running (1 trial in flight)" in parsed.text


def test_other_data_is_not_taken_for_what_was_searched_on(searched: Searched, tmp_path: Path) -> None:
    result = searched("multiclass")
    result = copied(result, tmp_path)
    result.study.data = tk.Table(penguins().dropna(subset=["species"]).head(200), target="species")
    written = result.report(tmp_path / "report.html")
    missing = left_out(written)
    assert "can't be loaded" in missing["predictions"]
    assert "data" in missing["predictions"]
    assert "confusion" not in figures_of(written.sections)
    check_page((tmp_path / "report.html").read_text(), figures_of(written.sections))


def test_predictions_that_are_gone_are_told(searched: Searched, tmp_path: Path) -> None:
    result = searched("multiclass")
    result = copied(result, tmp_path)
    for path in (tmp_path / "mlruns").rglob("predictions.npz"):
        path.unlink()
    missing = left_out(result.report(tmp_path / "report.html"))
    assert "the predictions of the blend are not there any more" in missing["members"]


def test_without_test_rows_the_page_says_that_predictions_are_out_of_fold(searched: Searched, tmp_path: Path) -> None:
    result = searched("multiclass")
    material = gather(result.study, result.site, result.summary, columns=False)
    assert not isinstance(material.shown, Absent)
    apart = replace(material, shown=replace(material.shown, untouched=False))
    parsed = Parsed(page(apart, sections(apart)))
    assert "predicted out of fold (there are no test rows)" in parsed.text
    assert "Predictions out of fold" in parsed.text


def test_a_study_that_was_not_run_has_no_report(tmp_path: Path) -> None:
    kind = kinds()["multiclass"]
    study = tk.Study("small", data=kind.data)
    with pytest.raises(StudyError, match="run `tunekit search` on it first"):
        study.result(tmp_path)
    assert "not run yet" in study._repr_html_()


# Notebooks.


def test_a_notebook_shows_a_result_in_little(searched: Searched, tmp_path: Path) -> None:
    result = searched("binary")
    html = result._repr_html_()
    assert html == result.study._repr_html_()
    parsed = Parsed(html)
    assert not parsed.scripts
    assert not parsed.links
    assert result.summary["ensemble"]["verdict"] in parsed.text
    assert "<svg" in html
    assert len(html) < 20_000


# Numbers that figures are made of.


def test_the_importance_of_columns_finds_those_that_are_read() -> None:
    random = np.random.default_rng(0)
    columns = {"read": random.normal(size=300), "idle": random.normal(size=300), "both": random.normal(size=(300, 2))}
    target = columns["read"] + 0.5 * columns["both"][:, 1]
    pieces = {"read": ("read", None), "idle": ("idle", None), "first": ("both", 0), "second": ("both", 1)}

    def predict(rows: Any) -> np.ndarray:
        return np.asarray(rows["read"] + 0.5 * rows["both"][:, 1])[:, None]

    metric = tk.Metric("mae", lambda y, p: float(np.abs(y - p).mean()), "minimize")
    found = importance(columns, pieces, target, None, metric, predict)
    means = dict(zip(found.names, found.losses.mean(axis=1), strict=True))
    assert means["read"] > means["second"] > 0
    assert means["idle"] == means["first"] == 0
    # Of a shuffled normal column, |x - x'| has the mean 2 / sqrt(pi) = 1.13; within a tenth for 300 rows.
    assert means["read"] == pytest.approx(1.128, abs=0.1)
    low, high = np.quantile(found.losses[0], [0.025, 0.975])
    assert low < 1.128 < high


def test_errors_of_members_are_residuals_or_what_is_missing_to_the_truth() -> None:
    from tunekit.data.targets import Target

    number = Part(Target("", "regression"), np.array([1.0, 2.0]), np.array([[1.5], [1.0]]), 0.5)
    assert errors_of([number]).tolist() == [-0.5, 1.0]
    classes = Part(Target("", "binary", ("no", "yes")), np.array([1.0, 0.0]), np.array([[0.8], [0.3]]), 0.5)
    np.testing.assert_allclose(errors_of([classes]), [0.2, 0.3])


def test_the_epoch_where_overfitting_begins_is_that_of_the_smallest_loss() -> None:
    losses = [(1.0, 1.0), (0.8, 0.7), (0.6, 0.6), (0.4, 0.8)]
    curve = [
        Epoch(0, epoch, {"loss": train, "val_loss": valid}) for epoch, (train, valid) in enumerate(losses, start=1)
    ]
    (found,) = courses(curve)
    assert found.epochs[found.least] == 3
    assert found.overfits
    (falling,) = courses(curve[:3])
    assert not falling.overfits
    assert not courses([Epoch(0, 1, {"loss": 1.0})])


def test_a_trial_knows_when_its_folds_ended(searched: Searched) -> None:
    result = searched("regression")
    trials = gather(result.study, result.site, result.summary, columns=False).trials
    for trial in (one for one in trials if one.same_as is None):
        assert len(trial.fold_ends) == len(trial.fold_scores)
        assert trial.fold_ends == sorted(trial.fold_ends)
        assert 0 < trial.fold_ends[-1] <= trial.seconds


def test_the_best_so_far_and_pauses() -> None:
    scores, complete = np.array([3.0, 1.0, 2.0, 0.5]), np.array([False, True, True, True])
    assert np.isnan(best_so_far(scores, complete, smaller=True)[0])
    assert best_so_far(scores, complete, smaller=True)[1:].tolist() == [1.0, 1.0, 0.5]
    trials = [
        Trial(n, "a", n, 0, State.COMPLETE, started=start, seconds=10.0) for n, start in enumerate((100.0, 5000.0))
    ]
    assert ended_at(trials).tolist() == [10.0, 20.0], "the pause between two runs is not searching"


@pytest.mark.parametrize(
    ("last", "told"),
    [
        ([1.0, 1.2, 1.1], "improved the best score by 8.33%: more time may help"),
        # Folds differ by -0.4, 0.3 and 0.13, which is a standard error of 0.2 around a gain of 0.01.
        ([1.5, 1.0, 1.07], "improved the best score by 0.83%, within the noise of its folds: more time alone is"),
        ([1.5, 1.5, 1.5], "brought nothing better"),
    ],
)
def test_a_late_gain_is_compared_with_the_noise(searched: Searched, last: list[float], told: str) -> None:
    result = searched("regression")
    material = gather(result.study, result.site, result.summary, columns=False)
    folds = [[1.3, 1.4, 1.5], [1.2, 1.3, 1.4], [1.1, 1.3, 1.2], [1.3, 1.5, 1.3], last]
    trials = [
        Trial(n, "a", n, 0, State.COMPLETE, started=10.0 * n + 1, seconds=10.0, score=sum(f) / 3, fold_scores=f)
        for n, f in enumerate(folds)
    ]
    said = sections(replace(material, trials=trials))[SECTIONS.index("history")].told
    assert any(told in line for line in said), said


def test_families_keep_their_colours_and_are_told_apart() -> None:
    names = ["baseline", *(f"family{number}" for number in range(12))]
    found = looks(names)
    assert len({(one.colour, one.symbol) for one in found.values()}) == len(names)
    assert found["family0"].colour == PALETTE[0]


def with_trials(material: Material, count: int) -> Material:
    """The same study with more trials, as a long search would leave them."""
    random = np.random.default_rng(0)
    able = [trial for trial in material.trials if trial.state is State.COMPLETE and trial.values]
    more = []
    for number in range(count - len(material.trials)):
        like = able[number % len(able)]
        score = (like.score or 1.0) * (1 - 0.1 * random.random())
        started = like.started + 10.0 * number
        curve = [Epoch(f, e, {"loss": 1 / e, "val_loss": 1 / e + e / 900}) for f in range(5) for e in range(1, 200)]
        more.append(replace(like, number=100 + number, score=score, started=started, curve=curve))
    return replace(material, trials=[*material.trials, *more])


def test_a_page_of_200_trials_stays_small(searched: Searched, tmp_path: Path) -> None:
    result = searched("regression")
    material = with_trials(gather(result.study, result.site, result.summary, columns=False), 200)
    made = sections(material)
    html = page(material, made)
    check_page(html, figures_of(made))
    assert "curves" in figures_of(made)
    assert html.count("<tr>") > 200


# The command.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study that was searched."""
    place = tmp_path_factory.mktemp("report")
    evil_table().to_csv(place / "train.csv", index=False)
    path = write_study(
        place,
        'tk.Table(HERE / "train.csv", target="Attrition")',
        "tk.Baseline(), tk.Linear()",
        options="split=tk.KFold(2)",
    )
    done = CliRunner().invoke(
        app, ["search", str(path), "--trials", "16", "--workers", "1", "--root", str(place / "mlruns")]
    )
    assert done.exit_code == 0, done.output
    return place


def command(folder: Path, *more: Any) -> Any:
    arguments = ["report", folder / "study.py", "--root", folder / "mlruns", "-o", folder / "report.html", *more]
    return CliRunner().invoke(app, [str(one) for one in arguments])


def test_a_search_leaves_its_report_and_study_in_mlflow(folder: Path) -> None:
    (place,) = (folder / "mlruns/artifacts").rglob("report")
    figures = {path.stem: read_json(path) for path in (place / "figures").glob("*.json")}
    assert {"verdict", "history", "confusion", "slices_linear"} <= set(figures)
    check_page((place / "report.html").read_text(), figures)
    assert (place.parent / "study.py").read_text() == (folder / "study.py").read_text()


def test_the_command_tells_programs_what_it_wrote(folder: Path) -> None:
    done = command(folder, "--json", "--no-columns")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["report"] == str(folder / "report.html")
    assert [section["id"] for section in told["sections"]] == SECTIONS
    assert next(one for one in told["sections"] if one["id"] == "columns")["left_out"]
    check_page(
        (folder / "report.html").read_text(),
        dict.fromkeys(name for one in told["sections"] for name in one["figures"]),
    )


def test_the_command_says_what_it_left_out(folder: Path) -> None:
    done = command(folder, "--no-columns")
    assert re.search(r"wrote .*report\.html \(\d\.\d MB\): 12 sections, \d+ figures", done.stdout)
    assert "Learning curves: No complete trial was trained in epochs" in done.stdout
    assert "tunekit search study.py" in (folder / "report.html").read_text()


@needs_chromium
def test_figures_are_written_as_files(folder: Path) -> None:
    pytest.importorskip("kaleido", reason="the extra tunekit[images] is not installed")
    figures = {"roc_a/b": go.Figure(go.Scatter(y=[1, 2])).update_layout(height=300)}
    (path,) = write_figures(figures, folder / "figures", "png")
    assert path.name == "roc_a_b.png"
    assert path.read_bytes()[:4] == b"\x89PNG"


def test_without_kaleido_the_error_says_what_is_needed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "kaleido.errors", None)
    with pytest.raises(StudyError, match=r'Kaleido is not installed; it needs pip install "tunekit\[images\]"'):
        write_figures({"a": go.Figure()}, folder / "figures")
    with pytest.raises(StudyError, match="expected one of svg, png"):
        write_figures({}, folder / "figures", "gif")


# In a browser.

PROBE = """<script>
window.addEventListener("load", () => {
  const asked = setInterval(() => {
    const places = Array.from(document.querySelectorAll(".drawing")).filter(
      (one) => !one.closest("details:not([open])"));
    const drawn = places.filter((one) => one.querySelector(".main-svg"));
    if (drawn.length < places.length) { return; }
    clearInterval(asked);
    const inside = (one) => one.closest(".scroll, pre, .skip");
    const wide = Array.from(document.querySelectorAll("body *")).filter(
      (one) => one.getBoundingClientRect().right > innerWidth + 1 && !inside(one));
    const clipped = drawn.filter((one) => !one.style.minWidth
      && one.querySelector(".main-svg").getBoundingClientRect().width > one.clientWidth + 1);
    document.querySelector("table.sortable th button").click();
    const rows = document.querySelectorAll("table.sortable tbody tr td:first-child");
    parent.postMessage(JSON.stringify({
      width: innerWidth, scroll: document.documentElement.scrollWidth, drawn: drawn.length,
      wide: wide.map((one) => one.tagName + "." + one.className), clipped: clipped.map((one) => one.dataset.name),
      values: Math.max(...Array.from(document.querySelectorAll("td.long")).map((one) =>
        one.getBoundingClientRect().right - one.closest(".scroll").getBoundingClientRect().right)),
      tall: Math.max(...Array.from(document.querySelectorAll("td.long")).map((one) => one.offsetHeight)),
      first: rows[0].textContent, alerted: window.alerted === true,
    }), "*");
  }, 100);
});
window.alert = () => { window.alerted = true; };
</script></head>"""

FRAME = """<!DOCTYPE html><body><iframe src="probed.html" style="width: WIDTHpx; height: 800px; border: 0"></iframe>
<script>window.addEventListener("message", (said) => { document.body.dataset.said = said.data; });</script></body>"""


@needs_chromium
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_draws_every_figure_and_nothing_is_too_wide(folder: Path, width: int) -> None:
    """In a frame, for a window of Chromium's is never narrower than 500 pixels."""
    assert command(folder, "--no-columns").exit_code == 0
    html = (folder / "report.html").read_text()
    (folder / "probed.html").write_text(html.replace("</head>", PROBE, 1))
    (folder / "frame.html").write_text(FRAME.replace("WIDTH", str(width)))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=60000", "--window-size=1400,900"]
    address = (folder / "frame.html").as_uri()
    run = [str(CHROMIUM), *options, f"--user-data-dir={folder / 'profile'}", "--dump-dom", address]
    dom = subprocess.run(run, capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search(r'data-said="([^"]*)"', dom)
    assert found, dom[-2000:]
    told = json.loads(found[1].replace("&quot;", '"').replace("&amp;", "&"))
    assert told["width"] == width
    assert told["drawn"] >= 7
    assert told["scroll"] <= width
    assert told["wide"] == []
    assert told["clipped"] == []
    assert told["values"] <= 0 or width < 500, "what was tried is seen without scrolling sideways"
    assert told["tall"] < 80, "three lines and what is around them, however many values there are"
    assert told["first"] == "000 baseline", "sorted by the trial"
    assert not told["alerted"]
