"""JSONL files in a folder that two workers share, who are killed and frozen while they write.

A file is cut back to what is committed when a worker begins with it, so that afterwards every item is there once, though nothing is transactional. A
worker that wakes up and writes on neither tears nor doubles a line."""

import json

import lake
import pair
import verify
from workers import pipeline

GROUP = "lines"


def lines(stage, options):
    """Whether every item was there once, as a record or as a rejection."""
    topics, out = stage.topics("lines"), stage.folder / "lines-out"

    def file_of(number):
        path = stage.folder / f"lines-{number}.yaml"
        sinks = {"sinks": [{"jsonl": {"path": str(out)}}], "dead_letters": {"jsonl": str(out)}, "delivery": "at-least-once"}
        endpoint = f"http://127.0.0.1:{stage.server.gateways[1 + number].port}"
        path.write_text(pipeline(stage.cluster, topics, GROUP, endpoint, stage.model, **sinks))
        return path

    stream = lake.Stream(stage.cluster, topics["input"], GROUP, lake.References(options.seed), backlog=200)
    stage.closers.append(stream.over.set)
    stream.start()
    wrong = pair.played(stage, options, "lines", file_of, stream.close, pair.MET)
    asked = verify.asked_of(topics["input"], verify.read(stage.cluster.direct, topics["input"]))
    verdict = verify.judge(asked, found_in(out, asked), stage.table)
    print("\n".join([verdict.table(), *wrong]), flush=True)
    return verdict.good and not wrong


def found_in(folder, asked):
    """What the lines of all files say. A line without its end would not be JSON, and a rejection says nothing of its message's text."""
    values = {item.position: item.value for item in asked}
    found = []
    for path in folder.glob("*.jsonl"):
        text = path.read_text()
        assert not text or text.endswith("\n"), f"{path}: the last line has no end"
        for line in text.splitlines():
            if path.name.endswith(".rejected.jsonl"):
                entry = json.loads(line)
                position = tuple(entry["source"][part] for part in ("topic", "partition", "offset", "item"))
                found.append(verify.Found("rejections", position, reason=entry["reason"], value=values.get(position)))
            else:
                found += [verify.record_of(stream, line) for stream in ("labels", "embeddings")]
    return found
