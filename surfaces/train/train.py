#!/usr/bin/env python3
"""Trains the bundled ResNet-50 on drawn pictures of surfaces, and writes it as a model folder.

    cargo build --release -p lakelens-surfaces
    python surfaces/train/train.py OUT                      the real run: less than an hour on two cores that are idle
    python surfaces/train/train.py OUT2 --from OUT/checkpoint.pt --start 186000 --rate 0.03 --plan 192x9600/32
                                                            and then, on pictures nearly as large as those that it will see
    python surfaces/train/train.py OUT --smoke              4 classes in 3 minutes, to see that everything works
    python surfaces/train/train.py OUT --export             writes the folder again from the last checkpoint in OUT

Needs torch, torchvision and onnx. Pictures come from `surfaces stream` through a pipe, each drawn once and seen once: there is no data set to store, and
none to overfit to. They grow as training goes on (progressive resizing, as in fast.ai's ImageNet entries to DAWNBench, 2018): what a texture is, is learnt cheaply on
small ones. The learning rate rises and falls once (Smith and Topin, *Super-Convergence*, 2018). OUT gets `train.log`, `checkpoint.pt` and, at the end,
`model.onnx`, `labels.txt` and `model.yaml`. The same seed on the same machine gives nearly the same network: sums of several threads differ in the last bits.
"""

import argparse
import json
import math
import pathlib
import queue
import struct
import subprocess
import sys
import threading
import time

import numpy as np
import torch
import torchvision

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import export

ROOT = pathlib.Path(__file__).resolve().parents[2]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Side of the pictures, how many of them, and how many in a batch. Labels are learnt on small ones.
PLAN = "64x72000/64,96x64000/64,128x40000/64"
SMOKE = "64x6400/32,96x1600/32"


class Stream:
    """Batches of pictures from `surfaces stream`, read ahead by a thread of its own."""

    def __init__(self, args, side, count, start, seed, augment, batch):
        command = [args.surfaces, "stream", "--side", side, "--count", count, "--start", start, "--seed", seed, "--threads", 1]
        command += ["--augment"] * augment + (["--classes", args.classes] if args.classes else [])
        self.process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        read = self.read
        magic, self.side, classes, _, self.count = struct.unpack("<8sIIQQ", read(32))
        assert magic == b"LKSURF01" and self.side == side, "not the stream that was asked for"
        self.labels = [read(struct.unpack("<H", read(2))[0]).decode() for _ in range(classes)]
        self.batch, self.ahead = batch, queue.Queue(4)
        threading.Thread(target=self.fill, daemon=True).start()

    def read(self, count):
        data = self.process.stdout.read(count)
        if len(data) != count:
            raise EOFError(f"surfaces ended with {self.process.wait()} before the stream did")
        return data

    def fill(self):
        picture = 2 + 3 * self.side**2
        try:
            for first in range(0, self.count, self.batch):
                count = min(self.batch, self.count - first)
                data = np.frombuffer(self.read(count * picture), np.uint8).reshape(count, picture)
                pixels = torch.from_numpy(data[:, 2:].reshape(count, self.side, self.side, 3).copy())
                self.ahead.put((pixels, torch.from_numpy(data[:, :2].copy().view("<u2").astype(np.int64)[:, 0])))
            self.ahead.put(None)
        except Exception as error:  # what went wrong belongs to whoever waits for the batch
            self.ahead.put(error)

    def __iter__(self):
        while (batch := self.ahead.get()) is not None:
            if isinstance(batch, Exception):
                raise batch
            yield batch


def tensor(pixels):
    """`[n, side, side, 3]` bytes as the network takes them, channels last in memory."""
    scaled = (pixels.float() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    return scaled.permute(0, 3, 1, 2)


def build(classes):
    net = torchvision.models.resnet50(weights=None, num_classes=classes, zero_init_residual=True)
    return net.to(memory_format=torch.channels_last)


def loss_of(net, pixels, labels, args):
    with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
        logits = net(tensor(pixels))
    return torch.nn.functional.cross_entropy(logits.float(), labels, label_smoothing=args.smoothing), logits


def accuracy(net, args, side, count, augment=False):
    """Share of freshly drawn pictures that it is right on; none of them was trained on, for the seed is another."""
    net.eval()
    right = total = 0
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
        for pixels, labels in Stream(args, side, count, 0, args.seed + 1, augment, 32):
            right += (net(tensor(pixels)).argmax(1) == labels).sum().item()
            total += len(labels)
    net.train()
    return right / total


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--surfaces", default=ROOT / "target/release/surfaces", help="the program that draws")
    parser.add_argument("--classes", help="as in `surfaces stream`; all where not given")
    parser.add_argument("--plan", default=PLAN, help="SIDExCOUNT/BATCH, in turn")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--rate", type=float, default=0.08, help="the highest learning rate, for a batch of 64")
    parser.add_argument("--decay", type=float, default=5e-5)
    parser.add_argument("--smoothing", type=float, default=0.05)
    parser.add_argument("--threads", type=int, default=0, help="0 for all cores")
    parser.add_argument("--f32", dest="bf16", action="store_false", help="no bf16, on a processor without its instructions")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--from", dest="begin", type=pathlib.Path, metavar="CHECKPOINT", help="go on from these weights, with a plan and a rate of its own")
    parser.add_argument("--start", type=int, default=0, help="number of the first picture: with --from, that of those which were seen already")
    parser.add_argument("--export", action="store_true", help="train nothing")
    args = parser.parse_args()
    if args.smoke:
        args.plan, args.classes = SMOKE, args.classes or "4"
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    checkpoint = args.out / "checkpoint.pt"
    if args.export:
        kept = torch.load(checkpoint, weights_only=True)
        net = build(len(kept["labels"]))
        net.load_state_dict(kept["net"])
        return export.write(net.eval(), kept["labels"], args.out)

    log = (args.out / "train.log").open("w")

    def say(**what):
        line = json.dumps({"minutes": round((time.monotonic() - begun) / 60, 2), **what})
        print(line, flush=True)
        print(line, file=log, flush=True)

    stages = [tuple(map(int, stage.replace("x", "/").split("/"))) for stage in args.plan.split(",")]
    total = sum(count for _, count, _ in stages)
    begun, seen, kept_at = time.monotonic(), 0, time.monotonic()
    net = optimizer = None
    say(plan=args.plan, seed=args.seed, rate=args.rate, decay=args.decay, smoothing=args.smoothing, bf16=args.bf16, torch=torch.__version__)
    for side, count, batch in stages:
        stream = Stream(args, side, count, args.start + seen, args.seed, True, batch)
        if net is None:
            net = build(len(stream.labels)).train()
            if args.begin:
                net.load_state_dict(torch.load(args.begin, weights_only=True)["net"])
            bare = [p for p in net.parameters() if p.ndim == 1]
            rest = [p for p in net.parameters() if p.ndim > 1]
            # Normalisations and biases are not pulled to zero.
            groups = [{"params": rest, "weight_decay": args.decay}, {"params": bare, "weight_decay": 0.0}]
            optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True)
        right = losses = pictures = 0
        since, lap = time.monotonic(), seen
        for pixels, labels in stream:
            done = seen / total
            # Up over the first twentieth, then down as a cosine does.
            shape = done / 0.05 if done < 0.05 else 0.5 * (1 + math.cos(math.pi * (done - 0.05) / 0.95))
            for group in optimizer.param_groups:
                group["lr"] = args.rate * batch / 64 * max(shape, 1e-3)
            loss, logits = loss_of(net, pixels, labels, args)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            seen += len(labels)
            right += (logits.argmax(1) == labels).sum().item()
            losses += loss.item() * len(labels)
            pictures += len(labels)
            if time.monotonic() - since > 20:
                rate = (seen - lap) / (time.monotonic() - since)
                say(side=side, seen=seen, loss=round(losses / pictures, 4), right=round(right / pictures, 4), pictures_per_s=round(rate, 1))
                right = losses = pictures = 0
                since, lap = time.monotonic(), seen
            if time.monotonic() - kept_at > 120:
                torch.save({"net": net.state_dict(), "labels": stream.labels}, checkpoint)
                kept_at = time.monotonic()
        say(side=side, seen=seen, fresh=round(accuracy(net, args, side, 40 * len(stream.labels)), 4))
    torch.save({"net": net.state_dict(), "labels": stream.labels}, checkpoint)
    say(side=224, seen=seen, fresh=round(accuracy(net, args, 224, 40 * len(stream.labels)), 4))
    say(side=224, seen=seen, fresh_hard=round(accuracy(net, args, 224, 40 * len(stream.labels), True), 4))
    export.write(net.eval(), stream.labels, args.out)


if __name__ == "__main__":
    main()
