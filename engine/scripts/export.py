#!/usr/bin/env python3
"""Writes torchvision's (or, with `timm:` before the name, timm's) classifiers as ONNX, with seeded random weights, for `cargo run --example check`.

    export.py FOLDER [NAME...]        (needs torch, torchvision and onnx, and timm for its own)

Every graph has the outputs `logits` and `embedding` (what goes into the last linear layer), and a batch size that is a symbol. Weights are random but
not naive: batch-norm statistics are measured on random pictures, so that values stay of one order through the deepest network.
"""

import pathlib
import sys

import torch
import torchvision

NETWORKS = """resnet18 resnet50 vgg16 mobilenet_v2 efficientnet_b0 densenet121 convnext_tiny squeezenet1_1 shufflenet_v2_x1_0 regnet_y_400mf
mnasnet1_0 googlenet vit_b_16 mobilenet_v3_small inception_v3""".split()


class WithEmbedding(torch.nn.Module):
    """A classifier that also returns the input of its last linear (or, for SqueezeNet, pooling) layer."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.seen = None
        linear = [m for m in net.modules() if isinstance(m, torch.nn.Linear) and m.out_features == 1000]
        if linear:
            linear[-1].register_forward_pre_hook(lambda _, args: setattr(self, "seen", args[0]))

    def forward(self, image):
        logits = self.net(image)
        return (logits, self.seen) if self.seen is not None else (logits, logits * 1.0)


def build(name):
    torch.manual_seed(20 + len(name))
    extra = {"init_weights": True, "aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    if name.startswith("timm:"):
        import timm

        net = timm.create_model(name.removeprefix("timm:"), pretrained=False, exportable=True)
    else:
        net = torchvision.models.get_model(name, weights=None, **extra)
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.uniform_(norm.bias, -0.5, 0.5)
        norm.momentum = None
    side = 299 if name == "inception_v3" else 224
    if norms:
        net.train()
        with torch.no_grad():
            net(torch.randn(4, 3, side, side))
    return WithEmbedding(net.eval()).eval(), side


def main():
    torch.backends.mha.set_fastpath_enabled(False)
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[2:] or NETWORKS:
        target = folder / f"{name.removeprefix('timm:')}.onnx"
        if target.exists():
            continue
        net, side = build(name)
        axes = {"input": {0: "N"}, "logits": {0: "N"}, "embedding": {0: "N"}}
        with torch.no_grad():
            torch.onnx.export(net, (torch.randn(2, 3, side, side),), str(target), input_names=["input"], output_names=["logits", "embedding"],
                              dynamic_axes=axes, opset_version=17, dynamo=False)
        print(target, flush=True)


if __name__ == "__main__":
    main()
