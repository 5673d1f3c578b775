#!/usr/bin/env python3
"""Writes a model folder for Lakelens (model.onnx, labels.txt, model.yaml) from an image classifier of torchvision or timm.

    pip install torch torchvision onnx            # and timm, for its networks
    python tools/export_torch.py torchvision:efficientnet_b0 --out models/efficientnet_b0
    python tools/export_torch.py torchvision:resnet50 --weights IMAGENET1K_V1 --out models/resnet50
    python tools/export_torch.py timm:mobilenetv3_large_100.ra_in1k --out models/mobilenetv3
    python tools/export_torch.py torchvision:convnext_tiny --state mine.pth --classes classes.txt --out models/mine

Labels and preprocessing come with the weights. A state dictionary of one's own (--state) takes the preprocessing of the architecture's default weights; change
model.yaml where it was trained with another. A ResNet needs none of this: see `lakelens model import`.
"""

import argparse
import json
import math
import pathlib
import sys


def interpolation(name):
    """`bilinear` or `bicubic`, however it is written; Lakelens has no other."""
    name = str(name).split(".")[-1].lower()
    if name not in ("bilinear", "bicubic"):
        sys.exit(f"the weights resize with {name!r}, which Lakelens does not know; it knows bilinear and bicubic")
    return name


def of_torchvision(name, weights, classes):
    import torchvision

    known = torchvision.models.get_model_weights(name)
    chosen = known[weights] if weights not in (None, "none") else known.DEFAULT
    model = torchvision.models.get_model(name, weights=chosen if weights != "none" else None, **({"num_classes": classes} if classes else {}))
    transforms = chosen.transforms()
    if not hasattr(transforms, "crop_size"):
        sys.exit(f"{name} has other transforms than a classifier's: {transforms}")
    preprocess = {
        "resize": transforms.resize_size[0],
        "resize_mode": "short",
        "crop": transforms.crop_size[0],
        "interpolation": interpolation(transforms.interpolation),
        "mean": list(transforms.mean),
        "std": list(transforms.std),
    }
    return model, chosen.meta["categories"], preprocess


def of_timm(name, weights, classes):
    import timm
    import timm.data

    model = timm.create_model(name, pretrained=weights != "none", **({"num_classes": classes} if classes else {}))
    config = timm.data.resolve_data_config({}, model=model)
    side, mode = config["input_size"][-1], config.get("crop_mode", "center")
    if mode not in ("center", "squash"):
        sys.exit(f"{name} crops in the mode {mode!r}, which Lakelens does not know; it knows center and squash")
    preprocess = {
        "resize": math.floor(side / config["crop_pct"]),
        "resize_mode": "short" if mode == "center" else "exact",
        "crop": side,
        "interpolation": interpolation(config["interpolation"]),
        "mean": list(config["mean"]),
        "std": list(config["std"]),
    }
    try:
        info = timm.data.ImageNetInfo(timm.data.infer_imagenet_subset(model))
        labels = [info.index_to_description(i) for i in range(info.num_classes())]
    except Exception:  # not a network of ImageNet's classes
        labels = None
    return model, labels, preprocess


def load_state(model, path):
    import torch

    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        state = load_file(path)
    else:
        state = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(state.get("state_dict", state))


def export(model, labels, preprocess, name, out):
    import torch

    out.mkdir(parents=True, exist_ok=True)
    side = preprocess["crop"]
    picture = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    model.eval()
    with torch.no_grad():
        logits = model(picture)
        if labels is not None and logits.shape[1] != len(labels):
            sys.exit(f"the network has {logits.shape[1]} logits and {len(labels)} labels; give the right ones with --classes")
        torch.onnx.export(
            model, picture[:1], str(out / "model.onnx"), dynamo=False, opset_version=17, input_names=["input"], output_names=["logits"],
            dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
        )
    lines = ["version: 1", f"name: {name}", "graph: model.onnx"]
    if labels is not None:
        (out / "labels.txt").write_text("".join(" ".join(label.split()) + "\n" for label in labels), encoding="utf-8")
        lines.append("labels: labels.txt")
    lines += [f"preprocess: {json.dumps(preprocess)}", "outputs: { logits: logits, activation: softmax }"]
    (out / "model.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"wrote {out}: {logits.shape[1]} classes, pictures of {side} pixels\nnext  lakelens model inspect {out}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="torchvision:NAME or timm:NAME")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the model folder to write")
    parser.add_argument("--weights", help="torchvision: which of its weights, as IMAGENET1K_V1 (default: the best); none: random ones")
    parser.add_argument("--state", type=pathlib.Path, help="a state dictionary of one's own: .pth or .safetensors")
    parser.add_argument("--classes", type=pathlib.Path, help="names of the classes, one a line")
    parser.add_argument("--seed", type=int, default=0, help="of random weights")
    args = parser.parse_args()
    if args.state and args.weights:
        parser.error("--state brings its own weights; leave --weights out")
    library, _, name = args.model.partition(":")
    makers = {"torchvision": of_torchvision, "timm": of_timm}
    if library not in makers or not name:
        parser.error("write torchvision:NAME or timm:NAME")
    if (args.out / "model.yaml").exists():
        parser.error(f"{args.out} has a model.yaml already; give another folder")

    import torch

    torch.manual_seed(args.seed)
    classes = args.classes.read_text(encoding="utf-8").rstrip().splitlines() if args.classes else None
    weights = "none" if args.state else args.weights
    model, labels, preprocess = makers[library](name, weights, len(classes) if classes else None)
    if args.state:
        load_state(model, args.state)
    export(model, classes or labels, preprocess, "".join(c if c.isalnum() or c in "._-" else "-" for c in name), args.out)


if __name__ == "__main__":
    main()
