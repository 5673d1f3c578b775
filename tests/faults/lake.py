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
import pictures  # noqa: E402  those of the tests against one broker

BUCKET = "lake"
GOOD = 40
BROKEN = "broken.jpg"
MISSING = "missing.jpg"
#: Pictures on which the process that decodes them crashes, hangs, or takes all the memory it gets (`failpoint::poison`), and what they are rejected as.
POISON = {"abort": "crashed", "memory": "crashed", "hang": "decode_timeout"}


def poison(kind):
    return f"poison-{kind}.jpg"


def good():
    return list(pictures.good(GOOD))


def objects():
    jpeg = good()[0][1]
    return [*good(), (BROKEN, b"no picture"), *((poison(kind), jpeg + f"LAKELENS-POISON:{kind}".encode()) for kind in POISON)]


def model(binary, folder, kind="tiny"):
    """A network of this kind with seeded weights."""
    subprocess.run([binary, "model", "init", kind, "--seed", "7", "--out", folder / kind], check=True, capture_output=True)
    return folder / kind


def table(binary, folder, kind="tiny"):
    """What is right for each key, as the program says when it is asked for the pictures alone, one after the other and from a folder. Also left in
    `table-KIND.json`, for the verifier."""
    plain = folder / f"pictures-{kind}"
    plain.mkdir()
    asked = good()
    for n, (_, body) in enumerate(asked):
        # A listing goes by the ending; the worker goes by the content.
        (plain / f"{n}.jpg").write_bytes(body)
    out = folder / f"table-{kind}.jsonl"
    subprocess.run([binary, "label", plain, "--model", folder / kind, "--out", out, "--batch", "1"], check=True, capture_output=True)
    keys = {BROKEN: {"reason": "unsupported_format"}, MISSING: {"reason": "not_found"}}
    keys.update({poison(kind): {"reason": reason} for kind, reason in POISON.items()})
    others = len(keys)
    for record in map(json.loads, out.read_text().splitlines()):
        top, key = record["labels"][0], asked[int(pathlib.Path(record["source"]["key"]).stem)][0]
        keys[key] = {"label": top["index"], "score": top["score"], "embedding": record["embedding"]}
    assert len(keys) == GOOD + others and len({tuple(k["embedding"]) for k in keys.values() if "embedding" in k}) == GOOD
    whole = {"bucket": BUCKET, "keys": keys}
    (folder / f"table-{kind}.json").write_text(json.dumps(whole))
    return whole


class References:
    """Messages of one and of several items, of which the same seed gives the same."""

    def __init__(self, seed):
        self.rng, self.sent = random.Random(seed), 0
        self.keys = [key for key, _ in good()] + [BROKEN]
        # A fault and the stream may both want messages.
        self.turn = threading.Lock()

    def message(self, keys=None):
        """Of these keys, or of some that are drawn."""
        with self.turn:
            if keys is None:
                drawn = range(self.rng.choice([1, 1, 1, 2, 5]))
                keys = [MISSING if self.rng.random() < 0.01 else self.rng.choice(self.keys) for _ in drawn]
            items = [{"bucket": BUCKET, "key": key, "id": f"{self.sent}-{n}"} for n, key in enumerate(keys)]
            self.sent += 1
        return json.dumps(items if len(items) > 1 else items[0], ensure_ascii=False).encode()

    def produce(self, cluster, topic, count, partitions):
        """So many messages, spread over the partitions; straight to the brokers, and again until they have them."""
        self.send(cluster, topic, [(self.message(), n % partitions) for n in range(count)])

    @staticmethod
    def send(cluster, topic, messages):
        producer = ck.Producer({"bootstrap.servers": cluster.direct, "enable.idempotence": True, "linger.ms": 5, "log_level": 0})
        for value, partition in messages:
            producer.produce(topic, value=value, partition=partition)
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
