"""A night on call: 5,000 references through two workers on ResNet-50, with faults among them, watched by a real Prometheus."""

import time

from conftest import BROKERS, ROOT
from fleet import Worker, done, prepare, prometheus, until  # noqa: F401

REFERENCES = 5000
MISSING = 60
GARBAGE = 40


def test_five_thousand_pictures_are_watched_from_the_first_to_the_last(kafka, s3, bucket, lakelens, prometheus):
    topic, topics, config, uris = prepare(kafka, s3, bucket, ROOT / "surfaces/model", model={"threads": 1})
    good = REFERENCES - MISSING - GARBAGE
    messages = [uris[n % len(uris)].encode() for n in range(good)]
    for n in range(MISSING):
        messages.insert(80 * n, f"s3://{bucket}/missing-{n}".encode())
    for n in range(GARBAGE):
        messages.insert(120 * n, b"no reference")
    kafka.produce(topic, messages)
    # A killed worker's partitions are the others' after this long.
    config = config.replace('"group":', '"properties": {"session.timeout.ms": "6000"}, "group":')
    workers = [Worker(lakelens, config) for _ in range(2)]
    prometheus.watch(workers)
    until(lambda: all(worker.ready() for worker in workers))

    until(lambda: done(kafka, topic) > 0.1 * REFERENCES, 120)
    workers[1].kill()
    workers[1].start()

    until(lambda: done(kafka, topic) > REFERENCES / 2, 600, every=1)
    half = time.monotonic()
    said = max(worker.endpoint.status()["eta_seconds"] for worker in workers)
    for worker in workers:
        assert worker.ready() and worker.endpoint.reasons("/livez") == (200, [])
    # The last minutes of a real Prometheus have everything that the dashboard asks for; and nobody is woken up for a night like this.
    seen = prometheus.dashboard(minutes=2)
    print("\n" + seen.stdout)
    assert seen.returncode == 0, seen.stdout + seen.stderr
    until(lambda: not prometheus.alerts(), 30)

    def over():
        assert not prometheus.alerts(), "nothing is wrong"
        return done(kafka, topic) == REFERENCES

    until(over, 600, every=2)
    took = time.monotonic() - half
    print(f"at half time {said:.0f} s were said to be left, and {took:.0f} s it took: {100 * (said / took - 1):+.0f}%")
    assert abs(said / took - 1) <= 0.2

    for worker in workers:
        worker.stop()
    assert len(kafka.read(topics["labels"])) == good and len(kafka.read(topics["dead"])) == MISSING + GARBAGE
    lakelens.run("audit", "--brokers", BROKERS, "--topic", topic, "--outputs", topics["labels"], topics["embeddings"], "--dead", topics["dead"])
