import os
import shutil
import time
import unicodedata

import numpy as np
import pytest
from PIL import Image

from lowshot.data import draw_from
from lowshot.data.assembling import Reading
from lowshot.data.folder import read_folder
from lowshot.errors import DataError, ImageError
from refusing import refused


def read(root, **options):
    """The task and what was warned of."""
    warned = []
    return read_folder(root, Reading(warn=warned, **options)), warned


# -- names -------------------------------------------------------------------------------------------------------------


def test_unicode_and_emoji_are_names(make):
    task, _ = read(make("猫/一.png", "собака/1.png", "🐈‍⬛/😀.png", "polar_bear/1.png", "  two  words /1.png"))

    assert set(task.class_names) == {"猫", "собака", "🐈‍⬛", "polar bear", "two words"}
    assert "🐈‍⬛/😀.png" in task.train.identities
    assert {task.train.images[i].shape for i in range(5)} == {(2, 3, 3)}


def test_accents_are_the_same_class_however_they_are_stored(make):
    decomposed = unicodedata.normalize("NFD", "café")
    root = make("train/café/1.png", "train/thé/1.png", f"test/{decomposed}/1.png")

    task, _ = read(root)

    assert task.class_names == ("café", "thé")
    assert task.test.labels.tolist() == [0]


@pytest.mark.parametrize(
    ("first", "second"), [("polar_bear", "polar bear"), ("a__b", "a_b"), ("é", unicodedata.normalize("NFD", "é"))]
)
def test_two_folders_that_give_one_name_are_refused(make, first, second):
    root = make(f"{first}/1.png", f"{second}/1.png")
    if len(list(root.iterdir())) < 2:
        pytest.skip("this file system takes the two names for one")
    with refused(DataError, "two folders", "class name"):
        read(root)


def test_names_equal_but_for_case_are_refused(make):
    root = make("Cat/1.png", "cat/2.png", "dog/1.png")
    if len(list(root.iterdir())) < 3:
        pytest.skip("this file system takes the two names for one")
    with refused(DataError, "'Cat' and 'cat'"):
        read(root)


def test_a_name_of_nothing_but_underscores_is_refused(make):
    with refused(DataError, "data", "without a name", "''"):
        read(make("__/1.png", "dog/1.png"))


@pytest.mark.parametrize("place", [b"cat/\xff.png", b"\xff/1.png"])
def test_names_that_are_not_utf8_are_refused(two_classes, place):
    path = two_classes / os.fsdecode(place)
    try:
        path.parent.mkdir(exist_ok=True)
        shutil.copyfile(two_classes / "cat/1.png", path)
    except OSError:
        pytest.skip("this file system has no such names")
    with refused(DataError, r"\udcff", "UTF-8", "rename it") as caught:
        read(two_classes)
    str(caught.value).encode()


def test_the_name_of_a_task_is_that_of_its_folder_however_it_is_written(two_classes, monkeypatch):
    monkeypatch.chdir(two_classes)

    for path in (".", "../data", "cat/.."):
        assert read(type(two_classes)(path))[0].name == "data"


# -- what is left out --------------------------------------------------------------------------------------------------


def test_hidden_files_are_passed_over_without_a_word(two_classes):
    (two_classes / ".DS_Store").write_bytes(b"x")
    (two_classes / "cat" / ".DS_Store").write_bytes(b"x")
    (two_classes / "cat" / "._1.png").write_bytes(b"x")
    shutil.copytree(two_classes / "cat", two_classes / ".git")
    shutil.copytree(two_classes / "cat", two_classes / "dog" / ".thumbnails")
    shutil.copytree(two_classes / "cat", two_classes / "@eaDir")
    shutil.copytree(two_classes / "cat", two_classes / "dog" / "@eaDir" / "1.png")
    (two_classes / "__MACOSX").mkdir()

    task, warned = read(two_classes)

    assert (task.class_names, len(task.train), warned) == (("cat", "dog"), 4, [])


def test_files_that_are_no_images_are_counted(two_classes):
    for name in ("notes.txt", "labels.csv", "png", "1.png.part"):
        (two_classes / "cat" / name).write_text("x")
    (two_classes / "README.md").write_text("x")

    task, warned = read(two_classes)

    assert len(task.train) == 4
    assert warned == [
        f"{two_classes}: left out 1 file(s) in no class",
        f"{two_classes / 'cat'}: left out 4 file(s) without an image's suffix: 1 .part, 1 .csv, 1 .txt, 1 without any",
    ]


def test_links_are_not_followed_and_are_counted(two_classes, tmp_path):
    outside = tmp_path / "outside"
    shutil.copytree(two_classes / "cat", outside)
    (two_classes / "bird").symlink_to(outside)  # a class out of the root
    (two_classes / "cat" / "out").symlink_to(outside)
    (two_classes / "cat" / "out.png").symlink_to(outside / "1.png")
    (two_classes / "cat" / "gone.png").symlink_to(outside / "none.png")
    (two_classes / "dog" / "loop").symlink_to(two_classes)

    task, warned = read(two_classes)

    assert (task.class_names, len(task.train)) == (("cat", "dog"), 4)
    assert warned == [
        f"{two_classes}: left out 1 link(s), which are not followed",
        f"{two_classes / 'cat'}: left out 3 link(s), which are not followed",
        f"{two_classes / 'dog'}: left out 1 link(s), which are not followed",
    ]


def test_a_class_of_nothing_but_links_says_why_it_is_empty(two_classes):
    (two_classes / "bird").mkdir()
    (two_classes / "bird" / "1.png").symlink_to(two_classes / "cat" / "1.png")

    with refused(DataError, "'bird' in train", "left out", "1 link(s)"):
        read(two_classes)


def test_classes_that_are_links_say_why_there_are_none(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "data").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "cat")

    with refused(DataError, "no folders", "left out", "2 link(s)"):
        read(tmp_path / "data")


def test_a_class_of_other_files_alone_says_what_they_are(two_classes):
    (two_classes / "bird").mkdir()
    for name in ("1.psd", "2.psd", "notes.txt"):
        (two_classes / "bird" / name).touch()

    with refused(DataError, "'bird'", "left out", "3 file(s)", "2 .psd", "1 .txt"):
        read(two_classes)


def test_the_root_itself_may_be_a_link(two_classes, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(two_classes)

    assert len(read(link)[0].train) == 4


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.timeout(20)
def test_a_named_pipe_is_not_waited_for(two_classes):
    os.mkfifo(two_classes / "cat" / "pipe.png")

    task, warned = read(two_classes, on_bad_image="skip")

    assert len(task.train) == 4
    assert warned == [f"{two_classes / 'cat'}: left out 1 pipe(s), socket(s) or device(s)"]


def test_an_image_in_two_splits_is_said(make):
    root = make("train/cat/1.png", "train/dog/2.png", "test/cat/3.png", "test/dog/4.png")
    shutil.copyfile(root / "train/cat/1.png", root / "test/cat/copy.png")

    task, warned = read(root)

    assert len(task.test) == 3
    assert warned == [
        f"{root}: 1 image(s) are in two splits at once, such as {root / 'test/cat/copy.png'} and "
        f"{root / 'train/cat/1.png'}"
    ]


def test_an_image_in_two_classes_is_said(two_classes):
    shutil.copyfile(two_classes / "cat/1.png", two_classes / "dog/copy.png")
    shutil.copyfile(two_classes / "cat/2.png", two_classes / "dog/another.png")
    shutil.copyfile(two_classes / "cat/2.png", two_classes / "cat/twice.png")  # in one class alone: no harm

    _, warned = read(two_classes)

    assert len(warned) == 1
    assert warned[0].startswith(f"{two_classes}: 2 image(s) are in two classes at once, such as {two_classes}/cat/1")


def test_images_of_different_sizes_are_no_copies_even_if_they_end_alike(two_classes):
    pixels = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(two_classes / "cat" / "3.bmp")
    Image.fromarray(np.concatenate([pixels, pixels])).save(two_classes / "dog" / "3.bmp")  # stored bottom row first

    assert read(two_classes)[1] == []


# -- what cannot be used -----------------------------------------------------------------------------------------------


def test_a_root_that_is_no_folder_is_refused(tmp_path):
    with refused(DataError, tmp_path / "none", "does not exist"):
        read(tmp_path / "none")
    (tmp_path / "file.zip").write_bytes(b"x")
    with refused(DataError, "file.zip", "a file"):
        read(tmp_path / "file.zip")
    with pytest.raises(DataError, match="cannot be listed"):
        read(tmp_path / ("x" * 300))
    with pytest.raises(DataError, match="cannot be listed"):
        read(tmp_path / "nul\0byte")


def test_a_root_without_folders_is_refused(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "1.png")

    with refused(DataError, tmp_path, "no folders"):
        read(tmp_path)


def test_one_class_is_refused(make):
    with refused(DataError, "one class, 'cat'", 2):
        read(make("cat/1.png", "cat/2.png"))


@pytest.mark.parametrize("place", ["bird", "train/bird"])
def test_an_empty_class_is_refused(make, place):
    prefix = "train/" if place.startswith("train") else ""
    root = make(f"{prefix}cat/1.png", f"{prefix}dog/1.png")
    (root / place).mkdir()

    with refused(DataError, "'bird' in train", "no images"):
        read(root)


def test_a_class_in_test_that_is_not_in_train_is_refused(make):
    with refused(DataError, "'bird'", "in test"):
        read(make("train/cat/1.png", "train/dog/1.png", "test/cat/2.png", "test/bird/1.png"))


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_refused(two_classes):
    (two_classes / "cat" / "private").mkdir(mode=0)

    with refused(DataError, "private", "listed", "Permission denied"):
        read(two_classes)


def test_a_folder_that_cannot_be_listed_is_not_taken_for_an_empty_one(two_classes, monkeypatch):
    (two_classes / "cat" / "private").mkdir()
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("private"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with refused(DataError, "private", "listed", "Permission denied"):
        read(two_classes)


def test_a_bad_image_stops_whoever_asks_for_it(two_classes):
    (two_classes / "cat" / "bad.png").write_text("not an image")

    task, warned = read(two_classes)

    assert (len(task.train), warned) == (5, [])
    with refused(ImageError, "bad.png", "AVIF"):
        task.train.images[task.train.identities.index("cat/bad.png")]


def test_bad_images_are_skipped_on_request_each_with_a_warning(two_classes):
    (two_classes / "cat" / "bad.png").write_text("not an image")
    (two_classes / "dog" / "empty.jpg").touch()

    task, warned = read(two_classes, on_bad_image="skip")

    assert task.train.identities == ("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png")
    assert len(warned) == 2
    assert warned[0].startswith(f"left out: {two_classes / 'cat' / 'bad.png'} is not an image")
    assert warned[1].startswith(f"left out: {two_classes / 'dog' / 'empty.jpg'} is not an image")


def test_a_class_of_bad_images_alone_is_refused(two_classes):
    for name in ("1.png", "2.png"):
        (two_classes / "dog" / name).write_text("not an image")

    with refused(DataError, "class 'dog'", "can be decoded"):
        read(two_classes, on_bad_image="skip")


def test_a_file_removed_meanwhile_is_named(two_classes):
    task, _ = read(two_classes)
    (two_classes / "cat" / "1.png").unlink()

    with refused(ImageError, "cat/1.png", "does not exist"):
        task.train.images[0]


# -- what changes nothing ----------------------------------------------------------------------------------------------


def drawn(root):
    task, _ = read(root)
    return [task.train.identities[i] for i in draw_from(task, 2, seed=5).indices]


def test_the_order_of_entries_on_disk_changes_nothing(make, monkeypatch):
    root = make(*(f"{name}/{i}.png" for name in ("cat", "dog", "emu") for i in range(8)))
    before, scandir = (read(root)[0].train.identities, drawn(root)), os.scandir

    monkeypatch.setattr(os, "scandir", lambda path: reversed(list(scandir(path))))

    assert (read(root)[0].train.identities, drawn(root)) == before


def test_moving_the_folder_or_adding_a_test_split_changes_no_draw(make, tmp_path):
    root = make(*(f"{name}/{i}.png" for name in ("cat", "dog") for i in range(8)))
    before = drawn(root)

    moved = root.rename(tmp_path / "moved")
    assert drawn(moved) == before

    shutil.copytree(moved, tmp_path / "split" / "train")
    shutil.copytree(moved / "cat", tmp_path / "split" / "test" / "cat")
    assert drawn(tmp_path / "split") == before


def test_two_hundred_classes_are_read_quickly(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "one.png")
    content = (tmp_path / "one.png").read_bytes()
    for number in range(200):
        folder = tmp_path / "data" / f"class_{number}"
        folder.mkdir(parents=True)
        for i in range(4):
            (folder / f"{i}.png").write_bytes(content)

    started = time.perf_counter()
    task, _ = read(tmp_path / "data")

    assert time.perf_counter() - started < 5
    assert (len(task.class_names), len(task.train)) == (200, 800)
