"""What loading decided on its own: columns that it left out, and the rest of its notices."""

from __future__ import annotations

from collections.abc import Iterator

from tunekit.coach.calendar import Spelling, spelling_of
from tunekit.coach.changes import kinds_line, text
from tunekit.coach.finding import Finding
from tunekit.coach.sight import Sight
from tunekit.data.dataset import LeftOut


def left_out(sight: Sight) -> Iterator[Finding]:
    """Columns that were left out because they name the rows; dates among them are told by `dates`."""
    taken = getattr(sight.study.data, "id", None) is not None
    for column in sight.prepared.data.left_out:
        if not column.kind or isinstance(spelling_of(column.examples), Spelling):
            continue
        told = "holds consecutive whole numbers, each once"
        if column.kind == "category":
            shown = ", ".join(map(repr, column.examples[:2]))
            told = f"has a different text in nearly every row, such as {shown}"
        words = f"{column.name!r} {told}: it was left out, as models could only learn it by heart."
        if column.unique and not taken:
            taken = True
            words += " Said to be the rows' id, it goes with their predictions."
            change = f"id={text(column.name)}," if hasattr(sight.study.data, "id") else ""
        else:
            words += ' If models are to have it, say "category" instead.' if column.kind == "category" else ""
            change = kinds_line(sight.study, {column.name: "drop"})
        yield Finding("hint", "id", f"{column.name!r} seems to name the rows, and was left out", words, change)


def decided(sight: Sight) -> Iterator[Finding]:
    """All else that was decided without a word of the study."""
    data = sight.prepared.data
    told = [one for one in data.notices if not any(_is_about(one, column) for column in data.left_out)]
    if told:
        words = "; ".join(told)
        words = f"{words[0].upper()}{words[1:]}."
        yield Finding("hint", "decided", "loading decided what the study does not say", words)


def _is_about(notice: str, column: LeftOut) -> bool:
    return bool(column.kind) and notice.startswith(f"column {column.name!r} ")
