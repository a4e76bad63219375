"""Classes whose prompts are different texts and the same tokens are refused: the text tower cannot tell them apart."""

import json

import numpy as np
import pytest

from lowshot import FewShotClassifier
from lowshot.errors import DataError
from lowshot.models import load_backbone
from lowshot.models.classes import read_alike
from refusing import refused

PAIRS = [("4.7k", "47k"), ("C#", "C++"), ("犬", "猫")]
"""SigLIP's tokenizer has no capitals and no punctuation; that of the tiny model knows neither of the last two."""


@pytest.fixture(scope="module")
def images():
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(4)]


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("method", ["zero-shot", "gda"])
def test_both_classes_are_named_and_what_to_do(tiny_siglip, images, pair, method):
    with refused(DataError, *map(repr, pair), "--class-names"):
        FewShotClassifier(str(tiny_siglip), method=method).fit(images, [*pair, "other", pair[0]])


def test_other_names_for_them_are_learnt(tiny_siglip, images, tmp_path):
    (tmp_path / "names.json").write_text(json.dumps({"C#": "C sharp", "C++": "C plus"}))
    names = str(tmp_path / "names.json")
    classifier = FewShotClassifier(str(tiny_siglip), method="zero-shot", class_names=names, template="a {}.")
    assert classifier.fit(images, ["C#", "C++"] * 2).is_fitted


def test_classes_that_share_some_of_their_prompts_are_two(tiny_siglip):
    backbone = load_backbone(str(tiny_siglip))
    assert read_alike(backbone, [["a cat", "a dog"], ["a dog"], ["A CAT!"]]) is None
    assert read_alike(backbone, [["a cat", "a dog"], "a bird", ["A dog.", "a Cat"]]) == (0, 2)
    assert read_alike(load_backbone("builtin"), ["letter a", "letter b"]) is None
