"""Decoding for many clients at once: turns, bounds, nothing done for those who have gone."""

import asyncio
import contextlib
import threading
import time

import pytest

from lowshot.errors import ImageError
from lowshot.serving import decoder as module
from lowshot.serving.decoder import Decoder
from lowshot.serving.limits import Limits
from lowshot.serving.refusals import Busy, Draining, Refusal
from refusing import refused

from .running import until

LARGE = 1 << 30


class Held:
    """Decoding that goes on when it is told to, and remembers what it began; what is called small does not wait."""

    def __init__(self):
        self.go, self.started = threading.Event(), []

    def __call__(self, content):
        self.started.append(content)
        if content == b"bad":
            raise ImageError("image cannot be decoded")
        if not content.startswith(b"small"):
            assert self.go.wait(30)
            time.sleep(0.02)
        return content.decode()


@pytest.fixture(autouse=True)
def sizes(monkeypatch):
    """Ten pixels each; what is called large is so."""
    monkeypatch.setattr(module, "decoded_size", lambda content: (10, LARGE if content.startswith(b"large") else 40))


@contextlib.contextmanager
def decoder(work, **limits):
    pool = Decoder(work, Limits(**{"decoded_bytes": LARGE, **limits}))
    try:
        yield pool
    finally:
        pool.close()


def names(what, count):
    return [f"{what}{number}".encode() for number in range(count)]


def test_every_image_has_its_crop_or_its_reason_in_its_place():
    with decoder(Held()) as pool:
        first, bad, last = asyncio.run(pool.crops([b"small1", b"bad", b"small2"]))
        assert asyncio.run(pool.crops([])) == []
    assert (first, last) == ("small1", "small2")
    assert isinstance(bad, ImageError)


def test_requests_take_turns():
    held = Held()

    async def ask(pool):
        many = asyncio.ensure_future(pool.crops(names("a", 12)))
        await asyncio.to_thread(until, lambda: len(held.started) == 2)  # on both threads
        one = asyncio.ensure_future(pool.crops([b"small"]))
        await asyncio.sleep(0.05)
        held.go.set()
        await asyncio.gather(many, one)

    with decoder(held) as pool:
        asyncio.run(ask(pool))
    assert held.started.index(b"small") <= 8  # not behind all twelve: its header and then itself have their turns


def test_a_small_image_does_not_wait_for_large_ones():
    held = Held()

    async def ask(pool):
        large = [asyncio.ensure_future(pool.crops(names(f"large{client}-", 4))) for client in range(3)]
        await asyncio.to_thread(until, lambda: held.started)
        assert await asyncio.wait_for(pool.crops(names("small", 5)), 30) == [f"small{number}" for number in range(5)]
        assert len(held.started) == 6  # one large image alone
        held.go.set()
        await asyncio.gather(*large)

    with decoder(held) as pool:
        asyncio.run(ask(pool))
    assert len(held.started) == 17


def test_a_small_image_does_not_wait_for_headers_that_take_long(monkeypatch):
    """32 MB of zeros after a JPEG's first bytes are looked through byte by byte."""
    held = Held()
    long, sized = b"small" + bytes(module._LARGE_FILES_BYTES), []

    def decoded_size(content):
        if len(content) > 10:
            sized.append(content)
            assert held.go.wait(30)
        return 10, 40

    monkeypatch.setattr(module, "decoded_size", decoded_size)

    async def ask(pool):
        slow = [asyncio.ensure_future(pool.crops([long])) for _ in range(3)]
        await asyncio.to_thread(until, lambda: sized)
        try:
            assert await asyncio.wait_for(pool.crops([b"small"]), 5) == ["small"]
        finally:
            held.go.set()
        assert len(sized) == 1
        await asyncio.gather(*slow)

    with decoder(held) as pool:
        asyncio.run(ask(pool))


def test_too_many_pixels_are_refused_before_anything_is_decoded_and_counted_until_they_are():
    held = Held()

    async def ask(pool):
        with refused(Refusal, "40 pixels", "at most 30") as all_:
            await pool.crops(names("a", 4))
        assert (all_.value.status, all_.value.code, held.started) == (413, "too_large", [])
        waiting = asyncio.ensure_future(pool.crops(names("a", 3)))
        await asyncio.to_thread(until, lambda: len(held.started) == 2)
        assert pool.pixels == 30
        held.go.set()
        await waiting
        assert pool.pixels == 0
        with pool._counted(30), refused(Busy, "too many pixels"):
            await pool.crops(names("small", 3))
        assert await pool.crops(names("small", 3))

    with decoder(held, request_pixels=30, pixels_in_flight=50) as pool:
        asyncio.run(ask(pool))


def test_an_image_that_takes_too_much_memory_is_refused_alone():
    with decoder(Held(), decoded_bytes=LARGE - 1) as pool:
        small, large = asyncio.run(pool.crops([b"small", b"large"]))
    assert small == "small"
    assert large.status == 413
    with refused(Refusal, "1,073,741,824 bytes", "at most 1,073,741,823"):
        raise large


def test_images_of_a_client_that_has_gone_are_not_decoded():
    held = Held()

    async def ask(pool):
        gone = asyncio.ensure_future(pool.crops(names("a", 8)))
        await asyncio.to_thread(until, lambda: len(held.started) == 2)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        held.go.set()
        assert await pool.crops([b"small"]) == ["small"]

    with decoder(held) as pool:
        asyncio.run(ask(pool))
    assert held.started == [b"a0", b"a1", b"small"]


def test_a_decoder_that_is_closed_takes_no_more_and_ends_its_threads():
    before = set(threading.enumerate())
    with decoder(Held()) as pool:
        threads = set(threading.enumerate()) - before
        assert len(threads) == 2
    with pytest.raises(Draining):
        asyncio.run(pool.crops([b"small"]))
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
