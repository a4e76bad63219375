import threading
import time
from concurrent.futures import Future

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lowshot.data import FileImages, builtin_task, content_hash
from lowshot.data.ahead import computed_ahead, content_hashes
from lowshot.data.store import DecodedOnce
from lowshot.errors import DataError, ImageError
from lowshot.progress import silent
from refusing import refused


class Source:
    """Images that take a while, and a note of who asked when."""

    def __init__(self, count, seconds=lambda index: 0.0):
        self.count, self.seconds = count, seconds
        self.asked, self.threads = [], set()

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.asked.append(index)
        self.threads.add(threading.get_ident())
        time.sleep(self.seconds(index))
        if index == 13:
            raise DataError("13.png is not an image")
        return np.full((1, 1, 3), index, np.uint8)


def shown(images):
    return [int(pixels[0, 0, 0]) for pixels in images]


def decoding_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("decoding")]


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(1, 4), st.integers(1, 6))
@settings(max_examples=40)
def test_images_come_in_the_order_asked_for(rows, workers, ahead):
    source = Source(10, lambda index: 0.0002 * (index % 3))

    assert shown(computed_ahead(source.__getitem__, rows, workers, ahead)) == rows
    assert sorted(source.asked) == sorted(rows)
    assert decoding_threads() == []


def test_several_are_decoded_at_once():
    both = threading.Barrier(2, timeout=10)

    class Together(Source):
        def __getitem__(self, index):
            both.wait()  # one thread alone would wait for ever
            return super().__getitem__(index)

    assert shown(computed_ahead(Together(6).__getitem__, range(6), workers=2)) == list(range(6))


def test_decoding_goes_on_while_the_caller_works():
    source = Source(10)
    images = computed_ahead(source.__getitem__, range(10), workers=1, ahead=4)

    next(images)
    deadline = time.monotonic() + 10
    while len(source.asked) < 4 and time.monotonic() < deadline:
        time.sleep(0.001)

    assert sorted(source.asked) == [0, 1, 2, 3]
    images.close()


@pytest.mark.parametrize("ahead", [1, 3, 8])
def test_no_more_images_are_decoded_ahead_than_allowed(ahead):
    source = Source(12)

    for count, _ in enumerate(computed_ahead(source.__getitem__, range(12), workers=3, ahead=ahead)):
        time.sleep(0.002)
        assert len(source.asked) <= count + ahead


def test_nothing_is_decoded_before_the_first_image_is_asked_for():
    source = Source(5)

    images = computed_ahead(source.__getitem__, range(5))

    assert (source.asked, decoding_threads()) == ([], [])
    images.close()


def test_an_error_comes_in_its_place_and_names_the_image(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for path in paths:
        Image.new("RGB", (2, 2)).save(path)
    paths[3].write_bytes(b"text")
    images, decoded = computed_ahead(FileImages(paths).__getitem__, range(6), workers=3), []

    with refused(ImageError, "3.png", "AVIF"):
        decoded.extend(images)

    assert len(decoded) == 3
    assert decoding_threads() == []


@pytest.mark.parametrize("ending", ["close", "drop", "error"])
def test_threads_end_with_an_iterator_that_is_left_early(ending):
    source = Source(30, lambda index: 0.001)
    images = computed_ahead(
        source.__getitem__, range(13, -1, -1) if ending == "error" else range(12), workers=2, ahead=4
    )

    if ending == "error":
        with pytest.raises(DataError):
            next(images)
    else:
        next(images)
    if ending == "close":
        images.close()
    if ending == "drop":
        del images

    assert decoding_threads() == []


def test_what_nobody_will_take_is_not_decoded(monkeypatch):
    cancel, cancelled, all_cancelled = Future.cancel, [], threading.Event()

    def counting(future):
        cancelled.append(future)
        if len(cancelled) == 11:
            all_cancelled.set()
        return cancel(future)

    class Waiting(Source):
        def __getitem__(self, index):
            decoded = super().__getitem__(index)
            assert index == 0 or all_cancelled.wait(1)
            return decoded

    monkeypatch.setattr(Future, "cancel", counting)
    source = Waiting(12)
    images = computed_ahead(source.__getitem__, range(12), workers=2, ahead=12)
    next(images)
    images.close()

    assert len(source.asked) <= 1 + 2  # the one that was taken, and one being decoded per thread


def test_hashes_are_those_of_the_images_in_order():
    source, steps = Source(10, lambda index: 0.001 * (index % 3)), []

    def track(items, *, what, total):
        for item in items:
            steps.append((what, total))
            yield item

    assert content_hashes(source, track) == tuple(content_hash(source[row]) for row in range(10))
    assert steps == [("reading images", 10)] * 10
    assert content_hashes(Source(0), track) == ()


def test_of_an_image_that_cannot_be_hashed_the_error_is_raised():
    with refused(DataError, "13.png"):
        content_hashes(Source(30), silent)
    assert decoding_threads() == []


def test_a_store_is_filled_from_the_threads():
    source = Source(10)
    store = DecodedOnce(source, memory_bytes=12, disk_bytes=1000)

    for _ in range(3):
        assert shown(computed_ahead(store.__getitem__, [*range(10), 3, 3])) == [*range(10), 3, 3]

    assert sorted(source.asked) == list(range(10))
    assert threading.get_ident() not in source.threads


def test_built_in_images_are_the_same_from_threads():
    images = builtin_task("letters").test.images
    rows = range(0, len(images), 40)

    ahead = list(computed_ahead(images.__getitem__, rows, workers=3))

    assert all(np.array_equal(decoded, images[row]) for decoded, row in zip(ahead, rows, strict=True))
