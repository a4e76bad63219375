"""Adapters that tell images of none of their classes, served beside some that do not."""

import numpy as np
import pytest

from lowshot import FewShotClassifier
from lowshot.serving import AdapterBank
from lowshot.serving.schema import ImageAnswer
from lowshot.serving.service import Options, _image_answer

from .conftest import CLASSES, pictures


@pytest.fixture(scope="module")
def classifiers(tiny_clip, tmp_path_factory):
    """The bank's folder, and the classifiers in it by their names."""
    folder, images = tmp_path_factory.mktemp("adapters"), list(pictures(24))
    labels = [CLASSES[number % 3] for number in range(24)]
    lora = {"method": "lora", "base_steps": 2, "steps_per_shot": 0, "calibration_folds": 2}
    kinds = {"head": {"method": "gda", "reject": 0.05}, "tower": {**lora, "reject": 0.5}, "silent": lora}
    by_name = {name: FewShotClassifier(str(tiny_clip), **kind).fit(images, labels) for name, kind in kinds.items()}
    for name, classifier in by_name.items():
        classifier.save_pretrained(folder / name)
    return folder, by_name


def test_each_row_is_told_by_its_own_adapter(classifiers):
    folder, by_name = classifiers
    bank, images = AdapterBank(folder, half_classes=False), list(pictures(12, seed=4))
    names = ["tower", "silent", "head"] * 4
    for name, image, prediction in zip(names, images, bank.predict(images, names), strict=True):
        if name == "silent":
            assert (prediction.p_value, prediction.none_of_these) == (None, None)
            continue
        assert prediction.p_value == pytest.approx(by_name[name].p_values([image])[0], abs=1.1 / 25)
        assert prediction.none_of_these == (prediction.p_value <= by_name[name].recipe.training.reject)
    told = [prediction.none_of_these for prediction in bank.predict(images, "tower")]
    assert any(told)
    assert not all(told)
    assert bank.used_bytes >= 2 * sum(t.nbytes for t in by_name["head"].belonging.gaussians.tensors().values())


@pytest.mark.parametrize("name", ["head", "silent"])
def test_answers_over_http_say_it_where_it_is_known(classifiers, name):
    [prediction] = AdapterBank(classifiers[0]).predict([np.zeros((20, 20, 3), np.uint8)], name)
    answer = _image_answer(prediction, None, Options(), None)
    ImageAnswer.model_validate(answer)
    assert ("none_of_these" in answer) == ("p_value" in answer) == (name == "head")


def test_an_adapter_that_learns_to_tell_is_read_again(classifiers, tmp_path, tiny_clip):
    images, labels = list(pictures(24)), [CLASSES[number % 3] for number in range(24)]
    plain = FewShotClassifier(str(tiny_clip), method="gda").fit(images, labels)
    plain.save_pretrained(tmp_path / "pets")
    bank = AdapterBank(tmp_path)
    assert bank.predict(images[:1], "pets")[0].none_of_these is None
    (tmp_path / "pets").rename(tmp_path / ".before")
    classifiers[1]["head"].save_pretrained(tmp_path / "pets")
    assert bank.predict(images[:1], "pets")[0].none_of_these is not None
