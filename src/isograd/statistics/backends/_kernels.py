"""Kernels of the Triton backend: rows of pieces of tensors, and what these add up to.

A piece is what one program reads, tile by tile; a tile is what it holds at a time.
"""

import triton
import triton.language as tl

from isograd.statistics.columns import COLUMNS

(COUNT, NONFINITE, ZERO, POSITIVE, SUM, SUM_SQ, SUM_ABS, SUM_4, MIN, MAX, SCALE, BELOW, ABOVE) = (
    tl.constexpr(place) for place in range(len(COLUMNS))
)
WIDTH = tl.constexpr(len(COLUMNS))
INFINITY = tl.constexpr(float("inf"))


@triton.jit
def number(raw, wide: tl.constexpr):
    """Entries in the type in which they are summed; bfloat16 comes as int16, half of a float32."""
    if raw.dtype == tl.int16:
        entry = (raw.to(tl.int32) << 16).to(tl.float32, bitcast=True)
    else:
        entry = raw.to(tl.float64) if wide else raw.to(tl.float32)
    return entry


@triton.jit
def power_near(largest, wide: tl.constexpr):
    """Power of two near a magnitude; it and its reciprocal are normal numbers."""
    if wide:
        bits = largest.to(tl.int64, bitcast=True) & 0x7FF0000000000000
        bits = tl.minimum(tl.maximum(bits, 3 << 52), 2043 << 52)
        # Float64 holds the powers of most of its own numbers.
        safe = (largest == 0) | ((largest >= 2.0**-200) & (largest <= 2.0**200))
        power = tl.where(safe, 1.0, bits.to(tl.float64, bitcast=True))
    else:
        bits = largest.to(tl.int32, bitcast=True) & 0x7F800000
        bits = tl.minimum(tl.maximum(bits, 1 << 23), 253 << 23)
        power = bits.to(tl.float32, bitcast=True)
    return power


@triton.jit
def pieces(
    plan,
    rows,
    low,
    high,
    dtype: tl.constexpr,
    wide: tl.constexpr,
    ends: tl.constexpr,
    tile: tl.constexpr,
):
    """Writes a row for every piece.

    Args:
        plan: int64 [pieces, 2], address and number of entries; a float64 piece is one tile.
        rows: float64 [pieces, WIDTH].
        low: threshold, NaN for none.
        high: the other one.
        dtype: of the entries, int16 for bfloat16.
        wide: whether that is float64.
        ends: whether there is a threshold.
        tile: entries of a tile.
    """
    piece = tl.program_id(0)
    entries = tl.load(plan + 2 * piece + 1).to(tl.int32)
    here = tl.load(plan + 2 * piece).to(tl.pointer_type(dtype)) + tl.arange(0, tile)
    nonfinite = tl.full((), 0, tl.int32)
    zero = nonfinite
    positive = nonfinite
    below = nonfinite
    above = nonfinite
    total = tl.full((), 0.0, tl.float64)
    squares = total
    magnitudes = total
    fourths = total
    scale = total + 1.0
    least = tl.full((), INFINITY, tl.float64)
    most = -least
    for first in range(0, entries, tile):
        inside = first + tl.arange(0, tile) < entries
        x = number(tl.load(here + first, mask=inside, other=0), wide)
        finite = inside & (tl.abs(x) < INFINITY)
        kept = tl.where(finite, x, 0.0)
        nonfinite += tl.sum((inside & (tl.abs(x) >= INFINITY)).to(tl.int32))
        nonfinite += tl.sum((x != x).to(tl.int32))
        zero += tl.sum((inside & (x == 0)).to(tl.int32))
        positive += tl.sum((kept > 0).to(tl.int32))
        if ends:
            below += tl.sum((finite & (x <= low)).to(tl.int32))
            above += tl.sum((finite & (x >= high)).to(tl.int32))
        smallest = tl.min(tl.where(finite, x, INFINITY))
        largest = tl.max(tl.where(finite, x, -INFINITY))
        least = tl.minimum(least, smallest.to(tl.float64))
        most = tl.maximum(most, largest.to(tl.float64))
        # Powers of entries over the largest one: they leave the range of float32 on neither side.
        power = power_near(tl.maximum(tl.maximum(-smallest, largest), 0.0), wide)
        kept *= 1.0 / power
        square = kept * kept
        if wide:
            scale = power
            unit = tl.full((), 1.0, tl.float64)
        else:
            unit = power.to(tl.float64)
        total += tl.sum(kept).to(tl.float64) * unit
        magnitudes += tl.sum(tl.abs(kept)).to(tl.float64) * unit
        squares += tl.sum(square).to(tl.float64) * (unit * unit)
        fourths += tl.sum(square * square).to(tl.float64) * (unit * unit * unit * unit)
    row = rows + piece * WIDTH
    tl.store(row + COUNT, entries.to(tl.float64))
    tl.store(row + NONFINITE, nonfinite.to(tl.float64))
    tl.store(row + ZERO, zero.to(tl.float64))
    tl.store(row + POSITIVE, positive.to(tl.float64))
    tl.store(row + SUM, total)
    tl.store(row + SUM_SQ, squares)
    tl.store(row + SUM_ABS, magnitudes)
    tl.store(row + SUM_4, fourths)
    tl.store(row + MIN, least)
    tl.store(row + MAX, most)
    tl.store(row + SCALE, scale)
    tl.store(row + BELOW, below.to(tl.float64))
    tl.store(row + ABOVE, above.to(tl.float64))


@triton.jit
def size_of(row, inside):
    """The scale of rows, 0 where it does not matter because all entries are zero."""
    scale = tl.load(row + SCALE, mask=inside, other=0.0)
    return tl.where(tl.load(row + SUM_ABS, mask=inside, other=0.0) > 0, scale, 0.0)


@triton.jit
def totals(plan, rows, tile: tl.constexpr):
    """Adds the rows of all pieces of a target to its own, as `columns.merge` does.

    Args:
        plan: int64 [targets, 3], address of the target's row, first of its pieces and their number.
        rows: float64 [pieces, WIDTH].
        tile: rows that are added at a time.
    """
    target = tl.program_id(0)
    own = tl.load(plan + 3 * target).to(tl.pointer_type(tl.float64))
    start = rows + tl.load(plan + 3 * target + 1) * WIDTH
    length = tl.load(plan + 3 * target + 2).to(tl.int32)
    before = size_of(own, True)
    scale = before
    for first in range(0, length, tile):
        place = first + tl.arange(0, tile)
        scale = tl.maximum(scale, tl.max(size_of(start + place * WIDTH, place < length)))
    whole = tl.where(scale > 0, scale, 1.0)
    share = before / whole
    count = tl.load(own + COUNT)
    nonfinite = tl.load(own + NONFINITE)
    zero = tl.load(own + ZERO)
    positive = tl.load(own + POSITIVE)
    below = tl.load(own + BELOW)
    above = tl.load(own + ABOVE)
    least = tl.load(own + MIN)
    most = tl.load(own + MAX)
    total = tl.load(own + SUM) * share
    magnitudes = tl.load(own + SUM_ABS) * share
    squares = tl.load(own + SUM_SQ) * share * share
    fourths = tl.load(own + SUM_4) * share * share * share * share
    for first in range(0, length, tile):
        place = first + tl.arange(0, tile)
        inside = place < length
        row = start + place * WIDTH
        by = size_of(row, inside) / whole
        count += tl.sum(tl.load(row + COUNT, mask=inside, other=0.0))
        nonfinite += tl.sum(tl.load(row + NONFINITE, mask=inside, other=0.0))
        zero += tl.sum(tl.load(row + ZERO, mask=inside, other=0.0))
        positive += tl.sum(tl.load(row + POSITIVE, mask=inside, other=0.0))
        below += tl.sum(tl.load(row + BELOW, mask=inside, other=0.0))
        above += tl.sum(tl.load(row + ABOVE, mask=inside, other=0.0))
        least = tl.minimum(least, tl.min(tl.load(row + MIN, mask=inside, other=INFINITY)))
        most = tl.maximum(most, tl.max(tl.load(row + MAX, mask=inside, other=-INFINITY)))
        total += tl.sum(tl.load(row + SUM, mask=inside, other=0.0) * by)
        magnitudes += tl.sum(tl.load(row + SUM_ABS, mask=inside, other=0.0) * by)
        squares += tl.sum(tl.load(row + SUM_SQ, mask=inside, other=0.0) * by * by)
        fourths += tl.sum(tl.load(row + SUM_4, mask=inside, other=0.0) * by * by * by * by)
    tl.store(own + COUNT, count)
    tl.store(own + NONFINITE, nonfinite)
    tl.store(own + ZERO, zero)
    tl.store(own + POSITIVE, positive)
    tl.store(own + SUM, total)
    tl.store(own + SUM_SQ, squares)
    tl.store(own + SUM_ABS, magnitudes)
    tl.store(own + SUM_4, fourths)
    tl.store(own + MIN, least)
    tl.store(own + MAX, most)
    tl.store(own + SCALE, tl.where(scale > 0, scale, (count > 0).to(tl.float64)))
    tl.store(own + BELOW, below)
    tl.store(own + ABOVE, above)


@triton.jit
def flags(x, raised, entries, units, stride, low, high, wide: tl.constexpr, tile: tl.constexpr):
    """Raises the flags of units of which an entry is alive to 2.

    Args:
        x: dense entries in the order of memory.
        raised: uint8 [units]; flags that are 2 already are not written again.
        entries: their number.
        units: the number of units.
        stride: entries between an entry of one unit and that of the next.
        low: threshold, NaN for none.
        high: the other one.
        wide: whether entries are float64.
        tile: entries of a program.
    """
    place = tl.program_id(0).to(tl.int64) * tile + tl.arange(0, tile)
    inside = place < entries
    entry = number(tl.load(x + place, mask=inside, other=0), wide)
    flat = ((entry <= low) | (entry >= high)) & (tl.abs(entry) < INFINITY)
    unit = place // stride % units
    before = tl.load(raised + unit, mask=inside, other=2)
    tl.store(raised + unit, tl.full((tile,), 2, tl.uint8), mask=inside & (before < 2) & (flat == 0))
