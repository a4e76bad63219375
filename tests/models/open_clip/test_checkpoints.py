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

BOTH = pytest.mark.parametrize("load", [load_backbone, load_structure])


@pytest.fixture
def folder(tiny_open_clip, tmp_path):
    return shutil.copytree(tiny_open_clip, tmp_path / "checkpoint")


def reconfigure(folder, **changes):
    content = json.loads((folder / "open_clip_config.json").read_text())
    (folder / "open_clip_config.json").write_text(json.dumps({**content, "model_cfg": configured(changes)}))


def refused(load, model, message):
    with pytest.raises(InputError, match=message) as refusal:
        load(str(model))
    assert str(refusal.value).count(str(model)) >= 1
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
    ("name", "message"),
    [
        (
            "ViT-B-32:openai",
            "has GELU and weights that were trained with QuickGELU, .*; expected ViT-B-32-quickgelu",
        ),
        ("ViT-B-32:mine", "'mine' is none of its weights; expected ViT-B-32:laion2b_e16, .* or one of 18 more"),
        ("ViT-B-16-SigLIP:webli", "has not a bias of its scores"),
        ("RN50-quickgelu:openai", "has not a ResNet as its image tower$"),
        ("ViT-H-14-worldwide:metaclip2_worldwide", "has GELU and weights that were trained with QuickGELU"),
    ],
)
def test_names_that_cannot_be_read_say_why(load, name, message):
    refused(load, name, message)


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
    with pytest.raises(InputError, match=r"says GELU, but .* QuickGELU; expected ViT-B-16-quickgelu:dfn2b"):
        load_structure("hf-hub:apple/DFN2B-CLIP-ViT-B-16")
    reconfigure(folder, quick_gelu=True)
    assert load_structure("hf-hub:apple/DFN2B-CLIP-ViT-B-16").depths["vision"] == 3


@BOTH
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision_cfg": {"timm_model_name": "vit_base"}}, "has not timm's image tower vit_base"),
        ({"vision_cfg": {"layers": [3, 4, 6, 3]}}, "has not a ResNet as its image tower"),
        ({"vision_cfg": {"attentional_pool": True}}, "has not an image tower that pools by attention"),
        ({"vision_cfg": {"no_ln_pre": True}}, "has not an image tower without a norm before its blocks"),
        ({"vision_cfg": {"pool_type": "avg"}}, "has not an image tower that pools by avg, not at its class token"),
        ({"vision_cfg": {"qk_norm": True}}, "has not blocks with norms of queries and keys"),
        ({"vision_cfg": {"image_size": [16, 24]}}, "has not square images and patches"),
        ({"text_cfg": {"hf_model_name": "roberta-base"}}, "has not the text tower roberta-base of transformers"),
        ({"text_cfg": {"no_causal_mask": True}}, "has not a text tower in which a token sees those after it"),
        ({"text_cfg": {"pool_type": "last"}}, "has not a text tower that pools by last"),
        ({"text_cfg": {"proj_bias": True}}, "has not a text projection with a bias"),
        ({"text_cfg": {"embed_cls": True}, "multimodal_cfg": {}}, r"has not a decoder .*\(CoCa\); a class token"),
        ({"init_logit_bias": -10}, "has not a bias of its scores"),
        ({"text_cfg": {"rotary": True}}, "has not rotary, which open_clip 3.3.0 does not know"),
        ({"vision_cfg": {"width": "wide"}}, "width is 'wide'; expected a whole number"),
        ({"vision_cfg": {"head_width": 7}}, "head_width is 7, which does not divide the width 24"),
        ({"vision_cfg": {"mlp_ratio": None}}, "mlp_ratio is None; expected a number"),
        ({"vision_cfg": {"norm_kwargs": {"bias": False}}}, "norm_kwargs is .*; expected"),
        ({"quick_gelu": True, "text_cfg": {"act_kwargs": {"approximate": "tanh"}}}, "act_kwargs is .* quick_gelu True"),
        ({"text_cfg": {"proj_type": "none"}}, "proj_type is none, but the text tower is 8 wide and embed_dim is 16"),
        ({"embed_dim": None}, "embed_dim is None"),
        ({"vision_cfg": {"layers": 10**9}}, "layers is 1000000000; expected a whole number from 1 to 1,000"),
        ({"vision_cfg": {"mlp_ratio": float("nan")}}, "mlp_ratio is nan; expected a number"),
        ({"vision_cfg": {"patch_size": 32}}, "patch_size is 32 and image_size 16"),
        ({"vision_cfg": {"timm_model_name": ["x"]}}, r"has not timm's image tower \['x'\]"),
        ({"text_cfg": {"heads": 3}}, "heads is 3, which does not divide the width 8"),
        ({"text_cfg": {"pool_type": "eos", "eos_id": "x"}}, "eos_id is 'x'; expected a whole number"),
        ({"quick_gelu": "no"}, "quick_gelu is 'no'; expected true or false"),
    ],
)
def test_what_a_clip_of_transformers_has_not_is_named(load, folder, changes, message):
    reconfigure(folder, **changes)
    refused(load, folder, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text_cfg": {"vocab_size": 1000}}, "its tokenizer has 49,408 tokens, but its .* vocab_size is 1,000"),
        ({"text_cfg": {"hf_tokenizer_name": "facebook/xlm-v-base"}}, "names the tokenizer facebook/xlm-v-base, of whi"),
        ({"text_cfg": {"tokenizer_kwargs": {"strip_sep_token": True}}}, r"set up by \['strip_sep_token'\]"),
        ({"text_cfg": {"tokenizer_mode": "clips"}}, r"set up by \['tokenizer_mode'\]"),
        ({"text_cfg": {"tokenizer_kwargs": {"clean": "whitespace"}}}, r"set up by \['clean'\]"),
        (
            {"text_cfg": {"hf_tokenizer_name": "a/b", "tokenizer_kwargs": {"clean": "lower"}}},
            r"set up by \['clean'\]",
        ),
        ({"text_cfg": {"tokenizer_kwargs": 3}}, "tokenizer_kwargs is 3; expected options"),
        ({"text_cfg": {"pool_type": "eos"}}, "reads text embeddings at token 2, but its tokenizer ends"),
        ({"text_cfg": {"pool_type": "eos", "eos_id": 7}}, "reads text embeddings at token 7, but its tokenizer ends"),
        ({"vision_cfg": {"layers": 4}}, "its weights lack 16 of the model's tensors, such as vision_model.encoder.lay"),
        ({"text_cfg": {"layers": 1}}, r"its weights have 16 tensor\(s\) that the model has not, such as text_model"),
        ({"vision_cfg": {"image_size": 24}}, r"position_embedding.weight has shape \(5, 24\) in its .* needs \(10, 24"),
        ({"vision_cfg": {"mlp_ratio": 2.0}}, r"mlp.fc1.\w+ has shape \(96.*\) in its weights; its configuration needs"),
    ],
)
def test_weights_and_tokenizer_must_be_those_of_the_configuration(folder, changes, message):
    reconfigure(folder, **changes)
    refused(load_backbone, folder, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("visual.proj"), "lack 1 of the model's tensors, such as visual_projection.weight"),
        (lambda tensors: tensors.pop("text_projection"), "lack 1 of the model's tensors, such as text_projection.weig"),
        (lambda tensors: tensors.update({"visual.head": torch.ones(2)}), r"have 1 tensor\(s\) .* such as visual.head"),
        (
            lambda tensors: tensors.update({"visual.proj": torch.ones(24, 8)}),
            r"visual_projection.weight has shape \(8,",
        ),
        (lambda tensors: tensors.update({"logit_scale": torch.ones(2)}), r"logit_scale has shape \(2,\)"),
    ],
)
def test_tensors_that_are_missing_more_or_of_another_shape_are_named(tmp_path, change, message):
    tensors = tiny_tensors()
    change(tensors)
    refused(load_backbone, write_checkpoint(tmp_path, tensors=tensors), message)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        ({"resize_mode": "longest"}, "resize_mode is 'longest'; expected shortest or squash"),
        ({"interpolation": "nearest"}, "interpolation is 'nearest'; expected bicubic or bilinear"),
        ({"mean": [0.5]}, r"mean is \[0.5\]; expected three numbers"),
        ({"std": [0.5, 0, 1]}, r"std is \[0.5, 0, 1\]; expected three numbers"),
        ({"std": [float("inf")] * 3}, r"std is \[inf, inf, inf\]; expected three numbers"),
        ({"mean": [float("nan")] * 3}, r"mean is \[nan, nan, nan\]; expected three numbers"),
        ({"resize_mode": ["squash"]}, r"resize_mode is \['squash'\]; expected shortest or squash"),
        ({"interpolation": ["bicubic"]}, r"interpolation is \['bicubic'\]; expected bicubic or bilinear"),
    ],
)
def test_pixels_that_are_not_open_clips_are_refused(folder, pixels, message):
    config = {"model_cfg": TINY, "preprocess_cfg": pixels}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    refused(load_backbone, folder, message)


def test_pixels_not_spoken_of_are_openais(folder):
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": {"std": 0.5}}))
    backbone = load_backbone(str(folder))
    assert backbone.mean == (0.48145466, 0.4578275, 0.40821073)
    assert backbone.std == (0.5, 0.5, 0.5)
    assert backbone.resizing == Resizing("shortest", "bicubic")


@BOTH
@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model_cfg": 3}', '{"model_cfg": {"vision_cfg": {}}}'])
def test_a_damaged_configuration_is_refused(load, folder, text):
    (folder / "open_clip_config.json").write_text(text)
    refused(load, folder, "is damaged|has no model_cfg|text_cfg is None")


@BOTH
def test_half_a_checkpoint_says_which_half(load, folder):
    (folder / "open_clip_config.json").unlink()
    refused(load, folder, r"holds open_clip's weights \(open_clip_model.safetensors\) and no open_clip_config.json")


def test_a_configuration_without_weights_says_so(folder):
    (folder / "open_clip_model.safetensors").unlink()
    refused(load_backbone, folder, "there is none of open_clip_model.safetensors and open_clip_pytorch_model.bin")


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
    refused(load_backbone, folder, "open_clip_model.safetensors is damaged: ")
    path.unlink()
    (folder / "open_clip_pytorch_model.bin").write_bytes(b"PK\x03\x04 nothing")
    refused(load_backbone, folder, "open_clip_pytorch_model.bin is damaged: ")


class Trap:
    def __reduce__(self):
        return print, ("a checkpoint was run",)


def test_a_pickle_that_holds_more_than_tensors_is_not_run(folder, capsys):
    (folder / "open_clip_model.safetensors").unlink()
    torch.save({"visual.proj": Trap()}, folder / "open_clip_pytorch_model.bin")
    refused(load_backbone, folder, "open_clip_pytorch_model.bin holds more than tensors, and nothing of it is run")
    torch.save({"visual.proj": [1, 2]}, folder / "open_clip_pytorch_model.bin")
    refused(load_backbone, folder, "it holds 'visual.proj', a list; expected tensors by their names alone")
    assert "a checkpoint was run" not in capsys.readouterr().out


def test_a_torchscript_archive_is_not_run(tmp_path, capsys):
    path = tmp_path / "ViT-B-32.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", pickle.dumps(Trap()))
        archive.writestr("m/constants.pkl", b"")
    with pytest.raises(InputError, match=r"asks for builtins.print, which is more than tensors; refused"):
        archive_tensors(path)
    refused(load_backbone, path, "asks for builtins.print")
    assert "a checkpoint was run" not in capsys.readouterr().out


@BOTH
def test_openais_file_is_read_by_itself(load, tmp_path):
    torch.save({name: tensor.half() for name, tensor in tiny_tensors().items()}, tmp_path / "ViT-B-32.pt")
    refused(load, tmp_path, r"holds ViT-B-32.pt; expected the file itself: ")
    model = load(str(tmp_path / "ViT-B-32.pt")).model
    assert model.config.vision_config.hidden_act == model.config.text_config.hidden_act == "quick_gelu"
    assert model.config.vision_config.image_size == 16


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"visual.layer1.0.conv1.weight": torch.ones(1)}, "it is a ResNet of OpenAI's"),
        (
            {"weight": torch.ones(1)},
            "it has no tensor visual.conv1.weight; expected one of OpenAI's models",
        ),
        ({}, "it holds a dict; expected tensors by their names"),
    ],
)
def test_a_file_of_other_tensors_is_refused(tmp_path, tensors, message):
    torch.save(tensors, tmp_path / "other.pt")
    refused(load_backbone, tmp_path / "other.pt", message)
    save_file({"x": torch.ones(1)}, tmp_path / "x.safetensors")
    refused(load_structure, tmp_path / "x.safetensors", "it has no tensor visual.conv1.weight")


@BOTH
@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("visual.conv1.weight", torch.ones(3), r"it has visual.conv1.weight of shape \(3,\); expected one of OpenAI's"),
        ("positional_embedding", torch.tensor(2.0), r"it has positional_embedding of shape \(\)"),
        ("visual.positional_embedding", torch.ones(1, 24), "has 1 rows; expected a square number and one"),
        ("visual.positional_embedding", torch.ones(7, 24), "has 7 rows; expected a square number and one"),
    ],
)
def test_tensors_that_are_those_of_no_vit_are_refused(load, tmp_path, name, tensor, message):
    torch.save({**tiny_tensors(), name: tensor}, tmp_path / "odd.pt")
    refused(load, tmp_path / "odd.pt", message)


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
    refused(load, tmp_path / name, f"{name} is damaged: ")


def test_a_file_of_something_else_is_said_to_be_no_checkpoint(tmp_path):
    for text in ("hello", "i am no checkpoint"):  # to a reader of pickles: an unknown place, and bare rubbish
        (tmp_path / "notes.txt").write_text(text)
        refused(load_backbone, tmp_path / "notes.txt", "neither of safetensors nor what torch.save writes")


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
