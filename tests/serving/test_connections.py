"""Connections whose requests do not come: they are ended, and keep nobody else out."""

import contextlib
import json
import shutil
import socket
import time

import pytest

from .conftest import pictures
from .running import PATIENCE, files, png, running, until

HEAD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
SECONDS = 0.5


@pytest.fixture(scope="module")
def server(kinds, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    shutil.copytree(kinds / "zero", folder / "zero")
    with running(folder, teach=False, head_seconds=SECONDS) as served:
        yield served


@pytest.fixture
def connect(server):
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(socket.create_connection(("127.0.0.1", server.port), PATIENCE))


def all_of(connection):
    """What comes until the server ends the connection."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def test_a_head_that_never_ends_is_refused_and_its_connection_ended(connect):
    connection = connect()
    connection.sendall(HEAD)
    head, _, body = all_of(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408") and b"connection: close" in head.lower()
    problem = json.loads(body)["error"]
    assert problem["code"] == "slow_head" and "has not come within 0.5 s" in problem["message"]


def test_a_connection_on_which_nothing_comes_is_ended_without_a_word(connect):
    assert all_of(connect()) == b""


def test_more_of_the_same_head_gives_it_no_more_time(connect):
    connection, began = connect(), time.monotonic()
    connection.sendall(HEAD)
    with contextlib.suppress(OSError):
        while time.monotonic() < began + 20 * SECONDS:
            connection.sendall(b"X-More: 1\r\n")
            time.sleep(SECONDS / 10)
    assert time.monotonic() < began + 10 * SECONDS


def test_a_second_request_has_the_same_time_as_the_first(connect):
    connection = connect()
    connection.sendall(HEAD + b"\r\n")
    answer = b""
    while not answer.endswith(b'{"status":"ok"}'):
        answer += connection.recv(65536)
    connection.sendall(HEAD)
    assert all_of(connection).startswith(b"HTTP/1.1 408")


def test_a_head_in_pieces_that_comes_in_time_is_answered(connect):
    connection = connect()
    for piece in (HEAD[:10], HEAD[10:], b"\r\n"):
        connection.sendall(piece)
        time.sleep(SECONDS / 10)
    assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_an_answer_that_takes_longer_is_waited_for(server, monkeypatch):
    answers = server.service.bank.answers_to_crops

    def slowly(*given):
        time.sleep(3 * SECONDS)
        return answers(*given)

    monkeypatch.setattr(server.service.bank, "answers_to_crops", slowly)
    response = server.client.post("/v1/adapters/zero/predict", files=files(png(pictures(1)[0])))
    assert response.status_code == 200


def test_what_is_no_request_is_refused_in_the_form_of_all_errors(connect):
    connection = connect()
    connection.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
    head, _, body = all_of(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert json.loads(body)["error"]["code"] == "damaged_request"


def test_half_open_connections_keep_nobody_out_for_long(kinds, tmp_path):
    """As many as the server takes at all: others are refused, until their time is over."""
    shutil.copytree(kinds / "zero", tmp_path / "zero")
    limits = {"head_seconds": 2.0, "connections": 20}
    with running(tmp_path, teach=False, **limits) as server, contextlib.ExitStack() as stack:
        address = ("127.0.0.1", server.port)
        half_open = [stack.enter_context(socket.create_connection(address, PATIENCE)) for _ in range(20)]
        for connection in half_open:
            connection.sendall(HEAD)
        until(lambda: server.client.get("/healthz").status_code == 503)
        until(lambda: server.client.get("/healthz").status_code == 200)
        assert all(all_of(connection).startswith(b"HTTP/1.1 408") for connection in half_open)
