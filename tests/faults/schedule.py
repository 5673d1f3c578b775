"""Which faults strike, in which order: drawn from the seed alone, before anything runs."""

import itertools
import random

from faults import FAULTS

#: How often each fault stands in one deck of the long form. About four minutes a deck.
WEIGHTS = {"kill": 5, "zombie": 3, "sigterm": 3, "rebalance": 8}
#: What may strike together.
TOGETHER = ["kill", "zombie", "sigterm", "rebalance", "broker any", "broker group", "network cut", "network mute", "network reset"]
TOGETHER += ["S3 storm", "S3 slow", "S3 reset", "poison abort", "poison hang"]
COMBINED = 4
#: The short form: every kind at least twice, those that come in several forms once in each.
SHORT = {"kill": 2, "zombie": 2, "sigterm": 2, "rebalance": 4, "helper": 2}
#: What the forms of one kind begin with.
KINDS = ("network", "S3", "poison", "broker", "failpoint", "killed at")


def kind(name):
    return next((word for word in KINDS if name.startswith(word)), name)


def combination(rng):
    """Of two of one kind the one would heal what the other broke."""
    names = {kind(name): name for name in rng.sample(TOGETHER, len(TOGETHER))}
    return list(names.values())[: rng.choice([2, 2, 3])]


def deck(rng, weights, others, combined):
    cards = [[name] for name in FAULTS for _ in range(weights.get(name, others))]
    cards += [combination(rng) for _ in range(combined)]
    rng.shuffle(cards)
    return cards


def events(seed, short):
    """Events: seconds to wait before it, and its faults, each with a seed of its own. The short form ends, the long one goes on."""
    rng = random.Random(seed)
    rounds = [0] if short else itertools.count()
    for _ in rounds:
        cards = deck(rng, SHORT, 1, 2) if short else deck(rng, WEIGHTS, 1, COMBINED)
        for names in cards:
            yield rng.uniform(0.3, 2.0), [(name, rng.randrange(2**32)) for name in names]


def only(seed, names):
    """The same faults together, again and again: to look for one thing."""
    rng = random.Random(seed)
    while True:
        yield rng.uniform(0.3, 2.0), [(name, rng.randrange(2**32)) for name in names]
