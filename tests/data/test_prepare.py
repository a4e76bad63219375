"""Installing data sets from archives and from a server on this machine, in miniature but in their published form."""

import dataclasses
import hashlib
import json
import tarfile

import numpy as np
import pytest
import scipy.io

from data import layouts
from data.server import serving
from lowshot.data import CATALOGUE, check_images, load_task
from lowshot.data.catalogue import download, preparing
from lowshot.data.catalogue.preparing import prepare
from lowshot.errors import DataError, OutputError, RunError, UnknownNameError

FETCHED = [name for name, row in CATALOGUE.items() if all(any(f.urls for f in need) for need in row.needs)]


def row_with(name, monkeypatch, change):
    """The catalogue's row with every file changed."""
    row = CATALOGUE[name]
    needs = tuple(tuple(change(file) for file in need) for need in row.needs)
    monkeypatch.setitem(CATALOGUE, name, dataclasses.replace(row, needs=needs))


@pytest.fixture
def server():
    with serving() as add:
        yield add


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(download.time, "sleep", lambda _: None)


@pytest.fixture
def offer(server, tmp_path_factory, monkeypatch):
    """Puts a data set in miniature on a server, with its checksums, and returns what is served by file."""

    def offer(name, **behaviour):
        installed = tmp_path_factory.mktemp("published")
        layouts.install(name, installed, monkeypatch)
        served = {}

        def change(file):
            content = layouts.published(file, installed)
            url, served[file.file] = server(f"/{file.file}", content, **behaviour)
            digest = hashlib.sha256(content).hexdigest() if file.kind != "file" else None
            size = len(content) if file.size else None
            return dataclasses.replace(file, urls=(url,) if file.urls else (), sha256=digest, md5=None, size=size)

        row_with(name, monkeypatch, change)
        return served

    return offer


def install(name, root, archives=None):
    """The task, and what was said and warned of."""
    said, warned = [], []
    return prepare(name, root, archives, say=said.append, warn=warned), said, warned


def files_below(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_all_but_two_can_be_fetched():
    assert set(CATALOGUE) - set(FETCHED) == {"imagenet", "stanford_cars"}


@pytest.mark.parametrize("name", FETCHED)
def test_a_data_set_is_fetched_checked_and_unpacked_into_its_published_place(offer, name, tmp_path):
    offer(name)
    root = tmp_path / "new" / "root"

    task, said, warned = install(name, root)

    row = CATALOGUE[name]
    assert warned == []
    assert list(task.class_names) == layouts.CLASS_NAMES[name]
    assert load_task(name, root=root).test.identities == task.test.identities
    assert check_images(task).missing == ()
    assert said[0] == f"{row.title}, {row.homepage}; licence: {row.licence}"
    assert [line.partition(": ")[2] for line in said if line.startswith("in place")]
    assert {p.name for p in root.iterdir()} == {row.folders[0].split("/")[0]}  # nothing is left beside it


def test_what_is_in_its_place_is_not_fetched_again(offer, tmp_path):
    served = offer("dtd")
    install("dtd", tmp_path)
    before = files_below(tmp_path)

    _, said, _ = install("dtd", tmp_path)

    assert all(len(behaviour.requests) == 1 for behaviour in served.values())
    assert files_below(tmp_path) == before
    assert len(said) == 3


def test_a_part_that_is_lost_is_fetched_alone(offer, tmp_path):
    served = offer("fgvc")
    install("fgvc", tmp_path)
    before = files_below(tmp_path)
    (tmp_path / "fgvc_aircraft" / "variants.txt").unlink()
    image = next((tmp_path / "fgvc_aircraft" / "images").iterdir())
    image.write_bytes(b"what a person changed")

    install("fgvc", tmp_path)

    assert len(served["fgvc-aircraft-2013b.tar.gz"].requests) == 2
    assert files_below(tmp_path) == {**before, f"fgvc_aircraft/images/{image.name}": b"what a person changed"}


def test_an_interrupted_download_is_continued_by_the_next_run(offer, tmp_path):
    served = offer("dtd", drop_after=[1000, 0, 0, 0, 0])
    with pytest.raises(RunError, match=r"5 times in a row; what has arrived is kept.*--from FOLDER"):
        install("dtd", tmp_path)

    task, _, _ = install("dtd", tmp_path)

    assert len(task.test) == 9
    assert served["dtd-r1.0.1.tar.gz"].requests[-1][0] == 1000


def test_a_run_that_was_killed_while_unpacking_is_simply_run_again(offer, tmp_path, monkeypatch):
    served = offer("dtd")

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(preparing, "unpack", killed)
        with pytest.raises(KeyboardInterrupt):
            install("dtd", tmp_path)
    (tmp_path / "dtd" / ".dtd.unpacking" / "content").mkdir(parents=True)  # as kill -9 leaves it
    (tmp_path / "dtd" / ".dtd.unpacking" / "content" / "half.jpg").touch()

    install("dtd", tmp_path)

    assert len(served["dtd-r1.0.1.tar.gz"].requests) == 1  # what was fetched and checked was kept
    assert {p.name for p in tmp_path.iterdir()} == {"dtd"}
    assert {p.name for p in (tmp_path / "dtd").iterdir()} == {"images", CATALOGUE["dtd"].split_file}


def test_a_data_set_may_be_linked_to_another_place(offer, tmp_path):
    offer("dtd")
    (tmp_path / "large disk").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "dtd").symlink_to(tmp_path / "large disk")

    install("dtd", tmp_path / "root")

    assert {p.name for p in (tmp_path / "large disk").iterdir()} == {"images", CATALOGUE["dtd"].split_file}


def test_wrong_bytes_are_refused_and_nothing_appears(offer, tmp_path):
    served = offer("dtd")
    served["dtd-r1.0.1.tar.gz"].content = served["dtd-r1.0.1.tar.gz"].content[:-1] + b"!"

    with pytest.raises(RunError, match=r"its sha256 is .*; expected .*, as published"):
        install("dtd", tmp_path)
    assert not (tmp_path / "dtd").exists()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("dtd", b"<html>Sign in</html>", "is not split_zhou_DescribableTextures.json: .* is damaged"),
        ("imagenet_r", b"<html>Sign in</html>", r"is not classnames.txt: it begins with b'<html>"),
    ],
)
def test_a_small_file_that_is_something_else_is_refused_and_fetched_anew(offer, tmp_path, name, content, said):
    served = offer(name)
    small = served[next(file for file in served if file.endswith((".json", ".txt")))]
    right, small.content = small.content, content
    with pytest.raises(DataError, match=said):
        install(name, tmp_path)

    small.content = right
    assert len(install(name, tmp_path)[0].test)


# -- archives at hand --------------------------------------------------------------------------------------------------


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

    with pytest.raises(
        DataError, match=r"cannot be fetched from here .*Get cars_train.tgz, cars_test.tgz from .*--from"
    ):
        install("stanford_cars", tmp_path / "root")
    assert all(behaviour.requests == [] for behaviour in served.values())


def test_a_damaged_archive_of_the_users_is_named_and_kept(hand_over, tmp_path):
    archives = hand_over("dtd")
    (archives / "dtd-r1.0.1.tar.gz").write_bytes(b"?")

    with pytest.raises(DataError, match=r"dtd-r1.0.1.tar.gz is damaged, or another file of that name: it has 1 bytes"):
        install("dtd", tmp_path, archives)
    assert (archives / "dtd-r1.0.1.tar.gz").exists()


def test_an_archive_of_something_else_is_refused(hand_over, tmp_path, monkeypatch):
    archives = hand_over("ucf101")
    layouts.picture(tmp_path / "x" / "1.jpg")
    (archives / "UCF-101-midframes.zip").write_bytes(layouts.zip_of(("videos", tmp_path / "x")))
    row_with("ucf101", monkeypatch, lambda file: dataclasses.replace(file, sha256=None, size=None))

    with pytest.raises(DataError, match=r"UCF-101-midframes.zip does not hold UCF-101-midframes; expected the one"):
        install("ucf101", tmp_path / "root", archives)
    assert list((tmp_path / "root").iterdir()) == []


def test_images_that_the_archive_lacks_are_found_at_the_end(hand_over, tmp_path):
    archives = hand_over("dtd")
    split = json.loads((archives / CATALOGUE["dtd"].split_file).read_text())
    split["val"][0][0] = "banded/banded_9999.jpg"
    (archives / CATALOGUE["dtd"].split_file).write_text(json.dumps(split))

    with pytest.raises(RunError, match=r"dtd: 1 of 6 images in validation are not there, such as .*banded_9999.jpg"):
        install("dtd", tmp_path, archives)


def test_a_folder_of_archives_that_is_none_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"--from .*none is no folder"):
        install("dtd", tmp_path, tmp_path / "none")


def test_a_disk_that_is_too_small_is_said_before_anything_is_fetched(offer, tmp_path, monkeypatch):
    served = offer("dtd")
    row_with("dtd", monkeypatch, lambda file: dataclasses.replace(file, size=1 << 60))

    with pytest.raises(OutputError, match=r"GB free; expected 2305843009\.2 GB, to fetch and unpack"):
        install("dtd", tmp_path)
    assert served["dtd-r1.0.1.tar.gz"].requests == []


def test_unknown_names_and_roots_that_cannot_be_made_are_refused(tmp_path):
    with pytest.raises(UnknownNameError, match="unknown data set 'dtdd'; did you mean dtd"):
        install("dtdd", tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"root .*file.* cannot be made"):
        install("dtd", tmp_path / "file" / "root")


# -- ImageNet ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def imagenet(tmp_path_factory, monkeypatch):
    """ImageNet's archives in miniature: tar files in a tar file, a heap of validation images, the development kit."""
    installed = tmp_path_factory.mktemp("published")
    layouts.install("imagenet", installed, monkeypatch)
    images, archives = installed / "imagenet" / "images", tmp_path_factory.mktemp("archives")
    made = tmp_path_factory.mktemp("made")
    for folder in sorted((images / "train").iterdir()):
        content = layouts.tar_of(*((p.name, p) for p in sorted(folder.iterdir())), compress=False)
        (made / f"{folder.name}.tar").write_bytes(content)
    (archives / "ILSVRC2012_img_train.tar").write_bytes(
        layouts.tar_of(*((p.name, p) for p in sorted(made.iterdir())), compress=False)
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
    row_with("imagenet", monkeypatch, lambda file: dataclasses.replace(file, md5=None, urls=()))
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
    with pytest.raises(
        DataError, match=r"terms of access.* ILSVRC2012_img_train.tar, ILSVRC2012_devkit_t12.tar.gz, ILS"
    ):
        install("imagenet", tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("ILSVRC2012_validation_ground_truth.txt", b"1\n7\n", "line 2, is 7; expected a number of meta.mat"),
        ("ILSVRC2012_validation_ground_truth.txt", b"one\n", "ground_truth.txt cannot be read"),
        ("ILSVRC2012_validation_ground_truth.txt", b"1\n" * 10, "lacks ILSVRC2012_val_00000010.JPEG"),
        ("meta.mat", b"", "meta.mat cannot be read"),
        ("meta.mat", b"?" * 1000, "meta.mat cannot be read"),
    ],
)
def test_a_damaged_development_kit_is_refused(imagenet, tmp_path, file, content, said):
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

    with pytest.raises(DataError, match=said):
        install("imagenet", tmp_path / "root", archives)
    assert not (tmp_path / "root" / "imagenet" / "images" / "val").exists()
