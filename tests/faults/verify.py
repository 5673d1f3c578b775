"""Compares every item that was asked for with what came out of it: none missing, none twice, none unasked, the content and the order right.

A program of its own, which shares nothing with the worker but the contract of its messages: it reads with librdkafka's Python client at
`read_committed`, from the input topic too, so that nobody's bookkeeping has to be believed.

    verify.py --brokers B --input T --labels T --embeddings T --dead T --table TABLE.json

TABLE.json says for each key of the bucket what is right: {"bucket": B, "keys": {KEY: {"label": 8, "score": 0.97, "embedding": [...]}}}, or {"reason": R}
for a key that must be rejected. Ends with 0 if all is right, else with 1.
"""

import argparse
import collections
import dataclasses
import json
import sys
import time
import uuid

TOLERANCE = 1e-4
STREAMS = ("labels", "embeddings", "rejections")


@dataclasses.dataclass(frozen=True)
class Asked:
    """One item of the input; `position` is (topic, partition, offset, item)."""

    position: tuple
    id: str
    key: str
    value: bytes = b""


@dataclasses.dataclass(frozen=True)
class Found:
    """One message of the output. `stream` is one of STREAMS; what a stream does not have is None. `place` is the output's (partition, offset), where
    there is one."""

    stream: str
    position: tuple
    id: str | None = None
    uri: str | None = None
    label: int | None = None
    score: float | None = None
    embedding: tuple | None = None
    reason: str | None = None
    value: bytes | None = None
    place: tuple | None = None


@dataclasses.dataclass
class Verdict:
    """What is wrong, by kind; each entry says which stream and position. Nothing is wrong if all lists are empty."""

    asked: int
    found: collections.Counter
    missing: list
    doubled: list
    unasked: list
    wrong: list
    unordered: list

    @property
    def good(self):
        return not (self.missing or self.doubled or self.unasked or self.wrong or self.unordered)

    def table(self):
        lines = [f"{'asked for':<12}{self.asked:>9} items"]
        lines += [f"{stream:<12}{self.found[stream]:>9} found" for stream in STREAMS]
        for name in ("missing", "doubled", "unasked", "wrong", "unordered"):
            entries = getattr(self, name)
            lines.append(f"{name:<12}{len(entries):>9}" + "".join(f"\n    {entry}" for entry in entries[:10]))
        lines.append("verdict     " + ("every item exactly once, content right" if self.good else "BROKEN"))
        return "\n".join(lines)


def judge(asked, found, table):
    """The pure core. `table` is what TABLE.json holds."""
    by_position = {item.position: item for item in asked}
    assert len(by_position) == len(asked), "the input itself names a position twice"
    counts = collections.Counter((f.stream, f.position) for f in found)
    verdict = Verdict(len(asked), collections.Counter(f.stream for f in found), [], doubles(found), [], [], out_of_order(found))
    for item in asked:
        due = table["keys"][item.key]
        for stream in ("rejections",) if "reason" in due else ("labels", "embeddings"):
            if not counts[stream, item.position]:
                verdict.missing.append(f"{stream} {item.position} id {item.id}")
    for message in found:
        item = by_position.get(message.position)
        if item is None or ("reason" in table["keys"][item.key]) != (message.stream == "rejections"):
            verdict.unasked.append(f"{message.stream} {message.position} id {message.id} {message.reason or ''}")
            continue
        faults = differences(message, item, table)
        if faults:
            verdict.wrong.append(f"{message.stream} {message.position} id {item.id}: {', '.join(faults)}")
    return verdict


def doubles(found):
    """What stands more than once in a stream."""
    counts = collections.Counter((f.stream, f.position) for f in found)
    return [f"{stream} {position}: {count} times" for (stream, position), count in counts.items() if count > 1]


def out_of_order(found):
    """Records behind a later one of their input partition, in one output partition. The contract promises no order of dead letters, and what has no
    place cannot be judged. The same position again is a double, and named there."""
    highest, entries = {}, []
    for message in sorted((f for f in found if f.place and f.stream != "rejections"), key=lambda f: f.place):
        lane = (message.stream, message.place[0], message.position[:2])
        before = highest.setdefault(lane, message.position)
        if message.position < before:
            entries.append(f"{message.stream} {message.position} at {message.place}, behind {before}")
        highest[lane] = max(before, message.position)
    return entries


def differences(message, item, table):
    """How a message differs from what its item should have become."""
    due = table["keys"][item.key]
    if message.stream == "rejections":
        pairs = {"reason": (message.reason, due["reason"]), "value": (message.value, item.value)}
    else:
        pairs = {"id": (message.id, item.id), "uri": (message.uri, f"s3://{table['bucket']}/{item.key}")}
    faults = [f"{name} {is_!r} and not {should!r}" for name, (is_, should) in pairs.items() if is_ != should]
    if message.stream == "labels" and (message.label != due["label"] or not near([message.score], [due["score"]])):
        faults.append(f"label {message.label} ({message.score}) and not {due['label']} ({due['score']})")
    if message.stream == "embeddings" and not near(message.embedding, due["embedding"]):
        faults.append("another embedding")
    return faults


def near(are, should):
    """Written so that a NaN is not near anything."""
    return are is not None and len(are) == len(should) and all(a is not None and abs(a - s) <= TOLERANCE for a, s in zip(are, should))


# From here on: reading.


def read(brokers, topic, patience=120):
    """Everything in the topic that is committed, as (partition, offset, key, value, headers)."""
    import confluent_kafka as ck

    def client(level):
        config = {"bootstrap.servers": brokers, "group.id": f"verify-{uuid.uuid4().hex}", "isolation.level": level, "log_level": 0}
        return ck.Consumer({**config, "enable.partition.eof": True, "enable.auto.commit": False, "auto.offset.reset": "error"})

    # The end of what may be read is not the partition's end while a transaction is open; asked for so, it is.
    whole = client("read_uncommitted")
    partitions = list(whole.list_topics(topic, 30).topics[topic].partitions)
    ends = {p: whole.get_watermark_offsets(ck.TopicPartition(topic, p), 30) for p in partitions}
    whole.close()
    consumer = client("read_committed")
    consumer.assign([ck.TopicPartition(topic, p, low) for p, (low, _) in ends.items()])
    messages, unread = [], set(partitions)
    deadline = time.monotonic() + patience
    while unread:
        assert time.monotonic() < deadline, f"{topic}: partitions {sorted(unread)} were not read to their ends in {patience} s"
        message = consumer.poll(1)
        if message is None:
            continue
        if message.error():
            assert message.error().code() == ck.KafkaError._PARTITION_EOF, message.error()
            # A transaction that is still open ends what can be read before the partition's end: what follows is waited for.
            if message.offset() >= ends[message.partition()][1]:
                unread.discard(message.partition())
            continue
        messages.append((message.partition(), message.offset(), message.key(), message.value(), message.headers() or []))
    consumer.close()
    return messages


def items_of(value):
    """The references of a message, by the contract's JSON forms that the suite writes: an object, or an array of objects."""
    parsed = json.loads(value)
    return parsed if isinstance(parsed, list) else [parsed]


def asked_of(topic, messages):
    return [
        Asked((topic, partition, offset, n), item["id"], item["key"], value)
        for partition, offset, _, value, _ in messages
        for n, item in enumerate(items_of(value))
    ]


def record_of(stream, value, place=None):
    record = json.loads(value)
    source = record["source"]
    position = (source["topic"], source["partition"], source["offset"], source["item"])
    top = (record.get("labels") or [{}])[0]
    embedding = record.get("embedding")
    embedding = tuple(embedding) if embedding else None
    return Found(stream, position, record["id"], record["uri"], top.get("index"), top.get("score"), embedding, place=place)


def rejection_of(value, headers):
    names = {name: (text or b"").decode(errors="replace") for name, text in headers}
    place = [names[f"lakelens.source.{part}"] for part in ("topic", "partition", "offset", "item")]
    return Found("rejections", (place[0], *map(int, place[1:])), reason=names["lakelens.error.reason"], value=value)


def read_all(brokers, topics):
    """What was asked and what was found. `topics` names input, labels, embeddings and dead."""
    asked = asked_of(topics["input"], read(brokers, topics["input"]))
    records = ((stream, message) for stream in ("labels", "embeddings") for message in read(brokers, topics[stream]))
    found = [record_of(stream, value, (partition, offset)) for stream, (partition, offset, _, value, _) in records]
    found += [rejection_of(value, headers) for _, _, _, value, headers in read(brokers, topics["dead"])]
    return asked, found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("brokers", "input", "labels", "embeddings", "dead", "table"):
        parser.add_argument(f"--{name}", required=True)
    options = vars(parser.parse_args())
    with open(options.pop("table"), encoding="utf-8") as file:
        table = json.load(file)
    verdict = judge(*read_all(options.pop("brokers"), options), table)
    print(verdict.table())
    sys.exit(0 if verdict.good else 1)


if __name__ == "__main__":
    main()
