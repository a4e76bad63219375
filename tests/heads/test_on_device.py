"""What judging by a head asks of its device, counted on torch's meta device: nothing but to compute."""

import dataclasses

import pytest
import torch

from lowshot.heads import HEADS, Text, blank_tensors
from meta_device import META, counted


@pytest.mark.parametrize("method", HEADS)
def test_scores_are_computed_without_a_copy_or_a_wait(method):
    blank = blank_tensors(HEADS[method], classes=4, width=8, images=12)
    head = HEADS[method](**blank)
    text = Text(torch.empty(4, 8, device=META), 100.0, torch.empty(4, device=META))
    with counted() as counts:
        scores = head.scores(torch.empty(5, 8, device=META), text)
    assert (scores.shape, scores.device) == ((5, 4), META)
    assert dataclasses.astuple(counts)[:3] == (0, 0, 0)


def test_what_is_seen_is_what_a_device_would_be_asked():
    numbers = torch.empty(4, device=META)
    with counted() as counts:
        numbers[[0, 1]]
        numbers[torch.tensor([0, 1], device=META)]
        numbers.add_(torch.ones(4).to(META))
        numbers.cpu()
        with pytest.raises(RuntimeError):
            float(numbers.sum())
    assert dataclasses.astuple(counts)[:3] == (3, 1, 1)
