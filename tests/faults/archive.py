"""The archive of records, whose workers are killed and frozen while records flow; afterwards another library reads every file.

What one partition's files hold, in the order of their names, must be what the topic's partition holds at `read_committed`, message for message."""

import collections
import io
import json
import random
import re
import struct
import time

import boto3
import botocore.config
import pyarrow.parquet

import lake
import processes
import verify
from pictures_server import ACCESS, SECRET
from workers import SESSION_SECONDS, environment, pipeline

GROUP = "archive"
BUCKET = "archive"
WORKERS = 2
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


class Archiver:
    """One of the workers; `logs` are those of all its lives."""

    def __init__(self, stage, number, topics):
        self.stage, self.number, self.file = stage, number, archive_file(stage, number, topics)
        self.logs, self.process = [], None
        self.gateway = stage.server.gateways[1 + number]

    def start(self, *more):
        self.logs.append(self.stage.folder / f"archive-{self.number}-{len(self.logs):02}.log")
        self.process = processes.spawn([self.stage.binary, "run", self.file, *more], self.logs[-1], env=environment())

    def text(self):
        return self.logs[-1].read_text(errors="replace")

    def judge(self, wrong, what):
        """Notes an end that was not asked for, unless it met another worker's file."""
        print(f"archive: worker {self.number} {what} with {self.process.returncode}", flush=True)
        if self.process.returncode != 1 or MET not in self.text():
            wrong.append(f"worker {self.number} {what} with {self.process.returncode}:\n{self.text()[-3000:]}")

    def assigned(self):
        """Each life's partitions that were ever its own."""
        return [set(re.findall(r"(\S+): assigned, from offset", log.read_text(errors="replace"))) for log in self.logs]


def archive(stage, options):
    """Kills and freezes; whether every row was there once."""
    kills, freezes = (3, 1) if options.short else (12, 3)
    rng = random.Random(options.seed)
    topics = stage.topics("archived")
    stage.server.upload(BUCKET, [])
    labels = stage.folder / "archived.yaml"
    labels.write_text(pipeline(stage.cluster, topics, "archived", f"http://127.0.0.1:{stage.server.gateways[0].port}", stage.model))
    labeller = processes.spawn([stage.binary, "run", labels], stage.folder / "archived.log", env=environment())
    stage.closers.append(lambda: processes.stop(labeller, 1))
    stream = lake.Stream(stage.cluster, topics["input"], "archived", lake.References(options.seed), backlog=200)
    stage.closers.append(stream.over.set)
    stream.start()
    workers = [Archiver(stage, n, topics) for n in range(WORKERS)]
    for worker in workers:
        worker.start()
        stage.closers.append(lambda worker=worker: processes.stop(worker.process, 1))
    wrong = []
    plan = ["killed"] * kills + ["frozen"] * freezes
    rng.shuffle(plan)
    for how in plan:
        worker = rng.choice(workers)
        while not strike(stage, rng, worker, how):
            worker.judge(wrong, "ended by itself")
            worker.start()
    stream.close()
    print(f"archive: {kills} killed and {freezes} frozen; working off what is left", flush=True)
    labeller.terminate()
    labeller.wait(60)
    for worker in workers:
        worker.gateway.heal()
        worker.process.terminate()
        if worker.process.wait(60):
            worker.judge(wrong, "did not drain")
    workers[0].start("--until-idle", "4s")
    if workers[0].process.wait(180):
        wrong.append(f"the last worker ended with {workers[0].process.returncode}:\n{workers[0].text()[-3000:]}")
    lives = [life for worker in workers for life in worker.assigned()]
    both = {p for life in workers[0].assigned() for p in life} & {p for life in workers[1].assigned() for p in life}
    lost, doubled, other, rows = compare(stage, topics)
    print(f"{rows} rows; {len(both)} partitions were held by both workers, in {len(lives)} lives", flush=True)
    print("\n".join([f"missing {lost}, twice {doubled}, other content {other}", *wrong]), flush=True)
    struck = {how: stage.tally.hits[f"archive worker {how}"] for how in ("killed", "frozen")}
    return not (lost or doubled or other or wrong) and rows > 0 and len(both) > 0 and struck == {"killed": kills, "frozen": freezes}


def strike(stage, rng, worker, how):
    """Once the worker has partitions and writes files, and something is left to do; its store may be in trouble besides. Whether it lived until then."""
    def at_work():
        return worker.process.poll() is not None or (worker.assigned()[-1] and worker.gateway.asked > begun and lag(stage, worker) > 0)

    begun = time.monotonic()
    processes.wait_until(f"worker {worker.number} of the archive to write", at_work, 120, 0.1)
    if worker.process.poll() is not None:
        return False
    if rng.random() < 0.4:
        worker.gateway.fault(rng.choice(["storm", "reset", "truncate", "slow"]), 0.5)
    time.sleep(rng.uniform(0, 2))
    if worker.process.poll() is not None:
        return False
    stage.tally.strike(f"archive worker {how}", lag(stage, worker) > 0)
    print(f"archive: worker {worker.number} {how}, with {worker.gateway.mode or 'no trouble'} in its store", flush=True)
    if how == "killed":
        worker.process.kill()
        worker.process.wait()
        time.sleep(rng.choice([0, 0, SESSION_SECONDS + 1]))
    else:
        worker.process.send_signal(processes.signal.SIGSTOP)
        time.sleep(SESSION_SECONDS + 4)
        worker.process.send_signal(processes.signal.SIGCONT)
    worker.gateway.heal()
    if how == "killed":
        worker.start()
    return True


def lag(stage, worker):
    """Records that the archive has not committed."""
    topics = json.loads(worker.file.read_text())["source"]["kafka"]["records"]
    return sum(stage.cluster.lag(GROUP, topic) or 0 for topic in topics)


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
