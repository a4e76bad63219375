"""Predictions, embeddings and explanations over HTTP, and images that cannot be used."""

import base64
import io
import json
import re
import socket
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from lowshot import FewShotClassifier
from lowshot.serving import schema
from refusing import assert_states

from ..conftest import CLASSES, pictures
from ..running import embed, error_of, files, png, predict
from .conftest import IMAGES


@pytest.mark.parametrize("name", ["xs4", "lora4", "zero", "calibrated"])
def test_answers_are_those_of_the_classifier(client, folder, alone, name):
    response = predict(client, *map(png, IMAGES), name=name, top=10)
    answer = schema.PredictAnswer.model_validate(response.json())
    expected = alone(folder / name, IMAGES)
    classes = FewShotClassifier.from_pretrained(folder / name).classes_
    for body, row in zip(answer.predictions, expected, strict=True):
        chances = {chance.name: chance.probability for chance in body.classes}
        # Class embeddings are in half precision; of an image file the same pixels are decoded.
        assert chances == pytest.approx(dict(zip(classes, row, strict=True)), abs=5e-3)
        assert [chance.probability for chance in body.classes] == sorted(chances.values(), reverse=True)


def test_base64_in_json_gives_the_same_as_files(client):
    contents = [png(image) for image in IMAGES]
    body = {"images": [base64.b64encode(content).decode() for content in contents]}
    as_json = client.post("/v1/adapters/xs4/predict", json=body)
    assert as_json.status_code == 200
    assert as_json.json()["predictions"] == predict(client, *contents).json()["predictions"]


@pytest.mark.parametrize("name", ["xs4", "lora4", "zero"])
def test_embeddings_are_those_that_the_classifier_gives(client, folder, name):
    answer = embed(client, *map(png, IMAGES), name=name)
    body = schema.EmbedAnswer.model_validate(answer.json())
    expected = FewShotClassifier.from_pretrained(folder / name).transform(IMAGES)
    assert body.adapter == name
    assert np.allclose([each.embedding for each in body.embeddings], expected, atol=1e-5)
    assert json.loads(answer.text)["embeddings"][0].keys() == {"embedding"}


def test_an_image_that_cannot_be_embedded_fails_alone_and_all_of_them_together(client):
    body = embed(client, png(IMAGES[0]), b"no image").json()["embeddings"]
    assert "embedding" in body[0] and body[1]["error"]["code"] == "unusable_image"
    assert "images[0]" in error_of(embed(client, b"no image"), 422, "unusable_image")
    assert len(embed(client, b"no image").json()["embeddings"]) == 1
    error_of(embed(client, png(IMAGES[0]), name="nobody"), 404, "unknown_name")
    error_of(embed(client, *[png(IMAGES[0])] * 9), 413, "too_large")
    error_of(client.post("/v1/adapters/xs4/embed", content=b"{"), 415, "unknown_type")


def explain(client, *contents, name="xs4", **query):
    return client.post(f"/v1/adapters/{name}/explain", files=files(*contents), params=query)


@pytest.mark.parametrize("name", ["xs4", "lora4", "zero"])
@pytest.mark.parametrize("class_name", [None, "cow"])
def test_explanations_are_those_that_the_classifier_gives(client, folder, name, class_name):
    query = {} if class_name is None else {"class": class_name}
    body = schema.ExplainAnswer.model_validate(explain(client, *map(png, IMAGES[:2]), name=name, **query).json())
    classifier = FewShotClassifier.from_pretrained(folder / name)
    for image, answer in zip(IMAGES, body.explanations, strict=False):
        expected = classifier.explain(image, class_name)
        assert answer.name == expected.class_name
        assert answer.probability == pytest.approx(expected.probability, abs=5e-3)
        assert np.allclose(answer.relevance, expected.relevance, atol=5e-3)  # class embeddings are in half precision
        with Image.open(io.BytesIO(base64.b64decode(answer.picture))) as picture:
            assert (picture.format, picture.size) == ("PNG", (320, 320))


def test_what_cannot_be_explained_is_said_and_predictions_are_what_they_were(client):
    before = predict(client, png(IMAGES[0])).json()["predictions"]
    assert "pig" in error_of(explain(client, png(IMAGES[0]), **{"class": "pig"}), 404, "unknown_name")
    assert "images[0]" in error_of(explain(client, b"no image"), 422, "unusable_image")
    body = explain(client, png(IMAGES[0]), b"no image").json()["explanations"]
    assert body[0]["name"] == before[0]["classes"][0]["name"] and body[1]["error"]["code"] == "unusable_image"
    assert predict(client, png(IMAGES[0])).json()["predictions"] == before


def test_top_says_how_many_classes(client):
    [body] = predict(client, png(IMAGES[0]), top=2).json()["predictions"]
    assert len(body["classes"]) == 2


def test_what_the_backbone_says_by_itself_is_that_of_a_zero_shot_adapter(client):
    body = predict(client, *map(png, IMAGES), zero_shot=True, top=3).json()["predictions"]
    plain = predict(client, *map(png, IMAGES), name="zero", top=3).json()["predictions"]
    for with_adapter, without in zip(body, plain, strict=True):
        zero_shot = {chance["name"]: chance["probability"] for chance in with_adapter["zero_shot"]}
        expected = {chance["name"]: chance["probability"] for chance in without["classes"]}
        assert zero_shot == pytest.approx(expected, abs=5e-3)
        assert with_adapter["zero_shot"] != with_adapter["classes"]


def test_the_nearest_picture_of_one_that_was_learnt_from_is_itself(client):
    body = predict(client, *map(png, pictures(3)), neighbours=2).json()["predictions"]
    for number, answer in enumerate(body):
        first, second = answer["neighbours"]
        assert first["id"] == str(number) and first["class"] == CLASSES[number]
        assert first["similarity"] == pytest.approx(1, abs=1e-3) and second["similarity"] < first["similarity"]
        picture = client.get(first["url"])
        assert picture.status_code == 200 and picture.headers["content-type"] == "image/png"


def test_an_adapter_without_pictures_has_no_neighbours(client):
    [body] = predict(client, png(IMAGES[0]), name="lora4", neighbours=2).json()["predictions"]
    assert "neighbours" not in body


def test_requests_for_different_adapters_share_batches(server, folder):
    with server.service._batcher.reserved(1), ThreadPoolExecutor(6) as pool:  # somebody is always on the way
        names = ["xs4", "lora4", "zero"] * 6
        body = list(pool.map(lambda name: predict(server.client, png(IMAGES[0]), name=name).json(), names))
    of_each = {name: predict(server.client, png(IMAGES[0]), name=name).json()["predictions"] for name in set(names)}
    for name, answer in zip(names, body, strict=True):
        for chance, alone in zip(answer["predictions"][0]["classes"], of_each[name][0]["classes"], strict=True):
            assert chance["name"] == alone["name"]
            assert chance["probability"] == pytest.approx(alone["probability"], abs=1e-5)
    text = server.client.get("/metrics").text
    several = int(re.search(r"lowshot_batch_images_count (\d+)", text)[1])
    alone = int(re.search(r'lowshot_batch_images_bucket{le="1"} (\d+)', text)[1])
    assert several > alone


def bomb(width, height):
    """A PNG whose header promises so many pixels."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


BAD = {
    "empty": (b"", ["not an image"]),
    "a text": (b"hello", ["not an image"]),
    "cut off": (png(IMAGES[0])[:100], ["cannot be decoded"]),
    "too many pixels": (bomb(20_000, 20_000), ["400000000 pixels"]),
    "too narrow": (png(np.zeros((1, 4000, 3))), ["4000 x 1", "1:50"]),
    "too many bytes": (bytes(20_001), ["20,001 bytes", "at most 20,000"]),
}


@pytest.mark.parametrize("content, facts", BAD.values(), ids=BAD)
def test_a_bad_image_fails_alone(client, content, facts):
    response = predict(client, png(IMAGES[0]), content, png(IMAGES[1]))
    assert response.status_code == 200
    first, bad, last = response.json()["predictions"]
    assert_states(bad["error"]["message"], "images[1]", *facts)
    assert "classes" not in bad
    assert [first, last] == predict(client, png(IMAGES[0]), png(IMAGES[1])).json()["predictions"]


def test_nothing_but_bad_images_is_an_error_and_each_is_named(client):
    response = predict(client, b"hello", png(IMAGES[0])[:100])
    assert "images[0] is not an image" in error_of(response, 422, "unusable_image")
    assert "images[1] cannot be decoded" in response.json()["predictions"][1]["error"]["message"]


def test_no_address_is_followed(client):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.3)
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/a.png"
        response = client.post("/v1/adapters/xs4/predict", json={"images": [address]})
        assert "follows none" in error_of(response, 422, "unusable_image")
        with pytest.raises(TimeoutError):
            listening.accept()
