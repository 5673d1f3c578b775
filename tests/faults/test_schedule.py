"""The schedule is what it says: replayable, and complete."""

import collections
import itertools

import schedule
from faults import FAULTS


def test_a_seed_gives_the_same_schedule_again():
    for short in (True, False):
        first, second = (list(itertools.islice(schedule.events(7, short), 200)) for _ in range(2))
        assert first == second
        assert first != list(itertools.islice(schedule.events(8, short), 200))


def test_the_short_form_has_every_kind_twice():
    alone = collections.Counter(faults[0][0] for _, faults in schedule.events(3, True) if len(faults) == 1)
    several = sum(len(faults) > 1 for _, faults in schedule.events(3, True))
    kinds = collections.Counter()
    for name, count in alone.items():
        kinds[schedule.kind(name)] += count
    assert several >= 2 and min(kinds.values()) >= 2
    assert set(alone) == set(FAULTS)


def test_the_long_form_has_every_kind_in_each_deck():
    deck = sum(schedule.WEIGHTS.get(name, 1) for name in FAULTS) + schedule.COMBINED
    seen = {faults[0][0] for _, faults in itertools.islice(schedule.events(3, False), deck) if len(faults) == 1}
    assert seen == set(FAULTS)


def test_faults_that_strike_together_are_of_different_kinds():
    for _, faults in itertools.islice(schedule.events(3, False), 300):
        assert len({schedule.kind(name) for name, _ in faults}) == len(faults)
