"""The real servers (started by scripts/real-servers), and the program as a user calls it."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import time
import uuid
from collections import Counter

import boto3
import botocore.config
import confluent_kafka
import confluent_kafka.admin
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("LAKELENS_BIN", str(ROOT / "target/release/lakelens"))
BROKERS = os.environ["KAFKA_BROKERS"]
S3_ENDPOINT = os.environ["S3_ENDPOINT"]


class Kafka:
    """Topics and messages, by a client that has nothing to do with ours but the protocol."""

    def __init__(self):
        self.admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": BROKERS})

    def topic(self, name, partitions=1, **config):
        topic = f"{name}-{uuid.uuid4().hex[:8]}"
        new = confluent_kafka.admin.NewTopic(topic, partitions, 1, config={k.replace("_", "."): str(v) for k, v in config.items()})
        for future in self.admin.create_topics([new]).values():
            future.result(30)
        # The controller knows the topic before the broker tells clients of it.
        deadline = time.monotonic() + 30
        while len(self.admin.list_topics(topic, 10).topics[topic].partitions) != partitions:
            assert time.monotonic() < deadline, f"{topic} does not appear"
            time.sleep(0.05)
        return topic

    def produce(self, topic, messages):
        """Messages are values, or pairs of key and value."""
        producer = confluent_kafka.Producer({"bootstrap.servers": BROKERS, "linger.ms": 5})
        for n, message in enumerate(messages):
            key, value = message if isinstance(message, tuple) else (None, message)
            producer.produce(topic, value=value, key=key or str(n))
            producer.poll(0)
        assert producer.flush(30) == 0

    def produce_at(self, topic, partition, values):
        producer = confluent_kafka.Producer({"bootstrap.servers": BROKERS})
        for value in values:
            producer.produce(topic, value=value, partition=partition)
        assert producer.flush(30) == 0

    def read(self, topic):
        """Everything in the topic now, committed transactions only."""
        consumer = confluent_kafka.Consumer(
            {"bootstrap.servers": BROKERS, "group.id": uuid.uuid4().hex, "isolation.level": "read_committed", "enable.partition.eof": True, "auto.offset.reset": "earliest"}
        )
        partitions = consumer.list_topics(topic, 10).topics[topic].partitions
        consumer.assign([confluent_kafka.TopicPartition(topic, p, 0) for p in partitions])
        messages, open_partitions = [], set(partitions)
        deadline = time.monotonic() + 60
        while open_partitions:
            assert time.monotonic() < deadline, f"{topic} was not read to its end"
            message = consumer.poll(1)
            if message is None:
                continue
            if message.error():
                assert message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF, message.error()
                open_partitions.discard(message.partition())
            else:
                messages.append(message)
        consumer.close()
        return messages

    @contextlib.contextmanager
    def away(self):
        """The broker stopped, and back afterwards with its data."""
        subprocess.run([ROOT / "scripts/stack", "broker-stop"], check=True)
        try:
            yield
        finally:
            subprocess.run([ROOT / "scripts/stack", "broker-start"], check=True, stdout=subprocess.DEVNULL)

    def ends(self, topic):
        """The end of each partition, of what is not committed, too."""
        consumer = confluent_kafka.Consumer({"bootstrap.servers": BROKERS, "group.id": uuid.uuid4().hex})
        partitions = consumer.list_topics(topic, 10).topics[topic].partitions
        ends = [consumer.get_watermark_offsets(confluent_kafka.TopicPartition(topic, p), 10)[1] for p in partitions]
        consumer.close()
        return ends

    def commits(self, group, topic):
        """How often each partition's offset was committed, of which brokers tell nobody: as their own topic of offsets has it."""
        text = b"".join(len(name).to_bytes(2, "big") + name.encode() for name in (group, topic))
        # Keys are a version of two bytes, group and topic, and four bytes of the partition.
        ours = [m.key() for m in self.read("__consumer_offsets") if m.value() is not None and (m.key() or b"")[2:-4] == text]
        return Counter(int.from_bytes(key[-4:], "big") for key in ours)

    def committed(self, group, topic, partitions):
        consumer = confluent_kafka.Consumer({"bootstrap.servers": BROKERS, "group.id": group})
        offsets = consumer.committed([confluent_kafka.TopicPartition(topic, p) for p in range(partitions)], 10)
        consumer.close()
        return [o.offset for o in offsets]


class Program:
    """`lakelens` with this stack's environment."""

    def __init__(self, folder):
        self.folder = folder
        self.started = []

    def env(self, **more):
        return {**os.environ, "NO_COLOR": "1", **more}

    def start(self, *args, **env):
        log = open(self.folder / f"{len(self.started)}-{args[0]}.log", "wb")
        process = subprocess.Popen([BINARY, *map(str, args)], cwd=self.folder, env=self.env(**env), stdout=log, stderr=log)
        process.log = log.name
        self.started.append(process)
        return process

    def run(self, *args, code=0, timeout=300, stdin=None, **env):
        done = subprocess.run(
            [BINARY, *map(str, args)], cwd=self.folder, env=self.env(**env), capture_output=True, text=True, timeout=timeout, input=stdin
        )
        assert done.returncode == code, f"{args} ended with {done.returncode}, not {code}:\n{done.stderr[-4000:]}"
        return done

    def wait(self, process, code=0, timeout=300):
        assert process.wait(timeout) == code, f"ended with {process.returncode}, not {code}:\n{self.log(process)[-4000:]}"

    @staticmethod
    def log(process):
        return pathlib.Path(process.log).read_text(errors="replace")

    def write(self, name, text):
        (self.folder / name).write_text(text)
        return name


@pytest.fixture(scope="session")
def kafka():
    return Kafka()


@pytest.fixture(scope="session")
def s3():
    return boto3.client(
        "s3",
        endpoint_url=S3_ENDPOINT,
        region_name="us-east-1",
        config=botocore.config.Config(s3={"addressing_style": "path"}, max_pool_connections=32),
    )


@pytest.fixture
def bucket(s3):
    name = f"lake-{uuid.uuid4().hex[:8]}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def lakelens(tmp_path):
    program = Program(tmp_path)
    yield program
    for process in program.started:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A network of a few kilobytes with real outputs."""
    return made(tmp_path_factory, "tiny")


@pytest.fixture(scope="session")
def tiny_nan(tmp_path_factory):
    """The same, but its logits are not finite for a black picture."""
    return made(tmp_path_factory, "tiny-nan")


def made(tmp_path_factory, kind):
    folder = tmp_path_factory.mktemp("model") / kind
    subprocess.run([BINARY, "model", "init", kind, "--seed", "7", "--out", str(folder)], check=True)
    return folder


def headers(message):
    """Header values as text; of a name that stands twice, the last."""
    return {name: value.decode(errors="replace") if value is not None else None for name, value in message.headers() or []}


def records(messages):
    return [json.loads(m.value()) for m in messages]
