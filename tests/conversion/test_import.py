"""CLIP-LoRA's files become adapters that compute what they did there; everything else is refused in one line."""

import hashlib
import json
import math
import os
import pickle
import re
import warnings
import zipfile

import numpy as np
import pytest
import torch
from peft import PeftModel
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer, CLIPConfig, CLIPModel

from lowshot import FewShotClassifier
from lowshot.conversion import export, import_clip_lora
from lowshot.conversion.clip_lora import ClipLora
from lowshot.conversion.importing import read_class_names
from lowshot.errors import AdapterError, DataError, InputError, OutputExistsError
from refusing import refused

from .conftest import pictures

NAMES = ("grey cat", "small_dog", "owl")
MODULES = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "proj"}  # in CLIP-LoRA
TARGETS = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "out_proj"}  # in transformers
DEPTHS = {"text": 2, "vision": 3}
WIDTHS = {"text": 16, "vision": 24}


def matrices(layers, params, rank, seed=0):
    """``layer_0``, ... with random factors; ``layers`` is the tower of each."""
    generator = torch.Generator().manual_seed(seed)
    return {
        f"layer_{number}": {
            MODULES[p]: {
                "w_lora_A": 0.3 * torch.randn(rank, WIDTHS[tower], generator=generator),
                "w_lora_B": 0.3 * torch.randn(WIDTHS[tower], rank, generator=generator),
            }
            for p in params
        }
        for number, tower in enumerate(layers)
    }


def content(encoder="both", params=("q", "k", "v"), position="all", rank=2, alpha=1, layers=None):
    """The object that CLIP-LoRA's ``save_lora`` hands to ``torch.save``."""
    if layers is None:
        layers = [tower for tower in ("text", "vision") if encoder in ("both", tower) for _ in range(DEPTHS[tower])]
    return {
        "weights": matrices(layers, params, rank),
        "metadata": {"r": rank, "alpha": alpha, "encoder": encoder, "params": list(params), "position": position},
    }


@pytest.fixture
def given(tmp_path, tiny_clip):
    """``given(content)`` writes a file and the class names, and imports it into ``out``."""
    (tmp_path / "names.txt").write_text("\n".join(NAMES) + "\n", encoding="utf-8")

    def convert(saved, **options):
        if saved is not None:
            torch.save(saved, tmp_path / "lora_weights.pt")
        places = {"model": str(tiny_clip), "classes": tmp_path / "names.txt", **options}
        return import_clip_lora(tmp_path / "lora_weights.pt", tmp_path / "out", **places)

    return convert


@torch.no_grad()
def dense(folder, saved, places, prompts, images):
    """Probabilities of a CLIP whose weights are W + alpha / sqrt(r) B A, with prompts padded in full."""
    model = CLIPModel.from_pretrained(folder).eval()
    scaling = saved["metadata"]["alpha"] / math.sqrt(saved["metadata"]["r"])
    for (tower, layer), factors in zip(places, saved["weights"].values(), strict=True):
        attention = getattr(model, f"{tower}_model").encoder.layers[layer].self_attn
        for projection, module in MODULES.items():
            if module in factors:
                update = factors[module]["w_lora_B"] @ factors[module]["w_lora_A"]
                getattr(attention, TARGETS[projection]).weight += scaling * update
    tokens = AutoTokenizer.from_pretrained(folder)(prompts, padding="max_length", return_tensors="pt")
    classes = functional.normalize(model.get_text_features(**tokens).pooler_output, dim=-1)
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    mean, std = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
    pixels = (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    embedded = functional.normalize(model.get_image_features(pixel_values=pixels).pooler_output, dim=-1)
    return (model.logit_scale.exp() * embedded @ classes.T).softmax(-1).numpy()


EVERYWHERE = [("text", 0), ("text", 1), ("vision", 0), ("vision", 1), ("vision", 2)]


@pytest.mark.parametrize(
    ("settings", "places"),
    [
        ({}, EVERYWHERE),
        ({"rank": 3, "alpha": 2, "params": ("o", "v")}, EVERYWHERE),
        ({"encoder": "vision", "params": ("q",)}, EVERYWHERE[2:]),
        ({"encoder": "text", "params": ("q", "k", "v", "o")}, EVERYWHERE[:2]),
        ({"position": "up", "layers": ["text", "vision"]}, [("text", 1), ("vision", 2)]),
    ],
    ids=["as published", "rank 3 on o and v", "vision", "text", "up"],
)
def test_an_imported_adapter_is_the_dense_update(given, tiny_clip, tmp_path, settings, places):
    saved = content(**settings)
    given(saved)
    images = pictures(6)
    classifier = FewShotClassifier.from_pretrained(tmp_path / "out")
    assert classifier.classes_.tolist() == list(NAMES)
    prompts = ["a photo of a grey cat.", "a photo of a small dog.", "a photo of a owl."]
    expected = dense(tiny_clip, saved, places, prompts, images)
    np.testing.assert_allclose(classifier.predict_proba(images), expected, atol=1e-5)
    unchanged = dense(tiny_clip, {**saved, "weights": {}}, [], prompts, images)
    assert np.abs(expected - unchanged).max() > 0.01


def test_an_imported_adapter_loads_in_plain_peft(given, tiny_clip, tmp_path):
    given(content())
    images = pictures(6)
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        model = PeftModel.from_pretrained(AutoModel.from_pretrained(tiny_clip), tmp_path / "out")
    merged = model.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    for file in tiny_clip.glob("*[ro].json"):
        (tmp_path / "merged" / file.name).write_bytes(file.read_bytes())
    for file in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
        (tmp_path / "merged" / file).write_bytes((tiny_clip / file).read_bytes())
    prompts = ["a photo of a grey cat.", "a photo of a small dog.", "a photo of a owl."]
    table = dense(tmp_path / "merged", {**content(), "weights": {}}, [], prompts, images)
    classifier = FewShotClassifier.from_pretrained(tmp_path / "out")
    np.testing.assert_allclose(table, classifier.predict_proba(images), atol=1e-5)


def test_an_imported_adapter_can_be_exported(given, tmp_path):
    given(content())
    made = export(tmp_path / "out", tmp_path / "merged", format="merged")
    assert made.largest_difference < 1e-4
    assert re.search(r"imported from +lora_weights.pt\n", (made.folder / "README.md").read_text())


def test_the_template_is_the_one_that_was_given(given, tiny_clip, tmp_path):
    given(content(), template="{} texture.")
    images, saved = pictures(6), content()
    expected = dense(tiny_clip, saved, EVERYWHERE, ["grey cat texture.", "small dog texture.", "owl texture."], images)
    table = FewShotClassifier.from_pretrained(tmp_path / "out").predict_proba(images)
    np.testing.assert_allclose(table, expected, atol=1e-5)


def test_the_record_says_what_is_known_and_nothing_else(given, tmp_path):
    record = given(content(rank=3, alpha=2, encoder="vision", position="all"))
    digest = hashlib.sha256((tmp_path / "lora_weights.pt").read_bytes()).hexdigest()
    assert record.provenance["imported"] == {"file": "lora_weights.pt", "sha256": digest, "format": "CLIP-LoRA"}
    assert (record.task, record.shots, record.steps, record.train_seconds) == ("unknown", 0, 0, 0.0)
    assert (record.final_loss, record.draw, record.learnt, dict(record.metrics)) == (None, (), (), {})
    assert record.recipe["method"] == {
        "method": "lora",
        "encoder": "vision",
        "projections": ["q", "k", "v"],
        "position": "all",
        "rank": 3,
        "alpha": 2.0,
        "scaling": "sqrt-rank",
    }
    assert set(record.recipe) == {"model", "method", "data"}
    assert record.trainable_parameters == 3 * 3 * (3 * 24 + 24 * 3)
    assert record.adapter_bytes == (tmp_path / "out" / "adapter_model.safetensors").stat().st_size
    assert json.loads((tmp_path / "out" / "lowshot.json").read_text()) == json.loads(json.dumps(record.to_dict()))


def test_the_card_says_what_is_not_known(given, tmp_path):
    record = given(content())
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert record.provenance["imported"]["sha256"] in card
    assert "What is not known" in card
    assert "learning_rate" not in card


class Evil:
    """Unpickled without care, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("zipped", [True, False], ids=["torch.save", "plain pickle"])
def test_nothing_in_a_file_is_run(given, tmp_path, zipped):
    evil = {**content(), "weights": Evil(tmp_path / "run")}
    if zipped:
        torch.save(evil, tmp_path / "lora_weights.pt")
    else:
        (tmp_path / "lora_weights.pt").write_bytes(pickle.dumps(evil))
    with refused(AdapterError, "lora_weights.pt", "plain tensors"):
        given(None)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lora_weights.pt", "names.txt"]


def test_a_file_that_unpacks_to_more_than_any_adapter_has_is_refused(given, tmp_path, monkeypatch):
    monkeypatch.setattr("lowshot.conversion.clip_lora._LARGEST_BYTES", 5000)
    with zipfile.ZipFile(tmp_path / "lora_weights.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(6000))
    assert (tmp_path / "lora_weights.pt").stat().st_size < 500
    with refused(AdapterError, "lora_weights.pt", "6,000", "5,000"):
        given(None)


@pytest.mark.parametrize("length", [0, 1, 100, 0.5, 0.99])
def test_a_truncated_file_is_refused(given, tmp_path, length):
    torch.save(content(), tmp_path / "lora_weights.pt")
    whole = (tmp_path / "lora_weights.pt").read_bytes()
    end = int(length * len(whole)) if isinstance(length, float) else length
    (tmp_path / "lora_weights.pt").write_bytes(whole[:end])
    with refused(AdapterError, "lora_weights.pt", "plain tensors") as caught:
        given(None)
    assert str(caught.value).partition("plain tensors: ")[2]
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def changed(path, value):
    """A content in which one thing is different; ``path`` is the way to it."""
    whole = content()
    *way, last = path
    inner = whole
    for key in way:
        inner = inner[key]
    if value is KeyError:
        del inner[last]
    else:
        inner[last] = value
    return whole


FIRST = ("weights", "layer_0", "q_proj")


OF_Q = "text_model.encoder.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("saved", "facts"),
    [
        ([1, 2], ("CLIP-LoRA", "the file", "list", "metadata, weights")),
        ({}, ("the file", "no keys", "metadata, weights")),
        ({"state_dict": {}}, ("the file", "state_dict", "metadata, weights")),
        (changed(("epoch",), 3), ("the file", "weights, metadata, epoch")),
        (changed(("metadata", "num_experts"), 4), ("metadata", "params, position, num_experts")),
        (changed(("metadata", "alpha"), KeyError), ("metadata", "r, encoder", "alpha, encoder")),
        (changed(("metadata", "r"), 2.0), ("r is 2.0", "1 or more")),
        (changed(("metadata", "r"), True), ("r is True", "1 or more")),
        (changed(("metadata", "r"), 0), ("r is 0", "1 or more")),
        (changed(("metadata", "alpha"), float("nan")), ("alpha is nan", "above 0")),
        (changed(("metadata", "alpha"), "1"), ("alpha is '1'", "above 0")),
        (changed(("metadata", "encoder"), "audio"), ("encoder is 'audio'", "text, vision, both")),
        (changed(("metadata", "encoder"), ["text"]), ("encoder is ['text']", "text, vision, both")),
        (changed(("metadata", "params"), ["q", "mlp"]), ("params", "['q', 'mlp']", "q, k, v, o")),
        (changed(("metadata", "params"), ["q", "q"]), ("params", "['q', 'q']", "q, k, v, o")),
        (changed(("metadata", "params"), []), ("params is []", "q, k, v, o")),
        (changed(("metadata", "position"), "top1"), ("position is 'top1'", "all, bottom")),
        (changed(("metadata", "params"), ["q", "k"]), ("layer_0", "q_proj, k_proj, v_proj", "k_proj, q_proj")),
        (changed(("weights",), []), ("weights", "list", "layer_0, layer_1, ...")),
        (changed(("weights",), {}), ("weights", "no keys", "layer_0, layer_1, ...")),
        (changed(("weights", "layer_1"), KeyError), ("weights", "layer_0, layer_2", "layer_0, layer_1, ...")),
        (changed(("weights", "layer_2"), 7), ("layer_2", "int", "k_proj, q_proj, v_proj")),
        (changed(("weights", "layer_0", "v_proj"), KeyError), ("layer_0", "q_proj, k_proj", "k_proj, q_proj, v_proj")),
        (changed((*FIRST, "w_lora_B"), KeyError), ("layer_0.q_proj", "keys w_lora_A", "w_lora_A, w_lora_B")),
        (changed((*FIRST, "w_lora_A"), [[1.0]]), ("layer_0.q_proj.w_lora_A", "list", "dense tensor")),
        (changed((*FIRST, "w_lora_A"), torch.ones(2, 16).to_sparse()), ("w_lora_A", "Tensor", "dense tensor")),
        (changed((*FIRST, "w_lora_A"), torch.ones(1, 1).expand(10**6, 10**7)), ("w_lora_A", "Tensor", "dense tensor")),
        (
            changed((*FIRST, "w_lora_A"), torch.ones(2, 16, dtype=torch.float64)),
            ("w_lora_A", "torch.float64", "float32"),
        ),
        (changed((*FIRST, "w_lora_A"), torch.ones(2, 16, 1)), ("w_lora_A", "(2, 16, 1)", "float32 matrix")),
        (changed((*FIRST, "w_lora_A"), torch.full((2, 16), torch.nan)), ("w_lora_A", "not finite")),
        (changed((*FIRST, "w_lora_B"), torch.full((16, 2), torch.inf)), ("w_lora_B", "not finite")),
        (changed((*FIRST, "w_lora_A"), torch.ones(2, 17)), ("lora_A", OF_Q, "(2, 17)", "(2, 16)", "--model")),
        (changed((*FIRST, "w_lora_A"), torch.ones(3, 16)), ("lora_A", OF_Q, "(3, 16)", "(2, 16)", "--model")),
        (changed((*FIRST, "w_lora_B"), torch.ones(1, 2)), ("lora_B", OF_Q, "(1, 2)", "(16, 2)", "--model")),
        (changed(("metadata", "r"), 3), ("lora_A", OF_Q, "(2, 16)", "(3, 16)", "--model")),
        (changed(("metadata", "encoder"), "vision"), ("5 layers", "3 of the vision", "position all", "--model")),
        (content(layers=["text", "text", "vision"]), ("3 layers", "2 of the text", "3 of the vision", "--model")),
        (content(layers=["text"] * 12 + ["vision"] * 12), ("24 layers", "2 of the text", "3 of the vision")),
        (content(layers=["vision", "vision", "vision", "text", "text"]), ("lora_A", OF_Q, "(2, 24)", "(2, 16)")),
        (changed((*FIRST, "w_lora_A"), torch.full((2, 16), 3e38)), ("probabilities", "not finite")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_is_not_exactly_such_a_file_is_refused_in_one_line(given, tmp_path, saved, facts):
    with refused(AdapterError, "lora_weights.pt", *facts) as caught:
        given(saved)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_rank_that_the_backbone_cannot_have_is_refused(given, tmp_path):
    with refused(InputError, "rank is 17", "16 x 16"):
        given(content(rank=17))
    assert not (tmp_path / "out").exists()


def lora_xs(params=("q", "k", "v"), mixed_up=True):
    """The object that CLIP-LoRA-XS's ``save_lora`` writes: R alone, and for k what belongs to q."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for number in range(5):
        rs = {MODULES[p]: {"w_lora_R": torch.randn(4, 4, generator=generator)} for p in params}
        if mixed_up:
            rs["k_proj"] = {"w_lora_R": rs["q_proj"]["w_lora_R"]}
        weights[f"layer_{number}"] = rs
    return {**content(params=params, rank=4), "weights": weights}


@pytest.mark.parametrize(
    ("saved", "why"),
    [
        (lora_xs(), "k matrices"),
        (lora_xs(mixed_up=False), "R alone"),
        (lora_xs(("v",), mixed_up=False), "R alone"),
    ],
    ids=["as published", "k saved", "v alone"],
)
def test_an_adapter_of_clip_lora_xs_is_recognised_and_refused(given, saved, why):
    with refused(AdapterError, "CLIP-LoRA-XS", why, "--method lora-xs"):
        given(saved)


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("", ("0 class(es)", "at least 2")),
        ("\n\n", ("0 class(es)", "at least 2")),
        ("cat\n", ("1 class(es)", "at least 2")),
        ("cat\ndog\ncat\n", ("twice: cat",)),
        ("cat\ndog\nCat\n", ("'cat'", "'Cat'", "case")),
        ("cat\n\ndog\n", ("line 2",)),
    ],
)
def test_class_names_that_cannot_be_used_are_refused(given, tmp_path, text, facts):
    (tmp_path / "other.txt").write_text(text, encoding="utf-8")
    with refused(DataError, "other.txt", *facts):
        given(content(), classes=tmp_path / "other.txt")


def test_class_names_are_read_as_unicode_whatever_the_line_ends(tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes("\ufeffŁódź\r\n猫\r\nsmall dog  \r\n\r\n".encode())
    assert read_class_names(path) == ("Łódź", "猫", "small dog")
    path.write_bytes(b"caf\xe9\ncat\n")
    with refused(DataError, path, "UTF-8"):
        read_class_names(path)
    with refused(DataError, "none.txt", "not exist"):
        read_class_names(tmp_path / "none.txt")


def test_a_prompt_that_is_too_long_is_refused(given, tmp_path):
    (tmp_path / "names.txt").write_text("cat\n" + "long " * 20, encoding="utf-8")
    with refused(DataError, "class 'long long", "92 tokens", "at most 48"):
        given(content())
    assert not (tmp_path / "out").exists()


def test_a_template_without_a_place_for_the_name_is_refused(given):
    with refused(InputError, "exactly one {}"):
        given(content(), template="a photo")


def test_an_existing_output_is_refused_before_the_file_is_read(given, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "kept").write_text("x")
    with pytest.raises(OutputExistsError):
        given(None)


def test_a_missing_file_is_named(given):
    with refused(AdapterError, "lora_weights.pt", "not exist"):
        given(None)


def test_the_same_file_gives_the_same_weights_byte_for_byte(given, tmp_path, tiny_clip):
    given(content())
    import_clip_lora(
        tmp_path / "lora_weights.pt", tmp_path / "again", model=str(tiny_clip), classes=tmp_path / "names.txt"
    )
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "out" / file).read_bytes()


class Deep:
    """Towers as deep as ViT-L/14's."""

    depths = {"text": 12, "vision": 24}  # noqa: RUF012


@pytest.mark.parametrize(
    ("encoder", "position", "count", "layers", "recorded"),
    [
        ("both", "all", 36, {"text": range(12), "vision": range(24)}, "all"),
        ("both", "all", 33, {"text": range(12), "vision": range(21)}, "all"),
        ("vision", "all", 21, {"vision": range(21)}, ",".join(map(str, range(21)))),
        ("both", "bottom", 8, {"text": range(4), "vision": range(4)}, "0,1,2,3"),
        ("both", "up", 8, {"text": range(8, 12), "vision": range(8, 12)}, "8,9,10,11"),
        ("both", "up", 12, {"text": range(8, 12), "vision": range(16, 24)}, "up"),
        ("text", "half-up", 6, {"text": range(6, 12)}, "half-up"),
        ("both", "top3", 6, {"text": range(9, 12), "vision": range(21, 24)}, "top3"),
    ],
)
def test_the_layers_that_clip_lora_names_on_vit_l_14_are_found_by_their_number(
    tmp_path, encoder, position, count, layers, recorded
):
    """Its table of ViT-L/14 calls the first 21 layers all, and the others what they are in a depth of 12."""
    saved = ClipLora(tmp_path / "x.pt", 2, 1.0, encoder, ("q",), position, ({},) * count)
    assert saved.layers_in(Deep()) == {tower: tuple(numbers) for tower, numbers in layers.items()}
    assert saved.settings(Deep())["position"] == recorded


def test_layers_that_the_file_leaves_out_have_no_update(tmp_path):
    """A small model as deep as ViT-L/14: its layers 21 to 23 stay as they are."""
    folder = deep_clip(tmp_path)
    (tmp_path / "names.txt").write_text("a\nb\n", encoding="utf-8")
    saved = content(layers=["text"] * 12 + ["vision"] * 21)
    torch.save(saved, tmp_path / "x.pt")
    import_clip_lora(tmp_path / "x.pt", tmp_path / "out", model=str(folder), classes=tmp_path / "names.txt")
    places = [("text", i) for i in range(12)] + [("vision", i) for i in range(21)]
    images = pictures(4)
    expected = dense(folder, saved, places, ["a photo of a a.", "a photo of a b."], images)
    table = FewShotClassifier.from_pretrained(tmp_path / "out").predict_proba(images)
    np.testing.assert_allclose(table, expected, atol=1e-4)


def deep_clip(tmp_path):
    """Towers of 12 and 24 layers, a few numbers wide."""
    import shutil

    from lowshot.models.opening import BUILTIN

    folder = tmp_path / "deep"
    folder.mkdir()
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUILTIN / file, folder)
    processor = json.loads((BUILTIN / "preprocessor_config.json").read_text())
    processor.update(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    config = CLIPConfig.from_pretrained(BUILTIN)
    small = {"intermediate_size": 24, "num_attention_heads": 2}
    config.text_config.update({**small, "hidden_size": 16, "num_hidden_layers": 12})
    config.vision_config.update(
        {**small, "hidden_size": 24, "num_hidden_layers": 24, "image_size": 16, "patch_size": 8}
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        CLIPModel(config).save_pretrained(folder)
    return folder
