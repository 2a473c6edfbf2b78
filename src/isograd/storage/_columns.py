"""Columns of numbers as bytes: 4 per number, 8 where single precision cannot hold them, or none.

Nothing is lost that a reader could miss: single precision keeps 7 digits, what is too large or too
small for it is kept in double precision, and NaN, infinities and "not measured" stay apart.
"""

import json
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence

from isograd.records import Number

SINGLE, DOUBLE, SAME = "f", "d", "s"
"""Forms of a column: 4 bytes per entry, 8 bytes per entry, or 8 bytes where all are the same."""

_BYTES = {SINGLE: 4, DOUBLE: 8}

TINY = 2.0**-126
"""Below it single precision loses digits."""

# A value that no statistic takes stands for "not measured": a NaN that means something would not
# survive every machine's conversion between single and double precision.
_NOTHING: float = struct.unpack("<f", struct.pack("<f", -2.7182818e38))[0]


def pack(column: Sequence[Number]) -> tuple[str, bytes]:
    """The form of a column and its bytes."""
    if not column:
        return SINGLE, b""
    filled = [_NOTHING if number is None else number for number in column]
    first = filled[0]
    if filled.count(first) == len(filled):
        return SAME, struct.pack("<d", first)
    smallest = min(map(abs, filter(None, column)), default=1.0)
    if smallest >= TINY:  # not so for a NaN in front, which would hide what is small behind it
        try:
            return SINGLE, struct.pack(f"<{len(filled)}f", *filled)
        except OverflowError:
            pass
    return DOUBLE, struct.pack(f"<{len(filled)}d", *filled)


def size(form: str, rows: int) -> int:
    """Bytes of a column of so many rows."""
    return 8 if form == SAME else _BYTES[form] * rows


def unpack(form: str, data: bytes, rows: int) -> tuple[Number, ...]:
    """The column of which `pack` made `data`."""
    if form == SAME:
        numbers: Iterable[float] = struct.unpack("<d", data) * rows
    else:
        numbers = struct.unpack(f"<{rows}{form}", data)
    return tuple(None if number == _NOTHING else number for number in numbers)


def entry(form: str, data: bytes, start: int, row: int) -> Number:
    """One entry of a column that begins at byte `start` of `data`."""
    if form == SAME:
        (number,) = struct.unpack_from("<d", data, start)
    else:
        (number,) = struct.unpack_from(f"<{form}", data, start + _BYTES[form] * row)
    return None if number == _NOTHING else number


def pack_histograms(histograms: Mapping[str, Sequence[Sequence[int]]]) -> bytes | None:
    """Histograms, compressed; `None` where there are none."""
    if not histograms:
        return None
    plain = {key: [list(row) for row in rows] for key, rows in histograms.items()}
    return zlib.compress(json.dumps(plain, separators=(",", ":")).encode(), 1)


def unpack_histograms(data: bytes | None) -> dict[str, tuple[tuple[int, ...], ...]]:
    """The histograms of which `pack_histograms` made `data`."""
    if data is None:
        return {}
    plain = json.loads(zlib.decompress(data))
    return {key: tuple(tuple(row) for row in rows) for key, rows in plain.items()}
