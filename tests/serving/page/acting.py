"""The acts of a person at the page, and the requests that came of them."""

from __future__ import annotations

import re

from ..browsing import (
    SHAPES,
    pictures,
    until,
)

PREDICT = ("POST", "/v1/adapters/shapes/predict")


ANSWERED = "document.querySelector('#answer').getAttribute('aria-busy') === 'false'"


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
