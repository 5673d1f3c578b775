#!/usr/bin/env python3
"""Makes tests/golden/preprocess: small pictures of many kinds, and what Pillow and torchvision make of them.

Usage: scripts/golden/preprocess.py [OUT]     (needs numpy, pillow, torch, torchvision)

For each case: the picture, and the 8-bit pixels after Resize and CenterCrop (a PNG; the step from there to the tensor is a division, a
subtraction and a division, checked by whole tensors in a few cases, `.f32`). `cases.json` names them, with the versions that made them.
"""
import io
import json
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import PIL
import torch
import torchvision
from PIL import Image
from torchvision import transforms as T
from torchvision.transforms import InterpolationMode

OUT = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2] / "tests/golden/preprocess"
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
rng = np.random.default_rng(20)
cases = []


def picture(width, height, channels=3, noise=40):
    """Slopes, stripes, an edge and some noise: something for every filter to get wrong."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    planes = []
    for c in range(channels):
        v = 255 * (0.5 + 0.5 * np.sin((x * (c + 1) + y * (3 - c)) / 9)) * (0.3 + 0.7 * x / width)
        v = np.where((x - width / 2) ** 2 + (y - height / 3) ** 2 < (height / 4) ** 2, 255 - 80 * c, v)
        v = np.where(y > height * 0.8, (x.astype(int) + y.astype(int)) % 2 * 255, v)
        v = v + np.where(x < width / 5, rng.normal(0, noise, x.shape), 0)
        planes.append(np.clip(v, 0, 255).astype(np.uint8))
    return np.stack(planes, -1) if channels > 1 else planes[0]


def encoded(image, form, **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, colour, rows, extra=b"", interlaced=0):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def png_rows(a):
    """Unfiltered rows of an array [h, w] or [h, w, c], 8 or 16 bits."""
    a = a.astype(">u2") if a.dtype == np.uint16 else a
    return b"".join(b"\0" + row.tobytes() for row in a)


def packed(a, bits):
    """Rows of samples of fewer than 8 bits."""
    out = b""
    for row in a:
        n = "".join(format(int(v), f"0{bits}b") for v in row)
        n += "0" * (-len(n) % 8)
        out += b"\0" + bytes(int(n[i : i + 8], 2) for i in range(0, len(n), 8))
    return out


def adam7(a):
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    return b"".join(png_rows(a[y::dy, x::dx]) for x, y, dx, dy in passes if a[y::dy, x::dx].size)


def gif(canvas, frame, indices, palette, transparent=None, interlaced=False):
    """A GIF with one frame anywhere on (or over) the canvas, its codes uncompressed."""
    bits = max(2, (len(palette) - 1).bit_length())
    rows = [list(r) for r in indices]
    if interlaced:
        h = len(rows)
        rows = [rows[y] for start, step in ((0, 8), (4, 8), (2, 4), (1, 2)) for y in range(start, h, step)]
    clear, size, acc, n, body = 1 << bits, bits + 1, 0, 0, bytearray()
    codes = []
    for i, v in enumerate(v for row in rows for v in row):
        if i % 2 == 0:  # before the table grows
            codes.append(clear)
        codes.append(int(v))
    for code in codes + [clear + 1]:
        acc |= code << n
        n += size
        while n >= 8:
            body.append(acc & 255)
            acc >>= 8
            n -= 8
    if n:
        body.append(acc & 255)
    blocks = b"".join(bytes([len(body[i : i + 255])]) + bytes(body[i : i + 255]) for i in range(0, len(body), 255)) + b"\0"
    colours = b"".join(bytes(c) for c in palette) + b"\0" * 3 * ((1 << bits) - len(palette))
    out = b"GIF89a" + struct.pack("<HHBBB", *canvas, 0x80 | bits - 1, 3, 0) + colours
    if transparent is not None:
        out += b"\x21\xf9\x04\x01\0\0" + bytes([transparent]) + b"\0"
    return out + b"," + struct.pack("<HHHHB", *frame, 0x40 if interlaced else 0) + bytes([bits]) + blocks + b";"


def case(name, data, kind="exact", rgb=None, resize=40, crop=35, mode="short", interpolation="bilinear", channels="rgb", tensor=False):
    """`rgb`: the pixels to start from where Pillow's are not followed."""
    image = Image.open(io.BytesIO(data)).convert("RGB") if rgb is None else Image.fromarray(rgb)
    filters = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}
    size = resize if mode == "short" else (resize, resize)
    cropped = T.CenterCrop(crop)(T.Resize(size, interpolation=filters[interpolation])(image))
    pixels = np.array(cropped)
    assert pixels.shape == (crop, crop, 3)
    config = {"resize": resize, "resize_mode": mode, "crop": crop, "interpolation": interpolation, "channels": channels}
    stem = name.replace(".", "-")
    if config != {"resize": 40, "resize_mode": "short", "crop": 35, "interpolation": "bilinear", "channels": "rgb"}:
        stem += f"-{resize}-{mode}-{crop}-{interpolation}-{channels}"
    (OUT / name).write_bytes(data)
    (OUT / f"{stem}.expected.png").write_bytes(encoded(cropped, "PNG", optimize=True))
    entry = {"file": name, "expected": f"{stem}.expected.png", "kind": kind, "preprocess": config}
    if tensor:
        t = T.ToTensor()(cropped)
        t = T.Normalize(MEAN, STD)(t[[2, 1, 0]] if channels == "bgr" else t)
        (OUT / f"{stem}.f32").write_bytes(t.numpy().astype("<f4").tobytes())
        entry["tensor"] = f"{stem}.f32"
    if rgb is not None:
        entry["note"] = "not as Pillow: see the module's documentation"
    cases.append(entry)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for old in OUT.iterdir():
        old.unlink()
    a = picture(61, 47)
    im = Image.fromarray(a)
    grey = im.convert("L")
    alpha = Image.fromarray(picture(61, 47, 1))
    rgba = im.copy()
    rgba.putalpha(alpha)
    la = grey.copy()
    la.putalpha(alpha)
    pal = im.quantize(64)
    pal16 = im.quantize(13)
    deep = np.minimum(a.astype(np.uint32) * 257 + rng.integers(0, 200, a.shape), 65535).astype(np.uint16)
    high = (deep[..., 0] >> 8).astype(np.uint8)
    high = np.stack([high] * 3, -1)

    # PNG
    case("rgb.png", encoded(im, "PNG"), tensor=True, resize=30, crop=24)
    case("rgb.png", encoded(im, "PNG"), resize=30, crop=24, channels="bgr", tensor=True)
    case("rgb.png", encoded(im, "PNG"), interpolation="bicubic")
    case("rgb.png", encoded(im, "PNG"), mode="exact")
    case("rgb.png", encoded(im, "PNG"), resize=24, crop=43)  # smaller than the crop: padded
    case("rgb.png", encoded(im, "PNG"), resize=47, crop=40)  # as it is
    case("rgb.png", encoded(im, "PNG"), resize=64, crop=63)  # enlarged, and rounding of halves
    case("rgb.png", encoded(im, "PNG"), resize=64, crop=58, interpolation="bicubic")
    case("one.png", encoded(im.convert("1"), "PNG"))
    case("grey.png", encoded(grey, "PNG"))
    case("grey2.png", png(61, 47, 2, 0, packed(np.array(grey) >> 6, 2)))
    case("grey4.png", png(61, 47, 4, 0, packed(np.array(grey) >> 4, 4)))
    case("grey-trns.png", png(61, 47, 8, 0, png_rows(np.array(grey)), chunk(b"tRNS", b"\0\x80")))
    case("la.png", encoded(la, "PNG"))
    case("palette.png", encoded(pal, "PNG"))
    case("palette4.png", encoded(pal16, "PNG", bits=4))
    case("palette-trns.png", encoded(pal, "PNG", transparency=bytes(range(0, 256, 4))))
    case("rgb-trns.png", png(61, 47, 8, 2, png_rows(a), chunk(b"tRNS", b"\0\xff\0\xff\0\xff")))
    case("rgba.png", encoded(rgba, "PNG"))
    case("interlaced.png", png(61, 47, 8, 2, adam7(a), interlaced=1))
    case("rgb16.png", png(61, 47, 16, 2, png_rows(deep)))
    case("grey16.png", png(61, 47, 16, 0, png_rows(deep[..., 0])), rgb=high)
    case("la16.png", png(61, 47, 16, 4, png_rows(deep[..., :2])))
    # BMP
    case("one.bmp", encoded(im.convert("1"), "BMP"))
    case("grey.bmp", encoded(grey, "BMP"))
    case("palette.bmp", encoded(pal, "BMP"))
    case("rgb.bmp", encoded(im, "BMP"))
    case("rgba.bmp", encoded(rgba, "BMP"))
    # GIF
    small = Image.fromarray(picture(37, 29)).quantize(8)
    colours = np.array(small.getpalette()[:24]).reshape(-1, 3).tolist()
    index = np.array(small)
    case("palette.gif", encoded(pal, "GIF"))
    case("transparent.gif", encoded(pal, "GIF", transparency=5))
    case("part.gif", gif((52, 47), (9, 11, 37, 29), index, colours))
    case("part-transparent.gif", gif((52, 47), (9, 11, 37, 29), index, colours, transparent=4))
    case("outside.gif", gif((30, 25), (9, 11, 37, 29), index, colours))
    case("interlaced.gif", gif((37, 29), (0, 0, 37, 29), index, colours, interlaced=True))
    case("animated.gif", encoded(pal, "GIF", save_all=True, append_images=[pal16]))
    # TIFF
    case("one.tif", encoded(im.convert("1"), "TIFF"))
    case("one-group4.tif", encoded(im.convert("1"), "TIFF", compression="group4"))
    case("grey.tif", encoded(grey, "TIFF", compression="tiff_lzw"))
    case("la.tif", encoded(la, "TIFF", compression="tiff_lzw"))
    case("palette.tif", encoded(pal, "TIFF", compression="tiff_lzw"))
    case("rgb.tif", encoded(im, "TIFF", compression="tiff_adobe_deflate"))
    case("rgb-packbits.tif", encoded(im, "TIFF", compression="packbits"))
    case("rgba.tif", encoded(rgba, "TIFF", compression="tiff_lzw"))
    case("cmyk.tif", encoded(Image.fromarray(picture(61, 47, 4), "CMYK"), "TIFF", compression="tiff_lzw"))
    case("grey16.tif", encoded(Image.fromarray(deep[..., 0]), "TIFF", compression="tiff_lzw"), rgb=high)
    case("float.tif", encoded(Image.fromarray(a[..., 0].astype(np.float32) * 1.1 - 9), "TIFF"))
    case("turned.tif", encoded(im, "TIFF", compression="tiff_lzw", tiffinfo={274: 6}))
    # WebP
    case("rgb.webp", encoded(im, "WEBP", lossless=True))
    case("rgba.webp", encoded(rgba, "WEBP", lossless=True, exact=True))
    case("animated.webp", encoded(im, "WEBP", lossless=True, save_all=True, append_images=[pal16.convert("RGB")]))
    # JPEG; more of it, with scripts/golden/jpeg.py. Lossy WebP: decoders differ by rounding.
    soft = Image.fromarray(picture(101, 75))
    case("420.jpg", encoded(soft, "JPEG", quality=85))
    case("422.jpg", encoded(soft, "JPEG", quality=85, subsampling="4:2:2"))
    case("444.jpg", encoded(soft, "JPEG", quality=95, subsampling="4:4:4"))
    case("progressive.jpg", encoded(soft, "JPEG", quality=85, progressive=True))
    case("restart.jpg", encoded(soft, "JPEG", quality=85, restart_marker_rows=1))
    case("grey.jpg", encoded(soft.convert("L"), "JPEG", quality=85))
    case("rgb.jpg", encoded(soft, "JPEG", quality=90, keep_rgb=True))
    case("cmyk.jpg", encoded(Image.fromarray(picture(61, 47, 4), "CMYK"), "JPEG", quality=90))
    cmyk = bytearray(encoded(Image.fromarray(picture(61, 47, 4), "CMYK"), "JPEG", quality=90))
    cmyk[cmyk.index(b"Adobe") + 11] = 2  # the same samples, called YCCK
    case("ycck.jpg", bytes(cmyk))
    case("lossy.webp", encoded(soft, "WEBP", quality=80), kind="lossy")
    # torchvision's own sizes
    wide = Image.fromarray(picture(333, 250, noise=0))
    case("wide.webp", encoded(wide, "WEBP", lossless=True), resize=256, crop=224)
    tall = Image.fromarray(picture(181, 420, noise=0))
    case("tall.webp", encoded(tall, "WEBP", lossless=True), resize=256, crop=224)

    versions = {"pillow": PIL.__version__, "torch": torch.__version__, "torchvision": torchvision.__version__}
    (OUT / "cases.json").write_text(json.dumps({"made_by": "scripts/golden/preprocess.py", "versions": versions, "cases": cases}, indent=1) + "\n")
    print(len(cases), "cases,", sum(f.stat().st_size for f in OUT.iterdir()) // 1000, "kB")


main()
