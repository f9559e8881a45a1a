"""How models that read one matrix take texts: as bags of words."""

from __future__ import annotations

from collections.abc import Sequence

from tunekit.data.preparation import BAG
from tunekit.data.terms import Bag
from tunekit.families.base import Fold
from tunekit.space import HyperParameters


def with_bag(
    layout: str, hp: HyperParameters, fold: Fold, weightings: Sequence[str], terms: Sequence[int], ngrams: int = 1
) -> str:
    """The layout that has the data's texts too, if it has any; how they are counted is searched.

    Args:
        layout: of the other columns.
        hp: asked for "bag", "ngrams" and "terms".
        fold: of the data.
        weightings: to choose from, the default first.
        terms: how many to choose from, the default first.
        ngrams: the default of the longest term's tokens.
    """
    if not fold.text_columns:
        return layout
    longest = min(column.longest for column in fold.text_columns)
    weighting = hp.Choice("bag", list(weightings))
    size = hp.Int("ngrams", 1, longest, default=min(ngrams, longest))
    return layout + BAG + Bag(weighting, size, hp.Choice("terms", list(terms))).code
