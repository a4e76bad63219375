"""Rows of many callers in batches: order, bounds, errors in their places, nothing done for those who have gone."""

import asyncio
import contextlib
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowshot.errors import AdapterError, RunError
from lowshot.serving import batcher as module
from lowshot.serving.batcher import Batcher
from lowshot.serving.refusals import Busy, Draining
from refusing import refused

from .running import until


class Held:
    """A model that goes on when it is told to, and remembers its batches."""

    def __init__(self):
        self.go, self.started, self.batches = threading.Event(), threading.Event(), []

    def __call__(self, images, adapters):
        self.batches.append(list(images))
        self.started.set()
        assert self.go.wait(30)
        return [(image, adapter) for image, adapter in zip(images, adapters, strict=True)]


@contextlib.contextmanager
def batcher(predict, *, batch_images=4, batch_seconds=0.0, capacity=100, observe=None):
    queue = Batcher(predict, batch_images=batch_images, batch_seconds=batch_seconds, capacity=capacity, observe=observe)
    try:
        yield queue
    finally:
        queue.close(30)


def echo(images, adapters):
    return list(zip(images, adapters, strict=True))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 5))
def test_every_row_gets_its_own_answer_and_no_batch_is_too_large(requests, batch_images):
    sizes = []

    def predict(images, adapters):
        sizes.append(len(images))
        return echo(images, adapters)

    async def ask(queue):
        rows = [[((number, row), f"a{row % 3}") for row in range(count)] for number, count in enumerate(requests)]
        assert await asyncio.gather(*map(queue.predict, rows)) == rows

    with batcher(predict, batch_images=batch_images) as queue:
        asyncio.run(ask(queue))
    assert sum(sizes) == sum(requests)
    assert min(sizes) >= 1 and max(sizes) <= batch_images


def test_what_comes_while_the_model_is_busy_goes_together_in_the_order_it_came():
    held = Held()

    async def ask(queue):
        first = asyncio.ensure_future(queue.predict([(0, "a")]))
        await asyncio.to_thread(held.started.wait, 30)
        others = [asyncio.ensure_future(queue.predict([(number, "b")])) for number in range(1, 7)]
        await asyncio.sleep(0.01)
        held.go.set()
        await asyncio.gather(first, *others)

    with batcher(held) as queue:
        asyncio.run(ask(queue))
    assert held.batches == [[0], [1, 2, 3, 4], [5, 6]]


def test_requests_take_turns():
    held = Held()

    async def ask(queue):
        first = asyncio.ensure_future(queue.predict([(0, "a")]))
        await asyncio.to_thread(held.started.wait, 30)
        many = asyncio.ensure_future(queue.predict([(number, "b") for number in range(1, 7)]))
        await asyncio.sleep(0.01)
        one = asyncio.ensure_future(queue.predict([(9, "b")]))
        await asyncio.sleep(0.01)
        held.go.set()
        assert await many == [(number, "b") for number in range(1, 7)]
        await asyncio.gather(first, one)

    with batcher(held) as queue:
        asyncio.run(ask(queue))
    assert held.batches[1][:2] == [1, 9]


def test_a_batch_takes_no_longer_than_another_may_wait_for_it(monkeypatch):
    monkeypatch.setattr(module, "_BATCH_SECONDS", 0.02)
    sizes = []

    def slow(images, adapters):
        sizes.append(len(images))
        time.sleep(0.01 * len(images))
        return echo(images, adapters)

    with batcher(slow, batch_images=8) as queue:
        asyncio.run(queue.predict([(number, "a") for number in range(22)]))
    assert sizes[:2] == [8, 8] and max(sizes[2:]) <= 2


def test_the_first_batch_is_no_measure_of_the_others(monkeypatch):
    """It loads the adapter, and the batches after it were of one image for a while."""
    monkeypatch.setattr(module, "_BATCH_SECONDS", 0.06)
    sizes = []

    def slow_at_first(images, adapters):
        time.sleep(0 if sizes else 0.05)
        sizes.append(len(images))
        return echo(images, adapters)

    with batcher(slow_at_first, batch_images=8) as queue:
        asyncio.run(queue.predict([(0, "a")]))
        asyncio.run(queue.predict([(number, "a") for number in range(8)]))
    assert sizes == [1, 8]


def test_an_idle_model_waits_for_those_that_are_on_their_way_but_not_longer_than_it_may():
    batches = []

    def predict(images, adapters):
        batches.append(list(images))
        return echo(images, adapters)

    async def ask(queue):
        with queue.reserved(3):  # two of them come, one is still being decoded
            one = asyncio.ensure_future(queue.predict([(1, "a")]))
            await asyncio.sleep(0.05)
            await asyncio.gather(one, queue.predict([(2, "a")]))

    with batcher(predict, batch_seconds=0.5) as queue:
        asyncio.run(asyncio.wait_for(ask(queue), 30))
    assert batches == [[1, 2]]


def test_nobody_else_on_the_way_means_no_waiting():
    async def ask(queue):
        with queue.reserved(1):
            await asyncio.wait_for(queue.predict([(1, "a")]), 30)

    with batcher(echo, batch_seconds=3600) as queue:
        asyncio.run(ask(queue))


def test_more_rows_than_there_is_room_for_are_refused_with_a_time_to_come_back():
    with batcher(echo, capacity=5) as queue, queue.reserved(3):
        with refused(Busy, "3 images", "at most 5") as busy, queue.reserved(3):
            pass
        assert busy.value.status == 429
        assert int(busy.value.headers["Retry-After"]) >= 1
        with queue.reserved(2):
            assert queue.waiting == 5
    assert queue.waiting == 0


def test_an_adapter_that_fails_fails_alone():
    def predict(images, adapters):
        if "broken" in adapters:
            raise AdapterError("adapter broken is damaged")
        return echo(images, adapters)

    async def ask(queue):
        return await queue.predict([(1, "a"), (2, "broken"), (3, "b"), (4, "broken")])

    with batcher(predict) as queue:
        answers = asyncio.run(ask(queue))
    assert answers[0] == (1, "a") and answers[2] == (3, "b")
    assert [str(answers[row]) for row in (1, 3)] == ["adapter broken is damaged"] * 2


def test_an_unforeseen_fault_is_an_error_of_its_rows_and_the_model_goes_on():
    def predict(images, adapters):
        if images == [1]:
            raise ZeroDivisionError("secret")
        return echo(images, adapters)

    async def ask(queue):
        return [await queue.predict([(1, "a")]), await queue.predict([(2, "a")])]

    with batcher(predict) as queue:
        [failed], [well] = asyncio.run(ask(queue))
    assert isinstance(failed, RunError) and "ZeroDivisionError" in str(failed) and "secret" not in str(failed)
    assert well == (2, "a")


def test_rows_of_a_caller_that_has_gone_are_never_computed():
    held = Held()

    async def ask(queue):
        first = asyncio.ensure_future(queue.predict([(0, "a")]))
        await asyncio.to_thread(held.started.wait, 30)
        gone = asyncio.ensure_future(queue.predict([(1, "a"), (2, "a")]))
        stays = asyncio.ensure_future(queue.predict([(3, "a")]))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        held.go.set()
        await asyncio.gather(first, stays)

    with batcher(held) as queue:
        asyncio.run(ask(queue))
    assert held.batches == [[0], [3]]


def test_closing_finishes_what_is_in_the_line_and_takes_no_more():
    held = Held()

    async def ask(queue):
        asked = [asyncio.ensure_future(queue.predict([(number, "a")])) for number in range(6)]
        await asyncio.to_thread(held.started.wait, 30)
        closing = asyncio.ensure_future(asyncio.to_thread(queue.close, 30))
        await asyncio.to_thread(until, lambda: queue._closing)
        with pytest.raises(Draining), queue.reserved(1):
            pass
        held.go.set()
        assert await closing
        return await asyncio.gather(*asked)

    with batcher(held) as queue:
        assert asyncio.run(ask(queue)) == [[(number, "a")] for number in range(6)]


def test_what_is_not_finished_in_time_is_answered_by_an_error():
    held = Held()

    async def ask(queue):
        asked = [asyncio.ensure_future(queue.predict([(number, "a")])) for number in range(2)]
        await asyncio.to_thread(held.started.wait, 30)
        assert not await asyncio.to_thread(queue.close, 0.01)
        [late] = await asked[1]
        held.go.set()
        return late, await asked[0]

    with batcher(held, batch_images=1) as queue:
        late, in_the_model = asyncio.run(ask(queue))
    assert "the server stopped" in str(late) and in_the_model == [(0, "a")]


def test_batches_are_observed():
    seen = []
    with batcher(echo, observe=lambda rows, seconds: seen.append((rows, seconds >= 0))) as queue:
        asyncio.run(queue.predict([(1, "a"), (2, "b")]))
    assert seen == [(2, True)]
