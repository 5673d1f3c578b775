"""The verifier's core catches what it is there for, each way of being wrong by itself."""

import dataclasses
import random

import pytest

import lines
import verify
import workers
from verify import Asked, Found

TABLE = {
    "bucket": "lake",
    "keys": {
        "a.jpg": {"label": 3, "score": 0.9, "embedding": [0.1, 0.2, 0.3]},
        "b.jpg": {"label": 5, "score": 0.8, "embedding": [0.4, 0.5, 0.6]},
        "broken.jpg": {"reason": "unsupported_format"},
    },
}


def lake(count=30):
    """Items, and the messages that a right worker makes of them."""
    rng = random.Random(count)
    asked = [Asked(("in", n % 3, n, 0), str(n), rng.choice(list(TABLE["keys"])), b"%d" % n) for n in range(count)]
    found = []
    for item in asked:
        due = TABLE["keys"][item.key]
        if "reason" in due:
            found.append(Found("rejections", item.position, reason=due["reason"], value=item.value))
            continue
        uri = f"s3://lake/{item.key}"
        found.append(Found("labels", item.position, item.id, uri, due["label"], due["score"]))
        found.append(Found("embeddings", item.position, item.id, uri, embedding=tuple(due["embedding"])))
    rng.shuffle(found)
    return asked, found


def of(found, stream):
    return next(n for n, message in enumerate(found) if message.stream == stream)


def test_what_is_right_is_called_right():
    asked, found = lake()
    verdict = verify.judge(asked, found, TABLE)
    assert verdict.good and verdict.asked == 30 and sum(verdict.found.values()) == len(found)
    assert verify.judge([], [], TABLE).good


@pytest.mark.parametrize("stream", verify.STREAMS)
def test_a_lost_message_is_missing(stream):
    asked, found = lake()
    lost = found.pop(of(found, stream))
    verdict = verify.judge(asked, found, TABLE)
    assert not verdict.good and len(verdict.missing) == 1 and str(lost.position) in verdict.missing[0]
    assert not (verdict.doubled or verdict.unasked or verdict.wrong)


@pytest.mark.parametrize("stream", verify.STREAMS)
def test_a_doubled_message_is_seen(stream):
    asked, found = lake()
    found.append(found[of(found, stream)])
    verdict = verify.judge(asked, found, TABLE)
    assert not verdict.good and len(verdict.doubled) == 1
    assert not (verdict.missing or verdict.unasked or verdict.wrong)


@pytest.mark.parametrize("stream", verify.STREAMS)
def test_an_invented_message_is_unasked(stream):
    asked, found = lake()
    found.append(dataclasses.replace(found[of(found, stream)], position=("in", 0, 10_000, 0)))
    verdict = verify.judge(asked, found, TABLE)
    assert not verdict.good and len(verdict.unasked) == 1
    assert not (verdict.missing or verdict.doubled or verdict.wrong)


def placed(asked, found):
    """As they come to stand in three partitions of each output, in the order of the input."""
    found = sorted(found, key=lambda f: f.position)
    return [dataclasses.replace(message, place=(message.position[2] // 3 % 3, n)) for n, message in enumerate(found)]


@pytest.mark.parametrize("stream", ["labels", "embeddings"])
def test_two_records_of_one_partition_in_the_wrong_order_are_seen(stream):
    asked, found = lake(300)
    found = placed(asked, found)
    assert verify.judge(asked, found[::-1], TABLE).good, "the order of the output counts, not that of reading"
    first = of(found, stream)
    one = found[first]
    beside = (n for n in range(first + 1, len(found)) if found[n].place[0] == one.place[0] and found[n].position[:2] == one.position[:2])
    second = next(n for n in beside if found[n].stream == stream)
    found[first], found[second] = (dataclasses.replace(a, place=b.place) for a, b in ((one, found[second]), (found[second], one)))
    verdict = verify.judge(asked, found, TABLE)
    assert not verdict.good and verdict.unordered and all(stream in entry for entry in verdict.unordered)
    assert not (verdict.missing or verdict.doubled or verdict.unasked or verdict.wrong)


def test_an_order_that_is_not_promised_is_not_asked_for():
    def letters(*messages):
        return verify.out_of_order([Found(stream, position, place=place) for stream, position, place in messages])

    late, early = ("in", 0, 5, 1), ("in", 0, 5, 0)
    assert letters(("labels", late, (0, 1)), ("labels", early, (0, 2)))
    assert not letters(("labels", late, (0, 1)), ("labels", early, (1, 2))), "another output partition"
    assert not letters(("labels", late, (0, 1)), ("labels", ("in", 1, 5, 0), (0, 2))), "another input partition"
    assert not letters(("labels", late, (0, 1)), ("embeddings", early, (0, 2))), "another topic"
    assert not letters(("labels", late, (0, 1)), ("labels", late, (0, 2))), "a double"
    assert not letters(("rejections", late, (0, 1)), ("rejections", early, (0, 2))), "dead letters"
    assert not letters(("labels", late, None), ("labels", early, None)), "from a file"


def test_two_swapped_embeddings_are_wrong():
    asked, found = lake()
    first = of(found, "embeddings")
    second = next(n for n, m in enumerate(found) if m.stream == "embeddings" and m.embedding != found[first].embedding)
    swapped = found[first].embedding, found[second].embedding
    found[second] = dataclasses.replace(found[second], embedding=swapped[0])
    found[first] = dataclasses.replace(found[first], embedding=swapped[1])
    verdict = verify.judge(asked, found, TABLE)
    assert not verdict.good and len(verdict.wrong) == 2
    assert not (verdict.missing or verdict.doubled or verdict.unasked)


@pytest.mark.parametrize(
    "stream,change",
    [
        ("labels", {"id": "other"}),
        ("labels", {"uri": "s3://lake/other.jpg"}),
        ("labels", {"label": 99}),
        ("labels", {"score": 0.5}),
        ("labels", {"score": None}),
        ("embeddings", {"id": "other"}),
        ("embeddings", {"embedding": None}),
        ("embeddings", {"embedding": (0.1, 0.2)}),
        ("embeddings", {"embedding": (float("nan"),) * 3}),
        ("embeddings", {"embedding": (0.1, 0.2, 0.3 + 1e-3)}),
        ("rejections", {"reason": "not_found"}),
        ("rejections", {"value": b"not as it came"}),
    ],
)
def test_wrong_content_is_wrong(stream, change):
    asked, found = lake()
    place = next(n for n, m in enumerate(found) if m.stream == stream and (stream != "embeddings" or m.embedding[0] == 0.1))
    found[place] = dataclasses.replace(found[place], **change)
    verdict = verify.judge(asked, found, TABLE)
    assert not verdict.good and len(verdict.wrong) == 1
    assert not (verdict.missing or verdict.doubled or verdict.unasked)


def test_a_rejection_of_a_good_picture_is_unasked_and_its_record_missing():
    asked, found = lake()
    place = of(found, "labels")
    position = found[place].position
    found[place] = Found("rejections", position, reason="unavailable", value=b"")
    verdict = verify.judge(asked, found, TABLE)
    assert len(verdict.unasked) == 1 and len(verdict.missing) == 1


def test_lines_in_both_folders_are_excused_where_nothing_was_committed(tmp_path):
    def log(number, life, *begun):
        said = [f"2026-11-27T00:00:{when:02}.000001Z  INFO in/{partition}: assigned, from offset {offset}\n" for when, partition, offset in begun]
        (tmp_path / f"lines-{number}-{life:02}.log").write_text("".join(said))

    log(0, 0, (1, 0, 0), (1, 1, 0))
    log(1, 0, (5, 1, 40))
    log(0, 1, (9, 1, 70))
    begun = lines.starts(tmp_path)
    assert begun == {("in", 0): [("2026-11-27T00:00:01.000001Z", 0, 0)], ("in", 1): [(f"2026-11-27T00:00:0{s}.000001Z", w, o) for s, w, o in ((1, 0, 0), (5, 1, 40), (9, 0, 70))]}
    assert not lines.unexcused({("in", 1, 40, 0), ("in", 1, 90, 0)}, begun)
    for position in (("in", 1, 39, 0), ("in", 0, 5, 0), ("in", 2, 5, 0)):
        assert len(lines.unexcused({position}, begun)) == 1
    log(1, 1, (12, 1, 60))
    assert "began at 60 after 70" in lines.unexcused(set(), lines.starts(tmp_path))[0]


def test_a_client_that_did_not_come_back_is_called_so():
    text = "committing offsets at b: the producer cannot go on; start the worker again (its client has not come back from one call for 40 s)"
    assert next(name for name, words in workers.LEGITIMATE.items() if words in text) == "client did not come back"


def test_messages_are_read_by_the_contract():
    value = b'[{"bucket": "lake", "key": "a.jpg", "id": "x"}, {"bucket": "lake", "key": "b.jpg", "id": "y"}]'
    asked = verify.asked_of("in", [(2, 7, None, value, [])])
    assert [(a.position, a.id, a.key) for a in asked] == [(("in", 2, 7, 0), "x", "a.jpg"), (("in", 2, 7, 1), "y", "b.jpg")]
    record = b'{"id": "x", "uri": "s3://lake/a.jpg", "embedding": [0.5], "source": {"topic": "in", "partition": 2, "offset": 7, "item": 0}}'
    assert verify.record_of("embeddings", record) == Found("embeddings", ("in", 2, 7, 0), "x", "s3://lake/a.jpg", embedding=(0.5,))
    headers = [(f"lakelens.source.{n}", v) for n, v in (("topic", b"in"), ("partition", b"2"), ("offset", b"7"), ("item", b"1"))]
    letter = verify.rejection_of(value, headers + [("lakelens.error.reason", b"not_found")])
    assert letter == Found("rejections", ("in", 2, 7, 1), reason="not_found", value=value)
