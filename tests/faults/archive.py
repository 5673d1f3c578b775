"""The archive of records, whose workers are killed and frozen while records flow; afterwards another library reads every file.

What one partition's files hold, in the order of their names, must be what the topic's partition holds at `read_committed`, message for message."""

import collections
import io
import json
import re
import struct

import boto3
import botocore.config
import pyarrow.parquet

import lake
import pair
import processes
import verify
from pictures_server import ACCESS, SECRET
from workers import SESSION_SECONDS, environment, pipeline

GROUP = "archive"
BUCKET = "archive"
#: A worker that met the file of one that had been believed dead stops, and goes on behind it when it is started again.
MET = "by another worker meanwhile"
#: Of a record, what a row says of it under the same name.
PLAIN = ("id", "uri", "tags", "etag", "version", "bytes", "format", "width", "height", "sha256", "space", "model", "preprocess", "precision", "normalize")
PARTS = ("topic", "partition", "offset", "item")


def archive_file(stage, number, topics):
    """As `pipelines/archive.yaml`, but for short files and a short session."""
    properties = {"session.timeout.ms": str(SESSION_SECONDS * 1000), "heartbeat.interval.ms": "500"}
    records = [topics["labels"], topics["embeddings"]]
    whole = {
        "version": 1,
        "name": GROUP,
        "source": {"kafka": {"brokers": stage.cluster.proxied, "records": records, "group": GROUP, "properties": properties}},
        "store": {"s3": {"endpoint": f"http://127.0.0.1:{stage.server.gateways[1 + number].port}", "region": "us-east-1", "path_style": True}},
        "sinks": [{"parquet": {"path": f"s3://{BUCKET}/records/", "span": 60, "max_age": "1s"}}],
        "dead_letters": {"kafka": topics["dead"]},
    }
    path = stage.folder / f"archive-{number}.yaml"
    path.write_text(json.dumps(whole, indent=1))
    return path


def archive(stage, options):
    """Kills and freezes; whether every row was there once."""
    topics = stage.topics("archived")
    stage.server.upload(BUCKET, [])
    labels = stage.folder / "archived.yaml"
    labels.write_text(pipeline(stage.cluster, topics, "archived", f"http://127.0.0.1:{stage.server.gateways[0].port}", stage.model))
    labeller = processes.spawn([stage.binary, "run", labels], stage.folder / "archived.log", env=environment())
    stage.closers.append(lambda: processes.stop(labeller, 1))
    stream = lake.Stream(stage.cluster, topics["input"], "archived", lake.References(options.seed), backlog=200)
    stage.closers.append(stream.over.set)
    stream.start()

    def end():
        stream.close()
        labeller.terminate()
        labeller.wait(60)

    wrong = pair.played(stage, options, "archive", lambda number: archive_file(stage, number, topics), end, MET)
    if labeller.returncode != 0:
        wrong.append(f"the labeller ended with {labeller.returncode}:\n{(stage.folder / 'archived.log').read_text(errors='replace')[-3000:]}")
    lost, doubled, other, rows = compare(stage, topics)
    print("\n".join([f"{rows} rows; missing {lost}, twice {doubled}, other content {other}", *wrong]), flush=True)
    return not (lost or doubled or other or wrong) and rows > 0


def compare(stage, topics):
    """Rows that are missing, doubled, and different, and how many there are."""
    files = collections.defaultdict(list)
    client = boto3.client(
        "s3",
        endpoint_url=stage.server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=ACCESS,
        aws_secret_access_key=SECRET,
        config=botocore.config.Config(s3={"addressing_style": "path"}),
    )
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="records/"):
        for key in (entry["Key"] for entry in page.get("Contents", [])):
            topic, partition, _ = re.fullmatch(r"records/topic=([^/]+)/partition=(\d+)/(\d{20})\.parquet", key).groups()
            body = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            files[topic, int(partition)].append((key, pyarrow.parquet.read_table(io.BytesIO(body)).to_pylist()))
    due = collections.defaultdict(list)
    for topic in (topics["labels"], topics["embeddings"]):
        for partition, _, _, value, _ in verify.read(stage.cluster.direct, topic):
            due[topic, partition].append(of_record(json.loads(value)))
    lost = doubled = other = count = 0
    for place in {*due, *files}:
        rows = [of_row(row) for _, rows in sorted(files[place]) for row in rows]
        count += len(rows)
        have, want = (collections.Counter(row["at"] for row in side) for side in (rows, due[place]))
        lost += sum((want - have).values())
        doubled += sum((have - want).values())
        other += sum(row != record for row, record in zip(rows, due[place])) if have == want else 0
    return lost, doubled, other, count


def floats(values):
    return None if values is None else struct.pack(f"{len(values)}f", *values)


def of_record(record):
    labels = [(label["index"], label["label"], floats([label["score"]])) for label in record.get("labels") or []]
    same = {name: record.get(name) for name in PLAIN}
    return {**same, "tags": dict(record.get("tags") or {}), "at": tuple(record["source"][p] for p in PARTS), "labels": labels, "embedding": floats(record.get("embedding"))}


def of_row(row):
    labels = [(label["index"], label["label"], floats([label["score"]])) for label in row.get("labels") or []]
    same = {name: row.get(name) for name in PLAIN}
    return {**same, "tags": dict(row["tags"] or {}), "at": tuple(row[f"source_{p}"] for p in PARTS), "labels": labels, "embedding": floats(row.get("embedding"))}
