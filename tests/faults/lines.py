"""JSONL files of two workers, with a folder each, who are killed and frozen while they write.

Delivery is at-least-once: what a worker had not committed when its partition moved stands in both folders. In one folder nothing stands twice, for a file is
cut back to what is committed whenever its partition begins; and nothing is missing."""

import json

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
    verdict = verify.judge(asked, sum(each, []), stage.table)
    for name in ("missing", "unasked", "wrong"):
        wrong += [f"{name}: {entry}" for entry in getattr(verdict, name)[:10]]
    print(f"lines: {verdict.asked} items asked for, {len(verdict.doubled)} stand in both folders, {len(verdict.missing)} missing", flush=True)
    print("\n".join(wrong), end="\n" if wrong else "", flush=True)
    return not wrong


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
