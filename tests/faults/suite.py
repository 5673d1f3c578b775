"""The suite of faults: real brokers, a real S3 server, workers that die in every way, and a verifier that has the last word. See scripts/faults."""

import argparse
import collections
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback

import archive
import lake
import lines
import links
import scenarios
import schedule
import stuck
from cluster import Cluster
from faults import FAULTS
from pictures_server import PictureServer
from tally import Tally
from workers import Fleet
from world import World, verify

WORKERS = 4
PARTITIONS = 4
GROUP = "lakelens-faults"
PARTS = ["breaks", "disk", "lost", "stuck", "archive", "lines", "resnet50", "storm"]
RESNET50_MINUTES = 3
#: From here on the long form must reach its minimums.
LONG_MINUTES = 30


class Stage:
    """Everything that runs beside the workers."""

    def __init__(self, binary, seed):
        self.binary, self.seed = binary, seed
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="lakelens-faults-"))
        self.loop = links.Loop()
        self.server = self.cluster = None
        self.closers = []
        self.tally = Tally()

    def start(self):
        self.cluster = Cluster(self.folder, self.loop)
        self.cluster.start()
        self.server = PictureServer(self.folder, self.loop, WORKERS, self.seed)
        self.server.upload(lake.BUCKET, lake.objects())
        self.model = lake.model(self.binary, self.folder)
        self.table = lake.table(self.binary, self.folder)

    def topics(self, name, partitions=PARTITIONS):
        """The topics of one pipeline."""
        return {kind: self.cluster.make_topic(f"{name}-{kind}", partitions) for kind in ("input", "labels", "embeddings", "dead")}

    def close(self):
        for closer in reversed(self.closers):
            closer()
        if self.cluster:
            self.cluster.close()
        if self.server:
            self.server.close()
        self.loop.close()


def played(stage, options, tally, lanes, minutes, name="main", model="tiny", **more):
    """Workers, a stream of references, and the faults of these lanes; then the verifier's word. Whether all was well."""
    topics, group = stage.topics(name), GROUP if name == "main" else name
    folder = stage.folder / f"workers-{name}"
    folder.mkdir()
    fleet = Fleet(stage.binary, folder, stage.cluster, stage.server.gateways, topics, group, stage.folder / model)
    stage.closers.append(fleet.close)
    world = World(stage.cluster, stage.server, fleet, topics, group, lake.References(options.seed), folder, tally, **more)
    stage.closers.append(world.stream.over.set)
    world.run(lanes, minutes)
    # What a killed worker left open ends with its transaction's timeout; the verifier waits for that.
    code, table = verify(stage.cluster, topics, stage.folder, model)
    print("\n" + table, flush=True)
    problems = [*world.failures, *fleet.failures]
    if problems:
        print(f"\n{len(problems)} workers or waits went wrong:\n" + "\n".join(problems), flush=True)
    return code == 0 and not problems


def storm(stage, options):
    """The scheduled faults."""
    tally = Tally()
    lanes = schedule.only(options.seed, options.together) if options.together else schedule.lanes(options.seed, options.short)
    try:
        good = played(stage, options, tally, lanes, None if options.short else options.minutes, pace=0.5 if options.short else 1.0)
    finally:
        # Shown with the others' even where the suite itself breaks off.
        stage.tally.add(tally)
    kinds = collections.Counter()
    for name in {*tally.hits, *tally.idle}:
        kinds[schedule.kind(name)] += tally.hits[name]
    short_of = [kind for kind, hits in kinds.items() if hits < 2] if options.short else []
    if short_of:
        print(f"struck work less than twice: {', '.join(short_of)}", flush=True)
    return good and not short_of


def resnet50(stage, options):
    """A short pass with the network that the program is made for, of which a worker holds much more in memory and does much less in a second."""
    lake.model(stage.binary, stage.folder, "resnet50")
    lake.table(stage.binary, stage.folder, "resnet50")
    tally = Tally()
    lanes = schedule.lanes(options.seed, short=False, kinds=("kill", "zombie", "sigterm", "rebalance"), calm=3)
    good = played(stage, options, tally, lanes, min(options.minutes, RESNET50_MINUTES), "resnet50", "resnet50", backlog=60)
    print(tally.table(minimum=False, all_rows=False), flush=True)
    missed = [kind for kind in ("worker killed", "worker frozen", "rebalance") if not tally.hits[kind]]
    if missed:
        print(f"struck no work: {', '.join(missed)}", flush=True)
    return good and not missed


def conclude(stage, options, parts):
    """Prints the table of all faults; whether the long form had what it must have."""
    long = not options.short and not options.together
    print(stage.tally.table(minimum=long), flush=True)
    missed = stage.tally.missed(parts) if long else {}
    for name, (count, least) in missed.items():
        print(f"MINIMUM MISSED: {name} {count}, at least {least}", flush=True)
    return not missed or options.minutes < LONG_MINUTES


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="how long faults strike (30)")
    parser.add_argument("--seed", type=int, default=None, help="draws the schedule; printed, and taken from the clock where not given")
    parser.add_argument("--short", action="store_true", help="every kind of fault at least twice, in less than ten minutes")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part alone")
    parser.add_argument("--together", nargs="+", choices=FAULTS, help="instead of the schedule these faults together, again and again")
    parser.add_argument("--keep", action="store_true", help="keep logs and data though all went well")
    parser.add_argument("--binary", default=str(lake.ROOT / "target/release/lakelens-faults"))
    options = parser.parse_args()
    if options.seed is None:
        options.seed = int(time.time()) % 1_000_000
    print(f"seed {options.seed}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    asked = options.only or [part for part in PARTS if not (options.short and part == "resnet50")]
    parts = {"breaks": scenarios.breaks, "disk": scenarios.disk_full, "lost": scenarios.lost_input, "stuck": stuck.stuck, "archive": archive.archive, "lines": lines.lines, "resnet50": resnet50, "storm": storm}
    stage = Stage(options.binary, options.seed)
    results = {}
    try:
        begun = time.monotonic()
        stage.start()
        print(f"three brokers and an S3 server are up after {time.monotonic() - begun:.0f} s; logs in {stage.folder}", flush=True)
        for name, part in parts.items():
            if name in asked:
                begun = time.monotonic()
                try:
                    results[name] = part(stage, options)
                except Exception:
                    # The other parts have something to say all the same.
                    traceback.print_exc(file=sys.stdout)
                    results[name] = False
                print(f"-- {name}: {'good' if results[name] else 'BROKEN'}, {time.monotonic() - begun:.0f} s\n", flush=True)
        results["minimums"] = conclude(stage, options, results)
    finally:
        stage.close()
        good = bool(results) and all(results.values())
        if good and not options.keep:
            shutil.rmtree(stage.folder, ignore_errors=True)
        else:
            print(f"logs and data are kept in {stage.folder}; the seed was {options.seed}", flush=True)
    sys.stdout.flush()
    os._exit(0 if good else 1)


if __name__ == "__main__":
    random.seed()
    main()
