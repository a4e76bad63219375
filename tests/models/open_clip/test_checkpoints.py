import json
import pickle
import shutil
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lowshot import FewShotClassifier
from lowshot.errors import InputError, OutputExistsError
from lowshot.models import load_backbone, load_structure
from lowshot.models.open_clip import distinct, published
from lowshot.models.open_clip.configuration import clip_config
from lowshot.models.open_clip.torchscript import archive_tensors
from lowshot.models.writing import is_in_transformers_format
from lowshot.resizing import Resizing
from open_clip_layout import TINY, configured, tiny_tensors, write_checkpoint
from refusing import refused

BOTH = pytest.mark.parametrize("load", [load_backbone, load_structure])


@pytest.fixture
def folder(tiny_open_clip, tmp_path):
    return shutil.copytree(tiny_open_clip, tmp_path / "checkpoint")


def reconfigure(folder, **changes):
    content = json.loads((folder / "open_clip_config.json").read_text())
    (folder / "open_clip_config.json").write_text(json.dumps({**content, "model_cfg": configured(changes)}))


def refuses(load, model, *facts):
    with refused(InputError, model, *facts) as refusal:
        load(str(model))
    assert "\n" not in str(refusal.value)


def test_a_folder_says_what_the_model_is(tiny_open_clip):
    backbone, structure = load_backbone(str(tiny_open_clip)), load_structure(str(tiny_open_clip))
    shapes = [{name: p.shape for name, p in towers.model.named_parameters()} for towers in (backbone, structure)]
    assert shapes[0] == shapes[1]
    assert (backbone.image_size, backbone.context_length, backbone.embedding_size) == (16, 24, 16)
    assert (backbone.mean, backbone.std) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    assert backbone.logit_scale == pytest.approx(10)
    assert backbone.identity.id == str(tiny_open_clip)
    assert not any(p.requires_grad for p in backbone.model.parameters())


def test_both_of_open_clips_prefixes_are_known(tiny_open_clip, monkeypatch):
    assert load_structure(f"local-dir:{tiny_open_clip}").depths == {"vision": 3, "text": 2}
    monkeypatch.setattr(
        "lowshot.models.checkpoint_files.repository_file", lambda repository, name: tiny_open_clip / name
    )
    backbone = load_backbone("hf-hub:owner/name")
    assert backbone.identity.id == "hf-hub:owner/name"


def test_a_name_of_open_clips_has_its_tables_configuration(monkeypatch):
    def nothing_is_fetched(repository, name):
        raise AssertionError(name)

    monkeypatch.setattr("lowshot.models.checkpoint_files.repository_file", nothing_is_fetched)
    for name in ("ViT-B-16:datacomp_xl_s13b_b90k", "ViT-B/16:DataComp-XL-s13b-b90k"):
        assert load_structure(name).parameters == 149_620_737
    assert load_structure("ViT-B-16-quickgelu:openai").model.config.text_config.hidden_act == "quick_gelu"


@BOTH
@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("ViT-B-32:openai", ("has GELU", "with QuickGELU", "ViT-B-32-quickgelu:openai")),
        ("ViT-B-32:mine", ("'mine'", "ViT-B-32:laion2b_e16", "18 more")),
        ("ViT-B-16-SigLIP:webli", ("init_logit_bias",)),
        ("RN50-quickgelu:openai", ("ResNet",)),
        (
            "ViT-H-14-worldwide:metaclip2_worldwide",
            ("has GELU", "with QuickGELU", "ViT-H-14-worldwide-quickgelu:metaclip2_worldwide"),
        ),
    ],
)
def test_names_that_cannot_be_read_say_why(load, name, facts):
    refuses(load, name, *facts)


def test_of_169_published_models_74_are_read():
    assert len(distinct()) == 169
    assert len(published()) == 196
    readable = [each for each in distinct() if not each.shortfalls]
    assert len(readable) == 74
    kinds = {clip_config(each.config)["model_type"] for each in readable}
    assert kinds == {"clip", "metaclip_2", "mobileclip", "pe_core"}
    assert len({each.repository for each in distinct()}) > 160


def test_a_configuration_that_forgets_quickgelu_is_refused_where_the_table_knows_better(folder, monkeypatch):
    monkeypatch.setattr("lowshot.models.checkpoint_files.repository_file", lambda repository, name: folder / name)
    with refused(InputError, "says GELU", "with QuickGELU", "ViT-B-16-quickgelu:dfn2b"):
        load_structure("hf-hub:apple/DFN2B-CLIP-ViT-B-16")
    reconfigure(folder, quick_gelu=True)
    assert load_structure("hf-hub:apple/DFN2B-CLIP-ViT-B-16").depths["vision"] == 3


@BOTH
@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"vision_cfg": {"timm_model_name": "vit_base"}}, ("image tower vit_base",)),
        ({"vision_cfg": {"layers": [3, 4, 6, 3]}}, ("ResNet",)),
        ({"vision_cfg": {"attentional_pool": True}}, ("pools by attention",)),
        ({"vision_cfg": {"no_ln_pre": True}}, ("without a norm",)),
        ({"vision_cfg": {"pool_type": "avg"}}, ("image tower", "by avg")),
        ({"vision_cfg": {"qk_norm": True}}, ("queries and keys",)),
        ({"vision_cfg": {"image_size": [16, 24]}}, ("square images", "[16, 24]")),
        ({"text_cfg": {"hf_model_name": "roberta-base"}}, ("text tower roberta-base",)),
        ({"text_cfg": {"no_causal_mask": True}}, ("text tower", "those after")),
        ({"text_cfg": {"pool_type": "last"}}, ("text tower", "by last")),
        ({"text_cfg": {"proj_bias": True}}, ("text projection", "bias")),
        ({"text_cfg": {"embed_cls": True}, "multimodal_cfg": {}}, ("(CoCa)", "class token")),
        ({"init_logit_bias": -10}, ("init_logit_bias",)),
        ({"text_cfg": {"rotary": True}}, ("rotary", "open_clip 3.3.0")),
        ({"vision_cfg": {"width": "wide"}}, ("width is 'wide'", "whole number")),
        ({"vision_cfg": {"head_width": 7}}, ("head_width is 7", "width 24")),
        ({"vision_cfg": {"mlp_ratio": None}}, ("mlp_ratio is None", "4.0")),
        ({"vision_cfg": {"norm_kwargs": {"bias": False}}}, ("norm_kwargs", "{'bias': False}", "eps")),
        (
            {"quick_gelu": True, "text_cfg": {"act_kwargs": {"approximate": "tanh"}}},
            ("act_kwargs", "{'approximate': 'tanh'}", "quick_gelu True"),
        ),
        ({"text_cfg": {"proj_type": "none"}}, ("proj_type is none", "8 wide", "embed_dim is 16")),
        ({"embed_dim": None}, ("embed_dim is None", "whole number")),
        ({"vision_cfg": {"layers": 10**9}}, ("layers is 1000000000", "1 to 1,000")),
        ({"vision_cfg": {"mlp_ratio": float("nan")}}, ("mlp_ratio is nan", "4.0")),
        ({"vision_cfg": {"patch_size": 32}}, ("patch_size is 32", "image_size 16")),
        ({"vision_cfg": {"timm_model_name": ["x"]}}, ("image tower ['x']",)),
        ({"text_cfg": {"heads": 3}}, ("heads is 3", "width 8")),
        ({"text_cfg": {"pool_type": "eos", "eos_id": "x"}}, ("eos_id is 'x'", "whole number")),
        ({"quick_gelu": "no"}, ("quick_gelu is 'no'", "true or false")),
    ],
)
def test_what_a_clip_of_transformers_has_not_is_named(load, folder, changes, facts):
    reconfigure(folder, **changes)
    refuses(load, folder, *facts)


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"text_cfg": {"vocab_size": 1000}}, ("49,408 tokens", "vocab_size is 1,000")),
        ({"text_cfg": {"hf_tokenizer_name": "facebook/xlm-v-base"}}, ("facebook/xlm-v-base", "tokenizer.json")),
        ({"text_cfg": {"tokenizer_kwargs": {"strip_sep_token": True}}}, ("['strip_sep_token']", "tokenizer_kwargs")),
        ({"text_cfg": {"tokenizer_mode": "clips"}}, ("['tokenizer_mode']", "tokenizer_kwargs")),
        ({"text_cfg": {"tokenizer_kwargs": {"clean": "whitespace"}}}, ("['clean']", "tokenizer_kwargs")),
        (
            {"text_cfg": {"hf_tokenizer_name": "a/b", "tokenizer_kwargs": {"clean": "lower"}}},
            ("['clean']", "tokenizer_kwargs"),
        ),
        ({"text_cfg": {"tokenizer_kwargs": 3}}, ("tokenizer_kwargs is 3", "options")),
        ({"text_cfg": {"pool_type": "eos"}}, ("token 2", "token 49407", "eos_token_id")),
        ({"text_cfg": {"pool_type": "eos", "eos_id": 7}}, ("token 7", "token 49407", "eos_token_id")),
        ({"vision_cfg": {"layers": 4}}, ("lack 16", "vision_model.encoder.layers.3.layer_norm1.bias")),
        ({"text_cfg": {"layers": 1}}, ("16 tensor(s)", "text_model.encoder.layers.1.layer_norm1.bias")),
        ({"vision_cfg": {"image_size": 24}}, ("position_embedding.weight", "(5, 24)", "(10, 24)")),
        ({"vision_cfg": {"mlp_ratio": 2.0}}, ("mlp.fc1.weight", "(96, 24)", "(48, 24)")),
    ],
)
def test_weights_and_tokenizer_must_be_those_of_the_configuration(folder, changes, facts):
    reconfigure(folder, **changes)
    refuses(load_backbone, folder, *facts)


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (lambda tensors: tensors.pop("visual.proj"), ("lack 1", "visual_projection.weight")),
        (lambda tensors: tensors.pop("text_projection"), ("lack 1", "text_projection.weight")),
        (lambda tensors: tensors.update({"visual.head": torch.ones(2)}), ("1 tensor(s)", "visual.head")),
        (
            lambda tensors: tensors.update({"visual.proj": torch.ones(24, 8)}),
            ("visual_projection.weight", "(8, 24)", "(16, 24)"),
        ),
        (lambda tensors: tensors.update({"logit_scale": torch.ones(2)}), ("logit_scale", "(2,)", "()")),
    ],
)
def test_tensors_that_are_missing_more_or_of_another_shape_are_named(tmp_path, change, facts):
    tensors = tiny_tensors()
    change(tensors)
    refuses(load_backbone, write_checkpoint(tmp_path, tensors=tensors), *facts)


@pytest.mark.parametrize(
    ("pixels", "facts"),
    [
        ({"resize_mode": "longest"}, ("resize_mode is 'longest'", "shortest or squash")),
        ({"interpolation": "nearest"}, ("interpolation is 'nearest'", "bicubic or bilinear")),
        ({"mean": [0.5]}, ("mean is [0.5]", "three numbers")),
        ({"std": [0.5, 0, 1]}, ("std", "[0.5, 0, 1]", "three numbers")),
        ({"std": [float("inf")] * 3}, ("std", "[inf, inf, inf]", "three numbers")),
        ({"mean": [float("nan")] * 3}, ("mean", "[nan, nan, nan]", "three numbers")),
        ({"resize_mode": ["squash"]}, ("resize_mode is ['squash']", "shortest or squash")),
        ({"interpolation": ["bicubic"]}, ("interpolation is ['bicubic']", "bicubic or bilinear")),
    ],
)
def test_pixels_that_are_not_open_clips_are_refused(folder, pixels, facts):
    config = {"model_cfg": TINY, "preprocess_cfg": pixels}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    refuses(load_backbone, folder, *facts)


def test_pixels_not_spoken_of_are_openais(folder):
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": {"std": 0.5}}))
    backbone = load_backbone(str(folder))
    assert backbone.mean == (0.48145466, 0.4578275, 0.40821073)
    assert backbone.std == (0.5, 0.5, 0.5)
    assert backbone.resizing == Resizing("shortest", "bicubic")


@BOTH
@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("", "damaged"),
        ("[]", "damaged"),
        ("{}", "no model_cfg"),
        ('{"model_cfg": 3}', "no model_cfg"),
        ('{"model_cfg": {"vision_cfg": {}}}', "text_cfg is None"),
    ],
)
def test_a_damaged_configuration_is_refused(load, folder, text, fact):
    (folder / "open_clip_config.json").write_text(text)
    refuses(load, folder, fact)


@BOTH
def test_half_a_checkpoint_says_which_half(load, folder):
    (folder / "open_clip_config.json").unlink()
    refuses(load, folder, "open_clip_model.safetensors", "no open_clip_config.json")


def test_a_configuration_without_weights_says_so(folder):
    (folder / "open_clip_model.safetensors").unlink()
    refuses(load_backbone, folder, "none of", "open_clip_model.safetensors", "open_clip_pytorch_model.bin")


@BOTH
def test_a_folder_of_both_formats_is_transformers_where_its_weights_are_there(load, folder, tiny_clip):
    shutil.copy(tiny_clip / "config.json", folder)
    assert load(str(folder)).context_length == 24  # open_clip's: of transformers there is half a checkpoint
    for path in tiny_clip.iterdir():
        shutil.copy(path, folder)
    assert load(str(folder)).context_length == 48


def test_a_damaged_file_of_weights_is_refused(folder):
    path = folder / "open_clip_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    refuses(load_backbone, folder, "open_clip_model.safetensors is damaged")
    path.unlink()
    (folder / "open_clip_pytorch_model.bin").write_bytes(b"PK\x03\x04 nothing")
    refuses(load_backbone, folder, "open_clip_pytorch_model.bin is damaged")


class Trap:
    def __reduce__(self):
        return print, ("a checkpoint was run",)


def test_a_pickle_that_holds_more_than_tensors_is_not_run(folder, capsys):
    (folder / "open_clip_model.safetensors").unlink()
    torch.save({"visual.proj": Trap()}, folder / "open_clip_pytorch_model.bin")
    refuses(load_backbone, folder, "open_clip_pytorch_model.bin", "more than tensors", "print", ".safetensors")
    torch.save({"visual.proj": [1, 2]}, folder / "open_clip_pytorch_model.bin")
    refuses(load_backbone, folder, "'visual.proj'", "a list")
    assert "a checkpoint was run" not in capsys.readouterr().out


def test_a_torchscript_archive_is_not_run(tmp_path, capsys):
    path = tmp_path / "ViT-B-32.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", pickle.dumps(Trap()))
        archive.writestr("m/constants.pkl", b"")
    with refused(InputError, "builtins.print", "more than tensors"):
        archive_tensors(path)
    refuses(load_backbone, path, "builtins.print")
    assert "a checkpoint was run" not in capsys.readouterr().out


@BOTH
def test_openais_file_is_read_by_itself(load, tmp_path):
    torch.save({name: tensor.half() for name, tensor in tiny_tensors().items()}, tmp_path / "ViT-B-32.pt")
    refuses(load, tmp_path, "holds ViT-B-32.pt", tmp_path / "ViT-B-32.pt")
    model = load(str(tmp_path / "ViT-B-32.pt")).model
    assert model.config.vision_config.hidden_act == model.config.text_config.hidden_act == "quick_gelu"
    assert model.config.vision_config.image_size == 16


@pytest.mark.parametrize(
    ("tensors", "facts"),
    [
        ({"visual.layer1.0.conv1.weight": torch.ones(1)}, ("ResNet", "ViT")),
        ({"weight": torch.ones(1)}, ("no tensor visual.conv1.weight", "open_clip_config.json")),
        ({}, ("a dict",)),
    ],
)
def test_a_file_of_other_tensors_is_refused(tmp_path, tensors, facts):
    torch.save(tensors, tmp_path / "other.pt")
    refuses(load_backbone, tmp_path / "other.pt", *facts)
    save_file({"x": torch.ones(1)}, tmp_path / "x.safetensors")
    refuses(load_structure, tmp_path / "x.safetensors", "no tensor visual.conv1.weight")


@BOTH
@pytest.mark.parametrize(
    ("name", "tensor", "facts"),
    [
        ("visual.conv1.weight", torch.ones(3), ("shape (3,)", "open_clip_config.json")),
        ("positional_embedding", torch.tensor(2.0), ("shape ()", "open_clip_config.json")),
        ("visual.positional_embedding", torch.ones(1, 24), ("1 rows", "square number")),
        ("visual.positional_embedding", torch.ones(7, 24), ("7 rows", "square number")),
    ],
)
def test_tensors_that_are_those_of_no_vit_are_refused(load, tmp_path, name, tensor, facts):
    torch.save({**tiny_tensors(), name: tensor}, tmp_path / "odd.pt")
    refuses(load, tmp_path / "odd.pt", name, *facts)


@BOTH
@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "empty.pt", "archive.pt"])
def test_a_damaged_file_is_refused_also_where_its_structure_alone_is_asked_for(load, tmp_path, name):
    with zipfile.ZipFile(tmp_path / "archive.pt", "w") as archive:
        archive.writestr("m/constants.pkl", b"")
        archive.writestr("m/data.pkl", b"no pickle")
    content = (tmp_path / "archive.pt").read_bytes()
    (tmp_path / "archive.pt").write_bytes(content[: len(content) // 2] + content[len(content) // 2 + 7 :])
    for other, damaged in (("a.safetensors", b"hello there"), ("a.pt", b"hello there"), ("empty.pt", b"")):
        (tmp_path / other).write_bytes(damaged)
    refuses(load, tmp_path / name, f"{name} is damaged")


def test_a_file_of_something_else_is_said_to_be_no_checkpoint(tmp_path):
    for text in ("hello", "i am no checkpoint"):  # to a reader of pickles: an unknown place, and bare rubbish
        (tmp_path / "notes.txt").write_text(text)
        refuses(load_backbone, tmp_path / "notes.txt", "damaged", "safetensors", "torch.save")


FEW_STEPS = {"rank": 2, "base_steps": 5, "steps_per_shot": 0, "learning_rate": 0.05}


@pytest.fixture
def copy_in_transformers_format(tiny_open_clip, tmp_path):
    """The same weights as somebody else would publish them, with the end-of-text token by its own id."""
    from transformers import CLIPImageProcessorPil

    backbone, folder = load_backbone(str(tiny_open_clip)), tmp_path / "copy"
    backbone.model.config.text_config.eos_token_id = 49407
    backbone.model.save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)
    pixels = {"image_mean": list(backbone.mean), "image_std": list(backbone.std)}
    CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=16, **pixels).save_pretrained(folder)
    return folder


@pytest.mark.long
@pytest.mark.parametrize("method", ["lora", "lora-xs", "gda"])
def test_adapters_of_the_one_copy_load_on_the_other(tiny_open_clip, copy_in_transformers_format, tmp_path, method):
    images = list(np.random.default_rng(0).integers(0, 256, (4, 20, 20, 3), dtype=np.uint8))
    folders = [str(tiny_open_clip), str(copy_in_transformers_format)]
    for here, there in (folders, folders[::-1]):
        settings = FEW_STEPS if method != "gda" else {}
        classifier = FewShotClassifier(method=method, model=here, views=1, **settings)
        adapter = tmp_path / f"{method}-of-{len(here)}"
        table = classifier.fit(images, list("abab")).predict_proba(images)
        classifier.save_pretrained(adapter)
        moved = FewShotClassifier.from_pretrained(adapter, model=there)
        np.testing.assert_allclose(moved.predict_proba(images), table, atol=1e-6)


@pytest.mark.long
def test_a_copy_has_the_same_weights_whatever_its_layout(tiny_open_clip, copy_in_transformers_format):
    here, there = (load_backbone(str(each)).identity for each in (tiny_open_clip, copy_in_transformers_format))
    assert here.weights_sha256 == there.weights_sha256
    assert here.settings_sha256 != there.settings_sha256  # 2 and 49407 mean the same token
    assert there.settings_sha256 in here.equal_settings_sha256
    assert here.settings_sha256 in there.equal_settings_sha256


@pytest.mark.long
def test_an_export_is_a_copy_in_transformers_format(tmp_path):
    from lowshot.conversion import export

    pixels = {"mean": 0.5, "std": 0.25, "interpolation": "bilinear", "resize_mode": "squash"}
    model = write_checkpoint(tmp_path / "model", pixels=pixels)
    images = list(np.random.default_rng(0).integers(0, 256, (4, 20, 24, 3), dtype=np.uint8))
    classifier = FewShotClassifier(method="lora", model=str(model), views=1, **FEW_STEPS)
    classifier.fit(images, list("abab")).save_pretrained(tmp_path / "adapter")
    export(tmp_path / "adapter", tmp_path / "merged", format="merged")
    processor = json.loads((tmp_path / "merged" / "preprocessor_config.json").read_text())
    assert (processor["image_mean"], processor["image_std"]) == ([0.5] * 3, [0.25] * 3)
    assert (processor["size"], processor["resample"]) == ({"height": 16, "width": 16}, 2)
    assert not processor["do_center_crop"]
    merged = load_backbone(str(tmp_path / "merged"))
    assert merged.image_size == 16
    assert merged.resizing == Resizing("squash", "bilinear")


def test_a_checkpoint_is_written_in_transformers_format_for_those_without_lowshot(tiny_open_clip, tmp_path):
    from lowshot.conversion import write_backbone

    copy = write_backbone(str(tiny_open_clip), tmp_path / "copy")
    here, there = (load_backbone(str(each)).identity for each in (tiny_open_clip, copy))
    assert here.weights_sha256 == there.weights_sha256
    assert here.settings_sha256 == there.settings_sha256
    assert not is_in_transformers_format(str(tiny_open_clip))
    assert is_in_transformers_format(str(copy))
    with pytest.raises(OutputExistsError):
        write_backbone(str(tiny_open_clip), copy)
