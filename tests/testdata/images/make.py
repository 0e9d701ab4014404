#!/usr/bin/env python3
"""Draws the pictures in this folder and writes down what Pillow makes of each.

    python3 make.py                 # needs Pillow 10.1.0 and libjpeg-turbo's cjpeg (Debian: libjpeg-turbo-progs)

expected.json: for each file the size and the RGB bytes (base64) of Image.open(file).convert("RGB"), and for files that
carry EXIF "upright", size and bytes after ImageOps.exif_transpose. Pillow 10.1.0 is the version the models were published
with; it differs from older ones in what lies past the end of a palette.
"""
import base64
import io
import json
import pathlib
import struct
import subprocess
import tempfile
import zlib

import PIL
from PIL import Image, ImageOps

HERE = pathlib.Path(__file__).parent
WIDTH, HEIGHT = 23, 17


def scene(width=WIDTH, height=HEIGHT):
    """Smooth in one channel, busy in another, with a hard edge: chroma upsampling and rounding show."""
    image = Image.new("RGB", (width, height))
    image.putdata([((x * 11 + y * 3) % 256, (x * y * 7) % 256, 255 if (x // 5 + y // 4) % 2 else 20)
                   for y in range(height) for x in range(width)])
    return image


def saved(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


# PNG --------------------------------------------------------------------------------------------------------------------

def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width, height, depth, colour, rows, before=b"", after=b"", interlace=0):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows), 9))
    return b"\x89PNG\r\n\x1a\n" + header + before + pixels + after + chunk(b"IEND", b"")


def packed(samples, depth):
    if depth == 16:
        return b"".join(struct.pack(">H", s) for s in samples)
    bits = "".join(format(s, f"0{depth}b") for s in samples)
    return bytes(int(bits[i:i + 8].ljust(8, "0"), 2) for i in range(0, len(bits), 8))


ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def drawn(depth, colour, interlace=0, before=b"", after=b"", width=WIDTH, height=HEIGHT):
    """A PNG of any kind whose samples run through all their values."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    top = 2 ** depth

    def sample(x, y, c):
        return (x * (7 + c) + y * (3 + 5 * c) + x * y * (top // 19 + 1)) % top

    def row(xs, y):
        return packed([sample(x, y, c) for x in xs for c in range(channels)], depth)

    if interlace:
        rows = [row(range(x0, width, dx), y) for x0, y0, dx, dy in ADAM7 if x0 < width for y in range(y0, height, dy)]
    else:
        rows = [row(range(width), y) for y in range(height)]
    return png(width, height, depth, colour, rows, before, after, interlace)


def palette(entries):
    return chunk(b"PLTE", bytes((i * k + 40 * j) % 256 for i in range(entries) for j, k in enumerate((7, 13, 29))))


def apng():
    """Two frames; the first one is the picture in IDAT."""
    frame = struct.pack(">IIIIIHHBB", 0, WIDTH, HEIGHT, 0, 0, 1, 10, 0, 0)
    second = struct.pack(">IIIIIHHBB", 1, WIDTH, HEIGHT, 0, 0, 1, 10, 0, 0)
    rows = b"".join(b"\0" + b"\xff" * (3 * WIDTH) for _ in range(HEIGHT))
    before = chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"fcTL", frame)
    after = chunk(b"fcTL", second) + chunk(b"fdAT", struct.pack(">I", 2) + zlib.compress(rows))
    return drawn(8, 2, before=before, after=after)


def pngs():
    for depth in (1, 2, 4, 8, 16):
        yield f"grey{depth}.png", drawn(depth, 0)
    for depth in (2, 16):
        yield f"grey{depth}-interlaced.png", drawn(depth, 0, interlace=1)
    yield "grey8-transparent-value.png", drawn(8, 0, before=chunk(b"tRNS", b"\0\x20"))
    yield "grey16-transparent-value.png", drawn(16, 0, before=chunk(b"tRNS", b"\0\xff"))
    for depth in (8, 16):
        yield f"rgb{depth}.png", drawn(depth, 2)
        yield f"grey-alpha{depth}.png", drawn(depth, 4)
        yield f"rgba{depth}.png", drawn(depth, 6)
        yield f"rgba{depth}-interlaced.png", drawn(depth, 6, interlace=1)
    yield "rgb8-interlaced.png", drawn(8, 2, interlace=1)
    yield "rgb8-transparent-value.png", drawn(8, 2, before=chunk(b"tRNS", b"\0\1\0\2\0\3"))
    for depth in (1, 2, 4, 8):
        yield f"palette{depth}.png", drawn(depth, 3, before=palette(2 ** depth))
    yield "palette4-interlaced.png", drawn(4, 3, interlace=1, before=palette(16))
    yield "palette8-transparent.png", drawn(8, 3, before=palette(256) + chunk(b"tRNS", bytes(range(200))))
    yield "palette4-too-short.png", drawn(4, 3, before=palette(9))
    yield "animated.png", apng()
    yield "1x1.png", drawn(8, 2, width=1, height=1)
    yield "1x1-interlaced.png", drawn(8, 0, width=1, height=1, interlace=1)
    yield "text-and-profile.png", drawn(8, 2, before=chunk(b"gAMA", struct.pack(">I", 200000)) + chunk(b"sBIT", b"\5\5\5") +
                                        chunk(b"tEXt", b"Comment\0words"), after=chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"w" * 999)))


# JPEG -------------------------------------------------------------------------------------------------------------------

def cjpeg(image, *flags):
    with tempfile.NamedTemporaryFile(suffix=".ppm") as source:
        source.write(saved(image, "PPM"))
        source.flush()
        return subprocess.run(["cjpeg", *flags, source.name], check=True, capture_output=True).stdout


def segments(data):
    """The segments before the first scan, and the rest from its marker on."""
    at, found = 2, []
    while data[at + 1] != 0xDA:
        size = 2 + struct.unpack(">H", data[at + 2:at + 4])[0]
        found.append(data[at:at + size])
        at += size
    return found, data[at:]


def without(data, marker):
    head, rest = segments(data)
    return data[:2] + b"".join(s for s in head if s[1] != marker) + rest


def rgb_components(data):
    """Names the components R, G and B, which makes three-channel data RGB where no JFIF marker says otherwise."""
    names = {1: ord("R"), 2: ord("G"), 3: ord("B")}
    head, rest = segments(without(data, 0xE0))
    out = data[:2]
    for segment in head:
        segment = bytearray(segment)
        if segment[1] == 0xC0:
            for i in range(segment[9]):
                segment[10 + 3 * i] = names[segment[10 + 3 * i]]
        out += bytes(segment)
    rest = bytearray(rest)
    for i in range(rest[4]):
        rest[5 + 2 * i] = names[rest[5 + 2 * i]]
    return out + bytes(rest)


def cmyk_scene():
    image = scene()
    red, green, blue = image.split()
    return Image.merge("CMYK", (red, green, blue, ImageOps.mirror(green)))


def jpegs():
    yield "grey.jpg", saved(scene().convert("L"), "JPEG", quality=90)
    for name, sampling in (("444", 0), ("422", 1), ("420", 2)):
        yield f"ycbcr{name}.jpg", saved(scene(), "JPEG", quality=90, subsampling=sampling)
        yield f"ycbcr{name}-progressive.jpg", saved(scene(), "JPEG", quality=90, subsampling=sampling, progressive=True)
    for sampling in ("1x2", "4x1", "1x4", "3x1", "4x2", "2x2,1x2,1x1", "1x1,2x2,2x1"):
        name = sampling.replace(",", "-")
        yield f"sampled-{name}.jpg", cjpeg(scene(), "-quality", "90", "-sample", sampling)
    yield "restart.jpg", cjpeg(scene(), "-quality", "85", "-restart", "1B")
    yield "arithmetic.jpg", cjpeg(scene(), "-quality", "90", "-arithmetic")
    yield "arithmetic-progressive.jpg", cjpeg(scene(), "-quality", "90", "-arithmetic", "-progressive")
    yield "low-quality.jpg", saved(scene(61, 40), "JPEG", quality=5)
    yield "rgb.jpg", rgb_components(saved(scene(), "JPEG", quality=90, subsampling=0))
    adobe = saved(cmyk_scene(), "JPEG", quality=90)
    yield "cmyk-adobe.jpg", adobe
    yield "cmyk-no-marker.jpg", without(adobe, 0xEE)
    marker = adobe.index(b"\xff\xee\x00\x0eAdobe")
    yield "ycck-adobe.jpg", adobe[:marker + 15] + b"\2" + adobe[marker + 16:]
    yield "1x1.jpg", saved(scene(1, 1), "JPEG")
    yield "bytes-after-the-end.jpg", saved(scene(), "JPEG", quality=90) + b"and more"


# WebP -------------------------------------------------------------------------------------------------------------------

def riff(*chunks):
    body = b"".join(name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for name, data in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def u24(number):
    return struct.pack("<I", number)[:3]


def corner_animation():
    """The first frame covers a corner of the canvas only."""
    frame = saved(scene(9, 7), "WEBP", lossless=True)[12:]
    anmf = u24(4) + u24(3) + u24(8) + u24(6) + u24(100) + b"\0" + frame
    extended = b"\x02\0\0\0" + u24(WIDTH - 1) + u24(HEIGHT - 1)
    return riff((b"VP8X", extended), (b"ANIM", b"\x10\x20\x30\xff\0\0"), (b"ANMF", anmf), (b"ANMF", anmf))


def webps():
    alpha = scene().convert("RGBA")
    alpha.putalpha(Image.linear_gradient("L").resize((WIDTH, HEIGHT)))
    yield "lossy.webp", saved(scene(), "WEBP", quality=80)
    yield "lossless.webp", saved(scene(), "WEBP", lossless=True)
    yield "lossy-alpha.webp", saved(alpha, "WEBP", quality=80)
    yield "lossless-alpha.webp", saved(alpha, "WEBP", lossless=True, exact=True)
    yield "animated.webp", saved(scene(), "WEBP", lossless=True, save_all=True, append_images=[Image.new("RGB", (WIDTH, HEIGHT))])
    yield "animated-lossy-alpha.webp", saved(alpha, "WEBP", quality=70, save_all=True, append_images=[alpha.transpose(Image.FLIP_TOP_BOTTOM)])
    yield "animated-corner.webp", corner_animation()
    yield "1x1.webp", saved(scene(1, 1), "WEBP", lossless=True)


# EXIF -------------------------------------------------------------------------------------------------------------------

def exif(orientation, order="<"):
    mark = b"II" if order == "<" else b"MM"
    entries = [struct.pack(order + "HHII", 0x0100, 4, 1, 7), struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)]
    return mark + struct.pack(order + "HI", 42, 8) + struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)


def oriented():
    for orientation in range(1, 9):
        order = "<>"[orientation % 2]
        yield f"orientation{orientation}.jpg", saved(scene(), "JPEG", quality=95, exif=b"Exif\0\0" + exif(orientation, order))
    yield "orientation6.png", drawn(8, 2, before=chunk(b"eXIf", exif(6)))
    yield "orientation8-behind-pixels.png", drawn(8, 3, before=palette(256), after=chunk(b"eXIf", exif(8, ">")))
    yield "orientation7.webp", saved(scene(), "WEBP", lossless=True, exif=exif(7))
    yield "orientation5-prefixed.webp", saved(scene(), "WEBP", quality=70, exif=b"Exif\0\0" + exif(5))


# Shapes whose pixels the tests know by a formula ---------------------------------------------------------------------------

def strip(width, height):
    rows = [b"".join(bytes(((x + y) // 120, 7, 255 - (x + y) // 120)) for x in range(width)) for y in range(height)]
    return png(width, height, 8, 2, rows)


def main():
    assert PIL.__version__ == "10.1.0", PIL.__version__
    expected = []
    for old in HERE.iterdir():
        if old.suffix in (".png", ".jpg", ".webp"):
            old.unlink()
    for makers in (pngs, jpegs, webps, oriented):
        for name, data in makers():
            (HERE / name).write_bytes(data)
            with Image.open(io.BytesIO(data)) as image:
                image.load()
                plain = image.convert("RGB")
                entry = {"file": name, "mode": image.mode, "width": plain.width, "height": plain.height,
                         "rgb": base64.b64encode(plain.tobytes()).decode()}
                if makers is oriented:
                    upright = ImageOps.exif_transpose(image).convert("RGB")
                    entry["upright"] = {"width": upright.width, "height": upright.height,
                                        "rgb": base64.b64encode(upright.tobytes()).decode()}
                expected.append(entry)
    (HERE / "1x30000.png").write_bytes(strip(1, 30000))
    (HERE / "30000x1.png").write_bytes(strip(30000, 1))
    lines = ",\n".join(json.dumps(entry) for entry in expected)
    (HERE / "expected.json").write_text(f'{{"pillow": "{PIL.__version__}", "files": [\n{lines}\n]}}\n')
    print(f"{len(expected)} pictures")


if __name__ == "__main__":
    main()
