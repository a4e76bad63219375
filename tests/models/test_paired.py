"""A second image encoder beside a CLIP: features one after the other, for heads."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from torch.nn import functional

from lowshot import FewShotClassifier
from lowshot.classifier import saved_adapter
from lowshot.data import Examples, MemoryImages, Task
from lowshot.errors import AdapterError, InputError
from lowshot.models import KeptBackbone, load_backbone
from lowshot.models.classes import embedded
from lowshot.serving import AdapterBank
from lowshot.training.placing import count_parameters
from refusing import refused
from tiny_models import write_image_encoder

ABLE = ("nearest-mean", "gda", "proker", "linear-probe")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """Folder of a random ViT."""
    return write_image_encoder(tmp_path_factory.mktemp("vit"), "vit")


def colours(of_each, seed):
    labels = np.tile(np.arange(3), of_each)
    pixels = np.random.default_rng(seed).integers(0, 60, (len(labels), 20, 20, 3), dtype=np.uint8)
    for picture, label in zip(pixels, labels, strict=True):
        picture[..., label] += 150
    return Examples(MemoryImages(pixels), labels, tuple(f"{seed} {row}" for row in range(len(labels))))


@pytest.fixture(scope="module")
def task():
    return Task("colours", ("red", "green", "blue"), train=colours(4, 0), test=colours(8, 1))


def test_embeddings_stand_one_behind_the_other_and_prompts_mean_what_they_did(tiny_clip, encoder):
    pair = load_backbone(f"{tiny_clip} + {encoder}")
    one, other = load_backbone(str(tiny_clip)), load_backbone(str(encoder))
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        joined = pair.encode_images(images)
        classes = embedded(pair, ["a cat", "a dog"])[0]
        expected = one.logits(one.encode_images(images), embedded(one, ["a cat", "a dog"])[0])
        each = [backbone.encode_images(images) for backbone in (one, other)]
    torch.testing.assert_close(joined, torch.cat(each, 1) / math.sqrt(2))
    torch.testing.assert_close(pair.logits(joined, classes), expected, atol=1e-5, rtol=1e-5)
    assert pair.embedding_size == one.embedding_size + 24
    assert pair.parameters == one.parameters + other.parameters
    assert pair.identity.weights_sha256 not in (one.identity.weights_sha256, other.identity.weights_sha256)


def test_each_sees_images_of_its_own_size(tiny_clip):
    pair, builtin = load_backbone(f"{tiny_clip} + builtin"), load_backbone("builtin")
    assert pair.image_size == builtin.image_size == 32
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    small = functional.interpolate(images, (16, 16), mode="bicubic", antialias=True).clamp(0, 1)
    with torch.no_grad():
        joined = pair.encode_images(images) * math.sqrt(2)
        expected = load_backbone(str(tiny_clip)).encode_images(small), builtin.encode_images(images)
    torch.testing.assert_close(joined, torch.cat(expected, 1))


def test_copies_are_of_both(tiny_clip, encoder):
    backbones = KeptBackbone()
    one, other = (backbones.load(f"{tiny_clip} + {encoder}") for _ in range(2))
    one.second.model.to(torch.bfloat16)
    assert other.second.dtype == torch.float32


@pytest.mark.parametrize("method", ABLE)
def test_a_head_learns_on_both_is_served_and_comes_back_the_same(tiny_clip, encoder, task, method, tmp_path):
    settings = {"views": 2} if method == "gda" else {}
    classifier = FewShotClassifier(str(tiny_clip), beside=str(encoder), method=method, **settings).fit(task)
    assert classifier.evaluate(task)["acc1"] >= 0.9
    assert classifier.record_.recipe["model"]["beside"] == str(encoder.resolve())
    classifier.save_pretrained(tmp_path / "adapters" / "colours")
    images = [task.test.images[row] for row in range(4)]
    table = classifier.predict_proba(images)
    assert np.array_equal(saved_adapter(tmp_path / "adapters" / "colours").predict_proba(images), table)
    answers = AdapterBank(tmp_path / "adapters").predict(images, "colours")
    np.testing.assert_allclose([answer.probabilities for answer in answers], table, atol=5e-3)
    counted = count_parameters(classifier.recipe.replace(shots=4), classes=3)
    assert counted.total_parameters == classifier.record_.total_parameters
    assert counted.adapter_bytes == classifier.record_.adapter_bytes


def test_auto_chooses_among_those(tiny_clip, encoder, task):
    record = FewShotClassifier(str(tiny_clip), beside=str(encoder)).fit(task).record_
    assert {trial["method"] for trial in record.choice["tried"]} == set(ABLE)


def test_an_adapter_needs_both_models(tiny_clip, encoder, task, tmp_path):
    classifier = FewShotClassifier(str(tiny_clip), beside=str(encoder), method="nearest-mean").fit(task)
    classifier.save_pretrained(tmp_path / "adapter")
    with refused(AdapterError, tmp_path / "adapter", tiny_clip, "--model MODEL"):
        saved_adapter(tmp_path / "adapter", beside="builtin")


def test_what_has_no_use_for_it_is_refused(tiny_clip, encoder, task):
    for method in ("lora", "zero-shot", "task-res"):
        with refused(InputError, "beside", encoder, f"method {method}", "nearest-mean, gda"):
            FewShotClassifier(str(tiny_clip), beside=str(encoder), method=method).fit(task, shots=1)
    with refused(InputError, "beside is 'builtin'", "another model"):
        FewShotClassifier(beside="builtin").fit(task)


def test_a_pair_is_known_whichever_way_the_end_of_text_is_spelt(tiny_clip, encoder, tmp_path):
    copy = shutil.copytree(tiny_clip, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    config["text_config"]["eos_token_id"] = 2  # means the largest, which it is there
    (copy / "config.json").write_text(json.dumps(config))
    one, other = (load_backbone(f"{each} + {encoder}").identity for each in (tiny_clip, copy))
    assert one.weights_sha256 == other.weights_sha256
    assert one.settings_sha256 != other.settings_sha256
    assert one.settings_sha256 in other.equal_settings_sha256
    assert other.settings_sha256 in one.equal_settings_sha256
