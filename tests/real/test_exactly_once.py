"""`delivery: exactly-once`: every item once at read_committed, though workers are killed in the middle and come and go."""

import json
import random
import signal
import time
from collections import Counter

import pytest

import pictures
from conftest import headers, records
from test_lake import make_topics, pipeline, reference, upload

PARTITIONS = 4
FAST = {"kafka": {"properties": {"session.timeout.ms": "6000", "heartbeat.interval.ms": "500"}}}


def lake(s3, bucket, kafka, topic, count):
    """Pictures, one that is none, and messages of one and of several items. Gives for each id the key that it names."""
    objects = list(pictures.good(40)) + [("broken.jpg", b"no picture")]
    upload(s3, bucket, objects)
    keys = [key for key, _ in objects]
    asked = {}
    for message in range(count):
        items = []
        for item in range(random.choice([1, 1, 1, 2, 5])):
            name = f"{message}-{item}"
            asked[name] = random.choice(keys)
            items.append(json.loads(reference(bucket, asked[name], name)))
        kafka.produce_at(topic, message % PARTITIONS, [json.dumps(items if len(items) > 1 else items[0])])
    return asked


def config(topic, bucket, tiny, s3, topics):
    text = json.loads(pipeline(topic, bucket, tiny, s3.meta.endpoint_url, topics, delivery="exactly-once", reject_limit={"share": 1.0, "of_last": 1000}))
    text["source"]["kafka"].update(FAST["kafka"])
    return json.dumps(text)


def judge(kafka, topics, asked):
    """None missing, none twice, none unasked, each with the content of its own reference."""
    rejected = Counter()
    for message in kafka.read(topics["dead"]):
        names = headers(message)
        items = json.loads(message.value())
        item = (items if isinstance(items, list) else [items])[int(names["lakelens.source.item"])]
        assert item["key"] == "broken.jpg" and names["lakelens.error.reason"] == "unsupported_format"
        rejected[item["id"]] += 1
    due = Counter(name for name, key in asked.items() if key != "broken.jpg")
    assert rejected == Counter(name for name, key in asked.items() if key == "broken.jpg")
    for kind in ("labels", "embeddings"):
        found = records(kafka.read(topics[kind]))
        assert Counter(r["id"] for r in found) == due, f"{kind}: lost or doubled"
        assert all(r["uri"].endswith(asked[r["id"]]) for r in found)


def until_it_writes(kafka, topics):
    deadline = time.monotonic() + 60
    # Reading it would chase the end of a topic that grows, until all is done.
    while not any(kafka.ends(topics["labels"])):
        assert time.monotonic() < deadline, "the worker writes nothing"
        time.sleep(0.1)


def counts(lakelens):
    return Counter(word for p in lakelens.started for word in ("a transaction was aborted", "have fenced") if word in lakelens.log(p))


def test_workers_that_are_killed_neither_lose_nor_double(kafka, s3, bucket, lakelens, tiny):
    topic, topics = kafka.topic("refs", PARTITIONS), make_topics(kafka)
    asked = lake(s3, bucket, kafka, topic, 6000)
    file = lakelens.write("p.yaml", config(topic, bucket, tiny, s3, topics))
    workers = [lakelens.start("run", file) for _ in range(2)]
    killed = 0
    for _ in range(8):
        time.sleep(random.uniform(0.5, 2.5))
        victim = random.randrange(2)
        if workers[victim].poll() is None:
            killed += 1
        workers[victim].send_signal(signal.SIGKILL)
        workers[victim].wait()
        workers[victim] = lakelens.start("run", file)
    time.sleep(2)
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
    for worker in workers:
        lakelens.wait(worker, code=0, timeout=60)
    lakelens.run("run", file, "--until-idle", "8s", timeout=240)
    judge(kafka, topics, asked)
    assert killed >= 6
    print(killed, counts(lakelens))


def test_a_worker_that_was_frozen_past_its_session_writes_nothing_more(kafka, s3, bucket, lakelens, tiny):
    topic, topics = kafka.topic("refs", PARTITIONS), make_topics(kafka)
    asked = lake(s3, bucket, kafka, topic, 4000)
    file = lakelens.write("p.yaml", config(topic, bucket, tiny, s3, topics))
    zombie = lakelens.start("run", file)
    until_it_writes(kafka, topics)
    zombie.send_signal(signal.SIGSTOP)
    heir = lakelens.start("run", file)
    time.sleep(12)
    zombie.send_signal(signal.SIGCONT)
    time.sleep(5)
    for worker in (zombie, heir):
        worker.send_signal(signal.SIGTERM)
    lakelens.wait(heir, code=0, timeout=60)
    # Frozen amid a transaction it is fenced and ends with 1; otherwise it joins again.
    assert zombie.wait(60) in (0, 1), lakelens.log(zombie)[-4000:]
    lakelens.run("run", file, "--until-idle", "8s", timeout=240)
    judge(kafka, topics, asked)
    print(counts(lakelens))


def test_a_stop_while_the_broker_is_away_ends_in_time_and_loses_nothing(kafka, s3, bucket, lakelens, tiny):
    topic, topics = kafka.topic("refs", PARTITIONS), make_topics(kafka)
    asked = lake(s3, bucket, kafka, topic, 12000)
    file = lakelens.write("p.yaml", config(topic, bucket, tiny, s3, topics))
    worker = lakelens.start("run", file)
    until_it_writes(kafka, topics)
    # A broker takes seconds to go, in which a quick machine does all: with nothing left to deliver, the end would rightly be 0.
    worker.send_signal(signal.SIGSTOP)
    with kafka.away():
        worker.send_signal(signal.SIGCONT)
        time.sleep(1)
        begun = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        lakelens.wait(worker, code=1, timeout=60)
        assert "stopped without the last results" in lakelens.log(worker)
        # Within the time after which Kubernetes kills, and a little, for this machine is busy.
        assert time.monotonic() - begun < 35
    lakelens.wait(lakelens.start("run", file, "--until-idle", "3s"), code=0, timeout=120)
    judge(kafka, topics, asked)


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_that_join_and_leave_neither_lose_nor_double(kafka, s3, bucket, lakelens, tiny, workers):
    topic, topics = kafka.topic("refs", PARTITIONS), make_topics(kafka)
    asked = lake(s3, bucket, kafka, topic, 4000)
    file = lakelens.write("p.yaml", config(topic, bucket, tiny, s3, topics))
    for _ in range(4):
        running = [lakelens.start("run", file) for _ in range(workers)]
        time.sleep(random.uniform(1, 3))
        for worker in running:
            time.sleep(random.uniform(0, 1))
            worker.send_signal(signal.SIGTERM)
        for worker in running:
            lakelens.wait(worker, code=0, timeout=60)
    lakelens.run("run", file, "--until-idle", "8s", timeout=240)
    judge(kafka, topics, asked)
