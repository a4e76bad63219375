"""LoRA and DoRA that plain PEFT saved become adapters that compute the same; everything else is refused by name."""

import hashlib
import json
import warnings

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, CLIPModel

from lowshot import FewShotClassifier
from lowshot.conversion import import_peft
from lowshot.errors import AdapterError, DataError, InputError, OutputExistsError
from refusing import refused

from .conftest import pictures

NAMES = ("grey cat", "small_dog", "owl")
PROMPTS = ["a photo of a grey cat.", "a photo of a small dog.", "a photo of a owl."]


def trained(folder, model, seed=0, **config):
    """A PEFT folder of a CLIP, as somebody's own script leaves it: every factor is random."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        adapted = get_peft_model(CLIPModel.from_pretrained(model), LoraConfig(**config))
        for name, parameter in adapted.named_parameters():
            if parameter.requires_grad and "magnitude" not in name:
                torch.nn.init.normal_(parameter, std=0.3)
            elif parameter.requires_grad:
                parameter.data *= 1.3
        adapted.save_pretrained(folder)
    return folder


@torch.no_grad()
def by_peft(folder, model, images):
    """Probabilities by PEFT and transformers alone."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        adapted = PeftModel.from_pretrained(CLIPModel.from_pretrained(model), folder).eval()
    tokens = AutoTokenizer.from_pretrained(model)(PROMPTS, padding="max_length", return_tensors="pt")
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    mean, std = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
    pixels = (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    return adapted(**tokens, pixel_values=pixels).logits_per_image.softmax(-1).numpy()


@pytest.fixture
def given(tmp_path, tiny_clip):
    """``given(**config)`` trains with plain PEFT and imports it into ``out``."""
    (tmp_path / "names.txt").write_text("\n".join(NAMES) + "\n", encoding="utf-8")

    def convert(model=None, template=("a photo of a {}.",), **config):
        if config:
            trained(tmp_path / "peft", tiny_clip, **config)
        places = {"classes": tmp_path / "names.txt", "model": model, "template": template}
        return import_peft(tmp_path / "peft", tmp_path / "out", **places)

    return convert


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        (
            {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "lora_dropout": 0.1},
            {"encoder": "both", "projections": ["q", "v"], "position": "all", "rank": 4, "scaling": "rank"},
        ),
        (
            {"r": 3, "use_rslora": True, "target_modules": ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]},
            {"projections": ["q", "k", "v", "o", "fc1", "fc2"], "scaling": "sqrt-rank", "alpha": 8.0},
        ),
        (
            {
                **{"r": 2, "lora_alpha": 3, "target_modules": ["q_proj", "fc1"]},
                **{"rank_pattern": {"fc1": 5}, "alpha_pattern": {"layers.1.self_attn.q_proj": 20}},
            },
            {"rank": 5, "alpha": 3.0},
        ),
        ({"r": 2, "target_modules": ["k_proj"], "layers_to_transform": [1]}, {"position": "1"}),
        ({"r": 2, "target_modules": r"vision_model.*\.out_proj"}, {"encoder": "vision", "projections": ["o"]}),
        ({"r": 2, "target_modules": ["q_proj"], "use_dora": True}, {"method": "dora", "rank": 2}),
        (
            {"r": 2, "target_modules": r"(vision_model.*layers\.2|text_model.*layers\.0)\.mlp\.fc1"},
            {"encoder": "both", "position": "all"},
        ),
    ],
    ids=["plain", "all linear", "patterns", "one layer", "vision", "dora", "different layers"],
)
def test_an_imported_adapter_is_what_peft_makes_of_it(given, tmp_path, tiny_clip, config, settings):
    record = given(**config)
    images = pictures(6)
    expected = by_peft(tmp_path / "peft", tiny_clip, images)
    classifier = FewShotClassifier.from_pretrained(tmp_path / "out")
    assert classifier.classes_.tolist() == list(NAMES)
    np.testing.assert_allclose(classifier.predict_proba(images), expected, atol=2e-5)
    unchanged = FewShotClassifier(str(tiny_clip), method="zero-shot").fit(images[:3], list(NAMES))
    assert np.abs(unchanged.predict_proba(images) - expected).max() > 0.01
    assert {name: record.recipe["method"][name] for name in settings} == settings


def test_factors_of_one_rank_are_taken_bit_for_bit(given, tmp_path):
    given(r=4, target_modules=["q_proj"])
    theirs, ours = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("peft", "out"))
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)


def test_halves_are_read(given, tmp_path, tiny_clip):
    given(r=4, target_modules=["q_proj"])
    path = tmp_path / "peft" / "adapter_model.safetensors"
    save_file({name: tensor.half() for name, tensor in load_file(path).items()}, path)
    import_peft(tmp_path / "peft", tmp_path / "halves", classes=tmp_path / "names.txt")
    images = pictures(4)
    table = FewShotClassifier.from_pretrained(tmp_path / "halves").predict_proba(images)
    np.testing.assert_allclose(table, by_peft(tmp_path / "peft", tiny_clip, images), atol=2e-5)


def test_the_record_says_what_is_known(given, tmp_path, tiny_clip):
    record = given(r=4, target_modules=["q_proj"], template=("a {}", "one {}"))
    digest = hashlib.sha256((tmp_path / "peft" / "adapter_model.safetensors").read_bytes()).hexdigest()
    origin = {"file": "adapter_model.safetensors", "sha256": digest, "format": "PEFT"}
    assert record.provenance["imported"] == origin
    assert record.model["id"] == str(tiny_clip)
    assert record.recipe["data"] == {"template": ["a {}", "one {}"]}
    assert record.prompts[2] == ("a owl", "one owl")
    assert (record.shots, record.steps, record.task) == (0, 0, "unknown")
    assert "imported from PEFT" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("config", "fact"),
    [
        ({"modules_to_save": ["visual_projection"]}, "modules_to_save = ['visual_projection']"),
        ({"bias": "lora_only"}, "bias = 'lora_only'"),
        ({"init_lora_weights": "olora"}, "init_lora_weights = 'olora'"),
        ({"lora_bias": True}, "lora_bias = True"),
        ({"target_modules": ["visual_projection"]}, "adapts visual_projection"),
        ({"target_modules": ["token_embedding"]}, "lora_embedding_A"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_cannot_be_expressed_is_refused_by_name_with_the_way_out(given, tmp_path, config, fact):
    with refused(AdapterError, fact, "merge_and_unload", "--model"):
        given(**{"r": 2, "target_modules": ["q_proj"], **config})
    assert not (tmp_path / "out").exists()


def test_factors_of_a_convolution_are_refused_by_their_shapes(given, tmp_path):
    with refused(AdapterError, "vision_model.embeddings.patch_embedding", "'lora_A': (2, 3, 8, 8)"):
        given(r=2, target_modules=["patch_embedding"])
    assert not (tmp_path / "out").exists()


def changed(key, value):
    def change(folder):
        path = folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))

    return change


def tensors(change):
    def changing(folder):
        path = folder / "adapter_model.safetensors"
        content = load_file(path)
        change(content, min(content))
        save_file(content, path)

    return changing


def nothing_of_rank_0(content, _):
    for name, tensor in content.items():
        content[name] = tensor[:0] if "lora_A" in name else tensor[:, :0]


CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
ALPHAS = ("alpha_pattern", "regular expressions")


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (changed("peft_type", "IA3"), ("type 'IA3'", "'LORA'", "merge_and_unload")),
        (changed("peft_type", None), ("type None", "'LORA'", "merge_and_unload")),
        (changed("younger", {"a": 1}), ("younger = {'a': 1}", "merge_and_unload")),
        (changed("lora_alpha", "8"), (CONFIG, "lora_alpha = '8'", "above 0")),
        (changed("lora_alpha", 0), (CONFIG, "lora_alpha = 0", "above 0")),
        (lambda folder: (folder / CONFIG).unlink(), ("no adapter_config.json", "save_pretrained", ".pt")),
        (lambda folder: (folder / CONFIG).write_text("{"), (CONFIG, "damaged")),
        (lambda folder: (folder / TENSORS).unlink(), ("adapter_model.safetensors is missing",)),
        (lambda folder: (folder / TENSORS).write_bytes(b"x" * 99), (TENSORS, "damaged")),
        (tensors(lambda content, name: content[name].fill_(torch.nan)), (TENSORS, "lora_A", "no finite numbers")),
        (tensors(lambda content, name: content.pop(name)), (TENSORS, "{'lora_B': (16, 2)}")),
        (tensors(lambda content, name: content.update({name: torch.ones(2, 17)})), ("lora_A", "(2, 17)", "(2, 16)")),
        (tensors(lambda content, name: content.update({name: torch.ones(3, 16)})), (TENSORS, "'lora_A': (3, 16)")),
        (tensors(lambda content, name: content.update(x=torch.ones(1))), (TENSORS, "has x", "merge_and_unload")),
        (tensors(lambda content, name: content.clear()), (TENSORS, "no layer")),
        (tensors(lambda content, name: content.update({name: torch.ones(0, 16)})), (TENSORS, "'lora_A': (0, 16)")),
        (tensors(lambda content, name: content.update({name: torch.tensor(1.0)})), (TENSORS, "'lora_A': ()")),
        (tensors(nothing_of_rank_0), (TENSORS, "'lora_A': (0, 16)", "'lora_B': (16, 0)")),
        (changed("alpha_pattern", {"q_proj": "x"}), (*ALPHAS, "{'q_proj': 'x'}")),
        (changed("alpha_pattern", {"(": 3}), (*ALPHAS, "{'(': 3}")),
        (changed("alpha_pattern", [1]), (*ALPHAS, "[1]")),
    ],
)
def test_a_folder_that_is_damaged_or_another_is_refused_in_one_line(given, tmp_path, tiny_clip, change, facts):
    trained(tmp_path / "peft", tiny_clip, r=2, target_modules=["q_proj"])
    change(tmp_path / "peft")
    with refused(AdapterError, *facts) as caught:
        given()
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("base", "facts"),
    [
        (None, ("no model",)),
        ("photos", ("'photos'", "images alone")),
        ("builtin + photos", ("'builtin + photos'", "two models")),
    ],
)
def test_a_base_that_is_no_model_of_images_and_texts_is_refused(given, tmp_path, tiny_clip, base, facts):
    trained(tmp_path / "peft", tiny_clip, r=2, target_modules=["q_proj"])
    changed("base_model_name_or_path", base)(tmp_path / "peft")
    with refused(InputError, *facts, "--model"):
        given()
    assert not (tmp_path / "out").exists()


def test_another_model_than_the_one_it_was_trained_on_is_told_by_its_layers(given, tmp_path, tiny_clip, tiny_siglip):
    trained(tmp_path / "peft", tiny_clip, r=2, target_modules=["q_proj"])
    with refused(AdapterError, "lora_A", "(2, 16)", "builtin", "--model"):
        given(model="builtin")


def test_what_is_wrong_with_the_words_is_said_first(given, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "kept").write_text("x")
    with pytest.raises(OutputExistsError):
        given()
    (tmp_path / "out" / "kept").unlink()
    (tmp_path / "names.txt").unlink()
    with refused(DataError, "names.txt", "not exist"):
        given()


def test_a_file_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "names.txt").write_text("a\nb\n", encoding="utf-8")
    with refused(AdapterError, "names.txt", "no adapter_config.json", "save_pretrained"):
        import_peft(tmp_path / "names.txt", tmp_path / "out", classes=tmp_path / "names.txt")
