#!/usr/bin/env python3
"""Makes tests/golden/jpeg: small JPEGs of every kind, and the SHA-256 of the RGB pixels that Pillow (libjpeg-turbo) gives for each.

Usage: scripts/golden/jpeg.py [OUT]     (needs numpy, pillow)

Pillow writes the common kinds. The rest comes from the encoder below, which knows any sampling factors and any order of scans.
"""
import hashlib
import io
import json
import sys
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, features

OUT = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2] / "tests/golden/jpeg"
rng = np.random.default_rng(30)
cases = []


def picture(width, height, channels=3, noise=12):
    """Slopes, hard edges in every colour and some noise."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    planes = [128 + 100 * np.sin(x / (4 + 3 * c) + y / (9 - 2 * c)) for c in range(channels)]
    a = np.stack(planes, -1) + rng.normal(0, noise, (height, width, channels))
    a[(x // 5 + y // 7) % 6 == 0] = [255, 0, 30, 90][:channels]
    a[(x // 4 + y // 3) % 9 == 0] = [0, 250, 255, 10][:channels]
    return np.clip(a, 0, 255).astype(np.uint8)


def pillow(image, **options):
    out = io.BytesIO()
    image.save(out, "JPEG", **options)
    return out.getvalue()


def case(name, data):
    assert all(c["file"] != name for c in cases), name
    image = Image.open(io.BytesIO(data))
    pixels = image.convert("RGB")
    (OUT / name).write_bytes(data)
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    cases.append({"file": name, "width": pixels.width, "height": pixels.height, "rgb_sha256": digest})


def segment(marker, body):
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


def segments(data):
    at = 2
    while data[at + 1] != 0xDA:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        yield data[at + 1], data[at + 4 : at + 2 + length]
        at += 2 + length


STANDARD = {}
for marker, body in segments(pillow(Image.new("RGB", (16, 16)))):
    while marker == 0xC4 and body:
        n = sum(body[1:17])
        code, table = 0, {}
        symbols = iter(body[17 : 17 + n])
        for length, count in enumerate(body[1:17], 1):
            for _ in range(count):
                table[next(symbols)] = format(code, f"0{length}b")
                code += 1
            code <<= 1
        STANDARD[body[0]] = (body[: 17 + n], table)
        body = body[17 + n :]

ZIGZAG = sorted(range(64), key=lambda i: (i // 8 + i % 8, (i // 8 if (i // 8 + i % 8) % 2 else i % 8)))
u = np.arange(8)
DCT = np.sqrt(np.where(u == 0, 1, 2) / 8)[:, None] * np.cos((2 * u[None, :] + 1) * u[:, None] * np.pi / 16)


def size_bits(v):
    v = int(v)
    size = abs(v).bit_length()
    return size, format(v if v > 0 else v + (1 << size) - 1, f"0{size}b") if size else ""


def stuffed(bits):
    bits += "1" * (-len(bits) % 8)
    return bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)).replace(b"\xff", b"\xff\0")


def jpeg(width, height, factors, scans=None, step=6, progressive=False, restart=0, extra=b"", ids=None, wide=False, tables=True):
    """`factors`: (h, v) of each component. `scans`: which components each scan has; all at once where not given. Progressive: a scan of all
    first coefficients, then for each component the others in two. `restart`: MCUs between markers."""
    n = len(factors)
    ids = ids or list(range(1, n + 1))
    h_max, v_max = max(h for h, _ in factors), max(v for _, v in factors)
    across, down = -(-width // (8 * h_max)), -(-height // (8 * v_max))
    a = picture(width, height, n).astype(np.float64).reshape(height, width, n)
    a = np.pad(a, ((0, down * 8 * v_max - height), (0, across * 8 * h_max - width), (0, 0)), mode="edge")
    quant = np.clip(step * (1 + np.add.outer(u, u) / 3), 1, 255).astype(int).reshape(64)
    coefficients = []
    for c, (h, v) in enumerate(factors):
        p = a[:, :, c].reshape(down * 8 * v, v_max // v, across * 8 * h, h_max // h).mean((1, 3)) - 128
        b = p.reshape(down * v, 8, across * h, 8).transpose(0, 2, 1, 3)
        d = np.rint((DCT @ b @ DCT.T).reshape(down * v, across * h, 64) / quant).astype(int)
        coefficients.append(d[..., ZIGZAG])

    def block(c, z, last, first, final):
        dc, ac = STANDARD[0x00 if c == 0 else 0x01][1], STANDARD[0x10 if c == 0 else 0x11][1]
        bits = ""
        if first == 0:
            size, tail = size_bits(z[0] - last[c])
            bits, last[c] = dc[size] + tail, z[0]
        run = 0
        for k in range(max(first, 1), final + 1):
            if z[k] == 0:
                run += 1
                continue
            while run > 15:
                bits, run = bits + ac[0xF0], run - 16
            size, tail = size_bits(z[k])
            bits, run = bits + ac[run << 4 | size] + tail, 0
        return bits + (ac[0] if run and final else "")

    def scan(members, first, final):
        mcus = []
        if len(members) == 1:
            (c,) = members
            h, v = factors[c]
            wide_, high = -(-(-(-width * h // h_max)) // 8), -(-(-(-height * v // v_max)) // 8)
            mcus = [[(c, y, x)] for y in range(high) for x in range(wide_)]
        else:
            for y in range(down):
                for x in range(across):
                    mcus.append([(c, y * factors[c][1] + j, x * factors[c][0] + i) for c in members for j in range(factors[c][1]) for i in range(factors[c][0])])
        head = bytes([len(members)]) + b"".join(bytes([ids[c], 0x00 if c == 0 else 0x11]) for c in members)
        out = segment(0xDA, head + bytes([first, final, 0]))
        pieces = [mcus[i : i + restart] for i in range(0, len(mcus), restart)] if restart else [mcus]
        for i, piece in enumerate(pieces):
            last = [0] * n
            out += bytes([0xFF, 0xD0 + (i - 1) % 8]) if i else b""
            out += stuffed("".join(block(c, coefficients[c][y, x], last, first, final) for mcu in piece for c, y, x in mcu))
        return out

    body = b"".join(int(quant[i]).to_bytes(2 if wide else 1, "big") for i in ZIGZAG)
    frame = bytes([8]) + height.to_bytes(2, "big") + width.to_bytes(2, "big") + bytes([n])
    frame += b"".join(bytes([i, h << 4 | v, 0]) for i, (h, v) in zip(ids, factors))
    out = b"\xff\xd8" + extra + segment(0xDB, bytes([0x10 if wide else 0]) + body) + segment(0xC2 if progressive else 0xC0, frame)
    out += b"".join(segment(0xC4, t) for t, _ in STANDARD.values()) if tables else b""
    out += segment(0xDD, restart.to_bytes(2, "big")) if restart else b""
    if progressive:
        out += scan(range(n), 0, 0) + b"".join(scan([c], lo, hi) for lo, hi in ((1, 5), (6, 63)) for c in range(n))
    else:
        out += b"".join(scan(s, 0, 63) for s in (scans or [range(n)]))
    return out + b"\xff\xd9"


JFIF = segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")


def adobe(transform):
    return segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([transform]))


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for f in OUT.glob("*"):
        f.unlink()
    soft = Image.fromarray(picture(53, 45))
    for quality in (1, 10, 50, 75, 90, 100):
        case(f"quality-{quality}.jpg", pillow(soft, quality=quality))
    for name, factor in (("444", 0), ("422", 1), ("420", 2)):
        for width, height in ((1, 1), (3, 2), (4, 5), (5, 17), (16, 16), (33, 31), (47, 15)):
            case(f"{name}-{width}x{height}.jpg", pillow(Image.fromarray(picture(width, height)), quality=85, subsampling=factor))
        case(f"{name}-progressive.jpg", pillow(soft, quality=85, subsampling=factor, progressive=True))
        case(f"{name}-restart.jpg", pillow(soft, quality=85, subsampling=factor, restart_marker_blocks=2, optimize=True))
        case(f"{name}-progressive-restart.jpg", pillow(soft, quality=95, subsampling=factor, progressive=True, restart_marker_blocks=3))
    for mode, channels in (("L", 1), ("CMYK", 4)):
        image = soft.convert("L") if channels == 1 else Image.fromarray(picture(37, 29, 4), "CMYK")
        case(f"{mode.lower()}.jpg", pillow(image, quality=85))
        case(f"{mode.lower()}-progressive.jpg", pillow(image, quality=85, progressive=True))
    case("rgb.jpg", pillow(soft, quality=85, keep_rgb=True))
    ycck = bytearray(pillow(Image.fromarray(picture(37, 29, 4), "CMYK"), quality=85))
    ycck[ycck.index(b"Adobe") + 11] = 2
    case("ycck.jpg", bytes(ycck))

    one = (1, 1)
    samplings = {
        "440": [(1, 2), one, one],
        "411": [(4, 1), one, one],
        "410": [(4, 2), one, one],
        "441": [(1, 4), one, one],
        "three": [(3, 1), one, one],
        "mixed": [(2, 2), (2, 1), (1, 2)],
        "fine-chroma": [one, (2, 2), (1, 2)],
        "422-in-halves": [(2, 2), (1, 2), (1, 2)],
        "444-in-fours": [(2, 2)] * 2 + [(1, 1)],
    }
    for name, factors in samplings.items():
        for width, height in ((37, 41), (5, 3), (6, 50)):
            case(f"{name}-{width}x{height}.jpg", jpeg(width, height, factors))
        case(f"{name}-progressive.jpg", jpeg(35, 27, factors, progressive=True))
        case(f"{name}-apart.jpg", jpeg(35, 27, factors, scans=[[0], [1], [2]]))
    half = [(2, 2), one, one]
    case("420-in-two-scans.jpg", jpeg(35, 27, half, scans=[[1, 2], [0]], restart=2))
    case("420-apart-restart.jpg", jpeg(35, 27, half, scans=[[2], [0], [1]], restart=3))
    case("420-spectral-restart.jpg", jpeg(35, 27, half, progressive=True, restart=4))
    case("grey-2x2.jpg", jpeg(35, 27, [(2, 2)]))
    case("grey-2x2-progressive.jpg", jpeg(35, 27, [(2, 2)], progressive=True))
    case("wide-table.jpg", jpeg(35, 27, half, wide=True))
    case("no-huffman-tables.jpg", jpeg(35, 27, half, tables=False))
    three, four = [one] * 3, [one] * 4
    case("ids-rgb.jpg", jpeg(19, 17, three, ids=list(b"RGB")))
    case("ids-rgb-jfif.jpg", jpeg(19, 17, three, ids=list(b"RGB"), extra=JFIF))
    case("ids-other.jpg", jpeg(19, 17, three, ids=[7, 200, 0]))
    for transform in (0, 1, 2):
        case(f"adobe-{transform}.jpg", jpeg(19, 17, three, extra=adobe(transform)))
        case(f"adobe-{transform}-jfif.jpg", jpeg(19, 17, three, extra=JFIF + adobe(transform)))
        case(f"adobe-{transform}-four.jpg", jpeg(19, 17, four, extra=adobe(transform)))
    case("four.jpg", jpeg(19, 17, four))
    case("four-420.jpg", jpeg(35, 27, [(2, 2), one, one, (2, 2)], extra=adobe(2)))

    versions = {"pillow": PIL.__version__, "libjpeg_turbo": features.version("libjpeg_turbo")}
    (OUT / "cases.json").write_text(json.dumps({"made_by": "scripts/golden/jpeg.py", "versions": versions, "cases": cases}, indent=1) + "\n")
    print(len(cases), "cases,", sum(f.stat().st_size for f in OUT.iterdir()) // 1000, "kB")


main()
