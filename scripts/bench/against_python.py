"""Lakelens beside a Python worker over onnxruntime, on the same servers, in turns: the ratio of images a second.

    eval "$(scripts/stack env)"; python scripts/bench/against_python.py [--images 200] [--rounds 3]

Needs boto3, confluent-kafka, numpy, pillow and onnxruntime, and target/release/lakelens. Broker and store share the cores with whoever is measured.
Both begin to count when they take their first message.
"""

import argparse
import io
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import uuid

import boto3
import botocore.config
import numpy as np
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = ROOT / "target/release/lakelens"
BROKERS = os.environ["KAFKA_BROKERS"]


def photo(n):
    rng = np.random.default_rng(n)
    y, x = np.mgrid[0:375, 0:500]
    waves = [np.sin(x / rng.uniform(5, 60) + rng.uniform(0, 6)) * np.cos(y / rng.uniform(5, 60)) for _ in range(3)]
    pixels = 128 + 80 * np.stack(waves, -1) + rng.normal(0, 12, (375, 500, 3))
    out = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=90)
    return out.getvalue()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    run = uuid.uuid4().hex[:8]
    s3 = boto3.client("s3", endpoint_url=os.environ["S3_ENDPOINT"], region_name="us-east-1", config=botocore.config.Config(s3={"addressing_style": "path"}))
    bucket = f"bench-{run}"
    s3.create_bucket(Bucket=bucket)
    for n in range(args.images):
        s3.put_object(Bucket=bucket, Key=f"{n:05}.jpg", Body=photo(n))
    topics = {name: f"bench-{name}-{run}" for name in ("refs", "labels", "embeddings", "dead")}
    admin = AdminClient({"bootstrap.servers": BROKERS})
    for future in admin.create_topics([NewTopic(t, 8, 1) for t in topics.values()]).values():
        future.result(30)
    producer = Producer({"bootstrap.servers": BROKERS})
    for n in range(args.images):
        producer.produce(topics["refs"], key=str(n), value=f"s3://{bucket}/{n:05}.jpg")
    producer.flush()
    ratios, ours, theirs = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([BINARY, "model", "init", "resnet50", "--out", f"{folder}/model"], check=True, stdout=subprocess.DEVNULL)
        for n in range(args.rounds):
            env = {**os.environ, "REFS_TOPIC": topics["refs"], "LABELS_TOPIC": topics["labels"], "EMBEDDINGS_TOPIC": topics["embeddings"], "DEAD_TOPIC": topics["dead"], "BUCKET": bucket, "MODEL": f"{folder}/model", "GROUP": f"{run}-{n}"}
            done = subprocess.run([BINARY, "run", ROOT / "pipelines/kafka-s3.yaml", "--max-items", str(args.images)], env=env, capture_output=True, text=True, check=True)
            ours.append(float(re.search(r"([\d.]+) images/s, [\d.]+ MB", done.stderr)[1]))
            command = [sys.executable, ROOT / "scripts/bench/python_worker.py", "--brokers", BROKERS, "--topic", topics["refs"], "--labels", topics["labels"], "--embeddings", topics["embeddings"], "--model", f"{folder}/model/model.onnx"]
            theirs.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["images_per_s"])
            ratios.append(ours[-1] / theirs[-1])
            print(f"round {n + 1}: lakelens {ours[-1]:.1f} images/s, python and onnxruntime {theirs[-1]:.1f}, ratio {ratios[-1]:.2f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
