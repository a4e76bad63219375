"""The page of cards in headless Chromium: labels by keys, and what is on the disk then."""

import csv

import pytest

from ..serving.browsing import IN_BROWSER, chromium, opened, until
from .conftest import served

pytestmark = [pytest.mark.long, *IN_BROWSER]


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


def labels(tmp_path):
    with (tmp_path / "labels.csv").open(newline="") as file:
        return {row["file_name"]: row["label"] for row in csv.DictReader(file)}


def done(page, count):
    until(page, f"document.querySelector('#progress').value === {count}")


def test_three_cards_are_labelled_by_keys_and_teaching_goes_on(browser, session, tmp_path):
    with served(session) as client, opened(browser) as page:
        page.goto(str(client.base_url))
        page.wait_for_selector("#question:visible")
        assert page.text_content("#question") == "Is it cat?"
        page.keyboard.press("2")  # dog
        page.keyboard.press("x")  # of no meaning here
        page.keyboard.press("s")
        page.keyboard.press("u")
        done(page, 1)
        page.keyboard.press("Enter")  # the guess
        page.keyboard.press("+")
        page.keyboard.type("red fox")
        page.keyboard.press("Enter")
        page.wait_for_selector("#end-title:visible")
        until(page, "document.querySelector('#end-facts').textContent.startsWith('3 labels')")
        assert labels(tmp_path) == {"new/0.png": "dog", "new/1.png": "cat", "new/2.png": "red fox"}
        assert "right for 1 of 3" in page.text_content("#end-guesses")
        page.keyboard.press("Enter")  # teach on
        page.wait_for_selector("#question:visible")
        assert page.text_content("#count") == "0 of 2 cards, round 2"
        page.keyboard.press("s")
        page.wait_for_selector("text=cannot be shown")
        assert page.evaluate("document.activeElement.id") == "question"


def test_a_refused_answer_is_told_on_its_card_and_another_page_is_followed(browser, session, images, tmp_path):
    with served(session) as client, opened(browser) as page:
        page.goto(str(client.base_url))
        page.wait_for_selector("#question:visible")
        (tmp_path / "new" / "0.png").rename(tmp_path / "gone")
        page.keyboard.press("1")
        page.wait_for_selector("#refused:visible")
        assert "has gone" in page.text_content("#refused")
        assert "0.png" in page.text_content("figcaption")
        session.decide(images[1], {"label": "dog"})
        page.keyboard.press("s")
        done(page, 2)
        assert "2.png" in page.text_content("figcaption")
        page.get_by_role("checkbox").uncheck()
        page.keyboard.press("1")
        page.get_by_role("button", name="Skip").click()
        done(page, 3)
        assert labels(tmp_path) == {"new/1.png": "dog"}
