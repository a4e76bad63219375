"""A tiny random checkpoint in open_clip's layout, written without the package; test_against_open_clip.py proves it."""

import copy
import json
import math

import pytest
import torch
from safetensors.torch import save_file

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "layers": 3, "width": 24, "head_width": 12, "patch_size": 8},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 2},
}
PIXELS = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "interpolation": "bicubic", "resize_mode": "shortest"}


def configured(changes):
    """TINY with changes: of the model, and of its towers under ``vision_cfg`` and ``text_cfg``."""
    config = copy.deepcopy(TINY)
    for name, value in changes.items():
        config[name] = config[name] | value if name in ("vision_cfg", "text_cfg") else value
    return config


def tiny_tensors():
    """open_clip's names and shapes of TINY's tensors, with numbers so large that each matters."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape, std=0.3):
        return torch.randn(shape, generator=generator) * std

    def norm(name, width):
        return {f"{name}.weight": 1 + drawn(width, std=0.1), f"{name}.bias": drawn(width, std=0.1)}

    def blocks(prefix, layers, width):
        tensors = {}
        for layer in range(layers):
            block = f"{prefix}transformer.resblocks.{layer}"
            tensors |= norm(f"{block}.ln_1", width) | norm(f"{block}.ln_2", width)
            for name, rows, columns in (
                ("attn.in_proj_", 3 * width, width),
                ("attn.out_proj.", width, width),
                ("mlp.c_fc.", 4 * width, width),
                ("mlp.c_proj.", width, 4 * width),
            ):
                tensors |= {f"{block}.{name}weight": drawn(rows, columns), f"{block}.{name}bias": drawn(rows, std=0.1)}
        return tensors

    vision, text, embedding = 24, 8, 16
    return {
        "positional_embedding": drawn(24, text),
        "text_projection": drawn(text, embedding),
        "logit_scale": torch.tensor(math.log(10.0)),
        "visual.class_embedding": drawn(vision),
        "visual.positional_embedding": drawn(5, vision),
        "visual.proj": drawn(vision, embedding),
        "visual.conv1.weight": drawn(vision, 3, 8, 8),
        "token_embedding.weight": drawn(49408, text),
        **norm("visual.ln_pre", vision),
        **norm("visual.ln_post", vision),
        **norm("ln_final", text),
        **blocks("visual.", 3, vision),
        **blocks("", 2, text),
    }


def write_checkpoint(folder, config=TINY, tensors=None, pixels=PIXELS):
    """What open_clip's save_for_hf writes, but for the tokenizer that it does not read again."""
    folder.mkdir(exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": pixels}))
    save_file(tiny_tensors() if tensors is None else tensors, folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="session")
def tiny_open_clip(tmp_path_factory):
    """Folder of a random CLIP in open_clip's layout."""
    return write_checkpoint(tmp_path_factory.mktemp("tiny-open-clip"))
