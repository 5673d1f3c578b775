"""What struck, held against what the long form must show, and what the workers said about it."""

import collections

#: The rows of the table, and the least of each in the long form's half hour.
MINIMUM = {
    "workers killed": 100,
    "killed at txn.begin": 5,
    "killed at txn.sent": 5,
    "killed at txn.offsets": 5,
    "killed at txn.committed": 5,
    "worker frozen": 20,
    "brokers killed": 30,
    "network": 30,
    "S3": 30,
    "rebalance": 50,
    "SIGTERM under load": 20,
    "poison": 5,
    "disk full": 5,
    "input deleted by retention": 3,
    "offsets deleted": 3,
    "several at once": 1,
}
#: Rows that sum up: what the names of their kinds begin with.
SUMS = {
    "workers killed": ("worker killed", "killed at"),
    "brokers killed": ("broker killed",),
    "network": ("network ",),
    "S3": ("S3 ",),
    "poison": ("poison ",),
}
#: Rows of these parts are only due where the part was played.
OF_PARTS = {"disk full": "disk", "input deleted by retention": "lost", "offsets deleted": "lost"}


class Tally:
    """`hits` struck work that was in flight; `idle` did not, and do not count. `seen` is what the workers' logs tell, `ended` how they ended."""

    def __init__(self):
        self.hits, self.idle = collections.Counter(), collections.Counter()
        self.seen, self.ended = collections.Counter(), collections.Counter()

    def strike(self, kind, in_flight):
        (self.hits if in_flight else self.idle)[kind] += 1

    def add(self, other):
        for name in ("hits", "idle", "seen", "ended"):
            getattr(self, name).update(getattr(other, name))

    def row(self, name, counter=None):
        counter = self.hits if counter is None else counter
        return sum(count for kind, count in counter.items() if kind == name or kind.startswith(SUMS.get(name, ("\0",))))

    def missed(self, parts):
        """The rows of these parts that are behind their minimum, with both numbers."""
        rows = {name: (self.row(name), least) for name, least in MINIMUM.items() if OF_PARTS.get(name, "storm") in parts}
        return {name: pair for name, pair in rows.items() if pair[0] < pair[1]}

    def table(self, minimum=True, all_rows=True):
        lines = [f"{'fault':<36}{'struck work':>12}{'at least' if minimum else '':>10}{'not counted':>13}"]
        for name, least in MINIMUM.items():
            if not (all_rows or self.row(name) or self.row(name, self.idle)):
                continue
            lines.append(f"{name:<36}{self.row(name):>12}{least if minimum else '':>10}{self.row(name, self.idle):>13}")
            forms = sorted(kind for kind in {*self.hits, *self.idle} if kind.startswith(SUMS.get(name, ("\0",))) and kind not in MINIMUM)
            lines += [f"  {kind:<34}{self.hits[kind]:>12}{'':>10}{self.idle[kind]:>13}" for kind in forms]
        shown = {kind for kind in {*self.hits, *self.idle} if kind in MINIMUM or any(kind.startswith(f) for f in SUMS.values())}
        lines += [f"{kind:<36}{self.hits[kind]:>12}{'':>10}{self.idle[kind]:>13}" for kind in sorted({*self.hits, *self.idle} - shown)]
        lines += ["", "what the workers said"] + [f"  {name:<70}{count:>6}" for name, count in self.seen.items()]
        lines += ["how they ended"] + [f"  {how:<70}{count:>6}" for how, count in self.ended.items()]
        return "\n".join(lines)
