"""A server in this process, over real connections."""

import shutil

import pytest

from lowshot.serving.examples import write_examples

from ..conftest import CLASSES, pictures
from ..running import running

TOKEN = "a-word-that-nobody-guesses"


IMAGES = pictures(4, seed=7)


@pytest.fixture(scope="module")
def folder(kinds, tmp_path_factory):
    """Some adapters, one of them with pictures, and one that is damaged."""
    served = tmp_path_factory.mktemp("served")
    for name in ("xs4", "lora4", "zero", "calibrated"):
        shutil.copytree(kinds / name, served / name)
    write_examples(served / "xs4", list(pictures(3)), CLASSES)
    shutil.copytree(kinds / "xs16", served / "damaged")
    (served / "damaged" / "lowshot.json").write_text("{", encoding="utf-8")
    return served


@pytest.fixture(scope="module")
def server(folder):
    with running(folder, image_bytes=20_000, images_per_request=8, request_bytes=120_000) as served:
        yield served


@pytest.fixture
def client(server):
    return server.client
