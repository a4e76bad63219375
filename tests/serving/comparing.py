"""A bank's answers beside those of each adapter by itself."""

import numpy as np

from .conftest import KINDS

EXACT = 1e-5
"""Float32 throughout: one pass adds in another order than the classifier does."""


SAME = 1e-6
"""As ``EXACT``, of probabilities of a few classes."""


HALF_CLASSES = 1e-3
"""Class embeddings rounded to float16, at a logit scale of 14."""


BFLOAT16 = 1e-3
"""Products of other shapes may be rounded in another order; a step of bfloat16 is 2^-8. Here they differ by 1e-6."""


def rows_of(answers):
    return [answer.probabilities for answer in answers]


def assert_each_is_as_alone(bank, folder, names, images, alone, tolerance):
    for name, image, answer in zip(names, images, bank.predict(images, names), strict=True):
        expected = alone(folder / name, [image])[0]
        assert answer.adapter == name
        np.testing.assert_allclose(answer.probabilities, expected, atol=tolerance, rtol=0, err_msg=name)


def mixed_names():
    """Every kind twice, in no order."""
    return [str(name) for name in np.random.default_rng(0).permutation([*KINDS] * 2)]
