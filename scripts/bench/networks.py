#!/usr/bin/env python3
"""The table of networks: one core, an image a call, f32, beside the better of onnxruntime and OpenVINO and beside stock tract.

    python scripts/bench/networks.py FOLDER [--threads 1] [--precision f32,bf16] [--seconds 20] [GRAPH...]

Writes torchvision's networks to FOLDER where they are not there yet (needs torch, torchvision and onnx for that), and measures them, and every further
GRAPH or model folder (a quantised one in int8), with `lakelens bench engine --peers`, each in a process of its own (needs onnxruntime, openvino and numpy).
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
NETWORKS = "resnet50 vgg16 mobilenet_v2 efficientnet_b0 densenet121".split()


def precision_of(graph, args):
    file = graph / "model.onnx" if graph.is_dir() else graph
    return "int8" if file.exists() and b"DequantizeLinear" in file.read_bytes() else args.precision


def measured(graph, args):
    command = [args.lakelens, "-q", "bench", "engine", "--peers", "--json", "--batch", "1", "--model", graph]
    command += ["--threads", args.threads, "--precision", precision_of(graph, args), "--seconds", args.seconds]
    run = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, env={**os.environ, "LAKELENS_PYTHON": sys.executable})
    return json.loads(run.stdout)["networks"][0] if run.returncode == 0 else None


def best_peer(network, run):
    like = [p for p in network["peers"] if (p["precision"], p["threads"]) == (run["precision"], run["threads"])]
    return max(like, key=lambda p: p["images_per_s"], default=None)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("graphs", nargs="*", type=pathlib.Path)
    parser.add_argument("--threads", default="1")
    parser.add_argument("--precision", default="f32")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--lakelens", default=ROOT / "target/release/lakelens", type=pathlib.Path)
    args = parser.parse_args()
    graphs = [args.folder / f"{name}.onnx" for name in NETWORKS]
    missing = [graph.stem for graph in graphs if not graph.exists()]
    if missing:
        subprocess.run([sys.executable, ROOT / "engine/scripts/export.py", args.folder, *missing], check=True)
    print("| network | precision | threads | images/s | of peak | best peer | beside it | beside stock tract |\n|---|---|---|---|---|---|---|---|")
    failed = False
    for graph in graphs + args.graphs:
        network = measured(graph, args)
        if network is None:
            failed = True
            continue
        for run in network["runs"]:
            peer = best_peer(network, run)
            name, rate = graph.name if graph.is_dir() else graph.stem, f"{run['images_per_s']:.1f}"
            share = f"{run['share_of_peak']:.2f}" if run["share_of_peak"] else "-"
            theirs = f"{peer['runtime']} {peer['images_per_s']:.1f}, {peer['setting']}" if peer else "-"
            ratios = [f"{value:.2f}" if value else "-" for value in (run["over_best_peer"], run["over_tract"])]
            print("|", " | ".join([name, run["precision"], str(run["threads"]), rate, share, theirs, *ratios]), "|", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
