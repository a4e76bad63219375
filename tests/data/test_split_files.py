"""Lists of the catalogue's data sets that contradict themselves, or are no lists."""

import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data import layouts
from lowshot.data import check_images, load_task
from lowshot.data.catalogue import CATALOGUE, find, lacks
from lowshot.errors import DataError, ImageError
from refusing import refused

WITH_SPLIT_FILE = [name for name, row in CATALOGUE.items() if row.layout == "split"]
SHIFTS = [name for name, row in CATALOGUE.items() if row.sizes.train is None]


@pytest.fixture
def damage(install):
    """Installs DTD, changes its split file and reads it."""

    def damage(change):
        root = install("dtd")
        path = root / "dtd" / CATALOGUE["dtd"].split_file
        split = json.loads(path.read_text())
        changed = change(split)
        path.write_text(json.dumps(split if changed is None else changed))
        return load_task("dtd", root=root)

    return damage


def read(name, root, **options):
    """The task and what was warned of."""
    warned = []
    return load_task(name, root=root, warn=warned, **options), warned


@pytest.fixture
def dtd(tmp_path, monkeypatch):
    """Installs DTD; the path of its split file."""
    layouts.install("dtd", tmp_path, monkeypatch)
    return tmp_path / "dtd" / CATALOGUE["dtd"].split_file


@pytest.fixture
def aircraft(tmp_path, monkeypatch):
    layouts.install("fgvc", tmp_path, monkeypatch)
    return tmp_path / "fgvc_aircraft"


def changed(path, change):
    """The task and what was warned of, after a change of the split file."""
    split = json.loads(path.read_text())
    change(split)
    path.write_text(json.dumps(split))
    warned = []
    return load_task(path.parent.name, root=path.parents[1], warn=warned), warned


@pytest.mark.parametrize("name", WITH_SPLIT_FILE)
def test_without_the_split_file_the_data_sets_own_lists_are_no_substitute(install, name):
    root = install(name)
    row = CATALOGUE[name]
    next(root.rglob(row.split_file)).unlink()

    assert lacks(row, find(row, root)) == [row.split_file]
    with refused(DataError, row.split_file, f"lowshot data prepare {name}", "https://drive.usercontent.google.com"):
        load_task(name, root=root)


def test_split_files_may_all_lie_in_the_root(install):
    root = install("dtd")
    next(root.rglob("split_zhou*")).rename(root / CATALOGUE["dtd"].split_file)

    assert len(read("dtd", root)[0].test) == 9


def test_names_that_were_replaced_already_stay(install):
    """In CoOp's files some names are the new ones, and in others' copies some are the old ones."""
    root = install("caltech101")
    assert "Leopards" in next(root.rglob("split_zhou*")).read_text()
    assert '"face"' in next(root.rglob("split_zhou*")).read_text()
    assert read("caltech101", root)[0].class_names[:2] == ("face", "leopard")


def test_the_order_of_the_split_file_is_kept(damage):
    """Draws of other code go by it."""
    order = []

    def reverse(split):
        split["train"].reverse()
        order.extend(path for path, _, _ in split["train"])

    assert damage(reverse).train.identities == tuple(order)


@pytest.mark.parametrize(
    "path", ["../secret.jpg", "/etc/secret.jpg", "a/../../b.jpg", "", "C:\\x.jpg", "c:/x.jpg", "a\0b"]
)
def test_a_split_that_leads_out_of_the_images_is_refused(damage, path):
    def outside(split):
        split["val"][1][0] = path

    with refused(DataError, CATALOGUE["dtd"].split_file, "val[1]", "below the images"):
        damage(outside)


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (lambda split: split.pop("val") and None, ("no list 'val'", "train, val")),
        (lambda split: split.update(test=[]), ("no list 'test'",)),
        (lambda split: split["train"][0].pop() and None, ("train[0]", "below the images")),
        (lambda split: split["train"].insert(0, "x"), ("train[0]", "x")),
        (lambda split: split["train"].insert(0, ["x", -1, "a"]), ("train[0]", "below the images")),
        (lambda split: split["train"].insert(0, ["x", "1", "a"]), ("train[0]", "below the images")),
        (lambda split: split["train"].insert(0, ["x", 1, " "]), ("train[0]", "below the images")),
        (lambda split: split["test"].append(["x", 7, "a"]), ("labels", "0 to 7", "4 classes")),
        (lambda split: split["test"].append(["x", 1, "a"]), ("class 1", "'blotchy'", "'a'")),
        (lambda split: split["test"].append(["x", 3, "Banded"]), ("'banded' and 'Banded'", "only in case")),
        (lambda split: [split], ("a list", "an object", "CoOp")),
    ],
)
def test_a_damaged_split_file_is_refused_with_the_place(damage, change, facts):
    with refused(DataError, "dtd", *facts):
        damage(change)


def test_a_split_file_that_is_no_json_is_refused(install):
    root = install("dtd")
    next(root.rglob("split_zhou*")).write_text("<html>Google Drive - Quota exceeded</html>")

    with refused(DataError, CATALOGUE["dtd"].split_file, "damaged", "CoOp"):
        load_task("dtd", root=root)


def test_another_number_of_images_than_published_is_said(install):
    root = install("dtd")
    path = next(root.rglob("split_zhou*"))
    split = json.loads(path.read_text())
    path.write_text(json.dumps({**split, "train": split["train"][:-1]}))

    assert read("dtd", root)[1] == ["dtd has 11 images in train; expected 12, as published"]


def test_a_missing_image_is_named_when_it_is_asked_for_or_left_out_on_request(install):
    root = install("dtd")
    task, _ = read("dtd", root)
    (root / "dtd" / "images" / task.train.identities[0]).unlink()

    with refused(ImageError, task.train.identities[0], "does not exist"):
        task.train.images[0]
    skipped, warned = read("dtd", root, on_bad_image="skip")
    assert skipped.train.identities == task.train.identities[1:]
    assert len(warned) == 2
    assert warned[0].startswith("left out: ")
    assert warned[1] == "dtd has 11 images in train; expected 12, as published"


# -- lists that contradict themselves ----------------------------------------------------------------------------------


def test_an_image_in_two_splits_is_said(dtd):
    """Figures would be measured on what was learnt, and nobody would know."""

    def leak(split):
        split["test"][0], split["test"][3] = split["train"][0], split["val"][0]

    task, warned = changed(dtd, leak)

    image = dtd.parent / "images" / task.train.identities[0]
    assert warned == [f"{dtd}: 2 image(s) are in two splits at once, such as {image} and {image}"]
    assert len(task.test) == 9


@pytest.mark.parametrize("written", ["{}", "./{}", ".//{}"])
def test_an_image_under_two_labels_is_refused_however_its_path_is_written(dtd, written):
    def relabel(split):
        path, label, _ = split["train"][0]
        split["test"].append([written.format(path), label + 1, split["train"][1][2]])

    with refused(DataError, "split_zhou_DescribableTextures.json", "'banded' in train", "'blotchy' in test"):
        changed(dtd, relabel)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_an_image_that_is_in_a_split_twice_is_refused(dtd, split):
    with refused(DataError, "split_zhou_DescribableTextures.json", "twice"):
        changed(dtd, lambda content: content[split].append(content[split][0]))


@pytest.mark.parametrize(
    "item", [["a.jpg", True, "blotchy"], ["a.jpg", 1.0, "blotchy"], ["a.jpg", "1", "blotchy"], ["\ud800.jpg", 1, "x"]]
)
def test_what_is_no_label_and_no_path_is_refused_with_its_place(dtd, item):
    with refused(DataError, "test[9]", "below the images") as caught:
        changed(dtd, lambda content: content["test"].append(item))
    str(caught.value).encode("utf-8", "backslashreplace")


def test_half_a_character_is_no_class_name(dtd):
    with refused(DataError, r"'x\ud800'", "UTF-8"):
        changed(dtd, lambda content: content["test"].append(["a.jpg", 3, "x\ud800"]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=100), st.text(max_size=30).map(lambda text: f'{{"train": [{text}]}}'.encode())))
def test_whatever_the_bytes_nothing_but_our_errors_is_raised(dtd, content):
    dtd.write_bytes(content)
    with pytest.raises(DataError):
        load_task("dtd", root=dtd.parents[1])


def test_a_folder_in_the_place_of_a_split_file_is_none(dtd):
    dtd.unlink()
    dtd.mkdir()
    with refused(DataError, "split_zhou_DescribableTextures.json", "lowshot data prepare dtd"):
        load_task("dtd", root=dtd.parents[1])


# -- FGVC Aircraft -----------------------------------------------------------------------------------------------------


def append(folder, split, line):
    path = folder / f"images_variant_{split}.txt"
    path.write_text(f"{path.read_text()}{line}\n")


def test_an_aircraft_in_two_splits_is_said_and_one_of_two_classes_refused(aircraft):
    first, second = (aircraft / "images_variant_train.txt").read_text().splitlines()[:2]
    warned = []

    append(aircraft, "test", first)
    load_task("fgvc", root=aircraft.parent, warn=warned)
    assert warned[0].startswith(
        f"{aircraft}: 1 image(s) are in two splits at once, such as {aircraft}/images/0000001.jpg"
    )

    append(aircraft, "val", f"{first.split()[0]} {second.split()[1]}")
    with refused(DataError, "0000001.jpg", "'707-320' in train", "'F/A-18' in validation"):
        load_task("fgvc", root=aircraft.parent)


@pytest.mark.parametrize("name", ["variants.txt", "images_variant_val.txt"])
@pytest.mark.parametrize("content", [b"\xff", b"\0" * 100, b"x" * 100])
def test_lists_of_garbage_are_refused(aircraft, name, content):
    (aircraft / name).write_bytes(content)
    with pytest.raises(DataError):
        load_task("fgvc", root=aircraft.parent)


# -- ImageNet ----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.timeout(20)
def test_folders_and_pipes_with_an_images_suffix_are_no_images(tmp_path, monkeypatch):
    layouts.install("imagenet_sketch", tmp_path, monkeypatch)
    folder = tmp_path / "imagenet-sketch" / "images" / "n01440764"
    (folder / "folder.jpg").mkdir()
    os.mkfifo(folder / "pipe.jpg")
    (folder / "link.jpg").symlink_to(folder / "sketch_1.JPEG")
    warned = []

    task = load_task("imagenet_sketch", root=tmp_path, on_bad_image="skip", warn=warned)

    assert len(task.test) == 10  # links are followed in data sets that somebody installed
    assert warned[0] == f"{folder.parent}: left out 2 file(s) without an image's suffix"


def test_a_link_to_nothing_stays_in_the_list_so_that_its_absence_is_found(tmp_path, monkeypatch):
    layouts.install("imagenet_sketch", tmp_path, monkeypatch)
    (tmp_path / "imagenet-sketch" / "images" / "n01440764" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")

    task = load_task("imagenet_sketch", root=tmp_path)

    assert check_images(task).missing == ("test: n01440764/gone.jpg",)
