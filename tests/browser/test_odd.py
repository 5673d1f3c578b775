"""Records that are unlike the usual ones."""

import numpy
from conftest import record, rejection, report


def test_nothing_at_all(tmp_path, visit):
    page = visit(report(tmp_path, []))
    assert page.locator("h1").inner_text() == "No records"
    assert page.locator("#gallery li").count() == 0


def test_rejections_only(tmp_path, visit):
    page = visit(report(tmp_path, [rejection(uri="s3://lake/a"), rejection()]))
    assert page.locator("h1").inner_text() == "2 rejections" and page.locator(".reason").count() == 1


def test_neither_labels_nor_embeddings(tmp_path, visit):
    lines = [record(n, []) for n in range(3)]
    for line in lines:
        del line["labels"]
    page = visit(report(tmp_path, lines))
    assert "no labels" in page.locator("#labels-hint").inner_text() and "no scores" in page.locator("#scores-hint").inner_text()
    assert "no map" in page.locator("#map-said").inner_text()
    page.locator(".tile").first.click()
    assert "no embedding to compare" in page.locator("#picture-body").inner_text()


def test_scores_that_are_no_probabilities(tmp_path, visit):
    page = visit(report(tmp_path, [record(n, [("a", 3.5 * n + 2)], [n, 1.0]) for n in range(4)]))
    assert "no probabilities" in page.locator("#scores-hint").inner_text()
    assert page.locator("#gallery .tile").count() == 4


def test_numbers_beyond_what_a_float_holds(tmp_path, visit):
    lines = [record(0, [("a", 1e39)], [1e39, 1.0]), record(1, [("a", -1e39)], [3e38, 3e38]), record(2, [("a", 0.5)], [1e-45, 0.0]), record(3, [("b", 0.25)], [0.0, 0.0])]
    page = visit(report(tmp_path, lines))
    for n in range(4):
        page.locator("#gallery .tile").nth(n).click()
        page.keyboard.press("Escape")
    page.locator("#order").select_option("unsure")
    assert page.locator("#gallery .tile").count() == 4 and "NaN" not in page.locator("main").inner_text()


def test_two_spaces_are_told_apart(tmp_path, visit):
    draw = numpy.random.default_rng(3)
    lines = [record(n, [("a", 0.5)], draw.normal(size=8), space="one" if n % 3 else "two", model="m" + str(n % 3 > 0)) for n in range(30)]
    page = visit(report(tmp_path, lines))
    assert "2 embedding spaces" in page.locator("#makers").inner_text()
    assert "20 pictures" in page.locator("#map-said").inner_text()
    page.locator(".tile").first.click()
    assert "not of the space one" in page.locator("#picture-body").inner_text()
    page.keyboard.press("ArrowRight")
    assert page.locator(".nearest .tile").count() == 12


def test_one_picture(tmp_path, visit):
    page = visit(report(tmp_path, [record(0, [("a", 1.0)], [1.0, 2.0])]))
    assert page.locator("h1").inner_text() == "1 picture"
    page.locator(".tile").click()
    assert page.locator("#before").is_disabled() and page.locator("#after").is_disabled()


def test_embeddings_that_are_all_the_same(tmp_path, visit):
    page = visit(report(tmp_path, [record(n, [("a", 0.5)], [1.0, 1.0]) for n in range(5)]))
    page.locator(".tile").first.click()
    assert page.locator(".nearest .what span").all_inner_texts() == ["1.00"] * 4
