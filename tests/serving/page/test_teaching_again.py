"""Teaching again what was taught before, corrected or with more."""

from __future__ import annotations

import pytest

from ..browsing import (
    ADDRESS,
    IN_BROWSER,
    SHAPES,
    MadeUpServer,
    described,
    file,
    opened,
    pictures,
    png,
    until,
)
from .acting import card, choose, fill, fill_all

pytestmark = [pytest.mark.long, *IN_BROWSER]


EXAMPLES = [{"id": str(place), "class": name, "url": "/x"} for place, name in enumerate(SHAPES)]


def test_a_wrong_answer_is_corrected_and_taught_again_with_the_images_of_before(browser):
    server = MadeUpServer()
    server.adapters["shapes"] = described("shapes", SHAPES, examples=EXAMPLES)
    with opened(browser) as page:
        server.serve(page)
        page.goto(ADDRESS)
        page.wait_for_selector("#adapter-facts:not([hidden])")
        choose(page, file("a.png", png(200)))
        page.click("text=This is wrong")
        page.select_option(".wrong select", "star")
        page.click("text=Add it to this class")
        page.wait_for_selector(".corrected:has-text('Added to “star”.')")
        page.click("text=Teach again with it")
        assert page.locator(".card").count() == 3
        assert card(page, 2).locator("input:not([type])").input_value() == "star"
        assert card(page, 2).locator(".thumbnails img").count() == 2
        assert page.text_content("#opened").startswith("3 images of shapes, as the server keeps them")
        assert page.input_value("#classifier-name") == "shapes-2"
        page.click("#teach-button")
        page.wait_for_selector("text=shapes-2 is taught")
        assert page.input_value("#classifier-name") == "shapes-3"
    assert server.taught["labels"] == ["circle", "square", "star", "star"]


def test_a_wrong_answer_may_be_of_a_class_that_was_not_taught(asking):
    choose(asking, file("a.png", png(200)))
    asking.click("text=This is wrong")
    asking.select_option(".wrong select", "")
    asking.click("text=Add it to this class")
    asking.click("text=Teach again with it")

    assert card(asking, 3).locator(".thumbnails img").count() == 1
    assert asking.text_content("#opened").startswith("shapes has none of the images that it learnt from")


def test_classes_are_opened_in_place_of_others_only_after_a_question(teaching, server):
    server.adapters["shapes"] = described("shapes", SHAPES, examples=EXAMPLES)
    fill(teaching, 0, "mine", pictures(0, 1))
    teaching.click("nav >> text=Ask")
    teaching.click("text=Open in Teach")
    teaching.click("text=Keep the form")
    assert teaching.url.endswith("#ask")
    teaching.click("text=Open in Teach")
    teaching.click("text=Replace it")
    until(teaching, "document.querySelectorAll('.thumbnails li').length === 3")

    assert teaching.url.endswith("#teach")
    names = [each.input_value() for each in teaching.locator(".card input:not([type])").all()]
    assert names == SHAPES


def test_no_correction_is_offered_where_nothing_is_taught(browser):
    server = MadeUpServer(teach=False, methods=[])
    with opened(browser) as page:
        server.serve(page)
        page.goto(ADDRESS)
        page.wait_for_selector("#adapter-facts:not([hidden])")
        choose(page, file("a.png", png(200)))
        page.wait_for_selector(".verdict")
        assert page.locator(".wrong, #open").count() == 0


@pytest.mark.parametrize(
    ("held_out", "words"),
    [
        (None, "How often it is right is not known: it learnt from all of its images."),
        ({"right": 5, "images": 6, "best_of": 1}, "5 of 6 held-out images right, each by a classifier that had not"),
        ({"right": 5, "images": 6, "best_of": 4}, "The best of 4 methods on these images was taken, which flatters it"),
    ],
)
def test_what_held_out_images_say_is_shown_and_nothing_else(teaching, server, monkeypatch, held_out, words):
    monkeypatch.setattr("tests.serving.browsing.described", lambda *given: described(*given, held_out=held_out))
    server.states[-1]["notes"] = ["the built-in model knows characters alone"]
    fill_all(teaching)
    teaching.click("#teach-button")
    teaching.wait_for_selector(f"#training p:has-text('{words}')")

    teaching.wait_for_selector("#training .problem:has-text('knows characters alone')")


def test_holding_images_out_is_asked_for_where_the_method_does_not_by_itself(teaching, server):
    fill_all(teaching)
    teaching.click("text=Settings")
    assert teaching.input_value("#method") == "auto"
    assert not teaching.is_visible("#calibrate")
    teaching.select_option("#method", "lora")
    teaching.check("#calibrate")
    teaching.click("#teach-button")
    teaching.wait_for_selector("text=circle-square-star is taught")

    assert b'{"method":"lora","calibration_folds":5}' in server.taught["body"]


@pytest.mark.parametrize(("model", "told"), [("builtin", True), ("openai/clip-vit-base-patch16", False)])
def test_a_model_that_knows_characters_alone_says_so(browser, model, told):
    server = MadeUpServer(model=model)
    with opened(browser) as page:
        server.serve(page)
        page.goto(f"{ADDRESS}/#teach")
        page.wait_for_selector("#teach-form:visible")
        assert page.is_visible("#characters-only") == told


@pytest.mark.parametrize("reads_names", [True, False])
def test_what_is_said_of_names_is_said_where_the_model_reads_them(browser, reads_names):
    server = MadeUpServer(model="photos", reads_names=reads_names)
    with opened(browser) as page:
        server.serve(page)
        page.goto(f"{ADDRESS}/#teach")
        page.wait_for_selector("#teach-form:visible")
        assert page.is_visible("#names-matter") == reads_names
        page.click("text=Ask")
        page.wait_for_selector("#ask-place:visible")
        assert page.is_visible("#compare") == reads_names


def test_the_interface_has_a_page_that_loads_nothing_from_elsewhere(page):
    page.goto(ADDRESS)
    page.click("text=HTTP interface")
    page.wait_for_selector("h2:has-text('GET /v1/a')")

    assert page.locator(".operation li").all_text_contents() == [
        "top query, integer, 1 to 9, 5 if not given",
        "200 {names: [string]}",
        "400, 404 {error}",
    ]
