"""What judging images asks of its device, counted on torch's meta device: each batch is copied there, once."""

import dataclasses

import pytest

from lowshot.evaluation import predict, probabilities
from lowshot.heads import HEADS, blank_tensors
from lowshot.training.embeddings import EmbeddingCache
from meta_device import META, counted

from .conftest import Photographs

BATCH = 4


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(predict, "BATCH_SIZE", BATCH)


@pytest.fixture
def learner_on_meta(learner_on):
    """A fitted learner on the meta device."""

    def build(method, **settings):
        learner = learner_on(method, **settings)
        learner.backbone.model.to(META)
        if method in HEADS:
            tensors = blank_tensors(HEADS[method], classes=3, width=learner.backbone.embedding_size, images=6)
            learner.head = HEADS[method](**tensors)
        if learner.recipe.method.method == "zero-shot" or method in HEADS:
            learner.classes, learner._lengths = learner.classes.to(META), learner._lengths.to(META)
        else:
            tokens = {name: ids.to(META) for name, ids in learner.class_vectors.tokens.items()}
            learner.class_vectors = dataclasses.replace(learner.class_vectors, tokens=tokens)
        return learner

    return build


def counts_of(learner, images, features):
    with counted() as counts:
        table = probabilities(learner, images, features=features)
    assert table.shape == (len(images), 3)
    return counts


@pytest.mark.parametrize("batches", [1, 3])
@pytest.mark.parametrize(
    ("method", "settings"),
    [("lora", {}), ("lora", {"precision": "bf16"}), ("lora-xs", {}), ("dora", {}), ("layernorm", {}), ("full", {})],
    ids=str,
)
def test_a_trained_tower_is_sent_each_batch_once_and_waited_for_at_the_end(learner_on_meta, method, settings, batches):
    learner, images = learner_on_meta(method, **settings), Photographs(batches * BATCH)
    counts_of(learner, images, EmbeddingCache())  # encodes the classes, and moves what is moved once
    counts = counts_of(learner, images, EmbeddingCache())
    assert (counts.copies, counts.waits, counts.answers) == (batches, 0, 1)


@pytest.mark.parametrize("method", ["zero-shot", *HEADS])
def test_embeddings_of_a_frozen_tower_are_sent_all_at_once(learner_on_meta, method):
    learner, images, features = learner_on_meta(method), Photographs(3 * BATCH), EmbeddingCache()
    counts_of(learner, images, EmbeddingCache())
    first, again = counts_of(learner, images, features), counts_of(learner, images, features)
    assert (first.copies, first.waits, first.answers) == (3 + 1, 0, 2)  # they are read, to be kept for other learners
    assert (again.copies, again.waits, again.answers) == (1, 0, 1)
