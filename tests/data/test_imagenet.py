"""ImageNet and its shifts as they lie on a disk, and the names of their classes."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from data import layouts
from lowshot.data import draw_from, load_task
from lowshot.data.catalogue import CATALOGUE, find, lacks
from lowshot.errors import DataError
from refusing import refused

SHIFTS = [name for name, row in CATALOGUE.items() if row.sizes.train is None]


def read(name, root, **options):
    """The task and what was warned of."""
    warned = []
    return load_task(name, root=root, warn=warned, **options), warned


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
