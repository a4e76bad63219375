"""Files and folders that are chosen, dropped and pasted."""

from __future__ import annotations

import pytest

from ..browsing import (
    IN_BROWSER,
    file,
    pictures,
    png,
    until,
)
from .acting import card, drop, fill

pytestmark = [pytest.mark.long, *IN_BROWSER]


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
