"""Resident memory of one worker over many pictures, hostile ones among them: the curve, and what the configuration promises beside it.

    python scripts/bench/memory.py [--images 100000] [--threads 2] [--memory 512MiB] [--model DIR]

Needs numpy, pillow and target/release/lakelens. Without --model the network is `tiny`. The pictures are drawn: one in fifty is broken, and of these some
announce far more pixels or bytes than there are; one in five hundred is sound and 40 million pixels large, so that the budget is really used.
"""

import argparse
import io
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import time

import numpy as np
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/real"))
import pictures  # noqa: E402

BINARY = ROOT / "target/release/lakelens"
UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def resident(pid):
    """Of the worker and, less the program's own pages, which they share with it, of the processes that decode for it."""
    def field(process, name):
        return int(re.search(rf"{name}:\s+(\d+)", pathlib.Path(f"/proc/{process}/status").read_text())[1]) / 1024

    helpers = [int(child) for children in pathlib.Path(f"/proc/{pid}/task").glob("*/children") for child in children.read_text().split()]
    return field(pid, "VmRSS") + sum(field(helper, "RssAnon") for helper in helpers)


def lines_in(folder):
    return sum(path.read_bytes().count(b"\n") for path in folder.rglob("*.jsonl"))


def draw(folder):
    """Writes the pictures; returns the ordinary ones, the broken ones and the large ones."""
    ordinary, broken = [], []
    for n, (_, body) in enumerate(pictures.good(200, seed=5)):
        ordinary.append(folder / f"good-{n}")
        ordinary[-1].write_bytes(body)
    for n, (body, _) in enumerate(pictures.bad().values()):
        if body is not None:
            broken.append(folder / f"bad-{n}")
            broken[-1].write_bytes(body)
    broken.append(folder / "bad-huge")
    broken[-1].write_bytes(pictures.huge_png(60_000, 60_000))
    large = []
    for n, form in enumerate(["JPEG", "PNG", "WEBP"]):
        out = io.BytesIO()
        Image.fromarray(np.full((5000, 8000, 3), 40 * n + 20, np.uint8)).save(out, form)
        large.append(folder / f"large-{n}")
        large[-1].write_bytes(out.getvalue())
    return ordinary, broken, large


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", default="512MiB")
    parser.add_argument("--model")
    args = parser.parse_args()
    amount, unit = re.fullmatch(r"(\d+)(KiB|MiB|GiB)", args.memory).groups()
    budget = int(amount) * UNITS[unit] / 2**20
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch).resolve()
        (folder / "pictures").mkdir()
        model = args.model
        if model is None:
            model = folder / "model"
            subprocess.run([BINARY, "model", "init", "tiny", "--out", model], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        ordinary, broken, large = draw(folder / "pictures")
        rng = random.Random(7)
        with open(folder / "refs.txt", "w") as refs:
            for n in range(args.images):
                kind = large if n % 500 == 499 else broken if n % 50 == 49 else ordinary
                refs.write(f"file://{rng.choice(kind)}\n")
        pipeline = {
            "version": 1, "name": "memory", "memory": args.memory, "source": {"lines": {"path": str(folder / "refs.txt")}},
            "fetch": {"allow": {"file": [str(folder / "pictures")]}}, "model": {"path": str(model), "threads": args.threads},
            "sinks": [{"jsonl": {"path": str(folder / "out")}}, {"parquet": {"path": str(folder / "out")}}], "dead_letters": {"jsonl": str(folder / "dead")},
        }
        (folder / "pipeline.yaml").write_text(json.dumps(pipeline))
        log = open(folder / "log", "w")
        worker = subprocess.Popen([BINARY, "run", folder / "pipeline.yaml"], stdout=log, stderr=log)
        print(f"{'seconds':>8} {'pictures':>9} {'resident MiB':>13}")
        begun, curve, shown = time.monotonic(), [], 0
        while worker.poll() is None:
            time.sleep(0.25)
            try:
                curve.append(resident(worker.pid))
            except (FileNotFoundError, TypeError):
                break
            done = lines_in(folder / "out") + lines_in(folder / "dead") if len(curve) % 8 == 0 else 0
            if done >= shown + args.images // 20:
                shown = done
                print(f"{time.monotonic() - begun:8.0f} {done:9} {curve[-1]:13.0f}", flush=True)
        worker.wait()
        said = (folder / "log").read_text()
        outcomes = lines_in(folder / "out") + lines_in(folder / "dead")
        if worker.returncode or outcomes != args.images:
            sys.exit(f"the worker ended with code {worker.returncode} and {outcomes} of {args.images} outcomes:\n{said[-4000:]}")
        half = len(curve) // 2
        print(said[said.rfind("ledger"):].rstrip())
        print(f"highest of the first half {max(curve[:half]):.0f} MiB, of the second {max(curve[half:]):.0f} MiB; `memory` allows {budget:.0f} MiB beside the model")


if __name__ == "__main__":
    main()
