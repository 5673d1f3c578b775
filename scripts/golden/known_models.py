#!/usr/bin/env python3
"""Holds the table of known models (src/hub/known.rs) and the names of the classes beside it against an installed torchvision.

    lakelens model pull --list --json > /tmp/known.json
    python scripts/golden/known_models.py /tmp/known.json src/hub/imagenet1k.txt

Ends with code 1 and says what differs. Needs torch and torchvision.
"""

import json
import os
import sys

import torchvision
from torchvision.models import get_model_weights
from torchvision.models._meta import _IMAGENET_CATEGORIES


def main() -> None:
    with open(sys.argv[1]) as file:
        table = json.load(file)
    with open(sys.argv[2]) as file:
        labels = file.read().splitlines()
    wrong = [] if labels == list(_IMAGENET_CATEGORIES) else ["the names of the classes"]
    seen = set()
    for known in table:
        weights = get_model_weights(known["arch"])[known["weights"]]
        seen.add((known["arch"], known["weights"]))
        transforms, metrics = weights.transforms(), weights.meta["_metrics"]["ImageNet-1K"]
        state = {
            "url": weights.url,
            "sha256_prefix": os.path.splitext(weights.url)[0].rsplit("-", 1)[1],
            "mebibytes": weights.meta["_file_size"],
            "accuracy_1": metrics["acc@1"],
            "accuracy_5": metrics["acc@5"],
            "resize": transforms.resize_size[0],
            "crop": transforms.crop_size[0],
            "interpolation": transforms.interpolation.value,
            "mean": transforms.mean,
            "std": transforms.std,
        }
        if transforms.antialias is not True or weights.meta["categories"] != _IMAGENET_CATEGORIES:
            wrong.append(f"{known['name']}: antialias or classes")
        for field, value in state.items():
            mine = known[field]
            same = [round(v, 6) for v in mine] == value if isinstance(value, list) else mine == value
            if not same:
                wrong.append(f"{known['name']}: {field} is {mine}, torchvision says {value}")
        if known["name"] == known["arch"] and weights != get_model_weights(known["arch"]).DEFAULT:
            wrong.append(f"{known['name']}: torchvision's default is another")
    for arch in ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]:
        for weights in get_model_weights(arch):
            if (arch, weights.name) not in seen:
                wrong.append(f"{arch}: {weights.name} is missing")
    print("\n".join(wrong) or f"{len(table)} models are as torchvision {torchvision.__version__} has them")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
