"""Statistics of tensors: everything stays on the tensor's device, nothing is read back here."""

from isograd.statistics._layout import LARGE, flatten, local, part, thin
from isograd.statistics.brief import brief
from isograd.statistics.columns import COLUMNS, SUMS, merge, unscale
from isograd.statistics.derived import derive, shares
from isograd.statistics.extremes import units
from isograd.statistics.histogram import EXPONENT_HIGH, EXPONENT_LOW, exponents
from isograd.statistics.moves import Moves
from isograd.statistics.samples import (
    FEATURES,
    correlation,
    correlations,
    rank,
    ranks,
    row_cosine,
    row_spread,
    sign_agreement,
    some_samples,
    spread,
)
from isograd.statistics.table import Place, Table, sums

__all__ = [
    "COLUMNS",
    "EXPONENT_HIGH",
    "EXPONENT_LOW",
    "FEATURES",
    "LARGE",
    "SUMS",
    "Moves",
    "Place",
    "Table",
    "brief",
    "correlation",
    "correlations",
    "derive",
    "exponents",
    "flatten",
    "local",
    "merge",
    "part",
    "rank",
    "ranks",
    "row_cosine",
    "row_spread",
    "shares",
    "sign_agreement",
    "some_samples",
    "spread",
    "sums",
    "thin",
    "units",
    "unscale",
]
