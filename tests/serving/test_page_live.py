"""The page and the real server together: drawn digits are read; three classes are taught, asked and taken away."""

from __future__ import annotations

import re
import subprocess
import zipfile

import numpy as np
import pytest

from lowshot import FewShotClassifier

from .browsing import IN_BROWSER, chromium, draw, opened, until

pytestmark = [pytest.mark.long, *IN_BROWSER]

# Ten digits as one hand draws them; points x right, y down.
DIGITS = {
    "zero": [[(50, 10), (30, 25), (25, 55), (35, 85), (52, 90), (70, 75), (75, 45), (65, 15), (50, 10)]],
    "one": [[(38, 28), (55, 10), (54, 50), (53, 90)]],
    "two": [[(27, 28), (45, 10), (68, 15), (72, 35), (55, 60), (25, 90), (50, 89), (76, 90)]],
    "three": [[(30, 18), (52, 10), (70, 25), (60, 43), (44, 47), (64, 53), (74, 70), (55, 90), (27, 84)]],
    "four": [[(58, 10), (27, 62), (78, 62)], [(62, 38), (62, 90)]],
    "five": [[(70, 10), (36, 10), (33, 45), (55, 42), (72, 60), (60, 86), (28, 86)]],
    "six": [[(64, 10), (40, 35), (29, 66), (42, 89), (63, 87), (71, 68), (54, 54), (33, 66)]],
    "seven": [[(26, 12), (74, 12), (58, 45), (44, 90)]],
    "eight": [[(66, 22), (50, 10), (35, 25), (50, 46), (69, 70), (50, 90), (31, 72), (50, 46), (66, 24)]],
    "nine": [[(70, 25), (52, 10), (33, 26), (45, 48), (66, 42), (71, 18), (69, 55), (62, 90)]],
}


def ring(x, y, width, height):
    turns = np.linspace(0, 2 * np.pi, 24)
    return [list(zip(x + width * np.cos(turns), y + height * np.sin(turns), strict=True))]


def cross(x, y, width, height):
    return [[(x - width, y), (x + width, y)], [(x, y - height), (x, y + height)]]


def triangle(x, y, width, height):
    return [[(x, y - height), (x + width, y + height), (x - width, y + height), (x, y - height)]]


SHAPES = {"ring": ring, "cross": cross, "triangle": triangle}


@pytest.fixture(scope="module")
def address(tmp_path_factory, forked):
    """A server with a classifier of digits."""
    folder = tmp_path_factory.mktemp("adapters")
    FewShotClassifier(method="lora").fit("digits", shots=8).save_pretrained(folder / "digits")
    command = [*forked, "-m", "lowshot", "serve", str(folder), "--port", "0", "--threads", "1"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield re.search(r"http://\S+", server.stdout.readline())[0]
    finally:
        server.terminate()
        server.wait(30)
        server.stdout.close()


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


def strokes(points):
    return [[(x / 100, y / 100) for x, y in stroke] for stroke in points]


def answer(page, points):
    """What a drawing is taken for."""
    page.get_by_role("button", name="Clear").click()
    page.wait_for_selector(".verdict", state="detached")
    draw(page, page.locator("#draw-source canvas"), strokes(points))
    page.wait_for_selector(".verdict")
    until(page, "document.querySelector('#answer').getAttribute('aria-busy') === 'false'")
    return page.text_content(".verdict")


def test_drawn_digits_are_read(browser, address):
    with opened(browser) as page:
        page.goto(f"{address}#ask/digits")
        page.wait_for_selector("#draw-source:visible")
        draw(page, page.locator("#draw-source canvas"), [[(0.5, 0.5), (0.6, 0.6)]])
        read = {name: answer(page, points) for name, points in DIGITS.items()}
        page.click(".why summary")
        page.wait_for_selector(".why img")
        until(page, "document.querySelector('.why img').naturalWidth === 320")
        words = page.text_content(".why .note")

    assert words.startswith("The strongest part lies ")
    assert sum(f"digit {name} " in words for name, words in read.items()) >= 9, read


def test_three_classes_are_taught_asked_and_taken_away(browser, address, tmp_path):
    with opened(browser) as page:
        page.goto(f"{address}#teach")
        for number, (name, shape) in enumerate(SHAPES.items()):
            card = page.locator(".card").nth(number)
            card.locator("input:not([type])").fill(name)
            card.get_by_role("button", name="Draw").click()
            for place in [(50, 50, 30, 25), (40, 60, 20, 22), (60, 45, 28, 35)]:
                draw(page, page.locator("dialog canvas"), strokes(shape(*place)))
                page.click("text=Add the drawing")
                page.wait_for_selector("dialog button:disabled >> text=Undo")
            page.wait_for_selector("text=3 images added")
            page.click("text=Done")
        page.click("text=Settings")
        page.select_option("#method", "lora-xs")
        page.click("#teach-button")
        page.wait_for_selector("text=ring-cross-triangle is taught", timeout=100_000)
        with page.expect_download() as download:
            page.click("text=Download the adapter")
        download.value.save_as(tmp_path / "adapter.zip")
        page.click("text=Ask it")
        page.wait_for_selector("text=It tells apart")
        draw(page, page.locator("#draw-source canvas"), [[(0.5, 0.5), (0.6, 0.6)]])
        read = {name: answer(page, shape(45, 52, 27, 26)) for name, shape in SHAPES.items()}
        page.wait_for_selector(".neighbours img >> nth=0")

    assert all(words.startswith(name) for name, words in read.items()), read
    with zipfile.ZipFile(tmp_path / "adapter.zip") as packed:
        packed.extractall(tmp_path)
    [record] = tmp_path.rglob("lowshot.json")
    assert sorted(FewShotClassifier.from_pretrained(record.parent).classes_) == sorted(SHAPES)
