"""Timing a block."""

import pytest
import torch

from lowshot.training import speed
from lowshot.training.speed import TowerShape, measure_pace


def test_images_a_second_are_counted_over_the_whole_depth(monkeypatch):
    """A clock that goes on by a tenth of a second whenever it is looked at: both rates are known."""
    shape = TowerShape(width=8, heads=2, depth=5, tokens=3)
    clock = iter(number / 10 for number in range(1000))
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(clock))
    pace = measure_pace(torch.device("cpu"), torch.float32, shape, images=2, seconds=0.45)
    assert pace.encoded == pytest.approx(pace.trained)
    assert pace.encoded == pytest.approx(2 / 5 * 5 / 0.6)
