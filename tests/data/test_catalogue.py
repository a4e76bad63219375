import importlib.util
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from data import layouts
from lowshot.data import draw_from, load_task
from lowshot.data.assembling import Reading
from lowshot.data.catalogue import CATALOGUE, find, lacks, read_data_set, state_of
from lowshot.data.catalogue.facts import UNKNOWN
from lowshot.errors import DataError, ImageError, UnknownNameError
from refusing import refused

WITH_SPLIT_FILE = [name for name, row in CATALOGUE.items() if row.layout == "split"]
SHIFTS = [name for name, row in CATALOGUE.items() if row.sizes.train is None]


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Writes data sets in miniature below one root, which it returns."""

    def install(*names):
        for name in names:
            layouts.install(name, tmp_path, monkeypatch)
        return tmp_path

    return install


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


# -- CoOp's split files ------------------------------------------------------------------------------------------------


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


# -- ImageNet ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def open_clip(tmp_path_factory, monkeypatch):
    """A package that has CLIP's list and breaks on import, as open_clip does beside the wrong torchvision."""
    folder = tmp_path_factory.mktemp("site")
    names = [f"name {label}" for label in range(1000)]
    names[744], names[836] = "missile", "sunglasses"
    (folder / "open_clip").mkdir()
    (folder / "open_clip" / "__init__.py").write_text("raise RuntimeError('torchvision::nms does not exist')")
    (folder / "open_clip" / "zero_shot_metadata.py").write_text(
        f"from functools import partial\nOTHER = 1\nIMAGENET_CLASSNAMES = {tuple(names)!r}\n"
    )
    monkeypatch.syspath_prepend(str(folder))


def test_of_two_classes_of_one_name_one_has_imagenets_own(install):
    root = install("imagenet")
    assert (root / "imagenet" / "classnames.txt").read_text().count("missile") == 2

    assert read("imagenet", root)[0].class_names == ("tench", "missile", "projectile")


def test_names_that_nobody_else_has_are_left_alone(install):
    root = install("imagenet")
    layouts.write_text(root / "imagenet" / "classnames.txt", "n01440764 tench", "n03773504 rocket", "n04008634 missile")

    assert read("imagenet", root)[0].class_names == ("tench", "rocket", "missile")


@pytest.mark.parametrize("name", SHIFTS)
def test_a_shift_finds_the_class_names_of_imagenet_beside_it(install, name):
    root = install("imagenet", name)
    next((root / CATALOGUE[name].folders[0]).parent.glob("classnames.txt")).unlink()

    assert list(read(name, root)[0].class_names) == layouts.CLASS_NAMES[name]


@pytest.mark.parametrize("name", ["imagenet", *SHIFTS])
def test_without_class_names_the_way_to_them_is_said(install, name, monkeypatch):
    monkeypatch.setattr("lowshot.data.catalogue.class_names._open_clip_source", lambda: None)
    root = install(name)
    next(root.rglob("classnames.txt")).unlink()

    assert lacks(CATALOGUE[name], find(CATALOGUE[name], root)) == ["classnames.txt"]
    with refused(DataError, "classnames.txt", "https://drive.usercontent.google.com", "open-clip-torch"):
        load_task(name, root=root)


def test_names_may_come_from_open_clip_which_is_not_imported(tmp_path, open_clip):
    for label in range(1000):
        layouts.picture(tmp_path / "imagenet-sketch" / "images" / f"n{label:08}" / "1.jpg") if label < 2 else (
            tmp_path / "imagenet-sketch" / "images" / f"n{label:08}"
        ).mkdir()
        (tmp_path / "imagenetv2-matched-frequency-format-val" / str(label)).mkdir(parents=True)
    layouts.picture(tmp_path / "imagenetv2-matched-frequency-format-val" / "0" / "1.jpg")

    for name in ("imagenet_sketch", "imagenetv2"):
        task, warned = read(name, tmp_path)
        names = task.class_names
        assert re.match(r"class names are open_clip's: CoOp's classnames.txt, .* lowshot data prepare", warned[0])
        assert (names[0], names[744], names[836], names[999]) == ("name 0", "projectile", "sunglass", "name 999")
    assert "open_clip" not in sys.modules


def test_open_clips_list_without_synsets_needs_a_whole_imagenet(install, open_clip, tmp_path):
    root = install("imagenet_a")
    (root / "imagenet-adversarial" / "classnames.txt").unlink()
    with refused(DataError, "classnames.txt", "open-clip-torch"):
        load_task("imagenet_a", root=root)

    synsets = [*layouts.SYNSETS, *(f"n9{number:07}" for number in range(997))]
    for synset in synsets:
        (root / "imagenet" / "val" / synset).mkdir(parents=True)
    layouts.picture(root / "imagenet" / "val" / "n01440764" / "1.jpg")
    assert read("imagenet_a", root)[0].class_names == ("name 0", "name 1")


def test_imagenet_may_lack_its_training_images_and_says_so(install):
    root = install("imagenet")
    (root / "imagenet" / "images" / "train").rename(root / "aside")

    task, warned = read("imagenet", root)

    assert (len(task.train), len(task.test)) == (0, 9)
    assert warned == ["imagenet has 0 images in train; expected 12, as published"]
    with refused(DataError, "imagenet", "training images", 3):
        draw_from(task, 1, 1)


def test_validation_images_that_nobody_sorted_are_refused(install):
    root = install("imagenet")
    val = root / "imagenet" / "images" / "val"
    for folder in list(val.iterdir()):
        for image in list(folder.iterdir()):
            image.rename(val / image.name)
        folder.rmdir()

    with refused(DataError, "imagenet/images/val", "lowshot data prepare imagenet", "--from"):
        load_task("imagenet", root=root)


def test_synsets_in_train_or_val_alone_are_refused(install):
    root = install("imagenet")
    (root / "imagenet" / "images" / "val" / "n01440764").rename(root / "aside")

    with refused(DataError, "1 synset(s)", "train", "val", "n01440764"):
        load_task("imagenet", root=root)


def test_a_folder_of_imagenetv2_that_is_missing_is_named(install):
    root = install("imagenetv2")
    (root / CATALOGUE["imagenetv2"].folders[0] / "1").rename(root / "aside")

    with refused(DataError, "lacks 1", "0 to 2", "such as 1"):
        load_task("imagenetv2", root=root)


@pytest.mark.parametrize(
    ("lines", "facts"),
    [
        (["n01440764 tench", "n03773504 missile"], ("1 synset(s)", "n04008634")),
        (["n01440764 tench", "tench"], ("line 2", "'tench'", "n01440764 tench")),
        (["n01440764"], ("line 1", "'n01440764'")),
        (["n01440764 tench", "", "n01440764 eel"], ("line 3", "n01440764", "twice")),
        (
            ["n01440764 Cardigan", "n03773504 cardigan", "n04008634 rocket"],
            ("'Cardigan'", "'cardigan'", "CoOp"),
        ),
    ],
)
def test_a_damaged_list_of_class_names_is_refused(install, lines, facts):
    root = install("imagenet")
    layouts.write_text(root / "imagenet" / "classnames.txt", *lines)

    with refused(DataError, "classnames.txt", *facts):
        load_task("imagenet", root=root)


def test_a_list_of_another_length_is_refused_where_folders_have_numbers(install):
    root = install("imagenetv2")
    layouts.write_text(root / "imagenetv2" / "classnames.txt", "n01440764 tench")

    with pytest.raises(DataError, match="has 1 classes; expected 3"):
        load_task("imagenetv2", root=root)


def test_files_that_are_no_images_are_counted(install):
    root = install("imagenet_sketch")
    layouts.write_text(root / "imagenet-sketch" / "images" / "n01440764" / "notes.txt", "x")
    layouts.write_text(root / "imagenet-sketch" / "images" / "n01440764" / ".DS_Store", "x")

    task, warned = read("imagenet_sketch", root)

    assert len(task.test) == 9
    assert warned == [f"{root / 'imagenet-sketch/images'}: left out 1 file(s) without an image's suffix"]


def test_the_page_has_what_the_table_of_the_code_says():
    path = Path(__file__).parents[2] / "tools" / "write_reference.py"
    spec = importlib.util.spec_from_file_location("write_reference", path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    page = tool.DATASETS_PAGE.read_text(encoding="utf-8")
    assert page == tool.datasets_page(page), "run make docs"
    assert all(f"`{row.name}`" in page and row.split_file in page for row in CATALOGUE.values())
