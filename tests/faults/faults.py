"""Each kind of fault: a generator that strikes, yields the seconds to wait, and heals what it broke. Several may run at once.

A fault counts only if work was in flight when it struck: `world.in_flight(worker)` looks at the worker's own connection to the pictures and at the
input that is not committed; for brokers and the network, the link must have carried requests within the last second besides.
"""

import contextlib
import os
import signal
import time

import confluent_kafka as ck

import lake
import processes
import workers
from pictures_server import Gateway

LINK_BUSY_BYTES = 1000
MOST_PARTITIONS = 12
FAILPOINT_PATIENCE = 40
DRAIN_SECONDS = 35


def busy_worker(world, rng, fits=lambda worker: True):
    """Waits for a worker with work in flight that fits, and gives one of them; None if there is none in time. Prepared workers are left alone."""
    for _ in range(100):
        free = [w for w in world.fleet.workers if world.in_flight(w) and not w.failpoint and not w.stopping and not w.killed and fits(w)]
        if free:
            return rng.choice(free)
        yield 0.1
    return None


def flowing(world, links):
    """Waits until work is in flight, and one of the links carries it; whether that came about in time."""
    for _ in range(150):
        if any(map(world.in_flight, world.fleet.workers)) and any(link.recent() > LINK_BUSY_BYTES for link in links):
            return True
        yield 0.1
    return False


def kill(world, rng):
    for _ in range(rng.choice([1, 1, 2, 4])):
        worker = yield from busy_worker(world, rng)
        if worker is None:
            return world.missed("worker killed")
        world.strike("worker killed", f"worker {worker.number}", world.in_flight(worker))
        worker.kill()
        yield rng.choice([0.0, 0.0, rng.uniform(0, 1)])
    yield rng.uniform(0.5, 2)


def failpoint(name):
    def fault(world, rng):
        """Its place is in the middle of a transaction, so work is in flight whenever it is reached."""
        worker = yield from busy_worker(world, rng)
        if worker is None:
            return world.missed(f"killed at {name}")
        world.strike("worker killed", f"worker {worker.number}, to come back with {name}", world.in_flight(worker))
        worker.wanted = False
        worker.kill()
        while worker.process is not None:
            yield 0.05
        before = world.fleet.failpoints[name]
        worker.start(f"{name}:{rng.randrange(1, 8)}")
        deadline = time.monotonic() + FAILPOINT_PATIENCE
        while world.fleet.failpoints[name] == before:
            if time.monotonic() > deadline:
                worker.failpoint = None  # it may still be reached, but the worker is free for other faults
                return world.missed(f"killed at {name}")
            yield 0.1
        world.strike(f"killed at {name}", f"worker {worker.number}", True)
        yield rng.uniform(0.5, 2)

    return fault


def zombie(world, rng):
    """Frozen until the group has gone on without it, sometimes until the brokers have ended its transaction too."""
    worker = yield from busy_worker(world, rng)
    if worker is None:
        return world.missed("worker frozen")
    seconds = workers.SESSION_SECONDS + rng.choice([2, 4, 8])
    world.strike("worker frozen", f"worker {worker.number}, {seconds} s", world.in_flight(worker))
    worker.freeze()
    yield seconds
    worker.wake()
    yield rng.uniform(2, 4)


def sigterm(world, rng):
    """Drains, ends with 0, and another takes its place."""
    worker = yield from busy_worker(world, rng)
    if worker is None:
        return world.missed("SIGTERM under load")
    patience = DRAIN_SECONDS * (1 if world.alone() else 2)
    world.strike("SIGTERM under load", f"worker {worker.number}", world.in_flight(worker))
    begun = time.monotonic()
    worker.leave(patience)
    while worker.process is not None:
        yield 0.05
    world.say(f"worker {worker.number} drained in {time.monotonic() - begun:.1f} s")
    yield rng.uniform(0, 1)
    if worker.process is None:
        worker.start()
    yield rng.uniform(0.5, 2)


def rebalance(world, rng):
    """A worker joins where a place is free, or one leaves; or the topic gets another partition."""
    how = rng.choice(["move", "move", "move", "partition"])
    empty = [w for w in world.fleet.workers if w.process is None]
    partitions = world.cluster.partitions(world.topics["input"])
    in_flight = any(map(world.in_flight, world.fleet.workers))
    if how == "partition" and 0 < partitions < MOST_PARTITIONS:
        try:
            world.cluster.add_partition(world.topics["input"])
        except ck.KafkaException as error:
            world.say(f"no partition could be added: {error.args[0].str()}")
            return world.missed("rebalance")
        world.strike("rebalance", f"{partitions + 1} partitions now", in_flight)
    elif empty and (len(world.fleet.running()) < 3 or rng.random() < 0.6):
        worker = rng.choice(empty)
        worker.start()
        world.strike("rebalance", f"worker {worker.number} joins", in_flight)
    else:
        worker = yield from busy_worker(world, rng)
        if worker is None or len(world.fleet.running()) < 2:
            return world.missed("rebalance")
        world.strike("rebalance", f"worker {worker.number} leaves", world.in_flight(worker))
        worker.leave(DRAIN_SECONDS * (1 if world.alone() else 2))
        while worker.process is not None:
            yield 0.05
    yield rng.uniform(1, 3)


def broker(which):
    """One of the three: any, or the one that leads the group or the transaction that ended last."""
    kind = "broker killed" + ("" if which == "any" else f", the {which} coordinator")

    def fault(world, rng):
        while not world.cluster.whole():
            yield 0.5
        find = {"group": lambda: world.cluster.group_coordinator(world.group), "transaction": world.cluster.transaction_coordinator}
        victim = None
        for _ in range(40):
            # Whom to ask may be about to change.
            with contextlib.suppress(ck.KafkaException, KeyError):
                victim = find[which]() if which in find else rng.choice(world.cluster.brokers)
                break
            yield 0.5
        if victim is None or not victim.alive():
            return world.missed(kind)
        in_flight = yield from flowing(world, [victim.link])
        world.strike(kind, f"broker {victim.number}", in_flight)
        victim.kill()
        yield rng.uniform(1, 10) * world.pace
        victim.start()
        yield 3
        while not world.cluster.whole():
            yield 1
        world.say(f"broker {victim.number} is back, all replicas in sync")

    return fault


def network(how):
    def fault(world, rng):
        brokers = world.cluster.brokers if rng.random() < 0.4 else [rng.choice(world.cluster.brokers)]
        links = [b.link for b in brokers]
        seconds = rng.uniform(2, 9) * world.pace
        in_flight = yield from flowing(world, links)
        resets = sum(link.resets for link in links)
        for link in links:
            if how == "cut":
                link.cut = True
            elif how == "delay":
                link.delay = rng.uniform(0.1, 0.6)
            elif how == "mute":
                link.mute = True
            elif how == "throttle":
                link.rate = rng.choice([2_000, 10_000, 40_000])
            elif how == "reset":
                link.reset_after = rng.randrange(100, 20_000)
            elif how == "refuse":
                link.refuse()
        where = "brokers " + ", ".join(str(b.number) for b in brokers)
        if how == "reset":
            # It strikes when the bytes have passed, not before.
            deadline = time.monotonic() + 15
            while sum(link.resets for link in links) == resets and time.monotonic() < deadline:
                yield 0.05
            in_flight = in_flight and sum(link.resets for link in links) > resets
            seconds = 1
        world.strike(f"network {how}", f"{where}, {seconds:.1f} s", in_flight)
        if how == "mute":
            # The brokers do what they are asked, and nobody hears of it until they are back.
            yield 0.5
            for link in links:
                link.refuse()
        yield seconds
        for link in links:
            link.heal()
        yield rng.uniform(0.5, 2)

    return fault


def pictures(how, inside):
    def fault(world, rng):
        """On the way to the server, or inside the workers. Counts if it broke requests, which are in flight by their nature."""
        yield from busy_worker(world, rng)
        chosen = world.fleet.workers if rng.random() < 0.6 else world.fleet.running()[:1]
        places = [w.inside if inside else w.gateway for w in chosen]
        share = rng.choice([0.3, 0.7, 1.0])
        before = sum(p.struck for p in places)
        deadline = time.monotonic() + 5
        while not any(p.open for p in places) and time.monotonic() < deadline:
            yield 0.01
        for place in places:
            place.fault(how, share)
        seconds = rng.uniform(2, 7) * world.pace
        yield seconds
        for place in places:
            place.heal()
        struck = sum(p.struck for p in places) - before
        world.strike(f"S3 {how}" + (", in-process" if inside else ""), f"{seconds:.1f} s, {struck} requests broken, share {share}", struck > 0)
        yield rng.uniform(0, 2)

    return fault


def poison(kind):
    def fault(world, rng):
        """A picture that kills or stops whatever decodes it, among good ones; counts when another fault could move its partition, that is when work is
        in flight. That it is rejected, and the others are not, is for the verifier to say."""
        yield from busy_worker(world, rng)
        in_flight = any(map(world.in_flight, world.fleet.workers))
        keys = rng.sample(world.stream.references.keys, 2)
        value = world.stream.references.message([keys[0], lake.poison(kind), keys[1]])
        partition = rng.randrange(max(world.cluster.partitions(world.topics["input"]), 1))
        world.stream.references.send(world.cluster, world.topics["input"], [(value, partition)])
        world.strike(f"poison {kind}", f"to partition {partition}", in_flight)
        yield rng.uniform(2, 5)

    return fault


def helper(world, rng):
    """The process that decodes is killed from outside, which costs no picture."""
    # A worker has none before its first picture has come, and for a moment after one has crashed.
    worker = yield from busy_worker(world, rng, lambda worker: processes.children(worker.process.pid))
    children = worker and processes.children(worker.process.pid)
    if not children:
        return world.missed("helper killed")
    in_flight = world.in_flight(worker)
    os.kill(rng.choice(children), signal.SIGKILL)
    world.strike("helper killed", f"of worker {worker.number}", in_flight)
    yield rng.uniform(0.5, 2)


FAULTS = {
    "kill": kill,
    **{f"failpoint {name}": failpoint(name) for name in workers.FAILPOINTS},
    "zombie": zombie,
    "sigterm": sigterm,
    "rebalance": rebalance,
    "broker any": broker("any"),
    "broker group": broker("group"),
    "broker transaction": broker("transaction"),
    **{f"network {how}": network(how) for how in ("cut", "mute", "delay", "throttle", "reset", "refuse")},
    **{f"S3 {how}": pictures(how, inside=False) for how in Gateway.MODES},
    **{f"S3 {how}, in-process": pictures(how, inside=True) for how in Gateway.MODES},
    **{f"poison {kind}": poison(kind) for kind in lake.POISON},
    "helper": helper,
}
