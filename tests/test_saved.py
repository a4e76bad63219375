"""A saved adapter opened elsewhere: on another machine, and with its backbone in another place."""

import json
import logging
import shutil

import numpy as np
import pytest

from lowshot import FewShotClassifier
from lowshot.errors import AdapterError, InputError
from lowshot.serving import AdapterBank
from refusing import refused


@pytest.fixture(scope="module")
def images():
    return list(np.random.default_rng(0).integers(0, 255, (4, 20, 20, 3), dtype=np.uint8))


@pytest.fixture
def adapter(tiny_clip, images, tmp_path):
    """An adapter on a model of its own, which lies in ``clip``."""
    shutil.copytree(tiny_clip, tmp_path / "clip")
    classifier = FewShotClassifier(str(tmp_path / "clip"), method="nearest-mean").fit(images, list("abab"))
    classifier.save_pretrained(tmp_path / "adapters" / "one")
    return tmp_path / "adapters" / "one"


def test_an_adapter_of_a_device_that_is_not_here_is_opened_on_another(adapter, images):
    """It was refused, and only a setting of the command line opened it."""
    record = json.loads((adapter / "lowshot.json").read_text())
    record["recipe"]["model"]["device"] = "cuda:99"
    (adapter / "lowshot.json").write_text(json.dumps(record))

    classifier = FewShotClassifier.from_pretrained(adapter)

    assert classifier.recipe.model.device == "auto"
    assert len(classifier.predict(images)) == 4
    assert any("was fitted on cuda:99, which this machine has not" in line for line in classifier.warnings_)
    with refused(InputError, "device", "'cuda:98'"):
        FewShotClassifier.from_pretrained(adapter, device="cuda:98")


def test_a_backbone_that_was_moved_says_how_to_tell_where_it_is(adapter, tiny_clip, tmp_path):
    (tmp_path / "clip").rename(tmp_path / "moved")

    for opened in (lambda: FewShotClassifier.from_pretrained(adapter), lambda: AdapterBank(adapter.parent)):
        with refused(InputError, tmp_path / "clip", "no such folder", "--model"):
            opened()
    assert FewShotClassifier.from_pretrained(adapter, model=str(tmp_path / "moved")).is_fitted
    with refused(InputError, tmp_path / "none", "no such folder") as raised:
        FewShotClassifier.from_pretrained(adapter, model=str(tmp_path / "none"))
    assert "--model" not in str(raised.value)


def test_a_backbone_that_is_another_says_how_to_tell_where_the_right_one_is(adapter):
    with refused(AdapterError, adapter, "weights", "--model"):
        FewShotClassifier.from_pretrained(adapter, model="builtin")


@pytest.mark.parametrize(("before", "after"), [(logging.NOTSET, logging.ERROR), (logging.INFO, logging.INFO)])
def test_bitsandbytes_is_silent_unless_its_level_is_set(adapter, before, after):
    """It logged a line whenever PEFT imported it, but for the command line."""
    logger, level = logging.getLogger("bitsandbytes"), logging.getLogger("bitsandbytes").level
    try:
        logger.setLevel(before)
        FewShotClassifier.from_pretrained(adapter)
        assert logger.level == after
    finally:
        logger.setLevel(level)
