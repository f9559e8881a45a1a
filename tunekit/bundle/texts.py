"""Texts as numbers: the one tokeniser that training and serving share. Only numpy is needed."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

TOKENS = ("words", "characters")
"""What a text is cut into."""

PADDING = 0
"""Number of nothing, before a text that is shorter than the others. Words have 1..W, and one that is unknown W + 1."""

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


class Vocabulary:
    """Numbers of tokens.

    Args:
        words: the W known tokens; the first has number 1.
        length: tokens of a text that are read, its first ones.
        tokens: one of `TOKENS`.

    >>> Vocabulary(["good", "bad"], 4, "words").numbers(["Good tea", ""]).tolist()
    [[0, 0, 1, 3], [0, 0, 0, 0]]
    """

    def __init__(self, words: Sequence[str], length: int, tokens: str) -> None:
        self.length = length
        self.tokens = tokens
        self._places = {word: place for place, word in enumerate(words, start=1)}

    def numbers(self, texts: Sequence[str] | npt.NDArray[np.object_]) -> npt.NDArray[np.int32]:
        """Texts as rows of numbers, `PADDING` first: (n, length)."""
        rows = np.full((len(texts), self.length), PADDING, dtype=np.int32)
        unknown = len(self._places) + 1
        for row, text in enumerate(texts):
            found = [self._places.get(token, unknown) for token in split_text(text, self.tokens)[: self.length]]
            if found:
                rows[row, -len(found) :] = found
        return rows
