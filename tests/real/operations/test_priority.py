"""A backfill of thousands beside live items: how long a live one takes from its reference on the topic to its record."""

import json
import statistics
import threading
import time
from collections import Counter

import confluent_kafka

import pictures
from conftest import BROKERS, ROOT, records
from test_lake import PARTITIONS, make_topics, pipeline, upload

BACKFILL = 4000
BATCH = 32
LIVE = 12


class Arrivals(threading.Thread):
    """Notes when each record of a topic can first be read by a reader of committed messages."""

    def __init__(self, topic, partitions):
        super().__init__(daemon=True)
        config = {"bootstrap.servers": BROKERS, "group.id": f"see-{topic}", "isolation.level": "read_committed", "fetch.wait.max.ms": 20}
        self.consumer = confluent_kafka.Consumer(config)
        self.consumer.assign([confluent_kafka.TopicPartition(topic, p, 0) for p in range(partitions)])
        self.at, self.over = {}, threading.Event()
        self.start()

    def run(self):
        while not self.over.is_set():
            message = self.consumer.poll(0.05)
            if message is not None and not message.error():
                self.at.setdefault(json.loads(message.value())["id"], time.monotonic())
        self.consumer.close()

    def stop(self):
        self.over.set()
        self.join()


class Run:
    """A worker on ResNet-50 and one thread, with a backfill that fills its windows and every queue, and a second topic for what comes now and then."""

    def __init__(self, kafka, s3, bucket, lakelens, priority):
        self.kafka, self.lakelens = kafka, lakelens
        self.live, old, topics = kafka.topic("live", 2), kafka.topic("old", 4), make_topics(kafka)
        self.objects = [f"s3://{bucket}/{key}" for key, _ in pictures.good(200, seed=11)]
        kafka.produce(old, [self.reference("old", n) for n in range(BACKFILL)])
        config = json.loads(pipeline(self.live, bucket, ROOT / "surfaces/model", s3.meta.endpoint_url, topics))
        config |= {"source": sources(self.live, priority, old), "batch": {"max_items": BATCH}}
        config["model"]["threads"] = 1
        self.arrivals = Arrivals(topics["labels"], PARTITIONS)
        self.worker = lakelens.start("run", lakelens.write(f"{priority}.yaml", json.dumps(config)))
        self.wait(lambda: self.done() >= 2 * BATCH, 120)

    def reference(self, name, n):
        return json.dumps({"uri": self.objects[n % len(self.objects)], "id": f"{name}-{n}"}).encode()

    def done(self):
        return sum(name.startswith("old") for name in list(self.arrivals.at))

    def wait(self, until, seconds):
        deadline = time.monotonic() + seconds
        while not until():
            assert self.worker.poll() is None, self.lakelens.log(self.worker)
            if time.monotonic() > deadline:
                return False
            time.sleep(0.002)
        return True

    def takes(self, n, seconds):
        """Seconds from a reference's way onto the topic to its record; `None` if that is not there in time."""
        sent = time.monotonic()
        self.kafka.produce(self.live, [self.reference("live", n)])
        name = f"live-{n}"
        return self.arrivals.at[name] - sent if self.wait(lambda: name in self.arrivals.at, seconds) else None

    def stop(self):
        self.worker.terminate()
        self.lakelens.wait(self.worker, timeout=60)
        self.arrivals.stop()


def sources(live, priority, old):
    of = lambda topic: {"kafka": {"brokers": BROKERS, "topics": [topic], "group": f"g-{topic}"}}
    return [{"name": "live", "priority": priority, **of(live)}, {"name": "old", "priority": "backfill", **of(old)}]


def test_a_live_item_waits_for_one_micro_batch_of_a_backfill(kafka, s3, bucket, lakelens):
    upload(s3, bucket, list(pictures.good(200, seed=11)))
    run = Run(kafka, s3, bucket, lakelens, "live")
    begun, before, took = time.monotonic(), run.done(), []
    for n in range(LIVE):
        took.append(run.takes(n, 60))
        # Not in step with the micro-batches.
        time.sleep(0.37 * (n % 5))
    rate = (run.done() - before) / (time.monotonic() - begun)
    assert None not in took and run.done() < BACKFILL / 2, "the backfill was under way all the while"
    run.stop()
    micro_batch = BATCH / rate
    median, worst = statistics.median(took), max(took)
    print(f"\nlive beside backfill: median {median:.2f} s, worst {worst:.2f} s of {LIVE}; a micro-batch of {BATCH} takes {micro_batch:.2f} s; backfill {rate:.1f} images/s")
    # On average half of one is left of the micro-batch that is under way; then fetching, its own decoding and inference, and a transaction.
    assert median < micro_batch + 0.5 and worst < 1.5 * micro_batch + 1, (took, micro_batch)

    # The same without the priority: behind all that the backfill has taken in.
    without = Run(kafka, s3, bucket, lakelens, "backfill")
    assert without.takes(0, 3 * micro_batch + 5) is None
    without.stop()


def test_two_priorities_lose_and_double_nothing_and_keep_the_order(kafka, s3, bucket, lakelens, tiny):
    objects = list(pictures.good(200, seed=11))
    upload(s3, bucket, objects)
    live, old, topics = kafka.topic("live", 2), kafka.topic("old", 4), make_topics(kafka)
    ref = lambda name, n: json.dumps({"uri": f"s3://{bucket}/{objects[n % 200][0]}", "id": f"{name}-{n}"}).encode()
    kafka.produce(old, [ref("old", n) for n in range(BACKFILL)])
    config = json.loads(pipeline(live, bucket, tiny, s3.meta.endpoint_url, topics)) | {"source": sources(live, "live", old)}
    config = lakelens.write("p.yaml", json.dumps(config))
    assert "delivery: exactly-once" in lakelens.run("check", config, "--connect").stdout
    workers = [lakelens.start("run", config, "--until-idle", "4s") for _ in range(2)]
    for n in range(300):
        kafka.produce(live, [ref("live", n)])
        time.sleep(0.01)
    for worker in workers:
        lakelens.wait(worker)
    messages = kafka.read(topics["labels"])
    wanted = Counter([f"old-{n}" for n in range(BACKFILL)] + [f"live-{n}" for n in range(300)])
    assert Counter(r["id"] for r in records(messages)) == wanted
    last = {}
    for message in messages:
        source = json.loads(message.value())["source"]
        key = (message.partition(), source["topic"], source["partition"])
        assert last.get(key, -1) < source["offset"], "within an output partition the records of an input partition stand in order"
        last[key] = source["offset"]
    for topic, partitions in ((live, 2), (old, 4)):
        ends = [sum(1 for m in kafka.read(topic) if m.partition() == p) for p in range(partitions)]
        assert kafka.committed(f"g-{topic}", topic, partitions) == ends
