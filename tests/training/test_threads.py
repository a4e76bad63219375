"""Fits on threads of one process: each is what its seed makes of it, whatever the others do."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from lowshot import FewShotClassifier

CASES = [{"method": "lora"}, {"method": "coop"}, {"method": "peft:pvera", "gradient_checkpointing": True}]


@pytest.fixture(scope="module")
def images():
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(4)]


def learnt(model, images, settings, seed):
    classifier = FewShotClassifier(str(model), base_steps=2, steps_per_shot=0, seed=seed, **settings)
    classifier.fit(images, ["cat", "dog", "bird", "dog"])
    return classifier.predict_proba(images)


def test_fits_on_threads_are_those_of_their_seeds(tiny_clip, images):
    jobs = [(settings, seed) for settings in CASES for seed in (1, 2)]
    alone = [learnt(tiny_clip, images, *job) for job in jobs]
    state = torch.random.get_rng_state()

    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda job: learnt(tiny_clip, images, *job), jobs))

    assert torch.equal(state, torch.random.get_rng_state())
    for (settings, seed), one, other in zip(jobs, alone, found, strict=True):
        assert np.array_equal(one, other), (settings, seed, abs(one - other).max())
