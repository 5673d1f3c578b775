"""`lakelens report` with thumbnails of pictures that lie in a bucket."""

import json
import re

import pictures
from test_lake import upload


def items(page):
    text = page.read_text()
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    return json.loads(data[1])["items"]


def test_thumbnails_come_from_the_bucket_that_is_named_and_from_nowhere_else(s3, bucket, lakelens, tiny):
    objects = [(f"2026/{key}", body) for key, body in pictures.good(60)]
    upload(s3, bucket, objects)
    lakelens.run("-q", "label", f"s3://{bucket}/2026/", "--model", tiny, "--out", "labels.parquet")
    # Gone, and another one than was labelled.
    s3.delete_object(Bucket=bucket, Key=objects[7][0])
    upload(s3, bucket, [(objects[9][0], objects[10][1])])

    def report(place, **env):
        done = lakelens.run("report", "labels.parquet", "--out", "report.html", f"--images={place}", timeout=60, **env)
        return done.stderr, items(lakelens.folder / "report.html")

    said, shown = report(f"s3://{bucket}/2026")
    assert len(shown) == 60 and said == ""
    assert sorted(item["missing"] for item in shown if "missing" in item) == [
        "the file is another one than was labelled",
        "the file is not there any more",
    ]
    assert sum("thumbnail" in item for item in shown) == 58
    _, shown = report(f"s3://{bucket}/2027/")
    assert {item["missing"] for item in shown} == {"it lies outside of what --images names"}
    # Whoever may not read the bucket gets a report all the same, and is told.
    said, shown = report(f"s3://{bucket}", AWS_SECRET_ACCESS_KEY="wrong")
    assert len(shown) == 60 and not any("thumbnail" in item for item in shown)
    assert "without further thumbnails" in said and "wrong" not in said
