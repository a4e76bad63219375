"""The HTTP interface, over real connections to a server in this process."""

import base64
import contextlib
import io
import json
import re
import shutil
import socket
import struct
import threading
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor

import httpx2
import numpy as np
import pytest
from PIL import Image

from lowshot import FewShotClassifier
from lowshot.serving import entries, schema
from lowshot.serving.examples import write_examples
from lowshot.serving.refusals import Busy
from refusing import refused

from .conftest import CLASSES, pictures, taught
from .running import PATIENCE, files, png, running, until

TOKEN = "a-word-that-nobody-guesses"
IMAGES = pictures(4, seed=7)


@pytest.fixture(scope="module")
def folder(kinds, tmp_path_factory):
    """Some adapters, one of them with pictures, and one that is damaged."""
    made = tmp_path_factory.mktemp("served")
    for name in ("xs4", "lora4", "zero", "calibrated"):
        shutil.copytree(kinds / name, made / name)
    write_examples(made / "xs4", list(pictures(3)), CLASSES)
    shutil.copytree(kinds / "xs16", made / "damaged")
    (made / "damaged" / "lowshot.json").write_text("{", encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def server(folder):
    with running(folder, image_bytes=20_000, images_per_request=8, request_bytes=120_000) as made:
        yield made


@pytest.fixture
def client(server):
    return server.client


def predict(client, *contents, name="xs4", **query):
    return client.post(f"/v1/adapters/{name}/predict", files=files(*contents), params=query)


def embed(client, *contents, name="xs4"):
    return client.post(f"/v1/adapters/{name}/embed", files=files(*contents))


def error_of(response, status, code):
    """The error of an answer, which has the one form that all have."""
    assert response.status_code == status, response.text
    problem = schema.ErrorAnswer.model_validate(response.json()).error
    assert problem.code == code, problem
    return problem.message


# -- predicting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["xs4", "lora4", "zero", "calibrated"])
def test_answers_are_those_of_the_classifier(client, folder, alone, name):
    response = predict(client, *map(png, IMAGES), name=name, top=10)
    answer = schema.PredictAnswer.model_validate(response.json())
    expected = alone(folder / name, IMAGES)
    classes = FewShotClassifier.from_pretrained(folder / name).classes_
    for said, row in zip(answer.predictions, expected, strict=True):
        chances = {chance.name: chance.probability for chance in said.classes}
        # Class embeddings are in half precision; of an image file the same pixels are decoded.
        assert chances == pytest.approx(dict(zip(classes, row, strict=True)), abs=5e-3)
        assert [chance.probability for chance in said.classes] == sorted(chances.values(), reverse=True)


def test_base64_in_json_gives_the_same_as_files(client):
    contents = [png(image) for image in IMAGES]
    body = {"images": [base64.b64encode(content).decode() for content in contents]}
    as_json = client.post("/v1/adapters/xs4/predict", json=body)
    assert as_json.status_code == 200
    assert as_json.json()["predictions"] == predict(client, *contents).json()["predictions"]


@pytest.mark.parametrize("name", ["xs4", "lora4", "zero"])
def test_embeddings_are_those_that_the_classifier_gives(client, folder, name):
    answer = embed(client, *map(png, IMAGES), name=name)
    said = schema.EmbedAnswer.model_validate(answer.json())
    expected = FewShotClassifier.from_pretrained(folder / name).transform(IMAGES)
    assert said.adapter == name
    assert np.allclose([each.embedding for each in said.embeddings], expected, atol=1e-5)
    assert json.loads(answer.text)["embeddings"][0].keys() == {"embedding"}


def test_an_image_that_cannot_be_embedded_fails_alone_and_all_of_them_together(client):
    said = embed(client, png(IMAGES[0]), b"no image").json()["embeddings"]
    assert "embedding" in said[0] and said[1]["error"]["code"] == "unusable_image"
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
    said = schema.ExplainAnswer.model_validate(explain(client, *map(png, IMAGES[:2]), name=name, **query).json())
    classifier = FewShotClassifier.from_pretrained(folder / name)
    for image, answer in zip(IMAGES, said.explanations, strict=False):
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
    said = explain(client, png(IMAGES[0]), b"no image").json()["explanations"]
    assert said[0]["name"] == before[0]["classes"][0]["name"] and said[1]["error"]["code"] == "unusable_image"
    assert predict(client, png(IMAGES[0])).json()["predictions"] == before


def test_top_says_how_many_classes(client):
    [said] = predict(client, png(IMAGES[0]), top=2).json()["predictions"]
    assert len(said["classes"]) == 2


def test_what_the_backbone_says_by_itself_is_that_of_a_zero_shot_adapter(client):
    said = predict(client, *map(png, IMAGES), zero_shot=True, top=3).json()["predictions"]
    plain = predict(client, *map(png, IMAGES), name="zero", top=3).json()["predictions"]
    for with_adapter, without in zip(said, plain, strict=True):
        zero_shot = {chance["name"]: chance["probability"] for chance in with_adapter["zero_shot"]}
        expected = {chance["name"]: chance["probability"] for chance in without["classes"]}
        assert zero_shot == pytest.approx(expected, abs=5e-3)
        assert with_adapter["zero_shot"] != with_adapter["classes"]


def test_the_nearest_picture_of_one_that_was_learnt_from_is_itself(client):
    said = predict(client, *map(png, pictures(3)), neighbours=2).json()["predictions"]
    for number, answer in enumerate(said):
        first, second = answer["neighbours"]
        assert first["id"] == str(number) and first["class"] == CLASSES[number]
        assert first["similarity"] == pytest.approx(1, abs=1e-3) and second["similarity"] < first["similarity"]
        picture = client.get(first["url"])
        assert picture.status_code == 200 and picture.headers["content-type"] == "image/png"


def test_an_adapter_without_pictures_has_no_neighbours(client):
    [said] = predict(client, png(IMAGES[0]), name="lora4", neighbours=2).json()["predictions"]
    assert "neighbours" not in said


def test_requests_for_different_adapters_share_batches(server, folder):
    with server.service._batcher.reserved(1), ThreadPoolExecutor(6) as pool:  # somebody is always on the way
        names = ["xs4", "lora4", "zero"] * 6
        said = list(pool.map(lambda name: predict(server.client, png(IMAGES[0]), name=name).json(), names))
    of_each = {name: predict(server.client, png(IMAGES[0]), name=name).json()["predictions"] for name in set(names)}
    for name, answer in zip(names, said, strict=True):
        for chance, alone in zip(answer["predictions"][0]["classes"], of_each[name][0]["classes"], strict=True):
            assert chance["name"] == alone["name"]
            assert chance["probability"] == pytest.approx(alone["probability"], abs=1e-5)
    text = server.client.get("/metrics").text
    several = int(re.search(r"lowshot_batch_images_count (\d+)", text)[1])
    alone = int(re.search(r'lowshot_batch_images_bucket{le="1"} (\d+)', text)[1])
    assert several > alone


# -- images that cannot be used ----------------------------------------------------------------------------------------


def bomb(width, height):
    """A PNG whose header promises so many pixels."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


BAD = {
    "empty": (b"", "not an image"),
    "a text": (b"hello", "not an image"),
    "cut off": (png(IMAGES[0])[:100], "cannot be decoded"),
    "too many pixels": (bomb(20_000, 20_000), "Image size (400000000 pixels) exceeds limit"),
    "too narrow": (png(np.zeros((1, 4000, 3))), "4000 x 1 pixels"),
    "too many bytes": (bytes(20_001), "20,001 bytes; expected at most 20,000"),
}


@pytest.mark.parametrize("content, said", BAD.values(), ids=BAD)
def test_a_bad_image_fails_alone(client, content, said):
    response = predict(client, png(IMAGES[0]), content, png(IMAGES[1]))
    assert response.status_code == 200
    first, bad, last = response.json()["predictions"]
    assert said in bad["error"]["message"] and "classes" not in bad
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


# -- what is too much --------------------------------------------------------------------------------------------------


def test_too_many_images_are_refused(client):
    error_of(predict(client, *[png(IMAGES[0])] * 9), 413, "too_large")
    error_of(client.post("/v1/adapters/xs4/predict", json={"images": ["aa"] * 9}), 413, "too_large")


def test_a_body_that_says_that_it_is_too_large_is_refused_before_it_comes(server):
    head = b"POST /v1/adapters/xs4/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999999\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        connection.sendall(head)
        said = connection.recv(65536)
    assert said.startswith(b"HTTP/1.1 413") and b"connection: close" in said.lower()


def test_a_body_that_turns_out_too_large_is_refused_while_it_comes(client):
    def parts():
        for _ in range(20):
            yield b"x" * 10_000

    headers = {"Content-Type": "application/json"}
    response = client.post("/v1/adapters/xs4/predict", content=parts(), headers=headers)
    assert "at most 120,000 bytes" in error_of(response, 413, "too_large")


def test_a_body_that_does_not_come_is_not_waited_for(folder):
    with running(folder, teach=False, upload_seconds=0.2) as server:
        head = b"POST /v1/adapters/xs4/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n"
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
            connection.sendall(head + b"Content-Type: application/json\r\n\r\n{")
            assert connection.recv(65536).startswith(b"HTTP/1.1 408")


class Gated:
    """Lets the model of a server go on when it is told to."""

    def __init__(self, server, monkeypatch):
        self.go, self.begun, self.rows = threading.Event(), threading.Event(), []
        answers = server.service.bank.answers_to_crops

        def wait(crops, names):
            self.rows += names
            self.begun.set()
            assert self.go.wait(PATIENCE)
            return answers(crops, names)

        monkeypatch.setattr(server.service.bank, "answers_to_crops", wait)


def test_a_full_queue_says_when_to_come_back_and_loses_nothing(folder, monkeypatch):
    with running(folder, teach=False, images_waiting=3) as server, ThreadPoolExecutor(3) as pool:
        model = Gated(server, monkeypatch)
        asked = [pool.submit(predict, server.client, png(IMAGES[row])) for row in range(3)]
        until(lambda: server.service._batcher.waiting == 3)
        refused = predict(server.client, png(IMAGES[0]))
        assert "3 images wait already" in error_of(refused, 429, "busy")
        assert int(refused.headers["Retry-After"]) >= 1
        model.go.set()
        assert [each.result(PATIENCE).status_code for each in asked] == [200, 200, 200]
        assert predict(server.client, png(IMAGES[0])).status_code == 200


def test_no_answer_is_lost_where_there_is_no_room_for_an_adapters_own_pictures(folder, monkeypatch):
    with running(folder, teach=False) as server:
        model = Gated(server, monkeypatch)

        async def full(name, contents):
            raise Busy("the images that are being decoded have too many pixels together")

        monkeypatch.setattr(server.service._neighbours, "_embed", full)
        error_of(predict(server.client, png(IMAGES[0]), neighbours=2), 429, "busy")
        assert not model.begun.is_set()


def test_the_bytes_of_all_requests_together_are_bounded(folder, monkeypatch):
    content = png(pictures(1, size=(90, 90))[0])
    with running(folder, teach=False, bytes_in_flight=len(content) + 2000) as server, ThreadPoolExecutor(1) as pool:
        model = Gated(server, monkeypatch)
        first = pool.submit(predict, server.client, content)
        assert model.begun.wait(PATIENCE)
        error_of(predict(server.client, content), 429, "busy")
        model.go.set()
        assert first.result(PATIENCE).status_code == 200
        assert predict(server.client, content).status_code == 200


def test_the_pixels_of_a_request_are_bounded_whatever_its_bytes(folder):
    small = pictures(1, size=(20, 24))[0]
    with running(folder, teach=False, request_pixels=1000, decoded_bytes=6000) as server:
        refused = predict(server.client, *[png(small)] * 3)
        assert error_of(refused, 413, "too_large").startswith("the images have 1,440 pixels together")
        answer = predict(server.client, png(small), png(pictures(1, size=(60, 60))[0])).json()["predictions"]
        assert "classes" in answer[0]
        assert answer[1]["error"]["code"] == "too_large"
        assert answer[1]["error"]["message"].startswith("images[1] takes 25,200 bytes decoded")


def test_the_work_of_a_client_that_hangs_up_is_dropped(folder, monkeypatch):
    with running(folder, teach=False) as server, ThreadPoolExecutor(1) as pool:
        model = Gated(server, monkeypatch)
        first = pool.submit(predict, server.client, png(IMAGES[0]))
        assert model.begun.wait(PATIENCE)
        body = json.dumps({"images": [base64.b64encode(png(IMAGES[1])).decode()]}).encode()
        head = f"POST /v1/adapters/lora4/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
            connection.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
            until(lambda: server.service._batcher.waiting == 2)
        until(lambda: server.service._batcher.waiting == 1)
        model.go.set()
        assert first.result(PATIENCE).status_code == 200
        assert predict(server.client, png(IMAGES[0]), name="zero").status_code == 200
        assert model.rows == ["xs4", "zero"]
        until(lambda: 'status="499"' in server.client.get("/metrics").text)


# -- who may ask -------------------------------------------------------------------------------------------------------


def test_without_the_token_there_is_the_page_and_nothing_else(folder):
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running(folder, teach=False, token=TOKEN))
        bare = stack.enter_context(httpx2.Client(base_url=server.client.base_url, trust_env=False))
        for path in ("/", "/static/main.js", "/healthz", "/readyz", "/v1/server"):
            assert bare.get(path).status_code == 200, path
        assert bare.get("/v1/server").json()["token_required"] is True
        for path in ("/v1/adapters", "/v1/adapters/xs4", "/v1/adapters/xs4/examples/0", "/metrics", "/v1/jobs", "/x"):
            refused = bare.get(path)
            error_of(refused, 401, "token")
            assert refused.headers["WWW-Authenticate"] == "Bearer"
        error_of(predict(bare, png(IMAGES[0])), 401, "token")
        for given in (f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", TOKEN, f"Basic {TOKEN}", "Bearer", "Bearer \xff"):
            error_of(bare.get("/v1/adapters", headers={b"Authorization": given.encode("latin-1")}), 401, "token")
        assert server.client.get("/v1/adapters").status_code == 200
        assert predict(server.client, png(IMAGES[0])).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::", "a b"])
def test_a_page_that_had_its_own_name_point_here_is_told_by_it(client, host):
    error_of(client.get("/v1/adapters", headers={"Host": host}), 400, "unknown_host")


@pytest.mark.parametrize("host", ["localhost", "localhost:9000", "127.0.0.1:1", "[::1]:8000"])
def test_this_machine_has_several_names(client, host):
    assert client.get("/v1/adapters", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Origin": "http://[::"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
    ids=str,
)
def test_a_page_from_elsewhere_changes_nothing(client, headers):
    path = "/v1/adapters/xs4/predict"
    error_of(client.post(path, files=files(png(IMAGES[0])), headers=headers), 403, "other_site")
    error_of(client.delete("/v1/adapters/xs4", headers=headers), 403, "other_site")
    assert client.get("/v1/adapters/xs4").status_code == 200


def test_the_servers_own_page_may_ask_and_no_other_is_told_that_it_may(client):
    origin = str(client.base_url).rstrip("/")
    response = client.post("/v1/adapters/xs4/predict", files=files(png(IMAGES[0])), headers={"Origin": origin})
    assert response.status_code == 200
    assert not [name for name in response.headers if name.startswith("access-control")]


def test_what_is_public_may_be_asked_and_shown_by_other_sites_and_changed_by_nobody(folder):
    headers = {"Origin": "https://huggingface.co", "Sec-Fetch-Site": "cross-site"}
    with running(folder, teach=False, public=True) as server:
        page = server.client.get("/")
        assert "frame-ancestors" not in page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert "X-Frame-Options" not in page.headers
        path = "/v1/adapters/xs4/predict"
        assert server.client.post(path, files=files(png(IMAGES[0])), headers=headers).status_code == 200
        error_of(server.client.delete("/v1/adapters/xs4", headers=headers), 403, "read_only")
        error_of(server.client.post("/v1/adapters", data={"name": "a"}, headers=headers), 403, "read_only")
        error_of(server.client.delete("/v1/jobs/1", headers=headers), 403, "read_only")


@pytest.mark.parametrize("how", [{"teach": True}, {"teach": False, "token": TOKEN}], ids=str)
def test_what_can_be_changed_or_has_a_token_is_never_public(folder, how):
    with refused(AssertionError, "public"), running(folder, public=True, **how):
        pass


# -- names, paths, forms -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["nobody", "..%2fxs4", "%2e%2e", "xs4%2f..%2fxs4", ".teaching", "%00", "a" * 300, "xs4%20", "~", "💥"]
)
def test_names_lead_nowhere_else(client, name):
    for path in ("", "/predict", "/download", "/examples/0", "/examples/..%2f..%2flowshot.json"):
        address = f"/v1/adapters/{name}{path}"
        response = client.post(address, files=files(png(IMAGES[0]))) if path == "/predict" else client.get(address)
        assert response.status_code == 404, (address, response.text)
        schema.ErrorAnswer.model_validate(response.json())
    assert client.delete(f"/v1/adapters/{name}").status_code in (404, 405)


@pytest.mark.parametrize("number", ["9", "-1", "00", "0.png", "examples.json", "%2e%2e%2flowshot.json"])
def test_pictures_are_those_of_the_list(client, number):
    assert client.get(f"/v1/adapters/xs4/examples/{number}").status_code == 404


def test_an_adapter_that_is_refused_says_why(client):
    assert "damaged" in error_of(predict(client, png(IMAGES[0]), name="damaged"), 409, "adapter_refused")


@pytest.mark.parametrize(
    "how, status, code",
    [
        ({"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415, "unknown_type"),
        ({"content": b"x"}, 415, "unknown_type"),
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 400, "damaged_body"),
        ({"content": b"[" * 50_000, "headers": {"Content-Type": "application/json"}}, 400, "damaged_body"),
        ({"content": b"\xff\xfe", "headers": {"Content-Type": "application/json"}}, 400, "damaged_body"),
        ({"json": {"images": []}}, 400, "no_images"),
        ({"json": {"images": ["aa"], "more": 1}}, 400, "no_images"),
        ({"json": {"images": [1]}}, 400, "damaged_body"),
        ({"json": {"images": ["not base64!"]}}, 422, "unusable_image"),
        ({"content": b"--x", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}, 400, "no_images"),
        (
            {"content": b"--y\r\n\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
            400,
            "damaged_body",
        ),
        ({"content": b"--x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "damaged_body"),
        ({"files": [("image", ("a.png", b"x"))]}, 400, "unknown_field"),
        ({"data": {"images": "a text"}, "files": [("images", ("a.png", b"x"))]}, 413, "too_large"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_bodies_of_other_forms_are_refused(client, how, status, code):
    error_of(client.post("/v1/adapters/xs4/predict", **how), status, code)


@pytest.mark.parametrize("query", [{"top": 0}, {"top": "many"}, {"zero_shot": "perhaps"}, {"neighbours": -1}], ids=str)
def test_questions_out_of_range_are_refused(client, query):
    error_of(predict(client, png(IMAGES[0]), **query), 422, "unusable_setting")


def test_unknown_paths_and_methods_are_errors_of_the_same_form(client):
    error_of(client.get("/v1/nothing"), 404, "unknown_path")
    error_of(client.put("/v1/adapters"), 405, "unknown_method")
    error_of(client.get("/v1/jobs/none"), 404, "unknown_job")


def test_a_fault_of_the_servers_own_is_said_without_its_insides(folder, monkeypatch, capfd):
    with running(folder, teach=False) as server:
        monkeypatch.setattr(server.service, "adapter", lambda name: 1 / 0)
        said = error_of(server.client.get("/v1/adapters/xs4"), 500, "failed")
        assert "division" not in said and "Traceback" not in said
        assert server.client.get("/healthz").status_code == 200
    assert "ZeroDivisionError" in capfd.readouterr().err


# -- what there is -----------------------------------------------------------------------------------------------------


def test_the_list_has_every_adapter_and_why_others_are_not_served(client):
    answer = schema.AdaptersAnswer.model_validate(client.get("/v1/adapters").json())
    by_name = {line.name: line for line in answer.adapters}
    assert set(by_name) == {"xs4", "lora4", "zero", "calibrated"}
    assert (by_name["xs4"].method, by_name["xs4"].rank, by_name["xs4"].classes) == ("lora-xs", 4, 3)
    assert by_name["calibrated"].calibrated and not by_name["xs4"].calibrated
    held_out = schema.HeldOutFigure(right=1, images=1, best_of=1)
    assert by_name["calibrated"].held_out == held_out and by_name["xs4"].held_out is None
    [refused] = answer.refused
    assert refused.name == "damaged" and "lowshot.json" in refused.reason


def test_a_list_is_made_of_what_was_read_when_the_server_began(folder, monkeypatch):
    with running(folder, teach=False) as server:
        alone = [server.client.get(f"/v1/adapters/{name}").json() for name in ("calibrated", "lora4", "xs4", "zero")]

        def read_again(path):
            raise AssertionError(f"{path} was read again")

        monkeypatch.setattr(entries, "read_record_and_recipe", read_again)
        lines = server.client.get("/v1/adapters").json()["adapters"]
    assert lines == [{key: told[key] for key in lines[0]} for told in alone]


def test_a_list_has_what_was_added_replaced_and_removed(kinds, copied):
    folder = copied("xs4", "zero")
    with running(folder, teach=False) as server:
        shutil.rmtree(folder / "zero")
        shutil.rmtree(folder / "xs4")
        shutil.copytree(kinds / "lora2", folder / "xs4")
        shutil.copytree(kinds / "calibrated", folder / "new")
        lines = server.client.get("/v1/adapters").json()["adapters"]
    found = [(line["name"], line["method"], line["rank"], line["classes"]) for line in lines]
    assert found == [("new", "lora-xs", 4, 2), ("xs4", "lora", 2, 3)]


def test_an_adapter_tells_its_classes_and_pictures(client):
    answer = schema.AdapterAnswer.model_validate(client.get("/v1/adapters/xs4").json())
    assert answer.class_names == list(CLASSES)
    assert [(picture.id, picture.class_) for picture in answer.examples] == list(zip("012", CLASSES, strict=True))


def test_a_download_is_the_adapter_without_its_pictures(client, folder, tmp_path, alone):
    response = client.get("/v1/adapters/xs4/download")
    assert response.headers["content-type"] == "application/zip"
    assert 'filename="xs4.zip"' in response.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        archive.extractall(tmp_path)
    assert not (tmp_path / "xs4" / "examples").exists()
    again = FewShotClassifier.from_pretrained(tmp_path / "xs4").predict_proba(list(IMAGES[:1]))
    assert np.array_equal(again, alone(folder / "xs4", IMAGES[:1]))


def test_the_server_says_what_it_takes(client):
    answer = schema.ServerAnswer.model_validate(client.get("/v1/server").json())
    assert answer.limits["image_bytes"] == 20_000 and answer.teach and not answer.token_required
    assert answer.methods == ["lora-xs", "lora", "zero-shot", "auto"] and "rank" in answer.settings


def test_an_adapter_replaced_while_it_is_asked_is_the_old_one_or_the_new_one(tiny_clip, tmp_path):
    old, new = (taught(tiny_clip, "lora-xs", seed=seed) for seed in (1, 2))
    allowed = {}
    for name, classifier in (("old", old), ("new", new)):
        classifier.save_pretrained(tmp_path / name)
        allowed[name] = classifier.predict_proba(list(IMAGES[:1]))[0].max()
    bank = tmp_path / "bank"
    shutil.copytree(tmp_path / "old", bank / "one")
    with running(bank, teach=False) as server, ThreadPoolExecutor(4) as pool:
        asked, stop = [], threading.Event()
        workers = [pool.submit(ask_until, stop, server.client, asked) for _ in range(4)]
        until(lambda: len(asked) > 4)
        for turn in range(10):
            made = tmp_path / f"turn{turn}"
            shutil.copytree(tmp_path / ("new" if turn % 2 == 0 else "old"), made)
            (bank / "one").rename(tmp_path / f"away{turn}")
            made.rename(bank / "one")
            count = len(asked)
            until(lambda count=count: len(asked) > count + 4)
        stop.set()
        for worker in workers:
            worker.result(PATIENCE)
    found = [response.json() for response in asked if response.status_code == 200]
    missing = [response for response in asked if response.status_code != 200]
    assert all(response.status_code == 404 for response in missing)  # between the two renames
    best = np.array([answer["predictions"][0]["classes"][0]["probability"] for answer in found])
    distances = np.abs(best[:, None] - np.array(list(allowed.values())))
    assert len(best) > 4 and (distances.min(1) < 5e-3).all() and len(set(distances.argmin(1))) == 2


def ask_until(stop, client, asked):
    while not stop.is_set():
        asked.append(predict(client, png(IMAGES[0]), name="one"))


# -- figures and the page ----------------------------------------------------------------------------------------------

LINE = re.compile(r'[a-z_]+(?:{[a-z]+="[^"]*"(?:,[a-z]+="[^"]*")*})? -?[0-9.e+]+')


def test_figures_have_labels_from_a_small_set_whatever_is_asked(client):
    for number in range(30):
        client.get(f"/made-up/{number}")
        client.get(f"/v1/adapters/made-up-{number}")
        client.request(f"MADE{number}", "/")
    text = client.get("/metrics").text
    assert all(line.startswith("#") or LINE.fullmatch(line) for line in text.splitlines()), text
    assert "made-up" not in text.lower() and "MADE" not in text
    assert 'route="/v1/adapters/{name}",status="404"' in text and 'method="other"' in text
    types = re.findall(r"# TYPE (\S+)", text)
    assert len(types) == len(set(types))


def test_the_page_may_load_nothing_from_elsewhere(client):
    page = client.get("/")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert page.headers["X-Content-Type-Options"] == "nosniff" and page.headers["X-Frame-Options"] == "DENY"
    assert client.get("/v1/adapters").headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["", "/", "../app.py", "%2e%2e/app.py", "..%2fapp.py", "nothing.js", "/etc/passwd"])
def test_static_files_are_those_of_the_page(client, path):
    assert client.get(f"/static/{path}").status_code == 404


def test_no_documentation_loads_scripts_from_elsewhere(client):
    page = client.get("/docs")
    assert page.status_code == 200 and not re.search(r'(src|href)="(?!static/|\./|openapi\.json)', page.text)
    assert client.get("/redoc").status_code == 404


def test_every_error_is_described_in_the_one_form_that_all_have(client):
    document = client.get("/openapi.json").json()
    answers = [
        answer for path in document["paths"].values() for how in path.values() for answer in how["responses"].items()
    ]
    forms = {str(answer.get("content")) for status, answer in answers if int(status) >= 400}
    assert len(forms) == 1 and "ErrorAnswer" in forms.pop()


def test_a_server_that_does_not_teach_changes_nothing(copied):
    folder = copied("xs4")
    with running(folder, teach=False) as server:
        assert server.client.get("/v1/server").json()["teach"] is False
        assert server.client.get("/v1/jobs").json() == {"jobs": []}
        error_of(server.client.delete("/v1/adapters/xs4"), 403, "read_only")
        error_of(server.client.post("/v1/adapters", data={"name": "a"}), 403, "read_only")
    assert (folder / "xs4").is_dir() and not (folder / ".teaching").exists()
