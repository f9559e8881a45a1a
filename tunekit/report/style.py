"""How figures look: one colour, marker and dash for each family, text that Plotly reads as text, numbers to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tunekit.tracking.standings import score_text

# Okabe and Ito (2008), their yellow darkened to be seen on white, and two of Tol's "muted" after them: told apart by
# people who see few colours, too.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#B8A800", "#882255", "#44AA99")
GREY = "#8A8A8A"
ACCENT, OTHER = PALETTE[0], PALETTE[1]
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x", "star", "pentagon", "hexagon", "triangle-down")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
GOOD_TO_BAD = ((0.0, "#0072B2"), (0.5, "#9AA0A6"), (1.0, "#E69F00"))  # seen on white and on black
SEQUENTIAL = "Cividis"  # made for people who see few colours (Nuñez 2018)

LONGEST = 40
"""Letters of a name in a figure."""

MOST_POINTS = 1500
"""Of a scatter plot: more hide each other, and make the page large."""

LIGHT = {"font": "#1f2328", "grid": "#d9dde2", "line": "#8b949e"}
DARK = {"font": "#e6edf3", "grid": "#363d47", "line": "#7d8590"}


@dataclass(frozen=True)
class Look:
    """How a family looks in every figure."""

    colour: str
    symbol: str
    dash: str


def looks(families: Sequence[str]) -> dict[str, Look]:
    """A look for each family; the baseline is grey."""
    found, place = {}, 0
    for family in families:
        if family == "baseline":
            found[family] = Look(GREY, "circle-open", "dot")
            continue
        turn = place // len(PALETTE)
        found[family] = Look(PALETTE[place % len(PALETTE)], SYMBOLS[place % len(SYMBOLS)], DASHES[turn % len(DASHES)])
        place += 1
    return found


def plain(text: Any, longest: int = LONGEST) -> str:
    """A text that Plotly shows as it is, though it reads tags in texts; long ones are cut.

    >>> plain("<b>price</b> & size"), plain("abcdefgh", longest=5)
    ('&lt;b&gt;price&lt;/b&gt; &amp; size', 'abcd…')
    """
    line = " ".join(str(text).split())
    cut = line if len(line) <= longest else f"{line[: longest - 1]}…"
    return cut.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def distinct(texts: Sequence[Any]) -> list[str]:
    """The texts as `plain` shows them, with numbers where two look the same: axes put equal names into one place."""
    seen: dict[str, int] = {}
    found = []
    for text in map(plain, texts):
        seen[text] = seen.get(text, 0) + 1
        found.append(text if seen[text] == 1 else f"{text} ({seen[text]})")
    return found


def template(theme: dict[str, str] = LIGHT) -> go.layout.Template:
    """Plotly's template of the report, transparent, so that it stands on any page."""
    axis = {
        "gridcolor": theme["grid"],
        "zerolinecolor": theme["grid"],
        "linecolor": theme["line"],
        "automargin": True,
        "title": {"standoff": 8},
    }
    return go.layout.Template(
        layout={
            "font": {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13}
            | {"color": theme["font"]},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "colorway": list(PALETTE),
            "margin": {"l": 56, "r": 16, "t": 24, "b": 48},
            "xaxis": axis,
            "yaxis": axis,
            "hoverlabel": {"align": "left", "namelength": -1},
            "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
            "hovermode": "closest",
            "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": theme["line"], "activecolor": theme["font"]},
        }
    )


def figure(*traces: Any, height: int = 380, **layout: Any) -> go.Figure:
    """A figure in the report's look.

    Args:
        traces: of the figure.
        height: in pixels; the width is that of the page.
        layout: more of Plotly's layout.
    """
    made = go.Figure([*traces])
    made.update_layout(template=template(), height=height, **layout)
    return made


def panels(count: int, height: int) -> tuple[go.Figure, list[tuple[int, int]]]:
    """A figure of several panels, and the row and column of each: two or three side by side.

    Args:
        count: of the panels.
        height: of each, in pixels.
    """
    columns = count if count < 3 else 2 if count == 4 else 3
    rows = -(-count // columns)
    places = [(place // columns + 1, place % columns + 1) for place in range(count)]
    specs: list[list[dict[str, Any] | None]] = [
        [{} if (row + 1, column + 1) in places else None for column in range(columns)] for row in range(rows)
    ]
    made = make_subplots(rows, columns, specs=specs, horizontal_spacing=0.09, vertical_spacing=0.3 / rows)
    made.update_layout(template=template(), height=60 + height * rows)
    return made, places


def sampled(count: int, most: int = MOST_POINTS) -> npt.NDArray[np.int64]:
    """Positions of all rows, or of so many of them, drawn at random, the same each time."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, most, replace=False))


def sample_told(count: int, most: int = MOST_POINTS) -> str:
    """That not all are shown, as a sentence; "" where all are."""
    return f" The figure shows {most:,} of {count:,} rows, drawn at random." if count > most else ""


def number(value: Any) -> str:
    """A number to read, with commas.

    >>> number(24810.1987), number(0.934127), number(None)
    ('24,810', '0.9341', '-')
    """
    if value == 0:
        return "0"  # of either sign
    if isinstance(value, (int, float, np.floating, np.integer)) and 1000 <= abs(float(value)) < 1e9:
        return f"{float(value):,.0f}"
    return score_text(value)


def listed(words: Sequence[str]) -> str:
    """Words as a sentence lists them.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """How many of something.

    >>> counted(1, "trial"), counted(2_000, "trial")
    ('1 trial', '2,000 trials')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
