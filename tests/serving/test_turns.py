"""Turns of requests, and results that are waited for together."""

import asyncio
from concurrent.futures import Future

import pytest

from lowshot.errors import DataError
from lowshot.serving.turns import Turns, results_of


def test_requests_take_turns_and_one_that_may_not_begin_is_passed_over():
    turns = Turns()
    turns.add([])
    turns.add(["a1", "a2", "a3"])
    turns.add(["b1"])
    turns.add(["c1", "c2"])
    assert len(turns) == 6
    assert [turns.next(lambda item: item != "b1") for _ in range(3)] == ["a1", "c1", "a2"]
    assert [turns.next(), turns.next()] == ["b1", "c2"]
    assert turns.next(lambda item: False) is None
    assert turns.clear() == ["a3"]
    assert (len(turns), turns.next()) == (0, None)


def test_an_error_of_ours_is_a_result_and_any_other_is_raised():
    good, bad, broken = Future(), Future(), Future()
    good.set_result(1)
    bad.set_exception(DataError("no image"))
    broken.set_exception(ZeroDivisionError())

    async def ask(*futures):
        return await results_of(futures)

    one, error = asyncio.run(ask(good, bad))
    assert (one, type(error)) == (1, DataError)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(ask(good, broken))
