"""Images are resized as a model's own processor does; an adapter goes on with what it learnt by."""

import json
import shutil

import numpy as np
import pytest
import torch

from lowshot import FewShotClassifier
from lowshot.data.crops import central_crops
from lowshot.errors import AdapterError
from lowshot.models import load_backbone
from lowshot.resizing import Resizing
from lowshot.serving import AdapterBank
from refusing import refused

from ..tiny_models import write_image_encoder

SETTINGS = "preprocessor_config.json"
SQUASHED = Resizing("squash", "bicubic")


def photograph(height, width):
    """Smooth, so that a byte's rounding is all by which two ways of resizing differ."""
    rows, columns = np.mgrid[:height, :width] / max(height, width)
    waves = [np.cos(9 * rows * k + 5 * columns / k) for k in (1, 2, 3)]
    return (127.5 + 120 * np.stack(waves, -1)).astype(np.uint8)


def with_settings(folder, **changed):
    path = folder / SETTINGS
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    return folder


@pytest.mark.parametrize("model", ["tiny_clip", "tiny_siglip", "tiny_chinese_clip"])
@pytest.mark.parametrize("resample", [2, 3])
def test_pixels_are_those_of_the_models_own_processor(request, tmp_path, model, resample):
    from PIL import Image
    from transformers import AutoImageProcessor

    folder = shutil.copytree(request.getfixturevalue(model), tmp_path / "model")
    backbone = load_backbone(str(with_settings(folder, resample=resample)))
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (backbone.mean, backbone.std))
    for shape in [(300, 200), (97, 180), (40, 40), (6, 10)]:
        [expected] = processor(Image.fromarray(photograph(*shape)), return_tensors="pt")["pixel_values"]
        crop = central_crops([photograph(*shape)], backbone.image_size, backbone.resizing)[0]
        torch.testing.assert_close((crop - mean) / std, expected, atol=2 / 255 / min(backbone.std), rtol=0)


@pytest.mark.parametrize(
    ("published", "resizing"),
    [
        ({"image_processor_type": "ViTImageProcessor", "size": {"height": 16, "width": 16}, "resample": 2}, 2),
        ({"feature_extractor_type": "ViTFeatureExtractor", "size": 16, "resample": 2}, 2),
        (
            {"image_processor_type": "DINOv3ViTImageProcessorFast", "size": {"height": 16, "width": 16}, "resample": 2},
            2,
        ),
        ({"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 18}, "resample": 3}, None),
        ({"feature_extractor_type": "CLIPFeatureExtractor", "size": 16, "resample": 3}, None),
        ({}, None),
    ],
)
def test_an_image_encoder_is_shown_what_its_processor_says(tmp_path, published, resizing):
    folder = with_settings(write_image_encoder(tmp_path, "vit"), **published)
    backbone = load_backbone(str(folder))
    assert backbone.resizing == (Resizing("squash", "bilinear") if resizing else Resizing())
    assert backbone.resizing_before == Resizing()


def wide(count=6):
    """Images twice as wide as high: fitted and cut, or squashed, they are others."""
    return list(np.random.default_rng(3).integers(0, 256, (count, 20, 40, 3), dtype=np.uint8))


def taught(model, **settings):
    return FewShotClassifier(str(model), method="nearest-mean", **settings).fit(wide(), list("abcabc"), shots=1)


def without_resizing(folder):
    """Make of an adapter one that was saved before records named it."""
    record = json.loads((folder / "lowshot.json").read_text())
    del record["model"]["resizing"]
    (folder / "lowshot.json").write_text(json.dumps(record))


def judged(folder, **settings):
    return FewShotClassifier.from_pretrained(folder, **settings).predict_proba(wide())


def test_an_adapter_saved_before_answers_as_it_did(tiny_siglip, tmp_path):
    old = shutil.copytree(tiny_siglip, tmp_path / "model")
    backbone = load_backbone(str(tiny_siglip))
    assert (backbone.resizing, backbone.resizing_before) == (SQUASHED, Resizing())
    taught(old).save_pretrained(tmp_path / "new")
    shutil.copytree(tmp_path / "new", tmp_path / "before")
    without_resizing(tmp_path / "before")
    new, before = judged(tmp_path / "new"), judged(tmp_path / "before")
    assert np.abs(new - before).max() > 1e-3
    fitted_and_cut = FewShotClassifier.from_pretrained(tmp_path / "before")
    crops = central_crops(wide(), 16, Resizing())
    np.testing.assert_allclose(
        before,
        fitted_and_cut.predict_proba([(255 * c.permute(1, 2, 0)).round().byte().numpy() for c in crops]),
        atol=0.02,
    )


def test_an_adapter_is_judged_as_it_learnt_whatever_the_folder_says(tiny_siglip, tmp_path):
    other = with_settings(shutil.copytree(tiny_siglip, tmp_path / "model"), size={"shortest_edge": 16})
    identities = [load_backbone(str(each)).identity for each in (tiny_siglip, other)]
    assert identities[0].settings_sha256 == identities[1].settings_sha256
    assert [each.resizing for each in identities] == [SQUASHED, Resizing()]
    taught(tiny_siglip).save_pretrained(tmp_path / "adapter")
    np.testing.assert_array_equal(judged(tmp_path / "adapter", model=str(other)), judged(tmp_path / "adapter"))


def test_a_bank_resizes_as_most_of_its_adapters_learnt_and_refuses_the_others(tiny_siglip, tmp_path):
    for name in ("new", "old", "older"):
        taught(tiny_siglip).save_pretrained(tmp_path / "bank" / name)
    for name in ("old", "older"):
        without_resizing(tmp_path / "bank" / name)
    bank = AdapterBank(tmp_path / "bank")
    assert bank.names() == ["old", "older"]
    assert "both sides fitted" in bank.refused()["new"]
    [answer, *_] = bank.predict(wide(), "old")
    np.testing.assert_allclose(answer.probabilities, judged(tmp_path / "bank" / "old")[0], atol=2e-3)
    shutil.rmtree(tmp_path / "bank" / "older")
    shutil.rmtree(tmp_path / "bank" / "old")
    assert AdapterBank(tmp_path / "bank").names() == ["new"]


@pytest.mark.parametrize("resizing", [["squash"], ["squash", "lanczos"], "squash", [1, 2]])
def test_a_record_of_no_known_resizing_is_damaged(tiny_siglip, tmp_path, resizing):
    taught(tiny_siglip).save_pretrained(tmp_path / "adapter")
    record = json.loads((tmp_path / "adapter" / "lowshot.json").read_text())
    record["model"]["resizing"] = resizing
    (tmp_path / "adapter" / "lowshot.json").write_text(json.dumps(record))
    with refused(AdapterError, tmp_path / "adapter", "resizing"):
        judged(tmp_path / "adapter")
