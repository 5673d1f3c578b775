"""Which faults strike, in which order: drawn from the seed alone, before anything runs.

Faults strike in lanes, one after the other within a lane and at once across them: what is around the workers (brokers, network, pictures), what kills
them, what stops them for a while or in order, and what moves their partitions. Each lane plays decks: a deck holds each of its faults as often as WEIGHTS says, in an order that the seed
draws. Five decks of each lane hold the least number of each kind that the long form must show (`tally.MINIMUM`).
"""

import itertools
import random

from faults import FAULTS

#: What the forms of one kind begin with.
KINDS = ("network", "S3", "poison", "broker", "failpoint", "killed at")


def kind(name):
    return next((word for word in KINDS if name.startswith(word)), name)


#: Each lane's kinds, and the seconds between two of its faults.
LANES = {
    "around": (("broker", "network", "S3"), (0.2, 1)),
    "deaths": (("kill", "failpoint", "poison", "helper"), (1, 5)),
    "stops": (("zombie", "sigterm"), (2, 10)),
    "moves": (("rebalance",), (4, 16)),
}
#: How often each fault stands in a deck of the long form; once where nothing is said.
WEIGHTS = {"kill": 7, "failpoint": 2, "zombie": 4, "sigterm": 4, "rebalance": 10, "broker": 2}
#: The short form: every kind at least twice, those that come in several forms once in each.
SHORT = {"kill": 2, "helper": 2, "zombie": 2, "sigterm": 2, "rebalance": 4}


def deck(rng, kinds, weights):
    cards = [name for name in FAULTS if kind(name) in kinds for _ in range(weights.get(kind(name), 1))]
    rng.shuffle(cards)
    return cards


def draw(seed, lane, short, only):
    """One lane's events: seconds to wait before a fault, its name, and a seed of its own. The short form ends, the long one goes on."""
    rng = random.Random(f"{seed} {lane}")
    kinds = [kind for kind in LANES[lane][0] if only is None or kind in only]
    for _ in [0] if short or not kinds else itertools.count():
        for name in deck(rng, kinds, SHORT if short else WEIGHTS):
            yield rng.uniform(*LANES[lane][1]), name, rng.randrange(2**32)


def lanes(seed, short, kinds=None, calm=1):
    """All lanes; of all kinds of faults, or of these. `calm` stretches what lies between them."""
    return {lane: ((calm * pause, name, own) for pause, name, own in draw(seed, lane, short, kinds)) for lane in LANES}


def again(seed, name):
    rng = random.Random(f"{seed} {name}")
    while True:
        yield rng.uniform(0.3, 2.0), name, rng.randrange(2**32)


def only(seed, names):
    """The same faults at once, again and again: to look for one thing."""
    return {name: again(seed, name) for name in names}
