"""A changed model is a changed space: what a worker does where the topics, or the bucket, hold records of another one."""

import json
import subprocess
import threading

import confluent_kafka

import pictures
from conftest import BINARY, BROKERS, headers, records
from test_lake import make_topics, pipeline, upload


def space(model):
    return json.loads(subprocess.run([BINARY, "model", "inspect", str(model), "--json"], check=True, capture_output=True).stdout)["space"]


def test_a_changed_model_is_refused_by_topics_and_buckets_unless_allowed(kafka, s3, bucket, lakelens, tiny, tiny_nan):
    objects = list(pictures.good(40, seed=3))
    upload(s3, bucket, objects)
    topic, topics = kafka.topic("refs", 2), make_topics(kafka)
    old, new = space(tiny), space(tiny_nan)
    assert old != new

    def config(model, **more):
        text = pipeline(topic, bucket, model, s3.meta.endpoint_url, topics, **more)
        return lakelens.write("p.yaml", text)

    def send():
        kafka.produce(topic, [f"s3://{bucket}/{key}".encode() for key, _ in objects])

    send()
    lakelens.run("run", config(tiny), "--until-idle", "2s")
    send()
    refused = lakelens.run("run", config(tiny_nan), "--until-idle", "2s", code=2)
    for part in (old, new, topics["labels"], "on_space_change: allow", "tiny"):
        assert part in refused.stderr, (part, refused.stderr)
    assert len(kafka.read(topics["labels"])) == 40, "nothing was taken"
    # The model that made them goes on as ever.
    lakelens.run("run", config(tiny), "--until-idle", "2s")
    send()
    allowed = lakelens.run("run", config(tiny_nan, on_space_change="allow"), "--until-idle", "2s")
    assert "Going on" in allowed.stderr and old in allowed.stderr and new in allowed.stderr
    labels = kafka.read(topics["labels"])
    assert [headers(m)["lakelens.space"] for m in labels].count(new) == 40 and len(labels) == 120
    # The newest record counts, and not that of a partition that is quiet.
    lakelens.run("run", config(tiny_nan), "--until-idle", "2s")
    lakelens.run("run", config(tiny), "--until-idle", "2s", code=2)

    # Tombstones at the end, which say nothing, do not hide it.
    kafka.produce(topics["labels"], [("k%d" % n, None) for n in range(300)])
    lakelens.run("run", config(tiny), "--until-idle", "2s", code=2)

    def parquet(model, **more):
        sinks = [{"parquet": {"path": f"s3://{bucket}/out/"}}]
        return config(model, sinks=sinks, source={"kafka": {"brokers": BROKERS, "topics": [topic], "group": f"p-{topic}"}}, **more)

    lakelens.run("run", parquet(tiny), "--until-idle", "2s")
    refused = lakelens.run("run", parquet(tiny_nan), "--until-idle", "2s", code=2)
    assert old in refused.stderr and new in refused.stderr and f"s3://{bucket}/out/topic={topic}" in refused.stderr, refused.stderr
    send()
    assert "Going on" in lakelens.run("run", parquet(tiny_nan, on_space_change="allow"), "--until-idle", "2s").stderr
    lakelens.run("run", parquet(tiny), "--until-idle", "2s", code=2)


def test_a_worker_once_never_started_while_others_wrote_without_a_pause(kafka, s3, bucket, lakelens, tiny):
    """It read the end of the topic until there was nothing more to read."""
    topic, topics = kafka.topic("refs", 1), {"labels": kafka.topic("labels"), "embeddings": kafka.topic("embeddings"), "dead": kafka.topic("dead")}
    over = threading.Event()

    def write():
        producer = confluent_kafka.Producer({"bootstrap.servers": BROKERS, "linger.ms": 0})
        while not over.wait(0.002):
            producer.produce(topics["labels"], b"{}", key=b"another writer's")
            producer.poll(0)
        producer.flush(10)

    writing = threading.Thread(target=write)
    writing.start()
    try:
        config = lakelens.write("p.yaml", pipeline(topic, bucket, tiny, s3.meta.endpoint_url, topics))
        lakelens.run("run", config, "--until-idle", "1s", timeout=60)
    finally:
        over.set()
        writing.join()
