"""Folders that are sorted: where images go, and that each goes there once, whatever happens on the way."""

import contextlib
import errno
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lowshot.errors import DataError, InputError, OutputError, OutputExistsError, UnknownNameError
from lowshot.folders import PUT, sort_folder, sorting
from lowshot.folders.journal import Journal
from lowshot.several_labels import Presence
from refusing import refused

from .conftest import LEVELS, ByBrightness, OfEach

EXPECTED = {
    "a.png": "light/a.png",
    "b.png": "dark/b.png",
    "deep/a.png": "light/deep/a.png",
    "deep/er/c.png": "unsure/deep/er/c.png",
    "deep/d.png": "unsure/deep/d.png",
}


def files_in(folder):
    """Content of each image by its path."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.png")}


@pytest.mark.parametrize("put", PUT)
def test_each_image_goes_to_the_folder_of_its_class(by_brightness, folder, tmp_path, put):
    before, out = files_in(folder), tmp_path / "out"
    done = sort_folder(by_brightness, folder, out, put=put, sure=0.9)
    assert done.images == {"light": 2, "unsure": 2, "dark": 1}
    assert files_in(out) == {EXPECTED[name]: before[name] for name in LEVELS}
    assert (out / "light" / "a.png").stat().st_nlink == (2 if put == "link" else 1)
    left = {"text.png": before["text.png"]} if put == "move" else before
    assert files_in(folder) == left
    assert (folder / "notes.txt").exists()
    [error] = done.errors
    assert "text.png is not an image" in error


def test_the_same_call_again_asks_about_nothing_but_what_could_not_be_read_and_what_is_new(folder, tmp_path):
    out = tmp_path / "out"
    for put in ("copy", "move"):
        first, again = ByBrightness(), ByBrightness()
        sort_folder(first, folder, out / put, put=put, sure=0.9)
        assert len(first.asked) == 6
        Image.new("RGB", (8, 8), "white").save(folder / "new.png")
        done = sort_folder(again, folder, out / put, put=put, sure=0.9)
        assert [path.name for path in again.asked] == ["new.png", "text.png"]
        assert done.images == {"light": 3, "unsure": 2, "dark": 1}
        if put == "copy":
            (folder / "new.png").unlink()
    (folder / "text.png").unlink()
    assert sort_folder(again, folder, out / "move", put="move", sure=0.9).errors == ()  # nothing is left to sort


@pytest.mark.parametrize("put", PUT)
@pytest.mark.parametrize("last", range(16))
def test_where_it_is_killed_nothing_is_lost_and_nothing_is_there_twice(folder, tmp_path, monkeypatch, put, last):
    """It is ended before its first, second, third ... change of the disk, and started again."""
    before, out = files_in(folder), tmp_path / "out"
    changes = 0

    def dying(change):
        def changed(*arguments, **named):
            nonlocal changes
            changes += 1
            if 0 < last <= changes:  # a process that is dead does not tidy up either
                raise KeyboardInterrupt
            return change(*arguments, **named)

        return changed

    with monkeypatch.context() as patches:
        patches.setattr(Journal, "append", dying(Journal.append))
        patches.setattr(Path, "rename", dying(Path.rename))
        patches.setattr(Path, "hardlink_to", dying(Path.hardlink_to))
        patches.setattr(Path, "unlink", dying(Path.unlink))
        patches.setattr(Path, "replace", dying(Path.replace))
        patches.setattr(shutil, "copy2", dying(shutil.copy2))
        with contextlib.suppress(KeyboardInterrupt):
            sort_folder(ByBrightness(), folder, out, put=put, sure=0.9)
    everywhere = {**files_in(folder), **files_in(out)}
    assert set(before.values()) <= set(everywhere.values())
    sort_folder(ByBrightness(), folder, out, put=put, sure=0.9)
    assert files_in(out) == {EXPECTED[name]: before[name] for name in LEVELS}
    assert files_in(folder) == ({"text.png": before["text.png"]} if put == "move" else before)
    assert not [path for path in out.rglob("*") if path.name.endswith(".partial")]


@pytest.mark.parametrize("put", ["copy", "move"])
def test_judged_together_images_go_where_they_do_without_a_kill(folder, tmp_path, monkeypatch, put):
    whole, out = tmp_path / "whole", tmp_path / "out"
    Image.new("L", (8, 8), 240).save(folder / "e.png")
    sort_folder(ByBrightness(), folder, whole, sure=0.99, transductive=True)
    assert files_in(whole).keys() != {EXPECTED.get(name, "light/e.png") for name in [*LEVELS, "e.png"]}
    appended = Journal.append

    def killed(self, rows):
        rows = list(rows)
        appended(self, rows[:1])  # of many lines one is on the disk
        if "image" in rows[0]:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            sort_folder(ByBrightness(), folder, out, put=put, sure=0.99, transductive=True)
    with refused(OutputError, "transductive"):
        sort_folder(ByBrightness(), folder, out, put=put, sure=0.99)
    sort_folder(ByBrightness(), folder, out, put=put, sure=0.99, transductive=True)
    assert files_in(out) == files_in(whole)


def test_to_another_disk_a_file_is_copied_before_it_goes(by_brightness, folder, tmp_path, monkeypatch):
    def another_disk(self, target):
        raise OSError(18, os.strerror(18))

    before = files_in(folder)
    monkeypatch.setattr(Path, "rename", another_disk)
    sort_folder(by_brightness, folder, tmp_path / "out", put="move", sure=0.9)
    assert files_in(tmp_path / "out") == {EXPECTED[name]: before[name] for name in LEVELS}
    assert files_in(folder) == {"text.png": before["text.png"]}


def test_killed_between_copy_and_removal_the_file_goes_with_the_next_call(folder, tmp_path, monkeypatch):
    def another_disk(self, target):
        raise OSError(18, os.strerror(18))

    def killed(self, missing_ok=False):
        raise KeyboardInterrupt

    out, before = tmp_path / "out", files_in(folder)
    with monkeypatch.context() as patches:
        patches.setattr(Path, "rename", another_disk)
        patches.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            sort_folder(ByBrightness(), folder, out, put="move", sure=0.9)
    assert files_in(folder) == before
    assert len(files_in(out)) == 1
    sort_folder(ByBrightness(), folder, out, put="move", sure=0.9)
    assert files_in(folder) == {"text.png": before["text.png"]}
    assert files_in(out) == {EXPECTED[name]: before[name] for name in LEVELS}


def test_another_image_of_a_name_that_was_moved_is_left_and_named(folder, tmp_path):
    out, warnings = tmp_path / "out", []
    sort_folder(ByBrightness(), folder, out, put="move", sure=0.9)
    before = files_in(out)
    (folder / "b.png").write_bytes(before["light/a.png"])
    sort_folder(ByBrightness(), folder, out, put="move", sure=0.9, warn=warnings)
    assert set(files_in(folder)) == {"b.png", "text.png"}
    assert files_in(out) == before
    assert [line for line in warnings if "b.png was left: an image of this name has been moved to" in line]


@pytest.mark.parametrize("put", PUT)
def test_what_a_person_put_right_stays_so(folder, tmp_path, put):
    out, warnings = tmp_path / "out", []
    sort_folder(ByBrightness(), folder, out, put=put, sure=0.9)
    (out / "light" / "a.png").rename(out / "dark" / "a.png")
    (out / "unsure" / "deep" / "d.png").unlink()
    Image.new("RGB", (8, 8), "white").save(folder / "new.png")
    corrected = set(files_in(out))
    sort_folder(ByBrightness(), folder, out, put=put, sure=0.9, warn=warnings)
    assert set(files_in(out)) == corrected | {"light/new.png"}
    assert not [line for line in warnings if "a.png" in line or "d.png" in line]


def test_between_two_disks_there_are_no_links(by_brightness, folder, tmp_path, monkeypatch):
    def another_disk(self, target):
        raise OSError(18, os.strerror(18))

    monkeypatch.setattr(Path, "hardlink_to", another_disk)
    with refused(InputError, "link", "copy", "move"):
        sort_folder(by_brightness, folder, tmp_path / "out", put="link", sure=0.9)


def test_what_cannot_be_is_said_before_anything_is_done(by_brightness, folder, tmp_path):
    for settings, error, *facts in (
        ({"put": "burn"}, UnknownNameError, "burn", "copy, link, move"),
        ({"sure": 1.5}, InputError, "sure", 1.5, "0 to 1"),
        ({"out": folder / "out"}, InputError, folder / "out", folder),
        ({"out": tmp_path}, InputError, tmp_path, folder),
        ({"folder": tmp_path / "none"}, DataError, tmp_path / "none"),
    ):
        given = {"folder": folder, "out": tmp_path / "out", **settings}
        with refused(error, *facts):
            sort_folder(by_brightness, given.pop("folder"), given.pop("out"), **given)
    assert by_brightness.asked == []
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    with refused(OutputExistsError, tmp_path / "full"):
        sort_folder(by_brightness, folder, tmp_path / "full")


@pytest.mark.parametrize("change", [{"sure": 0.8}, {"put": "link"}])
def test_an_output_that_was_begun_otherwise_is_left_alone(by_brightness, folder, tmp_path, change):
    sort_folder(by_brightness, folder, tmp_path / "out")
    before = files_in(tmp_path / "out")
    with refused(OutputError, *change):
        sort_folder(by_brightness, folder, tmp_path / "out", **change)
    with refused(OutputError, "adapter"):
        sort_folder(ByBrightness(seed=2), folder, tmp_path / "out")
    assert files_in(tmp_path / "out") == before


@given(st.lists(st.text(min_size=1, max_size=8) | st.sampled_from(["unsure", "CON", "a/b", "a:b", ".", "Index.html"])))
def test_folders_of_classes_are_as_many_and_no_path(classes):
    names = sorting.folder_names(tuple(dict.fromkeys(classes)))
    folded = [name.casefold() for name in names.values()]
    assert len(set(folded)) == len(set(classes))
    assert not {"unsure", "index.html", "answers.jsonl"} & set(folded)
    for name in names.values():
        assert name not in ("", ".", "..")
        assert not set(name) & set('<>:"/\\|?*\0')
        assert len(name.encode()) <= 210


def test_a_class_keeps_its_name_where_it_may(tmp_path):
    assert list(sorting.folder_names(["digit three", "Café", "a/b", "unsure", "a:b"]).values()) == [
        *("digit three", "Café", "a_b", "unsure_2", "a_b_2"),
    ]


def test_the_page_shows_every_folder_the_least_sure_image_first(by_brightness, folder, tmp_path, monkeypatch):
    (folder / "e.png").write_bytes((folder / "a.png").read_bytes())
    Image.new("RGB", (8, 8), (200, 200, 200)).save(folder / "<f>.png")
    done = sort_folder(by_brightness, folder, tmp_path / "out")
    page = done.page.read_text()
    assert page.count("data:image/jpeg") == 7
    light = page[page.index("light <") :]
    assert light.index("deep/er/c.png") < light.index("&lt;f&gt;.png") < light.index('href="light/a.png"')
    assert "<f>" not in page
    assert 'href="light/%3Cf%3E.png"' in page

    monkeypatch.setattr("lowshot.folders.page.MOST_IMAGES", 4)
    sort_folder(by_brightness, folder, tmp_path / "out")
    page = done.page.read_text()
    assert page.count("data:image/jpeg") == 4
    assert "5, the 2 least sure of them" in page
    assert "deep/er/c.png" in page


def test_what_is_of_none_of_the_classes_has_a_folder_of_its_own(folder, tmp_path):
    out = tmp_path / "out"
    done = sort_folder(ByBrightness(tells_none=True), folder, out, sure=0.9)
    assert done.images == {"none-of-these": 1, "light": 2, "unsure": 1, "dark": 1}
    assert list(done.images)[:2] in (["unsure", "none-of-these"], ["none-of-these", "unsure"])
    assert (out / "none-of-these" / "deep" / "er" / "c.png").is_file()
    assert sorting.folder_names(["none-of-these"]) == {"none-of-these": "none-of-these_2"}


@pytest.mark.parametrize("put", PUT)
def test_an_image_of_several_labels_goes_to_the_folder_of_each(folder, tmp_path, put):
    before, out = files_in(folder), tmp_path / "out"
    done = sort_folder(OfEach(), folder, out, put=put)
    both = "deep/er/c.png"
    assert done.images == {"light": 3, "dark": 3} and done.total == 5
    places = {("light", "a.png"), ("dark", "b.png"), ("light", "deep/a.png"), ("dark", "deep/d.png")}
    places |= {("light", both), ("dark", both)}
    assert files_in(out) == {f"{place}/{name}": before[name] for place, name in places}
    assert files_in(folder) == ({"text.png": before["text.png"]} if put == "move" else before)
    assert (out / "dark" / both).stat().st_nlink == {"copy": 1, "link": 3, "move": 2}[put]
    again = OfEach()
    assert sort_folder(again, folder, out, put=put).images == done.images
    assert [path.name for path in again.asked] == ["text.png"]
    page = (out / "index.html").read_text()
    assert "5 images, sorted into 2 folders" in page and page.count('href="dark/deep/er/c.png"') == 1


def test_labels_that_are_not_sure_enough_are_passed_over_and_images_without_labels_are_together(folder, tmp_path):
    done = sort_folder(OfEach(), folder, tmp_path / "out", sure=0.55)
    assert done.images == {"unsure": 1, "light": 2, "dark": 2}
    shy = OfEach()
    shy.presence = Presence(0, 0, 1.0, (0.0, 0.0), (0.7, 0.7))
    assert sort_folder(shy, folder, tmp_path / "shy").images == {"no-label": 2, "light": 2, "dark": 1}
    assert sorting.folder_names(["no-label"], has_several=True) == {"no-label": "no-label_2"}
    assert sorting.folder_names(["no-label"]) == {"no-label": "no-label"}


@pytest.mark.parametrize("put", PUT)
def test_wherever_it_is_ended_an_image_of_several_labels_comes_to_all_its_folders(folder, tmp_path, monkeypatch, put):
    """Also between two of its folders; what is moved has not gone before it is in the last."""
    before, out = files_in(folder), tmp_path / "out"

    way, places = PUT[put], iter(["first", "last"][put == "move" :])  # of what is moved, this puts the last alone

    def ended_at_the_last(source, target):
        if source.name == "c.png" and next(places) == "last":
            raise KeyboardInterrupt
        way(source, target)

    with monkeypatch.context() as patched:
        patched.setitem(PUT, put, ended_at_the_last)
        with pytest.raises(KeyboardInterrupt):
            sort_folder(OfEach(), folder, out, put=put)
    halves = [path for path in files_in(out) if path.endswith("c.png")]
    assert len(halves) == 1 and (folder / "deep" / "er" / "c.png").exists()
    sort_folder(OfEach(), folder, out, put=put)
    whole = files_in(out)
    assert whole["light/deep/er/c.png"] == whole["dark/deep/er/c.png"] == before["deep/er/c.png"]
    assert (folder / "deep" / "er" / "c.png").exists() == (put != "move")
    assert not list(out.rglob("*.partial"))


def test_to_another_disk_an_image_of_several_labels_is_copied_to_each_folder(folder, tmp_path, monkeypatch):
    def refused(*given):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    before = files_in(folder)
    monkeypatch.setattr("pathlib.Path.hardlink_to", refused)
    sort_folder(OfEach(), folder, tmp_path / "out", put="move")
    moved = files_in(tmp_path / "out")
    assert moved["light/deep/er/c.png"] == moved["dark/deep/er/c.png"] == before["deep/er/c.png"]
    assert not (folder / "deep" / "er" / "c.png").exists()
