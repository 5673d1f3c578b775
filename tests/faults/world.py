"""What the faults act on, and what is counted."""

import collections
import heapq
import itertools
import random
import subprocess
import sys
import time

import processes
from faults import FAULTS
from lake import Stream

PATIENCE_FOR_ONE_FAULT = 180
PATIENCE_FOR_THE_REST = 300
VERIFY = [sys.executable, __file__.replace("world.py", "verify.py")]


def verify(cluster, topics, folder):
    """Runs the verifier; its code and its table."""
    command = [*VERIFY, "--brokers", cluster.direct, "--table", folder / "table.json"]
    for name, topic in topics.items():
        command += [f"--{name}", topic]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


class World:
    def __init__(self, cluster, server, fleet, topics, group, references, folder, pace=1.0):
        self.cluster, self.server, self.fleet, self.topics, self.group, self.folder = cluster, server, fleet, topics, group, folder
        self.stream = Stream(cluster, topics["input"], group, references, backlog=600)
        self.begun = time.monotonic()
        # How long faults last; the short form has no time for long ones.
        self.pace = pace
        self.hits, self.idle = collections.Counter(), collections.Counter()
        self.active, self.number = [], itertools.count()
        self.failures = []

    def say(self, text):
        print(f"[{time.monotonic() - self.begun:7.1f} s] {text}", flush=True)

    def in_flight(self, worker):
        return worker.busy() and self.stream.lag > 0

    def alone(self):
        """Whether no other fault is going on."""
        return len(self.active) == 0

    def strike(self, kind, detail, in_flight):
        (self.hits if in_flight else self.idle)[kind] += 1
        self.say(f"{kind}: {detail}" + ("" if in_flight else "; nothing was in flight, not counted"))

    def missed(self, kind):
        self.idle[kind] += 1
        self.say(f"{kind}: no work was in flight, not struck")

    def play(self, faults):
        """Runs the faults of one event, together, to their ends."""
        begun = time.monotonic()
        for name, seed in faults:
            heapq.heappush(self.active, (begun, next(self.number), name, FAULTS[name](self, random.Random(seed))))
        if len(faults) > 1:
            self.strike("several at once", " + ".join(name for name, _ in faults), any(map(self.in_flight, self.fleet.workers)))
        while self.active:
            due, _, name, fault = heapq.heappop(self.active)
            self.rest(max(0.0, due - time.monotonic()))
            try:
                pause = next(fault)
            except StopIteration:
                continue
            if time.monotonic() - begun > PATIENCE_FOR_ONE_FAULT:
                self.failures.append(f"{name} did not end within {PATIENCE_FOR_ONE_FAULT} s")
                raise AssertionError(self.failures[-1])
            heapq.heappush(self.active, (time.monotonic() + pause, next(self.number), name, fault))

    def rest(self, seconds):
        """Waits, and watches the workers meanwhile."""
        end = time.monotonic() + seconds
        while True:
            self.fleet.watch()
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.05))

    def run(self, events, minutes, workers=2):
        """Faults until the events or the minutes are over; then everything is healed, and what is left is worked off."""
        self.stream.start()
        for worker in self.fleet.workers[:workers]:
            worker.start()
        self.rest_until("the workers to begin", lambda: any(map(self.in_flight, self.fleet.workers)), 60)
        end = None if minutes is None else time.monotonic() + 60 * minutes
        for pause, faults in events:
            self.rest(pause)
            if end is not None and time.monotonic() > end:
                break
            hits = sum(self.hits.values())
            self.play(faults)
            for again in range(2):
                if sum(self.hits.values()) == hits:
                    self.play([(name, seed + 1 + again) for name, seed in faults])
        self.say("no more faults; working off what is left")
        self.stream.close()
        if not self.fleet.running():
            self.fleet.workers[0].start()
        self.rest_until("the lag to be worked off", lambda: self.cluster.lag(self.group, self.topics["input"]) == 0, PATIENCE_FOR_THE_REST)
        for worker in self.fleet.running():
            worker.leave(30)
        self.rest_until("the workers to drain", lambda: not self.fleet.running(), 60)

    def rest_until(self, what, condition, patience):
        deadline = time.monotonic() + patience
        while not condition():
            if time.monotonic() > deadline:
                self.failures.append(f"{what}: not within {patience} s")
                for worker in self.fleet.running():
                    self.fleet.fail(worker, f"was still running while waiting for {what}")
                return
            self.rest(0.5)

    def counts(self):
        lines = [f"{'fault':<28}{'struck work':>12}{'not counted':>14}"]
        lines += [f"{kind:<28}{self.hits[kind]:>12}{self.idle[kind]:>14}" for kind in sorted({*self.hits, *self.idle})]
        lines.append("")
        lines += [f"{name:<48}{count:>6}" for name, count in self.fleet.seen().items()]
        lines += [f"{'workers: ' + how:<48}{count:>6}" for how, count in self.fleet.ended.items()]
        return "\n".join(lines)
