"""The data sets of the catalogue in one table, which everything else in this package reads.

Folder and file names, class names, templates and sizes of the splits are those of CoOp (arXiv 2109.01134; its
DATASETS.md and its table of data sets), which CLIP-LoRA and most of the field use. Sizes and checksums of files are
those that TensorFlow Datasets (size, SHA-256) and torchvision (MD5) publish; where neither has one there is none here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .facts import UNKNOWN, DataSet, Download, Sizes


def _drive(file_id: str) -> str:
    return f"https://drive.usercontent.google.com/download?id={file_id}&export=download&confirm=t"


def _archive(file: str, places: Mapping[str, str], urls: tuple[str, ...] = (), **facts: Any) -> tuple[Download]:
    """Return the only file that would do."""
    return (Download(file, places, urls, **facts),)


def _split_file(folder: str, file: str, file_id: str) -> tuple[Download]:
    """Return CoOp's split file, which its authors keep on Google Drive."""
    return (Download(file, {"": f"{folder}/{file}"}, (_drive(file_id),), kind="file"),)


def _class_names(folder: str) -> tuple[Download]:
    """Return CoOp's list of ImageNet's synsets and class names."""
    return (Download("classnames.txt", {"": f"{folder}/classnames.txt"}, (CLASS_NAMES_URL,), kind="file"),)


CLASS_NAMES_URL = _drive("1-61f_ol79pViBFDG_IDlUQSwoLcn2XXF")
"""CoOp's ``classnames.txt``."""
_VGG = "https://www.robots.ox.ac.uk/~vgg/data"
_PRINCETON = "https://vision.princeton.edu/projects/2010/SUN"
_BERKELEY = "https://people.eecs.berkeley.edu/~hendrycks"
_HUB = "https://huggingface.co/datasets"

_ROWS = (
    DataSet(
        name="imagenet",
        title="ImageNet (ILSVRC 2012)",
        summary="photographs of 1,000 kinds of things",
        layout="imagenet",
        folders=("imagenet/images", "imagenet", "ImageNet/images", "ImageNet"),
        classes=1000,
        sizes=Sizes(train=1_281_167, test=50_000),
        licence="non-commercial research and education, on its terms of access",
        homepage="https://image-net.org/download.php",
        needs=(
            _archive(
                "ILSVRC2012_img_train.tar",
                {"": "imagenet/images/train"},
                kind="imagenet-train",
                size=147_897_477_120,
                sha256="b08200a27a8e34218a0e58fde36b0fe8f73bc377f4acea2d91602057c3ca45bb",
            ),
            _archive(
                "ILSVRC2012_devkit_t12.tar.gz",
                {
                    f"ILSVRC2012_devkit_t12/data/{file}": f"imagenet/devkit/{file}"
                    for file in ("meta.mat", "ILSVRC2012_validation_ground_truth.txt")
                },
                kind="imagenet-devkit",
                md5="fa75699e90414af021442c21a62c3abf",
            ),
            _archive(
                "ILSVRC2012_img_val.tar",
                {"": "imagenet/images/val"},
                kind="imagenet-val",
                size=6_744_924_160,
                sha256="c7e06a6c0baccf06d8dbeb6577d71efff84673a5dbdd50633ab44f8ea0456ae0",
            ),
            _class_names("imagenet"),
        ),
    ),
    DataSet(
        name="caltech101",
        title="Caltech101",
        summary="objects; without the classes BACKGROUND_Google and Faces_easy",
        layout="split",
        folders=(
            "caltech-101/101_ObjectCategories",
            *(f"{f}/101_ObjectCategories" for f in ("Caltech101", "caltech101")),
        ),
        classes=100,
        sizes=Sizes(4_128, 1_649, 2_465),
        licence="CC BY 4.0",
        homepage="https://data.caltech.edu/records/mzrjq-6wc02",
        renamed={"airplanes": "airplane", "Faces": "face", "Leopards": "leopard", "Motorbikes": "motorbike"},
        needs=(
            (
                Download(
                    "caltech-101.zip",
                    {"101_ObjectCategories": "caltech-101/101_ObjectCategories"},
                    ("https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip?download=1",),
                    inside="caltech-101/101_ObjectCategories.tar.gz",
                    size=137_414_764,
                    sha256="331234750fc7f77520e50d9565e8b6907b03565e30320da1401130db08c61f91",
                ),
                Download(
                    "101_ObjectCategories.tar.gz",
                    {"101_ObjectCategories": "caltech-101/101_ObjectCategories"},
                    size=131_740_031,
                    sha256="af6ece2f339791ca20f855943d8b55dd60892c0a25105fcd631ee3d6430f9926",
                ),
            ),
            _split_file("caltech-101", "split_zhou_Caltech101.json", "1hyarUivQE36mY6jSomru6Fjd-JzwcCzN"),
        ),
    ),
    DataSet(
        name="oxford_pets",
        title="Oxford-IIIT Pets",
        summary="breeds of cats and dogs",
        layout="split",
        folders=("oxford_pets/images", "OxfordPets/images", "oxford-iiit-pet/images"),
        classes=37,
        sizes=Sizes(2_944, 736, 3_669),
        licence="CC BY-SA 4.0",
        homepage=f"{_VGG}/pets/",
        template="a photo of a {}, a type of pet.",
        needs=(
            _archive(
                "images.tar.gz",
                {"images": "oxford_pets/images"},
                (f"{_VGG}/pets/data/images.tar.gz",),
                size=791_918_971,
                sha256="67195c5e1c01f1ab5f9b6a5d22b8c27a580d896ece458917e61d459337fa318d",
            ),
            _split_file("oxford_pets", "split_zhou_OxfordPets.json", "1501r8Ber4nNKvmlFVQZ8SeUHTcdTTEqs"),
        ),
    ),
    DataSet(
        name="stanford_cars",
        title="Stanford Cars",
        summary="makes, models and years of cars",
        layout="split",
        folders=("stanford_cars", "StanfordCars"),
        classes=196,
        sizes=Sizes(6_509, 1_635, 8_041),
        licence=UNKNOWN,
        homepage="https://github.com/pytorch/vision/issues/7545",  # its own page is gone; here copies are pointed to
        needs=(
            _archive(
                "cars_train.tgz",
                {"cars_train": "stanford_cars/cars_train"},
                size=979_269_282,
                sha256="512b227b30e2f0a8aab9e09485786ab4479582073a144998da74d64b801fd288",
            ),
            _archive(
                "cars_test.tgz",
                {"cars_test": "stanford_cars/cars_test"},
                size=977_350_468,
                sha256="bffea656d6f425cba3c91c6d83336e4c5f86c6cffd8975b0f375d3a10da8e243",
            ),
            _split_file("stanford_cars", "split_zhou_StanfordCars.json", "1ObCFbaAgVu0I-k_Au-gIUcefirdAuizT"),
        ),
    ),
    DataSet(
        name="oxford_flowers",
        title="Oxford Flowers 102",
        summary="flowers of the British Isles",
        layout="split",
        folders=("oxford_flowers/jpg", "Flower102/jpg", "flowers-102/jpg"),
        classes=102,
        sizes=Sizes(4_093, 1_633, 2_463),
        licence=UNKNOWN,
        homepage=f"{_VGG}/flowers/102/",
        template="a photo of a {}, a type of flower.",
        needs=(
            _archive(
                "102flowers.tgz",
                {"jpg": "oxford_flowers/jpg"},
                (f"{_VGG}/flowers/102/102flowers.tgz",),
                size=344_862_509,
                sha256="2d01ecc807db462958cfe3d92f57a8c252b4abd240eb955770201e45f783b246",
            ),
            _split_file("oxford_flowers", "split_zhou_OxfordFlowers.json", "1Pp0sRXzZFZq15zVOzKjKBu4A9i01nozT"),
        ),
    ),
    DataSet(
        name="food101",
        title="Food-101",
        summary="dishes",
        layout="split",
        folders=("food-101/images", "Food101/images", "food101/images"),
        classes=101,
        sizes=Sizes(50_500, 20_200, 30_300),
        licence="scientific fair use: the pictures belong to users of Foodspotting",
        licence_page="https://huggingface.co/datasets/ethz/food101",
        homepage="https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
        template="a photo of {}, a type of food.",
        needs=(
            _archive(
                "food-101.tar.gz",
                {"food-101/images": "food-101/images"},
                ("http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",),
                size=4_996_278_331,
                sha256="d97d15e438b7f4498f96086a4f7e2fa42a32f2712e87d3295441b2b6314053a4",
            ),
            _split_file("food-101", "split_zhou_Food101.json", "1QK0tGi096I0Ba6kggatX1ee6dJFIcEJl"),
        ),
    ),
    DataSet(
        name="fgvc",
        title="FGVC Aircraft (2013b)",
        summary="variants of aircraft",
        layout="aircraft",
        folders=("fgvc_aircraft/images", "fgvc-aircraft-2013b/data/images", "FGVCAircraft/images"),
        classes=100,
        sizes=Sizes(3_334, 3_333, 3_333),
        licence="non-commercial research",
        homepage=f"{_VGG}/fgvc-aircraft/",
        template="a photo of a {}, a type of aircraft.",
        needs=(
            _archive(
                "fgvc-aircraft-2013b.tar.gz",
                {
                    f"fgvc-aircraft-2013b/data/{part}": f"fgvc_aircraft/{part}"
                    for part in (
                        "variants.txt",
                        *(f"images_variant_{split}.txt" for split in ("train", "val", "test")),
                        "images",
                    )
                },
                (f"{_VGG}/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",),
                rounded_size=2_750_000_000,
                md5="d4acdd33327262359767eeaa97a4f732",
            ),
        ),
    ),
    DataSet(
        name="sun397",
        title="SUN397",
        summary="scenes",
        layout="split",
        folders=("sun397/SUN397", "SUN397/SUN397", "SUN397"),
        classes=397,
        sizes=Sizes(15_880, 3_970, 19_850),
        licence=UNKNOWN,
        homepage=f"{_PRINCETON}/",
        needs=(
            _archive(
                "SUN397.tar.gz",
                {"SUN397": "sun397/SUN397"},
                (f"{_PRINCETON}/SUN397.tar.gz",),
                size=39_077_296_924,
                sha256="f404130965a7ad77bed5ececc71e720ab50f3cc1e1bb257257610d38f3b928ec",
            ),
            _split_file("sun397", "split_zhou_SUN397.json", "1y2RD81BYuiyvebdN-JymPfyWYcd8_MUq"),
        ),
    ),
    DataSet(
        name="dtd",
        title="Describable Textures (DTD, r1.0.1)",
        summary="textures in words that describe them",
        layout="split",
        folders=("dtd/images", "DTD/images", "dtd/dtd/images"),
        classes=47,
        sizes=Sizes(2_820, 1_128, 1_692),
        licence="research",
        homepage=f"{_VGG}/dtd/",
        template="{} texture.",
        needs=(
            _archive(
                "dtd-r1.0.1.tar.gz",
                {"dtd/images": "dtd/images"},
                (f"{_VGG}/dtd/download/dtd-r1.0.1.tar.gz",),
                size=625_239_812,
                sha256="e42855a52a4950a3b59612834602aa253914755c95b0cff9ead6d07395f8e205",
            ),
            _split_file("dtd", "split_zhou_DescribableTextures.json", "1u3_QfB467jqHgNXC00UIzbLZRQCg2S7x"),
        ),
    ),
    DataSet(
        name="eurosat",
        title="EuroSAT (RGB)",
        summary="land use seen from the satellite Sentinel-2",
        layout="split",
        folders=("eurosat/2750", "EuroSAT/2750", "eurosat/EuroSAT/2750"),
        classes=10,
        sizes=Sizes(13_500, 5_400, 8_100),
        licence="MIT",
        homepage="https://github.com/phelber/EuroSAT",
        template="a centered satellite photo of {}.",
        renamed={
            "AnnualCrop": "Annual Crop Land",
            "HerbaceousVegetation": "Herbaceous Vegetation Land",
            "Highway": "Highway or Road",
            "Industrial": "Industrial Buildings",
            "Pasture": "Pasture Land",
            "PermanentCrop": "Permanent Crop Land",
            "Residential": "Residential Buildings",
            "SeaLake": "Sea or Lake",
        },
        needs=(
            _archive(
                "EuroSAT.zip",
                {"2750": "eurosat/2750"},
                (
                    f"{_HUB}/torchgeo/eurosat/resolve/c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
                    "http://madm.dfki.de/files/sentinel/EuroSAT.zip",
                ),
                size=94_280_567,
                sha256="8ebea626349354c5328b142b96d0430e647051f26efc2dc974c843f25ecf70bd",
            ),
            _split_file("eurosat", "split_zhou_EuroSAT.json", "1Ip7yaCWFi0eaOFUGga0lUdVi_DDQth1o"),
        ),
    ),
    DataSet(
        name="ucf101",
        title="UCF101 (middle frames)",
        summary="actions of people, the middle frame of each video",
        layout="split",
        folders=("ucf101/UCF-101-midframes", "UCF101/UCF-101-midframes"),
        classes=101,
        sizes=Sizes(7_639, 1_898, 3_783),
        licence=UNKNOWN,
        homepage="https://www.crcv.ucf.edu/data/UCF101.php",
        template="a photo of a person doing {}.",
        needs=(
            _archive(
                "UCF-101-midframes.zip",
                {"UCF-101-midframes": "ucf101/UCF-101-midframes"},
                (_drive("10Jqome3vtUA2keJkNanAiFpgbyC9Hc2O"),),
            ),
            _split_file("ucf101", "split_zhou_UCF101.json", "1I0S0q91hJfsV9Gf4xDIjgDq4AqBNJb1y"),
        ),
    ),
    DataSet(
        name="imagenetv2",
        title="ImageNetV2 (matched frequency)",
        summary="ImageNet's classes, photographed and chosen ten years later; to test on",
        layout="numbers",
        folders=(
            "imagenetv2/imagenetv2-matched-frequency-format-val",
            "imagenetv2-matched-frequency-format-val",
            "imagenet-v2/imagenetv2-matched-frequency-format-val",
        ),
        classes=1000,
        sizes=Sizes(test=10_000),
        licence="as ImageNet; MIT is for its code alone",
        homepage="https://github.com/modestyachts/ImageNetV2",
        needs=(
            _archive(
                "imagenetv2-matched-frequency.tar.gz",
                {"imagenetv2-matched-frequency-format-val": ("imagenetv2/imagenetv2-matched-frequency-format-val")},
                (f"{_HUB}/vaishaal/ImageNetV2/resolve/main/imagenetv2-matched-frequency.tar.gz",),
                size=1_264_079_360,
                sha256="f0c37fdf925916b19ea1323cd9a2208cdb6959ba2c32eef2a7fc393835c9ca7c",
            ),
            _class_names("imagenetv2"),
        ),
    ),
    DataSet(
        name="imagenet_sketch",
        title="ImageNet-Sketch",
        summary="ImageNet's classes as black and white sketches; to test on",
        layout="synsets",
        folders=("imagenet-sketch/images", "imagenet-sketch/sketch", "imagenet-sketch", "sketch"),
        classes=1000,
        sizes=Sizes(test=50_889),
        licence="MIT",
        homepage="https://github.com/HaohanWang/ImageNet-Sketch",
        needs=(
            _archive(
                "ImageNet-Sketch.zip",
                {"sketch": "imagenet-sketch/images"},
                (_drive("1Mj0i5HBthqH1p_yeXzsg22gZduvgoNeA"),),
                size=7_593_573_012,
                sha256="4d3ce6b82a7c48aabf14aeac105eb533e75707f152cc858f55bfc022031a72ed",
            ),
            _class_names("imagenet-sketch"),
        ),
    ),
    DataSet(
        name="imagenet_a",
        title="ImageNet-A",
        summary="photographs of 200 of ImageNet's classes that ResNet-50 takes for others; to test on",
        layout="synsets",
        folders=("imagenet-adversarial/imagenet-a", "imagenet-a"),
        classes=200,
        sizes=Sizes(test=7_500),
        licence="MIT",
        homepage="https://github.com/hendrycks/natural-adv-examples",
        needs=(
            _archive(
                "imagenet-a.tar",
                {"imagenet-a": "imagenet-adversarial/imagenet-a"},
                (f"{_BERKELEY}/imagenet-a.tar",),
                size=687_552_512,
                sha256="3bb3632277e6ba6392ea64c02ddbf4dd2266c9caffd6bc09c9656d28f012589e",
            ),
            _class_names("imagenet-adversarial"),
        ),
    ),
    DataSet(
        name="imagenet_r",
        title="ImageNet-R",
        summary="art, cartoons, toys and other renditions of 200 of ImageNet's classes; to test on",
        layout="synsets",
        folders=("imagenet-rendition/imagenet-r", "imagenet-r"),
        classes=200,
        sizes=Sizes(test=30_000),
        licence=UNKNOWN,
        homepage="https://github.com/hendrycks/imagenet-r",
        needs=(
            _archive(
                "imagenet-r.tar",
                {"imagenet-r": "imagenet-rendition/imagenet-r"},
                (f"{_BERKELEY}/imagenet-r.tar",),
                size=2_191_079_936,
                sha256="18c6bf493b39a0d975d48e587437f562caab9c52ae6327dcfa9dd8eb54aa1b52",
            ),
            _class_names("imagenet-rendition"),
        ),
    ),
)

CATALOGUE: dict[str, DataSet] = {row.name: row for row in _ROWS}
"""Name -> its row: the eleven of few-shot papers, then ImageNet's four shifts."""
