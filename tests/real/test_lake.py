"""The whole way on real servers: a lake of pictures, references on a topic, two workers, and independent clients that read everything back."""

import io
import json
import pathlib
import time
from collections import Counter

import pyarrow.parquet

import pictures
from conftest import BROKERS, ROOT, headers, records
from proxy import Proxy

GOOD = 1900
PARTITIONS = 8


def upload(s3, bucket, objects):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda item: s3.put_object(Bucket=bucket, Key=item[0], Body=item[1]), objects))


def pipeline(topic, bucket, network, endpoint, topics, **more):
    text = {
        "version": 1,
        "name": topic,
        "source": {"kafka": {"brokers": BROKERS, "topics": [topic], "group": f"g-{topic}"}},
        "store": {"s3": {"endpoint": endpoint, "region": "us-east-1", "path_style": True}},
        "fetch": {"allow": {"s3": [f"{bucket}/*"]}, "attempts": 2, "give_up": "1s", "max_bytes": "256KiB", "on_changed": "reject"},
        "model": {"path": str(network)},
        "sinks": [{"kafka": {"labels": topics["labels"], "embeddings": topics["embeddings"]}}],
        "dead_letters": {"kafka": topics["dead"]},
    }
    for name, value in more.items():
        text[name] = {**text[name], **value} if isinstance(text.get(name), dict) else value
    return json.dumps(text)


def make_topics(kafka):
    return {
        "labels": kafka.topic("labels", PARTITIONS, max_message_bytes=12_000),
        "embeddings": kafka.topic("embeddings", PARTITIONS),
        "dead": kafka.topic("dead", 2),
    }


def reference(bucket, key, name, **more):
    return json.dumps({"bucket": bucket, "key": key, "id": name, **more}, ensure_ascii=False)


def lake(s3, bucket):
    """Uploads the lake; gives the messages, and for each id the reason that it must be rejected for (None = a record)."""
    objects = list(pictures.good(GOOD))
    bad = pictures.bad()
    upload(s3, bucket, objects + [(key, body) for key, (body, _) in bad.items()])
    messages, expected = [], {}

    def add(message, name, reason):
        messages.append(message)
        expected[name] = reason

    for n, (key, _) in enumerate(objects):
        # Most references are plain URIs, whose id is the URI.
        if n % 3:
            uri = f"s3://{bucket}/{key}"
            add(uri, uri, None)
        else:
            add(reference(bucket, key, f"good-{n}", tags={"n": str(n)}), f"good-{n}", None)
    for n, (key, (_, reason)) in enumerate(bad.items()):
        add(reference(bucket, key, f"bad-{n}"), f"bad-{n}", reason)
    for n in range(4):
        add(reference(bucket, f"bad/missing {n}.jpg", f"missing-{n}"), f"missing-{n}", "not_found")
        add(reference("another-bucket", "x.jpg", f"other-{n}"), f"other-{n}", "forbidden_location")
        add(reference(bucket, objects[n][0], f"changed-{n}", etag="0123456789abcdef0123456789abcdef"), f"changed-{n}", "changed")
        add(reference(bucket, f"bad/archived-{n}", f"archived-{n}"), f"archived-{n}", "archived")
        add(reference(bucket, f"bad/denied-{n}", f"denied-{n}"), f"denied-{n}", "access_denied")
        add(reference(bucket, f"bad/not-allowed-{n}", f"not-allowed-{n}"), f"not-allowed-{n}", "fetch_failed")
        add(reference(bucket, f"bad/broken-{n}", f"broken-{n}"), f"broken-{n}", "unavailable")
        add(reference(bucket, objects[n][0], f"tagged-{n}", tags={"long": "x" * 15_000}), f"tagged-{n}", "record_too_large")
    for n, uri in enumerate(["file:///etc/passwd", "http://169.254.169.254/latest/meta-data", "http://localhost:1/"]):
        add(json.dumps({"uri": uri, "id": f"near-{n}"}), f"near-{n}", "forbidden_location")
    return messages, expected


def outcome_by_position(letters):
    return Counter((h["lakelens.source.topic"], int(h["lakelens.source.partition"]), int(h["lakelens.source.offset"]), int(h["lakelens.source.item"])) for h in map(headers, letters))


def test_every_reference_of_a_lake_has_one_outcome_and_the_right_one(kafka, s3, bucket, lakelens, tiny_nan, tmp_path):
    proxy = Proxy(s3.meta.endpoint_url.removeprefix("http://"))
    messages, expected = lake(s3, bucket)
    topic, topics = kafka.topic("refs", PARTITIONS), make_topics(kafka)
    garbage = ["", "no reference", "{", '{"uri": 7}', "s3://bucket", '["s3://x/y"', "\x00\x01"]
    kafka.produce(topic, [m.encode() for m in messages] + [g.encode() for g in garbage])
    config = lakelens.write("p.yaml", pipeline(topic, bucket, tiny_nan, proxy.endpoint, topics))
    lakelens.run("check", config, "--connect")
    workers = [lakelens.start("run", config, "--until-idle", "3s") for _ in range(2)]
    for worker in workers:
        lakelens.wait(worker)
    proxy.close()

    labels, embeddings, dead = (kafka.read(topics[t]) for t in ("labels", "embeddings", "dead"))
    seen = Counter()
    for record in records(labels):
        assert record["schema"] == "lakelens.record.v1" and len(record["labels"]) == 5 and "embedding" not in record
        seen[record["id"] or record["uri"]] += 1
    ids = {n for n, reason in expected.items() if reason is None}
    assert seen == Counter(ids), (sum(seen.values()), len(ids), list((seen - Counter(ids)).items())[:5], list((Counter(ids) - seen).items())[:5])
    assert Counter(r["id"] or r["uri"] for r in records(embeddings)) == seen
    for record in records(embeddings):
        assert len(record["embedding"]) == record["embedding_dim"] == 16 and "labels" not in record

    reasons = Counter()
    for letter in dead:
        h = headers(letter)
        reasons[h["lakelens.error.reason"]] += 1
        try:
            name = json.loads(letter.value())["id"]
        except (ValueError, TypeError, KeyError):
            assert h["lakelens.error.reason"] == "bad_reference", (letter.value(), h)
            continue
        assert h["lakelens.error.reason"] == expected[name], (name, h)
        assert h["__connect.errors.topic"] == topic and h["lakelens.source.topic"] == topic
    rejected = Counter(reason for reason in expected.values() if reason) + Counter({"bad_reference": len(garbage)})
    assert reasons == rejected
    assert set(outcome_by_position(dead).values()) == {1}
    # A topic's own client finds equal keys in the partition where Java's would put them.
    assert all(m.key().decode() == r["uri"] for m, r in zip(labels, records(labels)))
    assert all(headers(m)["lakelens.space"] == r["space"] for m, r in zip(labels, records(labels)))

    lakelens.run("audit", "--brokers", BROKERS, "--topic", topic, "--outputs", topics["labels"], topics["embeddings"], "--dead", topics["dead"])

    # The archive: records of both topics as Parquet in the bucket, read with another library.
    out = f"s3://{bucket}/archive/"
    done = lakelens.run(
        "run", ROOT / "pipelines/archive.yaml", "--until-idle", "2s",
        LABELS_TOPIC=topics["labels"], EMBEDDINGS_TOPIC=topics["embeddings"], OUT=out, DEAD_TOPIC=topics["dead"], GROUP=f"a-{topic}",
    )
    rows = parquet_rows(s3, bucket, "archive/")
    assert Counter(r["id"] or r["uri"] for r in rows if r.get("embedding") is None) == seen, done.stderr
    assert Counter(r["id"] or r["uri"] for r in rows if r.get("embedding") is not None) == seen
    of_embedding = {r["uri"]: r["embedding"] for r in records(embeddings)}
    for row in rows:
        if row.get("embedding") is not None:
            assert row["embedding"] == [float(f32) for f32 in map(to_f32, of_embedding[row["uri"]])]


def to_f32(value):
    import struct

    return struct.unpack("f", struct.pack("f", value))[0]


def parquet_rows(s3, bucket, prefix):
    rows = []
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for entry in page.get("Contents", []):
            body = s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
            table = pyarrow.parquet.read_table(io.BytesIO(body))
            rows += table.to_pylist()
    return rows


def test_pictures_dropped_into_a_bucket_are_labelled_with_nobody_enqueuing(kafka, s3, bucket, lakelens, tiny):
    import os

    records_topic, dead = kafka.topic("records", 2), kafka.topic("dead")
    env = dict(EVENTS_TOPIC=os.environ["LAKELENS_S3_EVENTS"], BUCKET=bucket, MODEL=str(tiny), RECORDS_TOPIC=records_topic, DEAD_TOPIC=dead, GROUP=f"e-{bucket}", START="latest")
    worker = lakelens.start("run", ROOT / "pipelines/s3-events.yaml", **env)
    deadline = time.monotonic() + 60
    while "assigned" not in lakelens.log(worker):
        assert time.monotonic() < deadline and worker.poll() is None, lakelens.log(worker)
        time.sleep(0.2)
    objects = list(pictures.good(60, seed=5))
    upload(s3, bucket, objects)
    wanted = {f"s3://{bucket}/{key}" for key, _ in objects}
    while {r["uri"] for r in (json.loads(m.value()) for m in kafka.read(records_topic) if m.value())} != wanted:
        assert time.monotonic() < deadline and worker.poll() is None, lakelens.log(worker)
        time.sleep(0.5)
    s3.delete_object(Bucket=bucket, Key=objects[0][0])
    gone = f"s3://{bucket}/{objects[0][0]}"
    while not any(m.value() is None and m.key().decode() == gone for m in kafka.read(records_topic)):
        assert time.monotonic() < deadline and worker.poll() is None, lakelens.log(worker)
        time.sleep(0.5)
    worker.terminate()
    lakelens.wait(worker, timeout=60)
    assert kafka.read(dead) == []


def test_a_backfill_into_parquet(kafka, s3, bucket, lakelens, tiny):
    objects = list(pictures.good(120, seed=9))
    upload(s3, bucket, objects)
    topic, dead = kafka.topic("refs", 4), kafka.topic("dead")
    lakelens.run("enqueue", f"s3://{bucket}/good/", "--topic", topic, "--brokers", BROKERS)
    env = dict(REFS_TOPIC=topic, BUCKET=bucket, MODEL=str(tiny), DEAD_TOPIC=dead, GROUP=f"b-{topic}", OUT=f"s3://{bucket}/labels/")
    lakelens.run("run", ROOT / "pipelines/bulk-parquet.yaml", "--until-idle", "2s", **env)
    rows = parquet_rows(s3, bucket, "labels/")
    assert Counter(r["uri"] for r in rows) == Counter(f"s3://{bucket}/{key}" for key, _ in objects)
    assert all(abs(sum(v * v for v in r["embedding"]) - 1) < 1e-5 for r in rows)
    # Everything is committed: a second run finds nothing to do.
    lakelens.run("run", ROOT / "pipelines/bulk-parquet.yaml", "--until-idle", "2s", **env)
    assert len(parquet_rows(s3, bucket, "labels/")) == len(rows)


def test_resnet50_from_references_to_labels(kafka, s3, bucket, lakelens, tmp_path):
    lakelens.run("model", "init", "resnet50", "--out", "resnet50")
    upload(s3, bucket, list(pictures.good(24, seed=3)))
    topic = kafka.topic("refs", 2)
    topics = {name: kafka.topic(name) for name in ("labels", "embeddings", "dead")}
    lakelens.run("enqueue", f"s3://{bucket}/", "--topic", topic, "--brokers", BROKERS)
    env = dict(REFS_TOPIC=topic, BUCKET=bucket, MODEL=str(tmp_path / "resnet50"), DEAD_TOPIC=topics["dead"], GROUP=f"r-{topic}", LABELS_TOPIC=topics["labels"], EMBEDDINGS_TOPIC=topics["embeddings"])
    lakelens.run("run", ROOT / "pipelines/kafka-s3.yaml", "--until-idle", "2s", **env)
    assert len(kafka.read(topics["labels"])) == 24
    assert all(len(r["embedding"]) == 2048 for r in records(kafka.read(topics["embeddings"])))
    assert kafka.read(topics["dead"]) == []


def test_an_outage_is_waited_out_and_rejects_nothing(kafka, s3, bucket, lakelens, tiny):
    proxy = Proxy(s3.meta.endpoint_url.removeprefix("http://"))
    upload(s3, bucket, list(pictures.good(40, seed=4)))
    topic, topics = kafka.topic("refs", 2), make_topics(kafka)
    lakelens.run("enqueue", f"s3://{bucket}/", "--topic", topic, "--brokers", BROKERS)
    config = lakelens.write("p.yaml", pipeline(topic, bucket, tiny, proxy.endpoint, topics))
    proxy.down = True
    worker = lakelens.start("run", config, "--until-idle", "2s")
    time.sleep(8)
    assert worker.poll() is None and kafka.read(topics["dead"]) == []
    assert "waiting until it works again" in lakelens.log(worker) and f"s3://{bucket}" in lakelens.log(worker)
    proxy.down = False
    lakelens.wait(worker, timeout=120)
    proxy.close()
    assert len(kafka.read(topics["labels"])) == 40 and kafka.read(topics["dead"]) == []


def test_garbage_ends_well_or_stops_the_worker_as_the_limit_says(kafka, lakelens, tiny, bucket, s3):
    topic, topics = kafka.topic("refs", 2), make_topics(kafka)
    kafka.produce(topic, [b"\xff\xfe garbage %d" % n for n in range(1500)])
    config = lakelens.write("all.yaml", pipeline(topic, bucket, tiny, s3.meta.endpoint_url, topics, reject_limit={"share": 1.0}))
    done = lakelens.run("run", config, "--until-idle", "2s")
    assert "rejected: bad_reference 1500" in done.stderr
    assert len(kafka.read(topics["dead"])) == 1500
    strict = pipeline(topic, bucket, tiny, s3.meta.endpoint_url, topics).replace(f"g-{topic}", f"h-{topic}")
    done = lakelens.run("run", lakelens.write("strict.yaml", strict), "--until-idle", "2s", code=1)
    assert "bad_reference" in done.stderr and "reject_limit" in done.stderr


def test_wrong_credentials_and_a_missing_topic_stop_the_worker(kafka, s3, bucket, lakelens, tiny):
    topic, topics = kafka.topic("refs", 1), make_topics(kafka)
    kafka.produce(topic, [f"s3://{bucket}/a.jpg".encode()])
    config = lakelens.write("p.yaml", pipeline(topic, bucket, tiny, s3.meta.endpoint_url, topics))
    done = lakelens.run("run", config, "--until-idle", "2s", code=1, AWS_SECRET_ACCESS_KEY="wrong-secret")
    assert "SignatureDoesNotMatch" in done.stderr and "wrong-secret" not in done.stderr
    assert kafka.read(topics["dead"]) == [] and kafka.committed(f"g-{topic}", topic, 1)[0] in (0, -1001)
    missing = lakelens.write("q.yaml", pipeline(topic, bucket, tiny, s3.meta.endpoint_url, {**topics, "labels": "no-such-topic"}))
    done = lakelens.run("run", missing, code=1)
    assert "no-such-topic" in done.stderr


def test_a_killed_worker_loses_nothing(kafka, s3, bucket, lakelens, tiny):
    objects = list(pictures.good(600, seed=6))
    upload(s3, bucket, objects)
    topic, topics = kafka.topic("refs", PARTITIONS), make_topics(kafka)
    lakelens.run("enqueue", f"s3://{bucket}/", "--topic", topic, "--brokers", BROKERS)
    config = pipeline(topic, bucket, tiny, s3.meta.endpoint_url, topics)
    # A dead member is noticed after its session timeout, which is short here.
    config = json.loads(config)
    config["source"]["kafka"]["properties"] = {"session.timeout.ms": "6000"}
    config["model"]["threads"] = 1
    config = lakelens.write("p.yaml", json.dumps(config))
    workers = [lakelens.start("run", config, "--until-idle", "8s") for _ in range(2)]
    for victim in range(2):
        seen = len(kafka.read(topics["labels"]))
        deadline = time.monotonic() + 60
        while len(kafka.read(topics["labels"])) < min(seen + 60, 500):
            assert time.monotonic() < deadline, lakelens.log(workers[victim])
        workers[victim].kill()
        workers[victim].wait()
        workers.append(lakelens.start("run", config, "--until-idle", "8s"))
    for worker in workers[2:]:
        lakelens.wait(worker, timeout=120)
    wanted = {f"s3://{bucket}/{key}" for key, _ in objects}
    assert {r["uri"] for r in records(kafka.read(topics["labels"]))} == wanted
    assert {r["uri"] for r in records(kafka.read(topics["embeddings"]))} == wanted
    assert kafka.read(topics["dead"]) == []


def test_a_stuck_item_holds_up_its_own_partition_and_no_other(kafka, s3, bucket, lakelens, tiny):
    proxy = Proxy(s3.meta.endpoint_url.removeprefix("http://"))
    objects = list(pictures.good(200, seed=8))
    upload(s3, bucket, objects)
    topic, topics = kafka.topic("refs", 4), make_topics(kafka)
    # The first item of partition 0 fails for longer than this test lasts; nobody may give it up before.
    kafka.produce_at(topic, 0, [f"s3://{bucket}/bad/broken.jpg".encode()])
    for n, (key, _) in enumerate(objects):
        kafka.produce_at(topic, n % 4, [f"s3://{bucket}/{key}".encode()])
    config = lakelens.write("p.yaml", pipeline(topic, bucket, tiny, proxy.endpoint, topics, fetch={"give_up": "10m"}))
    worker = lakelens.start("run", config)
    wanted = {f"s3://{bucket}/{key}" for n, (key, _) in enumerate(objects) if n % 4}
    deadline = time.monotonic() + 60
    while {r["uri"] for r in records(kafka.read(topics["labels"]))} != wanted:
        assert time.monotonic() < deadline and worker.poll() is None, lakelens.log(worker)
        time.sleep(0.5)
    # The offsets of the others are committed, and partition 0's is not.
    while kafka.committed(f"g-{topic}", topic, 4)[1:] != [50, 50, 50]:
        assert time.monotonic() < deadline and worker.poll() is None, lakelens.log(worker)
        time.sleep(0.5)
    assert kafka.committed(f"g-{topic}", topic, 4)[0] <= 0 and kafka.read(topics["dead"]) == []
    worker.terminate()
    lakelens.wait(worker, timeout=60)
    assert "handed back" in lakelens.log(worker)
    proxy.close()
