"""The page against a made-up server: what a person sees and what is sent, in headless Chromium."""

from __future__ import annotations

import contextlib
import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Error

from .browsing import (
    ADDRESS,
    CHROMIUM,
    LIMITS,
    PAGE,
    PAGES,
    SHAPES,
    MadeUpServer,
    chances,
    chromium,
    described,
    draw,
    fields,
    file,
    opened,
    page_at,
    pictures,
    pixels,
    png,
    refusal,
    until,
)

pytestmark = [
    pytest.mark.long,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]
PREDICT = ("POST", "/v1/adapters/shapes/predict")
ANSWERED = "document.querySelector('#answer').getAttribute('aria-busy') === 'false'"


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def server():
    return MadeUpServer()


@pytest.fixture
def page(browser, server):
    with opened(browser) as page:
        server.serve(page)
        yield page


@pytest.fixture
def asking(page):
    """The page with a classifier chosen."""
    page.goto(ADDRESS)
    page.wait_for_selector("#adapter-facts:not([hidden])")
    return page


@pytest.fixture
def teaching(page):
    """The page with the teaching form."""
    page.goto(f"{ADDRESS}/#teach")
    page.wait_for_selector("#teach-form:visible")
    return page


def sent(server, method, path):
    """Bodies of the requests to a path."""
    return [body for asked, at, body in server.asked if (asked, at) == (method, path)]


def picture_in(body):
    """The first image's file in a form."""
    return re.search(rb'name="images".*?\r\n\r\n(.*?)\r\n------', body, re.DOTALL)[1]


def choose(page, *files):
    page.set_input_files("#choose-images", list(files))


def card(page, number):
    return page.locator(".card").nth(number)


def fill(page, number, name, files=()):
    card(page, number).locator("input:not([type])").fill(name)
    if files:
        card(page, number).locator("input[type=file]").set_input_files(files)
        until(page, f"document.querySelectorAll('.card')[{number}].querySelectorAll('li img').length === {len(files)}")


def fill_all(page):
    for number, name in enumerate(SHAPES):
        fill(page, number, name, pictures(30 * number, 2))


def drop(page, selector, name, content):
    page.evaluate(
        """([selector, name, bytes]) => {
          const carried = new DataTransfer();
          carried.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
          const event = new DragEvent("drop", { dataTransfer: carried, bubbles: true, cancelable: true });
          document.querySelector(selector).dispatchEvent(event);
        }""",
        [selector, name, list(content)],
    )


# -- asking ------------------------------------------------------------------------------------------------------------


def test_an_answer_is_shown_in_words_bars_and_examples_beside_what_the_untaught_model_says(asking):
    choose(asking, file("a.png", png(200)))

    assert asking.text_content(".verdict") == "square 91.3\u202f%"
    assert asking.text_content(".before") == "Before it was taught the model said circle, with 52.0\u202f%."
    assert asking.locator(".bars .name").all_text_contents() == ["square", "star", "circle"]
    until(asking, "document.querySelector('.bar.taught').style.getPropertyValue('--share') === '0.913'")
    until(asking, "document.querySelector('.neighbours img').naturalWidth === 32")
    assert "Not calibrated" in asking.text_content("#answer")
    assert asking.text_content("#announcement").startswith("square, 91.3\u202f%. Before it was taught: circle")


def test_an_image_is_sent_byte_by_byte_as_it_is(asking, server):
    content = png(12, side=300)
    choose(asking, file("a.png", content))
    asking.wait_for_selector(".verdict")

    assert picture_in(sent(server, *PREDICT)[0]) == content


def test_the_comparison_can_be_left_out(asking):
    choose(asking, file("a.png", png(200)))
    asking.wait_for_selector(".before")
    asking.uncheck("#compare")
    asking.wait_for_selector(".before", state="detached")

    assert asking.locator(".bar.untaught").count() == 0


def test_images_come_by_drop_and_by_paste_too(asking, server):
    drop(asking, "#stage", "dropped.png", png(1))
    asking.wait_for_selector(".verdict")
    asking.evaluate(
        """(bytes) => {
          const carried = new DataTransfer();
          carried.items.add(new File([new Uint8Array(bytes)], "pasted.png", { type: "image/png" }));
          document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: carried, bubbles: true }));
        }""",
        list(png(2)),
    )

    asking.wait_for_selector("#strip [aria-label='pasted.png: square']")
    asking.wait_for_selector("#strip [aria-label='dropped.png: square']")
    assert [picture_in(body) for body in sent(server, *PREDICT)] == [png(1), png(2)]


def test_files_that_cannot_be_used_are_named_and_the_others_are_asked(asking):
    heic = b"\0\0\0\x18ftypheic" + bytes(40)
    choose(
        asking,
        file("IMG_1.HEIC", heic, "image/heic"),
        file("notes.txt", b"hello", "text/plain"),
        file("empty.png", b""),
        file("half.png", png(9)[:60]),
        file("good.png", png(9)),
    )
    asking.wait_for_selector(".verdict")

    heic, text, empty, half = asking.locator("#unusable li").all_text_contents()
    assert heic == "IMG_1.HEIC is a HEIC photo, which this browser cannot open. Save it as JPEG and add that."
    assert text.startswith("notes.txt is not an image")
    assert empty == "empty.png is empty; expected an image."
    assert half.startswith("half.png is damaged")


def test_only_an_image_that_the_server_would_refuse_is_made_smaller_and_says_so(browser):
    server = MadeUpServer(limits={**LIMITS, "image_bytes": 100_000})
    gradient = np.tile(np.linspace(0, 255, 1400).astype(np.uint8), (1100, 1))
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    with opened(browser) as page:
        server.serve(page)
        page.goto(ADDRESS)
        page.wait_for_selector("#adapter-facts:not([hidden])")
        choose(page, file("gradient.bmp", file_of(gradient, "BMP"), "image/bmp"))
        page.wait_for_selector(".verdict")
        assert page.text_content("#shown-note") == "Made smaller: it is larger than the server takes."
        assert pixels(picture_in(sent(server, *PREDICT)[0])).shape == (1024, 1303, 3)

        choose(page, file("noise.png", file_of(noise, "PNG")))
        page.wait_for_selector("#unusable li:has-text('noise.png has 481 KB; expected at most 100 KB.')")
        assert len(sent(server, *PREDICT)) == 1


def file_of(array, kind):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind)
    return buffer.getvalue()


def test_a_busy_server_is_asked_again(asking, server):
    server.refusals[PREDICT] = [refusal(429, "too much to do", **{"Retry-After": "1"})]
    choose(asking, file("a.png", png(200)))
    asking.wait_for_selector("text=The server is busy; asking again in 1 second.")

    asking.wait_for_selector(".verdict")
    assert len(sent(server, *PREDICT)) == 2


def test_a_server_that_is_gone_is_told_in_words_and_can_be_tried_again(asking, server):
    server.refusals[PREDICT] = [None]
    choose(asking, file("a.png", png(200)))
    asking.wait_for_selector("text=The server does not answer.")
    asking.get_by_role("button", name="Try again").click()

    asking.wait_for_selector(".verdict")


def test_a_bad_image_has_its_reason_for_an_answer(asking, server):
    server.prediction = {"error": {"code": "x", "message": "image has 1 x 90 pixels; expected sides within 1:50"}}
    choose(asking, file("a.png", png(200)))

    asking.wait_for_selector("#answer .problem:has-text('expected sides within 1:50')")


def test_an_image_of_none_of_the_classes_is_told_before_the_nearest_class(asking, server):
    server.prediction = {"classes": chances(square=0.913, star=0.087), "none_of_these": True, "p_value": 0.01}
    choose(asking, file("a.png", png(200)))
    asking.wait_for_selector(".verdict")
    assert asking.text_content(".verdict") == "none of these; nearest: square 91.3\u202f%"
    assert asking.text_content("#announcement").startswith("None of these. Nearest: square, 91.3\u202f%.")


def test_class_names_are_shown_as_they_are_and_never_as_markup(browser):
    server = MadeUpServer()
    server.prediction = {"classes": chances(**{"<img src=x onerror=alert(1)>": 1.0})}
    with opened(browser) as page:
        server.serve(page)
        page.goto(ADDRESS)
        choose(page, file("a.png", png(200)))
        assert page.text_content(".verdict") == "<img src=x onerror=alert(1)> 100.0\u202f%"


def test_a_drawing_is_sent_in_the_middle_in_white_on_black_whatever_its_size_and_place(asking, server):
    asking.check("[value=draw]", force=True)
    pad = asking.locator("#draw-source canvas")
    draw(asking, pad, [[(0.1, 0.1), (0.1, 0.3)]])
    asking.wait_for_selector(".verdict")

    ink = pixels(picture_in(sent(server, *PREDICT)[-1])) > 128
    rows, columns = ink.any((1, 2)).nonzero()[0], ink.any((0, 2)).nonzero()[0]
    assert ink.shape == (256, 256, 3)
    assert (rows.min(), rows.max()) == pytest.approx((28, 227), abs=2)
    assert (columns.min(), columns.max()) == pytest.approx((114, 141), abs=2)


def test_one_can_draw_with_the_keyboard_and_take_strokes_back(asking, server):
    asking.check("[value=draw]", force=True)
    pad = asking.locator("#draw-source canvas")
    pad.focus()
    for key in ["Space", *["ArrowRight"] * 5, "Space", *["ArrowDown"] * 2, "Space", *["ArrowDown"] * 5, "Space"]:
        pad.press(key)
    until(asking, ANSWERED)  # for the first stroke alone there may have been an answer before
    both = pixels(picture_in(sent(server, *PREDICT)[-1]))
    pad.press("Backspace")
    until(asking, ANSWERED)
    one = pixels(picture_in(sent(server, *PREDICT)[-1]))
    pad.press("Backspace")
    asking.wait_for_selector(".verdict", state="detached")

    assert (one[128, 40:216] > 128).all()  # the line to the right, alone and so in the middle
    assert not (both[128, 40:216] > 128).all()
    assert asking.locator("#draw-source button:disabled").count() == 2


def test_the_answer_about_a_drawing_that_has_changed_since_is_not_shown(asking, server):
    """Under load it was, until the drawing as it is now was sent."""
    held = []
    asking.route(f"{ADDRESS}{PREDICT[1]}*", lambda route: held.append(route))
    asking.check("[value=draw]", force=True)
    pad = asking.locator("#draw-source canvas")
    draw(asking, pad, [[(0.1, 0.1), (0.1, 0.3)]])
    while not held:
        asking.wait_for_timeout(10)
    draw(asking, pad, [[(0.5, 0.1), (0.5, 0.3)]])
    asking.unroute(f"{ADDRESS}{PREDICT[1]}*")
    with contextlib.suppress(Error):  # the page waits for it no longer
        server._answer(held[0])
    until(asking, "document.querySelector('.verdict') !== null")

    assert len(sent(server, *PREDICT)) == 2
    assert asking.evaluate(ANSWERED)


def test_the_camera_is_opened_only_when_it_is_asked_for_and_closed_when_it_is_left(browser, server):
    with opened(browser, permissions=["camera"]) as page:
        server.serve(page)
        page.goto(ADDRESS)
        page.wait_for_selector("#adapter-facts:not([hidden])")
        page.check("[value=camera]", force=True)
        live = "document.querySelector('video').srcObject?.active ?? false"
        assert not page.evaluate(live)
        page.click("text=Turn the camera on")
        until(page, "document.querySelector('video').videoWidth > 0")
        assert page.evaluate(f"window.before = document.querySelector('video').srcObject, {live}")
        page.click("text=Take the picture")
        page.wait_for_selector(".verdict")
        assert not page.evaluate("window.before.active")
        assert pixels(picture_in(sent(server, *PREDICT)[0])).shape[2] == 3


def test_a_camera_that_may_not_be_used_is_told_in_words(asking):
    asking.check("[value=camera]", force=True)
    asking.click("text=Turn the camera on")

    asking.wait_for_selector("text=The browser may not use the camera.")


def test_a_classifier_is_removed_only_after_a_question(asking, server):
    asking.click("#remove")
    asking.click("text=Keep it")
    assert "shapes" in server.adapters
    asking.click("#remove")
    asking.click("text=Remove it")

    asking.wait_for_selector("text=There is no classifier yet.")
    assert server.adapters == {}


def test_one_of_ten_thousand_classifiers_is_found(browser):
    server = MadeUpServer(adapters=[f"plants-{number}" for number in range(10_000)])
    with opened(browser) as page:
        server.serve(page)
        page.goto(ADDRESS)
        page.wait_for_selector("#adapter-filter")
        page.fill("#adapter-filter", "9876")
        page.select_option("#adapter", "plants-9876")
        until(page, "location.hash === '#ask/plants-9876'")
        page.fill("#adapter-filter", "")
        page.wait_for_selector("#adapter option:disabled:has-text('and 9700 more: narrow the list')", state="attached")


def test_the_classifier_and_the_image_are_still_there_after_a_look_at_the_other_place(browser):
    server = MadeUpServer(adapters=["first", "second"])
    with opened(browser) as page:
        server.serve(page)
        page.goto(f"{ADDRESS}/#ask/second")
        page.wait_for_selector("#adapter-facts:not([hidden])")
        choose(page, file("a.png", png(200)))
        page.wait_for_selector(".verdict")
        page.click("nav >> text=Teach")
        page.click("nav >> text=Ask")
        page.wait_for_selector(".verdict")
        assert page.input_value("#adapter") == "second"
        assert len(sent(server, "POST", "/v1/adapters/second/predict")) == 1


def test_an_address_of_a_classifier_that_is_not_there_says_so(page):
    page.goto(f"{ADDRESS}/#ask/nothing%")

    page.wait_for_selector("#adapter-problem:has-text(\"there is no adapter 'nothing%'\")")


def test_folders_that_could_not_be_loaded_are_listed_with_their_reason(page, server):
    server.refused = [{"name": "old", "reason": "belongs to another backbone"}]
    page.goto(ADDRESS)
    page.click("text=1 folder could not be loaded")

    page.wait_for_selector("text=old: belongs to another backbone")


def test_the_token_is_asked_for_once_and_kept_for_the_tab(page, server):
    server.token = "right"
    page.goto(ADDRESS)
    page.fill("#token", "wrong")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=The server does not know that token.")
    page.fill("#token", "right")
    page.click("text=Go on")
    page.wait_for_selector("#adapter-facts:not([hidden])")
    page.reload()

    page.wait_for_selector("#adapter-facts:not([hidden])")
    assert page.locator("dialog[open]").count() == 0


# -- teaching ----------------------------------------------------------------------------------------------------------


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


# -- files and folders -------------------------------------------------------------------------------------------------


def test_a_file_that_is_no_image_is_told_and_stays_told_while_the_class_is_filled(teaching):
    card(teaching, 0).locator("input[type=file]").set_input_files([file("notes.txt", b"hello", "text/plain")])
    teaching.wait_for_selector(".card li:has-text('notes.txt is not an image')")
    assert "notes.txt is not an image" in teaching.text_content("#announcement")
    fill(teaching, 0, "circle")
    teaching.click("#teach-button")
    teaching.wait_for_selector("#problems:visible")
    fill(teaching, 1, "square", pictures(30, 2))

    assert card(teaching, 0).locator(".problem li").all_text_contents() == [
        "notes.txt is not an image that can be read; expected JPEG, PNG, WebP, GIF, BMP or TIFF.",
        "“circle” has no images: add a few, or remove the class.",
    ]


def test_many_files_that_are_no_images_are_told_in_few_lines(teaching):
    texts = [file(f"{number}.txt", b"hello", "text/plain") for number in range(40)]
    card(teaching, 0).locator("input[type=file]").set_input_files(texts)

    teaching.wait_for_selector(".card li:has-text('35 more files cannot be used either.')")
    assert card(teaching, 0).locator(".problem li").count() == 6


def test_files_that_miss_every_class_are_told(teaching):
    drop(teaching, "header", "cat.png", png(7))
    teaching.wait_for_selector("#left-out:has-text('cat.png: drop images onto the class that they are of')")
    assert teaching.locator(".thumbnails li").count() == 0


def test_files_that_miss_the_place_to_ask_are_asked_about(asking):
    drop(asking, "header", "cat.png", png(7))
    asking.wait_for_selector(".verdict")


FAKE_FOLDERS = """(tree) => {
  const entry = (name, inside) => Array.isArray(inside)
    ? { name, isFile: true, file: (take) => take(new File([new Uint8Array(inside)], name)) }
    : { name, isDirectory: true, createReader: () => {
        const left = Object.entries(inside).map(([each, its]) => entry(each, its));
        return { readEntries: (take) => take(left.splice(0, 1)) };  // a part at a time, as browsers do
      } };
  DataTransferItem.prototype.webkitGetAsEntry = () => entry(...Object.entries(tree)[0]);
}"""


def test_a_dropped_folder_of_folders_is_a_class_for_each(teaching, server):
    tree = {"photos": {"oak_leaf": {"1.png": list(png(1)), "2.png": list(png(2))}, "elm": {"1.png": list(png(3))}}}
    teaching.evaluate(FAKE_FOLDERS, tree)
    drop(teaching, "#teach-title", "photos", b"")
    until(teaching, "document.querySelectorAll('.thumbnails li').length === 3")

    names = [each.input_value() for each in teaching.locator(".card input:not([type])").all()]
    assert names == ["elm", "oak leaf", ""]
    assert teaching.input_value("#classifier-name") == "elm-oak-leaf"


def test_a_folder_dropped_on_a_class_that_is_begun_is_for_that_class(teaching):
    fill(teaching, 0, "circle")
    teaching.evaluate(FAKE_FOLDERS, {"more": {"1.png": list(png(1)), "2.png": list(png(2))}})
    drop(teaching, ".card", "more", b"")
    until(teaching, "document.querySelectorAll('.card')[0].querySelectorAll('li img').length === 2")

    assert card(teaching, 0).locator("input:not([type])").input_value() == "circle"


def test_folders_are_chosen_with_the_keyboard_too(teaching, tmp_path):
    for name, shade in (("elm", 1), ("oak", 2)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "1.png").write_bytes(png(shade))
    teaching.get_by_label("Choose folders").set_input_files(tmp_path / "photos")
    until(teaching, "document.querySelectorAll('.thumbnails li').length === 2")

    names = [each.input_value() for each in teaching.locator(".card input:not([type])").all()]
    assert names == ["elm", "oak", ""]


def test_the_cross_that_takes_an_image_away_leaves_the_image_to_be_seen(teaching):
    fill(teaching, 0, "circle", pictures(0, 1))
    picture, cross = (teaching.locator(f".thumbnails {each}").bounding_box() for each in ("img", ".away"))
    width = picture["x"] + picture["width"] - cross["x"]
    height = cross["y"] + cross["height"] - picture["y"]

    assert width * height < 0.05 * picture["width"] * picture["height"]


# -- taught before -----------------------------------------------------------------------------------------------------

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


# -- classes more, fewer, and by other names ---------------------------------------------------------------------------


@pytest.fixture
def changing(asking):
    """The dialog with the classes of a classifier, reached by the keyboard."""
    asking.focus("#change")
    asking.keyboard.press("Enter")
    asking.wait_for_selector("#change-dialog[open]")
    return asking


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


# -- for everybody -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [320, 375, 1200])
def test_nothing_scrolls_sideways_and_every_control_has_a_name(browser, server, width):
    server.adapters["a" * 64] = described("a" * 64, ["x" * 100, "y" * 100])
    server.prediction["classes"] = chances(**{"x" * 100: 0.9, "y" * 100: 0.1})
    unnamed = """Array.from(document.querySelectorAll("button, input, select, canvas, video, a, progress"))
      .filter((one) => one.checkVisibility())
      .filter((one) => !(one.labels?.length || one.getAttribute("aria-label")))
      .filter((one) => one.matches("input, select, canvas, video, progress") || !one.textContent.trim())
      .map((one) => one.outerHTML)"""
    sides = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    with opened(browser, width=width) as page:
        server.serve(page)
        page.goto(f"{ADDRESS}/#ask/{'a' * 64}")
        page.wait_for_selector("#adapter-facts:not([hidden])")
        choose(page, *pictures(0, 9))
        page.wait_for_selector(".verdict")
        assert page.evaluate(sides) == [width, width]
        assert page.evaluate(unnamed) == []
        page.click("#change")
        page.wait_for_selector("#change-dialog[open]")
        page.click("#change-classes button >> nth=0")
        assert page.evaluate(sides) == [width, width]
        assert page.evaluate("(one) => one.scrollWidth <= one.clientWidth", page.query_selector("#change-dialog"))
        assert page.evaluate(unnamed) == []
        page.keyboard.press("Escape")
        page.click("nav >> text=Teach")
        fill(page, 0, "x" * 100, pictures(0, 8))
        page.click("#teach-button")
        page.wait_for_selector("#problems:visible")
        assert page.evaluate(sides) == [width, width]
        assert page.evaluate(unnamed) == []


def test_nothing_moves_where_motion_is_not_wanted(browser, server):
    moves = "getComputedStyle(document.querySelector('.bar span')).transitionDuration"
    found = []
    for wish in ["no-preference", "reduce"]:
        with opened(browser, reduced_motion=wish) as page:
            server.serve(page)
            page.goto(ADDRESS)
            choose(page, file("a.png", png(200)))
            page.wait_for_selector(".verdict")
            found.append(page.evaluate(moves))

    assert found == ["0.45s", "0s"]


def luminance(colour):
    shares = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    darker, lighter = sorted([luminance(one), luminance(other)])
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_contrast_is_that_of_wcag_aa(scheme):
    block = re.findall(r":root \{(.*?)\}", (PAGE / "style.css").read_text(encoding="utf-8"), re.DOTALL)[scheme]
    colours = dict(re.findall(r"--([\w-]+): (#\w{6});", block))

    texts = [("ink", "paper"), ("quiet", "paper"), ("quiet", "raised"), ("accent", "paper"), ("on-accent", "accent")]
    for text, ground in [*texts, ("ink", "wrong-ground"), ("ink", "raised"), ("paper", "ink")]:
        assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for sign in ["edge", "wrong", "accent"]:
        assert contrast(colours[sign], colours["paper"]) >= 3, sign
        assert contrast(colours[sign], colours["raised"]) >= 3, sign


def test_the_page_brings_all_it_needs_and_nothing_inline():
    html = "".join(map(page_at, PAGES))
    scripts = {path.name: path.read_text(encoding="utf-8") for path in PAGE.glob("*.js")}

    assert not re.search(r"\son\w+=|\sstyle=|<style|<script(?! type=\"module\" src=)", html)
    for name, text in {
        "pages": html,
        "style.css": (PAGE / "style.css").read_text(encoding="utf-8"),
        **scripts,
    }.items():
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), name
        assert not re.search(r"\b(alert|confirm|prompt|eval)\(|innerHTML", text), name
    imported = {name for text in scripts.values() for name in re.findall(r'from "\./(\w+\.js)"', text)}
    assert imported | {"main.js", "interface.js"} == set(scripts)
