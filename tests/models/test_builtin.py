"""The built-in model is a CLIP like any other, and came to be as its provenance says."""

import json

import pytest
import torch
from transformers import AutoModel, AutoProcessor, CLIPModel

from lowshot.data import BUILTIN_TASKS, builtin_task
from lowshot.data.glyphs import HELD_OUT_FONTS, PRETRAINING_FONTS
from lowshot.models import load_backbone
from lowshot.models.opening import BUILTIN

pytestmark = pytest.mark.usefixtures("models_are_read_anew")


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("builtin")


def test_transformers_loads_it_without_lowshot():
    assert isinstance(AutoModel.from_pretrained(BUILTIN), CLIPModel)
    assert type(AutoProcessor.from_pretrained(BUILTIN)).__name__ == "CLIPProcessor"


def test_without_transformers_it_is_the_same_model_to_the_last_bit(backbone):
    """The same names in the same order, too: masks are numbered and parameters optimised in it."""
    theirs = load_backbone("builtin", exportable=True)
    assert isinstance(theirs.model, CLIPModel)
    assert not isinstance(backbone.model, CLIPModel)
    for listed in ("named_modules", "named_parameters", "named_buffers"):
        names, expected = ([name for name, _ in getattr(each.model, listed)()] for each in (backbone, theirs))
        assert names == expected
    assert backbone.identity == theirs.identity
    assert (backbone.mean, backbone.std) == (theirs.mean, theirs.std)
    words = ["a photo of a digit seven.", "", "Łódź,  7 猫s", "it's A Dog's <|endoftext|> e\u0301"]
    for word in words:
        for special in (True, False):
            ours, expected = (each.tokenizer(word, add_special_tokens=special) for each in (backbone, theirs))
            assert ours["input_ids"] == expected["input_ids"]
    tokens, images = backbone.tokenize(words), torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for name, ids in theirs.tokenize(words).items():
        torch.testing.assert_close(tokens[name], ids, rtol=0, atol=0)
    with torch.no_grad():
        assert torch.equal(backbone.encode_prompts(tokens), theirs.encode_prompts(tokens))
        assert torch.equal(backbone.encode_images(images), theirs.encode_images(images))


def test_it_is_small():
    assert sum(file.stat().st_size for file in BUILTIN.iterdir()) <= 8_000_000


def test_end_of_text_is_where_the_embedding_is_read(backbone):
    """A config with eos_token_id 2 would make transformers pool at the largest id, and half the names would be one."""
    text = backbone.model.config.text_config
    assert text.eos_token_id == backbone.tokenizer.eos_token_id == text.vocab_size - 1


@pytest.mark.parametrize("task", BUILTIN_TASKS)
def test_all_class_names_have_embeddings_of_their_own(backbone, task):
    prompts = [f"a photo of a {name}." for name in builtin_task(task).class_names]
    with torch.no_grad():
        embeddings = backbone.encode_prompts(backbone.tokenize(prompts))
    assert torch.pdist(embeddings).min() > 1e-3


def test_words_of_its_names_are_single_tokens_and_other_words_stay_apart(backbone):
    assert backbone.tokenize(["a photo of a digit seven."])["input_ids"].shape[1] == 9
    ids = {tuple(backbone.tokenize([word])["input_ids"][0].tolist()) for word in ("cat", "dog", "łódź", "猫", "🐈")}
    assert len(ids) == 5


def test_provenance_says_how_it_came_to_be():
    provenance = json.loads((BUILTIN / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["command"].startswith("python tools/pretrain_builtin.py")
    assert set(provenance["fonts"]) == set(PRETRAINING_FONTS)
    assert not set(provenance["fonts"]) & set(HELD_OUT_FONTS)
    assert provenance["loss_curve"][-1]["step"] == provenance["settings"]["steps"]
    assert provenance["loss_curve"][-1]["loss"] < provenance["loss_curve"][0]["loss"]
    assert 0.5 < provenance["held_out_accuracy"] <= 1
    assert {"torch", "transformers", "numpy"} <= set(provenance["versions"])


def test_it_knows_glyphs_it_has_not_seen_clearly_better_than_chance(backbone):
    from lowshot import FewShotClassifier

    task = builtin_task("digits")
    classifier = FewShotClassifier(method="zero-shot").fit(task)
    predicted = classifier.predict_proba(task.validation.images).argmax(1)
    assert (predicted == task.validation.labels).mean() > 0.6
