"""A bucket of drawn photographs and a topic of references to them, for the benchmarks that need servers."""

import io
import os
import pathlib
import re
import subprocess
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


class Lake:
    def __init__(self, images, model_folder):
        self.images, self.model, self.name = images, model_folder, uuid.uuid4().hex[:8]
        s3 = boto3.client("s3", endpoint_url=os.environ["S3_ENDPOINT"], region_name="us-east-1", config=botocore.config.Config(s3={"addressing_style": "path"}))
        self.bucket = f"bench-{self.name}"
        s3.create_bucket(Bucket=self.bucket)
        for n in range(images):
            s3.put_object(Bucket=self.bucket, Key=f"{n:05}.jpg", Body=photo(n))
        self.topics = {name: f"bench-{name}-{self.name}" for name in ("refs", "labels", "embeddings", "dead")}
        admin = AdminClient({"bootstrap.servers": BROKERS})
        for future in admin.create_topics([NewTopic(t, 8, 1) for t in self.topics.values()]).values():
            future.result(30)
        producer = Producer({"bootstrap.servers": BROKERS})
        for n in range(images):
            producer.produce(self.topics["refs"], key=str(n), value=f"s3://{self.bucket}/{n:05}.jpg")
        producer.flush()
        subprocess.run([BINARY, "model", "init", "resnet50", "--out", model_folder], check=True, stdout=subprocess.DEVNULL)

    def worker(self, pipeline, group):
        """Images a second of one worker that takes every reference, as its summary says."""
        topics = {f"{name.upper()}_TOPIC": topic for name, topic in self.topics.items()}
        env = {**os.environ, **topics, "BUCKET": self.bucket, "MODEL": self.model, "GROUP": f"{self.name}-{group}"}
        done = subprocess.run([BINARY, "run", pipeline, "--max-items", str(self.images)], env=env, capture_output=True, text=True, check=True)
        return float(re.search(r"([\d.]+) images/s, [\d.]+ MB", done.stderr)[1])
