"""Batches are prepared before they are asked for, and are what they would have been."""

import threading

import numpy as np
import pytest
import torch

from lowshot.data.crops import prepare_crops, random_crops
from lowshot.training.ahead import _BATCHES, ImagesAhead

CPU = torch.device("cpu")
ORDER = [[3, 0], [1, 2], [0, 1], [2, 3], [3, 1], [0, 2], [1], [2]]


@pytest.fixture
def photographs():
    generator = np.random.default_rng(0)
    return [generator.integers(0, 255, (30 + i, 40 - i, 3), dtype=np.uint8) for i in range(4)]


class Preparing:
    """Prepares crops, and notes which steps' and on which thread."""

    def __init__(self, photographs):
        self.photographs, self.steps, self.threads = photographs, [], set()

    def __call__(self, step, rows):
        self.steps.append(step)
        self.threads.add(threading.get_ident())
        return self.crop(prepare_crops, step, rows)

    def crop(self, how, step, rows):
        images = (self.photographs[row] for row in rows)
        keys = [(1, step, row) for row in rows]
        return how(images, 12, crop_minimum=0.3, flip=True, keys=keys, device=CPU)


@pytest.mark.parametrize("beside", [True, False])
def test_images_are_those_of_the_step_and_come_from_other_threads(photographs, beside):
    preparing = Preparing(photographs)
    with ImagesAhead(preparing, CPU, beside=beside) as ahead:
        for step, rows in enumerate(ahead.watching(ORDER, 0)):
            assert rows == ORDER[step]
            assert beside or not ahead._finished
            torch.testing.assert_close(ahead(step, rows), preparing.crop(random_crops, step, rows), atol=2e-6, rtol=0)
    assert sorted(preparing.steps) == list(range(len(ORDER)))
    assert threading.get_ident() not in preparing.threads


def test_only_a_few_are_prepared_ahead_and_none_of_steps_that_were_done(photographs):
    preparing = Preparing(photographs)
    with ImagesAhead(preparing, CPU) as ahead:
        order = ahead.watching(ORDER, 2)
        assert [next(order), next(order)] == ORDER[:2]
        assert preparing.steps == []
        assert next(order) == ORDER[2]
        ahead(2, ORDER[2])
        assert max(ahead._coming) == 2 + _BATCHES
    assert set(preparing.steps) <= set(range(2, 3 + _BATCHES))


def test_a_step_that_is_taken_again_gets_the_same_images(photographs):
    preparing = Preparing(photographs)
    with ImagesAhead(preparing, CPU) as ahead:
        order = ahead.watching(ORDER, 0)
        first = [ahead(step, next(order)) for step in range(3)]
        again = [ahead(step, ORDER[step]) for step in range(3)]
        parts = torch.cat([ahead(1, ORDER[1][:1]), ahead(1, ORDER[1][1:])])
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    torch.testing.assert_close(parts, first[1], atol=2e-6, rtol=0)


def test_an_image_that_cannot_be_read_is_an_error_of_its_own_step(photographs):
    def prepare(step, rows):
        if step == 3:
            raise OSError("no such image")
        return Preparing(photographs)(step, rows)

    with ImagesAhead(prepare, CPU) as ahead:
        order = ahead.watching(ORDER, 0)
        for step in range(3):
            ahead(step, next(order))
        with pytest.raises(OSError, match="no such image"):
            ahead(3, next(order))


def test_nothing_is_prepared_any_more_once_it_is_closed(photographs):
    preparing = Preparing(photographs)
    with ImagesAhead(preparing, CPU) as ahead:
        order = ahead.watching(ORDER, 0)
        next(order)
    with pytest.raises(RuntimeError):
        list(order)
