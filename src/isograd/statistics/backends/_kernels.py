"""Kernels of the Triton backend: rows of pieces of tensors, and what these add up to.

A piece is what one program reads, tile by tile; a tile is what it holds at a time.
"""

import triton
import triton.language as tl

from isograd.statistics._layout import GOLDEN
from isograd.statistics.columns import COLUMNS

(COUNT, NONFINITE, ZERO, POSITIVE, SUM, SUM_SQ, SUM_ABS, SUM_4, MIN, MAX, SCALE, BELOW, ABOVE) = (
    tl.constexpr(place) for place in range(len(COLUMNS))
)
WIDTH = tl.constexpr(len(COLUMNS))
FRACTION = tl.constexpr(GOLDEN)
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
    """Power of two near a magnitude, the least for 0; it and its reciprocal are normal numbers."""
    if wide:
        bits = largest.to(tl.int64, bitcast=True) & 0x7FF0000000000000
        bits = tl.minimum(tl.maximum(bits, 3 << 52), 2043 << 52)
        # Float64 holds the powers of most of its own numbers.
        safe = (largest >= 2.0**-200) & (largest <= 2.0**200)
        power = tl.where(safe, 1.0, bits.to(tl.float64, bitcast=True))
    else:
        bits = largest.to(tl.int32, bitcast=True) & 0x7F800000
        bits = tl.minimum(tl.maximum(bits, 1 << 23), 253 << 23)
        power = bits.to(tl.float32, bitcast=True)
    return power


@triton.jit
def cleaned(x, inside):
    """A tile with zeros for all that is non-finite or outside, its extremes, and what was so."""
    finite = inside & (tl.abs(x) < INFINITY)
    least = tl.min(tl.where(finite, x, INFINITY), 0)
    most = tl.max(tl.where(finite, x, -INFINITY), 0)
    largest = tl.maximum(tl.max(tl.maximum(-least, most)), 0.0)
    bad = tl.sum((inside & (finite == 0)).to(tl.int32), 0)
    off = tl.sum((finite == 0).to(tl.int32), 0)
    return tl.where(finite, x, 0.0), least, most, largest, bad, off


@triton.jit
def added(
    raw, inside, low, high, power, sums, extremes, counts, tail: tl.constexpr, ends: tl.constexpr
):
    """Numbers of one tile more: `power` is of all tiles, each column holds its own others.

    Powers of entries are of those over the largest one: they leave the range of float32 on neither
    side. Only that largest one is looked for across threads; all else adds up within each.
    """
    total, magnitudes, squares, fourths = sums
    least, most = extremes
    nonfinite, zero, positive, below, above = counts
    wide: tl.constexpr = raw.dtype == tl.float64
    x = number(raw, wide)
    if tail:
        x, smallest, greatest, largest, bad, off = cleaned(x, inside)
    else:
        smallest = tl.min(x, 0)
        greatest = tl.max(x, 0)
        whole = tl.abs(tl.sum(x, 0)) < INFINITY  # extremes leave NaN out, sums do not
        largest = tl.max(tl.where(whole, tl.maximum(-smallest, greatest), INFINITY))
        bad = tl.zeros_like(zero)
        off = bad
        if largest == INFINITY:
            x, smallest, greatest, largest, bad, off = cleaned(x, inside)
    nonfinite += bad
    zero += tl.sum((x == 0).to(tl.int32), 0) - off
    positive += tl.sum((x > 0).to(tl.int32), 0)
    if ends:
        below += tl.sum((x <= low).to(tl.int32), 0) - tl.where(low >= 0, off, 0)
        above += tl.sum((x >= high).to(tl.int32), 0) - tl.where(high <= 0, off, 0)
    least = tl.minimum(least, smallest)
    most = tl.maximum(most, greatest)
    before = power
    power = tl.maximum(before, power_near(largest, wide))
    x *= 1.0 / power
    square = x * x
    by = before / power
    total = total * by + tl.sum(x, 0)
    magnitudes = magnitudes * by + tl.sum(tl.abs(x), 0)
    squares = squares * (by * by) + tl.sum(square, 0)
    fourths = fourths * (by * by * by * by) + tl.sum(square * square, 0)
    sums = (total, magnitudes, squares, fourths)
    return power, sums, (least, most), (nonfinite, zero, positive, below, above)


@triton.jit
def pieces(
    plan,
    rows,
    low,
    high,
    dtype: tl.constexpr,
    aligned: tl.constexpr,
    ends: tl.constexpr,
    height: tl.constexpr,
    width: tl.constexpr,
):
    """Writes a row for every piece.

    Args:
        plan: int64 [pieces, 2], address and number of entries.
        rows: float64 [pieces, WIDTH].
        low: threshold, NaN for none.
        high: the other one.
        dtype: of the entries, int16 for bfloat16.
        aligned: whether addresses are multiples of four entries, which a thread reads at once.
        ends: whether there is a threshold.
        height: rows of a tile.
        width: columns of a tile, four for each thread: what adds up stays within it.
    """
    piece = tl.program_id(0)
    entries = tl.load(plan + 2 * piece + 1).to(tl.int32)
    here = tl.load(plan + 2 * piece).to(tl.pointer_type(dtype))
    wide: tl.constexpr = dtype == tl.float64
    if aligned:
        here = tl.multiple_of(here, dtype.primitive_bitwidth // 2)
    held: tl.constexpr = tl.float64 if wide else tl.float32
    tile: tl.constexpr = height * width
    place = tl.arange(0, height)[:, None] * width + tl.arange(0, width)[None, :]
    none = tl.zeros((width,), held)
    count = tl.zeros((width,), tl.int32)
    power = power_near(tl.full((), 0.0, held), wide)
    sums = (none, none, none, none)
    extremes = (none + INFINITY, none - INFINITY)
    counts = (count, count, count, count, count)
    all_of_it = tl.full((height, width), 1, tl.int1)
    end = entries // tile * tile
    for first in range(0, end, tile):
        raw = tl.load(here + first + place)
        power, sums, extremes, counts = added(
            raw, all_of_it, low, high, power, sums, extremes, counts, False, ends
        )
    if end < entries:
        inside = end + place < entries
        raw = tl.load(here + end + place, mask=inside, other=0)
        power, sums, extremes, counts = added(
            raw, inside, low, high, power, sums, extremes, counts, True, ends
        )
    total, magnitudes, squares, fourths = sums
    least, most = extremes
    nonfinite, zero, positive, below, above = counts
    scale = power.to(tl.float64)
    unit = scale
    if wide:
        unit = tl.full((), 1.0, tl.float64)
    else:
        scale = tl.full((), 1.0, tl.float64)
    row = rows + piece * WIDTH
    tl.store(row + COUNT, entries.to(tl.float64))
    tl.store(row + NONFINITE, tl.sum(nonfinite).to(tl.float64))
    tl.store(row + ZERO, tl.sum(zero).to(tl.float64))
    tl.store(row + POSITIVE, tl.sum(positive).to(tl.float64))
    tl.store(row + SUM, tl.sum(total.to(tl.float64)) * unit)
    tl.store(row + SUM_SQ, tl.sum(squares.to(tl.float64)) * (unit * unit))
    tl.store(row + SUM_ABS, tl.sum(magnitudes.to(tl.float64)) * unit)
    tl.store(row + SUM_4, tl.sum(fourths.to(tl.float64)) * (unit * unit * unit * unit))
    tl.store(row + MIN, tl.min(least).to(tl.float64))
    tl.store(row + MAX, tl.max(most).to(tl.float64))
    tl.store(row + SCALE, scale)
    tl.store(row + BELOW, tl.sum(below).to(tl.float64))
    tl.store(row + ABOVE, tl.sum(above).to(tl.float64))


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
def gather(plan, out, dtype: tl.constexpr, runs: tl.constexpr, run: tl.constexpr):
    """Copies short runs of vectors, spread over all of each, as `spread_runs` does.

    Args:
        plan: int64 [vectors, 3], address, number of entries and row of the result.
        out: float64 [rows, runs * run], of shorter vectors all entries and then zeros.
        dtype: of the entries, int16 for bfloat16.
        runs: of each vector.
        run: entries of a run.
    """
    vector = tl.program_id(0)
    here = tl.load(plan + 3 * vector).to(tl.pointer_type(dtype))
    entries = tl.load(plan + 3 * vector + 1)
    row = tl.load(plan + 3 * vector + 2)
    column = tl.arange(0, runs * run)
    which = (column // run).to(tl.int64)
    share = (entries - run) // runs
    spread = which * share + ((which * FRACTION & 0xFFFFFFFF) * share >> 32) + column % run
    place = tl.where(entries <= runs * run, column, spread)
    raw = tl.load(here + place, mask=column < entries, other=0)
    entry = number(raw, dtype == tl.float64).to(tl.float64)
    tl.store(out + row * (runs * run) + column, entry)


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
