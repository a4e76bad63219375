"""Asking about images: what a person sees and what is sent."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Error

from ..browsing import (
    ADDRESS,
    IN_BROWSER,
    LIMITS,
    MadeUpServer,
    chances,
    draw,
    file,
    opened,
    pixels,
    png,
    refusal,
    until,
)
from .acting import ANSWERED, PREDICT, choose, drop, picture_in, sent

pytestmark = [pytest.mark.long, *IN_BROWSER]


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
