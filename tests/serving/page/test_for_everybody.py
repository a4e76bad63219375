"""The page on any screen, for any eyes, by any hand; and nothing from elsewhere."""

from __future__ import annotations

import re

import pytest

from ..browsing import (
    ADDRESS,
    IN_BROWSER,
    PAGE,
    PAGES,
    chances,
    described,
    file,
    opened,
    page_at,
    pictures,
    png,
)
from .acting import choose, fill

pytestmark = [pytest.mark.long, *IN_BROWSER]


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
    durations = []
    for wish in ["no-preference", "reduce"]:
        with opened(browser, reduced_motion=wish) as page:
            server.serve(page)
            page.goto(ADDRESS)
            choose(page, file("a.png", png(200)))
            page.wait_for_selector(".verdict")
            durations.append(page.evaluate(moves))

    assert durations == ["0.45s", "0s"]


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
