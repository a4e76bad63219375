"""The package open_clip, what its checkpoints are compared with; lowshot itself never imports it."""

import functools
import sys
import warnings

import torch

_MISSING_OPERATORS = ("nms", "qnms")


@functools.cache
def open_clip():
    """The package. It imports torchvision, whose operators are not there where it was built for another torch.

    None of them is called here: where they are missing they are declared, and torchvision's transforms load.
    """
    import transformers

    transformers.CLIPModel  # noqa: B018 - what transformers imports, it imports without torchvision
    if sys.modules.get("torchvision", ...) is None:
        del sys.modules["torchvision"]
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in _MISSING_OPERATORS:
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import open_clip as package
    return package


_KEPT = []
