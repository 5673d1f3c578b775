"""What the faults act on, and what is counted."""

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


def verify(cluster, topics, folder, model="tiny"):
    """Runs the verifier; its code and its table."""
    command = [*VERIFY, "--brokers", cluster.direct, "--table", folder / f"table-{model}.json"]
    for name, topic in topics.items():
        command += [f"--{name}", topic]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


class World:
    def __init__(self, cluster, server, fleet, topics, group, references, folder, tally, pace=1.0, backlog=600):
        self.cluster, self.server, self.fleet, self.topics, self.group, self.folder = cluster, server, fleet, topics, group, folder
        self.stream = Stream(cluster, topics["input"], group, references, backlog=backlog)
        self.begun = time.monotonic()
        # How long faults last; the short form has no time for long ones.
        self.pace = pace
        self.tally = tally
        self.number = itertools.count()
        # The lane whose fault is being moved on; the lanes with a fault going on, and whether it has struck yet; those with one that found no work.
        self.lane, self.going, self.found_none = None, {}, set()
        self.failures = []

    def say(self, text):
        print(f"[{time.monotonic() - self.begun:7.1f} s] {text}", flush=True)

    def in_flight(self, worker):
        return worker.busy() and self.stream.lag > 0

    def alone(self):
        """Whether no other fault is going on."""
        return len(self.going) <= 1

    def strike(self, kind, detail, in_flight):
        self.tally.strike(kind, in_flight)
        if in_flight:
            if any(struck for lane, struck in self.going.items() if lane != self.lane) and not self.going[self.lane]:
                self.tally.strike("several at once", True)
            self.going[self.lane] = True
        else:
            self.found_none.add(self.lane)
        self.say(f"{kind}: {detail}" + ("" if in_flight else "; nothing was in flight, not counted"))

    def missed(self, kind):
        self.tally.strike(kind, False)
        self.found_none.add(self.lane)
        self.say(f"{kind}: no work was in flight, not struck")

    def lane_of(self, lane, events, end):
        """The faults of one lane, one after the other; one that found no work tries twice more."""
        for pause, name, seed in events:
            yield pause
            for again in range(3):
                if end is not None and time.monotonic() > end:
                    return
                begun = time.monotonic()
                self.going[lane] = False
                for seconds in FAULTS[name](self, random.Random(seed + again)):
                    if time.monotonic() - begun > PATIENCE_FOR_ONE_FAULT:
                        self.failures.append(f"{name} did not end within {PATIENCE_FOR_ONE_FAULT} s")
                        raise AssertionError(self.failures[-1])
                    yield seconds
                del self.going[lane]
                if lane not in self.found_none:
                    break
                self.found_none.discard(lane)
                # What found no work in this moment would find none in the same one again.
                yield 1

    def play(self, lanes, end):
        """Runs the lanes beside each other, to their ends."""
        queue = [(0.0, next(self.number), lane, self.lane_of(lane, events, end)) for lane, events in lanes.items()]
        while queue:
            due, _, lane, faults = heapq.heappop(queue)
            self.rest(max(0.0, due - time.monotonic()))
            self.lane = lane
            pause = next(faults, None)
            if pause is not None:
                heapq.heappush(queue, (time.monotonic() + pause, next(self.number), lane, faults))

    def rest(self, seconds):
        """Waits, and watches the workers meanwhile."""
        end = time.monotonic() + seconds
        while True:
            self.fleet.watch()
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.05))

    def run(self, lanes, minutes, workers=3):
        """Faults until the events or the minutes are over; then everything is healed, and what is left is worked off."""
        self.stream.start()
        for worker in self.fleet.workers[:workers]:
            worker.start()
        self.rest_until("the workers to begin", lambda: any(map(self.in_flight, self.fleet.workers)), 60)
        self.play(lanes, None if minutes is None else time.monotonic() + 60 * minutes)
        self.say("no more faults; working off what is left")
        self.stream.close()
        if not self.fleet.running():
            self.fleet.workers[0].start()
        self.rest_until("the lag to be worked off", lambda: self.cluster.lag(self.group, self.topics["input"]) == 0, PATIENCE_FOR_THE_REST)
        for worker in self.fleet.running():
            worker.leave(30)
        self.rest_until("the workers to drain", lambda: not self.fleet.running(), 60)
        self.tally.seen.update(self.fleet.seen())
        self.tally.ended.update(self.fleet.ended)

    def rest_until(self, what, condition, patience):
        deadline = time.monotonic() + patience
        while not condition():
            if time.monotonic() > deadline:
                self.failures.append(f"{what}: not within {patience} s")
                for worker in self.fleet.running():
                    self.fleet.fail(worker, f"was still running while waiting for {what}")
                return
            self.rest(0.5)
