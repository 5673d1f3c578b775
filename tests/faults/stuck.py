"""A Kafka client that does not come back from a call, of a worker and of a redrive: each ends by itself, and the next one goes on exactly."""

import json
import subprocess
import threading

import lake
import scenarios
import verify
import world
from workers import environment

SAID = "has not come back from one call"


def stuck(stage, options):
    """Whether both ended with code 1 and a word about it, and nothing was lost or doubled."""
    # They wait long, so they do it at the same time.
    results = {}
    parts = [threading.Thread(target=lambda part=part: results.update({part: part(stage, options)})) for part in (worker, redrive)]
    for part in parts:
        part.start()
    for part in parts:
        part.join()
    return all(results.get(part) for part in (worker, redrive))


def worker(stage, options):
    topics = stage.topics("stuck", 2)
    file = scenarios.file_of(stage, "stuck", topics)
    lake.References(options.seed).produce(stage.cluster, topics["input"], 300, 2)
    said = scenarios.run_to_the_end(stage, "stuck-first", file, code=1, LAKELENS_STALL="committing offsets:3")
    committed = stage.cluster.committed("stuck", topics["input"])
    left = stage.cluster.lag("stuck", topics["input"])
    stage.tally.strike("client stuck", left > 0)
    scenarios.run_to_the_end(stage, "stuck-second", file)
    code, table = world.verify(stage.cluster, topics, stage.folder)
    print(f"a worker whose client was stuck at {committed}: {'ended' if SAID in said else 'DID NOT SAY SO'}, {left} messages before the next one\n{table}", flush=True)
    return SAID in said and left > 0 and code == 0


def redrive(stage, options):
    topics = stage.topics("stuck-redrive", 2)
    again = stage.cluster.make_topic("stuck-redrive-again", 2)
    references = lake.References(options.seed)
    references.send(stage.cluster, topics["input"], [(references.message([lake.BROKEN, key, lake.MISSING]), n % 2) for n, key in enumerate(references.keys)])
    scenarios.run_to_the_end(stage, "stuck-letters", scenarios.file_of(stage, "stuck-letters", topics))
    letters = verify.read(stage.cluster.direct, topics["dead"])
    command = [stage.binary, "redrive", "--brokers", stage.cluster.direct, "--topic", topics["dead"], "--to", again, "--json"]
    first = subprocess.run(command, env=environment(LAKELENS_STALL="committing positions:1"), capture_output=True, text=True, timeout=120)
    stage.tally.strike("client stuck", len(letters) > 0)
    second = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    sent = sum(counts["redriven"] for counts in json.loads(second.stdout)["reasons"].values())
    back = sorted(items(verify.read(stage.cluster.direct, again)))
    exact = bool(back) and back == sorted(items(letters)) and sent == len(letters)
    print(f"a redrive whose client was stuck: ended with {first.returncode}; of {len(letters)} letters the next one sent {sent}, {'each once' if exact else 'NOT EACH ONCE'}", flush=True)
    if first.returncode != 1 or SAID not in first.stderr:
        print(first.stderr[-3000:], flush=True)
        return False
    return exact


def items(messages):
    """What each of them asks for: its text, and which item of it."""
    for *_, value, headers in messages:
        names = dict(headers)
        yield value, names.get("lakelens.only-item") or names.get("lakelens.source.item")
