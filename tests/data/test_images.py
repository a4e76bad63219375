import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from data.image_files import noise, saved
from lowshot.data import FileImages, ImagesOnDemand, MemoryImages, as_pixels
from lowshot.data.images import is_decoded
from lowshot.data.task import ImageSubset
from lowshot.errors import DataError, ImageError
from refusing import refused

# -- what Python callers pass ------------------------------------------------------------------------------------------


def test_paths_strings_pil_images_and_arrays_are_the_same_image(tmp_path):
    pixels, path = noise(), tmp_path / "image.png"
    Image.fromarray(pixels).save(path)

    for image in (path, str(path), Image.open(path), Image.fromarray(pixels), pixels, pixels / 255.0):
        assert np.array_equal(as_pixels(image), pixels)


def test_grey_arrays_become_rgb():
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)

    assert np.array_equal(as_pixels(grey), np.stack([grey] * 3, axis=-1))
    assert as_pixels(np.full((3, 4), 0.5, np.float32))[0, 0].tolist() == [128, 128, 128]


def test_a_pil_image_that_turns_out_truncated_is_refused():
    with pytest.raises(DataError, match="image cannot be decoded"):
        as_pixels(Image.open(io.BytesIO(saved(Image.fromarray(noise(64, 64)), "JPEG")[:900])))


def test_a_pil_image_of_a_mode_that_cannot_be_converted_is_refused():
    with refused(ImageError, "decoded", "conversion from La"):
        as_pixels(Image.new("LA", (4, 4)).convert("La"))


@pytest.mark.parametrize(
    ("image", "facts"),
    [
        (np.zeros((4, 4, 4), np.uint8), ("(4, 4, 4)", "(height, width)", "(height, width, 3)")),
        (np.zeros((3, 4, 5), np.uint8), ("shape (3, 4, 5)",)),
        (np.zeros((4, 4, 1), np.uint8), ("shape (4, 4, 1)",)),
        (np.zeros((1, 4, 4, 3), np.uint8), ("shape (1, 4, 4, 3)",)),
        (np.zeros(4, np.uint8), ("shape (4,)",)),
        (np.zeros((), np.uint8), ("shape ()",)),
        (np.zeros((0, 4), np.uint8), ("shape (0, 4, 3)",)),
        (np.zeros((4, 0, 3)), ("shape (4, 0, 3)",)),
        (np.full((4, 4), 1.01), ("float64", "1.01 to 1.01", "uint8")),
        (np.full((4, 4), -0.01), ("float64", "-0.01 to -0.01")),
        (np.full((4, 4), 255.0, np.float32), ("float32", "255.0 to 255.0")),
        (np.array([[0.5, np.nan]]), ("float64", "nan to nan")),
        (np.array([[0.5, np.inf]]), ("float64", "0.5 to inf")),
        (np.zeros((4, 4), np.int64), ("int64", "0 to 0")),
        (np.zeros((4, 4), bool), ("values of bool", "uint8")),
        (np.array([["a"]]), ("values of <U1", "uint8")),
        (np.array([[None]]), ("values of object", "uint8")),
        (np.zeros((1, 4000, 3), np.uint8), ("array", "4000 x 1", "1:50")),
        (Image.new("RGB", (1, 4000)), ("1 x 4000",)),
        (Image.new("RGB", (0, 0)), ("0 x 0",)),
        (None, ("NoneType", "a path")),
        ([[1, 2]], ("an image", "a list")),
        (b"bytes", ("image", "AVIF")),
    ],
)
def test_what_is_no_image_is_refused(image, facts):
    with refused(ImageError, *facts):
        as_pixels(image)


def test_what_is_no_image_in_a_list_is_named_by_its_index_and_a_file_by_its_path(tmp_path):
    images = ImagesOnDemand([noise(), None, tmp_path / "none.png"])

    with refused(ImageError, "images[1]", "NoneType", "a path"):
        images[1]
    with refused(ImageError, tmp_path / "none.png", "does not exist"):
        images[2]


def test_a_picture_that_several_threads_ask_for_is_whole_for_each():
    pixels = noise(200, 200)
    for _ in range(20):
        picture = Image.open(io.BytesIO(saved(Image.fromarray(pixels))))
        with ThreadPoolExecutor(4) as pool:
            for image in pool.map(as_pixels, [picture] * 4):
                assert np.array_equal(image, pixels)


# -- sequences of images -----------------------------------------------------------------------------------------------


def test_files_are_decoded_when_asked_for(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    images = FileImages(paths)
    for i, path in enumerate(paths):
        Image.fromarray(noise(seed=i)).save(path)

    assert len(images) == 3
    assert [np.array_equal(images[i], noise(seed=i)) for i in range(3)] == [True] * 3
    paths[0].unlink()
    with pytest.raises(DataError, match=r"0\.png does not exist"):
        images[0]


def test_images_in_memory_may_differ_in_size():
    pictures = [noise(4, 5), noise(6, 3)]

    images = MemoryImages(pictures)

    assert len(images) == 2
    assert [image.shape for image in (images[0], images[1])] == [(4, 5, 3), (6, 3, 3)]


def test_only_arrays_in_memory_and_parts_of_them_are_decoded_already(tmp_path):
    memory, files = MemoryImages(np.zeros((3, 2, 2, 3), np.uint8)), FileImages([tmp_path / "a.png"])

    assert is_decoded(memory)
    assert is_decoded(ImageSubset(ImageSubset(memory, [2, 1]), [0]))
    assert not is_decoded(files)
    assert not is_decoded(ImageSubset(files, [0]))
    assert not is_decoded(ImagesOnDemand([noise()]))
