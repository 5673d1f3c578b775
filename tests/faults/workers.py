"""The workers: started, watched, and judged by how they end."""

import collections
import json
import os
import re
import signal
import time

import processes
from lake import BUCKET
from pictures_server import ACCESS, SECRET, Inside

SESSION_SECONDS = 6
#: A worker that ends with code 1 and says one of these did right: it was put out, and starts again.
LEGITIMATE = {
    # First, since its message also says that the producer cannot go on.
    "client did not come back": "has not come back from one call",
    "fenced": "have fenced",
    "fatal Kafka error": "the producer cannot go on",
    "put out of its group": "the group has put this worker out, and taken it in again",
    "stopped while brokers were away": "stopped without the last results",
}
FAILPOINTS = ("txn.begin", "txn.sent", "txn.offsets", "txn.committed")
ABORTED = "a transaction was aborted"


def pipeline(cluster, topics, group, endpoint, model, properties=None, **more):
    """A pipeline file with short timeouts. JSON is YAML."""
    properties = {"session.timeout.ms": str(SESSION_SECONDS * 1000), "heartbeat.interval.ms": "500", **(properties or {})}
    # After five minutes, librdkafka's default, a partition that was added would be found too late for this suite.
    properties["topic.metadata.refresh.interval.ms"] = "5000"
    whole = {
        "version": 1,
        "name": "faults",
        "source": {"kafka": {"brokers": cluster.proxied, "topics": [topics["input"]], "group": group, "properties": properties}},
        "store": {"s3": {"endpoint": endpoint, "region": "us-east-1", "path_style": True}},
        "fetch": {"allow": {"s3": [f"{BUCKET}/*"]}, "concurrency": 6, "timeout": "5s"},
        # A picture on which a decoder hangs takes four times this, and as often as its partition moves meanwhile.
        "decode": {"timeout": "2s"},
        "model": {"path": str(model), "threads": 2},
        "sinks": [{"kafka": {"labels": topics["labels"], "embeddings": topics["embeddings"]}}],
        "dead_letters": {"kafka": topics["dead"]},
        "reject_limit": {"share": 1.0, "of_last": 1000},
        "delivery": "exactly-once",
    }
    return json.dumps({**whole, **more}, indent=1)


def cause(line):
    """Why, in librdkafka's words where they are there: what stands in the last parentheses, or behind the last colon; without what differs each time."""
    found = re.findall(r"\(((?:Local|Broker): [^()]*)\)", line)
    return found[-1] if found else re.sub(r"[\w.-]+:\d+(/\d+)?|\d+", "N", line.rpartition(": ")[2])[:60]


def environment(**more):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LAKELENS_")}
    return {**kept, "AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET, "NO_COLOR": "1", **more}


class Worker:
    """One place for a worker, with a way of its own to the pictures. What runs there comes and goes."""

    def __init__(self, fleet, number, gateway, file):
        self.fleet, self.number, self.gateway, self.file = fleet, number, gateway, file
        self.inside = Inside(file.with_suffix(".store"), gateway)
        self.process, self.log, self.starts, self.started = None, None, 0, 0.0
        self.wanted = False
        self.killed = self.frozen = False
        self.failpoint, self.armed, self.stopping = None, None, None

    def start(self, failpoint=None):
        self.starts += 1
        self.log = self.fleet.folder / f"worker-{self.number}-{self.starts:03}.log"
        more = {"LAKELENS_STORE_TROUBLE": str(self.inside.file), **({"LAKELENS_FAILPOINT": failpoint} if failpoint else {})}
        self.process = processes.spawn([self.fleet.binary, "run", self.file], self.log, env=environment(**more))
        self.started = time.monotonic()
        self.killed = self.frozen = False
        self.failpoint = self.armed = failpoint
        self.stopping, self.wanted = None, True

    def running(self):
        return self.process is not None and self.process.poll() is None

    def busy(self):
        """Whether this process is fetching pictures now."""
        return self.running() and not self.frozen and not self.killed and self.gateway.busy(self.started)

    def kill(self):
        self.killed = True
        self.process.kill()

    def freeze(self):
        self.frozen = True
        self.process.send_signal(signal.SIGSTOP)

    def wake(self):
        self.frozen = False
        if self.running():
            self.process.send_signal(signal.SIGCONT)

    def leave(self, patience):
        """Asks it to drain; it must do so within so many seconds, and end with 0."""
        self.wanted, self.stopping = False, time.monotonic() + patience
        self.process.terminate()

    def text(self):
        return self.log.read_text(errors="replace") if self.log else ""


class Fleet:
    """All workers. `failures` is what no worker may do, each with the end of its log."""

    def __init__(self, binary, folder, cluster, gateways, topics, group, model):
        self.binary, self.folder = binary, folder
        self.failures = []
        self.ended = collections.Counter()
        self.failpoints = collections.Counter()
        self.drained = []
        self.logs = []
        self.workers = []
        for number, gateway in enumerate(gateways):
            file = folder / f"worker-{number}.yaml"
            # Half of them are static members, who come back to their partitions without a rebalance.
            static = {"group.instance.id": f"place-{number}"} if number % 2 else {}
            file.write_text(pipeline(cluster, topics, group, f"http://127.0.0.1:{gateway.port}", model, static))
            self.workers.append(Worker(self, number, gateway, file))

    def running(self):
        return [w for w in self.workers if w.running()]

    def watch(self):
        """Looks at each worker: one that ended is judged, and started again where it is wanted."""
        for worker in self.workers:
            if worker.process is None:
                continue
            if worker.process.poll() is None:
                if worker.stopping and time.monotonic() > worker.stopping:
                    self.fail(worker, "did not drain in time after SIGTERM")
                    worker.kill()
                continue
            self.judge(worker)
            self.logs.append(worker.log)
            worker.process = None
            if worker.wanted:
                worker.start()

    def judge(self, worker):
        code, text = worker.process.returncode, worker.text()
        if worker.killed and code == -signal.SIGKILL:
            self.ended["killed by the suite"] += 1
        elif code == -signal.SIGABRT and worker.armed and f"failpoint {worker.armed.split(':')[0]}: aborting" in text:
            self.failpoints[worker.armed.split(":")[0]] += 1
        elif code == 0 and worker.stopping:
            self.drained.append(worker.stopping)
            self.ended["drained with code 0"] += 1
        elif code == 1 and (name := next((n for n, words in LEGITIMATE.items() if words in text), None)):
            self.ended[f"ended with code 1, {name}"] += 1
        else:
            self.fail(worker, f"ended with {code}")

    def fail(self, worker, what):
        self.failures.append(f"worker {worker.number} {what}; the end of {worker.log}:\n" + "".join(worker.text().splitlines(True)[-25:]))
        print(self.failures[-1], flush=True)

    def seen(self):
        """How often the logs tell of aborts and fencings."""
        texts = [log.read_text(errors="replace") for log in {*self.logs, *(w.log for w in self.workers if w.log)}]
        aborts = collections.Counter(cause(line) for text in texts for line in text.splitlines() if ABORTED in line)
        stuck = LEGITIMATE["client did not come back"]
        ends = collections.Counter(cause(line) for text in texts for line in text.splitlines() if LEGITIMATE["fatal Kafka error"] in line and stuck not in line)
        return {
            "aborted transactions": aborts.total(),
            **{f"  aborted: {why}": count for why, count in aborts.most_common()},
            "producers that could not go on": ends.total(),
            **{f"  could not go on: {why}": count for why, count in ends.most_common()},
            "clients that did not come back": sum(text.count(stuck) for text in texts),
            "fencings": sum(len(re.findall("have fenced", text)) for text in texts),
            "partitions lost to the group": sum(text.count("partitions were lost") for text in texts),
        }

    def close(self):
        for worker in self.workers:
            if worker.process is not None:
                processes.stop(worker.process, patience=1)
