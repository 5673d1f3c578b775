#!/usr/bin/env python3
"""What torch says of a seeded ResNet-50: golden logits and embeddings for the test of the same name.

    lakelens model init resnet50 --seed 0 --out /tmp/resnet50
    python scripts/golden/resnet50.py /tmp/resnet50/model.onnx tests/golden/model/resnet50.json

The weights are read out of the ONNX file by name into torchvision's own ResNet-50, so torch runs its own network, not ours. The inputs are
made of integers and one exactly rounded division, so that any language makes the same. Needs torch, torchvision, onnx and numpy.
"""

import json
import sys

import numpy as np
import onnx
import onnx.numpy_helper
import torch
import torchvision


def inputs() -> np.ndarray:
    """[2, 3, 224, 224]: noise, and a gradient."""
    channel, y, x = np.meshgrid(np.arange(3), np.arange(224), np.arange(224), indexing="ij")
    i = (channel * 224 + y) * 224 + x
    noise = ((i * i * 31 + i * 17) % 2003).astype(np.float32) / np.float32(1001) - np.float32(1)
    gradient = ((2 * y + x + 85 * channel) % 512).astype(np.float32) / np.float32(128) - np.float32(2)
    return np.stack([noise, gradient])


def main() -> None:
    model, out = sys.argv[1:]
    weights = {
        t.name: torch.from_numpy(onnx.numpy_helper.to_array(t).copy()) for t in onnx.load(model).graph.initializer
    }
    network = torchvision.models.resnet50(weights=None, num_classes=len(weights["fc.bias"])).eval()
    lost = network.load_state_dict(weights, strict=False)
    assert not lost.unexpected_keys, lost.unexpected_keys
    assert all(k.endswith("num_batches_tracked") for k in lost.missing_keys), lost.missing_keys

    embeddings = []
    network.fc.register_forward_pre_hook(lambda _, args: embeddings.append(args[0]))
    with torch.no_grad():
        logits = network(torch.from_numpy(inputs()))
    # Seven significant digits hold the comparison's 1e-3 with room to spare.
    rounded = lambda t: [[float(f"{v:.7g}") for v in row] for row in t.tolist()]
    golden = {"torch": torch.__version__, "seed": 0, "logits": rounded(logits), "embedding": rounded(embeddings[0])}
    with open(out, "w") as f:
        json.dump(golden, f, separators=(",", ":"))
        f.write("\n")


if __name__ == "__main__":
    main()
