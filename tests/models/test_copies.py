import numpy as np
import pytest
import torch

from lowshot import FewShotClassifier
from lowshot.models import KeptBackbone, copies, load_backbone


def counted(monkeypatch):
    asked = []
    monkeypatch.setattr(copies, "load_backbone", lambda model: asked.append(model) or load_backbone(model))
    return asked


def test_a_models_files_are_read_once(tiny_clip, monkeypatch):
    asked, shelf = counted(monkeypatch), KeptBackbone()
    backbones = [shelf.load(str(tiny_clip)) for _ in range(3)]
    assert asked == [str(tiny_clip)]
    assert len({id(each.model) for each in backbones}) == 3
    assert backbones[0].identity == backbones[1].identity == backbones[2].identity


def test_another_model_takes_the_place_of_the_last_one(tiny_clip, monkeypatch):
    asked, shelf = counted(monkeypatch), KeptBackbone()
    for model in (str(tiny_clip), "builtin", "builtin", str(tiny_clip)):
        shelf.load(model)
    assert asked == [str(tiny_clip), "builtin", str(tiny_clip)]


def test_what_is_done_to_one_copy_is_not_seen_in_the_next(tiny_clip):
    shelf = KeptBackbone()
    spoilt = shelf.load(str(tiny_clip))
    spoilt.model.to(torch.bfloat16)
    for parameter in spoilt.model.parameters():
        parameter.data.zero_()
    fresh, plain = shelf.load(str(tiny_clip)), load_backbone(str(tiny_clip))
    assert {p.dtype for p in fresh.model.parameters()} == {torch.float32}
    images = torch.rand(2, 3, fresh.image_size, fresh.image_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(fresh.encode_images(images), plain.encode_images(images))


@pytest.mark.parametrize("method", ["lora-xs", "layernorm", "qlora"])
def test_a_classifier_on_a_copy_learns_the_same_as_on_a_loaded_one(tiny_clip, method):
    shelf, tables = KeptBackbone(), []
    settings = {"steps_per_shot": 2, "learning_rate": 1e-2} | ({"rank": 4} if method == "lora-xs" else {})
    recipe = FewShotClassifier(str(tiny_clip), method=method, **settings).recipe
    images = list(np.random.default_rng(0).integers(0, 255, (4, 20, 20, 3), dtype=np.uint8))
    for load in (None, shelf.load, shelf.load):
        classifier = FewShotClassifier.from_recipe(recipe, load).fit(images, ["a", "b", "a", "b"])
        tables.append(classifier.predict_proba(images))
    assert np.array_equal(tables[0], tables[1])
    assert np.array_equal(tables[0], tables[2])
