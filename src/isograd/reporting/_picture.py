"""A picture of cells as a PNG that a page can carry: one byte per cell, a color per byte."""

import base64
import struct
import zlib
from collections.abc import Sequence


def picture(rows: Sequence[bytes], colors: bytes, opacities: bytes) -> str:
    """The rows, from above, as a `data:` address.

    Args:
        rows: cells as bytes; shorter rows are filled up with cells of 0.
        colors: red, green and blue of each of the 256 bytes.
        opacities: of each of the 256 bytes, 255 for opaque.
    """
    width = max(map(len, rows))
    lines = b"".join(b"\0" + row.ljust(width, b"\0") for row in rows)
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, len(rows), 8, 3, 0, 0, 0)),  # 8 bits, palette
        (b"PLTE", colors),
        (b"tRNS", opacities),
        (b"IDAT", zlib.compress(lines, 9)),
        (b"IEND", b""),
    )
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"
