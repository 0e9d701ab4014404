"""PNG files for benchmarks and tests, made without a library."""

import random
import struct
import zlib


def png_of(lines, width, height, bits=24):
    """The file of these lines, each behind its filter byte; of 24 or 1 bits a pixel. What it states need not be so."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    depth, colours = {24: (8, 2), 1: (1, 0)}[bits]
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(lines, 1)) + chunk(b"IEND", b""))


def noise(seed, width, height, bits=24):
    """A picture that hardly compresses: every seed its own. With 1 bit a pixel it is short."""
    draw = random.Random(seed)
    return png_of(b"".join(b"\0" + draw.randbytes((width * bits + 7) // 8) for _ in range(height)), width, height, bits)
