"""Installing data sets from archives that a person has got."""

import dataclasses
import json
import shutil
import tarfile
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.io

from data import layouts
from data.preparing import files_below, install, row_with
from lowshot.data import check_images
from lowshot.data.catalogue import CATALOGUE
from lowshot.errors import DataError, OutputError, RunError, UnknownNameError
from refusing import refused

pytestmark = pytest.mark.usefixtures("no_waiting")


@pytest.fixture
def hand_over(offer, tmp_path_factory, monkeypatch):
    """Puts the files of a data set into a folder; nothing can be fetched."""

    def hand_over(name):
        archives = tmp_path_factory.mktemp("archives")
        for file, behaviour in offer(name).items():
            (archives / file).write_bytes(behaviour.content)
        row_with(name, monkeypatch, lambda file: dataclasses.replace(file, urls=()))
        return archives

    return hand_over


@pytest.mark.parametrize("name", [name for name in CATALOGUE if name != "imagenet"])
def test_archives_that_are_there_are_used_and_left_alone(hand_over, name, tmp_path):
    archives = hand_over(name)
    before = files_below(archives)

    task, _, _ = install(name, tmp_path, archives)

    assert list(task.class_names) == layouts.CLASS_NAMES[name]
    assert files_below(archives) == before


def test_another_form_of_the_same_archive_will_do(hand_over, tmp_path):
    archives = hand_over("caltech101")
    (archives / "caltech-101.zip").unlink()
    assert (archives / "101_ObjectCategories.tar.gz").exists()

    assert len(install("caltech101", tmp_path, archives)[0].test) == 9


def test_what_nobody_has_is_said_at_once_and_altogether(offer, tmp_path):
    served = offer("stanford_cars")

    with refused(DataError, "cars_train.tgz, cars_test.tgz", "--from"):
        install("stanford_cars", tmp_path / "root")
    assert all(behaviour.requests == [] for behaviour in served.values())


def test_a_damaged_archive_of_the_users_is_named_and_kept(hand_over, tmp_path):
    archives = hand_over("dtd")
    (archives / "dtd-r1.0.1.tar.gz").write_bytes(b"?")

    with refused(DataError, "dtd-r1.0.1.tar.gz", "damaged", "1 bytes"):
        install("dtd", tmp_path, archives)
    assert (archives / "dtd-r1.0.1.tar.gz").exists()


def test_an_archive_of_something_else_is_refused(hand_over, tmp_path, monkeypatch):
    archives = hand_over("ucf101")
    layouts.picture(tmp_path / "x" / "1.jpg")
    (archives / "UCF-101-midframes.zip").write_bytes(layouts.zip_of(("videos", tmp_path / "x")))
    row_with("ucf101", monkeypatch, lambda file: dataclasses.replace(file, sha256=None, size=None))

    with refused(DataError, "UCF-101-midframes.zip", "UCF-101-midframes", "does not hold"):
        install("ucf101", tmp_path / "root", archives)
    assert list((tmp_path / "root").iterdir()) == []


def test_images_that_the_archive_lacks_are_found_at_the_end(hand_over, tmp_path):
    archives = hand_over("dtd")
    split = json.loads((archives / CATALOGUE["dtd"].split_file).read_text())
    split["val"][0][0] = "banded/banded_9999.jpg"
    (archives / CATALOGUE["dtd"].split_file).write_text(json.dumps(split))

    with refused(RunError, "dtd", "1 of 6", "validation", "banded_9999.jpg"):
        install("dtd", tmp_path, archives)


def test_a_folder_of_archives_that_is_none_is_refused(tmp_path):
    with refused(DataError, "--from", tmp_path / "none"):
        install("dtd", tmp_path, tmp_path / "none")
    (tmp_path / ".downloads").mkdir()
    with refused(DataError, "--from", ".downloads", "elsewhere"):
        install("dtd", tmp_path, tmp_path / ".downloads")


def test_a_disk_that_is_too_small_is_said_before_anything_is_fetched(offer, tmp_path, monkeypatch):
    served = offer("dtd")
    row_with("dtd", monkeypatch, lambda file: dataclasses.replace(file, size=1 << 60))

    with refused(OutputError, tmp_path, "2305843009.2 GB"):
        install("dtd", tmp_path)
    assert served["dtd-r1.0.1.tar.gz"].requests == []


def test_the_disk_need_not_hold_what_has_arrived_once_more(offer, tmp_path, monkeypatch):
    served = offer("dtd", drop_after=[1000, 0, 0, 0, 0])
    with pytest.raises(RunError, match="5 times in a row"):
        install("dtd", tmp_path)
    missing = 2 * len(served["dtd-r1.0.1.tar.gz"].content) - 1000

    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=missing - 1))
    with pytest.raises(OutputError, match="GB free; expected"):
        install("dtd", tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=missing))
    assert len(install("dtd", tmp_path)[0].test) == 9


def test_archives_at_hand_need_room_for_their_content_alone(hand_over, tmp_path, monkeypatch):
    archives = hand_over("caltech101")  # a zip file with a tar file in it, which is unpacked too
    needed = 2 * (archives / "caltech-101.zip").stat().st_size

    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=needed - 1))
    with refused(OutputError, "GB free", "caltech-101.zip"):
        install("caltech101", tmp_path, archives)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=needed))
    assert len(install("caltech101", tmp_path, archives)[0].test) == 9


@pytest.mark.parametrize(
    "content",
    [
        b"",
        bytes(2000),
        np.random.default_rng(0).bytes(2000),
        b"PK\x03\x04" + bytes(2000),
        b"\x1f\x8b\x08" + np.random.default_rng(1).bytes(2000),
        b"<html>",
        b"\xff" * 300,
    ],
    ids=["empty", "zeros", "random", "zip", "gzip", "page", "ones"],
)
@pytest.mark.parametrize("name", ["ucf101", "fgvc", "dtd"])
def test_garbage_is_refused_with_its_name_and_leaves_nothing(hand_over, tmp_path, monkeypatch, name, content):
    archives = hand_over(name)
    row_with(name, monkeypatch, lambda file: dataclasses.replace(file, sha256=None, size=None))
    for path in archives.iterdir():
        path.write_bytes(content)

    with refused(DataError, archives):
        install(name, tmp_path / "root", archives)
    assert list((tmp_path / "root").iterdir()) == []


def test_unknown_names_and_roots_that_cannot_be_made_are_refused(tmp_path):
    with refused(UnknownNameError, "data set", "'dtdd'", "did you mean dtd"):
        install("dtdd", tmp_path)
    (tmp_path / "file").touch()
    with refused(OutputError, tmp_path / "file" / "root"):
        install("dtd", tmp_path / "file" / "root")


# -- ImageNet ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def imagenet(tmp_path_factory, monkeypatch):
    """ImageNet's archives in miniature: tar files in a tar file, a heap of validation images, the development kit."""
    installed = tmp_path_factory.mktemp("published")
    layouts.install("imagenet", installed, monkeypatch)
    images, archives = installed / "imagenet" / "images", tmp_path_factory.mktemp("archives")
    unpacked = tmp_path_factory.mktemp("made")
    for folder in sorted((images / "train").iterdir()):
        content = layouts.tar_of(*((p.name, p) for p in sorted(folder.iterdir())), compress=False)
        (unpacked / f"{folder.name}.tar").write_bytes(content)
    (archives / "ILSVRC2012_img_train.tar").write_bytes(
        layouts.tar_of(*((p.name, p) for p in sorted(unpacked.iterdir())), compress=False)
    )
    synsets = list(layouts.SYNSETS)
    labels = [2, 1, 3, 3, 1, 2, 1, 2, 3]
    for number, label in enumerate(labels, 1):
        image = sorted((images / "val" / synsets[label - 1]).glob("ILSVRC2012_val_n*"))[0]
        image.rename(images / "val" / f"ILSVRC2012_val_{number:08}.JPEG")
    heap = sorted((images / "val").glob("*.JPEG"))
    (archives / "ILSVRC2012_img_val.tar").write_bytes(layouts.tar_of(*((p.name, p) for p in heap), compress=False))
    fields = [
        ("ILSVRC2012_ID", object),
        ("WNID", object),
        ("words", object),
        ("gloss", object),
        ("num_children", object),
    ]
    rows = [(i, synset, "", "", 0) for i, synset in enumerate(synsets, 1)] + [(4, "n00000001", "", "", 3)]
    meta = np.array([[row] for row in rows], dtype=fields)
    kit = installed / "kit"
    kit.mkdir()
    scipy.io.savemat(kit / "meta.mat", {"synsets": meta})
    layouts.write_text(kit / "ILSVRC2012_validation_ground_truth.txt", *labels)
    parts = [(f"ILSVRC2012_devkit_t12/data/{p.name}", p) for p in kit.iterdir()]
    (archives / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(layouts.tar_of(*parts))
    (archives / "classnames.txt").write_bytes((installed / "imagenet" / "classnames.txt").read_bytes())
    row_with("imagenet", monkeypatch, lambda file: dataclasses.replace(file, md5=None, sha256=None, size=None, urls=()))
    return archives, labels


def test_imagenet_is_unpacked_from_its_archives_and_its_validation_images_are_sorted(imagenet, tmp_path):
    archives, labels = imagenet

    task, _, warned = install("imagenet", tmp_path, archives)

    assert warned == []
    assert task.class_names == ("tench", "missile", "projectile")
    assert np.bincount(task.train.labels).tolist() == [4, 4, 4]
    for identity, label in zip(task.test.identities, task.test.labels, strict=True):
        number = int(identity[-13:-5])
        assert labels[number - 1] == label + 1
    assert check_images(task).corrupt == ()
    assert {p.name for p in (tmp_path / "imagenet").iterdir()} == {"images", "classnames.txt", "devkit"}


def test_of_imagenet_everything_that_is_missing_is_named_with_its_terms(tmp_path):
    files = ("img_train.tar", "devkit_t12.tar.gz", "img_val.tar")
    with refused(DataError, "terms of access", *(f"ILSVRC2012_{file}" for file in files)):
        install("imagenet", tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "facts"),
    [
        ("ILSVRC2012_validation_ground_truth.txt", b"1\n7\n", ("line 2", 7, "meta.mat")),
        ("ILSVRC2012_validation_ground_truth.txt", b"one\n", ("ILSVRC2012_validation_ground_truth.txt", "'one'")),
        ("ILSVRC2012_validation_ground_truth.txt", b"", ("ILSVRC2012_validation_ground_truth.txt", "not a line")),
        ("ILSVRC2012_validation_ground_truth.txt", b"1\n" * 10, ("lack", "ILSVRC2012_val_00000010.JPEG")),
        ("meta.mat", b"", ("meta.mat", "cannot be read")),
        ("meta.mat", b"?" * 1000, ("meta.mat", "cannot be read")),
    ],
)
def test_a_damaged_development_kit_is_refused(imagenet, tmp_path, file, content, facts):
    archives, _ = imagenet
    kit = tmp_path / "kit"
    with tarfile.open(archives / "ILSVRC2012_devkit_t12.tar.gz") as tar:
        for member in tar:
            (kit / member.name).parent.mkdir(parents=True, exist_ok=True)
            (kit / member.name).write_bytes(tar.extractfile(member).read())
    (kit / "ILSVRC2012_devkit_t12" / "data" / file).write_bytes(content)
    (archives / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(
        layouts.tar_of(("ILSVRC2012_devkit_t12", kit / "ILSVRC2012_devkit_t12"))
    )

    with refused(DataError, *facts):
        install("imagenet", tmp_path / "root", archives)
    assert not (tmp_path / "root" / "imagenet" / "images" / "val").exists()


@pytest.mark.parametrize("sorted_already", [0, 4], ids=["none", "some"])
def test_validation_images_that_lie_in_a_heap_are_sorted_where_they_are(imagenet, tmp_path, sorted_already):
    archives, _ = imagenet
    expected = install("imagenet", tmp_path, archives)[0].test.identities
    val = tmp_path / "imagenet" / "images" / "val"
    for image in sorted(val.rglob("*.JPEG"))[sorted_already:]:
        image.rename(val / image.name)
    for folder in val.iterdir():
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    shutil.rmtree(tmp_path / "imagenet" / "devkit")
    (archives / "ILSVRC2012_img_train.tar").unlink()
    (archives / "ILSVRC2012_img_val.tar").unlink()

    with refused(DataError, "Get ILSVRC2012_devkit_t12.tar.gz from"):
        install("imagenet", tmp_path)
    assert install("imagenet", tmp_path, archives)[0].test.identities == expected


def test_a_folder_that_lacks_an_archive_is_named(imagenet, tmp_path):
    archives, _ = imagenet
    (archives / "ILSVRC2012_img_train.tar").unlink()

    with refused(DataError, archives, "Get ILSVRC2012_img_train.tar from"):
        install("imagenet", tmp_path, archives)
