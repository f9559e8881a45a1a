"""What is learnt of texts: the words that a study knows, and the terms that a fold's bags count.

Texts come as rows of numbers, as `tunekit.bundle.texts.Vocabulary` makes them. A *term* is one to some tokens in a
row. A *bag* counts the terms of a whole text, whatever their order; nets read its first words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from tunekit.bundle.texts import PADDING, TokenRows, split_text
from tunekit.errors import DataError

MOST_WORDS = 20_000
"""So many tokens at most have a number of their own, the most frequent ones."""

MOST_TERMS = 20_000
"""So many terms at most are counted, the most frequent ones."""

RARE = 2
"""A token in fewer texts than this is as good as unknown, and a longer term isn't counted."""

FITTING = 0.98
"""Share of the texts that nets read to their end."""

LONGEST = {"words": 400, "characters": 1000}
"""Tokens of a text that nets read at most, if not said otherwise."""

LONGEST_TERM = {"words": 3, "characters": 5}
"""Tokens of a term at most."""

CHUNK = 2**20
"""Tokens of the texts whose terms are looked at together, so that memory doesn't hold those of all."""

WEIGHTINGS = ("tfidf", "counts", "binary")


def learn_words(texts: Iterable[str], tokens: str) -> tuple[tuple[str, ...], int]:
    """The tokens to be known, the most frequent first, and how many of a text nets read."""
    counts: Counter[str] = Counter()
    lengths = []
    for text in texts:
        found = split_text(text, tokens)
        counts.update(set(found))
        lengths.append(len(found))
    frequent = sorted((token for token, count in counts.items() if count >= RARE), key=lambda one: (-counts[one], one))
    lengths.sort()
    length = lengths[min(int(FITTING * len(lengths)), len(lengths) - 1)] if lengths else 1
    return tuple(frequent[:MOST_WORDS]), min(max(length, 1), LONGEST[tokens])


def too_long(texts: Iterable[object], tokens: str, most: int) -> int:
    """How many texts have more than so many tokens.

    >>> too_long(["word " * 400, "word " * 401, None], "words", 400)
    1
    """
    long = (text for text in texts if isinstance(text, str) and len(text) > most)
    return sum(len(split_text(text, tokens)) > most for text in long)


def word_vectors(path: Path, words: Sequence[str], numbers: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """A table of embeddings: (numbers, width), rows by the number of a word.

    Args:
        path: a text file with a word and its vector in each line, as GloVe and word2vec write it; a first line of
            two counts is skipped.
        words: those whose vectors are wanted; the first has number 1.
        numbers: rows of the table.
        seed: of the vectors of words that the file lacks: as long as those that it has, about.

    Raises:
        DataError: there is no such file, or a line of it is not a word and as many numbers as the first one has.
    """
    places = {word: place for place, word in enumerate(words, start=1)}
    table, found = np.zeros((numbers, 0), dtype=np.float32), []
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                width = table.shape[1]  # once it is known, what stands before the numbers is the word, with its blanks
                word, *values = line.rstrip().rsplit(" ", width) if width else line.rstrip().split(" ")
                if number == 1 and len(values) == 1:
                    continue
                if not values:
                    raise ValueError(f"line {number} has no numbers after a blank")
                table = table if width else np.zeros((numbers, len(values)), dtype=np.float32)
                if len(values) != table.shape[1]:
                    raise ValueError(f"line {number} has {len(values)} numbers, those before have {table.shape[1]}")
                if word in places:
                    table[places[word]] = [float(value) for value in values]
                    found.append(places[word])
    except (OSError, ValueError) as error:
        raise DataError(
            f"word vectors can't be read from {str(path)!r}: {error}; expected a text file with a word and its numbers "
            "in each line, as GloVe has it"
        ) from error
    if places and not found:
        raise DataError(
            f"none of the {len(places)} words of the texts is in {str(path)!r}; expected vectors of words of the same "
            "language, written in small letters"
        )
    spread = float(table[found].std()) if found else 1.0
    absent = np.setdiff1d(np.arange(1, numbers), found)
    table[absent] = np.random.default_rng(seed).normal(0.0, spread, (len(absent), table.shape[1]))
    return table


@dataclass(frozen=True)
class Bag:
    """How a bag counts.

    Args:
        weighting: "counts"; "binary" for whether a term occurs; "tfidf" for 1 + log(count), less for terms that
            are in many texts, at a Euclidean length of 1 for each text.
        ngrams: tokens of a term at most.
        terms: how many terms, the most frequent ones.

    >>> Bag.parse(Bag("tfidf", 2, 5000).code)
    Bag(weighting='tfidf', ngrams=2, terms=5000)
    """

    weighting: str
    ngrams: int
    terms: int

    @property
    def code(self) -> str:
        """As a layout names it."""
        return f"{self.weighting}{self.ngrams}x{self.terms}"

    @classmethod
    def parse(cls, code: str) -> Bag:
        """The inverse of `code`."""
        match = re.fullmatch(r"([a-z]+)(\d+)x(\d+)", code)
        if match is None or match[1] not in WEIGHTINGS:
            raise ValueError(f"bag {code!r} is unknown; expected one such as 'tfidf2x5000'")
        return cls(match[1], int(match[2]), int(match[3]))


@dataclass(frozen=True)
class TextColumn:
    """What a study knows of a text column.

    Args:
        name: of the column.
        words: W, how many tokens have a number.
        longest: tokens of a term at most.
        length: tokens of a text that nets read, its first ones.
        read: tokens of a text that bags read.
    """

    name: str
    words: int
    longest: int
    length: int
    read: int


@dataclass(frozen=True)
class Terms:
    """What a fold knows of one text column.

    Args:
        name: of the column.
        length: tokens of a text that nets read, its first ones.
        lookup: (W + 2,) int32: the number that stands for each number: itself, or that of unknown tokens.
        terms: (T, longest) int32: tokens of each term, 0 behind the last; the most frequent first.
        idf: (T,) float64: log((1 + n) / (1 + texts with the term)) + 1.
        read: tokens of a text that bags read. What was learnt before bags read more than nets is as short for both.
    """

    name: str
    length: int
    lookup: npt.NDArray[np.int32]
    terms: npt.NDArray[np.int32]
    idf: npt.NDArray[np.float64]
    read: int

    @classmethod
    def fit(cls, column: TextColumn, rows: TokenRows) -> Terms:
        """Learn from the rows of training texts, and no others."""
        words, longest = column.words, column.longest
        keys, counts = _frequencies(rows, words, 1)
        lookup = np.full(words + 2, words + 1, dtype=np.int32)
        lookup[PADDING] = PADDING
        known = (counts >= RARE) & (keys <= words)
        lookup[keys[known]] = keys[known]
        found = [(keys[known], counts[known])]
        for size in range(2, _affordable(words, longest) + 1):
            enough = _enough(found)
            keys, counts = found[-1]
            keys, counts = _frequencies(rows, words, size, lookup, keys[counts >= enough])
            found.append((keys[counts >= enough], counts[counts >= enough]))
        terms = np.concatenate([_unpacked(keys, words, size, longest) for size, (keys, _) in enumerate(found, 1)])
        frequency = np.concatenate([counts for _, counts in found])
        order = np.argsort(-frequency, kind="stable")[:MOST_TERMS]
        idf = np.log((1.0 + len(rows)) / (1.0 + frequency[order])) + 1.0
        return cls(column.name, column.length, lookup, terms[order], idf, column.read)

    @property
    def words(self) -> int:
        """How many tokens have a number."""
        return len(self.lookup) - 2

    def chosen(self, bag: Bag) -> npt.NDArray[np.int64]:
        """Positions in `terms` of those that a bag counts."""
        short = (self.terms[:, bag.ngrams :] == PADDING).all(axis=1)
        return np.flatnonzero(short)[: bag.terms]

    def numbers(self, rows: TokenRows) -> npt.NDArray[np.int32]:
        """Texts as nets read them: (n, length)."""
        return np.asarray(self.lookup[rows.padded(self.length)])

    def bag(self, rows: TokenRows, bag: Bag) -> Any:
        """Texts as weights of terms: a sparse matrix (n, terms), float64."""
        chosen = self.chosen(bag)
        blocks = [self._counted(chunk, chosen) for chunk in rows.first(self.read).chunks(CHUNK)]
        counts = sparse.vstack(blocks, format="csr") if blocks else sparse.csr_matrix((0, len(chosen)))
        if bag.weighting == "counts":
            return counts
        if bag.weighting == "binary":
            counts.data[:] = 1.0
            return counts
        counts.data = 1.0 + np.log(counts.data)
        weighted = counts.multiply(self.idf[chosen][None, :]).tocsr()
        norms = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1))).ravel()
        return sparse.diags(np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)) @ weighted

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The fields as arrays, for `numpy.savez`."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Terms:
        """The inverse of `to_arrays`."""
        length = int(arrays["length"])
        read = int(arrays.get("read", length))
        return cls(str(arrays["name"]), length, arrays["lookup"], arrays["terms"], arrays["idf"], read)

    def _counted(self, rows: TokenRows, chosen: npt.NDArray[np.int64]) -> Any:
        terms, tokens = self.terms[chosen], _laid(rows, self.lookup)
        sizes = (terms != PADDING).sum(axis=1)
        found = [np.empty((2, 0), dtype=np.int64)]
        for size in np.unique(sizes):
            places = np.flatnonzero(sizes == size)
            wanted = _packed(terms[places, :size], self.words)
            order = np.argsort(wanted)
            begins = _begins(tokens, self.words, int(size))
            at, there = _places(wanted[order], _keys(tokens, begins, self.words, int(size)))
            found.append(np.stack([_rows(rows, begins[there]), places[order[at[there]]]]))
        row, column = np.concatenate(found, axis=1)
        return sparse.csr_matrix((np.ones(len(row)), (row, column)), shape=(len(rows), len(chosen)))


def _affordable(words: int, longest: int) -> int:
    """The longest term whose tokens fit into one int64."""
    while longest > 1 and longest * np.log2(words + 2) > 62:
        longest -= 1
    return longest


def _enough(found: Sequence[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]) -> int:
    """In how many texts a longer term must be to be among those that are counted, given the shorter ones' counts.

    Whatever is within it is in as many texts at least, so that terms grow out of such as have enough.
    """
    counts = np.concatenate([counts for _, counts in found])
    if len(counts) < MOST_TERMS:
        return RARE
    return max(RARE, int(-np.partition(-counts, MOST_TERMS - 1)[MOST_TERMS - 1]) + 1)


def _laid(rows: TokenRows, lookup: npt.NDArray[np.int32] | None = None) -> npt.NDArray[Any]:
    """The tokens of all texts one after the other, with padding behind each."""
    tokens = rows.flat(gap=1)
    return tokens if lookup is None else lookup[tokens]


def _rows(rows: TokenRows, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The row of each place among the tokens as `_laid` has them."""
    return np.repeat(np.arange(len(rows)), rows.lengths + 1)[places]


def _begins(tokens: npt.NDArray[Any], words: int, size: int) -> npt.NDArray[np.int64]:
    """Where terms of a size begin; those with padding or an unknown token are none."""
    known = (tokens != PADDING) & (tokens <= words)
    whole = known[: max(len(tokens) - size + 1, 0)].copy()
    for place in range(1, size):
        whole &= known[place : place + len(whole)]
    return np.flatnonzero(whole)


def _keys(tokens: npt.NDArray[Any], begins: npt.NDArray[np.int64], words: int, size: int) -> npt.NDArray[np.int64]:
    """The key of each term of a size, given where they begin."""
    key = np.zeros(len(begins), dtype=np.int64)
    for place in range(size):
        key = key * (words + 2) + tokens[begins + place]
    return key


def _places(
    wanted: npt.NDArray[np.int64], keys: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """The place of each key among sorted ones, and whether it is there."""
    if not len(wanted):
        return np.zeros(len(keys), dtype=np.int64), np.zeros(len(keys), dtype=bool)
    at = np.minimum(np.searchsorted(wanted, keys), len(wanted) - 1)
    return at, wanted[at] == keys


def _packed(tokens: npt.NDArray[Any], words: int) -> npt.NDArray[np.int64]:
    """Terms, (n, size), as one number each."""
    key = np.zeros(len(tokens), dtype=np.int64)
    for place in range(tokens.shape[1]):
        key = key * (words + 2) + tokens[:, place]
    return key


def _unpacked(keys: npt.NDArray[np.int64], words: int, size: int, longest: int) -> npt.NDArray[np.int32]:
    """The inverse of `_packed`, with 0 behind a term's last token: (n, longest)."""
    terms = np.zeros((len(keys), longest), dtype=np.int32)
    for place in range(size - 1, -1, -1):
        keys, terms[:, place] = np.divmod(keys, words + 2)
    return terms


def _frequencies(
    rows: TokenRows,
    words: int,
    size: int,
    lookup: npt.NDArray[np.int32] | None = None,
    shorter: npt.NDArray[np.int64] | None = None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The terms of a size, sorted, and in how many texts each is.

    Args:
        rows: the texts.
        words: how many tokens have a number.
        size: of the terms.
        lookup: the number that stands for each number.
        shorter: sorted terms of one token fewer: others that don't begin with one and end with one are left out.
    """
    total, waiting = (np.empty(0, np.int64), np.empty(0, np.int64)), []
    for chunk in rows.chunks(CHUNK):
        tokens = _laid(chunk, lookup)
        begins = _begins(tokens, words, size)
        if shorter is not None:
            for place in range(2):
                begins = begins[_places(shorter, _keys(tokens, begins + place, words, size - 1))[1]]
        keys, which = np.unique(_keys(tokens, begins, words, size), return_inverse=True)
        once = np.unique(_rows(chunk, begins) * len(keys) + which)
        waiting.append((keys, np.bincount(once % max(len(keys), 1), minlength=len(keys))))
        if sum(len(each) for each, _ in waiting) > max(len(total[0]), CHUNK):
            total, waiting = _summed([total, *waiting]), []
    return _summed([total, *waiting])


def _summed(
    counted: Sequence[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The terms of several parts of the texts, sorted, and in how many texts each is."""
    if len(counted) == 1:
        return counted[0]
    found, place = np.unique(np.concatenate([keys for keys, _ in counted]), return_inverse=True)
    counts = np.concatenate([counts for _, counts in counted])
    return found, np.bincount(place, weights=counts, minlength=len(found)).astype(np.int64)
