"""Texts as numbers: the one tokeniser that training and serving share. Only numpy is needed."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

TOKENS = ("words", "characters")
"""What a text is cut into."""

PADDING = 0
"""Number of nothing, before a text that is shorter than the others. Words have 1..W, and one that is unknown W + 1."""

MOST_READ = {"words": 100_000, "characters": 500_000}
"""Tokens of a text that are read at most: a long novel. Nets read fewer."""

_WORD = re.compile(r"\w+(?:['’]\w+)*|[!?]")
_BLANK = re.compile(r"\s+")


def split_text(text: str, tokens: str) -> list[str]:
    """The tokens of a text, in small letters.

    Args:
        text: any.
        tokens: "words" for words, exclamation and question marks; "characters" for single ones, a blank for any gap.

    >>> split_text("Don't buy it!", "words"), split_text("A  b", "characters")
    (["don't", 'buy', 'it', '!'], ['a', ' ', 'b'])
    """
    text = text.lower()
    return _WORD.findall(text) if tokens == "words" else list(_BLANK.sub(" ", text.strip()))


@dataclass(frozen=True)
class TokenRows:
    """Texts as numbers of tokens, each as long as it is: n rows of one array, which may be mapped from a file.

    Args:
        tokens: uint16, those of all texts: a study knows 20,000 words at most.
        starts: (n,) int64, where each text's begin.
        lengths: (n,) int64, how many each has.

    >>> rows = TokenRows.of([[3, 1], [], [1, 2, 3]])
    >>> rows.padded().tolist(), rows.padded(2).tolist(), rows.take(np.array([2, 0])).padded(2).tolist()
    ([[0, 3, 1], [0, 0, 0], [1, 2, 3]], [[3, 1], [0, 0], [1, 2]], [[1, 2], [3, 1]])
    """

    tokens: npt.NDArray[np.uint16]
    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]

    @classmethod
    def of(cls, texts: Sequence[Sequence[int]]) -> TokenRows:
        """Rows of given numbers."""
        flat = [number for text in texts for number in text]
        return cls.laid(np.array(flat, dtype=np.uint16), np.array([len(text) for text in texts], dtype=np.int64))

    @classmethod
    def laid(cls, tokens: npt.NDArray[np.uint16], lengths: npt.NDArray[np.int64]) -> TokenRows:
        """Rows that stand one after the other."""
        return cls(tokens, np.cumsum(lengths, dtype=np.int64) - lengths, lengths)

    @classmethod
    def joined(cls, parts: Sequence[TokenRows]) -> TokenRows:
        """The rows of several, one after the other."""
        flat = np.concatenate([part.flat() for part in parts])
        return cls.laid(flat, np.concatenate([part.lengths for part in parts]))

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def nbytes(self) -> int:
        """Bytes of these rows."""
        return int(2 * self.lengths.sum()) + self.starts.nbytes + self.lengths.nbytes

    def take(self, places: slice | npt.NDArray[np.int64]) -> TokenRows:
        """Some of the rows, without a copy of their tokens."""
        return TokenRows(self.tokens, self.starts[places], self.lengths[places])

    def first(self, most: int) -> TokenRows:
        """The rows cut off after so many tokens, without a copy of them."""
        return TokenRows(self.tokens, self.starts, np.minimum(self.lengths, most))

    def flat(self, gap: int = 0) -> npt.NDArray[np.uint16]:
        """The tokens of all rows one after the other, with so many numbers of `PADDING` behind each."""
        made = np.full(int(self.lengths.sum()) + gap * len(self), PADDING, dtype=np.uint16)
        tokens, place = np.asarray(self.tokens), 0  # a mapped file is slow to be sliced
        for start, count in zip(self.starts.tolist(), self.lengths.tolist(), strict=True):
            made[place : place + count] = tokens[start : start + count]
            place += count + gap
        return made

    def padded(self, width: int | None = None) -> npt.NDArray[np.int32]:
        """The first tokens of each row, `PADDING` before those of a shorter one: int32 (n, width).

        Args:
            width: that of the longest row, and 1 at least, if left out.
        """
        width = int(self.lengths.max(initial=1)) if width is None else width
        made = np.full((len(self), width), PADDING, dtype=np.int32)
        tokens, kept = np.asarray(self.tokens), np.minimum(self.lengths, width)
        for row, (start, count) in enumerate(zip(self.starts.tolist(), kept.tolist(), strict=True)):
            made[row, width - count :] = tokens[start : start + count]
        return made

    def chunks(self, tokens: int) -> Iterator[TokenRows]:
        """All rows in order, in parts of so many tokens at most, or of one row."""
        ends, start = np.cumsum(self.lengths), 0
        while start < len(self):
            before = ends[start] - self.lengths[start]
            end = max(start + 1, int(np.searchsorted(ends, before + tokens, side="right")))
            yield self.take(slice(start, end))
            start = end


class Vocabulary:
    """Numbers of tokens.

    Args:
        words: the W known tokens; the first has number 1.
        most: tokens of a text that are read, its first ones.
        tokens: one of `TOKENS`.

    >>> Vocabulary(["good", "bad"], 4, "words").rows(["Good tea", ""]).padded().tolist()
    [[1, 3], [0, 0]]
    """

    def __init__(self, words: Sequence[str], most: int, tokens: str) -> None:
        self.most = most
        self.tokens = tokens
        self._places = {word: place for place, word in enumerate(words, start=1)}

    def rows(self, texts: Sequence[str] | npt.NDArray[np.object_]) -> TokenRows:
        """Texts as rows of numbers."""
        flat, lengths = array("H"), np.empty(len(texts), dtype=np.int64)
        unknown = len(self._places) + 1
        for row, text in enumerate(texts):
            found = split_text(text, self.tokens)[: self.most]
            flat.extend([self._places.get(token, unknown) for token in found])
            lengths[row] = len(found)
        return TokenRows.laid(np.frombuffer(flat, dtype=np.uint16) if flat else np.empty(0, np.uint16), lengths)
