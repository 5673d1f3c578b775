"""JSONL files of two workers, with a folder each, who are killed and frozen while they write.

Delivery is at-least-once: what a worker had not committed when its partition moved stands in both folders, and nothing else does. In one folder
nothing stands twice, for a file is cut back to what is committed whenever its partition begins; and nothing is missing."""

import json
import re

import lake
import pair
import verify
from workers import pipeline

GROUP = "lines"


def lines(stage, options):
    """Whether every item was there, and once in a folder, as a record or as a rejection."""
    topics = stage.topics("lines")
    folders = [stage.folder / f"lines-out-{number}" for number in range(pair.WORKERS)]

    def file_of(number):
        path, out = stage.folder / f"lines-{number}.yaml", str(folders[number])
        sinks = {"sinks": [{"jsonl": {"path": out}}], "dead_letters": {"jsonl": out}, "delivery": "at-least-once"}
        endpoint = f"http://127.0.0.1:{stage.server.gateways[1 + number].port}"
        path.write_text(pipeline(stage.cluster, topics, GROUP, endpoint, stage.model, **sinks))
        return path

    stream = lake.Stream(stage.cluster, topics["input"], GROUP, lake.References(options.seed), backlog=200)
    stage.closers.append(stream.over.set)
    stream.start()
    wrong = pair.played(stage, options, "lines", file_of, stream.close)
    asked = verify.asked_of(topics["input"], verify.read(stage.cluster.direct, topics["input"]))
    each = [found_in(folder, asked) for folder in folders]
    for folder, found in zip(folders, each):
        twice = len(found) - len({(f.stream, f.position) for f in found})
        print(f"lines: {len(found)} in {folder.name}, {twice} of them twice", flush=True)
        wrong += [f"{folder.name}: {twice} twice in one folder"] * bool(twice) + [f"{folder.name}: empty"] * (not found)
    both = set.intersection(*({(f.stream, f.position) for f in found} for found in each))
    wrong += unexcused({position for _, position in both}, starts(stage.folder))[:10]
    verdict = verify.judge(asked, sum(each, []), stage.table)
    for name in ("missing", "unasked", "wrong"):
        wrong += [f"{name}: {entry}" for entry in getattr(verdict, name)[:10]]
    print(f"lines: {verdict.asked} items asked for, {len(verdict.doubled)} stand in both folders, {len(verdict.missing)} missing", flush=True)
    print("\n".join(wrong), end="\n" if wrong else "", flush=True)
    return not wrong


def starts(folder):
    """For each partition when it began, with which worker, and what was committed then; by time, which logs begin their lines with."""
    begun = {}
    for number in range(pair.WORKERS):
        for log in folder.glob(f"lines-{number}-*.log"):
            for when, topic, partition, offset in re.findall(r"(?m)^(\S+Z) .*?(\S+)/(\d+): assigned, from offset (\d+)", log.read_text(errors="replace")):
                begun.setdefault((topic, int(partition)), []).append((when, number, int(offset)))
    return {partition: sorted(entries) for partition, entries in begun.items()}


def unexcused(both, begun):
    """Where a partition began before what was committed already; and positions in both folders that were committed before the second worker had begun."""
    wrong = []
    for partition, entries in begun.items():
        wrong += [f"{partition}: began at {b[2]} after {a[2]} was committed" for a, b in zip(entries, entries[1:]) if b[2] < a[2]]
    for position in sorted(both):
        if len({number for _, number, offset in begun.get(position[:2], []) if offset <= position[2]}) < pair.WORKERS:
            wrong.append(f"{position}: in both folders, though committed before the second worker began")
    return wrong


def found_in(folder, asked):
    """What the lines of all files say. A line without its end would not be JSON, and a rejection says nothing of its message's text."""
    values = {item.position: item.value for item in asked}
    found = []
    for path in folder.glob("*.jsonl"):
        text = path.read_text()
        assert not text or text.endswith("\n"), f"{path}: the last line has no end"
        for line in text.split("\n")[:-1]:
            if path.name.endswith(".rejected.jsonl"):
                entry = json.loads(line)
                position = tuple(entry["source"][part] for part in ("topic", "partition", "offset", "item"))
                found.append(verify.Found("rejections", position, reason=entry["reason"], value=values.get(position)))
            else:
                found += [verify.record_of(stream, line) for stream in ("labels", "embeddings")]
    return found
