"""Rows of answers in files, which go on where they were ended."""

import csv
import itertools
import json

import pytest

from lowshot.errors import InputError, OutputError, OutputExistsError
from lowshot.folders import Answers, answers, write_answers
from lowshot.folders.journal import Journal
from refusing import refused

from .conftest import LEVELS, ByBrightness


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(answers, "_BATCH", 2)


@pytest.fixture
def images(folder):
    return [folder / name for name in [*LEVELS, "text.png"]]


def test_json_has_a_line_for_each_image_in_order(by_brightness, images, tmp_path):
    [bad] = write_answers(Answers(by_brightness), images, tmp_path / "answers.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [row["image"] for row in rows] == list(map(str, images))
    assert [row.get("label") for row in rows] == ["light", "dark", "light", "light", "dark", None]
    assert rows[0]["probabilities"]["light"] == pytest.approx(0.96, abs=0.01)
    assert rows[-1] == bad
    assert bad["error"]["code"] == "unusable_image"


def test_csv_has_the_most_probable_classes(by_brightness, images, tmp_path):
    odd = images[0].with_name('a, "b"\nc.png')
    images[0].rename(odd)
    write_answers(Answers(by_brightness), [odd, *images[1:]], tmp_path / "answers.csv", top=2)
    with (tmp_path / "answers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image", "label", "probability", "label_2", "probability_2", "error"]
    assert (rows[0]["image"], rows[0]["label"], rows[0]["label_2"]) == (str(odd), "light", "dark")
    assert float(rows[0]["probability"]) + float(rows[0]["probability_2"]) == pytest.approx(1, abs=1e-5)
    assert (rows[-1]["label"], "is not an image" in rows[-1]["error"]) == ("", True)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_the_file_appears_whole_and_nothing_is_asked_twice(images, tmp_path, monkeypatch, suffix):
    out, whole = tmp_path / f"answers{suffix}", tmp_path / f"whole{suffix}"
    write_answers(Answers(ByBrightness()), images, whole)
    append, calls = Journal.append, []

    def killed(journal, rows):
        calls.append(rows)
        if len(calls) == 3:
            with journal.path.open("ab") as file:
                file.write(b'{"image": "cut sh')  # of a batch that was being written
            raise KeyboardInterrupt
        append(journal, rows)

    first, second = ByBrightness(), ByBrightness()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Journal, "append", killed)
        write_answers(Answers(first), images, out)
    assert not out.exists()
    write_answers(Answers(second), images, out)
    assert second.asked == images[2:]
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [out.name, whole.name]


def test_an_output_is_refused_that_is_there_of_another_kind_or_begun_with_others(images, tmp_path, monkeypatch):
    with refused(InputError, "answers.txt", ".jsonl", ".csv"):
        write_answers(Answers(ByBrightness()), images, tmp_path / "answers.txt")
    write_answers(Answers(ByBrightness()), images, tmp_path / "answers.csv")
    with refused(OutputExistsError, tmp_path / "answers.csv"):
        write_answers(Answers(ByBrightness()), images, tmp_path / "answers.csv")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("lowshot.folders.answers.file_written_aside", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        write_answers(Answers(ByBrightness()), images, tmp_path / "other.csv")
    with refused(OutputError, "images"):
        write_answers(Answers(ByBrightness()), images[1:], tmp_path / "other.csv")
    with refused(OutputError, "adapter"):
        write_answers(Answers(ByBrightness(seed=2)), images, tmp_path / "other.csv")


def test_a_damaged_journal_is_named(tmp_path):
    path = tmp_path / "journal"
    with Journal(path, {"kind": "x"}) as journal:
        journal.append([{"row": 1}])
    path.write_bytes(path.read_bytes() + b"garbage\n")
    with Journal(path, {"kind": "x"}) as journal, refused(OutputError, path, "line 3", "JSON"):
        list(journal.rows())
    path.write_bytes(b"[1]\n")
    with refused(OutputError, path, "line 1", "JSON"):
        Journal(path, {"kind": "x"})


def test_judged_together_images_have_the_same_answers_after_a_kill(by_brightness, images, tmp_path, monkeypatch):
    together = Answers(by_brightness, transductive=True)
    rows = list(together.of(images))
    alone = list(Answers(by_brightness).of(images))
    assert [row["image"] for row in rows] == [row["image"] for row in alone]
    assert [row.get("error") for row in rows] == [row.get("error") for row in alone]
    assert rows != alone
    assert list(together.of(images, 2)) == rows[2:]

    def killed(rows):
        yield list(itertools.islice(rows, 2))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(answers, "batches", killed)
        with pytest.raises(KeyboardInterrupt):
            write_answers(together, images, tmp_path / "out.jsonl")
    with refused(OutputError, "transductive"):
        write_answers(Answers(by_brightness), images, tmp_path / "out.jsonl")
    write_answers(together, images, tmp_path / "out.jsonl")
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == rows


def test_sets_of_images_that_are_judged_together_are_refused(by_brightness):
    with refused(InputError, "transductive", "coverage"):
        Answers(by_brightness, 0.9, transductive=True)


def test_a_row_that_the_disk_had_no_room_for_leaves_no_part_of_a_line(tmp_path):
    class Full:
        """A file on a full disk: a part of what is written is there, the rest is not."""

        def __init__(self, file):
            self.file = file

        def write(self, content):
            self.file.write(bytes(content)[:5])
            raise OSError(28, "No space left on device")

        def __getattr__(self, name):
            return getattr(self.file, name)

    with Journal(tmp_path / "rows.jsonl", {"about": 1}) as journal:
        journal.append([{"row": 1}])
        journal._file, file = Full(journal._file), journal._file
        with refused(OutputError, "rows.jsonl", "No space left"):
            journal.append([{"row": 2}])
        journal._file = file
        journal.append([{"row": 3}])
        assert list(journal.rows()) == [{"row": 1}, {"row": 3}]
