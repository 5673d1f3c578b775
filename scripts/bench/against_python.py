"""Lakelens beside a Python worker over onnxruntime, on the same servers, in turns: the ratio of images a second.

    eval "$(scripts/stack env)"; python scripts/bench/against_python.py [--images 200] [--rounds 3]

Needs boto3, confluent-kafka, numpy, pillow and onnxruntime, and target/release/lakelens. Broker and store share the cores with whoever is measured.
Both begin to count when they take their first message.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile

from lake import BROKERS, ROOT, Lake


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(args.images, f"{folder}/model")
        for n in range(args.rounds):
            ours = lake.worker(ROOT / "pipelines/kafka-s3.yaml", n)
            command = [sys.executable, ROOT / "scripts/bench/python_worker.py", "--brokers", BROKERS, "--topic", lake.topics["refs"], "--labels", lake.topics["labels"], "--embeddings", lake.topics["embeddings"], "--model", f"{lake.model}/model.onnx"]
            theirs = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["images_per_s"]
            ratios.append(ours / theirs)
            print(f"round {n + 1}: lakelens {ours:.1f} images/s, python and onnxruntime {theirs:.1f}, ratio {ratios[-1]:.2f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
