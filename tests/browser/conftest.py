"""Reports to open, and a browser that notices every error and every request."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy
import pytest
from playwright.sync_api import sync_playwright

LAKELENS = Path(os.environ.get("LAKELENS") or Path(__file__).parents[2] / "target/release/lakelens")

# What ends a script, a comment, an attribute or a line of text; what is read from right to left; what runs if it is made markup or a link.
HOSTILE = [
    "</script><img src=x onerror=\"document.title='owned'\">",
    "<!--<script>document.title='owned'</script>-->",
    "\"><svg onload=document.title='owned'>",
    "'-document.title='owned'-'",
    "javascript:document.title='owned'",
    "gpj.\u202eelif-live\u202c",
    "\u2028document.title='owned'\u2029",
    "a\u0000b\u001b[2Jc\u200b\ufeff",
    "{{constructor.constructor('document.title=1')()}}${document.title=1}",
    "__proto__",
    "constructor",
    "&lt;b&gt;&amp;",
    "%3Cscript%3E\\u003cscript\\u003e",
    "",
    "x" * 5000,
    "\U0001f9ff z\u0301\u0301\u0301\u0301\u0301\u0301",
]


def record(n, labels, embedding=None, **fields):
    whole = {
        "schema": "lakelens.record.v1", "uri": f"s3://lake/{n:06}.jpg", "id": f"sku-{n}", "tags": {"shelf": str(n % 7)}, "etag": None, "version": None,
        "bytes": 100_000 + n, "format": "jpeg", "width": 640, "height": 480, "sha256": "9f" * 32,
        "labels": [{"index": i, "label": label, "score": score} for i, (label, score) in enumerate(labels)],
        "space": "c0ffee12d41b", "model": "tiny@sha256:3fa9c2d41b07", "preprocess": "sha256:90ab12cd34ef", "precision": "f32", "normalize": "none",
        "event_time": None, "source": {"topic": "refs", "partition": 0, "offset": n, "item": 0, "timestamp": None},
        "processed_at": f"2026-11-23T{n // 3600 % 24:02}:{n // 60 % 60:02}:{n % 60:02}.000Z",
    }
    if embedding is not None:
        whole |= {"embedding": [float(value) for value in embedding], "embedding_dim": len(embedding)}
    return whole | fields


def rejection(**fields):
    return {"schema": "lakelens.rejection.v1", "uri": None, "stage": "decode", "reason": "empty", "detail": "", "source": {}} | fields


def report(folder, lines, *arguments):
    """The path of a report on these lines."""
    file = folder / "records.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    subprocess.run([LAKELENS, "-q", "report", file, "--out", folder / "report.html", *arguments], check=True, stdout=subprocess.DEVNULL)
    return folder / "report.html"


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """The demo's folder: real pictures, labels and embeddings."""
    out = tmp_path_factory.mktemp("demo")
    subprocess.run([LAKELENS, "-q", "demo", "--out", out], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return out


@pytest.fixture(scope="session")
def hostile(tmp_path_factory):
    draw = numpy.random.default_rng(1)
    lines = [
        record(n, [(text, 0.9), (text + "2", 0.1)], draw.normal(size=16), uri="s3://lake/" + text, id=text, tags={text: text, "t": text},
               etag=text, version=text, format=text, sha256=text, model=text, space="s", preprocess=text, precision=text, normalize=text,
               processed_at=text, event_time=text, heads={text: [{"index": 0, "label": text, "score": 0.5}]}, source={"listing": text, "key": text})
        for n, text in enumerate(HOSTILE)
    ]
    lines += [rejection(uri=text, stage=text, reason=text, detail=text) for text in HOSTILE]
    return report(tmp_path_factory.mktemp("hostile"), lines)


@pytest.fixture(scope="session")
def large(tmp_path_factory):
    """Records of which only a sample is shown, without pictures."""
    draw = numpy.random.default_rng(2)
    centres = draw.normal(size=(40, 16))
    lines = [record(n, [(f"label {n % 40}", round(float(draw.beta(3, 1)), 4)), ("other", 0.01)], centres[n % 40] + draw.normal(size=16) / 2) for n in range(3000)]
    return report(tmp_path_factory.mktemp("large"), lines)


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM") or shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Opens a report; whatever the browser complains of, asks for or is asked to confirm fails the test."""
    contexts, complaints = [], []

    def visit(path, width=1280, height=900, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, reduced_motion="reduce", **options)
        contexts.append(context)
        page = context.new_page()
        page.add_init_script("document.addEventListener('securitypolicyviolation', (event) => console.error('refused: ' + event.violatedDirective))")
        page.on("console", lambda message: complaints.append(f"console: {message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (complaints.append("a dialog"), dialog.dismiss()))
        page.on("request", lambda request: complaints.append(f"request: {request.url[:100]}") if not request.url.startswith(("file://", "data:")) else None)
        page.goto(path.as_uri())
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not complaints
