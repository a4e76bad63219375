"""The steps from an image to the input of an ONNX file, in words and numbers for those who have no lowshot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..data.picture import BACKGROUND, LEAST_SIDE
from ..files import canonical_json, write_bytes, write_text
from ..models import Backbone

PREPROCESSING_FILE = "preprocessing.json"
SCRIPT_FILE = "classify.py"
BESIDE = Path(__file__).parent / "beside"
"""Files that are copied as they are: they run where there is no lowshot."""
_MODES = {
    "shortest": "shorter side to size, longer side to floor(size * longer / shorter)",
    "squash": "both sides to size, whatever their ratio",
}
_FILTERS = {"bicubic": "bicubic (a = -0.5)", "bilinear": "bilinear"}


def preprocessing(backbone: Backbone) -> dict[str, Any]:
    """All steps from an image file to the graph's input, in their order."""
    mode, interpolation = backbone.resizing
    return {
        "orientation": "as EXIF says",
        "background": list(BACKGROUND),
        "reduce": {
            "keep_at_least": LEAST_SIDE,
            "words": "a photograph whose shorter side is 2, 4 or 8 times that or more is first made smaller by so much",
        },
        "size": backbone.image_size,
        "mode": mode,
        "resize": _MODES[mode],
        "filter": interpolation,
        "interpolation": f"{_FILTERS[interpolation]}, antialiased, in floating point, then clipped",
        "crop": "the middle: size x size from floor((side - size) / 2)",
        "input": {
            "name": "images",
            "type": "float32",
            "shape": ["any number of images", 3, backbone.image_size, backbone.image_size],
            "channels": "RGB",
            "range": [0, 1],
        },
        "inside_the_model": [{"mean": list(each.mean), "std": list(each.std)} for each in (backbone, *backbone.beside)],
    }


def write_preprocessing(backbone: Backbone, folder: Path) -> None:
    """Write the description, and the script that does it."""
    write_text(folder / PREPROCESSING_FILE, canonical_json(preprocessing(backbone)))
    write_bytes(folder / SCRIPT_FILE, (BESIDE / SCRIPT_FILE).read_bytes())
