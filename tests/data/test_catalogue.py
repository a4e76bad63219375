import re

import numpy as np
import pytest

from data import layouts
from lowshot.data import draw_from, load_task
from lowshot.data.assembling import Reading
from lowshot.data.catalogue import CATALOGUE, find, lacks, read_data_set, state_of
from lowshot.data.catalogue.facts import UNKNOWN
from lowshot.errors import DataError, UnknownNameError
from refusing import refused

WITH_SPLIT_FILE = [name for name, row in CATALOGUE.items() if row.layout == "split"]
SHIFTS = [name for name, row in CATALOGUE.items() if row.sizes.train is None]


def read(name, root, **options):
    """The task and what was warned of."""
    warned = []
    return load_task(name, root=root, warn=warned, **options), warned


# -- the table ---------------------------------------------------------------------------------------------------------


def test_the_eleven_and_the_four_shifts_are_there():
    assert list(CATALOGUE) == list(layouts.CLASS_NAMES)
    assert len(CATALOGUE) - len(SHIFTS) == 11
    assert SHIFTS == ["imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r"]


# Published totals: of each data set's own page, or of the official lists that CoOp's splits divide.
@pytest.mark.parametrize(
    ("name", "trainval", "test"),
    [
        ("oxford_pets", 3_680, 3_669),
        ("stanford_cars", 8_144, 8_041),
        ("sun397", 19_850, 19_850),
        ("ucf101", 9_537, 3_783),
    ],
)
def test_official_training_lists_are_divided_and_test_lists_kept(name, trainval, test):
    sizes = CATALOGUE[name].sizes
    assert (sizes.train + sizes.validation, sizes.test) == (trainval, test)


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("caltech101", 9_144 - 467 - 435),  # without BACKGROUND_Google and Faces_easy
        ("oxford_flowers", 8_189),
        ("food101", 101_000),
        ("fgvc", 10_000),
        ("dtd", 5_640),
        ("eurosat", 27_000),
    ],
)
def test_splits_add_up_to_the_whole_data_set(name, total):
    sizes = CATALOGUE[name].sizes
    assert sizes.train + sizes.validation + sizes.test == total


@pytest.mark.parametrize("row", CATALOGUE.values(), ids=CATALOGUE)
def test_every_row_is_whole(row):
    assert row.template.count("{}") == 1
    assert row.classes > 1
    assert all((row.summary, row.licence))
    assert re.fullmatch(r"https://[^\s()]+", row.homepage)  # one address
    assert bool(re.fullmatch(r"https://[^\s()]+", row.licence_from)) == (row.licence != UNKNOWN)
    assert bool(row.split_file) == (row.layout == "split")
    installed = [place for need in row.needs for place in need[0].places.values()]
    assert len(installed) == len(set(installed))
    above = row.folders[0].split("/")[0]
    assert all(place == above or place.startswith(f"{above}/") for place in installed)


@pytest.mark.parametrize("row", CATALOGUE.values(), ids=CATALOGUE)
def test_what_comes_without_encryption_has_a_checksum(row):
    for file in (file for need in row.needs for file in need):
        assert re.fullmatch(r"[0-9a-f]{64}", file.sha256 or "0" * 64)
        assert re.fullmatch(r"[0-9a-f]{32}", file.md5 or "0" * 32)
        for url in file.urls:
            assert url.startswith("https://") or (url.startswith("http://") and (file.sha256 or file.md5))


# -- every layout ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_layout_is_read_as_published(install, name):
    root = install(name)
    task, warned = read(name, root)

    assert warned == []
    assert (task.name, list(task.class_names)) == (name, layouts.CLASS_NAMES[name])
    classes, shift, imagenet = len(task.class_names), name in SHIFTS, name == "imagenet"
    assert np.bincount(task.train.labels, minlength=classes).tolist() == [0 if shift else 4] * classes
    assert (task.validation is None) == (shift or imagenet)
    assert np.bincount(task.test.labels).tolist() == [3] * classes
    assert all(task.test.images[i].shape == (8, 8, 3) for i in range(len(task.test)))
    assert find(CATALOGUE[name], root).images == root / CATALOGUE[name].folders[0]
    assert lacks(CATALOGUE[name], find(CATALOGUE[name], root)) == []
    assert (state_of(CATALOGUE[name], root).name, state_of(CATALOGUE[name], root).missing) == ("installed", ())


@pytest.mark.parametrize("name", ["caltech101", "stanford_cars", "sun397", "fgvc", "imagenet", "imagenet_r"])
def test_every_image_has_the_label_of_its_list_or_folder(install, name):
    root = install(name)
    test = read(name, root)[0].test

    expected = {
        "caltech101": {"Faces": 0, "Leopards": 1, "accordion": 2},
        "sun397": {"a/abbey": 0, "a/apse/indoor": 1, "a/apartment_building/outdoor": 2},
        "imagenet": {synset: label for label, synset in enumerate(layouts.SYNSETS)},
        "imagenet_r": {synset: label for label, synset in enumerate(layouts.SYNSETS)},
    }.get(name)
    for identity, label in zip(test.identities, test.labels, strict=True):
        if expected:
            assert expected[identity.rpartition("/")[0]] == label
        else:  # numbered in turn over the classes
            assert (int(re.search(r"(\d+)\.jpg", identity)[1]) - 1) % 3 == label


@pytest.mark.parametrize("name", CATALOGUE)
def test_identities_and_draws_are_the_same_on_every_machine(install, name, tmp_path_factory):
    root = install(name)
    moved = tmp_path_factory.mktemp("elsewhere") / "deep"
    before = read(name, root)[0]
    root.rename(moved)
    after = read(name, moved)[0]
    root.mkdir()  # pytest takes it away

    assert before.train.identities == after.train.identities
    assert before.test.identities == after.test.identities
    assert not any(str(root) in identity for identity in before.test.identities)
    if len(before.train):
        assert np.array_equal(draw_from(before, 2, 1).indices, draw_from(after, 2, 1).indices)


@pytest.mark.parametrize(
    ("name", "folder"), [(row.name, folder) for row in CATALOGUE.values() for folder in row.folders]
)
def test_common_other_places_give_the_same_task(install, name, folder):
    root = install(name)
    expected = read(name, root)[0]
    layouts.move(root, name, folder)

    task, warned = read(name, root)

    assert warned == []
    assert (task.class_names, task.test.identities) == (expected.class_names, expected.test.identities)
    assert task.test.images[0].shape == (8, 8, 3)


def test_a_linked_folder_is_followed(install, tmp_path):
    """As CoOp's instructions advise where a data set lies elsewhere."""
    root = install("dtd")
    (root / "dtd").rename(root / "elsewhere")
    (root / "dtd").symlink_to(root / "elsewhere")

    assert read("dtd", root)[0].test.images[0].shape == (8, 8, 3)


# -- installed, incomplete or absent -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CATALOGUE)
def test_empty_folders_are_not_taken_for_a_data_set(name, tmp_path):
    for folder in CATALOGUE[name].folders:
        for below in ("train", "val", "0", "n01440764", "cars_train"):
            (tmp_path / folder / below).mkdir(parents=True, exist_ok=True)

    assert state_of(CATALOGUE[name], tmp_path).name == "absent"
    with refused(DataError, name, "which is there", f"lowshot data prepare {name}"):
        load_task(name, root=tmp_path)


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_data_set_that_lacks_an_image_is_incomplete(install, name):
    root = install(name)
    row = CATALOGUE[name]
    image = read(name, root)[0].test.images.source(0)
    image.unlink()

    state = state_of(row, root)

    assert (state.name, state.place) == ("incomplete", find(row, root))
    listed = f"1 of {len(read(name, root)[0].test)} images in test are not there, such as {image}"
    counted = f"{name} has {len(read(name, root)[0].test)} images in test; expected {row.sizes.test}, as published"
    of_imagenet = f"1 of {row.sizes.test} images are not in {image.parents[1]}"  # 18,000 of 1,281,167 were enough
    assert state.missing == ((of_imagenet,) if name == "imagenet" else state.missing)
    assert state.missing[0] in (listed, counted, of_imagenet)


def test_of_imagenet_a_class_without_an_image_is_counted(install):
    root = install("imagenet")
    image = read("imagenet", root)[0].test.images.source(0)
    for path in image.parent.iterdir():
        path.unlink()
    state = state_of(CATALOGUE["imagenet"], root)
    assert state.missing == (f"1 of 3 classes have no image in {image.parents[1]}",)


def test_of_imagenet_without_a_split_every_class_is_missing(install):
    root = install("imagenet")
    (root / "imagenet" / "images" / "train").rename(root / "aside")

    state = state_of(CATALOGUE["imagenet"], root)

    assert state.missing == (f"3 of 3 classes have no image in {root / 'imagenet' / 'images' / 'train'}",)


def test_a_data_set_without_its_lists_is_incomplete_and_so_is_one_with_damaged_ones(install):
    root = install("dtd")
    path = next(root.rglob("split_zhou*"))
    path.write_text("{")
    state = state_of(CATALOGUE["dtd"], root)
    assert state.name == "incomplete"
    assert "split_zhou_DescribableTextures.json is damaged" in state.missing[0]

    path.unlink()
    assert state_of(CATALOGUE["dtd"], root).missing == ("split_zhou_DescribableTextures.json is not there",)


# -- the root ----------------------------------------------------------------------------------------------------------


def test_the_root_may_come_from_the_environment(install, monkeypatch):
    root = install("dtd")
    monkeypatch.setenv("LOWSHOT_DATA", str(root))

    assert load_task("dtd").name == "dtd"
    with refused(DataError, "dtd", root / "cli"):  # what is given wins
        (root / "cli").mkdir()
        load_task("dtd", root=root / "cli")


def test_a_root_that_is_not_known_or_not_there_is_said(monkeypatch, tmp_path):
    monkeypatch.delenv("LOWSHOT_DATA", raising=False)
    with refused(DataError, "--root FOLDER", "LOWSHOT_DATA"):
        load_task("dtd")
    with refused(DataError, tmp_path / "none", "no folder"):
        load_task("dtd", root=tmp_path / "none")
    monkeypatch.setenv("LOWSHOT_DATA", str(tmp_path / "gone"))
    with refused(DataError, tmp_path / "gone", "LOWSHOT_DATA"):
        load_task("dtd")


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_data_set_that_is_not_there_is_refused_with_the_way_to_it(name, tmp_path):
    expected = tmp_path / CATALOGUE[name].folders[0]
    with refused(DataError, name, expected, f"lowshot data prepare {name} --root"):
        load_task(name, root=tmp_path)


def test_an_unknown_name_offers_the_nearest(tmp_path):
    with refused(UnknownNameError, "data set", "'food-101'", "did you mean food101"):
        read_data_set("food-101", Reading(root=tmp_path))


def test_a_name_of_the_catalogue_wins_over_a_folder_and_a_path_does_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("banded", "dotted"):
        layouts.picture(tmp_path / "dtd" / name / "1.jpg")
    assert load_task("./dtd").class_names == ("banded", "dotted")
    with pytest.raises(DataError, match="dtd is not in"):
        load_task("dtd", root=tmp_path / "dtd")


# -- FGVC Aircraft -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["variants.txt", "images_variant_val.txt"])
def test_aircraft_without_one_of_its_lists_is_refused(install, name):
    root = install("fgvc")
    (root / "fgvc_aircraft" / name).unlink()

    assert lacks(CATALOGUE["fgvc"], find(CATALOGUE["fgvc"], root)) == [name]
    with refused(DataError, name, root / "fgvc_aircraft", "lowshot data prepare fgvc"):
        load_task("fgvc", root=root)


@pytest.mark.parametrize("line", ["0000001 Spitfire", "0000001", "../1 707-320", " 707-320"])
def test_a_line_of_aircraft_that_fits_no_class_is_refused(install, line):
    root = install("fgvc")
    path = root / "fgvc_aircraft" / "images_variant_test.txt"
    path.write_text(f"0000001 F/A-18\n\n{line}\n")

    with refused(DataError, "images_variant_test.txt", "line 3", "variants.txt"):
        load_task("fgvc", root=root)
