"""What a monitor sees of real workers on real servers, against what independent clients know of the same topics."""

import json

import pictures
from conftest import BROKERS, headers
from fleet import PARTITIONS, Endpoint, free_port, make_topics, until
from test_lake import pipeline, upload

def setup(kafka, s3, bucket, lakelens, model, good, **more):
    objects = list(pictures.good(good))
    upload(s3, bucket, objects)
    topic = kafka.topic("refs", PARTITIONS)
    topics = make_topics(kafka)
    port = free_port()
    config = pipeline(topic, bucket, model, s3.meta.endpoint_url, topics, telemetry={"listen": f"127.0.0.1:{port}"}, **more)
    return topic, topics, lakelens.write(f"p{port}.yaml", config), Endpoint(port), [f"s3://{bucket}/{key}" for key, _ in objects]


def test_the_ledger_and_the_lag_are_what_the_topics_hold(kafka, s3, bucket, lakelens, tiny):
    topic, topics, config, endpoint, uris = setup(kafka, s3, bucket, lakelens, tiny, 300)
    kafka.produce(topic, [u.encode() for u in uris] + [b"no reference"] * 5 + [f"s3://{bucket}/missing-{n}".encode() for n in range(7)] + [None] * 3)
    worker = lakelens.start("run", config)
    until(endpoint.up)
    until(lambda: endpoint.ready() == (200, []))
    done = until(lambda: (m := endpoint.metrics())["lakelens_items_received_total"] == 315 and m["lakelens_items_in_flight"] == 0 and m)
    assert done["lakelens_items_published_total"] == 300 == len(kafka.read(topics["labels"]))
    assert done['lakelens_items_rejected_total{reason="not_found"}'] == 7
    assert done['lakelens_items_rejected_total{reason="bad_reference"}'] == 5
    assert done['lakelens_items_skipped_total{kind="null"}'] == 3
    assert len(kafka.read(topics["dead"])) == 12
    assert done['lakelens_fetch_requests_total{scheme="s3",outcome="ok"}'] == 300
    assert done['lakelens_fetch_requests_total{scheme="s3",outcome="not_found"}'] == 7
    assert done['lakelens_transactions_total{outcome="committed"}'] >= 1 and done['lakelens_transactions_total{outcome="fenced"}'] == 0
    assert done["lakelens_partitions_assigned"] == PARTITIONS == done['lakelens_rebalances_total{event="assigned"}']
    assert done['lakelens_stage_duration_seconds_count{stage="fetch"}'] == 307
    assert done["lakelens_batch_images_sum"] == 300
    assert done["lakelens_model_info" + next(k for k in done if k.startswith("lakelens_model_info"))[len("lakelens_model_info") :]] == 1
    # Looked at every 5 s; a transaction's marker at the end is no message.
    lags = lambda: [v for k, v in endpoint.metrics().items() if k.startswith("lakelens_lag_messages{")]
    until(lambda: lags() == [0] * PARTITIONS, 30)
    status = endpoint.status()
    assert (status["state"], status["ready"], status["lag"], status["eta_seconds"]) == ("running", True, 0, 0), status
    assert status["assignment"]["of"] == PARTITIONS and status["ledger"]["rejected"] == {"bad_reference": 5, "not_found": 7}
    assert endpoint.get("/metrics", Accept="application/openmetrics-text")[2].endswith("# EOF\n")
    for path in ("/metrics", "/status", "/readyz", "/livez"):
        assert "lakelens-secret" not in endpoint.get(path)[2]
    worker.terminate()
    lakelens.wait(worker)


def test_the_lag_of_a_worker_that_cannot_go_on_is_what_it_has_not_committed(kafka, s3, bucket, lakelens, tiny):
    """Nobody answers at the store: everything is received, nothing is done."""
    topic, _, config, endpoint, _ = setup(kafka, s3, bucket, lakelens, tiny, 1, store={"s3": {"endpoint": "http://127.0.0.1:9", "region": "us-east-1", "path_style": True}})
    kafka.produce(topic, [f"s3://{bucket}/{n}".encode() for n in range(40)])
    worker = lakelens.start("run", config)
    until(endpoint.up)
    until(lambda: endpoint.ready() == (503, ["waiting_for_store"]))
    until(lambda: sum(v for k, v in endpoint.metrics().items() if k.startswith("lakelens_lag_messages{")) == 40)
    seen = endpoint.metrics()
    assert seen["lakelens_items_in_flight"] == 40 == seen['lakelens_queue_items{queue="fetch"}']
    assert seen['lakelens_waiting{on="store"}'] == 1 and seen['lakelens_waiting{on="broker"}'] == 0
    assert not any(k.startswith("lakelens_lag_drain_seconds{") for k in seen), "nothing moves, so nothing is said of when it ends"
    status = endpoint.status()
    assert status["lag"] == 40 and status["eta_seconds"] is None and status["waiting"][0]["on"] == "store"
    assert endpoint.get("/livez")[0] == 200
    worker.terminate()
    # Once a worker that waited was ready for an instant when it was asked to stop.
    while worker.poll() is None:
        try:
            code, reasons = endpoint.ready()
        except OSError:
            break
        assert code == 503 and {"draining", "closing", "waiting_for_store"} & set(reasons), reasons
    lakelens.wait(worker)


def test_series_of_partitions_go_with_them_and_a_broker_that_is_away_is_said(kafka, s3, bucket, lakelens, tiny):
    topic, topics, config, endpoint, uris = setup(kafka, s3, bucket, lakelens, tiny, 20)
    worker = lakelens.start("run", config)
    until(endpoint.up)
    parts = lambda e: {k for k in e.metrics() if k.startswith("lakelens_lag_messages{")}
    until(lambda: len(parts(endpoint)) == PARTITIONS)
    port = free_port()
    text = json.loads((lakelens.folder / config).read_text())
    text["telemetry"]["listen"] = f"127.0.0.1:{port}"
    second, other = lakelens.start("run", lakelens.write("second.yaml", json.dumps(text))), Endpoint(port)
    until(other.up)
    until(lambda: len(parts(other)) == len(parts(endpoint)) == PARTITIONS // 2 and not parts(other) & parts(endpoint))
    assert endpoint.metrics()['lakelens_rebalances_total{event="revoked"}'] >= PARTITIONS // 2
    assert endpoint.status()["assignment"] | {"partitions": None} == {"assigned": PARTITIONS // 2, "of": PARTITIONS, "partitions": None}
    with kafka.away():
        until(lambda: "waiting_for_broker" in endpoint.ready()[1], 90)
        assert endpoint.metrics()['lakelens_waiting{on="broker"}'] == 1 and endpoint.get("/livez")[0] == 200
    kafka.produce(topic, [u.encode() for u in uris])
    until(lambda: endpoint.metrics()["lakelens_items_published_total"] + other.metrics()["lakelens_items_published_total"] == 20, 120)
    until(lambda: endpoint.ready() == (200, []))
    for process in (worker, second):
        process.terminate()
    for process in (worker, second):
        lakelens.wait(process)


class Collector:
    """An OTLP receiver: keeps the bodies that are posted, as they are."""

    def __init__(self):
        import http.server
        import threading

        bodies = self.bodies = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                assert self.path == "/v1/traces" and self.headers["Content-Type"] == "application/x-protobuf"
                bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def test_a_trace_goes_through_the_worker(kafka, s3, bucket, lakelens, tiny):
    collector = Collector()
    topic, topics, config, _, uris = setup(kafka, s3, bucket, lakelens, tiny, 3)
    text = json.loads((lakelens.folder / config).read_text())
    text["telemetry"] = {"otlp": {"endpoint": collector.url, "sample": 0.0}}
    lakelens.write(config, json.dumps(text))
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    import confluent_kafka

    producer = confluent_kafka.Producer({"bootstrap.servers": BROKERS})
    producer.produce(topic, uris[0], headers={"traceparent": f"00-{trace}-{parent}-01"})
    producer.produce(topic, uris[1], headers={"traceparent": f"00-{trace[::-1]}-{parent}-00"})
    producer.produce(topic, uris[2], headers={"traceparent": "no such thing"})
    assert producer.flush(30) == 0
    lakelens.run("run", config, "--until-idle", "2s")
    by_uri = {json.loads(m.value())["uri"]: headers(m) for m in kafka.read(topics["labels"])}
    assert len(by_uri) == 3
    found = by_uri[uris[0]]["traceparent"].split("-")
    assert found[:2] == ["00", trace] and found[2] != parent and found[3] == "01"
    assert "traceparent" not in by_uri[uris[1]] and "traceparent" not in by_uri[uris[2]], "its sender does not sample it, or there is none"
    sent = b"".join(collector.bodies)
    assert bytes.fromhex(trace) in sent and bytes.fromhex(parent) in sent and bytes.fromhex(found[2]) in sent
    assert bytes.fromhex(trace[::-1]) not in sent
    assert all(name in sent for name in (b"item", b"fetch", b"decode", b"infer", b"deliver"))
