import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lowshot.data import Examples, MemoryImages
from lowshot.data.crops import central_crops
from lowshot.errors import DataError, ImageError, RunError
from lowshot.evaluation import judged_as_read, predict, probabilities
from lowshot.evaluation.calibration import scored
from lowshot.models import Backbone
from lowshot.progress import silent
from lowshot.resizing import Resizing
from lowshot.training.embeddings import EmbeddingCache
from refusing import refused

from .conftest import Photographs

BATCH = 4


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(predict, "BATCH_SIZE", BATCH)


def plainly(learner, images):
    """The same batches, one after the other: decode, crop, encode, compare."""
    parts = []
    for start in range(0, len(images), BATCH):
        rows = range(start, min(start + BATCH, len(images)))
        crops = torch.cat([central_crops([images[i]], 16) for i in rows])
        parts.append(torch.softmax(learner.logits(crops).float(), dim=-1).cpu().numpy())
    return np.concatenate(parts)


def found_by(learner, images, **more):
    return probabilities(learner, images, features=EmbeddingCache(), **more)


@torch.no_grad()
def changes_the_arithmetic(learner):
    """Whether merged weights give other last bits."""
    crops = torch.rand(20, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    before = learner.backbone.encode_images(crops)
    with learner.merged_for_inference():
        return not torch.equal(learner.backbone.encode_images(crops), before)


@pytest.mark.parametrize("count", [1, BATCH - 1, BATCH, 2 * BATCH + 3])
@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("zero-shot", {}),
        ("lora", {}),
        ("lora", {"encoder": "text"}),
        ("lora", {"encoder": "vision"}),
        ("lora", {"precision": "bf16"}),
        ("lora", {"quantize": "nf4"}),
        ("full", {}),
    ],
    ids=str,
)
def test_probabilities_are_those_of_the_plain_way(learner_on, method, settings, count):
    learner = learner_on(method, **settings)
    images = Photographs(count)
    found, expected = found_by(learner, images), plainly(learner, images)
    assert found.dtype == np.float32
    assert found.shape == (count, 3)
    merges = changes_the_arithmetic(learner)
    assert merges == (method == "lora" and settings in ({}, {"encoder": "vision"}))
    if merges and count >= BATCH:
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
    else:
        np.testing.assert_array_equal(found, expected)


def test_photographs_in_full_size_are_never_more_than_threads(learner_on):
    images = Photographs(6 * BATCH)
    found_by(learner_on("zero-shot"), images)
    assert sorted(images.asked) == list(range(6 * BATCH))
    assert 1 <= images.most_alive <= predict._CPU_THREADS
    assert images.alive == 0


@pytest.mark.parametrize("shape", [(20, 900, 3), (900, 20, 3), (33, 40, 3), (16, 16, 3)])
def test_a_crop_that_waits_holds_on_to_itself_alone(shape):
    learner = SimpleNamespace(backbone=SimpleNamespace(image_size=16, resizing=Resizing()))
    crop = predict._crop([np.zeros(shape, np.uint8)], learner, 0)
    assert crop.base.untyped_storage().nbytes() == crop.nbytes == 3 * 16 * 16 * 4  # the tensor it is a view of


def test_the_next_batch_is_decoded_while_this_one_is_computed(learner_on, monkeypatch):
    """Nothing more is computed here until all images of the next batch have been decoded, and only those."""
    images, encode, seen = Photographs(3 * BATCH), Backbone.encode_images, []

    def encode_when_the_next_are_there(self, batch):
        wanted = min(len(images), (len(seen) + 2) * BATCH)
        for _ in range(1000):
            if len(images.asked) >= wanted:
                break
            threading.Event().wait(0.01)
        seen.append(len(images.asked))
        return encode(self, batch)

    monkeypatch.setattr(Backbone, "encode_images", encode_when_the_next_are_there)
    found_by(learner_on("zero-shot"), images)
    assert seen == [2 * BATCH, 3 * BATCH, 3 * BATCH]


class Damaged(Photographs):
    def __getitem__(self, index):
        if index == 6:
            raise DataError("photo6.jpg cannot be decoded")
        return super().__getitem__(index)


def test_a_damaged_image_is_named_and_no_thread_is_left(learner_on):
    with refused(DataError, "photo6.jpg"):
        found_by(learner_on("lora"), Damaged(12))
    assert not decoding_threads()


def test_where_computing_fails_no_thread_is_left_either(learner_on, monkeypatch):
    def fail(self, batch):
        raise ZeroDivisionError

    learner = learner_on("lora")
    monkeypatch.setattr(Backbone, "encode_images", fail)
    with pytest.raises(ZeroDivisionError) as kept:  # with all frames of its traceback
        found_by(learner, Photographs(3 * BATCH))
    assert not decoding_threads()
    del kept


def decoding_threads():
    return [thread for thread in threading.enumerate() if "decoding" in thread.name]


def test_progress_is_that_of_batches(learner_on):
    seen = []

    def track(items, *, what, total):
        for item in items:
            seen.append((what, total))
            yield item

    found_by(learner_on("lora"), Photographs(2 * BATCH + 1), track=track)
    assert seen == [("evaluating", 3)] * 3


def test_a_few_images_are_judged_without_merging(learner_on, monkeypatch):
    learner, merged = learner_on("lora"), []
    merging = learner.merged_for_inference
    monkeypatch.setattr(learner, "merged_for_inference", lambda: (merged.append(1), merging())[1])
    found_by(learner, Photographs(BATCH - 1))
    assert not merged
    found_by(learner, Photographs(BATCH))
    assert merged


def test_probabilities_that_are_no_numbers_are_an_error(learner_on):
    learner = learner_on("lora")
    learner.parameters[0].data.fill_(torch.nan)
    with refused(RunError, "not finite", "diverged"):
        found_by(learner, Photographs(2))


def test_scores_whose_logarithm_is_no_number_are_an_error_where_shots_are_held_out(learner_on, monkeypatch):
    learner, photographs = learner_on("lora"), Photographs(2)
    far_apart = torch.tensor([[3e38, -3e38, 0.0]]).repeat(2, 1)
    monkeypatch.setattr(learner, "logits_of", lambda embeddings: far_apart)
    with refused(RunError, "not finite", "diverged"):
        scored(learner, Examples(photographs, np.zeros(2, dtype=np.int64), ("a", "b")), silent)


def test_images_in_memory_need_no_decoding_and_are_judged_alike(learner_on):
    photographs = Photographs(5)
    learner = learner_on("zero-shot")
    in_memory = MemoryImages([photographs[i] for i in range(5)])
    np.testing.assert_array_equal(found_by(learner, in_memory), found_by(learner, photographs))


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["lora", "zero-shot"])
@pytest.mark.parametrize("count", [3, 5 * BATCH])
def test_on_a_cuda_device_it_is_the_same(learner_on, method, count):
    images, here, there = Photographs(count), learner_on(method), learner_on(method, device="cuda")
    for one, other in zip(getattr(there, "parameters", ()), getattr(here, "parameters", ()), strict=True):
        one.data.copy_(other)
    np.testing.assert_allclose(found_by(there, images), found_by(here, images), atol=1e-3, rtol=0)
    with torch.no_grad():
        np.testing.assert_allclose(found_by(there, images), plainly(there, images), atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", ["lora", "zero-shot"])
@pytest.mark.parametrize("count", [BATCH - 1, 2 * BATCH + 3])
def test_images_that_come_batch_by_batch_get_the_same_answers(learner_on, method, count):
    learner, images = learner_on(method), Photographs(count)
    batches = list(judged_as_read(learner, images))
    assert [len(batch) for batch in batches[:-1]] == [BATCH] * (count // BATCH)
    assert np.array_equal(
        np.stack([row.probabilities for batch in batches for row in batch]), found_by(learner, images)
    )


class CutShort(Photographs):
    broken = frozenset({1, *range(BATCH, 2 * BATCH)})  # one of a batch, and a whole batch

    def __getitem__(self, index):
        if index in self.broken:
            raise ImageError(f"photo{index}.jpg is cut short")
        return super().__getitem__(index)


def test_an_image_that_cannot_be_read_has_its_error_in_its_place(learner_on):
    learner, count = learner_on("lora"), 3 * BATCH - 1
    expected = found_by(learner, Photographs(count))
    rows = [row for batch in judged_as_read(learner, CutShort(count)) for row in batch]
    assert len(rows) == count
    for index, row in enumerate(rows):
        if index in CutShort.broken:
            assert str(row) == f"photo{index}.jpg is cut short"
        else:
            np.testing.assert_allclose(row.probabilities, expected[index], atol=1e-6, rtol=0)


def test_between_batches_the_learner_is_as_it_was_and_images_wait(learner_on):
    learner, images = learner_on("lora"), Photographs(20 * BATCH)
    before = [parameter.clone() for parameter in learner.backbone.model.parameters()]
    batches = judged_as_read(learner, images)
    next(batches)
    assert all(map(torch.equal, before, learner.backbone.model.parameters()))
    assert len(images.asked) <= 3 * BATCH
    batches.close()
    assert not decoding_threads()
