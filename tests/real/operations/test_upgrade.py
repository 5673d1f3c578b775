"""A rolling restart under load."""

import json
import threading
import time
from collections import Counter, defaultdict

import confluent_kafka

from conftest import BROKERS, ROOT, records
from fleet import Worker, done, prepare, until

WORKERS = 4
INPUTS = 8
A_SECOND = 160
#: The longest that any partition may stand still while it changes hands between live workers.
PAUSE = 3.0


class Reader(threading.Thread):
    """When records of each input partition can first be read by a reader of committed messages."""

    def __init__(self, topic):
        super().__init__(daemon=True)
        config = {"bootstrap.servers": BROKERS, "group.id": f"see-{topic}", "isolation.level": "read_committed", "fetch.wait.max.ms": 20}
        self.consumer = confluent_kafka.Consumer(config)
        self.consumer.assign([confluent_kafka.TopicPartition(topic, p, 0) for p in range(INPUTS)])
        self.at, self.over = defaultdict(list), threading.Event()
        self.start()

    def run(self):
        while not self.over.is_set():
            message = self.consumer.poll(0.05)
            if message is not None and not message.error():
                self.at[json.loads(message.value())["source"]["partition"]].append(time.monotonic())
        self.consumer.close()


def test_a_rolling_restart_of_four_workers_loses_nothing_and_no_partition_stands_still(kafka, s3, bucket, lakelens, tiny):
    topic, topics, config, uris = prepare(kafka, s3, bucket, tiny, partitions=INPUTS)
    workers = [Worker(lakelens, config) for _ in range(WORKERS)]
    until(lambda: sum(worker.endpoint.status()["assignment"]["assigned"] for worker in workers) == INPUTS and all(w.ready() for w in workers))
    reader, over, sent = Reader(topics["labels"]), threading.Event(), []

    def load():
        producer = confluent_kafka.Producer({"bootstrap.servers": BROKERS, "linger.ms": 5})
        while not over.wait(0.05):
            for _ in range(A_SECOND // 20):
                n = len(sent)
                sent.append(f"ref-{n}")
                # Every partition in turn, so that each has something new all the time.
                producer.produce(topic, json.dumps({"uri": uris[n % len(uris)], "id": sent[n]}), partition=n % INPUTS)
            producer.poll(0)
        assert producer.flush(30) == 0

    loading = threading.Thread(target=load)
    loading.start()
    until(lambda: len(reader.at) == INPUTS)
    time.sleep(3)
    begun = time.monotonic()
    for worker in workers:
        worker.stop()
        worker.start()
        until(worker.ready)
        time.sleep(2)
    # The group has come to rest.
    until(lambda: all(worker.endpoint.status()["assignment"]["assigned"] == INPUTS // WORKERS for worker in workers), 30)
    ended = time.monotonic()
    time.sleep(2)
    over.set()
    loading.join()
    until(lambda: done(kafka, topic, INPUTS) == len(sent), 60)
    for worker in workers:
        worker.stop()
    reader.over.set()
    reader.join()
    pauses = {}
    for partition, times in reader.at.items():
        times = [at for at in times if begun <= at <= ended]
        pauses[partition] = max(after - before for before, after in zip([begun, *times], [*times, ended]))
    worst = max(pauses.values())
    print(f"\n{len(sent)} references through a rolling restart of {WORKERS} workers in {ended - begun:.0f} s; the longest pause of each partition: " + ", ".join(f"{p:.1f} s" for p in pauses.values()))
    assert Counter(r["id"] for r in records(kafka.read(topics["labels"]))) == Counter(sent), "each once"
    assert len(pauses) == INPUTS and worst <= PAUSE


def test_a_worker_that_joins_takes_its_share_and_no_picture_is_labelled_by_both(kafka, s3, bucket, lakelens):
    """The first worker has all references long before the second one is there."""
    sent = 400
    topic, topics, config, uris = prepare(kafka, s3, bucket, ROOT / "surfaces/model", model={"threads": 1})
    kafka.produce(topic, [uris[n % len(uris)] for n in range(sent)])
    workers = [Worker(lakelens, config)]
    until(lambda: workers[0].endpoint.status()["ledger"]["received"] == sent)
    workers.append(Worker(lakelens, config))
    until(lambda: done(kafka, topic) == sent, 120, every=1)
    labelled = [int(worker.endpoint.metrics()["lakelens_batch_images_sum"]) for worker in workers]
    for worker in workers:
        worker.stop()
    print(f"\n{sent} references; the two workers labelled {labelled[0]} and {labelled[1]}")
    assert len(kafka.read(topics["labels"])) == sent
    # What the first one had begun, and what it had finished behind something unfinished.
    assert sent <= sum(labelled) <= sent + 60 and min(labelled) >= sent / 4
