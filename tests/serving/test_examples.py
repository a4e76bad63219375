"""Pictures of what an adapter was taught with: kept small, read back strictly."""

import json

import numpy as np
import pytest

from lowshot.data import decode_image
from lowshot.errors import DataError
from lowshot.serving.examples import read_examples, write_examples

from .conftest import CLASSES, pictures


def test_small_pictures_are_kept_to_the_last_bit_and_large_ones_made_smaller(tmp_path):
    small, large = pictures(1)[0], pictures(1, size=(600, 900))[0]
    write_examples(tmp_path, [small, large], ["cat", "dog"])
    first, second = read_examples(tmp_path)
    assert (first.id, first.class_name, first.media_type) == ("0", "cat", "image/png")
    assert (second.id, second.class_name, second.media_type) == ("1", "dog", "image/jpeg")
    assert np.array_equal(decode_image(first.path), small)
    assert decode_image(second.path).shape == (256, 384, 3)


def test_an_image_that_cannot_be_read_leaves_no_pictures(tmp_path):
    with pytest.raises(DataError):
        write_examples(tmp_path, [pictures(1)[0], tmp_path / "nothing.png"], ["cat", "dog"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "index",
    [
        None,
        "{",
        "[]",
        '{"examples": 1}',
        '{"examples": [1]}',
        '{"examples": [{"file": "../lowshot.json", "class": "cat"}]}',
        '{"examples": [{"file": "/etc/passwd", "class": "cat"}]}',
        '{"examples": [{"file": "0.svg", "class": "cat"}]}',
        '{"examples": [{"class": "cat"}]}',
    ],
)
def test_an_index_that_is_not_ours_is_no_pictures(tmp_path, index):
    write_examples(tmp_path, list(pictures(3)), CLASSES)
    path = tmp_path / "examples" / "examples.json"
    path.unlink() if index is None else path.write_text(index, encoding="utf-8")
    assert read_examples(tmp_path) == []


def test_links_are_not_followed(tmp_path):
    write_examples(tmp_path / "a", list(pictures(3)), CLASSES)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "examples").symlink_to(tmp_path / "a" / "examples")
    assert len(read_examples(tmp_path / "a")) == 3 and read_examples(tmp_path / "b") == []
    secret = tmp_path / "secret"
    secret.write_text(json.dumps("secret"), encoding="utf-8")
    (tmp_path / "a" / "examples" / "0.png").unlink()
    (tmp_path / "a" / "examples" / "0.png").symlink_to(secret)
    assert read_examples(tmp_path / "a") == []
