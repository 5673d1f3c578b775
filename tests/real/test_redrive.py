"""Dead letters go back to a topic: once each, by reason, and with their history."""

import json
import random
import signal
import time
import uuid
from collections import Counter

import confluent_kafka

import pictures
from conftest import BROKERS, headers, records
from test_lake import pipeline, upload


def redrive(lakelens, dead, to, *more, **how):
    done = lakelens.run("redrive", "--brokers", BROKERS, "--topic", dead, "--to", to, "--json", *more, **how)
    return json.loads(done.stdout)


def group_of(dead):
    return f"lakelens-redrive.{dead}"


def letters(dead, reasons, days=0, partition=-1):
    """Letters as a worker writes them (so many days ago), of the reasons in this order, and one transaction in eight aborted."""
    written_at = int((time.time() - days * 86400) * 1000)
    producer = confluent_kafka.Producer({"bootstrap.servers": BROKERS, "transactional.id": uuid.uuid4().hex})
    producer.init_transactions(30)
    written = []
    for start in range(0, len(reasons), 50):
        producer.begin_transaction()
        batch = [(start + n, reason) for n, reason in enumerate(reasons[start : start + 50])]
        for n, reason in batch:
            names = {"lakelens.error.reason": reason, "lakelens.source.offset": str(n), "lakelens.source.item": "0", "lakelens.attempt": "1", "own": f"h{n}"}
            producer.produce(dead, value=f"s3://b/{n}.jpg", key=f"k{n}", headers=list(names.items()), timestamp=written_at, partition=partition)
        if (start // 50) % 8 == 7:
            # An abort while the transaction's first request is on its way is refused by the broker, for good.
            producer.flush(30)
            producer.abort_transaction(30)
        else:
            producer.commit_transaction(30)
            written += batch
    return written


def test_each_reason_goes_back_once_and_has_a_position_of_its_own(kafka, lakelens):
    dead, to = kafka.topic("dead", 3), kafka.topic("again", 2)
    kinds = ["not_found", "unavailable", "corrupt_image", "of the future"]
    written = letters(dead, [random.choice(kinds) for _ in range(1000)])
    count = Counter(reason for _, reason in written)

    dry = redrive(lakelens, dead, to, "--dry-run")
    assert dry["dry_run"] and dry["read"] == len(written)
    assert {r: c["redriven"] for r, c in dry["reasons"].items()} == {**{k: count[k] for k in kinds[:3]}, "unknown": count[kinds[3]]}
    assert kafka.read(to) == []

    first = redrive(lakelens, dead, to, "--reason", "unavailable")
    assert first["reasons"]["unavailable"]["redriven"] == count["unavailable"] and first["reasons"]["not_found"]["not_asked"] == count["not_found"]
    some = redrive(lakelens, dead, to, "--reason", "not_found", "--max-items", 10)
    assert some["reasons"]["not_found"]["redriven"] == 10
    rest = redrive(lakelens, dead, to)
    assert rest["reasons"]["unavailable"] == {"redriven": 0, "before": count["unavailable"], "cut": 0, "too_large": 0, "not_asked": 0}
    assert rest["reasons"]["not_found"]["redriven"] == count["not_found"] - 10
    again = redrive(lakelens, dead, to)
    assert sum(c["redriven"] for c in again["reasons"].values()) == 0

    back = kafka.read(to)
    assert Counter(m.value().decode() for m in back) == Counter(f"s3://b/{n}.jpg" for n, _ in written)
    for message in back:
        n = message.value().decode().removeprefix("s3://b/").removesuffix(".jpg")
        assert message.key().decode() == f"k{n}"
        assert headers(message) == {"lakelens.attempt": "1", "own": f"h{n}", "lakelens.only-item": "0"}

    more = letters(dead, ["unavailable"] * 5)
    assert redrive(lakelens, dead, to)["reasons"]["unavailable"]["redriven"] == len(more)


def test_a_redrive_that_is_killed_sends_nothing_twice(kafka, lakelens):
    dead, to = kafka.topic("dead", 4), kafka.topic("again", 3)
    written = letters(dead, [random.choice(["not_found", "unavailable"]) for _ in range(40_000)])
    kills = 0
    for delay in [0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]:
        process = lakelens.start("redrive", "--brokers", BROKERS, "--topic", dead, "--to", to, "-q")
        time.sleep(delay * random.uniform(0.8, 1.2))
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert kills >= 3
    # Two at once: the later one takes over, and the earlier one says so.
    both = [lakelens.start("redrive", "--brokers", BROKERS, "--topic", dead, "--to", to, "-q") for _ in range(2)]
    for process in both:
        assert process.wait(120) in (0, 1), lakelens.log(process)
    redrive(lakelens, dead, to)
    back = Counter(m.value().decode() for m in kafka.read(to))
    wanted = Counter(f"s3://b/{n}.jpg" for n, _ in written)
    assert back == wanted, (sum(back.values()), sum(wanted.values()), (back - wanted).most_common(3), (wanted - back).most_common(3))


def test_of_a_message_with_several_items_only_the_failed_ones_go_back(kafka, s3, bucket, lakelens, tiny):
    objects = list(pictures.good(6))
    upload(s3, bucket, objects[:3])
    uris = [f"s3://{bucket}/{key}" for key, _ in objects]
    topic = kafka.topic("refs", 2)
    topics = {"labels": kafka.topic("labels", 2), "embeddings": kafka.topic("embeddings", 2), "dead": kafka.topic("dead", 2)}
    kafka.produce(topic, [json.dumps(uris).encode()])
    config = lakelens.write("p.yaml", pipeline(topic, bucket, tiny, s3.meta.endpoint_url, topics))

    def worker():
        lakelens.run("run", config, "--until-idle", "3s")
        return Counter(r["uri"] for r in records(kafka.read(topics["labels"])))

    assert worker() == Counter(uris[:3])
    assert redrive(lakelens, topics["dead"], topic)["reasons"]["not_found"]["redriven"] == 3
    # Two of the three are there by now.
    upload(s3, bucket, objects[3:5])
    assert worker() == Counter(uris[:5])
    last = [headers(m) for m in kafka.read(topics["dead"]) if headers(m)["lakelens.source.item"] == "5"]
    assert sorted(h["lakelens.attempt"] for h in last) == ["1", "2"]
    second = next(h for h in last if h["lakelens.attempt"] == "2")
    assert second["lakelens.origin.reason"] == "not_found" and second["lakelens.origin.offset"] == "0"
    upload(s3, bucket, objects[5:])
    redrive(lakelens, topics["dead"], topic)
    assert worker() == Counter(uris)


def test_a_redrive_onto_itself_or_from_nowhere_is_refused(kafka, lakelens):
    dead = kafka.topic("dead")
    assert "for ever" in lakelens.run("redrive", "--brokers", BROKERS, "--topic", dead, "--to", dead, code=2).stderr
    assert "no-such" in lakelens.run("redrive", "--brokers", BROKERS, "--topic", "no-such", "--to", dead, code=2).stderr


def renewed(kafka, group, topic, partitions, times):
    """Fails unless each position was committed so many times."""
    # A transaction that a killed worker of another test left open holds readers back until it times out.
    deadline = time.monotonic() + 120
    while True:
        count = kafka.commits(group, topic)
        # The partition that letters are read from may be committed more often.
        least = min(count[p] for p in range(partitions))
        if least >= times or time.monotonic() > deadline:
            assert least == times, (count, times)
            return
        time.sleep(1)


def test_positions_expired_where_nothing_new_came(kafka, lakelens):
    dead, to = kafka.topic("dead", 3), kafka.topic("again", 2)
    group = group_of(dead)
    redrive(lakelens, dead, to, "--dry-run")
    assert kafka.committed(group, dead, 3) == [confluent_kafka.OFFSET_INVALID] * 3
    redrive(lakelens, dead, to)
    assert kafka.committed(group, dead, 3) == [0] * 3
    renewed(kafka, group, dead, 3, 1)
    letters(dead, ["unavailable"] * 7, partition=1)
    assert redrive(lakelens, dead, to)["reasons"]["unavailable"]["redriven"] == 7
    renewed(kafka, group, dead, 3, 2)
    # Nothing to read, and other reasons than before: each run renews all of them.
    redrive(lakelens, dead, to)
    redrive(lakelens, dead, to, "--reason", "not_found")
    renewed(kafka, group, dead, 3, 4)
    assert sum(c["redriven"] for c in redrive(lakelens, dead, to)["reasons"].values()) == 0
    assert len(kafka.read(to)) == 7


def refused(lakelens, dead, to):
    said = lakelens.run("redrive", "--brokers", BROKERS, "--topic", dead, "--to", to, code=1).stderr
    for part in [f"`{group_of(dead)}` has no position in {dead}/0, {dead}/1", "may have been redriven before", "offsets.retention.minutes", "--from-start"]:
        assert part in said, (part, said)


def test_letters_older_than_brokers_keep_positions_go_only_when_asked_for(kafka, lakelens):
    # Their own time is what retention goes by, and would delete them.
    dead, to = kafka.topic("dead", 2, retention_ms=-1), kafka.topic("again", 2)
    for partition in range(2):
        letters(dead, ["unavailable"] * 20, days=8, partition=partition)
    refused(lakelens, dead, to)
    assert kafka.read(to) == []
    dry = lakelens.run("redrive", "--brokers", BROKERS, "--topic", dead, "--to", to, "--json", "--dry-run")
    assert json.loads(dry.stdout)["reasons"]["unavailable"]["redriven"] == 40 and "--from-start" in dry.stderr, dry.stderr

    assert redrive(lakelens, dead, to, "--from-start")["reasons"]["unavailable"]["redriven"] == 40
    assert redrive(lakelens, dead, to)["read"] == 0
    letters(dead, ["unavailable"] * 5)
    assert redrive(lakelens, dead, to)["reasons"]["unavailable"]["redriven"] == 5
    assert len(kafka.read(to)) == 45


def test_letters_went_twice_after_the_brokers_had_forgotten_the_positions(kafka, lakelens):
    dead, to = kafka.topic("dead", 2, retention_ms=-1), kafka.topic("again", 2)
    for partition in range(2):
        letters(dead, ["unavailable"] * 20, days=8, partition=partition)
    redrive(lakelens, dead, to, "--from-start")
    assert -1 < min(kafka.committed(group_of(dead), dead, 2))
    # As when they expire: the group's last offset takes the group with it.
    for future in kafka.admin.delete_consumer_groups([group_of(dead)]).values():
        future.result(30)
    letters(dead, ["unavailable"] * 5)
    refused(lakelens, dead, to)
    assert Counter(Counter(m.value() for m in kafka.read(to)).values()) == {2: 20}
