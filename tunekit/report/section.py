"""What a page is made of: sections with words, figures and tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go


@dataclass(frozen=True)
class Cell:
    """Of a table.

    Args:
        text: to read.
        order: what a column is sorted by; the text if None.
        note: shown when somebody points at it.
        family: whose colour stands before it.
    """

    text: str
    order: float | str | None = None
    note: str = ""
    family: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        caption: what it is, for those who hear the page.
        head: names of the columns.
        rows: cells of each.
        numeric: positions of the columns that are aligned to the right.
        sortable: whether its reader may sort it.
        wraps: whether its texts have several lines rather than to scroll.
        long: positions of the columns whose texts have several lines, of which three are seen at once.
    """

    caption: str
    head: tuple[str, ...]
    rows: Sequence[Sequence[Cell]]
    numeric: frozenset[int] = frozenset()
    sortable: bool = False
    wraps: bool = False
    long: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Drawing:
    """A figure in its place.

    Args:
        name: of the figure, unique on the page.
        figure: Plotly's.
        alt: what it shows, for those who don't see it.
        title: above it.
        width: pixels below which it is not squeezed: it scrolls in its box.
        stacks: whether its panels, side by side, stand one below the other on narrow screens.
        folded: whether it is drawn only when its reader opens it.
        half: whether it may stand beside another one on wide screens.
    """

    name: str
    figure: go.Figure
    alt: str
    title: str = ""
    width: int = 0
    stacks: bool = False
    folded: bool = False
    half: bool = False


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Args:
        key: of its address on the page.
        title: its heading.
        told: what is seen, in sentences; each is a paragraph.
        drawings: its figures.
        tables: its tables.
        code: lines to be copied.
        left_out: what can't be shown and why, in sentences.
        cards: figures that stand out: label, value, remark.
    """

    key: str
    title: str
    told: Sequence[str] = ()
    drawings: Sequence[Drawing] = ()
    tables: Sequence[Table] = ()
    code: Sequence[str] = ()
    left_out: Sequence[str] = ()
    cards: Sequence[tuple[str, str, str]] = field(default_factory=tuple)

    @property
    def plain(self) -> dict[str, Any]:
        """As `tunekit report --json` prints it."""
        return {
            "id": self.key,
            "title": self.title,
            "figures": [drawing.name for drawing in self.drawings],
            "left_out": list(self.left_out),
        }
