"""Classes more, fewer, and by other names."""

from __future__ import annotations

import json

import pytest

from ..browsing import (
    ADDRESS,
    IN_BROWSER,
    SHAPES,
    MadeUpServer,
    described,
    fields,
    opened,
    pictures,
    refusal,
    until,
)
from .acting import sent

pytestmark = [pytest.mark.long, *IN_BROWSER]


def test_a_class_more_is_sent_and_the_new_classifier_can_be_asked(changing, server):
    server.states[-1]["notes"] = ["held out, 9 of 12 images of the classes on top are recognised (75.0 %)"]
    assert changing.input_value("#change-name") == "shapes-2"
    changing.fill("#change-card .card input:not([type])", "hexagon")
    changing.set_input_files("#change-card input[type=file]", pictures(0, 2))
    changing.wait_for_selector("#change-card .thumbnails li:nth-child(2)")
    changing.click("#change-add-button")
    changing.wait_for_selector("text=shapes-2 is there: shapes with hexagon, 4 classes.")
    [body] = sent(server, "POST", "/v1/adapters/shapes/add")
    assert (fields(body, "name"), fields(body, "labels")) == (["shapes-2"], ["hexagon", "hexagon"])
    assert changing.is_visible("text=9 of 12 images of the classes on top")
    assert changing.input_value("#change-name") == "shapes-3"
    changing.click("#change-progress >> text=Ask it")
    changing.wait_for_selector("#change-dialog", state="hidden")
    until(changing, "document.querySelector('#adapter').value === 'shapes-2'")


def test_classes_are_renamed_and_removed_by_the_keyboard(changing, server):
    changing.focus("[aria-label='Rename circle']")
    changing.keyboard.press("Enter")
    assert changing.evaluate("document.activeElement.value") == "circle"
    changing.keyboard.press("Enter")
    changing.wait_for_selector("text=Give circle another name.")
    changing.keyboard.type("ring")
    changing.keyboard.press("Enter")
    changing.wait_for_selector("text=shapes-2 is there: shapes in which circle is ring, 3 classes.")
    assert json.loads(sent(server, "POST", "/v1/adapters/shapes/rename")[0]) == {
        **{"name": "shapes-2", "old": "circle", "new": "ring"}
    }
    server.polls = 0
    changing.focus("[aria-label='Remove star']")
    changing.keyboard.press("Enter")
    changing.wait_for_selector("text=shapes-3 is there: shapes without star, 2 classes.")
    assert server.adapters["shapes-3"]["class_names"] == ["circle", "square"]
    assert "shapes" in server.adapters
    changing.keyboard.press("Escape")
    changing.wait_for_selector("#change-dialog", state="hidden")


def test_what_is_wrong_with_a_change_is_said_and_loses_nothing(changing, server):
    changing.click("#change-add-button")
    changing.wait_for_selector("text=The class has no images: add a few.")
    assert not sent(server, "POST", "/v1/adapters/shapes/add")
    changing.fill("#change-card .card input:not([type])", "hexagon")
    changing.set_input_files("#change-card input[type=file]", pictures(0, 2))
    changing.wait_for_selector("#change-card .thumbnails li:nth-child(2)")
    changing.fill("#change-name", "shapes")
    changing.click("#change-add-button")
    changing.wait_for_selector("#change-problem >> text=There is a classifier called")
    changing.fill("#change-name", "more")
    server.refusals[("POST", "/v1/adapters/shapes/add")] = [refusal(422, "class 'hexagon' cannot be told from another")]
    changing.click("#change-add-button")
    changing.wait_for_selector("#change-problem >> text=cannot be told from another")
    server.states = [{"state": "failed", "message": "every image is learnt already"}]
    changing.click("#change-add-button")
    changing.wait_for_selector("#change-problem >> text=every image is learnt already")
    assert changing.locator("#change-card .thumbnails li").count() == 2
    assert changing.input_value("#change-card .card input:not([type])") == "hexagon"


def test_a_classifier_of_two_classes_loses_none(page, server):
    server.adapters["shapes"] = described("shapes", SHAPES[:2])
    page.goto(ADDRESS)
    page.click("#change")
    assert page.is_disabled(f"[aria-label='Remove {SHAPES[0]}']")


def test_classes_are_not_changed_where_nothing_is_taught(browser):
    server = MadeUpServer(teach=False)
    with opened(browser) as page:
        server.serve(page)
        page.goto(ADDRESS)
        page.wait_for_selector("#download")
        assert page.locator("#change").count() == 0
