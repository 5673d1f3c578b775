"""What a fault does before it strikes."""

import random
import subprocess
import time
import types

import faults
import processes


class Place:
    """A worker's place as a fault sees it, with a process that begins its helper after a while, as one does whose first picture is still on its way."""

    number, failpoint, stopping, killed = 0, None, None, False

    def __init__(self):
        self.process = subprocess.Popen(["sh", "-c", "read -r go; sleep 60 & wait; sleep 60"], stdin=subprocess.PIPE)

    def begin_helper(self):
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def close(self):
        for process in processes.children(self.process.pid):
            subprocess.run(["kill", "-9", str(process)], check=True)
        self.process.kill()
        self.process.wait()


def test_a_worker_that_has_no_helper_yet_is_waited_for():
    place = Place()
    struck, missed = [], []
    world = types.SimpleNamespace(
        fleet=types.SimpleNamespace(workers=[place]),
        in_flight=lambda worker: True,
        strike=lambda kind, detail, in_flight: struck.append((kind, in_flight)),
        missed=missed.append,
    )
    try:
        for step, seconds in enumerate(faults.FAULTS["helper"](world, random.Random(7))):
            if struck:
                break
            if step == 3:
                place.begin_helper()
            time.sleep(seconds)
        assert (struck, missed) == ([("helper killed", True)], [])
        assert step > 3, "it struck before there was a helper"
    finally:
        place.close()
