"""What was decided about cards: whatever ends the process, the labels are those of the last decisions."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowshot.cards import Card, ClassFolders, Decisions, Row, Table
from lowshot.data import class_name
from lowshot.data.tables import READERS
from lowshot.errors import DataError, InputError, OutputBusyError, OutputError, OutputExistsError, UnknownNameError
from lowshot.files import claimed
from refusing import refused

CLASSES = ["cat", "oak leaf", 'Ünsäfe, "name"']
CHOICES = [*({"label": name} for name in CLASSES), {"skip": True}, {}]
LEFT_OUT = {"left_out": [0]}


class Killed(BaseException):
    """The process is gone."""


@contextlib.contextmanager
def killed_after(steps):
    """Raise before so many-eth change of the disk, if it is given."""
    left = [steps or 0]

    def stopping(function):
        def step(*arguments, **named):
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            return function(*arguments, **named)

        return step

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in [
            *((Path, name) for name in ("rename", "replace", "unlink", "hardlink_to", "rmdir", "mkdir")),
            (shutil, "copy2"),
        ]:
            patch.setattr(owner, name, stopping(getattr(owner, name)))
        patch.setattr(os, "fsync", stopping(lambda _: None))  # it is what takes the time
        yield


def images_in(folder, count=4):
    for number in range(count):
        path = folder / "new" / f"box {number % 2}" / "photo.png" if number < 2 else folder / "new" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"image {number}")
    return sorted(str(path) for path in (folder / "new").rglob("*.png"))


def suggestions(images):
    return [Card("suggestion", (image,), (None,), "cat", 0.5) for image in images]


def opened(place):
    decisions = Decisions(place, {"kind": "suggest"})
    return decisions


def begun(place, cards, classes=CLASSES):
    decisions = opened(place)
    if not decisions.rounds:
        decisions.begin_round(cards, classes)
    return decisions


def table_of(path):
    return {row["file_name"]: row["label"] for _, row in READERS[path.suffix](path)} if path.exists() else {}


def class_folders_of(root):
    files = [path for path in root.rglob("*") if path.is_file() and not any(p.startswith(".") for p in path.parts)]
    assert len({path.read_text() for path in files}) == len(files), "no image is there twice"
    return {path.read_text(): path.relative_to(root).parts[0] for path in files}


PLACES = {
    ".csv": lambda folder: Table(folder / "labels.csv"),
    ".jsonl": lambda folder: Table(folder / "labels.jsonl"),
    **{
        put: lambda folder, put=put: ClassFolders(folder / "classes", "suggest", put)
        for put in ("copy", "link", "move")
    },
}


def folder_of(name):
    return "Ünsäfe, _name_" if name == CLASSES[2] else name


def check(folder, kind, images, contents, labels):
    """The labels are where they belong, and every image is there."""
    if kind.startswith("."):
        table = table_of(folder / f"labels{kind}")
        assert table == {Path(image).relative_to(folder).as_posix(): label for image, label in labels.items()}
    else:
        expected = {contents[image]: folder_of(label) for image, label in labels.items()}
        assert class_folders_of(folder / "classes") == expected
    for image in images:
        assert Path(image).exists() == (kind != "move" or image not in labels)


@settings(deadline=None, max_examples=12)
@given(
    kind=st.sampled_from(sorted(PLACES)),
    steps=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(CHOICES), st.one_of(st.none(), st.integers(1, 9))), max_size=12
    ),
)
def test_any_keys_and_kills_leave_the_labels_of_the_last_decisions(kind, steps):
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        images = images_in(folder)
        contents = {image: Path(image).read_text() for image in images}
        decisions, model = stack.enter_context(begun(PLACES[kind](folder), suggestions(images))), {}
        for number, choice, kill in steps:
            key = images[number]
            try:
                with killed_after(kill):
                    decisions.decide(key, choice)
                model[key] = choice
            except Killed:
                decisions.close()
                decisions = stack.enter_context(opened(PLACES[kind](folder)))
                assert decisions.choices.get(key, {}) in (choice, model.get(key, {}))
                model[key] = decisions.choices.get(key, {})
            labels = {image: each["label"] for image, each in model.items() if "label" in each}
            assert decisions.labels() == labels
            check(folder, kind, images, contents, labels)
        decisions.close()
        with opened(PLACES[kind](folder)) as again:
            assert {key: each for key, each in again.choices.items() if each} == {k: c for k, c in model.items() if c}
            assert [card.key for card in again.cards.values()] == images


@settings(deadline=None, max_examples=10)
@given(
    steps=st.lists(
        st.tuples(
            st.integers(0, 3),
            st.sampled_from([*({"label": name} for name in ("cat", "dog", "oak leaf")), LEFT_OUT, {}]),
            st.one_of(st.none(), st.integers(1, 7)),
        ),
        max_size=12,
    )
)
def test_doubted_images_are_moved_between_folders_of_classes_and_none_is_lost(steps):
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        root = Path(name) / "photos"
        labels = {}
        for number in range(4):  # two of each class have the same file name, in two splits
            path = root / ("train", "val")[number % 2] / ("cat", "oak_leaf")[number // 2] / "same.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"image {number}")
            labels[str(path)] = ("cat", "oak leaf")[number // 2]
        cards = [Card("doubt", (image,), (label,), "dog", 0.9) for image, label in labels.items()]
        place = lambda: ClassFolders(root, "doubt", "move")  # noqa: E731
        decisions = stack.enter_context(begun(place(), cards, ["cat", "dog", "oak leaf"]))
        model = dict(labels)
        for number, choice, kill in steps:
            key = cards[number].key
            wanted = None if choice == LEFT_OUT else choice.get("label", labels[key])
            try:
                with killed_after(kill):
                    decisions.decide(key, choice)
            except Killed:
                decisions.close()
                decisions = stack.enter_context(opened(place()))
                wanted = decisions.labels().get(key, labels[key])
            model[key] = wanted
            now = {path.read_text(): path.relative_to(root).parts for path in root.rglob("*.png")}
            assert len(now) == 4
            for number, (image, label) in enumerate(model.items()):
                split, folder = now[f"image {number}"][:2]
                assert split == Path(image).relative_to(root).parts[0]
                assert folder == ".left-out" if label is None else class_name(folder) == label


@pytest.fixture
def images(tmp_path):
    return images_in(tmp_path)


def test_a_table_holds_what_was_there_before_as_it_was_decided(tmp_path, images):
    rows = [Row(images[0], "cat", "train"), Row(images[1], "dog", "train"), Row(images[2], "cat", "test")]
    cards = [Card("doubt", (image,), (label,)) for image, label, _ in rows]
    with begun(Table(tmp_path / "clean.csv", rows), cards, ["cat", "dog"]) as decisions:
        decisions.decide(images[0], {"label": "dog"})
        decisions.decide(images[1], LEFT_OUT)
    names = [Path(image).relative_to(tmp_path).as_posix() for image in images]
    assert (tmp_path / "clean.csv").read_text().splitlines() == [
        "file_name,label,split",
        f'"{names[0]}","dog","train"',
        f'"{names[2]}","cat","test"',
    ]


def test_of_two_copies_one_is_left_out_and_both_come_back(tmp_path, images):
    rows = [Row(image, "cat", "train") for image in images]
    pair = Card("copies", (images[0], images[1]), ("cat", "cat"))
    with begun(Table(tmp_path / "clean.csv", rows), [pair], ["cat"]) as decisions:
        for left_out, count in ([1], 3), ([0, 1], 2), ([], 4):
            decisions.decide(pair.key, {"left_out": left_out})
            assert len(table_of(tmp_path / "clean.csv")) == count
        assert decisions.closed() == set(images[:2])


@pytest.mark.parametrize(
    "choice",
    [
        *(None, 3, "cat", {"label": "cat", "skip": True}, {"label": 1}, {"skip": False}, {"other": 1}),
        *({"left_out": each} for each in ([1], 0, [True], [0])),
    ],
)
def test_what_is_no_choice_is_refused_and_changes_nothing(tmp_path, images, choice):
    with begun(Table(tmp_path / "labels.csv"), suggestions(images)) as decisions:
        with pytest.raises(InputError):
            decisions.decide(images[0], choice)
        with refused(UnknownNameError, "'no class'"):
            decisions.decide(images[0], {"label": "no class"})
        with refused(UnknownNameError, "'no card'"):
            decisions.decide("no card", {})
        assert not decisions.choices
    assert not (tmp_path / "labels.csv").exists()


def test_classes_are_added_once_whatever_their_case(tmp_path, images):
    with begun(Table(tmp_path / "labels.csv"), suggestions(images)) as decisions:
        assert decisions.add_classes([" Fox ", "fox", "CAT", "red_fox"]) == [
            "Fox",
            "Fox",
            "cat",
            "red fox",
        ]
        for name in "", " _ ", "a\nb\0", "x" * 101:
            with pytest.raises(InputError):
                decisions.add_classes(["hen", name])
    with opened(Table(tmp_path / "labels.csv")) as again:
        assert again.classes == [*CLASSES, "Fox", "red fox"]


def test_a_class_is_called_as_its_folder_is_read(tmp_path):
    place = ClassFolders(tmp_path, "suggest")
    assert [place.class_called(name) for name in ("red_fox", "a/b: c", "unsure")] == ["red fox", "a b c", "unsure 2"]
    (tmp_path / "unsure").mkdir()
    assert place.class_called("unsure") == "unsure"
    assert Table(tmp_path / "labels.csv").class_called("a/b: c") == "a/b: c"


def test_an_image_that_has_gone_gets_no_label_and_can_be_skipped(tmp_path, images):
    for kind, place in PLACES.items():
        with begun(place(tmp_path), suggestions(images)) as decisions:
            Path(images[3]).rename(tmp_path / "elsewhere")
            with refused(DataError, images[3]):
                decisions.decide(images[3], {"label": "cat"})
            decisions.decide(images[3], {"skip": True})
            Path(tmp_path / "elsewhere").rename(images[3])
            assert not decisions.labels(), kind


def test_a_table_that_somebody_else_has_written_is_left_alone(tmp_path, images):
    table = tmp_path / "labels.csv"
    table.write_text("mine")
    with refused(OutputExistsError, table):
        begun(Table(table), suggestions(images))
    table.unlink()
    with begun(Table(table), suggestions(images)) as decisions:
        decisions.decide(images[0], {"label": "cat"})
    table.write_text(table.read_text() + '"new/2.png","cat"\n')
    with refused(OutputError, table, "changed"):
        opened(Table(table))
    table.unlink()
    with opened(Table(table)):
        assert table_of(table) == {"new/box 0/photo.png": "cat"} or len(table_of(table)) == 1


def test_no_file_is_written_over_in_a_class_that_has_one_of_the_name(tmp_path, images):
    root = tmp_path / "classes"
    (root / "oak_leaf").mkdir(parents=True)
    (root / "oak_leaf" / "photo.png").write_text("mine")
    with begun(ClassFolders(root, "suggest", "move"), suggestions(images)) as decisions:
        for image in images:
            decisions.decide(image, {"label": "oak leaf"})
    files = {path.name: path.read_text() for path in (root / "oak_leaf").iterdir()}
    assert files.pop("photo.png") == "mine"
    assert sorted(files) == ["2.png", "3.png", "photo_2.png", "photo_3.png"]


def test_a_copy_that_somebody_has_changed_is_not_taken_away(tmp_path, images):
    root = tmp_path / "classes"
    with begun(ClassFolders(root, "suggest", "copy"), suggestions(images)) as decisions:
        decisions.decide(images[2], {"label": "cat"})
        copy = decisions.place.where(images[2])
        copy.write_text("drawn upon")
        decisions.decide(images[2], {})
    assert copy.read_text() == "drawn upon"


def test_a_decision_that_cannot_be_carried_out_is_as_if_it_was_not_made(tmp_path, images, monkeypatch):
    with begun(Table(tmp_path / "labels.csv"), suggestions(images)) as decisions:
        decisions.decide(images[0], {"label": "cat"})
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            with refused(OutputError, "labels.csv", "No space left"):
                decisions.decide(images[1], {"label": "cat"})
        assert list(decisions.labels()) == [images[0]]
        decisions.decide(images[2], {"label": "cat"})
    with opened(Table(tmp_path / "labels.csv")) as again:
        assert list(again.labels()) == [images[0], images[2]]


def test_a_start_that_came_to_no_card_leaves_nothing_behind(tmp_path, images):
    for place in (Table(tmp_path / "labels.csv"), ClassFolders(tmp_path / "classes", "suggest")):
        with pytest.raises(DataError), Decisions(place, {"kind": "suggest"}) as decisions:
            decisions.add_classes(["cat"])
            raise DataError("an image cannot be read")
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_page_that_was_begun_with_something_else_is_refused(tmp_path, images):
    with begun(Table(tmp_path / "labels.csv"), suggestions(images)):
        pass
    with refused(OutputError, "kind"):
        Decisions(Table(tmp_path / "labels.csv"), {"kind": "doubt"})


@pytest.mark.parametrize("name", ["labels.txt", "labels"])
def test_a_table_has_a_suffix_that_fit_reads_and_lies_above_its_images(tmp_path, images, name):
    with refused(InputError, tmp_path / name, ".csv"):
        Table(tmp_path / name)
    with refused(InputError, tmp_path / "elsewhere", tmp_path):
        Table(tmp_path / "elsewhere" / "labels.csv", [Row(images[0], "cat", "train")])


def test_two_servers_do_not_write_to_one_place(tmp_path):
    with claimed(tmp_path / "labels.csv"), refused(OutputBusyError), claimed(tmp_path / "labels.csv"):
        pass
