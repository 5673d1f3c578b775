"""The schedule is what it says: replayable, and complete."""

import collections
import itertools

import schedule
import tally
from faults import FAULTS


def played(seed, short, events):
    return {lane: list(itertools.islice(drawn, events)) for lane, drawn in schedule.lanes(seed, short).items()}


def test_a_seed_gives_the_same_schedule_again():
    for short in (True, False):
        assert played(7, short, 200) == played(7, short, 200) != played(8, short, 200)


def test_the_short_form_has_every_kind_twice():
    names = collections.Counter(name for lane in played(3, True, 1000).values() for _, name, _ in lane)
    kinds = collections.Counter()
    for name, count in names.items():
        kinds[schedule.kind(name)] += count
    assert set(names) == set(FAULTS) and min(kinds.values()) >= 2


def test_five_decks_of_each_lane_hold_the_minimums():
    kinds = collections.Counter()
    for lane, events in schedule.lanes(3, False).items():
        deck = len(schedule.deck(schedule.random.Random(0), schedule.LANES[lane][0], schedule.WEIGHTS))
        kinds.update(schedule.kind(name) for _, name, _ in itertools.islice(events, 5 * deck))
    # A kill takes two workers on average; a failpoint kills one to prepare it, and one where it stands.
    kinds["killed"] = 2 * kinds["kill"] + 2 * kinds["failpoint"]
    due = {"killed": "workers killed", "zombie": "worker frozen", "sigterm": "SIGTERM under load"}
    due |= {"broker": "brokers killed", "network": "network", "S3": "S3", "rebalance": "rebalance", "poison": "poison"}
    assert {name: kinds[name] for name, row in due.items() if kinds[name] < tally.MINIMUM[row]} == {}


def test_every_fault_has_a_lane():
    assert {schedule.kind(name) for name in FAULTS} == {kind for kinds, _ in schedule.LANES.values() for kind in kinds}
