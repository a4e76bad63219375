import os
from pathlib import Path

import pytest

from lowshot.data.copies import report_copies
from lowshot.data.listing import FileList
from lowshot.errors import DataError
from refusing import refused

CLASSES = ("ant", "bee", "cat")


@pytest.fixture
def report(tmp_path):
    """The lines on splits given as split -> folder, and (name, label) of each file."""

    def report(splits, **options):
        warned = []
        lists = {
            split: FileList(tmp_path / folder, [name for name, _ in files], [label for _, label in files])
            for split, (folder, files) in splits.items()
        }
        report_copies(Path("here"), CLASSES, lists, warned, **options)
        return warned

    return report


@pytest.fixture
def write(tmp_path):
    def write(**files):
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)

    return write


def test_the_same_bytes_are_a_copy_and_others_are_none(report, write, tmp_path):
    write(a=b"one", b=b"one", c=b"two", d=b"longer")
    train = [("a", 0), ("b", 0), ("c", 1), ("d", 1)]

    assert report({"train": ("", train)}) == []
    assert report({"train": ("", train[:1]), "test": ("", train[1:])}) == [
        f"here: 1 image(s) are in two splits at once, such as {tmp_path}/a and {tmp_path}/b"
    ]
    assert report({"train": ("", [("a", 0), ("b", 1)])}) == [
        f"here: 1 image(s) are in two classes at once, such as {tmp_path}/a and {tmp_path}/b"
    ]


def test_files_that_end_alike_are_no_copies(report, write):
    """They were taken for copies if they had one size and the same last 64 KB."""
    end = bytes(1 << 16)
    write(a=b"one" + end, b=b"two" + end, c=b"one" + end)

    assert report({"train": ("", [("a", 0), ("b", 1)])}) == []
    assert "1 image(s) are in two classes" in report({"train": ("", [("a", 0), ("b", 1), ("c", 1)])})[0]


def test_only_files_that_share_size_and_end_are_read_whole(report, write, tmp_path, monkeypatch):
    end = bytes(1 << 16)
    write(a=b"one", b=b"two", c=b"four", d=b"12345" + end, e=b"12345" + end)
    read = []
    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *rest: read.append(self.name) or opened(self, *rest))

    report({"train": ("", [(name, 0) for name in "abcde"])})

    assert sorted(read) == ["a", "b", "d", "d", "e", "e"]


def test_many_copies_are_counted_once_each_and_the_first_one_is_shown(report, write):
    write(a=b"1", b=b"2", c=b"1", d=b"2", e=b"1")

    (line,) = report({"train": ("", [("a", 0), ("b", 0), ("c", 1), ("d", 1), ("e", 2)])})
    assert line.startswith("here: 2 image(s) are in two classes at once, such as")
    assert line.endswith("/c")


def test_empty_files_pipes_and_files_that_are_gone_are_no_copies(report, write, tmp_path):
    write(a=b"", b=b"")
    os.mkfifo(tmp_path / "c")
    os.mkfifo(tmp_path / "d")

    train = [(name, label % 2) for label, name in enumerate("abcdef")]
    assert report({"train": ("", train), "test": ("", [("x" * 300, 1)])}) == []


# -- by path -----------------------------------------------------------------------------------------------------------


def test_a_path_in_two_splits_is_said_without_looking_at_files(report, tmp_path):
    splits = {"train": ("", [("a", 0), ("b", 1)]), "test": ("", [("b", 1), ("c", 0)])}

    assert report(splits, contents=False) == [
        f"here: 1 image(s) are in two splits at once, such as {tmp_path}/b and {tmp_path}/b"
    ]


@pytest.mark.parametrize("contents", [True, False])
def test_a_path_with_two_classes_is_refused(report, contents):
    splits = {"train": ("", [("a", 0), ("b", 1)]), "test": ("", [("b", 2)])}

    with refused(DataError, "here", "'bee' in train", "'cat' in test"):
        report(splits, contents=contents)


@pytest.mark.parametrize("contents", [True, False])
def test_a_path_that_is_in_a_split_twice_is_refused(report, contents):
    splits = {"train": ("", [("a", 0)]), "test": ("", [("b", 1), ("b", 1)])}

    with refused(DataError, "here", "b", "test twice"):
        report(splits, contents=contents)


def test_one_name_in_two_folders_is_two_paths(report):
    assert report({"train": ("train", [("a", 0)]), "test": ("test", [("a", 1)])}, contents=False) == []
