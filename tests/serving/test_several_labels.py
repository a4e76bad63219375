"""Adapters of images of several labels, served in one batch beside some of one."""

import numpy as np
import pytest

from lowshot import FewShotClassifier
from lowshot.serving import AdapterBank
from lowshot.serving.answerer import BackboneAnswer
from lowshot.serving.schema import ImageAnswer
from lowshot.serving.service import Options, _image_answer

from .conftest import CLASSES, pictures


@pytest.fixture(scope="module")
def classifiers(tiny_clip, tmp_path_factory):
    """The bank's folder, and the classifiers in it by their names."""
    folder, images = tmp_path_factory.mktemp("adapters"), list(pictures(24))
    one = [CLASSES[number % 3] for number in range(24)]
    several = [[label] if number % 2 else [label, CLASSES[(number + 1) % 3]] for number, label in enumerate(one)]
    several[:3] = [[], [], []]
    lora = {"method": "lora", "base_steps": 2, "steps_per_shot": 0}
    kinds = {"head": {"method": "proker"}, "tower": lora, "other": {**lora, "seed": 2}}
    by_name = {
        name: FewShotClassifier(str(tiny_clip), labels_per_image="several", **kind).fit(images, several)
        for name, kind in kinds.items()
    }
    by_name["one"] = FewShotClassifier(str(tiny_clip), **lora).fit(images, one)
    for name, classifier in by_name.items():
        classifier.save_pretrained(folder / name)
    return folder, by_name


def test_each_row_has_the_labels_that_its_own_adapter_says(classifiers):
    folder, by_name = classifiers
    bank, images = AdapterBank(folder, half_classes=False), list(pictures(12, seed=4))
    names = ["tower", "one", "head", "other"] * 3
    for name, image, prediction in zip(names, images, bank.predict(images, names), strict=True):
        expected = by_name[name].predict_proba([image])
        np.testing.assert_allclose(prediction.probabilities, expected[0], atol=2e-5)
        if name == "one":
            assert prediction.labels is None
        else:
            assert prediction.labels == by_name[name].predict([image])[0]


@pytest.mark.parametrize("name", ["tower", "one"])
def test_answers_over_http_have_all_labels_and_nothing_to_compare_them_with(classifiers, name):
    bank = AdapterBank(classifiers[0])
    [prediction] = bank.predict([np.zeros((20, 20, 3), np.uint8)], name)
    answer = _image_answer(prediction, BackboneAnswer(prediction.embedding, prediction), Options(zero_shot=True), None)
    ImageAnswer.model_validate(answer)
    assert ("labels" in answer, "zero_shot" in answer) == ((True, False) if name == "tower" else (False, True))
    assert bank.describe("head").summary.is_calibrated and not bank.describe("tower").summary.is_calibrated
