"""The report as somebody uses it who looks, clicks, types, or listens."""

import json
import os
import re
from pathlib import Path

import numpy
import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import HOSTILE
from playwright.sync_api import expect


def tiles(page):
    return page.locator("#gallery .tile")


def names(page):
    return page.locator("#gallery .which").all_inner_texts()


def data(path):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.S)[1])


def picture(page, path):
    """Leaves a picture of the page where somebody wants to look at it."""
    folder = os.environ.get("LAKELENS_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{path}.png", full_page="whole" in path)


def test_the_demo_is_shown_as_it_was_counted(demo, visit):
    page = visit(demo / "report.html")
    assert page.title() == "Lakelens report: 196 pictures"
    assert page.locator("#figures").inner_text().split("\n")[:4] == ["pictures with a record", "196", "rejected", "5 2.5 %"]
    assert page.locator(".reason").count() == 4
    assert "surfaces-resnet50@sha256:" in page.locator("#makers").inner_text()
    assert page.locator("#hits").inner_text() == "196 pictures"
    assert page.locator("#gallery img").count() == tiles(page).count() == 96
    assert page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth >= 96)")
    page.get_by_role("button", name="Show 96 more").click()
    assert tiles(page).count() == 192 and page.evaluate("document.activeElement.closest('#gallery') !== null")
    picture(page, "desktop-whole")


def test_the_demos_report_is_small(demo):
    assert 1_000_000 < (demo / "report.html").stat().st_size < 4_000_000


def test_filters_combine_and_are_cleared(demo, visit):
    page = visit(demo / "report.html")
    labels = page.locator("#label-bars button")
    labels.filter(has_text="argyle").click()
    assert page.locator("#hits").inner_text() == "7 of 196 pictures" and tiles(page).count() == 7
    assert labels.filter(has_text="argyle").get_attribute("aria-pressed") == "true"
    assert page.locator("#label").locator("option:checked").inner_text() == "argyle"
    page.locator("#search").fill("ARGYLE-3 jpg")
    assert names(page) == ["argyle-3.jpg"]
    assert page.locator("#chips li").count() == 2
    page.locator("#search").fill("nothing like it")
    assert tiles(page).count() == 0 and "No picture is like that" in page.locator("#hits").inner_text()
    page.get_by_role("button", name="Remove the filter “nothing").click()
    assert tiles(page).count() == 7
    page.get_by_role("button", name="Clear all").click()
    assert page.locator("#hits").inner_text() == "196 pictures" and page.locator("#chips li").count() == 0
    assert page.locator("#search").input_value() == "" and page.evaluate("document.activeElement.id") == "search"


def test_scores_are_filtered_and_sorted(demo, visit):
    page = visit(demo / "report.html")
    scores = sorted(item["labels"][0][1] for item in data(demo / "report.html")["items"])
    page.get_by_role("button", name="Show the least sure first").click()
    shown = [float(text) for text in page.locator("#gallery .what span").all_inner_texts()]
    assert numpy.allclose(shown, scores[:96], atol=6e-4) and page.locator("#order").input_value() == "unsure"
    page.locator("#score-bars button:enabled").first.click()
    bar = data(demo / "report.html")["scores"]["bars"]
    assert tiles(page).count() == next(count for count in bar if count)
    page.locator("#from").fill("0.9")
    page.locator("#to").fill("0.95")
    assert tiles(page).count() == sum(0.9 <= score < 0.95 for score in scores)
    page.locator("#order").select_option("sure")
    page.locator("#from").fill("0.5")
    page.locator("#to").fill("")
    shown = [float(text) for text in page.locator("#gallery .what span").all_inner_texts()]
    assert shown == sorted(shown, reverse=True)


def neighbours(page):
    return page.locator(".nearest .which").all_inner_texts()


def test_a_picture_opens_with_its_neighbours_and_closes_with_focus_back(demo, visit):
    page = visit(demo / "report.html")
    tile = tiles(page).nth(5)
    tile.click()
    dialog = page.get_by_role("dialog")
    assert dialog.get_by_role("heading", level=2).inner_text() == "argyle-6.jpg"
    text = dialog.inner_text()
    for part in ["argyle-6.jpg", "SHA-256", "pixels", "surfaces-resnet50@sha256:", "Nearest neighbours", "Approximate"]:
        assert part in text
    assert len(neighbours(page)) == 12
    picture(page, "picture")
    page.keyboard.press("ArrowRight")
    assert dialog.get_by_role("heading", level=2).inner_text() == "argyle-7.jpg"
    first = neighbours(page)[0]
    page.locator(".nearest .tile").first.click()
    assert dialog.get_by_role("heading", level=2).inner_text() == first
    page.keyboard.press("Escape")
    assert not dialog.is_visible() and tile.evaluate("(tile) => tile === document.activeElement")


def test_neighbours_are_those_of_the_whole_embeddings(demo, visit):
    page = visit(demo / "report.html")
    records = [json.loads(line) for line in (demo / "records.jsonl").read_text().splitlines()]
    vectors = numpy.array([record["embedding"] for record in records], dtype=numpy.float64)
    vectors /= numpy.linalg.norm(vectors, axis=1, keepdims=True)
    alike = vectors @ vectors.T
    numpy.fill_diagonal(alike, -2)
    name = [record["uri"].rsplit("/", 1)[1] for record in records]
    tiles(page).first.click()
    found, off = 0, []
    for n in range(len(records)):
        exact = {name[i] for i in numpy.argsort(-alike[n])[:10]}
        seen = neighbours(page)
        found += len(exact & set(seen[:10]))
        values = page.locator(".nearest .what span").all_inner_texts()
        off += [abs(float(value) - alike[n, name.index(other)]) for other, value in zip(seen, values)]
        page.keyboard.press("ArrowRight")
    print(f"\n{found / len(records):.2f} of 10 nearest neighbours are found; similarities are off by {numpy.mean(off):.4f}, at most {max(off):.4f}")
    assert found / len(records) > 9.5 and numpy.mean(off) < 0.02


def test_the_map_is_numpys(demo, visit):
    records = [json.loads(line) for line in (demo / "records.jsonl").read_text().splitlines()]
    vectors = numpy.array([record["embedding"] for record in records], dtype=numpy.float64)
    vectors /= numpy.linalg.norm(vectors, axis=1, keepdims=True)
    vectors -= vectors.mean(axis=0)
    left, values, _ = numpy.linalg.svd(vectors, full_matrices=False)
    space = data(demo / "report.html")["space"]
    seen = numpy.array(space["map"]).reshape(-1, 2)
    for axis in (0, 1):
        exact = left[:, axis] * values[axis]
        assert abs(numpy.corrcoef(seen[:, axis], exact)[0, 1]) > 0.99999
        assert abs(space["explained"][axis] - values[axis] ** 2 / (values**2).sum()) < 1e-5


def test_the_map_is_walked_by_keyboard_and_clicked(demo, visit):
    page = visit(demo / "report.html")
    page.locator("#plot").focus()
    page.keyboard.press("ArrowRight")
    said = page.locator("#map-now").inner_text()
    assert said.endswith(".jpg")
    page.keyboard.press("ArrowRight")
    assert page.locator("#map-now").inner_text() != said
    said = page.locator("#map-now").inner_text()
    for key in ["+", "+", "-", "0"]:
        page.keyboard.press(key)
    picture(page, "map")
    page.keyboard.press("Enter")
    assert page.locator("#picture-title").inner_text() == said.split(", ")[-1]
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "plot"
    page.locator("#legend button").first.click()
    assert page.locator("#hits").inner_text().split()[0] in ("7", "8")
    page.get_by_text("The map as a table").click()
    # The rows are made once the browser says that the table was opened, which is some time after the click.
    expect(page.locator("#map-rows tr")).to_have_count(int(page.locator("#hits").inner_text().split()[0]))
    page.locator("#map-rows button").first.click()
    assert page.get_by_role("dialog").is_visible()


def test_a_point_of_the_map_is_named_and_opened_by_the_mouse(demo, visit):
    page = visit(demo / "report.html")
    page.locator("#canvas").scroll_into_view_if_needed()
    box = page.locator("#canvas").bounding_box()
    for step in range(200):
        page.mouse.move(box["x"] + box["width"] * (0.3 + 0.002 * step), box["y"] + box["height"] / 2)
        if page.locator("#tip").is_visible():
            break
    name = page.locator("#tip").inner_text().strip().split(", ")[-1]
    page.mouse.down()
    page.mouse.up()
    assert page.locator("#picture-title").inner_text() == name


def test_all_of_it_is_reached_by_the_keyboard_alone(demo, visit):
    page = visit(demo / "report.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the pictures"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.type("argyle")
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('tile')"):
            break
    page.keyboard.press("Enter")
    assert page.locator("#picture-title").inner_text().startswith("argyle")
    assert page.evaluate("document.activeElement.id") == "close"
    for _ in range(40):
        page.keyboard.press("Tab")
        # Out of a dialog the browser's own buttons come, and then the dialog again; never the page behind it.
        assert page.evaluate("document.activeElement === document.body || document.activeElement.closest('dialog') !== null")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.classList.contains('tile')")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"


@pytest.mark.parametrize("n", range(len(HOSTILE)))
def test_text_from_outside_is_shown_and_never_obeyed(hostile, visit, n):
    page = visit(hostile)
    text = HOSTILE[n]
    found = tiles(page).nth(n)
    found.click()
    shown = page.evaluate(
        r"(text) => text.replace(/[\p{Cc}\u2028-\u202e\u200b\ufeff]/gu, (c) => '\\u{' + c.codePointAt(0).toString(16) + '}')", text[:2000]
    )
    inside = page.locator("#picture-body").evaluate("(body) => body.textContent")
    assert shown[:500] in inside
    page.keyboard.press("Escape")
    if text.strip():
        page.locator("#search").fill(text[:60])
        assert tiles(page).count() >= 1
    assert page.title() == f"Lakelens report: {len(HOSTILE)} pictures"


def test_hostile_text_makes_no_element_and_turns_no_text(hostile, visit):
    page = visit(hostile)
    for details in page.locator(".reason").all():
        details.locator("summary").click()
    page.locator("#map-details summary").click()
    for n in range(len(HOSTILE)):
        page.locator("#label-bars button").nth(min(n, 13)).click()
        page.locator("#clear").click()
    counts = page.evaluate("[document.querySelectorAll('script').length, document.querySelectorAll('img, iframe, object, embed').length, document.querySelectorAll('a[href]:not([href^=\"#\"])').length]")
    assert counts == [2, 0, 0]
    assert not page.evaluate("[...document.querySelectorAll('*')].some((e) => [...e.attributes].some((a) => a.name.startsWith('on') || a.name === 'style' && !/^(width|height|transform|touch-action|display)/.test(a.value)))")
    assert page.evaluate(r"!/[\u202a-\u202e\u2066-\u2069\u0000]/.test(document.body.innerText)")
    assert page.title() == f"Lakelens report: {len(HOSTILE)} pictures"
    picture(page, "hostile-whole")


def test_the_policy_forbids_what_the_page_does_not_do_itself(demo, browser):
    page = browser.new_context().new_page()
    page.goto((demo / "report.html").as_uri())
    page.evaluate("""() => {
        window.refused = [];
        document.addEventListener("securitypolicyviolation", (event) => window.refused.push(event.effectiveDirective));
        for (const [name, key, value] of [["script", "textContent", "document.title = 'owned'"], ["img", "src", "https://example.org/a.png"]]) {
            try { const node = document.createElement(name); node[key] = value; document.body.append(node); } catch (error) { window.refused.push(String(error.name)); }
        }
        try { document.body.innerHTML = "<b>"; } catch (error) { window.refused.push("markup"); }
        fetch("https://example.org/").catch(() => window.refused.push("fetch"));
    }""")
    page.wait_for_function("window.refused.includes('fetch') && window.refused.includes('img-src') && window.refused.includes('markup')")
    assert page.title() == "Lakelens report: 196 pictures"
    page.context.close()


def test_of_many_records_a_sample_is_shown_and_said_so(large, visit):
    page = visit(large)
    assert page.title() == "Lakelens report: 3,000 pictures"
    said = page.locator("#sample-said").inner_text()
    shown = len(data(large)["items"])
    assert f"a sample of {shown:,}" in said and "least sure" in said and shown <= 1000
    assert page.locator("#gallery .blank").count() == 96 and page.locator("#gallery img").count() == 0
    page.locator("#more-labels").click()
    assert page.locator("#label-bars button").count() == 40
    # All of them can be drawn at once without a pause that is felt.
    for _ in range(10):
        if page.locator("#more").is_visible():
            page.locator("#more").click()
    assert tiles(page).count() == shown
    assert page.evaluate("""() => { const begun = performance.now(); const search = document.getElementById("search");
        search.value = "sku-1"; search.dispatchEvent(new Event("input", { bubbles: true })); return performance.now() - begun; }""") < 500
    picture(page, "without-pictures")


@pytest.mark.parametrize("width", [320, 360, 390, 768])
def test_nothing_is_wider_than_a_phone(demo, hostile, visit, width):
    for path in (demo / "report.html", hostile):
        page = visit(path, width=width, height=800, has_touch=True, device_scale_factor=2)
        for details in page.locator(".reason").all():
            details.locator("summary").click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        tiles(page).first.click()
        assert page.locator("#picture").evaluate("(dialog) => dialog.scrollWidth <= dialog.clientWidth")
        if width == 390 and path is not hostile:
            picture(page, "phone-picture")
            page.keyboard.press("Escape")
            picture(page, "phone-whole")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_accessible_and_readable(demo, large, visit, scheme):
    for path in (demo / "report.html", large):
        page = visit(path, color_scheme=scheme)
        back = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert (sum(int(part) for part in re.findall(r"\d+", back)[:3]) < 200) == (scheme == "dark")
        page.locator("#map-details summary").click()
        page.locator("#label-bars button").first.click()
        for step in ("page", "picture"):
            found = Axe().run(page).response["violations"]
            assert not found, [(rule["id"], [node["html"][:200] for node in rule["nodes"]][:3]) for rule in found]
            if step == "page":
                picture(page, f"{scheme}-whole" if path is not large else f"{scheme}-large")
                tiles(page).first.click()


def test_headings_are_in_order_and_the_page_has_its_landmarks(demo, visit):
    page = visit(demo / "report.html")
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].filter((h) => !h.closest('dialog')).map((h) => Number(h.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1 and all(b - a <= 1 for a, b in zip(levels, levels[1:]))
    for role in ("banner", "main", "navigation", "search", "contentinfo"):
        assert page.get_by_role(role).count() == 1, role


def test_it_prints(demo, visit):
    page = visit(demo / "report.html")
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible() and not page.locator("#filters").is_visible() and page.locator("#gallery").is_visible()
