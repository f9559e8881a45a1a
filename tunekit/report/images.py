"""Figures as files that need no browser: SVG or PNG, drawn by Kaleido in a Chromium of the machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import plotly.graph_objects as go

from tunekit.errors import StudyError

FORMS = ("svg", "png")
WIDTH = 1000
NEEDS = 'pip install "tunekit[images]", and Chromium or Chrome on this machine'


def write_figures(figures: Mapping[str, go.Figure], folder: Path, form: str = "svg") -> list[Path]:
    """Write each figure to a file of its name.

    Args:
        figures: by name.
        folder: is created.
        form: one of `FORMS`.

    Raises:
        StudyError: Kaleido or a Chromium is missing, or can't draw.
    """
    if form not in FORMS:
        raise StudyError(f"figures as {form!r}; expected one of {', '.join(FORMS)}")
    try:
        from kaleido.errors import BrowserFailedError, ChromeNotFoundError
        from plotly.io import write_images
    except ImportError:
        raise StudyError(f"figures can't be written as files, for Kaleido is not installed; it needs {NEEDS}") from None
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{file_name(name)}.{form}" for name in figures]
    printed = [go.Figure(one).update_layout(paper_bgcolor="#ffffff") for one in figures.values()]
    try:
        write_images(
            fig=printed,
            file=[str(path) for path in paths],
            format=form,
            width=WIDTH,
            height=[one.layout.height for one in printed],
            scale=2 if form == "png" else 1,
        )
    except (BrowserFailedError, ChromeNotFoundError) as error:
        raise StudyError(f"figures can't be written as files: {error}; it needs {NEEDS}") from error
    except RuntimeError as error:  # plotly's own words where it finds no browser
        raise StudyError(f"figures can't be written as files: {error}; it needs {NEEDS}") from error
    return paths


def file_name(name: str) -> str:
    """A figure's name, which may hold a target's, as that of a file.

    >>> file_name("roc_Ist's/ein Ziel?")
    'roc_Ist_s_ein_Ziel_'
    """
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
