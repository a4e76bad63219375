"""Every data set of the catalogue in miniature: a few tiny pictures in its true published layout.

What the data set comes with is there too, although lowshot reads none of it where CoOp made another split: MAT files,
text lists, folders that count for nothing.
"""

import dataclasses
import gzip
import io
import json
import tarfile
import zipfile

import numpy as np
import scipy.io
from PIL import Image

from lowshot.data.catalogue import CATALOGUE, Sizes

CLASS_NAMES = {
    "imagenet": ["tench", "missile", "projectile"],
    "caltech101": ["face", "leopard", "accordion"],
    "oxford_pets": ["abyssinian", "american bulldog", "yorkshire terrier"],
    "stanford_cars": ["2000 AM General Hummer SUV", "2012 Acura RL Sedan", "2012 Ram C/V Cargo Van Minivan"],
    "oxford_flowers": ["pink primrose", "hard-leaved pocket orchid", "canterbury bells"],
    "food101": ["apple pie", "baby back ribs", "baklava"],
    "fgvc": ["707-320", "F/A-18", "DHC-8-100"],
    "sun397": ["abbey", "indoor apse", "outdoor apartment building"],
    "dtd": ["banded", "blotchy", "braided"],
    "eurosat": ["Annual Crop Land", "Forest", "Sea or Lake"],
    "ucf101": ["Apply Eye Makeup", "Tai Chi", "Yo Yo"],
    "imagenetv2": ["tench", "missile", "projectile"],
    "imagenet_sketch": ["tench", "missile", "projectile"],
    "imagenet_a": ["tench", "missile"],
    "imagenet_r": ["tench", "missile"],
}
"""Class names in label order, as they must be read."""

SYNSETS = {"n01440764": "tench", "n03773504": "missile", "n04008634": "missile"}
"""As in CLIP's list, where two classes are called ``missile``."""
_SPLIT_SIZES = {"train": 4, "val": 2, "test": 3}


def install(name, root, monkeypatch):
    """Write a data set below the root, and say in the catalogue how small it is."""
    _WRITERS[name](root)
    row, classes = CATALOGUE[name], len(CLASS_NAMES[name])
    train, validation, test = (classes * size for size in _SPLIT_SIZES.values())
    if row.sizes.train is None:
        sizes = Sizes(test=test)
    else:
        sizes = Sizes(train, None if row.sizes.validation is None else validation, test)
    small = dataclasses.replace(row, classes=classes, sizes=sizes)
    monkeypatch.setitem(CATALOGUE, name, small)
    if "classnames.txt" in str(row.needs):  # a list of names has as many as ImageNet has classes
        monkeypatch.setitem(CATALOGUE, "imagenet", dataclasses.replace(CATALOGUE["imagenet"], classes=len(SYNSETS)))
    return small


def move(root, name, folder):
    """Move an installed miniature to another of the places where it is found."""
    published, other = CATALOGUE[name].folders[0], root / folder
    if folder == published:
        return
    lists = [path for path in (root / published).parent.iterdir() if path.is_file()] if "/" in published else []
    aside = root / "aside"
    aside.mkdir()
    images = (root / published).rename(aside / "images")
    lists = [path.rename(aside / path.name) for path in lists]
    if "/" in published and not any((root / published).parent.iterdir()):
        (root / published).parent.rmdir()
    other.parent.mkdir(parents=True, exist_ok=True)
    images.rename(other)
    for path in lists:
        path.rename(other.parent / path.name)
    aside.rmdir()


def picture(path):
    """A small picture like no other; the same for the same path below the root."""
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(list(str(path.parts[-3:]).encode()))
    pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, "PNG" if path.suffix == ".png" else "JPEG")


def write_text(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _write_split(folder, file, images, classes):
    """CoOp's split: ``classes`` has label -> (name in the file, path of image number i)."""
    split, number = {}, 0
    for key, size in _SPLIT_SIZES.items():
        split[key] = []
        for _ in range(size):
            for label, (name, path) in enumerate(classes):
                number += 1
                split[key].append([path(number), label, name])
                picture(folder / images / path(number))
    (folder / file).write_text(json.dumps(split), encoding="utf-8")
    return split


def _in_folders(*folders_and_names, pattern="{folder}_{number:04}.jpg"):
    """Classes whose images lie in a folder each."""
    return [
        (name, lambda number, folder=folder: f"{folder}/{pattern.format(folder=folder.split('/')[-1], number=number)}")
        for folder, name in folders_and_names
    ]


# -- the archives they come in -----------------------------------------------------------------------------------------


def tar_of(*paths_and_folders, compress=True):
    """A tar file of (name in it, what lies on disk)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, path in paths_and_folders:
            tar.add(path, name)
    return gzip.compress(out.getvalue(), mtime=0) if compress else out.getvalue()


def zip_of(*paths_and_folders):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, path in paths_and_folders:
            for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
                archive.write(file, f"{name}/{file.relative_to(path)}" if path.is_dir() else name)
    return out.getvalue()


def published(file, installed):
    """The content of a file of the catalogue, made from a miniature that is installed."""
    if file.kind == "file":
        return (installed / next(iter(file.places.values()))).read_bytes()
    parts = [(member, installed / place) for member, place in file.places.items()]
    if file.inside:
        (installed / "inner").write_bytes(tar_of(*parts))
        return zip_of((file.inside, installed / "inner"))
    return zip_of(*parts) if file.file.endswith(".zip") else tar_of(*parts, compress=not file.file.endswith(".tar"))


# -- the ten with a split of CoOp's or their own -----------------------------------------------------------------------


def _caltech101(root):
    folder = root / "caltech-101"
    classes = _in_folders(
        ("Faces", "face"), ("Leopards", "Leopards"), ("accordion", "accordion"), pattern="image_{number:04}.jpg"
    )
    _write_split(folder, "split_zhou_Caltech101.json", "101_ObjectCategories", classes)
    for left_out in ("BACKGROUND_Google", "Faces_easy"):
        picture(folder / "101_ObjectCategories" / left_out / "image_0001.jpg")
    (folder / "101_ObjectCategories" / "BACKGROUND_Google" / "tmp").write_text("x")


def _oxford_pets(root):
    folder = root / "oxford_pets"
    breeds = ("Abyssinian", "american_bulldog", "yorkshire_terrier")
    classes = [(breed.lower(), lambda number, breed=breed: f"{breed}_{number}.jpg") for breed in breeds]
    _write_split(folder, "split_zhou_OxfordPets.json", "images", classes)
    write_text(folder / "annotations" / "trainval.txt", "Abyssinian_1 1 1 1", "american_bulldog_2 2 2 1")
    write_text(folder / "annotations" / "test.txt", "Abyssinian_19 1 1 1")


def _stanford_cars(root):
    folder, names = root / "stanford_cars", CLASS_NAMES["stanford_cars"]
    classes = [(name, lambda number: f"cars_{'train' if number <= 18 else 'test'}/{number:05}.jpg") for name in names]
    _write_split(folder, "split_zhou_StanfordCars.json", "", classes)
    (folder / "devkit").mkdir()
    as_published = [name[5:] + name[4:5] + name[:4] for name in names]
    scipy.io.savemat(folder / "devkit" / "cars_meta.mat", {"class_names": np.array([as_published], dtype=object)})
    fields = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")
    rows = np.array([(1, 1, 8, 8, number % 3 + 1, f"{number:05}.jpg") for number in range(1, 19)], dtype=object)
    annotations = np.zeros((1, len(rows)), dtype=[(field, object) for field in fields])
    for position, field in enumerate(fields):
        annotations[field][0] = rows[:, position]
    scipy.io.savemat(folder / "devkit" / "cars_train_annos.mat", {"annotations": annotations})
    scipy.io.savemat(folder / "cars_test_annos_withlabels.mat", {"annotations": annotations})


def _oxford_flowers(root):
    folder, names = root / "oxford_flowers", CLASS_NAMES["oxford_flowers"]
    classes = [(name, lambda number: f"image_{number:05}.jpg") for name in names]
    _write_split(folder, "split_zhou_OxfordFlowers.json", "jpg", classes)
    images = 3 * sum(_SPLIT_SIZES.values())
    scipy.io.savemat(folder / "imagelabels.mat", {"labels": np.array([[i % 3 + 1 for i in range(images)]])})
    ids = np.arange(1, images + 1)[None]
    scipy.io.savemat(folder / "setid.mat", {"trnid": ids[:, :6], "valid": ids[:, 6:12], "tstid": ids[:, 12:]})
    (folder / "cat_to_name.json").write_text(json.dumps({str(i + 1): name for i, name in enumerate(names)}))


def _food101(root):
    folder = root / "food-101"
    names = ("apple_pie", "baby_back_ribs", "baklava")
    classes = _in_folders(*((name, name) for name in names), pattern="{number}.jpg")
    _write_split(folder, "split_zhou_Food101.json", "images", classes)
    write_text(folder / "meta" / "classes.txt", *names)
    write_text(folder / "meta" / "train.json", json.dumps({"apple_pie": ["apple_pie/1"]}))
    write_text(folder / "license_agreement.txt", "scientific fair use")


def _fgvc(root):
    folder, number = root / "fgvc_aircraft", 0
    write_text(folder / "variants.txt", *CLASS_NAMES["fgvc"])
    write_text(folder / "families.txt", "Boeing 707", "F/A-18", "Dash 8")
    for split, size in _SPLIT_SIZES.items():
        lines = []
        for _ in range(size):
            for name in CLASS_NAMES["fgvc"]:
                number += 1
                lines.append(f"{number:07} {name}")
                picture(folder / "images" / f"{number:07}.jpg")
        write_text(folder / f"images_variant_{split}.txt", *lines)
        write_text(folder / f"images_family_{split}.txt", *lines)
    picture(folder / "images" / "9999999.jpg")  # in no list


def _sun397(root):
    folder = root / "sun397"
    folders = ("a/abbey", "a/apse/indoor", "a/apartment_building/outdoor")
    names = ("abbey", "indoor apse", "outdoor apartment_building")
    classes = _in_folders(*zip(folders, names, strict=True), pattern="sun_{number:08}.jpg")
    _write_split(folder, "split_zhou_SUN397.json", "SUN397", classes)
    write_text(folder / "ClassName.txt", *(f"/{name}" for name in folders))
    write_text(folder / "Training_01.txt", "/a/abbey/sun_00000001.jpg")
    write_text(folder / "Testing_01.txt", "/a/abbey/sun_00000004.jpg")


def _dtd(root):
    folder = root / "dtd"
    classes = _in_folders(*((name, name) for name in CLASS_NAMES["dtd"]))
    split = _write_split(folder, "split_zhou_DescribableTextures.json", "images", classes)
    for key, official in (("train", "train"), ("val", "val"), ("test", "test")):
        write_text(folder / "labels" / f"{official}1.txt", *(path for path, _, _ in split[key]))
    (folder / "imdb").mkdir()
    scipy.io.savemat(folder / "imdb" / "imdb.mat", {"images": np.arange(3)})


def _eurosat(root):
    classes = _in_folders(
        ("AnnualCrop", "Annual Crop Land"),
        ("Forest", "Forest"),
        ("SeaLake", "SeaLake"),
        pattern="{folder}_{number}.jpg",
    )
    _write_split(root / "eurosat", "split_zhou_EuroSAT.json", "2750", classes)


def _ucf101(root):
    folder = root / "ucf101"
    actions = ("Apply_Eye_Makeup", "Tai_Chi", "Yo_Yo")
    classes = _in_folders(*((action, action) for action in actions), pattern="v_{folder}_g01_c{number:02}.jpg")
    _write_split(folder, "split_zhou_UCF101.json", "UCF-101-midframes", classes)
    write_text(folder / "ucfTrainTestlist" / "classInd.txt", "1 ApplyEyeMakeup", "2 TaiChi", "3 YoYo")
    write_text(folder / "ucfTrainTestlist" / "trainlist01.txt", "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1")


# -- ImageNet and its shifts -------------------------------------------------------------------------------------------


def _class_names_file(folder):
    write_text(folder / "classnames.txt", *(f"{synset} {name}" for synset, name in SYNSETS.items()))


def _synset_folders(folder, synsets, size, pattern):
    for synset in synsets:
        for number in range(1, size + 1):
            picture(folder / synset / pattern.format(synset=synset, number=number))


def _imagenet(root):
    folder = root / "imagenet"
    _synset_folders(folder / "images" / "train", SYNSETS, _SPLIT_SIZES["train"], "{synset}_{number}.JPEG")
    _synset_folders(folder / "images" / "val", SYNSETS, _SPLIT_SIZES["test"], "ILSVRC2012_val_{synset}_{number}.JPEG")
    _class_names_file(folder)


def _imagenetv2(root):
    folder = root / "imagenetv2"
    _synset_folders(
        folder / "imagenetv2-matched-frequency-format-val", ("0", "1", "2"), _SPLIT_SIZES["test"], "{number:040x}.jpeg"
    )
    _class_names_file(folder)


def _imagenet_sketch(root):
    folder = root / "imagenet-sketch"
    _synset_folders(folder / "images", SYNSETS, _SPLIT_SIZES["test"], "sketch_{number}.JPEG")
    _class_names_file(folder)


def _imagenet_a(root):
    folder = root / "imagenet-adversarial"
    _synset_folders(folder / "imagenet-a", list(SYNSETS)[:2], _SPLIT_SIZES["test"], "0.{number}_fox.jpg")
    write_text(folder / "imagenet-a" / "README.txt", "Natural adversarial examples")
    _class_names_file(folder)


def _imagenet_r(root):
    folder = root / "imagenet-rendition"
    _synset_folders(folder / "imagenet-r", list(SYNSETS)[:2], _SPLIT_SIZES["test"], "art_{number}.jpg")
    write_text(folder / "imagenet-r" / "README.txt", "Renditions")
    _class_names_file(folder)


_WRITERS = {name: globals()[f"_{name}"] for name in CATALOGUE}
