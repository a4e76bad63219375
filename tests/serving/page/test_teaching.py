"""Teaching classes: what a person sees and what is sent."""

from __future__ import annotations

import pytest

from ..browsing import (
    ADDRESS,
    IN_BROWSER,
    SHAPES,
    MadeUpServer,
    opened,
    pictures,
    refusal,
    until,
)
from .acting import card, fill, fill_all, sent

pytestmark = [pytest.mark.long, *IN_BROWSER]


def test_teaching_shows_its_progress_and_leads_to_asking_and_downloading(teaching, server):
    fill_all(teaching)
    assert teaching.input_value("#classifier-name") == "circle-square-star"
    teaching.click("#teach-button")
    teaching.wait_for_selector("text=waits for its turn")
    teaching.wait_for_selector("text=step 10 of 40")
    assert teaching.evaluate("document.querySelector('progress').value") == 10
    teaching.wait_for_selector("text=circle-square-star is taught")
    with teaching.expect_download() as download:
        teaching.click("text=Download the adapter")
    teaching.click("text=Ask it")
    until(teaching, "location.hash === '#ask/circle-square-star'")
    teaching.wait_for_selector("text=It tells apart circle, square, star.")

    assert server.taught["labels"] == [name for name in SHAPES for _ in range(2)]
    assert b'"method":"auto"' in server.taught["body"]
    assert download.value.suggested_filename == "circle-square-star.zip"


def test_what_is_missing_is_told_before_anything_is_sent(teaching, server):
    fill(teaching, 0, "circle", pictures(0, 2))
    fill(teaching, 1, "square")
    teaching.click("#teach-button")

    teaching.wait_for_selector("#problems li:has-text('“square” has no images: add a few, or remove the class.')")
    assert teaching.evaluate("document.activeElement.id") == "problems"
    assert (
        card(teaching, 1).locator(".problem").text_content()
        == "“square” has no images: add a few, or remove the class."
    )
    assert sent(server, "POST", "/v1/adapters") == []


def test_what_was_mended_is_not_marked_any_more(teaching):
    fill(teaching, 0, "circle", pictures(0, 2))
    fill(teaching, 1, "square")
    teaching.click("#teach-button")
    teaching.wait_for_selector("#problems:visible")
    fill(teaching, 1, "square", pictures(30, 2))

    teaching.wait_for_selector("#problems", state="hidden")
    assert teaching.locator("[aria-invalid=true]").count() == 0


@pytest.mark.parametrize(
    "failure",
    [
        refusal(422, "image 2 cannot be decoded: it is truncated"),
        {"state": "failed", "message": "image 2 cannot be decoded: it is truncated"},
    ],
    ids=["refused", "failed later"],
)
def test_a_failed_training_loses_nothing_and_can_be_sent_again(teaching, server, failure):
    if "state" in failure:
        server.states.insert(0, failure)
    else:
        server.refusals["POST", "/v1/adapters"] = [failure]
    fill_all(teaching)
    teaching.click("#teach-button")
    teaching.wait_for_selector("#training .problem:has-text('it is truncated')")
    assert teaching.locator(".thumbnails li").count() == 6
    server.polls = 1
    teaching.click("#teach-button")

    teaching.wait_for_selector("text=circle-square-star is taught")


def test_a_training_can_be_stopped(teaching, server):
    server.states = [{"state": "running", "step": 1, "steps": 40}]
    fill_all(teaching)
    teaching.click("#teach-button")
    teaching.click("#training >> text=Stop")

    teaching.wait_for_selector("text=The training was stopped; nothing was kept of it.")
    assert teaching.is_enabled("#teach-button")


def test_a_training_that_the_server_forgot_is_told(teaching, server):
    server.refusals["GET", "/v1/jobs/7"] = [None, refusal(404, "there is no job 7")]
    fill_all(teaching)
    teaching.click("#teach-button")

    teaching.wait_for_selector("text=The server does not know this training any more")


@pytest.mark.parametrize(("filled", "warned"), [(True, ["beforeunload"]), (False, [])])
def test_leaving_warns_only_if_something_was_put_in(teaching, filled, warned):
    if filled:
        fill(teaching, 0, "circle", pictures(0, 1))
    dialogs = []
    teaching.on("dialog", lambda dialog: (dialogs.append(dialog.type), dialog.accept()))
    teaching.goto("about:blank")

    assert dialogs == warned


def test_a_class_is_filled_with_the_keyboard_alone(teaching):
    card(teaching, 0).locator("input:not([type])").focus()
    teaching.keyboard.type("circle")
    for _ in range(2):  # past the file chooser
        teaching.keyboard.press("Tab")
    teaching.keyboard.press("Enter")
    teaching.wait_for_selector("dialog[open] canvas")
    teaching.locator("dialog canvas").focus()
    for key in ["Space", "ArrowRight", "ArrowRight", "Space"]:
        teaching.keyboard.press(key)
    teaching.get_by_role("button", name="Add the drawing").press("Enter")
    teaching.wait_for_selector("text=1 image added")
    teaching.keyboard.press("Escape")
    teaching.wait_for_selector("dialog", state="hidden")
    assert card(teaching, 0).locator(".thumbnails img").get_attribute("alt") == "drawing 1.png"
    card(teaching, 0).locator("input:not([type])").press("Enter")
    assert teaching.evaluate("document.activeElement.labels[0].textContent") == "Class 2"
    teaching.get_by_role("button", name="Remove drawing 1.png").press("Enter")
    assert card(teaching, 0).locator(".thumbnails img").count() == 0


def test_the_same_image_is_taken_once_per_class(teaching):
    fill(teaching, 0, "circle", pictures(0, 2))
    card(teaching, 0).locator("input[type=file]").set_input_files(pictures(1, 1))

    teaching.wait_for_selector("text=1.png is in this class already.")
    assert card(teaching, 0).locator(".thumbnails img").count() == 2


def test_a_training_under_way_is_shown_when_the_page_is_opened(page, server):
    server.taught = {"name": "later", "labels": ["a", "b"]}
    job = {"id": "7", "name": "later", "state": "running", "step": 1, "steps": 40, "loss": None, "seconds": 1.0}
    server.refusals["GET", "/v1/jobs"] = [{"status": 200, "json": {"jobs": [job]}}]
    page.goto(f"{ADDRESS}/#teach")

    page.wait_for_selector("text=later is taught")


def test_a_server_that_does_not_teach_says_so(browser):
    server = MadeUpServer(teach=False, methods=[])
    with opened(browser) as page:
        server.serve(page)
        page.goto(f"{ADDRESS}/#teach")
        page.wait_for_selector("text=This server does not teach.")
        assert not page.is_visible("#teach-form")
