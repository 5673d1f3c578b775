"""What scripts/torch-parity runs: the same network with the same seeded weights in torch and in lakelens, on the same pictures.

Weights are random (no hub is needed), but batch normalisations get statistics that a trained network could have, so that activations neither vanish nor
explode. Prints a line a network; ends with 1 if one differs.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import warnings

import numpy
import timm
import timm.data
import torch
import torchvision
from PIL import Image

ROOT = pathlib.Path(__file__).parents[2]
LAKELENS = ROOT / "target/release/lakelens"
PICTURES = 12
# Of the scores. Both compute in 32-bit floats, in other orders.
TOLERANCE = 1e-4

IMPORTED = ["resnet18", "resnet50", "resnet101"]
EXPORTED = [
    "torchvision:resnet34", "torchvision:resnext50_32x4d", "torchvision:vgg11_bn", "torchvision:densenet121", "torchvision:mobilenet_v2",
    "torchvision:mobilenet_v3_small", "torchvision:efficientnet_b0", "torchvision:squeezenet1_1", "torchvision:shufflenet_v2_x1_0", "torchvision:regnet_y_400mf",
    "torchvision:mnasnet1_0", "torchvision:convnext_tiny", "torchvision:vit_b_32", "torchvision:swin_t", "timm:resnet26d", "timm:ghostnet_100", "timm:repvgg_a0",
]


def pictures(folder):
    """Smooth noise with a random spectrum, of odd sizes: pictures that differ."""
    random = numpy.random.default_rng(5)
    for n in range(PICTURES):
        width, height = random.integers(240, 420, 2)
        grid = random.integers(0, 256, (int(random.integers(2, 12)), int(random.integers(2, 12)), 3), dtype=numpy.uint8)
        Image.fromarray(grid).resize((int(width), int(height)), Image.BICUBIC).save(folder / f"{n:02}.png")


def settle(model, side):
    """Statistics of batch normalisations from a pass over noise, as training would have left them."""
    model.train()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.reset_running_stats()
                module.momentum = None
        for n in range(2):
            model(torch.randn(8, 3, side, side, generator=torch.Generator().manual_seed(n)))
    return model.eval()


def preprocessing(model_yaml):
    """What the folder says, done by torchvision on Pillow."""
    line = next(line for line in model_yaml.read_text().splitlines() if line.startswith("preprocess: "))
    p = json.loads(line.removeprefix("preprocess: "))
    resize = p["resize"] if p["resize_mode"] == "short" else (p["resize"], p["resize"])
    transforms = torchvision.transforms
    mode = {"bilinear": transforms.InterpolationMode.BILINEAR, "bicubic": transforms.InterpolationMode.BICUBIC}[p["interpolation"]]
    return transforms.Compose([transforms.Resize(resize, mode), transforms.CenterCrop(p["crop"]), transforms.ToTensor(), transforms.Normalize(p["mean"], p["std"])])


def embedding_of(model, batch):
    """The input of the last linear or 1x1 layer, by torch."""
    last = [m for m in model.modules() if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d))][-1]
    seen = []
    handle = last.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    logits = model(batch)
    handle.remove()
    return logits, seen[-1]


def labels_by(folder, photos, out):
    # Whole scores, so that nothing is hidden in what was left out.
    command = [LAKELENS, "-q", "label", photos, "--model", folder, "--out", out, "--top-k", "5"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    found = [json.loads(line) for line in out.read_text().splitlines()]
    return {record["uri"].rsplit("/", 1)[1]: record for record in found}


def compare(name, model, folder, photos, scratch):
    transform = preprocessing(folder / "model.yaml")
    records = labels_by(folder, photos, scratch / "records.jsonl")
    names = (folder / "labels.txt").read_text().splitlines() if (folder / "labels.txt").exists() else None
    same, worst, cosine = 0, 0.0, 1.0
    for photo in sorted(photos.iterdir()):
        record = records[photo.name]
        with torch.no_grad():
            logits, embedding = embedding_of(model, transform(Image.open(photo).convert("RGB"))[None])
        scores = logits.softmax(1)[0].double().numpy()
        order = numpy.argsort(-scores)[:5]
        due = [names[i] if names else str(i) for i in order]
        found = [label["label"] for label in record["labels"]]
        worst = max(worst, max(abs(label["score"] - scores[label["index"]]) for label in record["labels"]))
        # Scores that are equal to within the tolerance may change places.
        apart = numpy.min(-numpy.diff(scores[numpy.argsort(-scores)[:6]]))
        same += found == due or apart < TOLERANCE
        a, b = numpy.array(record["embedding"]), embedding[0].flatten().double().numpy()
        if a.size == b.size:
            cosine = min(cosine, float(a @ b / numpy.linalg.norm(a) / numpy.linalg.norm(b)))
        else:
            cosine = float("nan")
    good = same == len(records) == PICTURES and worst < TOLERANCE and (cosine > 1 - 1e-5)
    print(f"{name:<32} {same:>2} of {PICTURES} pictures with torch's 5 labels, scores within {worst:.1e}, least cosine of the embedding {cosine:.6f}{'' if good else '   DIFFERS'}", flush=True)
    return good


def imported(name, photos, scratch):
    from safetensors.torch import save_file

    torch.manual_seed(3)
    model = settle(torchvision.models.get_model(name), 96)
    weights, folder = scratch / f"{name}.safetensors", scratch / name
    save_file(model.state_dict(), weights)
    labels = scratch / "labels.txt"
    labels.write_text("".join(f"label {i}\n" for i in range(1000)))
    subprocess.run([LAKELENS, "model", "import", weights, "--arch", name, "--labels", labels, "--out", folder], check=True, capture_output=True, text=True)
    return compare(f"import {name}", model, folder, photos, scratch)


def exported(name, photos, scratch):
    """The tool's own functions, between which the network's statistics are settled."""
    sys.path.insert(0, str(ROOT / "tools"))
    import export_torch

    library, _, short = name.partition(":")
    torch.manual_seed(3)
    model, labels, preprocess = {"torchvision": export_torch.of_torchvision, "timm": export_torch.of_timm}[library](short, "none", None)
    model = settle(model, preprocess["crop"])
    folder = scratch / name.replace(":", "-")
    export_torch.export(model, labels, preprocess, short, folder)
    return compare(name, model, folder, photos, scratch)


def main():
    warnings.filterwarnings("ignore")
    wanted, good = sys.argv[1:], True
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        photos = scratch / "photos"
        photos.mkdir()
        pictures(photos)
        print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, timm {timm.__version__}")
        for names, run in [(IMPORTED, imported), (EXPORTED, exported)]:
            for name in names:
                if not wanted or name in wanted:
                    try:
                        good &= run(name, photos, scratch)
                    except subprocess.CalledProcessError as error:
                        print(f"{name:<32} lakelens: {error.stderr.strip()}   DIFFERS", flush=True)
                        good = False
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
