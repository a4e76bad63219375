"""A tiny random model of each family, in transformers format, with a tokenizer of its own kind."""

import math
import string

import pytest
import torch

from lowshot.models import mobileclip, pe_core
from open_clip_layout import write_checkpoint

CONTEXT = 24
LONGER = 48
"""Context of the models whose prompts are not padded to all of it."""
LETTERS = [*string.ascii_letters, *string.digits, *string.punctuation]


def write_model(folder, model_class, config, tokenizer, image_processor):
    """Weights so large that every part of the model matters, a logit scale of 10 and a bias of -3 if there is one.

    Where there is none, as in models trained with a softmax, the layers' biases are drawn too.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = model_class(config)
        sigmoid = hasattr(model, "logit_bias")
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.3)
            elif name.endswith("bias") and not sigmoid:
                torch.nn.init.normal_(parameter, std=0.1)
        torch.nn.init.constant_(model.logit_scale, math.log(10))
        if sigmoid:
            torch.nn.init.constant_(model.logit_bias, -3.0)
    for part in (model, tokenizer, image_processor):
        part.save_pretrained(folder)
    return folder


def text_config(tokenizer, **more):
    return {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "max_position_embeddings": CONTEXT,
        "vocab_size": len(tokenizer),
        "projection_size": 24,
        "bos_token_id": 0,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **more,
    }


VISION = {"hidden_size": 24, "intermediate_size": 48, "num_attention_heads": 2, "num_hidden_layers": 3}


def t5_like_tokenizer():
    """SigLIP's manners: lower case, no punctuation, prompts end with ``</s>``, which also pads; no attention mask."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = [("<unk>", 0.0), ("</s>", 0.0), ("▁", -2.0), *((letter, -3.0) for letter in LETTERS)]
    backend = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    backend.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace(Regex(r"[[:punct:]]"), ""), normalizers.Strip()]
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="</s>",
        pad_token="</s>",
        unk_token="<unk>",
        padding_side="right",
        model_max_length=CONTEXT,
        model_input_names=["input_ids"],
    )


def gemma_like_tokenizer(tokenizer_class):
    """Gemma's manners: bytes for unknown characters, prompts end with ``<eos>``, ``<pad>`` pads on the right."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁"]
    tokens = [*special, *LETTERS, *(f"<0x{byte:02X}>" for byte in range(256)), "ca", "cat"]
    return tokenizer_class(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=[("c", "a"), ("ca", "t")],
        add_bos_token=False,
        add_eos_token=True,
        padding_side="right",
        model_max_length=CONTEXT,
        model_input_names=["input_ids"],
    )


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory):
    """Folder of a random CLIP: towers of different width and depth, a tokenizer that spells."""
    return write_clip(tmp_path_factory.mktemp("tiny-clip"), of_images=3, of_texts=2)


@pytest.fixture(scope="session")
def shallow_clip(tmp_path_factory):
    """The same with so few blocks that what is asked of each layer alone is quickly asked of all."""
    return write_clip(tmp_path_factory.mktemp("shallow-clip"), of_images=2, of_texts=1)


def write_clip(folder, of_images, of_texts):
    """Towers of so many blocks."""
    from tokenizers import pre_tokenizers
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[], model_max_length=48)
    config = CLIPConfig(
        vision_config={
            "hidden_size": 24,
            "intermediate_size": 48,
            "num_attention_heads": 2,
            "num_hidden_layers": of_images,
            "image_size": 16,
            "patch_size": 8,
            "projection_dim": 16,
        },
        text_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_attention_heads": 2,
            "num_hidden_layers": of_texts,
            "max_position_embeddings": 48,
            "vocab_size": len(tokens),
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "projection_dim": 16,
        },
        projection_dim=16,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CLIPModel(config)
        # transformers' initial weights are so small, and its biases zero, that nothing would matter.
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.3)
            elif name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def write_siglip(folder, tokenizer):
    """Of fixed resolution: SigLIP and SigLIP 2 differ in their tokenizers alone."""
    from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel

    config = SiglipConfig(
        text_config=text_config(tokenizer), vision_config={**VISION, "image_size": 16, "patch_size": 8}
    )
    images = SiglipImageProcessorPil(size={"height": 16, "width": 16})
    return write_model(folder, SiglipModel, config, tokenizer, images)


@pytest.fixture(scope="session")
def tiny_siglip(tmp_path_factory):
    """Folder of a random SigLIP."""
    return write_siglip(tmp_path_factory.mktemp("tiny-siglip"), t5_like_tokenizer())


@pytest.fixture(scope="session")
def tiny_siglip2(tmp_path_factory):
    """Folder of a random SigLIP 2 of fixed resolution: SigLIP's classes, Gemma's tokenizer."""
    from transformers import GemmaTokenizer

    return write_siglip(tmp_path_factory.mktemp("tiny-siglip2"), gemma_like_tokenizer(GemmaTokenizer))


@pytest.fixture(scope="session")
def tiny_naflex(tmp_path_factory):
    """Folder of a random SigLIP 2 NaFlex: 16 patches of 4 x 4 pixels."""
    from transformers import Siglip2Config, Siglip2ImageProcessorPil, Siglip2Model, Siglip2Tokenizer

    tokenizer = gemma_like_tokenizer(Siglip2Tokenizer)
    config = Siglip2Config(
        text_config=text_config(tokenizer), vision_config={**VISION, "num_patches": 16, "patch_size": 4}
    )
    images = Siglip2ImageProcessorPil(patch_size=4, max_num_patches=16)
    return write_model(tmp_path_factory.mktemp("tiny-naflex"), Siglip2Model, config, tokenizer, images)


def write_softmax_model(folder, kind, tokenizer, text, image_processor="CLIPImageProcessorPil"):
    """A model with CLIP's vision tower and another text tower.

    Args:
        folder: Where to.
        kind: What the names of its classes begin with.
        tokenizer: Its tokenizer.
        text: The text tower's configuration, as far as it differs from that of the others.
        image_processor: Name of its class.
    """
    import transformers

    config = getattr(transformers, f"{kind}Config")(
        text_config={**text_config(tokenizer), "max_position_embeddings": LONGER, **text},
        vision_config={**VISION, "image_size": 16, "patch_size": 8, "projection_dim": 24},
        projection_dim=24,
    )
    size = {"height": 16, "width": 16}
    images = getattr(transformers, image_processor)(size=size, crop_size=size)
    return write_model(folder, getattr(transformers, f"{kind}Model"), config, tokenizer, images)


def roberta_like_tokenizer():
    """XLM-R's manners: prompts stand between ``<s>`` and ``</s>``, and ``<pad>``, which is 1, pads on the right."""
    from transformers import XLMRobertaTokenizer

    special = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = [*((token, 0.0) for token in special), ("▁", -2.0), *((letter, -3.0) for letter in LETTERS), ("<mask>", 0)]
    return XLMRobertaTokenizer(vocab=pieces, model_max_length=LONGER)


def bert_like_tokenizer():
    """BERT's manners: lower case, prompts stand between ``[CLS]`` and ``[SEP]``, and ``[PAD]``, which is 0, pads."""
    from transformers import BertTokenizer

    letters = [letter for letter in LETTERS if not letter.isupper()]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    return BertTokenizer(vocab={token: i for i, token in enumerate(tokens)}, model_max_length=LONGER)


@pytest.fixture(scope="session")
def tiny_metaclip2(tmp_path_factory):
    """Folder of a random MetaCLIP 2, whose end-of-text token has the id 2, as in the published ones."""
    tokenizer = roberta_like_tokenizer()
    text = {"eos_token_id": 2, "projection_dim": 24}
    return write_softmax_model(tmp_path_factory.mktemp("tiny-metaclip2"), "MetaClip2", tokenizer, text)


@pytest.fixture(scope="session")
def tiny_chinese_clip(tmp_path_factory):
    """Folder of a random Chinese CLIP; its text tower has dropout, as that of the published ones."""
    folder, images = tmp_path_factory.mktemp("tiny-chinese-clip"), "ChineseCLIPImageProcessorPil"
    return write_softmax_model(folder, "ChineseCLIP", bert_like_tokenizer(), {}, images)


@pytest.fixture(scope="session")
def tiny_altclip(tmp_path_factory):
    """Folder of a random AltCLIP; the positions of its text tower begin behind that of padding."""
    text = {"max_position_embeddings": LONGER + 2, "project_dim": 20}
    return write_softmax_model(tmp_path_factory.mktemp("tiny-altclip"), "AltCLIP", roberta_like_tokenizer(), text)


IMAGE_ENCODERS = {
    "vit": "ViTModel",
    "dinov2": "Dinov2Model",
    "dinov2_with_registers": "Dinov2WithRegistersModel",
    "dinov3_vit": "DINOv3ViTModel",
}
"""Kind of image encoder without text -> transformers' class."""


@pytest.fixture(params=IMAGE_ENCODERS)
def tiny_image_encoder(request, tmp_path_factory):
    """Folder of a random image encoder without a text tower, of each kind in turn."""
    return write_image_encoder(tmp_path_factory.mktemp("encoder"), request.param)


def write_image_encoder(folder, kind, **settings):
    """Weights so large that every part matters; pixels are normalised as nobody else's."""
    import transformers

    model_class = getattr(transformers, IMAGE_ENCODERS[kind])
    sizes = {"hidden_size": 24, "intermediate_size": 48, "num_attention_heads": 2, "num_hidden_layers": 2}
    sizes |= {"num_register_tokens": 3} if kind in ("dinov2_with_registers", "dinov3_vit") else {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = model_class(model_class.config_class(**sizes, **settings, image_size=16, patch_size=8))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.3)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        '{"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.25], "crop_size": {"height": 16, "width": 16}}'
    )
    return folder


EVERY = (
    *("tiny_clip", "tiny_siglip", "tiny_siglip2", "tiny_naflex"),
    *("tiny_metaclip2", "tiny_chinese_clip", "tiny_altclip"),
)


PE_CORE = "vit_pe_core_made-up_patch8_16"


@pytest.fixture(scope="session")
def tiny_pe_core(tmp_path_factory):
    """Folder of a random PE-Core in open_clip's layout, with an image tower that timm has no name for."""
    tower = {"hidden_size": 24, "num_attention_heads": 2, "num_hidden_layers": 3, "patch_size": 8}
    config = {
        "embed_dim": 16,
        "vision_cfg": {"timm_model_name": PE_CORE, "timm_pool": "map", "timm_proj": None, "image_size": 16},
        "text_cfg": {"context_length": 48, "width": 16, "heads": 2, "layers": 2},
    }
    folder = write_checkpoint(tmp_path_factory.mktemp("tiny-pe-core"), config, pe_core_tensors())
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(pe_core.TOWERS, PE_CORE, tower)
        yield folder


def pe_core_tensors():
    """open_clip's and timm's names and shapes, with numbers so large that each matters."""
    generator, width = torch.Generator().manual_seed(0), 24
    shapes = {"text.positional_embedding": (48, 16), "text.text_projection": (16, 16), "logit_scale": ()}
    shapes["text.token_embedding.weight"] = (49408, 16)
    shapes |= with_bias("text.ln_final", 16)
    for block in (f"text.transformer.resblocks.{number}" for number in range(2)):
        shapes |= {f"{block}.attn.in_proj_weight": (48, 16), f"{block}.attn.in_proj_bias": (48,)}
        shapes |= with_bias(f"{block}.ln_1", 16) | with_bias(f"{block}.ln_2", 16)
        shapes |= with_bias(f"{block}.attn.out_proj", 16, 16)
        shapes |= with_bias(f"{block}.mlp.c_fc", 64, 16) | with_bias(f"{block}.mlp.c_proj", 16, 64)
    trunk = {"cls_token": (1, 1, width), "pos_embed": (1, 5, width), "patch_embed.proj.weight": (width, 3, 8, 8)}
    trunk |= {"attn_pool.latent": (1, 1, width)} | with_bias("head", 16, width)
    for name, rows in {"attn_pool.q": 1, "attn_pool.kv": 2, "attn_pool.proj": 1}.items():
        trunk |= with_bias(name, rows * width, width)
    for name in ("norm_pre", "norm", "attn_pool.norm"):
        trunk |= with_bias(name, width)
    for block in (f"blocks.{number}" for number in range(3)):
        trunk |= with_bias(f"{block}.norm1", width) | with_bias(f"{block}.norm2", width)
        trunk |= with_bias(f"{block}.attn.qkv", 3 * width, width) | with_bias(f"{block}.attn.proj", width, width)
    for mlp in ("attn_pool.mlp", *(f"blocks.{number}.mlp" for number in range(3))):
        trunk |= with_bias(f"{mlp}.fc1", 4 * width, width) | with_bias(f"{mlp}.fc2", width, 4 * width)
    shapes |= {f"visual.trunk.{name}": shape for name, shape in trunk.items()}
    tensors = {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return tensors | {"logit_scale": torch.tensor(math.log(10))}


def with_bias(name, *shape):
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


FASTVIT = "fastvit_made-up"


@pytest.fixture(scope="session")
def tiny_mobileclip(tmp_path_factory):
    """Folder of a random MobileCLIP in open_clip's layout, with an image tower that timm has no name for."""
    config = {
        "embed_dim": 16,
        "vision_cfg": {"timm_model_name": FASTVIT, "timm_pool": "avg", "timm_proj": None, "image_size": 16},
        "text_cfg": {"context_length": 48, "width": 16, "heads": 2, "layers": 2, "no_causal_mask": True},
    }
    folder = write_checkpoint(tmp_path_factory.mktemp("tiny-mobileclip"), config, mobileclip_tensors())
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(mobileclip.TOWERS, FASTVIT, {"layers": (1, 1, 1, 2), "widths": (8, 8, 16, 32), "stem_stride": 1})
        yield folder


def mobileclip_tensors():
    """open_clip's and timm's names and shapes, with numbers so large that each matters."""
    shapes = several("stem.0", 8, 3, 3) | several("stem.1", 8, 1, 3) | several("stem.2", 8, 8, 1, identity=True)
    for stage, width in enumerate((8, 8, 16)):
        block = f"stages.{stage}.blocks.0"
        shapes |= norm(f"{block}.token_mixer.norm.identity", width) | near_mlp(f"{block}.mlp", width)
        shapes |= several(f"{block}.token_mixer.mixer", width, 1, 3, identity=True)
        shapes |= {f"{block}.{gain}.gamma": (width, 1, 1) for gain in ("token_mixer.layer_scale", "layer_scale")}
    for stage, width in ((1, 8), (2, 16), (3, 32)):
        narrowing = f"stages.{stage}.downsample.proj"
        shapes |= branch(f"{narrowing}.0.large_conv", width, 1, 7) | branch(f"{narrowing}.0.small_conv", width, 1, 3)
        shapes |= several(f"{narrowing}.1", width, width, 1, identity=True)
        shapes |= channel_weights(f"{narrowing}.0.se", width, 8) if stage > 1 else {}
    shapes |= with_bias("stages.3.pos_emb.pos_enc", 32, 1, 7, 7)
    for block in ("stages.3.blocks.0", "stages.3.blocks.1"):
        shapes |= norm(f"{block}.norm", 32) | near_mlp(f"{block}.mlp", 32)
        shapes |= {f"{block}.token_mixer.qkv.weight": (96, 32)} | with_bias(f"{block}.token_mixer.proj", 32, 32)
        shapes |= {f"{block}.layer_scale_{number}.gamma": (32, 1, 1) for number in (1, 2)}
    shapes |= several("final_conv", 64, 1, 3) | channel_weights("final_conv.se", 64, 4) | with_bias("head.fc", 16, 64)
    generator = torch.Generator().manual_seed(0)
    drawn = {f"visual.trunk.{name}": 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    drawn |= {name: tensor.abs() + 0.5 for name, tensor in drawn.items() if name.endswith("running_var")}
    # Dozens of factors near zero, one behind the other, would leave nothing of the image.
    factors = ("bn.weight", "identity.weight", "norm.weight", "gamma")
    drawn |= {name: tensor + 0.7 for name, tensor in drawn.items() if name.endswith(factors)}
    # Weights of channels are behind a ReLU, which would hide what it makes zero.
    drawn |= {name: tensor.abs() + 1 for name, tensor in drawn.items() if name.endswith("se.fc1.bias")}
    text = {name: tensor for name, tensor in pe_core_tensors().items() if not name.startswith("visual.")}
    return text | drawn


def norm(name, width):
    return {f"{name}.{each}": (width,) for each in ("weight", "bias", "running_mean", "running_var")}


def branch(name, width, before, size):
    return {f"{name}.conv.weight": (width, before, size, size)} | norm(f"{name}.bn", width)


def several(name, width, before, size, *, identity=False):
    shapes = branch(f"{name}.conv_kxk.0", width, before, size)
    shapes |= branch(f"{name}.conv_scale", width, before, 1) if size > 1 else {}
    return shapes | (norm(f"{name}.identity", width) if identity else {})


def channel_weights(name, width, inner):
    return with_bias(f"{name}.fc1", inner, width, 1, 1) | with_bias(f"{name}.fc2", width, inner, 1, 1)


def near_mlp(name, width):
    layers = with_bias(f"{name}.fc1", 3 * width, width, 1, 1) | with_bias(f"{name}.fc2", width, 3 * width, 1, 1)
    return branch(f"{name}.conv", width, 1, 7) | layers


@pytest.fixture(params=[*EVERY, "tiny_pe_core", "tiny_mobileclip"])
def any_tiny_model(request):
    """Folder of a random model, of each family in turn, those that transformers has not included."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=EVERY)
def tiny_model(request):
    """Folder of a random model, of each family in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["tiny_siglip", "tiny_siglip2", "tiny_naflex"])
def tiny_sigmoid_model(request):
    """Folder of a random model trained with the sigmoid loss, of each kind in turn."""
    return request.getfixturevalue(request.param)
