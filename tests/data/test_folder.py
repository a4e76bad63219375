import os
import shutil
import time
import unicodedata

import numpy as np
import pytest
from PIL import Image

from lowshot.data import draw_from, load_task
from lowshot.data.assembling import Reading
from lowshot.data.folder import read_folder
from lowshot.errors import DataError, ImageError
from refusing import refused


@pytest.fixture
def make(tmp_path):
    """Writes small pictures, each of its own colour, under ``data`` and returns that folder."""
    root = tmp_path / "data"

    def make(*names):
        root.mkdir(exist_ok=True)
        for number, name in enumerate(names):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (3, 2), (number, 0, 255)).save(path)
        return root

    return make


@pytest.fixture
def two_classes(make):
    return make("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png")


def read(root, **options):
    """The task and what was warned of."""
    warned = []
    return read_folder(root, Reading(warn=warned, **options)), warned


# -- layouts -----------------------------------------------------------------------------------------------------------


def test_folders_are_classes_and_files_are_their_images(two_classes):
    task, warned = read(two_classes)

    assert (task.name, task.class_names, warned) == ("data", ("cat", "dog"), [])
    assert task.train.identities == ("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png")
    assert task.train.labels.tolist() == [0, 0, 1, 1]
    assert (task.validation, task.test) == (None, None)
    assert [task.train.images[i][0, 0].tolist() for i in range(4)] == [[i, 0, 255] for i in range(4)]


def test_split_folders_are_splits(make):
    root = make("train/cat/1.png", "train/dog/2.png", "val/dog/3.png", "test/cat/4.png", "test/dog/5.png")

    task, warned = read(root)

    assert warned == []
    assert (task.train.identities, task.train.labels.tolist()) == (("cat/1.png", "dog/2.png"), [0, 1])
    assert (task.validation.identities, task.validation.labels.tolist()) == (("dog/3.png",), [1])
    assert (task.test.identities, task.test.labels.tolist()) == (("cat/4.png", "dog/5.png"), [0, 1])


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Val", "VALIDATION"])
def test_validation_has_several_names(make, name):
    task, _ = read(make("Train/cat/1.png", "Train/dog/2.png", f"{name}/cat/3.png"))

    assert len(task.validation) == 1


def test_a_class_may_be_called_train(make):
    task, warned = read(make("bus/1.png", "train/2.png", "test/3.png"))

    assert (task.class_names, len(task.train), warned) == (("bus", "test", "train"), 3, [])


def test_a_test_split_without_train_is_refused(make):
    with refused(DataError, "data", "a test split", "--train DIR"):
        read(make("test/cat/1.png", "test/dog/1.png"))


def test_a_folder_around_a_data_set_is_told_from_it(make):
    """As where an archive was unpacked into a folder of its own."""
    root = make("pets/train/cat/1.png", "pets/train/dog/2.png", "pets/test/cat/3.png")
    with refused(DataError, "one folder, pets", "test, train", f"expected {root}/pets"):
        read(root)


def test_two_folders_for_one_split_are_refused(make):
    with refused(DataError, "val and valid", "--validation DIR"):
        read(make("train/cat/1.png", "train/dog/1.png", "val/cat/2.png", "valid/cat/3.png"))


def test_folders_beside_the_splits_are_said_to_be_left_out(make):
    root = make("train/cat/1.png", "train/dog/1.png", "unlabelled/a/1.png", "extra/1.png")

    task, warned = read(root)

    assert len(task.train) == 2
    assert warned == [f"{root}: left out 2 folder(s) that are no split: extra, unlabelled"]


SPLIT_NAMES = [
    ("Training", "Testing"),
    ("train_images", "test_images"),
    ("TrainImages", "TestImages"),
    ("asl_train", "asl_test"),
    ("training_set", "test_set"),
    ("train2017", "eval2017"),
    ("train", "evaluation"),
]


@pytest.mark.parametrize(("train", "test"), SPLIT_NAMES)
def test_splits_are_known_by_other_words_and_by_parts_of_names(make, train, test):
    """They became two classes."""
    task, warned = read(make(f"{train}/cat/1.png", f"{train}/dog/2.png", f"{test}/cat/3.png"))

    assert (task.class_names, len(task.train), len(task.test)) == (("cat", "dog"), 2, 1)
    assert all(f"{train} as train" in line for line in warned)


def test_an_archives_own_folder_of_the_same_name_is_gone_into(make):
    root = make("seg_train/seg_train/a/1.png", "seg_train/seg_train/b/2.png", "seg_test/seg_test/a/3.png")
    make("seg_pred/seg_pred/4.png")

    task, warned = read(root)

    assert (task.train.identities, task.test.identities) == (("a/1.png", "b/2.png"), ("a/3.png",))
    assert warned[:2] == [
        f"{root}: left out 1 folder(s) that are no split: seg_pred",
        f"{root}: read seg_test/seg_test as test, seg_train/seg_train as train",
    ]


def test_a_folder_called_by_the_word_alone_goes_before_one_that_only_has_it_in_its_name(make):
    root = make("train/cat/1.png", "train/dog/2.png", "train_masks/cat/1.png", "test/dog/3.png", "eval/dog/4.png")

    task, warned = read(root)

    assert (len(task.train), task.test.identities) == (2, ("dog/3.png",))
    assert warned == [f"{root}: left out 2 folder(s) that are no split: eval, train_masks"]


@pytest.mark.parametrize(
    "names", [("freight_train", "bus"), ("freight_train", "passenger_train"), ("test_tube", "cup")]
)
def test_a_class_may_have_a_splits_word_in_its_name(make, names):
    task, _ = read(make(*(f"{name}/{number}.png" for number, name in enumerate(names)), f"{names[0]}/front/9.png"))

    assert task.class_names == tuple(sorted(name.replace("_", " ") for name in names))


@pytest.mark.parametrize(
    "files",
    [
        ("train/1.png", "test/2.png"),
        ("train/1.png",),
        ("train_images/1.png", "test_images/2.png"),
        ("images/1.png", "masks/1.png"),
        ("images/1.png", "labels/1.png", "train/2.png"),
        ("fold1/cat/1.png", "fold1/dog/2.png", "fold2/cat/3.png", "fold2/dog/4.png"),
        ("Split_1/1.png", "Split_2/2.png"),
        ("images/cat/1.png", "images/dog/1.png"),
    ],
)
def test_folders_called_as_parts_of_a_data_set_are_no_classes(make, files):
    with refused(DataError, "parts", "not as classes", "--train DIR", "--test DIR"):
        read(make(*files))


@pytest.mark.parametrize(
    "files",
    [
        ("animals/cat/1.png", "animals/dog/2.png", "plants/rose/3.png", "plants/fern/4.png"),
        ("train/animals/cat/1.png", "train/plants/rose/3.png", "train/plants/fern/4.png"),
        ("photos/cat/1.png", "photos/dog/1.png"),
    ],
)
def test_classes_without_images_but_in_folders_within_them_are_asked_about(make, files):
    with refused(DataError, "no images", "folders within", "--train DIR"):
        read(make(*files))


def test_what_is_meant_can_be_said(make):
    root = make("a/cat/1.png", "a/dog/2.png", "b/cat/3.png", "b/dog/4.png")

    outer, inner = load_task({"train": str(root)}), load_task({"train": root / "a", "test": root / "b"})

    assert (outer.name, outer.class_names, outer.train.identities[0]) == ("data", ("a", "b"), "a/cat/1.png")
    assert (inner.name, inner.class_names) == ("data", ("cat", "dog"))
    assert (inner.train.identities, inner.test.identities) == (("cat/1.png", "dog/2.png"), ("cat/3.png", "dog/4.png"))


@pytest.mark.parametrize("splits", [("test",), ("train", "tset"), ()])
def test_a_split_of_another_name_is_refused(two_classes, splits):
    with refused(DataError, "'train'", "'validation' and 'test'"):
        load_task(dict.fromkeys(splits, two_classes))


def test_images_may_lie_in_folders_within_their_class_and_that_is_said(make):
    root = make("cat/black/1.png", "cat/white/deep/2.png", "cat/3.png", "dog/1.png")
    task, warned = read(root)

    assert task.train.identities == ("cat/3.png", "cat/black/1.png", "cat/white/deep/2.png", "dog/1.png")
    assert len(warned) == 1
    assert "2 image(s) of 1 of its 2 classes lie in folders within the class, such as cat/black/1.png" in warned[0]
    assert "the classes are cat, dog. --train DIR" in warned[0]


def test_one_folder_of_the_same_name_within_every_class_is_no_question(make):
    task, warned = read(make("n01/images/1.png", "n02/images/2.png"))

    assert (task.class_names, warned) == (("n01", "n02"), [])


def test_files_of_one_name_in_two_classes_have_two_identities(two_classes):
    task, _ = read(two_classes)

    assert len(set(task.train.identities)) == 4


def test_every_suffix_counts_in_any_case(make):
    task, warned = read(make("cat/1.PNG", "cat/2.JpEg", "cat/3.tif", "cat/4.webp", "dog/1.gif", "dog/2.bmp"))

    assert (len(task.train), warned) == (6, [])


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
