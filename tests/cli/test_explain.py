"""``lowshot explain``, run as a user runs it."""

import json

import numpy as np
import pytest
from PIL import Image

from coloured import pictures
from lowshot import FewShotClassifier
from lowshot.serving.examples import write_examples
from refusing import assert_states


@pytest.fixture
def photos(tmp_path):
    """Two classes of three images each, in folders."""
    for name, colour in (("hats", "red"), ("shoes", "green")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number, picture in enumerate(pictures(colour, 3)):
            Image.fromarray(picture).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


@pytest.fixture
def adapter(tiny_clip, photos, tmp_path):
    classifier = FewShotClassifier(str(tiny_clip), method="gda", shots=2).fit(photos)
    classifier.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_a_picture_and_where_it_looked(run, adapter, photos, tmp_path):
    image, picture = photos / "hats" / "0.png", tmp_path / "new" / "why.png"
    status, out, _ = run("explain", adapter, image, "--out", picture, "--data", photos)
    assert status == 0
    lines = out.splitlines()
    assert lines[0].startswith(f"{image}  hats ")
    assert "places of the image" in lines[1]
    near = [line for line in lines if line.startswith("near, cosine")]
    assert len(near) == 4  # as many as were learnt from
    cosines = [float(line.removeprefix("near, cosine ").partition(":")[0]) for line in near]
    assert cosines == sorted(cosines, reverse=True)
    assert lines[-1] == f"picture: {picture}"
    with Image.open(picture) as drawn:
        assert drawn.format == "PNG"


def test_json_and_the_images_that_an_adapter_of_the_page_has(run, adapter, photos, tmp_path):
    files = [photos / "hats" / "0.png", photos / "shoes" / "0.png"]
    write_examples(adapter, files, ["hats", "shoes"])
    status, out, _ = run(
        *("explain", adapter, files[1], "--label", "hats", "--json", "--out", tmp_path / "why.png"),
    )
    assert status == 0
    answer = json.loads(out)
    assert answer["label"] == "hats"
    assert answer["probability"] < 0.5
    assert np.asarray(answer["relevance"]).shape == (2, 2)
    assert answer["nearest"][0]["label"] == "shoes"
    assert answer["nearest"][0]["cosine"] == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["no.png"], ["image no.png", "does not exist"]),
        (["IMAGE", "--out", "why.jpg"], ["out is why.jpg", ".png"]),
        (["IMAGE", "--label", "gloves"], ["label 'gloves'", "2 classes"]),
        (["IMAGE", "--data", "nowhere"], ["nowhere"]),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_written(run, adapter, photos, monkeypatch, tmp_path, arguments, facts):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    image = str(photos / "hats" / "0.png")
    status, _, err = run("explain", adapter, *(image if each == "IMAGE" else each for each in arguments))
    assert status != 0
    assert_states(err, *facts)
    assert "Traceback" not in err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_picture_that_is_there_is_left(run, adapter, photos, tmp_path):
    (tmp_path / "why.png").write_text("mine")
    status, _, err = run("explain", adapter, photos / "hats" / "0.png", "--out", tmp_path / "why.png")
    assert (status, (tmp_path / "why.png").read_text()) == (2, "mine")
    assert "already exists" in err
