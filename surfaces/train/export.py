"""Writes a trained torchvision ResNet as a model folder: ONNX with weights of 8 bits a channel, labels, description."""

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

DESCRIPTION = """# Trained on drawn pictures of surfaces by surfaces/train/train.py.
version: 1
name: surfaces-resnet50
graph: model.onnx
labels: labels.txt
preprocess: { resize: 256, resize_mode: short, crop: 224, interpolation: bilinear, channels: rgb, scale: 255,
              mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] }
outputs: { logits: logits, embedding: embedding, activation: softmax }
"""


class WithEmbedding(torch.nn.Module):
    """Logits, and what goes into the last layer."""

    def __init__(self, net):
        super().__init__()
        self.net, self.last = net, net.fc
        net.fc = torch.nn.Identity()

    def forward(self, image):
        embedding = self.net(image)
        return self.last(embedding), embedding


def in_bytes(model):
    """Stores every weight of more than one axis as whole numbers from -127 to 127, times a step for each output channel. Activations stay floats: it is
    the same network but for the rounding of its weights, in a quarter of the bytes."""
    graph = model.graph
    kept, made, nodes = [], [], []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.ndim < 2 or values.dtype != np.float32:
            kept.append(tensor)
            continue
        rows = values.reshape(len(values), -1)
        steps = np.maximum(np.abs(rows).max(1), 1e-12).astype(np.float32) / 127
        whole = np.clip(np.rint(rows / steps[:, None]), -127, 127).astype(np.int8).reshape(values.shape)
        name = tensor.name
        made += [numpy_helper.from_array(whole, f"{name}.int8"), numpy_helper.from_array(steps, f"{name}.step")]
        made.append(helper.make_tensor(f"{name}.zero", TensorProto.INT8, [len(steps)], np.zeros(len(steps), np.int8).tobytes(), raw=True))
        inputs = [f"{name}.int8", f"{name}.step", f"{name}.zero"]
        nodes.append(helper.make_node("DequantizeLinear", inputs, [name], name=f"{name}.floats", axis=0))
    after = nodes + list(graph.node)
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept + made)
    graph.node.extend(after)


def write(net, labels, folder):
    net = WithEmbedding(net).eval().to(memory_format=torch.contiguous_format)
    path = folder / "model.onnx"
    names = dict(input_names=["input"], output_names=["logits", "embedding"])
    with torch.no_grad():
        torch.onnx.export(net, torch.zeros(1, 3, 224, 224), path, opset_version=17, dynamo=False, do_constant_folding=True,
                          dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}, "embedding": {0: "batch"}}, **names)
    model = onnx.load(path)
    in_bytes(model)
    model.producer_name, model.producer_version = "lakelens surfaces/train", ""
    onnx.checker.check_model(model)
    onnx.save(model, path)
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in labels))
    (folder / "model.yaml").write_text(DESCRIPTION)
    print(f"wrote {folder}: {path.stat().st_size / 1e6:.2f} MB")
