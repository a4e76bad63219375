"""Many crops that are resized at once on a device, against those that are resized one by one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from lowshot.data import crops as module
from lowshot.data.crops import random_crops

CPU = torch.device("cpu")


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def one_by_one(images, size, mirrored):
    """The reference: torch's own interpolation of one image after the other."""
    resized = []
    for image, flip in zip(images, mirrored, strict=True):
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        pixels = functional.interpolate(pixels, size=(size, size), mode="bicubic", antialias=True).clamp(0, 1)
        resized.append(pixels.flip(-1) if flip else pixels)
    return torch.cat(resized)


def together(images, size, mirrored):
    cuts = [module._Cut(*cut) for cut in zip(images, mirrored, strict=True)]
    return module.Portion.of(cuts, size, pinned=False).resized(size, CPU)


def edges(height, width, seed):
    """Black and white, as far apart as can be: the kernel overshoots everywhere."""
    return (noise(height, width, seed) > 127).astype(np.uint8) * 255


sides = st.one_of(st.sampled_from([1, 2, 3, 31, 32, 33]), st.integers(1, 300))


@given(
    st.lists(st.tuples(sides, sides, st.booleans()), min_size=1, max_size=5),
    st.one_of(st.sampled_from([1, 2, 32]), st.integers(1, 80)),
    st.sampled_from([noise, edges]),
)
@settings(max_examples=150)
def test_resized_together_they_are_what_torch_makes_of_each(shapes, size, picture):
    images = [picture(height, width, seed) for seed, (height, width, _) in enumerate(shapes)]
    mirrored = [flip for *_, flip in shapes]

    crops, expected = together(images, size, mirrored), one_by_one(images, size, mirrored)

    assert (crops.shape, crops.dtype) == (expected.shape, torch.float32)
    assert (crops - expected).abs().max() <= 2e-6


def test_photographs_resized_together_are_what_torch_makes_of_each():
    images = [noise(375, 500), edges(333, 500, 1), noise(1200, 900, 2), noise(97, 130, 3)]
    mirrored = [False, True, True, False]

    assert (together(images, 224, mirrored) - one_by_one(images, 224, mirrored)).abs().max() <= 2e-6


def test_resized_together_to_their_own_size_they_stay_as_they_are():
    images = [noise(16, 16, seed=1), noise(16, 16, seed=2)]

    crops = together(images, 16, [False, True])

    assert torch.equal(crops[0], torch.from_numpy(images[0]).permute(2, 0, 1) / 255.0)
    assert torch.equal(crops[1], torch.from_numpy(images[1]).permute(2, 0, 1).flip(-1) / 255.0)


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=12), st.integers(1, 400))
def test_portions_keep_the_order_and_the_cap_unless_one_crop_alone_is_larger(shapes, cap):
    cuts = [module._Cut(np.full((*shape, 3), i, np.uint8), mirrored=False) for i, shape in enumerate(shapes)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_PADDED_PIXELS", cap)
        portions = list(module._portions(cuts))

    assert [cut for portion in portions for cut in portion] == cuts
    for portion in portions:
        height, width = (max(cut.pixels.shape[axis] for cut in portion) for axis in (0, 1))
        assert len(portion) == 1 or len(portion) * height * width <= cap


def test_on_another_device_the_same_crops_are_resized_together(monkeypatch):
    """The device is none that computes, so what would be sent there is resized here."""
    images = [noise(30 + i, 50 - i, seed=i) for i in range(6)]
    keys = [(3, i) for i in range(6)]
    resize, sent = module.Portion.resized, []

    def here(portion, size, device):
        sent.append((len(portion.padded), device.type))
        return resize(portion, size, CPU)

    monkeypatch.setattr(module.Portion, "resized", here)
    monkeypatch.setattr(module, "_PADDED_PIXELS", 2 * 35 * 50)
    there = random_crops(images, 12, crop_minimum=0.3, flip=True, keys=keys, device=torch.device("meta"))

    assert sum(count for count, _ in sent) == 6
    assert len(sent) > 1
    assert {device for _, device in sent} == {"meta"}
    assert (there - random_crops(images, 12, crop_minimum=0.3, flip=True, keys=keys)).abs().max() <= 2e-6


def test_crops_are_returned_on_the_device_asked_for():
    crops = random_crops(
        [noise(9, 7), noise(5, 30)],
        8,
        crop_minimum=0.5,
        flip=True,
        keys=[(1,), (2,)],
        device=torch.device("meta"),
    )

    assert (crops.device.type, crops.shape, crops.dtype) == ("meta", (2, 3, 8, 8), torch.float32)


@pytest.mark.gpu
def test_crops_on_cuda_are_those_of_the_cpu():
    images = [noise(375, 500, seed=i) for i in range(8)]
    keys = [(3, i) for i in range(8)]
    here, there = (
        random_crops(images, 224, crop_minimum=0.08, flip=True, keys=keys, device=torch.device(device))
        for device in ("cpu", "cuda")
    )

    assert there.is_cuda
    assert (there.cpu() - here).abs().max() <= 2e-6
