#!/usr/bin/env python3
"""Small files as torch writes them, for the tests of the reader in src/model/torch, and what is in them.

    python scripts/golden/torch_files.py tests/golden/torch

Every kind of file is written by the torch that runs this, and bears its version: run it with an old one and a new one. `hostile.pth` and
`hostile-old.pth` ask for `os.system` when they are loaded by Python's pickle; nothing here loads them. Needs torch.
"""

import collections
import io
import json
import os
import pickle
import sys
import zipfile

import torch


def tensors() -> collections.OrderedDict:
    base = torch.arange(24, dtype=torch.float32) / 8 - 1
    state = collections.OrderedDict()
    state["conv.weight"] = base.reshape(2, 3, 2, 2).clone()
    state["transposed"] = base.clone().reshape(4, 6).t()
    state["shared.a"] = base[:10]
    state["shared.b"] = base[4:12:2]
    state["parameter"] = torch.nn.Parameter(torch.tensor([0.5, -2.0]))
    state["bn.num_batches_tracked"] = torch.tensor(12345678901, dtype=torch.int64)
    state["half"] = torch.tensor([1.5, -0.25], dtype=torch.float16)
    state["bf16"] = torch.tensor([1.5, -0.25], dtype=torch.bfloat16)
    state["double"] = torch.tensor([[0.1]], dtype=torch.float64)
    state["bytes"] = torch.tensor([1, 255], dtype=torch.uint8)
    state["truth"] = torch.tensor([True, False])
    state["empty"] = torch.zeros(0, 3)
    state._metadata = collections.OrderedDict([("", {"version": 1})])
    return state


class Hostile:
    def __reduce__(self):
        return os.system, ("touch lakelens-was-here",)


def main() -> None:
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    version = torch.__version__.split("+")[0]
    state = tensors()
    torch.save(state, f"{out}/{version}.pth")
    torch.save(state, f"{out}/{version}-old.pth", _use_new_zipfile_serialization=False)
    torch.save(state, f"{out}/{version}-protocol4.pth", pickle_protocol=4)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.1, momentum=0.9)
    checkpoint = {"epoch": 3, "arch": "resnet50", "best_acc1": 0.5, "state_dict": state, "optimizer": optimizer.state_dict()}
    torch.save(checkpoint, f"{out}/{version}-checkpoint.pth")
    torch.save(torch.nn.Linear(2, 2), f"{out}/{version}-module.pth")
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), f"{out}/{version}-script.pt")
    expected = {}
    for name, tensor in state.items():
        values = tensor.detach().double() if tensor.is_floating_point() else tensor.long()
        expected[name] = {"kind": str(tensor.dtype), "dims": list(tensor.shape), "values": values.flatten().tolist()}
    with open(f"{out}/expected.json", "w") as file:
        json.dump(expected, file, indent=1)
        file.write("\n")
    with open(f"{out}/{version}.pth", "rb") as file:
        good = file.read()
    with zipfile.ZipFile(io.BytesIO(good)) as source, zipfile.ZipFile(f"{out}/hostile.pth", "w", zipfile.ZIP_STORED) as target:
        for item in source.infolist():
            hostile = item.filename.endswith("/data.pkl")
            target.writestr(item.filename, pickle.dumps({"fc.weight": Hostile()}, protocol=2) if hostile else source.read(item))
    with open(f"{out}/{version}-old.pth", "rb") as file:
        head = file
        for _ in range(3):
            pickle.load(head)
        begin = head.tell()
        head.seek(0)
        old = head.read(begin)
    with open(f"{out}/hostile-old.pth", "wb") as file:
        file.write(old + pickle.dumps({"fc.weight": Hostile()}, protocol=2) + pickle.dumps([], protocol=2))


if __name__ == "__main__":
    main()
