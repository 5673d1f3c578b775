"""What a consumer group has committed: where it must go on, and where it must not believe that it was never here."""

import json
import time
import uuid

import confluent_kafka
import confluent_kafka.admin
import pytest

import pictures
from conftest import BROKERS
from test_lake import make_topics, pipeline, reference, upload


def wait_until(what, found, seconds=60):
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.2)


def produce_in_a_transaction(topic, values):
    producer = confluent_kafka.Producer({"bootstrap.servers": BROKERS, "transactional.id": uuid.uuid4().hex})
    producer.init_transactions(30)
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, value=value, partition=0)
    producer.commit_transaction(30)


@pytest.mark.parametrize("delivery", ["exactly-once", "at-least-once"])
def test_a_marker_that_retention_deleted_passed_for_a_lost_message(kafka, s3, bucket, lakelens, tiny, delivery):
    topic, topics = kafka.topic("refs", 1), make_topics(kafka)
    (key, body), *_ = pictures.good(1)
    upload(s3, bucket, [(key, body)])
    file = lakelens.write("p.yaml", pipeline(topic, bucket, tiny, s3.meta.endpoint_url, topics, delivery=delivery))
    worker = lakelens.start("run", file)
    produce_in_a_transaction(topic, [reference(bucket, key, f"{n}") for n in range(5)])
    # Five messages and the marker of their transaction; nothing comes after them.
    wait_until("the marker to be committed", lambda: kafka.committed(f"g-{topic}", topic, 1) == [6], 40)
    # Once, and not at every look, which comes every five seconds.
    commits, aborted = kafka.commits(f"g-{topic}", topic), lakelens.log(worker).count("aborted")
    time.sleep(8)
    assert kafka.committed(f"g-{topic}", topic, 1) == [6] and lakelens.log(worker).count("aborted") == aborted
    assert kafka.commits(f"g-{topic}", topic) == commits and commits[0] > 1
    worker.terminate()
    lakelens.wait(worker)
    end = confluent_kafka.TopicPartition(topic, 0, 6)
    kafka.admin.delete_records([end])[end].result(30)
    lakelens.run("run", file, "--until-idle", "2s")
    assert len(kafka.read(topics["labels"])) == 5


def test_lines_were_cut_off_when_the_group_had_lost_its_offsets(kafka, s3, bucket, lakelens, tiny):
    topic, topics = kafka.topic("refs", 2), make_topics(kafka)
    objects = list(pictures.good(10))
    upload(s3, bucket, objects)
    kafka.produce(topic, [reference(bucket, key, key) for key, _ in objects])
    out = lakelens.folder / "out"
    text = json.loads(pipeline(topic, bucket, tiny, s3.meta.endpoint_url, topics))
    text |= {"sinks": [{"jsonl": {"path": str(out)}}], "dead_letters": {"jsonl": str(out)}, "delivery": "at-least-once"}
    file = lakelens.write("p.yaml", json.dumps(text))

    def lines():
        return sorted(line for path in out.glob("*.jsonl") for line in path.read_text().splitlines())

    lakelens.run("run", file, "--until-idle", "2s")
    before = lines()
    assert len(before) == 10
    group = f"g-{topic}"
    kafka.admin.delete_consumer_groups([group])[group].result(30)
    done = lakelens.run("run", file, "--until-idle", "2s", code=1)
    assert f"group `{group}` has no offsets in topic `{topic}`" in done.stderr and str(out) in done.stderr
    assert lines() == before
    text["source"]["kafka"]["on_lost"] = "continue"
    lakelens.run("run", lakelens.write("p.yaml", json.dumps(text)), "--until-idle", "2s")
    assert len(lines()) == 10


def test_a_record_that_the_broker_refuses_was_written_again_without_end(kafka, s3, bucket, lakelens, tiny):
    topic, topics = kafka.topic("refs", 1), make_topics(kafka)
    (key, body), *_ = pictures.good(1)
    upload(s3, bucket, [(key, body)])
    file = lakelens.write("p.yaml", pipeline(topic, bucket, tiny, s3.meta.endpoint_url, topics, delivery="exactly-once"))
    worker = lakelens.start("run", file)
    kafka.produce(topic, [reference(bucket, key, "before")])
    wait_until("the first record", lambda: len(kafka.read(topics["embeddings"])) == 1)
    # The worker has asked for the limit already.
    resource = confluent_kafka.admin.ConfigResource("topic", topics["embeddings"])
    resource.add_incremental_config(
        confluent_kafka.admin.ConfigEntry("max.message.bytes", "500", incremental_operation=confluent_kafka.admin.AlterConfigOpType.SET)
    )
    kafka.admin.incremental_alter_configs([resource])[resource].result(30)
    kafka.produce(topic, [reference(bucket, key, "after")])
    lakelens.wait(worker, code=1, timeout=60)
    said = lakelens.log(worker)
    assert "the broker refuses the record" in said and topics["embeddings"] in said, said[-3000:]
    assert kafka.committed(f"g-{topic}", topic, 1) == [1]
    # It is a rejection where the limit is known beforehand, and nothing is lost.
    lakelens.run("run", file, "--until-idle", "2s")
    assert len(kafka.read(topics["embeddings"])) == 1 and len(kafka.read(topics["dead"])) == 1
