"""Every alert fires when its fault is made with real workers, and not before. Minutes of the rules are seconds here."""

import json
import os
import pathlib
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import confluent_kafka.admin
import pytest
import yaml

from conftest import BROKERS, ROOT
from fleet import Worker, over_http, prepare, prometheus, until  # noqa: F401

RULES = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())
#: Seconds for which all is well before a fault is made.
HEALTHY = 8


class Site:
    """An http server for pictures: each request gets what `answer` makes of its number (a status), or no answer at all (None)."""

    def __init__(self, answer):
        self.over = threading.Event()
        site, self.count = self, 0

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                site.count += 1
                status = answer(site.count)
                if status is None:
                    site.over.wait(120)
                    return
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.over.set()
        self.server.shutdown()


class Stage:
    """Two workers at work, and a slow stream of good references, so that all is well and something always moves."""

    def __init__(self, kafka, s3, bucket, lakelens, tiny, prometheus):
        self.kafka, self.lakelens, self.prometheus, self.bucket, self.s3 = kafka, lakelens, prometheus, bucket, s3
        self.topic, self.topics, config, self.uris = prepare(kafka, s3, bucket, tiny, good=20)
        self.config = config.replace('"group":', '"properties": {"session.timeout.ms": "6000"}, "group":')
        self.sites, self.streaming, self.closed, self.threads = [], threading.Event(), threading.Event(), []
        self.begin()

    def begin(self):
        self.workers = [Worker(self.lakelens, self.config) for _ in range(2)]
        self.prometheus.watch(self.workers)
        until(lambda: all(worker.ready() for worker in self.workers))
        self.stream(lambda n: self.uris[n % len(self.uris)], 20)

    def stream(self, reference, a_second):
        """Puts references onto the topic from now on, in place of those before."""
        self.streaming.set()
        over = self.streaming = threading.Event()

        def run():
            producer = confluent_kafka.Producer({"bootstrap.servers": BROKERS, "linger.ms": 5})
            n = 0
            while not over.wait(max(0.1, 1 / a_second)):
                for _ in range(max(1, round(a_second / 10))):
                    producer.produce(self.topic, reference(n).encode(), key=str(n))
                    n += 1
                producer.poll(0)
            producer.flush(10)

        threading.Thread(target=run, daemon=True).start()

    def site(self, answer):
        site = Site(answer)
        self.sites.append(site)
        for worker in self.workers:
            worker.stop()
        self.config = over_http(self.config, site.port)
        config = json.loads(self.config)
        config["fetch"] |= {"timeout": "60s", "attempts": 3, "give_up": "60s"}
        config["fetch"]["allow"]["s3"] = [f"{self.bucket}/*"]
        self.config = json.dumps(config)
        self.begin()
        return site

    def background(self, work):
        """Does `work` beside the test, until `closed`."""
        self.threads.append(threading.Thread(target=work, daemon=True))
        self.threads[-1].start()

    def close(self):
        self.streaming.set()
        self.closed.set()
        for thread in self.threads:
            thread.join()
        for site in self.sites:
            site.close()


def worker_down(stage):
    yield
    stage.workers[1].kill()


def no_workers(stage):
    yield
    for worker in stage.workers:
        worker.kill()


def restarting(stage):
    yield
    for _ in range(4):
        stage.workers[1].kill()
        stage.workers[1].start()
        time.sleep(1.2)  # until a scrape has seen it


def not_ready(stage):
    """A store that answers nobody."""
    yield
    for worker in stage.workers:
        worker.stop()
    config = json.loads(stage.config)
    config["store"]["s3"]["endpoint"] = "http://127.0.0.1:9"
    stage.config = json.dumps(config)
    stage.workers = [Worker(stage.lakelens, stage.config)]
    stage.prometheus.watch(stage.workers)


def nothing_moves(stage):
    """A server that takes every request and never answers, which is no error until its time is over."""
    site = stage.site(lambda _: None)
    yield
    stage.stream(lambda n: f"http://127.0.0.1:{site.port}/{n}.jpg", 200)
    time.sleep(2)
    stage.streaming.set()  # what comes in moves, too


def lag_growing(stage):
    """More references than anyone can do: their pictures take seconds each."""

    def slowly(_):
        time.sleep(3)
        return 404

    site = stage.site(slowly)
    yield
    stage.stream(lambda n: f"http://127.0.0.1:{site.port}/{n}.jpg", 500)


def rejections(stage):
    yield
    stage.stream(lambda n: f"s3://{stage.bucket}/missing-{n}" if n % 5 == 0 else stage.uris[0], 50)


def transactions_aborting(stage):
    """Machines that stand still amid a transaction, for longer than a member of the group may be silent and not as long as a transaction may take."""

    def slowly(_):
        time.sleep(1)
        return 404

    site = stage.site(slowly)
    yield
    stage.stream(lambda n: f"http://127.0.0.1:{site.port}/{n}.jpg", 4)
    broker = int((pathlib.Path(os.environ["STACK_DIR"]) / "kafka.pid").read_text())

    def signal_workers(which):
        for worker in stage.workers:
            worker.process.send_signal(which)

    def stand_still():
        while not stage.closed.wait(4):
            # What is being fetched now is begun to be delivered, and cannot be before the group has forgotten the workers.
            os.kill(broker, signal.SIGSTOP)
            try:
                time.sleep(1.5)
                signal_workers(signal.SIGSTOP)
            finally:
                os.kill(broker, signal.SIGCONT)
            time.sleep(7)
            signal_workers(signal.SIGCONT)

    stage.background(stand_still)


def fetch_errors(stage):
    site = stage.site(lambda n: 503 if n % 2 else 404)
    yield
    stage.stream(lambda n: f"http://127.0.0.1:{site.port}/{n}.jpg", 20)


def spaces_mixed(stage):
    """A worker with another network beside those that are there."""
    yield
    stage.lakelens.run("model", "init", "tiny", "--seed", "8", "--out", "other")
    config = json.loads(stage.config) | {"model": {"path": "other"}, "on_space_change": "allow"}
    stage.workers.append(Worker(stage.lakelens, json.dumps(config)))
    stage.prometheus.watch(stage.workers)


FAULTS = {
    "LakelensWorkerDown": worker_down,
    "LakelensNoWorkers": no_workers,
    "LakelensRestarting": restarting,
    "LakelensNotReady": not_ready,
    "LakelensNothingMoves": nothing_moves,
    "LakelensLagGrowing": lag_growing,
    "LakelensRejections": rejections,
    "LakelensTransactionsAborting": transactions_aborting,
    "LakelensFetchErrors": fetch_errors,
    "LakelensSpacesMixed": spaces_mixed,
}


def test_every_alert_has_a_fault():
    assert list(FAULTS) == [rule["alert"] for group in RULES["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("alert", FAULTS)
def test_an_alert_fires_when_its_fault_is_made_and_not_before(alert, kafka, s3, bucket, lakelens, tiny, prometheus):
    stage = Stage(kafka, s3, bucket, lakelens, tiny, prometheus)
    try:
        fault = FAULTS[alert](stage)
        next(fault)
        # What the last test left behind is over, as are workers that were stopped, and then all is well for a while.
        well, end = time.monotonic(), time.monotonic() + 60
        while time.monotonic() < well + HEALTHY:
            if alerts := prometheus.alerts():
                well = time.monotonic()
                assert well < end, alerts
            time.sleep(0.5)
        made = time.monotonic()
        next(fault, None)
        until(lambda: alert in prometheus.alerts(), 90, every=0.3)
        print(f"\n{alert} fired {time.monotonic() - made:.0f} s after its fault was made; with it: {sorted(prometheus.alerts() - {alert})}")
    finally:
        stage.close()
