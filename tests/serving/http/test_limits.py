"""Requests beyond the limits, and many at once."""

import base64
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

from lowshot.serving.refusals import Busy

from ..conftest import pictures
from ..running import PATIENCE, error_of, png, predict, running, until
from .conftest import IMAGES


def test_too_many_images_are_refused(client):
    error_of(predict(client, *[png(IMAGES[0])] * 9), 413, "too_large")
    error_of(client.post("/v1/adapters/xs4/predict", json={"images": ["aa"] * 9}), 413, "too_large")


def test_a_body_that_says_that_it_is_too_large_is_refused_before_it_comes(server):
    head = b"POST /v1/adapters/xs4/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999999\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        connection.sendall(head)
        head = connection.recv(65536)
    assert head.startswith(b"HTTP/1.1 413") and b"connection: close" in head.lower()


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
        self.go, self.started, self.rows = threading.Event(), threading.Event(), []
        answers = server.service.bank.answers_to_crops

        def wait(crops, names):
            self.rows += names
            self.started.set()
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
        assert not model.started.is_set()


def test_the_bytes_of_all_requests_together_are_bounded(folder, monkeypatch):
    content = png(pictures(1, size=(90, 90))[0])
    with running(folder, teach=False, bytes_in_flight=len(content) + 2000) as server, ThreadPoolExecutor(1) as pool:
        model = Gated(server, monkeypatch)
        first = pool.submit(predict, server.client, content)
        assert model.started.wait(PATIENCE)
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
        assert model.started.wait(PATIENCE)
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
