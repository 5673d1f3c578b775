"""The lake of the suite: pictures in a bucket, the table of what is right for each, and a stream of references that never runs dry."""

import json
import pathlib
import random
import subprocess
import sys
import threading
import time

import confluent_kafka as ck

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/real"))
import pictures  # noqa: E402  the pictures of the other tests

BUCKET = "lake"
GOOD = 40
BROKEN = "broken.jpg"
MISSING = "missing.jpg"


def objects():
    return [*pictures.good(GOOD), (BROKEN, b"no picture")]


def model(binary, folder):
    subprocess.run([binary, "model", "init", "tiny", "--seed", "7", "--out", folder / "tiny"], check=True, capture_output=True)
    return folder / "tiny"


def table(binary, folder):
    """What is right for each key, as the program says when it is asked for the pictures alone, one after the other and from a folder."""
    plain = folder / "pictures"
    plain.mkdir()
    good = [(key, body) for key, body in objects() if key != BROKEN]
    for n, (_, body) in enumerate(good):
        # A listing goes by the ending; the worker goes by the content.
        (plain / f"{n}.jpg").write_bytes(body)
    out = folder / "table.jsonl"
    subprocess.run([binary, "label", plain, "--model", folder / "tiny", "--out", out, "--batch", "1"], check=True, capture_output=True)
    keys = {BROKEN: {"reason": "unsupported_format"}, MISSING: {"reason": "not_found"}}
    for record in map(json.loads, out.read_text().splitlines()):
        top, key = record["labels"][0], good[int(pathlib.Path(record["source"]["key"]).stem)][0]
        keys[key] = {"label": top["index"], "score": top["score"], "embedding": record["embedding"]}
    assert len(keys) == GOOD + 2 and len({tuple(k["embedding"]) for k in keys.values() if "embedding" in k}) == GOOD
    whole = {"bucket": BUCKET, "keys": keys}
    (folder / "table.json").write_text(json.dumps(whole))
    return whole


class References:
    """Messages of one and of several items, of which the same seed gives the same."""

    def __init__(self, seed):
        self.rng, self.sent = random.Random(seed), 0
        self.keys = [key for key, _ in objects()]

    def message(self):
        items = []
        for n in range(self.rng.choice([1, 1, 1, 2, 5])):
            key = MISSING if self.rng.random() < 0.01 else self.rng.choice(self.keys)
            items.append({"bucket": BUCKET, "key": key, "id": f"{self.sent}-{n}"})
        self.sent += 1
        return json.dumps(items if len(items) > 1 else items[0], ensure_ascii=False).encode()

    def produce(self, cluster, topic, count, partitions):
        """So many messages, spread over the partitions; straight to the brokers, and again until they have them."""
        producer = ck.Producer({"bootstrap.servers": cluster.direct, "enable.idempotence": True, "linger.ms": 5, "log_level": 0})
        for n in range(count):
            producer.produce(topic, value=self.message(), partition=n % partitions)
        assert producer.flush(120) == 0, f"{topic}: messages could not be produced"


class Stream(threading.Thread):
    """Keeps `backlog` messages ahead of the group, so that every fault finds work in flight."""

    def __init__(self, cluster, topic, group, references, backlog):
        super().__init__(daemon=True)
        self.cluster, self.topic, self.group, self.references, self.backlog = cluster, topic, group, references, backlog
        self.over = threading.Event()
        self.lag = 0
        self.failed = None

    def run(self):
        while not self.over.wait(1):
            lag = self.cluster.lag(self.group, self.topic)
            if lag is None:
                continue
            self.lag = lag
            try:
                if lag < self.backlog:
                    self.references.produce(self.cluster, self.topic, self.backlog - lag, self.cluster.partitions(self.topic) or 1)
            except (AssertionError, ck.KafkaException, BufferError) as error:
                # What it did not get in is not part of the input: the verifier reads the topic.
                self.failed = str(error)
                time.sleep(1)

    def close(self):
        self.over.set()
        self.join(150)
