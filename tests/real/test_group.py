"""What a worker leaves behind in its consumer group."""

import json

import pictures
from conftest import BROKERS
from test_lake import make_topics, pipeline, reference, upload


def groups(kafka, prefix):
    return [g.group_id for g in kafka.admin.list_consumer_groups().result(30).valid if g.group_id.startswith(prefix)]


def test_a_dry_run_leaves_no_group_behind(kafka, s3, bucket, lakelens, tiny):
    topic, topics = kafka.topic("refs", 2), make_topics(kafka)
    objects = list(pictures.good(10))
    upload(s3, bucket, objects)
    kafka.produce(topic, [reference(bucket, key, key) for key, _ in objects])
    text = json.loads(pipeline(topic, bucket, tiny, s3.meta.endpoint_url, topics))
    # Not even as a static member, who is not one while it runs dry.
    text["source"]["kafka"]["properties"] = {"group.instance.id": "w1"}
    assert text["source"]["kafka"]["brokers"] == BROKERS
    file = lakelens.write("p.yaml", json.dumps(text))
    done = lakelens.run("run", file, "--dry-run", "--until-idle", "2s")
    assert len(done.stdout.splitlines()) == 10
    assert groups(kafka, f"g-{topic}") == [], done.stderr
    lakelens.run("run", file, "--until-idle", "2s")
    assert groups(kafka, f"g-{topic}") == [f"g-{topic}"]
