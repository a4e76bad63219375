"""The script beside an ONNX file prepares an image as lowshot does, with pillow and numpy alone."""

import importlib.util
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from lowshot.conversion.preprocessing import BESIDE, preprocessing
from lowshot.data.crops import central_crops
from lowshot.data.decoding import load_picture
from lowshot.models import load_backbone
from lowshot.resizing import Resizing


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("classify", BESIDE / "classify.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def steps():
    return preprocessing(load_backbone("builtin"))


def waves(height, width, channels=3, most=255):
    rows, columns = np.mgrid[:height, :width]
    planes = [np.sin(rows / (7 + 5 * k)) * np.cos(columns / (11 + 3 * k)) for k in range(channels)]
    return ((np.stack(planes, -1) + 1) / 2 * most).astype(np.uint16 if most > 255 else np.uint8)


def turned(image):
    exif = Image.Exif()
    exif[0x0112] = 6
    return {"exif": exif}


PICTURES = {
    "a photograph": (Image.fromarray(waves(300, 400)), "JPEG", {"quality": 90}),
    "one that is turned": (Image.fromarray(waves(300, 400)), "JPEG", turned),
    "a small one": (Image.fromarray(waves(20, 23)), "PNG", {}),
    "a panorama": (Image.fromarray(waves(60, 900)), "PNG", {}),
    "a large one": (Image.fromarray(waves(1300, 1450)), "JPEG", {"quality": 90}),
    "a large one without loss": (Image.fromarray(waves(401, 407)), "PNG", {}),
    "a transparent one": (Image.fromarray(waves(90, 80, 4)), "PNG", {}),
    "grey": (Image.fromarray(waves(90, 80, 1)[..., 0]), "PNG", {}),
    "16 bits of grey": (Image.fromarray(waves(90, 80, 1, 65535)[..., 0]), "PNG", {}),
    "a palette": (Image.fromarray(waves(90, 80)).quantize(16), "GIF", {}),
    "four inks": (Image.fromarray(waves(90, 80)).convert("CMYK"), "JPEG", {}),
}


@pytest.mark.parametrize("name", PICTURES)
def test_the_script_makes_the_same_crop(script, steps, tmp_path, monkeypatch, name):
    if name.startswith("a large"):
        monkeypatch.setattr("lowshot.data.picture.LEAST_SIDE", 150)
        steps = {**steps, "reduce": {"keep_at_least": 150}}
    image, kind, options = PICTURES[name]
    content = io.BytesIO()
    image.save(content, kind, **(options(image) if callable(options) else options))
    (tmp_path / "image").write_bytes(content.getvalue())
    expected = central_crops([load_picture(tmp_path / "image")], steps["size"])[0].numpy()
    pixels = script.prepared(tmp_path / "image", steps)
    assert pixels.dtype == np.float32
    assert pixels.shape == expected.shape
    np.testing.assert_allclose(pixels, expected, atol=2e-6)


def test_what_a_graph_takes_is_told_whole(steps):
    size = steps["size"]
    shape = ["any number of images", 3, size, size]
    expected = {"name": "images", "type": "float32", "shape": shape, "channels": "RGB", "range": [0, 1]}
    assert steps["input"] == expected


RESIZINGS = [Resizing(mode, way) for mode in ("shortest", "squash") for way in ("bicubic", "bilinear")]


def steps_of(resizing):
    backbone = load_backbone("builtin")
    backbone.resize_as(resizing)
    return preprocessing(backbone)


@pytest.mark.parametrize("resizing", RESIZINGS)
def test_the_script_resizes_as_the_model_wants(script, tmp_path, resizing):
    Image.fromarray(waves(60, 95)).save(tmp_path / "image.png")
    steps = steps_of(resizing)
    expected = central_crops([waves(60, 95)], steps["size"], resizing)[0].numpy()
    np.testing.assert_allclose(script.prepared(tmp_path / "image.png", steps), expected, atol=2e-6)


@pytest.mark.skipif(shutil.which("node") is None, reason="no node is installed")
@pytest.mark.parametrize("resizing", RESIZINGS)
def test_the_page_resizes_as_the_model_wants(resizing):
    """Its functions of numbers alone, in node."""
    image, steps = waves(60, 95), steps_of(resizing)
    clear = np.concatenate([image, np.full((60, 95, 1), 255, dtype=np.uint8)], -1).ravel().tolist()
    functions = re.findall(r"^function (?:weightsOf|linear|cubic|cropped)\(.*?^}$", SOURCE, re.DOTALL | re.MULTILINE)
    given = f"const steps = {json.dumps(steps)}, image = {{ data: {clear}, width: 95, height: 60 }};"
    program = "\n".join([given, *functions, "console.log(JSON.stringify(Array.from(cropped(image))));"])
    answer = subprocess.run(["node", "-"], input=program, capture_output=True, text=True, check=True, timeout=60).stdout
    expected = central_crops([image], steps["size"], resizing)[0].numpy()
    np.testing.assert_allclose(np.reshape(json.loads(answer), expected.shape), expected, atol=2e-6)


SOURCE = (BESIDE / "page.js").read_text(encoding="utf-8")
