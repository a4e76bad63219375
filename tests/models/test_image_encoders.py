"""ViT, DINOv2 and DINOv3 as image encoders without text, against transformers' own forward pass."""

import json

import numpy as np
import pytest
import torch
import transformers
from torch.nn import functional

from lowshot import FewShotClassifier
from lowshot.classifier import saved_adapter
from lowshot.data import Examples, MemoryImages, Task
from lowshot.errors import InputError
from lowshot.models import load_backbone, load_structure
from lowshot.settings import preset_recipe
from lowshot.training.placing import count_parameters
from refusing import refused
from tiny_models import IMAGE_ENCODERS, write_image_encoder


def transformers_embeddings(folder, images):
    """The class token behind the last norm, which the DINOs' own classifiers read, of normalised pixels."""
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    model = getattr(transformers, IMAGE_ENCODERS[kind]).from_pretrained(folder).eval()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.4, 0.5, 0.6), (0.2, 0.3, 0.25)))
    with torch.no_grad():
        output = model((images - mean) / std)
    return functional.normalize(output.last_hidden_state[:, 0] if kind == "vit" else output.pooler_output, dim=-1)


def test_embeddings_are_those_of_transformers(tiny_image_encoder):
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    backbone = load_backbone(str(tiny_image_encoder))
    with torch.no_grad():
        embeddings = backbone.encode_images(images)
    torch.testing.assert_close(embeddings, transformers_embeddings(tiny_image_encoder, images), atol=1e-5, rtol=0)
    assert (embeddings[0] - embeddings[1]).abs().max() > 1e-3
    assert (backbone.has_text, backbone.embedding_size, backbone.image_size) == (False, 24, 16)
    assert backbone.image_tokens == backbone.embed_images(images).hidden.shape[1]


@pytest.mark.parametrize(
    ("kind", "setting"), [("dinov2", {"use_swiglu_ffn": True}), ("dinov3_vit", {"use_gated_mlp": True})]
)
def test_the_largest_ones_have_a_gate_in_their_mlp(tmp_path, kind, setting):
    folder = write_image_encoder(tmp_path, kind, **setting)
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    backbone = load_backbone(str(folder))
    with torch.no_grad():
        embeddings = backbone.encode_images(images)
    torch.testing.assert_close(embeddings, transformers_embeddings(folder, images), atol=1e-5, rtol=0)
    assert len(backbone.encoder_linears()) == 2 * 7
    inner = backbone.model.get_submodule(backbone.module_name("vision", 0, "fc1")).out_features
    assert backbone.family.inner_width(backbone.vision_config) == 2 * inner
    assert backbone.model.get_submodule(backbone.module_name("vision", 0, "fc2")).in_features == inner


def test_the_structure_is_that_of_the_loaded_model(tiny_image_encoder):
    structure, backbone = load_structure(str(tiny_image_encoder)), load_backbone(str(tiny_image_encoder))
    shapes = [{n: p.shape for n, p in t.model.named_parameters()} for t in (structure, backbone)]
    assert shapes[0] == shapes[1]
    assert (structure.dtype, structure.image_size) == (backbone.dtype, backbone.image_size)


def test_another_setting_is_another_model(tiny_image_encoder):
    before = load_backbone(str(tiny_image_encoder)).identity
    path = tiny_image_encoder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "hidden_act": "relu"}))
    after = load_backbone(str(tiny_image_encoder)).identity
    assert after.weights_sha256 == before.weights_sha256
    assert after.settings_sha256 != before.settings_sha256
    path.write_text(json.dumps(config))


def colours(of_each, seed):
    labels = np.tile(np.arange(3), of_each)
    pixels = np.random.default_rng(seed).integers(0, 60, (len(labels), 20, 20, 3), dtype=np.uint8)
    for picture, label in zip(pixels, labels, strict=True):
        picture[..., label] += 150
    return Examples(MemoryImages(pixels), labels, tuple(f"{seed} {row}" for row in range(len(labels))))


def test_a_head_learns_on_it_and_comes_back_the_same(tiny_image_encoder, tmp_path):
    task = Task("colours", ("red", "green", "blue"), train=colours(4, 0), test=colours(8, 1))
    classifier = FewShotClassifier(str(tiny_image_encoder), method="linear-probe").fit(task)
    assert classifier.evaluate(task)["acc1"] == 1
    classifier.save_pretrained(tmp_path / "adapter")
    images = [task.test.images[row] for row in range(4)]
    assert np.array_equal(saved_adapter(tmp_path / "adapter").predict_proba(images), classifier.predict_proba(images))


def test_auto_tries_nothing_that_takes_longer_than_there_is_time(tmp_path, monkeypatch):
    monkeypatch.setattr("lowshot.fitting.trials.Trials._image_seconds", 100.0)
    task = Task("colours", ("red", "green", "blue"), train=colours(4, 0), test=colours(2, 1))
    folder = write_image_encoder(tmp_path, "dinov2")
    tried = FewShotClassifier(str(folder), method="auto").fit(task).record_.choice["tried"]
    notes = {trial["method"]: trial["said"] for trial in tried}
    assert notes.pop("gda").startswith("not tried: it would take 24,000 s or more")  # ten views of each image, twice
    assert set(notes) == {"nearest-mean", "linear-probe", "proker"}
    assert not any(notes.values())


def test_what_needs_prompts_is_refused_with_what_can_be_had(tiny_image_encoder):
    recipe = preset_recipe("paper", "coop").replace(model=str(tiny_image_encoder))
    with refused(InputError, "method coop", tiny_image_encoder, "no text tower", "lora", "nearest-mean, gda"):
        count_parameters(recipe)


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        (None, ("FileNotFoundError",)),
        ("{", ("JSONDecodeError",)),
        ('{"image_mean": [0.5], "image_std": [0.5]}', ("image_mean (0.5,)", "image_std (0.5,)", "3 numbers")),
        ('{"image_mean": 1}', ("TypeError",)),
        ("[]", ("TypeError",)),
    ],
)
def test_pixels_that_nobody_knows_how_to_normalise_are_refused(tiny_image_encoder, text, facts):
    path = tiny_image_encoder / "preprocessor_config.json"
    path.unlink() if text is None else path.write_text(text)
    with refused(InputError, tiny_image_encoder, "preprocessor_config.json", *facts):
        load_backbone(str(tiny_image_encoder))


def test_dinov2_sees_the_224_pixels_that_its_processor_cuts(tmp_path):
    sizes = {"hidden_size": 24, "num_attention_heads": 2, "num_hidden_layers": 1, "model_type": "dinov2"}
    (tmp_path / "config.json").write_text(json.dumps({**sizes, "image_size": 518, "patch_size": 14}))
    assert load_structure(str(tmp_path)).image_size == 224
