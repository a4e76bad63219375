"""A backbone alone in transformers format, which open_clip's and OpenAI's checkpoints are not in."""

from __future__ import annotations

import os
from pathlib import Path

from ..files import folder_written_aside, refuse_existing
from ..models import load_backbone
from ..models.writing import write_in_transformers_format
from ..torch_state import own_torch_state


@own_torch_state()
def write_backbone(model: str, out: str | os.PathLike[str]) -> Path:
    """Write a backbone in transformers format: configuration, float32 weights, tokenizer and image processor.

    Args:
        model: As for ``load_backbone``, such as ``ViT-B-16:datacomp_xl_s13b_b90k``.
        out: Folder for it; must not exist yet.

    Returns:
        The folder.

    Raises:
        OutputError: ``out`` exists, or cannot be written.
        InputError: There is no such model, or transformers has no class for its kind.
    """
    refuse_existing(Path(out))
    backbone = load_backbone(model, exportable=True)
    with folder_written_aside(Path(out)) as aside:
        write_in_transformers_format(backbone, aside)
    return Path(out)
