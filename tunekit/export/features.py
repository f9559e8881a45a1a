"""Raw columns to features, as graph nodes: what `Schema.encode` and `Preparation.apply` do in numpy.

Columns are encoded once. What a fold learnt is applied once per fold, however many members share it.
"""

from __future__ import annotations

import hashlib
import math
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tunekit.bundle.texts import PADDING
from tunekit.data.preparation import ALONE, BAG, CLIP, RAW, Preparation
from tunekit.data.scales import ArrayScale
from tunekit.data.schema import MISSING, Column, Schema, date_parts
from tunekit.data.terms import Bag, Terms
from tunekit.errors import ExportError
from tunekit.export.graph import Graph, Value


class Encoding:
    """The raw columns of a graph, encoded as `Encoded`: made when first asked for.

    Args:
        graph: has one input per column of the schema.
        schema: with levels.
    """

    def __init__(self, graph: Graph, schema: Schema) -> None:
        self.graph = graph
        self.schema = schema
        self._prepared: dict[str, Prepared] = {}

    @cached_property
    def numbers(self) -> str:
        """Float64 (n, D), NaN where missing."""
        dates = [column for column in self.schema.numeric if column.kind == "date"]
        plain = [column for column in self.schema.numeric if column.kind != "date"]
        blocks = [self._stacked(plain)] if plain else []
        if dates:
            made = [(column, "") for column in plain]
            kinds = dict.fromkeys(column.parts for column in dates)
            for parts in kinds:
                alike = [column for column in dates if column.parts == parts]
                given = Value(self.graph, self._stacked(alike))
                blocks += [part.name for part in date_parts(given, parts, Value.floor, Value.sin)]  # each (alike, n)
                made += [(column, part) for part in parts for column in alike]
        stacked = self.graph.concat(blocks, axis=0)
        if dates:
            wanted = [
                (column, part)
                for column in self.schema.numeric
                for part in (column.parts if column.kind == "date" else ("",))
            ]
            order = np.array([made.index(feature) for feature in wanted], dtype=np.int64)
            stacked = self.graph.node("Gather", stacked, self.graph.constant(order), axis=0)
        return self.graph.node("Transpose", stacked, perm=[1, 0])

    @cached_property
    def codes(self) -> str:
        """Int64 (n, C): 0 missing, 1..L the levels, L + 1 any other text."""
        encoded = []
        for column in self.schema.categorical:
            encoded.append(
                self.graph.node(
                    "LabelEncoder",
                    column.name,
                    domain="ai.onnx.ml",
                    keys_strings=["", *column.levels],
                    values_int64s=[MISSING, *range(1, len(column.levels) + 1)],
                    default_int64=len(column.levels) + 1,
                )
            )
        return self.graph.node("Transpose", self._rows(encoded), perm=[1, 0])

    @cached_property
    def arrays(self) -> tuple[str, ...]:
        """Float32 (n, *shape), each array column as it is."""
        return tuple(self.graph.cast(column.name, "float") for column in self.schema.arrays)

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """Int32 (n, words of the longest), each text column as numbers of words, padded in front."""
        return tuple(column.name for column in self.schema.texts)

    @cached_property
    def places(self) -> str:
        """Int64 (n, C): where each code stands in a table of all columns' codes, one column after the other."""
        offsets = np.cumsum([0, *self.schema.cardinalities])[:-1].astype(np.int64)
        return self.graph.node("Add", self.codes, self.graph.constant(offsets))

    def prepared(self, preparation: Preparation) -> Prepared:
        """What a fold makes of the columns; folds that learnt the same share the nodes."""
        digest = hashlib.sha256()
        for name, array in preparation.to_arrays().items():
            digest.update(name.encode() + array.tobytes())
        return self._prepared.setdefault(digest.hexdigest(), Prepared(self, preparation))

    def repeated(self, row: npt.NDArray[np.float64]) -> str:
        """The same row of values, (outputs,), for every row of the table."""
        count = self.graph.node("Shape", self.schema.columns[0].name, end=1)
        shape = self.graph.concat([count, self.graph.constant(np.array([len(row)], dtype=np.int64))], axis=0)
        return self.graph.node("Expand", self.graph.constant(row[None, :]), shape)

    def _stacked(self, columns: list[Column]) -> str:
        return self._rows([column.name for column in columns])

    def _rows(self, values: list[str]) -> str:
        """Rank-1 values as the rows of a matrix."""
        shape = self.graph.constant(np.array([len(values), -1], dtype=np.int64))
        return self.graph.node("Reshape", self.graph.concat(values, axis=0), shape)


class Prepared:
    """One fold's preparation as graph nodes, layout by layout, each made when first asked for.

    Args:
        encoding: the raw columns, encoded.
        preparation: what the fold learnt.
    """

    def __init__(self, encoding: Encoding, preparation: Preparation) -> None:
        self.encoding = encoding
        self.graph = encoding.graph
        self.preparation = preparation
        self._bags: dict[str, list[str]] = {}

    def features(self, layout: str) -> str:
        """Float32 (n, F): one of the layouts of one matrix, "flat", "ordinal" or "native", some with a bag of words.

        Or an array or text column alone.
        """
        layout, _, bag = layout.partition(BAG)
        if bag:
            return self._joined(self.features(layout), *(self._float(value) for value in self.bags(bag)))
        if layout == "flat":
            return self.flat
        if layout == "ordinal":
            return self.ordinal
        if layout == "native":
            return self.native
        if layout.startswith(ALONE):
            return (self.arrays | self.texts)[layout.removeprefix(ALONE)]
        if layout.startswith(RAW):
            names = [column.name for column in self.encoding.schema.arrays]
            return self.encoding.arrays[names.index(layout.removeprefix(RAW))]
        raise ExportError(f"layout {layout!r} is no matrix of features; expected 'flat', 'ordinal' or 'native'")

    def group(self, name: str) -> str:
        """One of the arrays of layout "columns plain": "numbers", "plain", "codes", an array or a text column."""
        if name == "plain" and self.plain_numbers:
            return self.plain_numbers
        value = ({"numbers": self.numbers, "codes": self.codes} | self.arrays | self.texts).get(name)
        if value is None:
            known = [each for each, there in (("numbers", self.numbers), ("codes", self.codes)) if there]
            told = ", ".join(map(repr, [*known, *self.arrays, *self.texts]))
            raise ExportError(f"a net reads {name!r}, which the data doesn't have; expected one of {told}")
        return value

    @cached_property
    def arrays(self) -> dict[str, str]:
        """Float32 (n, *shape), each array column by its name, scaled."""
        scaled = {}
        for raw, scale in zip(self.encoding.arrays, self.preparation.arrays, strict=True):
            center, factor = (self._scale_of(scale, table) for table in (scale.center, scale.factor))
            scaled[scale.name] = self.graph.node("Mul", self.graph.node("Sub", raw, center), factor)
        return scaled

    def _scale_of(self, scale: ArrayScale, table: npt.NDArray[np.float32]) -> str:
        """Centers or factors, to broadcast over the cells of an array column."""
        if scale.by < 0:
            return self.graph.constant(table)
        axes = np.arange(1, len(scale.shape), dtype=np.int64)
        found = self._by_code(table, scale.by)
        return self.graph.node("Unsqueeze", found, self.graph.constant(axes)) if len(axes) else found

    def in_units(self, standardised: str) -> str:
        """Float64 (n, 1) in the target's units."""
        learnt, value = self.preparation, Value(self.graph, standardised)
        if learnt.target_by < 0:
            value = value * learnt.target_scale + (learnt.target_center + learnt.lift)
        else:
            center, scale = (self._by_code(learnt.targets[:, part : part + 1], learnt.target_by) for part in (0, 1))
            value = value * Value(self.graph, scale) + Value(self.graph, center)
        if learnt.logarithm:
            low, high = (self.graph.constant(bound) for bound in np.log(learnt.bounds))
            value = Value(self.graph, self.graph.node("Exp", self.graph.node("Clip", value.name, low, high)))
        if learnt.anchor >= 0:
            flat = self.graph.node("Flatten", self.encoding.arrays[0], axis=1)
            value = value + Value(self.graph, self.graph.cast(self.column(flat, learnt.anchor), "double"))
        return value.name

    def column(self, matrix: str, position: int) -> str:
        """(n, 1): one column of a matrix."""
        return self.graph.node("Gather", matrix, self.graph.constant(np.array([position], dtype=np.int64)), axis=1)

    def _by_code(self, table: npt.NDArray[Any], column: int) -> str:
        """(n, width): the table's row for each row's code in a category column."""
        code = self.graph.node("Gather", self.encoding.codes, self.graph.constant(np.int64(column)), axis=1)
        return self.graph.node("Gather", self.graph.constant(table), code, axis=0)

    @cached_property
    def texts(self) -> dict[str, str]:
        """Int32 (n, length), the first words of each text column by its name, with unknown and rare words as one."""
        return {
            terms.name: self.graph.node("Gather", self.graph.constant(terms.lookup), self._first(raw, terms.length))
            for terms, raw in zip(self.preparation.texts, self.encoding.texts, strict=True)
        }

    def _first(self, text: str, length: int) -> str:
        """Int32 (n, length): the first words of each text, padded in front."""
        graph, nothing = self.graph, self.graph.constant(np.int32(PADDING))
        size, axis = (graph.constant(np.array([number], dtype=np.int64)) for number in (length, 1))
        rows = graph.concat([graph.node("Shape", text, end=1), size], axis=0)
        padded = graph.concat([graph.node("Expand", nothing, rows), text], axis=1)
        words = graph.node("ReduceSum", graph.cast(graph.node("Greater", text, nothing), "int64"), axis)
        kept = graph.node("Max", words, size)
        begins = graph.node("Sub", graph.node("Shape", padded, start=1), kept)
        places = graph.node("Add", begins, graph.constant(np.arange(length, dtype=np.int64)))
        return graph.node("GatherElements", padded, places, axis=1)

    def bags(self, code: str) -> list[str]:
        """Float64 (n, terms), the weights of each text's terms."""
        if code not in self._bags:
            learnt = zip(self.preparation.texts, self._read, strict=True)
            self._bags[code] = [self._bag(terms, text, Bag.parse(code)) for terms, text in learnt]
        return self._bags[code]

    @cached_property
    def _read(self) -> list[str]:
        """Int32 (n, words), each text column as bags read it."""
        read = []
        columns = zip(self.preparation.texts, self.encoding.texts, self.encoding.schema.texts, strict=True)
        for terms, raw, column in columns:
            text = raw if terms.read >= column.most_read else self._first(raw, terms.read)
            read.append(self.graph.node("Gather", self.graph.constant(terms.lookup), text))
        return read

    def _bag(self, terms: Terms, text: str, bag: Bag) -> str:
        graph, chosen = self.graph, terms.chosen(bag)
        if not len(chosen):
            return self.encoding.repeated(np.empty(0))
        counts = graph.cast(_counts(graph, terms.terms[chosen], text), "double")
        if bag.weighting == "counts":
            return counts
        one, zero = graph.constant(np.float64(1.0)), graph.constant(np.float64(0.0))
        there = graph.node("Greater", counts, zero)
        if bag.weighting == "binary":
            return graph.cast(there, "double")
        logs = Value(graph, graph.node("Log", graph.node("Max", counts, one))) + 1.0
        weights = graph.node("Where", there, (logs * Value(graph, graph.constant(terms.idf[chosen]))).name, zero)
        axis = graph.constant(np.array([1], dtype=np.int64))
        norm = graph.node("ReduceL2", weights, axis)
        return graph.node("Div", weights, graph.node("Where", graph.node("Greater", norm, zero), norm, one))

    def _float(self, value: str) -> str:
        return self.graph.cast(value, "float")

    @cached_property
    def _flattened(self) -> list[str]:
        return [self.graph.node("Flatten", value, axis=1) for value in self.arrays.values()]

    @cached_property
    def numbers(self) -> str | None:
        """Float32 (n, D + M): scaled numbers and gap indicators; None if the table has no numbers."""
        return self._numbers(clip=True)

    @cached_property
    def plain_numbers(self) -> str | None:
        """The same, as far out as they are."""
        return self._numbers(clip=False)

    def _numbers(self, *, clip: bool) -> str | None:
        if not len(self.preparation.center):
            return None
        graph, raw = self.graph, Value(self.graph, self.encoding.numbers)
        center, factor = graph.constant(self.preparation.center), graph.constant(self.preparation.factor)
        scaled = (raw - Value(graph, center)) * Value(graph, factor)
        if clip:
            ratio = scaled / CLIP
            scaled = scaled / Value(graph, graph.node("Sqrt", (ratio * ratio + 1.0).name))
        clipped = scaled.name
        missing = graph.node("IsNaN", clipped)
        parts = [graph.node("Where", missing, graph.constant(np.float64(0.0)), clipped)]
        if len(self.preparation.gaps):
            gaps = graph.node("Gather", raw.name, graph.constant(self.preparation.gaps), axis=1)
            parts.append(graph.cast(graph.node("IsNaN", gaps), "double"))
        return graph.cast(graph.concat(parts, axis=1), "float")

    @cached_property
    def codes(self) -> str | None:
        """Int64 (n, C): codes, with unseen and rare levels as one; None if the table has no categories."""
        return self._looked_up(self.preparation.lookup.astype(np.int64))

    @cached_property
    def ordinal(self) -> str:
        """Layout "ordinal"."""
        codes = self._looked_up(self.preparation.lookup.astype(np.float32))
        return self._joined(self.numbers, codes, *self._flattened)

    @cached_property
    def native(self) -> str:
        """Layout "native"."""
        numbers = None
        if len(self.preparation.center):
            numbers = self.graph.cast(self.encoding.numbers, "float")
        lookup = self.preparation.lookup
        column, code = self._columns_and_codes()
        unseen = np.asarray(self.encoding.schema.cardinalities, dtype=np.int64)[column] - 1
        nothing = (lookup == unseen) | (code == MISSING)
        arrays = [self.graph.node("Flatten", value, axis=1) for value in self.encoding.arrays]
        return self._joined(numbers, self._looked_up(np.where(nothing, np.nan, code).astype(np.float32)), *arrays)

    @cached_property
    def flat(self) -> str:
        """Layout "flat"."""
        pairs = self.preparation.hot
        hot = None
        if len(pairs) and self.codes is not None:
            chosen = self.graph.node("Gather", self.codes, self.graph.constant(pairs[:, 0]), axis=1)
            equal = self.graph.node("Equal", chosen, self.graph.constant(pairs[:, 1]))
            hot = self.graph.cast(equal, "float")
        return self._joined(self.numbers, hot, *self._flattened)

    def weighed(self, weights: npt.NDArray[np.float64], layout: str) -> str:
        """Float64 (n, outputs): a layout times weights (F, outputs), without building its 0/1 columns.

        Args:
            weights: of the features.
            layout: "flat" or "plain", or one of these with a bag of words.
        """
        layout, _, bag = layout.partition(BAG)
        own = self.plain_numbers if layout == "plain" else self.numbers
        width = len(self.preparation.center) + len(self.preparation.gaps)
        terms = []
        if own is not None:
            numbers = self.graph.cast(own, "double")
            terms.append(self.graph.node("MatMul", numbers, self.graph.constant(weights[:width])))
        pairs = self.preparation.hot
        if len(pairs):
            place = self.preparation.offsets[pairs[:, 0]] + pairs[:, 1]
            table = np.zeros((len(self.preparation.lookup), weights.shape[1]))
            table[place] = weights[width : width + len(pairs)]  # an unknown level's row stays 0: it has no 0/1 column
            column, _ = self._columns_and_codes()
            table = table[self.preparation.offsets[column] + self.preparation.lookup]
            looked_up = self._looked_up(table)
            if looked_up is not None:
                axes = self.graph.constant(np.array([1], dtype=np.int64))
                terms.append(self.graph.node("ReduceSum", looked_up, axes, keepdims=0))
        start = width + len(pairs)
        for value, scale in zip(self._flattened, self.preparation.arrays, strict=True):
            size = math.prod(scale.shape)
            part = self.graph.constant(weights[start : start + size])
            terms.append(self.graph.node("MatMul", self.graph.cast(value, "double"), part))
            start += size
        for text, value in zip(self.preparation.texts, self.bags(bag) if bag else (), strict=bool(bag)):
            size = len(text.chosen(Bag.parse(bag)))
            terms.append(self.graph.node("MatMul", value, self.graph.constant(weights[start : start + size])))
            start += size
        if not terms:
            return self.encoding.repeated(np.zeros(weights.shape[1]))
        return terms[0] if len(terms) == 1 else self.graph.node("Sum", *terms)

    def _looked_up(self, table: npt.NDArray[np.generic]) -> str | None:
        """Rows of a table with one row for each (column, storage code)."""
        if not len(self.preparation.offsets):
            return None
        return self.graph.node("Gather", self.graph.constant(table), self.encoding.places, axis=0)

    def _columns_and_codes(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The column and the code that each entry of `lookup` stands for."""
        cardinalities = self.encoding.schema.cardinalities
        column = np.repeat(np.arange(len(cardinalities)), cardinalities)
        code = np.arange(len(column)) - self.preparation.offsets[column]
        return column, code

    def _joined(self, *parts: str | None) -> str:
        there = [part for part in parts if part is not None]
        nothing = [] if there else [self._float(self.encoding.repeated(np.empty(0)))]
        return self.graph.concat(there + nothing, axis=1)


def _counts(graph: Graph, terms: npt.NDArray[np.int32], text: str) -> str:
    """Float32 (n, terms): how often each term is in a text."""
    sizes = (terms != PADDING).sum(axis=1)
    order = np.argsort(sizes, kind="stable")  # the operator wants them by size
    pool = [int(token) for term, size in zip(terms[order], sizes[order], strict=True) for token in term[:size]]
    per_size = [int(size * (sizes == size).sum()) for size in range(1, sizes.max() + 1)]
    return graph.node(
        "TfIdfVectorizer",
        graph.cast(text, "int64"),
        mode="TF",
        min_gram_length=1,
        max_gram_length=len(per_size),
        max_skip_count=0,
        ngram_counts=[0, *np.cumsum(per_size)[:-1].tolist()],
        ngram_indexes=order.tolist(),
        pool_int64s=pool,
    )
