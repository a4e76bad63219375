"""A page in headless Chromium, and the made-up server that it asks."""

from __future__ import annotations

import pytest

from ..browsing import (
    ADDRESS,
    MadeUpServer,
    chromium,
    opened,
)


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


@pytest.fixture
def changing(asking):
    """The dialog with the classes of a classifier, reached by the keyboard."""
    asking.focus("#change")
    asking.keyboard.press("Enter")
    asking.wait_for_selector("#change-dialog[open]")
    return asking
