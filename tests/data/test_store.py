import errno
import gc
import os
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lowshot.data import FileImages, MemoryImages
from lowshot.data import store as module
from lowshot.data.store import DecodedOnce, decoded_once
from lowshot.data.task import ImageSubset
from lowshot.errors import DataError

EVERYTHING = 1 << 30
PLENTY = 100 << 30  # free on a disk


def picture(index):
    """An image whose size and pixels depend on its index; between 3 and 270 bytes."""
    generator = np.random.default_rng(index)
    height, width = generator.integers(1, 10, 2)
    return generator.integers(0, 256, (height, width, 3), dtype=np.uint8)


class Source:
    """Images made when asked for, and a count of how often each was."""

    def __init__(self, count, make=picture, seconds=0.0):
        self.asked = [0] * count
        self.make, self.seconds = make, seconds

    def __len__(self):
        return len(self.asked)

    def __getitem__(self, index):
        self.asked[index] += 1
        time.sleep(self.seconds)
        return self.make(index)


@pytest.fixture(autouse=True, scope="module")
def a_disk_with_room():
    """Whatever machine the tests run on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_LEFT_FREE_BYTES", 0)
        yield


def open_files():
    """Deleted files that this process still holds, and their sizes."""
    sizes = {}
    for link in Path("/proc/self/fd").iterdir():
        try:
            if link.readlink().name.endswith(" (deleted)"):
                sizes[link.name] = link.stat().st_size
        except FileNotFoundError:  # the listing's own
            continue
    return sizes


linux = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks Linux's /proc")


# -- the same images, decoded once -------------------------------------------------------------------------------------


@given(st.lists(st.integers(-6, 5), max_size=40), st.integers(0, 600), st.integers(0, 600), st.integers(1, 400))
def test_whatever_the_caps_every_image_is_that_of_the_source(indices, memory_bytes, disk_bytes, mapped_bytes):
    source = Source(6)
    store = DecodedOnce(source, memory_bytes, disk_bytes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_MAPPED_BYTES", mapped_bytes)
        answers = [store[index] for index in indices]

    assert len(store) == 6
    for index, pixels in zip(indices, answers, strict=True):
        assert np.array_equal(pixels, picture(index % 6))
    assert sum(image.nbytes for image in store._kept.values()) == store._kept_bytes <= memory_bytes
    assert store._spill._bytes <= disk_bytes


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(0, 2000))
def test_while_the_caps_suffice_nothing_is_decoded_twice(indices, memory_bytes):
    source = Source(6)
    store = DecodedOnce(source, memory_bytes, disk_bytes=2000)

    for index in indices:
        store[index]

    assert source.asked == [int(index in indices) for index in range(6)]


def test_beyond_both_caps_images_are_decoded_again():
    source = Source(4, lambda index: np.full((2, 5, 3), index, np.uint8))  # 30 bytes each
    store = DecodedOnce(source, memory_bytes=30, disk_bytes=59)

    for _ in range(5):
        assert [int(store[index].mean()) for index in range(4)] == [0, 1, 2, 3]

    assert source.asked == [1, 1, 5, 5]


def test_what_was_decoded_outlives_its_file(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for i, path in enumerate(paths):
        Image.fromarray(picture(i)).save(path)
    store = DecodedOnce(FileImages(paths), memory_bytes=picture(0).nbytes, disk_bytes=EVERYTHING)
    store[0], store[1]
    for path in paths:
        path.unlink()

    assert np.array_equal(store[0], picture(0))
    assert np.array_equal(store[1], picture(1))
    with pytest.raises(DataError, match=r"2\.png does not exist"):
        store[2]


@pytest.mark.parametrize(("memory_bytes", "disk_bytes"), [(EVERYTHING, 0), (0, EVERYTHING), (0, 0)])
def test_nobody_can_change_an_image_for_others(memory_bytes, disk_bytes):
    original = picture(0)
    store = DecodedOnce(Source(1, lambda index: original), memory_bytes, disk_bytes)

    for _ in range(2):
        with pytest.raises(ValueError, match="read-only"):
            store[0][:] = 0
    assert original.flags.writeable


def test_indices_are_those_of_a_sequence():
    store = DecodedOnce(Source(3), EVERYTHING, 0)

    assert np.array_equal(store[np.int64(-1)], picture(2))
    for index in (3, -4):
        with pytest.raises(IndexError):
            store[index]
    assert [pixels.shape for pixels in store] == [picture(i).shape for i in range(3)]


def test_views_and_mirror_images_are_kept_as_they_look():
    images = [picture(i)[::-1, ::-1].transpose(1, 0, 2) for i in range(3)]
    store = DecodedOnce(Source(3, images.__getitem__), images[0].nbytes, EVERYTHING)

    for _ in range(2):
        assert all(np.array_equal(store[i], images[i]) for i in range(3))


def test_images_that_are_decoded_already_need_no_store():
    memory = MemoryImages(np.zeros((3, 2, 2, 3), np.uint8))
    subset, store = ImageSubset(memory, [2, 0]), DecodedOnce(Source(3), 1, 1)

    assert decoded_once(memory, 10, 10) is memory
    assert decoded_once(subset, 10, 10) is subset
    assert decoded_once(store, 10, 10) is store
    of_store = ImageSubset(ImageSubset(store, [0]), [0])
    assert decoded_once(of_store, 10, 10) is of_store
    assert isinstance(decoded_once(ImageSubset(Source(3), [0]), 10, 10), DecodedOnce)


# -- the temporary file ------------------------------------------------------------------------------------------------


def test_images_from_the_file_are_views_of_it():
    store = DecodedOnce(Source(8), 0, EVERYTHING)
    for index in range(8):
        store[index]

    first, again = store[3], store[3]

    assert not first.flags.owndata
    assert np.shares_memory(first, again)


def test_views_stay_valid_while_the_file_grows_and_after_the_store_has_gone():
    store = DecodedOnce(Source(20), 0, EVERYTHING)
    views = [store[index] for index in range(10) for _ in range(2)]
    more = [store[index] for index in range(20) for _ in range(2)]
    store.close()
    del store
    gc.collect()

    for index, view in enumerate(views):
        assert np.array_equal(view, picture(index // 2))
    for index, view in enumerate(more):
        assert np.array_equal(view, picture(index // 2))


@linux
@pytest.mark.parametrize("ending", ["closed", "collected"])
def test_the_file_has_no_name_and_goes_with_the_store(ending, tmp_path, monkeypatch):
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    before = open_files()
    store = DecodedOnce(Source(4), 0, EVERYTHING)
    size = sum(store[index].nbytes for index in range(4))
    store[0]

    assert list(tmp_path.iterdir()) == []
    held = {name: held for name, held in open_files().items() if name not in before}
    assert size in held.values()
    if ending == "closed":
        store.close()
    else:
        del store
    gc.collect()

    assert open_files() == before


def test_there_is_no_file_before_it_is_needed(monkeypatch):
    def refuse(**options):
        raise AssertionError("a file was opened")

    monkeypatch.setattr(module.tempfile, "TemporaryFile", refuse)

    for store in (DecodedOnce(Source(3), EVERYTHING, EVERYTHING), DecodedOnce(Source(3), 0, 0)):
        assert [pixels.shape for pixels in store] == [picture(i).shape for i in range(3)]


def test_a_closed_store_decodes_every_time():
    source = Source(2)
    store = DecodedOnce(source, picture(0).nbytes, EVERYTHING)
    for _ in range(2):
        store[0], store[1]
    store.close()
    store.close()

    for _ in range(3):
        assert np.array_equal(store[0], picture(0))
        assert np.array_equal(store[1], picture(1))
    assert source.asked == [4, 4]


class FullDisk:
    """A file on a disk with so much room: it takes what fits, and then nothing."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, data):
        fits = data[: min(len(data), self.room, 7)]  # nor does it take much at once
        if not fits:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= len(fits)
        return self.file.write(fits)

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_a_disk_that_fills_up_is_no_error_and_nothing_is_left_of_half_an_image(monkeypatch):
    opened, make = [], module.tempfile.TemporaryFile

    def small(**options):
        opened.append(FullDisk(make(**options), room=100))
        return opened[-1]

    monkeypatch.setattr(module.tempfile, "TemporaryFile", small)
    source = Source(5, lambda index: np.full((3, 5, 3), index, np.uint8))  # 45 bytes each
    store = DecodedOnce(source, 0, EVERYTHING)

    for _ in range(3):
        assert [int(store[index].mean()) for index in range(5)] == [0, 1, 2, 3, 4]

    assert source.asked == [1, 1, 3, 3, 3]
    assert os.fstat(opened[0].fileno()).st_size == 90


def test_without_a_folder_for_temporary_files_images_are_decoded_again(monkeypatch):
    def refuse(**options):
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(module.tempfile, "TemporaryFile", refuse)
    source = Source(2)
    store = DecodedOnce(source, 0, EVERYTHING)

    for _ in range(2):
        assert np.array_equal(store[1], picture(1))
    assert source.asked == [0, 2]


def test_the_last_of_the_disk_is_left_to_others(monkeypatch):
    free = iter([PLENTY, PLENTY, 1000 + 44])
    usage = module.shutil._ntuple_diskusage
    monkeypatch.setattr(module, "_LEFT_FREE_BYTES", 1000)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage(PLENTY, 0, next(free)))
    source = Source(4, lambda index: np.full((3, 5, 3), index, np.uint8))  # 45 bytes each
    store = DecodedOnce(source, 0, EVERYTHING)

    for _ in range(2):
        assert [int(store[index].mean()) for index in range(4)] == [0, 1, 2, 3]

    assert source.asked == [1, 1, 2, 2]


def test_a_file_that_cannot_be_mapped_is_no_error(monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(module.mmap, "mmap", refuse)
    source = Source(2)
    store = DecodedOnce(source, 0, EVERYTHING)

    for _ in range(3):
        assert np.array_equal(store[1], picture(1))
    assert source.asked == [0, 3]
    assert store._spill._bytes == picture(1).nbytes  # written once all the same


# -- memory ------------------------------------------------------------------------------------------------------------


def test_memory_stays_flat_beyond_its_cap():
    megabyte = 1 << 20
    source = Source(40, lambda index: np.full((512, 683, 3), index, np.uint8))  # 1 MB each
    tracemalloc.start()
    try:
        store = DecodedOnce(source, 4 * megabyte, EVERYTHING)
        for _ in range(2):
            assert [int(store[index][0, 0, 0]) for index in range(40)] == list(range(40))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert source.asked == [1] * 40
    assert peak < 7 * megabyte  # four kept, one being decoded, and change


@linux
def test_the_file_does_not_pile_up_in_the_resident_set(monkeypatch):
    def resident():
        lines = Path("/proc/self/status").read_text().splitlines()
        return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("RssFile", "RssShmem")))

    megabyte = 1 << 20
    monkeypatch.setattr(module, "_MAPPED_BYTES", 4 * megabyte)
    store = DecodedOnce(Source(40, lambda index: np.full((512, 683, 3), index, np.uint8)), 0, EVERYTHING)
    [store[index] for index in range(40)]
    before = resident()

    for index in range(40):
        store[index].sum()

    assert resident() - before < 12 * megabyte


# -- threads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("memory_bytes", "disk_bytes"), [(EVERYTHING, 0), (0, EVERYTHING), (300, 300)])
def test_threads_get_the_right_images_and_none_is_decoded_twice(memory_bytes, disk_bytes, monkeypatch):
    monkeypatch.setattr(module, "_MAPPED_BYTES", 500)
    source = Source(30, seconds=0.0005)
    store = DecodedOnce(source, memory_bytes, disk_bytes)
    start = threading.Barrier(6)

    def ask(seed):
        start.wait()
        order = np.random.default_rng(seed % 2).permutation(np.repeat(np.arange(30), 3))
        return all(np.array_equal(store[index], picture(index)) for index in order)

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(ask, range(6))) == [True] * 6

    if EVERYTHING in (memory_bytes, disk_bytes):
        assert source.asked == [1] * 30
    assert store._kept_bytes <= memory_bytes
    assert store._spill._bytes <= disk_bytes


def test_one_thread_decodes_while_another_is_served():
    decoding, served = threading.Event(), threading.Event()

    def make(index):
        if index == 1:
            decoding.set()
            assert served.wait(10)
        return picture(index)

    store = DecodedOnce(Source(2, make), EVERYTHING, 0)
    store[0]
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(store.__getitem__, 1)
        assert decoding.wait(10)
        assert np.array_equal(store[0], picture(0))
        served.set()
        assert np.array_equal(slow.result(), picture(1))


def test_who_waits_for_an_image_that_cannot_be_decoded_tries_for_itself():
    def make(index):
        if source.asked[index] == 1:
            raise DataError("image 0 is not there yet")
        return picture(index)

    source = Source(1, make)
    store = DecodedOnce(source, EVERYTHING, 0)

    with pytest.raises(DataError, match="not there yet"):
        store[0]
    assert np.array_equal(store[0], picture(0))
