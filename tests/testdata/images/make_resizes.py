#!/usr/bin/env python3
"""Writes resize.json: CRC-32 of the RGB bytes of a synthetic picture after Pillow's resize(BICUBIC), size by size.

    python3 make_resizes.py         # needs Pillow 13.0.0, whose order of the two passes the recorded answers show
"""
import json
import pathlib
import zlib

import PIL
from PIL import Image

HERE = pathlib.Path(__file__).resolve().parent

SIZES = [(1, 1, 448, 448), (448, 448, 1, 1), (1, 300, 14, 700), (300, 1, 700, 14), (3, 5, 5, 3), (60, 40, 60, 40),
         (60, 40, 61, 40), (60, 40, 60, 39), (700, 500, 532, 378), (640, 480, 728, 546), (1000, 420, 686, 294),
         (97, 103, 13, 211), (256, 2, 3, 255), (2, 2, 3, 3), (333, 222, 111, 74), (1024, 768, 518, 392),
         # The vertical pass first, and the last sizes on either side of that border.
         (90, 300, 56, 210), (120, 400, 130, 300), (100, 100, 75, 50), (100, 100, 76, 50), (100, 100, 75, 49),
         (200, 1900, 140, 1358), (100, 3000, 84, 2450)]


def synthetic(width, height):
    image = Image.new("RGB", (width, height))
    image.putdata([((7 * x + 13 * y) % 256, (x * x + 3 * y) % 256, (x * y + 5 * x) % 256)
                   for y in range(height) for x in range(width)])
    return image


def main():
    assert PIL.__version__ == "13.0.0", PIL.__version__
    lines = []
    for width, height, to_width, to_height in SIZES:
        resized = synthetic(width, height).resize((to_width, to_height), Image.BICUBIC)
        lines.append(json.dumps({"from": [width, height], "to": [to_width, to_height], "crc32": zlib.crc32(resized.tobytes())}))
    cases = ",\n".join(lines)
    (HERE / "resize.json").write_text(f'{{"pillow": "{PIL.__version__}", "cases": [\n{cases}\n]}}\n')
    print(f"{len(lines)} sizes")


if __name__ == "__main__":
    main()
