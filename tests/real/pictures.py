"""The lake of the tests: pictures of mixed formats and sizes, and one fixture for each way in which a picture can be bad.

Everything is drawn from a seed, so that two runs see the same bytes.
"""

import io
import random

import numpy as np
from PIL import Image

#: Keys that a form-encoding, a URL or a careless join would get wrong.
NAMES = ["plain", "with space", "plus+sign", "accent-é-ü", "percent%41", "a&b=c", "question?mark", "hash#tag", "日本", "dots..dots", "tilde~", "(round)", "semi;colon", "comma,comma"]

FORMATS = ["JPEG", "JPEG", "JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]


def draw(rng, width, height):
    """A picture with structure (gradients, blocks, noise), so that predictions differ."""
    x = np.linspace(0, rng.uniform(1, 12), width)[None, :, None]
    y = np.linspace(0, rng.uniform(1, 12), height)[:, None, None]
    phase = np.array([rng.uniform(0, 6) for _ in range(3)])[None, None, :]
    gain = np.array([rng.uniform(20, 110) for _ in range(3)])[None, None, :]
    pixels = 128 + gain * np.sin(x + phase) * np.cos(y + phase)
    pixels = pixels + np.random.default_rng(rng.randrange(2**32)).normal(0, 6, (height, width, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def encode(image, form, rng):
    out = io.BytesIO()
    if form == "JPEG":
        image = image.convert(rng.choice(["RGB", "RGB", "RGB", "L", "CMYK"]))
        image.save(out, form, quality=rng.randrange(40, 96), progressive=rng.random() < 0.3)
    elif form == "PNG":
        image.convert(rng.choice(["RGB", "RGBA", "L", "LA", "P", "1"])).save(out, form)
    elif form == "WEBP":
        image.save(out, form, lossless=rng.random() < 0.5)
    elif form == "TIFF":
        image.save(out, form, compression=rng.choice(["raw", "tiff_lzw", "tiff_adobe_deflate"]))
    else:
        image.save(out, form)
    return out.getvalue()


def good(count, seed=1):
    """`count` pairs of key and bytes."""
    rng = random.Random(seed)
    for n in range(count):
        form = FORMATS[n % len(FORMATS)]
        body = encode(draw(rng, rng.randrange(24, 240), rng.randrange(24, 240)), form, rng)
        # The extension is right for some and wrong for others: formats are told by content.
        extension = rng.choice([form.lower(), "jpg", "bin"])
        yield f"good/{n % 7}/{NAMES[n % len(NAMES)]}-{n:05d}.{extension}", body


def huge_png(width, height):
    """A PNG whose header says more pixels than anyone wants, in a few bytes."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


def black():
    """Makes the `tiny-nan` network fail, and no other."""
    out = io.BytesIO()
    Image.new("RGB", (64, 64)).save(out, "PNG")
    return out.getvalue()


def bad(seed=2):
    """Objects that cannot be labelled: key -> (bytes, reason)."""
    rng = random.Random(seed)
    jpeg = encode(draw(rng, 200, 160), "JPEG", rng)
    png = encode(draw(rng, 90, 90), "PNG", rng)
    objects = {}
    for n in range(10):
        objects[f"bad/empty {n}.jpg"] = (b"", "empty")
        objects[f"bad/truncated+{n}.jpg"] = (jpeg[: len(jpeg) * (n + 3) // 16], "corrupt_image")
        objects[f"bad/text é {n}.png"] = (b"this is not a picture, whatever its name says\n" * (n + 1), "unsupported_format")
        objects[f"bad/large-{n}.bmp"] = (b"BM" + bytes(300_000 + n), "too_large")
        objects[f"bad/pixels-{n}.png"] = (huge_png(40_000 + n, 40_000), "too_many_pixels")
        objects[f"bad/black-{n}.png"] = (black(), "model_failed")
    objects["bad/truncated.png"] = (png[: len(png) // 2], "corrupt_image")
    objects["bad/flipped.png"] = (png[:60] + bytes([png[60] ^ 0xFF]) + png[61:], "corrupt_image")
    return objects
