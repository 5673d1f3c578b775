"""Workers with telemetry and a Prometheus that watches them, as an operator has them."""

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

import pictures
from conftest import ROOT
from test_lake import pipeline, upload

PARTITIONS = 4


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(what, seconds=60, every=0.1):
    end = time.monotonic() + seconds
    while not (seen := what()):
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(every)
    return seen


class Endpoint:
    """`telemetry.listen` of one worker."""

    def __init__(self, port):
        self.address = f"127.0.0.1:{port}"
        self.base = f"http://{self.address}"

    def get(self, path, **headers):
        request = urllib.request.Request(self.base + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as answer:
            return answer.code, answer.headers, answer.read().decode()

    def up(self):
        try:
            return self.get("/livez")[0] == 200
        except OSError:
            return False

    def metrics(self):
        """Series to value."""
        return {m[1]: float(m[2]) for m in re.finditer(r"^([a-z_]+(?:\{.*\})?) (\S+)$", self.get("/metrics")[2], re.M)}

    def reasons(self, path):
        code, _, body = self.get(path)
        return code, [r["code"] for r in json.loads(body)["reasons"]]

    def ready(self):
        return self.reasons("/readyz")

    def status(self):
        return json.loads(self.get("/status")[2])


class Prometheus:
    """A real one with the rules of deploy/prometheus, minutes read as seconds."""

    def __init__(self):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        # Nobody is there yet: the list must not be empty.
        self.call("up", "--hurry", "127.0.0.1:9")

    def call(self, *args):
        env = {**os.environ, "PROMETHEUS_PORT": str(self.port)}
        return subprocess.run([ROOT / "scripts/prometheus", *args], env=env, check=True, capture_output=True, text=True).stdout

    def watch(self, workers):
        self.call("targets", *(worker.endpoint.address for worker in workers))

    def alerts(self):
        """Names of those that fire."""
        return {line.split()[0] for line in self.call("alerts").splitlines()}

    def dashboard(self, minutes):
        script = ROOT / "tests/operations/check_dashboard.py"
        return subprocess.run(["python3", script, self.url, "--minutes", str(minutes), "--rate-interval", "10s"], capture_output=True, text=True)


@pytest.fixture(scope="module")
def prometheus():
    server = Prometheus()
    yield server
    server.call("down", "--clean")


class Worker:
    """One worker, which can be started again."""

    def __init__(self, lakelens, config, **telemetry):
        self.lakelens, self.endpoint = lakelens, Endpoint(port := free_port())
        config = json.loads(config) | {"telemetry": {"listen": f"127.0.0.1:{port}", **telemetry}}
        self.config = lakelens.write(f"worker-{port}.yaml", json.dumps(config))
        self.start()

    def start(self):
        self.process = self.lakelens.start("run", self.config)
        until(self.endpoint.up)
        return self

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        self.process.terminate()
        self.lakelens.wait(self.process, timeout=60)

    def ready(self):
        return self.endpoint.ready() == (200, [])


def make_topics(kafka, partitions=PARTITIONS):
    return {"labels": kafka.topic("labels", partitions), "embeddings": kafka.topic("embeddings", partitions), "dead": kafka.topic("dead", 2)}


def prepare(kafka, s3, bucket, network, good=200, partitions=PARTITIONS, **more):
    """A topic of references, the topics of the results, the text of a pipeline between them, and URIs of good pictures."""
    objects = list(pictures.good(good))
    upload(s3, bucket, objects)
    topic, topics = kafka.topic("refs", partitions), make_topics(kafka, partitions)
    config = pipeline(topic, bucket, network, s3.meta.endpoint_url, topics, **more)
    return topic, topics, config, [f"s3://{bucket}/{key}" for key, _ in objects]


def done(kafka, topic, partitions=PARTITIONS):
    """References whose end is committed. What /status says of lag is some seconds old."""
    return sum(max(0, offset) for offset in kafka.committed(f"g-{topic}", topic, partitions))


def over_http(config, port):
    """The same pipeline, with references to a server on this machine allowed, too."""
    config = json.loads(config)
    config["fetch"]["allow"] = {"http": [f"127.0.0.1:{port}"]}
    return json.dumps(config)

