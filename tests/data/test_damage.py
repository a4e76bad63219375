"""Files that are damaged and decoded all the same: none is passed over in silence, and none that is whole is blamed."""

import io
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from data.image_files import noise, photograph, saved
from lowshot.data import (
    FileImages,
    assembling,
    bad_images_explained,
    check_images,
    checking,
    damage,
    decode_image,
    examine,
    joined,
    load_task,
    task_from,
    task_of_arrays,
)
from lowshot.data.damage import examined
from lowshot.data.images import ImagesOnDemand
from lowshot.data.jpeg import Jpeg
from lowshot.data.metadata import without_metadata
from lowshot.data.store import DecodedOnce
from lowshot.errors import DataError, ImageError
from lowshot.progress import silent
from refusing import refused

PHOTOGRAPH = photograph(120, 168)


def cut(jpeg, share=0.4):
    """A JPEG that has lost the rest of its data, with its end mark in its place."""
    return jpeg[: int(share * len(jpeg))] + b"\xff\xd9"


def without_scan(jpeg, number):
    """A progressive JPEG without all from this scan on."""
    place = -1
    for _ in range(number + 1):
        place = jpeg.index(b"\xff\xda", place + 1)
    return jpeg[:place] + b"\xff\xd9"


def without_restart(jpeg):
    """A JPEG that has lost what is between two of its restarts."""
    begin, end = jpeg.index(b"\xff\xd1"), jpeg.index(b"\xff\xd2")
    return jpeg[:begin] + jpeg[end:]


def changed(content, place, value):
    return content[:place] + bytes([content[place] ^ value]) + content[place + 1 :]


def run_length_bmp(*runs):
    """A BMP of 4 x 2 grey pixels in runs, which Pillow reads and does not write."""
    header = struct.pack("<IiiHHIIiiII", 40, 4, 2, 1, 8, 1, 0, 0, 0, 256, 0)
    palette = b"".join(bytes([level, level, level, 0]) for level in range(256))
    begin = 14 + len(header) + len(palette)
    body = bytes(runs)
    return b"BM" + struct.pack("<IHHI", begin + len(body), 0, 0, begin) + header + palette + body


JPEG, PNG = saved(PHOTOGRAPH, "JPEG", quality=90), saved(PHOTOGRAPH)
PROGRESSIVE = saved(PHOTOGRAPH, "JPEG", progressive=True)
RESTARTS = saved(PHOTOGRAPH, "JPEG", restart_marker_rows=1)
FAX = saved(PHOTOGRAPH.convert("1"), "TIFF", compression="group4")
WHOLE = {
    "jpeg": JPEG,
    "jpeg of flat colour": saved(Image.new("RGB", (97, 50), (128, 128, 128)), "JPEG"),
    "grey jpeg": saved(PHOTOGRAPH.convert("L"), "JPEG"),
    "cmyk jpeg": saved(PHOTOGRAPH.convert("CMYK"), "JPEG"),
    "progressive jpeg": PROGRESSIVE,
    "progressive grey jpeg": saved(PHOTOGRAPH.convert("L"), "JPEG", progressive=True),
    "jpeg with restarts": RESTARTS,
    "jpeg with restarts in blocks": saved(Image.new("RGB", (50, 97)), "JPEG", restart_marker_blocks=3),
    "jpeg with something behind it": JPEG + b"\xff\xd8\xffmore",
    "png": PNG,
    "palette png": saved(PHOTOGRAPH.convert("P")),
    "bmp": saved(PHOTOGRAPH, "BMP"),
    "bmp in runs": run_length_bmp(4, 9, 0, 0, 0, 3, 1, 2, 3, 0, 1, 5, 0, 1),
    "fax": FAX,
    "lzw tiff": saved(PHOTOGRAPH, "TIFF", compression="tiff_lzw"),
    "gif": saved(PHOTOGRAPH.convert("P"), "GIF"),
    "webp": saved(PHOTOGRAPH, "WEBP"),
}
DAMAGED = {
    "jpeg cut short": (cut(JPEG), "lacks some of its data"),
    "jpeg cut near its end": (cut(JPEG, 0.97), "lacks some of its data"),
    "progressive jpeg cut short": (cut(PROGRESSIVE), "lacks scans"),
    "progressive jpeg without its last scan": (without_scan(PROGRESSIVE, 9), "lacks scans"),
    "progressive jpeg that lacks data in a scan": (
        PROGRESSIVE[: PROGRESSIVE.index(b"\xff\xda") + 40] + PROGRESSIVE[PROGRESSIVE.index(b"\xff\xda") + 300 :],
        "lacks some of its data",
    ),
    "jpeg without a restart": (without_restart(RESTARTS), "lacks 1 of its 8 intervals"),
    "jpeg that lacks data before a restart": (
        RESTARTS[: RESTARTS.index(b"\xff\xd2") - 60] + RESTARTS[RESTARTS.index(b"\xff\xd2") :],
        "lacks some of its data",
    ),
    "png with another checksum": (changed(PNG, len(PNG) - 13, 1), "has a IDAT chunk with another checksum"),
    "bmp with a run too long": (run_length_bmp(5, 9, 0, 0, 4, 1, 0, 1), "has runs of pixels that leave the image"),
    "bmp with rows too many": (
        run_length_bmp(4, 9, 0, 0, 4, 1, 0, 0, 4, 1, 0, 1),
        "has runs of pixels that leave the image",
    ),
    "bmp without an end": (run_length_bmp(4, 9, 0, 0, 4, 1), "lacks the end of its runs"),
    "fax with a wrong code": (changed(FAX, 300, 255), "fault(s) in its data, such as: "),
}


@pytest.fixture
def look(tmp_path):
    def look(content):
        path = tmp_path / "image"
        path.write_bytes(content)
        decode_image(path)  # it can be decoded
        return examined(FileImages([path]), 0).faults

    return look


@pytest.mark.parametrize("kind", WHOLE)
def test_files_that_are_whole_have_no_faults(kind, look):
    assert look(WHOLE[kind]) == ()


@pytest.mark.parametrize("kind", ["progressive jpeg", "jpeg with restarts", "jpeg of flat colour"])
def test_a_jpeg_of_more_pixels_than_pillow_opens_by_itself_has_no_faults(kind, look, monkeypatch):
    """Pillow's own cap is at 179 megapixels, and what it raised was taken for damage."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert look(WHOLE[kind]) == ()


def test_a_jpeg_with_metadata_that_pillow_refuses_lacks_no_data(look):
    icc = b"ICC_PROFILE\0"
    content = PROGRESSIVE[:2] + b"\xff\xe2" + struct.pack(">H", 2 + len(icc)) + icc + PROGRESSIVE[2:]
    with pytest.raises(OSError):
        Image.open(io.BytesIO(content))
    assert look(content) == ("has damaged metadata, which is passed over",)


def test_a_scan_of_no_colours_is_none():
    empty = b"\xff\xda" + struct.pack(">HBBBB", 6, 0, 0, 63, 0)
    jpeg = Jpeg.of(RESTARTS[:-2] + empty + RESTARTS[-2:])
    assert len(jpeg.scans) == 1 and jpeg.lost_intervals() == ""


def test_what_is_no_data_is_jumped_over():
    """32 MB of zeros took seconds, byte by byte."""
    content = JPEG[:3] + bytes(4 << 20) + JPEG[2:]
    started = time.thread_time()
    assert Jpeg.of(content)._replace(scans=[]) == Jpeg.of(JPEG)._replace(scans=[])
    assert without_metadata(content) == without_metadata(JPEG)
    assert time.thread_time() - started < 0.2


@pytest.mark.parametrize("kind", DAMAGED)
def test_damage_is_found(kind, look):
    content, sentence = DAMAGED[kind]

    [fault] = look(content)

    assert sentence in fault


def test_grey_levels_are_among_the_faults_whatever_was_decoded_before(tmp_path):
    path = tmp_path / "dark.png"
    path.write_bytes(saved(Image.fromarray(np.array([[7, 4095]], np.uint16))))
    task = task_of_arrays([path, noise()], ["a", "b"])

    assert "has grey levels from 7 to 4095" in examined(DecodedOnce(ImagesOnDemand([path]), 1 << 20, 0), 0).faults[0]
    assert examine(task.train, silent)[1][0].startswith(f"{path} has grey levels from 7 to 4095")


# -- what libtiff says -------------------------------------------------------------------------------------------------


def test_what_libtiff_says_is_counted_for_its_file_and_not_written(look, capfd):
    broken = changed(FAX, 300, 255)
    quiet = saved(PHOTOGRAPH.convert("1"), "TIFF", compression="group4")

    with ThreadPoolExecutor(2) as pool:
        faults = list(pool.map(lambda content: examined(_Bytes(content), 0).faults, [broken, quiet] * 10))

    assert capfd.readouterr().err == ""
    assert [len(each) for each in faults] == [1, 0] * 10
    assert len({each for each in faults if each}) == 1


def test_others_hear_libtiff_as_before(capfd):
    decode_image(FAX)
    Image.open(io.BytesIO(changed(FAX, 300, 255))).load()

    assert "Fax4" in capfd.readouterr().err


def test_what_pillow_logs_of_a_damaged_file_is_not_written(capfd):
    content = bytearray(saved(Image.fromarray(noise()), "TIFF"))
    place = content.index(struct.pack("<HH", 277, 3))
    content[place + 8 : place + 10] = b"\xff\xff"
    with pytest.raises(DataError):
        decode_image(bytes(content))
    assert capfd.readouterr().err == ""


class _Bytes:
    def __init__(self, content):
        self.content = content

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return decode_image(self.content)


# -- where it is said --------------------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path):
    """Two classes of three images, of which one is damaged and one cannot be read."""
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "photos" / name / f"{number}.jpg").write_bytes(saved(photograph(40, 40, number), "JPEG"))
    (tmp_path / "photos" / "cat" / "1.jpg").write_bytes(cut(saved(photograph(40, 40), "JPEG"), 0.8))
    (tmp_path / "photos" / "dog" / "2.jpg").write_bytes(b"no image")
    return tmp_path / "photos"


def test_a_check_lists_what_is_damaged_apart_from_what_cannot_be_read(photos):
    checked = check_images(load_task(photos, "later"))

    assert (len(checked.corrupt), len(checked.damaged)) == (1, 1)
    assert checked.damaged[0].startswith(f"train: {photos / 'cat' / '1.jpg'} lacks some of its data")


@pytest.mark.parametrize(("setting", "left"), [("skip", 5), ("skip-damaged", 4)])
def test_bad_images_are_left_out_and_damaged_ones_where_that_is_asked_for(photos, setting, left):
    warnings = []

    task = load_task(photos, setting, warnings)

    assert len(task.train) == left
    assert len([line for line in warnings if line.startswith("left out")]) == 6 - left
    assert any("1.jpg lacks some of its data" in line for line in warnings) == (setting == "skip-damaged")


def test_damaged_images_are_an_error_where_that_is_asked_for(photos):
    load_task(photos, "error")
    with refused(ImageError, "1.jpg", "lacks"):
        load_task(photos, "error-damaged")


def test_skip_does_not_look_for_damage(photos, monkeypatch):
    def examined(images, index):
        raise AssertionError("damage was looked for")

    monkeypatch.setattr(assembling, "examined", examined)

    assert len(load_task(photos, "skip").train) == 5


@pytest.mark.parametrize(("setting", "way_out"), [("error", "skip"), ("error-damaged", "skip-damaged")])
def test_what_stops_at_an_image_names_the_setting_that_leaves_it_out(setting, way_out):
    """``skip`` learns from the very image that ``error-damaged`` stops at."""
    with refused(ImageError, "a lacks scans", f"--on-bad-image {way_out}"), bad_images_explained(setting):
        raise ImageError("a lacks scans")


def test_rows_without_a_file_name_the_setting_that_looks_for_damage_too(photos):
    table = photos / "table.csv"
    table.write_text("file_name,label\ncat/0.jpg,cat\ndog/0.jpg,dog\ndog/7.jpg,dog\n")
    with refused(DataError, "1 of 3", "dog/7.jpg", "--on-bad-image skip-damaged"):
        load_task(table, "error-damaged")


# -- images with their labels in Python --------------------------------------------------------------------------------


def listed(photos):
    """Paths of the photos, and bytes of one of each class, with their labels."""
    images = [*sorted(photos.glob("*/*.jpg")), (photos / "cat/1.jpg").read_bytes(), (photos / "dog/0.jpg").read_bytes()]
    return images, ["cat"] * 3 + ["dog"] * 3 + ["cat", "dog"]


@pytest.mark.parametrize(("setting", "left"), [("skip", [0, 1, 2, 3, 4, 6, 7]), ("skip-damaged", [0, 2, 3, 4, 7])])
def test_bad_images_of_a_list_are_left_out(photos, setting, left):
    images, labels = listed(photos)
    warnings = []

    task = task_from(images, labels, setting, warnings)

    assert [task.train.images.source(row) for row in range(len(task.train))] == [images[row] for row in left]
    assert [task.class_names[label] for label in task.train.labels] == [labels[row] for row in left]
    without = task_of_arrays([images[row] for row in left], [labels[row] for row in left])
    assert task.train.identities == without.train.identities
    assert len(warnings) == 8 - len(left) and warnings[-1].startswith(f"left out: {photos / 'dog' / '2.jpg'}") == (
        setting == "skip"
    )
    assert setting == "skip" or warnings[-1].startswith("left out: images[6] lacks some of its data")


def test_a_class_of_a_list_without_a_good_image_is_named(photos):
    images, labels = listed(photos)
    with refused(DataError, "class 'bad'", "can be decoded"):
        task_from([*images, b"none"], [*labels, "bad"], "skip")


@pytest.mark.parametrize(("setting", "facts"), [("error", ("2.jpg", "AVIF")), ("error-damaged", ("1.jpg", "lacks"))])
def test_a_classifier_obeys_the_setting_also_for_a_list(photos, setting, facts):
    """It learnt from damaged files, while its record said that they had been refused."""
    from lowshot import FewShotClassifier

    with refused(ImageError, *facts):
        FewShotClassifier(method="nearest-mean", on_bad_image=setting).fit(*listed(photos))
    skipping = FewShotClassifier(method="nearest-mean", on_bad_image="skip-damaged")
    assert len(skipping.task(*listed(photos)).train) == 5
    assert len([line for line in skipping.warnings_ if line.startswith("left out: ")]) == 3


def test_damage_in_what_is_learnt_is_told_by_name_ten_times_at_most(photos):
    (photos / "dog" / "2.jpg").unlink()
    task = load_task(photos)
    contents, lines = examine(task.train, silent)
    assert (len(contents), len(lines)) == (5, 1)
    assert lines[0].startswith(f"{photos / 'cat' / '1.jpg'} lacks some of its data")

    many = task_of_arrays([photos / "cat" / "1.jpg", *[photos / "cat" / "1.jpg"] * 12], ["a", *["b"] * 12])
    _, lines = examine(many.train, silent)
    assert (len(lines), lines[-1]) == (11, "3 more images are damaged; lowshot data check lists them all")


def test_images_are_counted_and_not_their_faults(photos, monkeypatch):
    twice = damage.Examined("content", ("is dark", "lacks its end"))
    monkeypatch.setattr(damage, "examined", lambda images, index: twice)
    monkeypatch.setattr(checking, "examined", lambda images, index: twice)
    task = load_task(photos)

    _, lines = examine(task.train, silent)

    assert (len(lines), lines[0]) == (6, f"{photos / 'cat' / '0.jpg'} is dark; lacks its end")
    assert len(check_images(task).damaged) == 6


def test_the_damage_of_images_in_memory_is_known_also_behind_others():
    plain, hidden = Image.new("L", (9, 9)), Image.new("LA", (9, 9))
    first = task_of_arrays([plain, plain], ["a", "b"]).train
    second = task_of_arrays([hidden, plain], ["a", "b"]).train

    faults = [examined(joined(first, second, second.labels).images, row).faults for row in range(4)]

    assert [len(each) for each in faults] == [0, 0, 1, 0]
    assert "transparent" in faults[2][0]


def test_a_fit_warns_of_damaged_images(photos):
    from lowshot import FewShotClassifier

    (photos / "dog" / "2.jpg").unlink()
    classifier = FewShotClassifier(method="nearest-mean").fit(photos)

    assert [line for line in classifier.warnings_ if "1.jpg lacks some of its data" in line]
