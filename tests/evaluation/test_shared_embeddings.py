import gc

import numpy as np
import pytest
import torch

from lowshot import FewShotClassifier
from lowshot.data import Examples, Task
from lowshot.evaluation import probabilities
from lowshot.training.embeddings import EmbeddingCache, tower_key

from .conftest import Photographs


def judge(learner, images, features):
    return probabilities(learner, images, features=features)


def test_learners_on_one_frozen_tower_encode_the_images_once(learner_on, passes):
    features, images = EmbeddingCache(), Photographs(5)
    learners = [
        learner_on("zero-shot"),
        learner_on("zero-shot", prompts=("one", "another")),
        learner_on("lora", encoder="text"),
        learner_on("layernorm", encoder="text"),
    ]
    shared = [judge(learner, images, features) for learner in learners]
    assert passes == [5]
    assert len(images.asked) == 5
    direct = [judge(learner, images, EmbeddingCache()) for learner in learners]
    assert passes == [5] * 5
    for one, other in zip(shared, direct, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6, rtol=0)
    assert not np.allclose(shared[0], shared[2], atol=1e-3)


def test_classifiers_that_are_evaluated_on_one_task_encode_its_images_once(tiny_clip, passes):
    train, test = (Examples(Photographs(4), np.array([0, 1, 0, 1]), tuple("abcd")) for _ in range(2))
    task = Task("two", ("cat", "dog"), train=train, test=test)
    for template in ("a photo of a {}.", "a drawing of a {}."):
        FewShotClassifier(str(tiny_clip), method="zero-shot", template=template).fit(task).evaluate(task)
    assert passes == [4]
    assert sorted(test.images.asked) == [0, 1, 2, 3]


@pytest.fixture(scope="module")
def other_weights(tiny_clip, tmp_path_factory):
    """The tiny CLIP with one number changed."""
    from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

    folder = tmp_path_factory.mktemp("other")
    model = CLIPModel.from_pretrained(tiny_clip)
    model.vision_model.encoder.layers[0].mlp.fc1.weight.data[0, 0] += 1
    AutoImageProcessor.from_pretrained(tiny_clip, backend="pil").save_pretrained(folder)
    for part in (model, AutoTokenizer.from_pretrained(tiny_clip)):
        part.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def other_settings(tiny_clip, tmp_path_factory):
    """The tiny CLIP with another normalisation of its pixels."""
    from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

    folder = tmp_path_factory.mktemp("other")
    AutoImageProcessor.from_pretrained(tiny_clip, backend="pil", image_mean=[0.1, 0.2, 0.3]).save_pretrained(folder)
    for part in (CLIPModel.from_pretrained(tiny_clip), AutoTokenizer.from_pretrained(tiny_clip)):
        part.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "other",
    [
        {"quantize": "nf4"},
        {"quantize": "int8"},
        {"precision": "bf16"},
        {"model": "other_weights"},
        {"model": "other_settings"},
    ],
    ids=str,
)
def test_another_tower_has_embeddings_of_its_own(learner_on, passes, other, request):
    if "model" in other:
        other = {"model": request.getfixturevalue(other["model"])}
    features, images = EmbeddingCache(), Photographs(3)
    first, second = learner_on("zero-shot"), learner_on("zero-shot", **other)
    for learner in (first, second):
        judge(learner, images, features)
    assert passes == [3, 3]
    np.testing.assert_array_equal(judge(second, images, features), judge(second, images, EmbeddingCache()))
    assert passes == [3, 3, 3]


@pytest.mark.parametrize("settings", [{}, {"encoder": "vision"}], ids=str)
@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_trained_tower_shares_nothing(learner_on, method, settings):
    features, images = EmbeddingCache(), Photographs(3)
    plain = judge(learner_on("zero-shot"), images, features)
    kept = features.cached_bytes
    assert not np.allclose(judge(learner_on(method, **settings), images, features), plain, atol=1e-3)
    assert features.cached_bytes == kept > 0


def test_other_images_have_embeddings_of_their_own(learner_on):
    features, learner = EmbeddingCache(), learner_on("zero-shot")
    one, other = Photographs(3), Photographs(4)
    assert len(judge(learner, one, features)) == 3
    assert len(judge(learner, other, features)) == 4


def test_images_are_not_kept_alive_and_their_embeddings_go_with_them(learner_on):
    features, learner = EmbeddingCache(), learner_on("zero-shot")
    images = Photographs(3)
    judge(learner, images, features)
    assert features.cached_bytes == 3 * 16 * 4
    del images
    gc.collect()
    assert features.cached_bytes == 0


def test_new_images_at_an_old_address_are_new(learner_on):
    learner = learner_on("zero-shot")
    features, old, new = EmbeddingCache(), Photographs(3), Photographs(4)
    judge(learner, old, features)
    (tower, _), entry = features._cached.popitem()
    features._cached[tower, id(new)] = entry  # as if ``old`` had gone unnoticed and ``new`` been put in its place
    assert len(judge(learner, new, features)) == 4


def test_images_that_cannot_be_watched_are_encoded_each_time(learner_on, passes):
    features, learner = EmbeddingCache(), learner_on("zero-shot")
    images = [Photographs(1)[0]] * 2
    np.testing.assert_array_equal(judge(learner, images, features), judge(learner, images, features))
    assert passes == [2, 2]
    assert features.cached_bytes == 0


def test_the_least_recently_used_go_first_and_the_cap_is_kept(learner_on, passes):
    learner = learner_on("zero-shot")
    features = EmbeddingCache(capacity_bytes=2 * 3 * 16 * 4)
    one, two, three, many = (Photographs(count) for count in (3, 3, 3, 7))
    for images in (one, two, one, three):  # now ``two`` was used longest ago
        judge(learner, images, features)
        assert features.cached_bytes <= features.capacity_bytes
    assert passes == [3, 3, 3]
    judge(learner, one, features)
    judge(learner, three, features)
    assert passes == [3, 3, 3]
    judge(learner, two, features)
    assert passes == [3, 3, 3, 3]
    judge(learner, many, features)  # more than may be kept at all: the others stay
    assert features.cached_bytes == features.capacity_bytes


def test_embeddings_of_a_model_in_float64_stay_so(learner_on):
    features, learner = EmbeddingCache(), learner_on("zero-shot")
    learner.backbone.model.double()
    learner.classes = learner.classes.double()
    images = Photographs(2)
    key = tower_key(learner.backbone, learner.recipe.model)
    exact = features.get(key, images, lambda: torch.ones(2, 16, dtype=torch.float64)).values
    assert exact.dtype == torch.float64
    assert judge(learner, images, features).shape == (2, 3)
