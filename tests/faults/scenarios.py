"""What does not go into the storm: a program broken on purpose, a full disk, and input or offsets that were deleted. Each on topics of its own."""

import json
import re
import subprocess
import time

import confluent_kafka as ck

import lake
import processes
import verify
import world
from workers import environment, pipeline

#: What each way of breaking the program must be called by the verifier.
BREAKS = {"lose": "missing", "double": "doubled", "invent": "unasked", "swap": "wrong"}


def file_of(stage, name, topics, **more):
    path = stage.folder / f"{name}.yaml"
    path.write_text(pipeline(stage.cluster, topics, name, f"http://127.0.0.1:{stage.server.gateways[0].port}", stage.model, **more))
    return path


def run_to_the_end(stage, name, file, code=0, **env):
    """A worker that ends when there is nothing to do for a while; what it said."""
    log = stage.folder / f"{name}.log"
    process = processes.spawn([stage.binary, "run", file, "--until-idle", "2s"], log, env=environment(**env))
    stage.closers.append(lambda: processes.stop(process, 1))
    ended = process.wait(120)
    text = log.read_text(errors="replace")
    if code is not None and ended != code:
        raise AssertionError(f"{name} ended with {ended}, not {code}:\n{text[-3000:]}")
    return text


def breaks(stage, options):
    """The verifier calls a good run good, and each broken one what it is."""
    good = True
    for how, word in [(None, None), *BREAKS.items()]:
        name = f"break-{how or 'nothing'}"
        topics = stage.topics(name, 2)
        lake.References(options.seed).produce(stage.cluster, topics["input"], 100, 2)
        text = run_to_the_end(stage, name, file_of(stage, name, topics), code=None if how else 0, **({"LAKELENS_BREAK": how} if how else {}))
        code, table = world.verify(stage.cluster, topics, stage.folder)
        count = int(re.search(rf"^{word} +(\d+)", table, re.M).group(1)) if how else 0
        caught = code == 0 if how is None else code == 1 and count > 0 and f"broken on purpose: {how}" in text
        good &= caught
        said = f"broken by `{how}`: caught, {count} {word}" if how else "not broken: called right"
        print(f"a program {said}" if caught else f"NOT CAUGHT: {how}\n{table}", flush=True)
    return good


def rows_of(folder):
    """The records in the files of a sink, as a label and an embedding each."""
    import pyarrow.parquet

    found = []
    for path in folder.rglob("*.jsonl"):
        for line in path.read_text().splitlines():
            found += [verify.record_of(stream, line) for stream in ("labels", "embeddings")]
    for path in folder.rglob("*.parquet"):
        for row in pyarrow.parquet.ParquetFile(path).read().to_pylist():
            position = tuple(row[f"source_{part}"] for part in ("topic", "partition", "offset", "item"))
            top = row["labels"][0]
            found.append(verify.Found("labels", position, row["id"], row["uri"], top["index"], top["score"]))
            found.append(verify.Found("embeddings", position, row["id"], row["uri"], embedding=tuple(row["embedding"])))
    return found


def disk_full(stage, options):
    """A small disk is filled under a worker that writes files to it, several times; it waits, goes on, and every item is there once."""
    return all([disk_full_with(stage, options, sink) for sink in ("jsonl", "parquet")])


def disk_full_with(stage, options, sink):
    mount = stage.folder / f"disk-{sink}"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", mount], capture_output=True).returncode:
        print(f"disk full, {sink}: left out, since a small tmpfs cannot be mounted here", flush=True)
        return True
    stage.closers.append(lambda: subprocess.run(["umount", "-l", mount], capture_output=True))
    name, fills = f"disk-{sink}", 3
    topics = stage.topics(name, 2)
    lake.References(options.seed).produce(stage.cluster, topics["input"], 800, 2)
    form = {"path": str(mount / "out"), **({"span": 40, "max_age": "1s"} if sink == "parquet" else {})}
    file = file_of(stage, name, topics, delivery="at-least-once", sinks=[{sink: form}])
    log = stage.folder / f"{name}.log"
    worker = processes.spawn([stage.binary, "run", file, "--until-idle", "3s"], log, env=environment())
    stage.closers.append(lambda: processes.stop(worker, 1))
    struck = 0
    for _ in range(fills):
        processes.wait_until(f"{name}: the worker to write", lambda: worker.poll() is not None or rows_of_size(mount) > 0, 60, 0.1)
        time.sleep(0.7)
        said = log.read_text(errors="replace").count("no room for")
        fill(mount / "ballast")
        in_flight = (stage.cluster.lag(name, topics["input"]) or 0) > 0

        def told():
            return log.read_text(errors="replace").count("no room for") > said or worker.poll() is not None

        processes.wait_until(f"{name}: the worker to say that the disk is full", told, 30, 0.1)
        if worker.poll() is not None:
            break
        struck += in_flight
        stage.tally.strike("disk full", in_flight)
        time.sleep(1)
        (mount / "ballast").unlink()
    code = worker.wait(120)
    asked = verify.asked_of(topics["input"], verify.read(stage.cluster.direct, topics["input"]))
    letters = [verify.rejection_of(value, headers) for *_, value, headers in verify.read(stage.cluster.direct, topics["dead"])]
    verdict = verify.judge(asked, rows_of(mount / "out") + letters, stage.table)
    print(f"disk full, {sink}: struck work {struck} times, the worker ended with {code}\n{verdict.table()}", flush=True)
    if code:
        print(log.read_text(errors="replace")[-3000:], flush=True)
    return code == 0 and verdict.good and struck >= 2


def rows_of_size(mount):
    return sum(path.stat().st_size for path in mount.rglob("*") if path.is_file())


def fill(path):
    """Takes all the room that there is."""
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                pass


def lost_input(stage, options):
    """Retention deletes input that nobody has read; the group's offsets are deleted. Never a silent jump."""
    times = 2 if options.short else 3
    return all([retention(stage, options, n) for n in range(times)] + [offsets_deleted(stage, options, n) for n in range(times)])


def begun_and_killed(stage, options, name):
    """A worker that is killed when some of its input is committed and some is not: the topics, and what it had committed."""
    topics = stage.topics(name, 2)
    lake.References(options.seed).produce(stage.cluster, topics["input"], 400, 2)
    file = file_of(stage, name, topics)
    worker = processes.spawn([stage.binary, "run", file], stage.folder / f"{name}-first.log", env=environment())
    stage.closers.append(lambda: processes.stop(worker, 1))

    def both_begun():
        committed = stage.cluster.committed(name, topics["input"])
        return all(committed.get(p, 0) > 0 for p in (0, 1))

    processes.wait_until(f"{name}: offsets of both partitions", both_begun, 60, 0.05)
    worker.kill()
    worker.wait()
    # Its transaction and its membership end.
    processes.wait_until(f"{name}: the group to be empty", lambda: empty(stage.cluster, name), 60, 0.5)
    committed = stage.cluster.committed(name, topics["input"])
    assert stage.cluster.lag(name, topics["input"]) > 0, f"{name}: nothing was in flight"
    return topics, file, committed


def empty(cluster, group):
    try:
        return not cluster.admin.describe_consumer_groups([group])[group].result(10).members
    except ck.KafkaException:
        return False


def retention(stage, options, n):
    name = f"retention-{n}"
    topics, file, committed = begun_and_killed(stage, options, name)
    # Of the partition that is further behind: of the other one nothing may be left.
    partition = min(committed, key=committed.get)
    begun, end = committed[partition], stage.cluster.ends(topics["input"])[partition][1]
    count = min(20, end - begun)
    place = ck.TopicPartition(topics["input"], partition, begun + count)
    stage.cluster.admin.delete_records([place])[place].result(30)
    text = run_to_the_end(stage, f"{name}-stops", file, code=1)
    stage.tally.strike("input deleted by retention", True)
    named = f"offsets {begun} to {begun + count - 1} ({count} messages) were deleted by retention" in text
    # Asked to go on, it does, without those.
    whole = json.loads(file.read_text())
    whole["source"]["kafka"]["on_lost"] = "continue"
    file.write_text(json.dumps(whole))
    run_to_the_end(stage, f"{name}-goes-on", file)
    return concluded(stage, f"retention deleted {count} unread messages: {'named' if named else 'NOT NAMED'}", topics, named, {partition: begun})


def offsets_deleted(stage, options, n):
    name = f"offsets-{n}"
    topics, file, committed = begun_and_killed(stage, options, name)
    stage.cluster.admin.delete_consumer_groups([name])[name].result(30)
    text = run_to_the_end(stage, f"{name}-stops", file, code=1)
    stage.tally.strike("offsets deleted", True)
    named = f"group `{name}` has no offsets in topic `{topics['input']}`" in text
    # Put back where it was, as the message advises, it goes on there.
    places = [ck.TopicPartition(topics["input"], p, offset) for p, offset in committed.items()]
    stage.cluster.admin.alter_consumer_group_offsets([ck.ConsumerGroupTopicPartitions(name, places)])[name].result(30)
    run_to_the_end(stage, f"{name}-goes-on", file)
    return concluded(stage, f"the group's offsets were deleted: {'named' if named else 'NOT NAMED'}", topics, named, {})


def concluded(stage, what, topics, named, gone):
    """Judges a scenario: what was deleted was committed before, or is named; everything that is left came out once."""
    asked, found = verify.read_all(stage.cluster.direct, topics)
    there = {a.position for a in asked}
    kept, dropped = [], []
    for f in found:
        (kept if f.position in there or f.position[2] >= gone.get(f.position[1], 0) else dropped).append(f)
    verdict = verify.judge(asked, kept, stage.table)
    # What was asked is deleted, but that nothing came out twice can still be seen.
    verdict.doubled += verify.doubles(dropped)
    print(f"{what}\n{verdict.table()}", flush=True)
    return named and verdict.good
