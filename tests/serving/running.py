"""Servers for tests: one in this process, on a thread, and one as a user starts it."""

import contextlib
import dataclasses
import io
import json
import subprocess
import threading
import time

import httpx2
import numpy as np
from PIL import Image

from lowshot.serving import schema, server
from lowshot.serving.limits import Limits

PATIENCE = 120.0  # seconds that anything may take on a machine that is busy with other things


@dataclasses.dataclass
class Running:
    """A server on a thread of this process."""

    service: server.Service
    client: httpx2.Client
    port: int


@contextlib.contextmanager
def running(folder, *, token=None, teach=True, public=False, model=None, demo=False, **limits):
    """A real server on loopback; ``limits`` are fields of ``Limits``."""
    how = {"model": model, "teach": teach, "public": public, "demo": demo}
    settings = server.ServerSettings(folder, token, **how, limits=Limits(**limits))
    with server.listening_socket("127.0.0.1", 0, token) as listening:
        service, ready = server.load(settings), threading.Event()
        served = server.server_of(listening, settings, service, ready.set)
        thread = threading.Thread(target=lambda: served.run(sockets=[listening]))
        thread.start()
        try:
            assert ready.wait(PATIENCE)
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            url = server.url_of(listening)
            with httpx2.Client(base_url=url, timeout=PATIENCE, headers=headers, trust_env=False) as client:
                yield Running(service, client, listening.getsockname()[1])
        finally:
            served.should_exit = True
            thread.join(PATIENCE)
            assert not thread.is_alive()


@contextlib.contextmanager
def started(python, *arguments):
    """``lowshot serve`` in a process of its own: the process and its address; killed at the end if it still runs."""
    command = [*python, "-m", "lowshot", "serve", *map(str, arguments), "--port", "0"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith("serving"), (line, process.poll(), process.stderr.read() if not line else "")
            yield process, line.split(" at ")[1].split()[0]
        finally:
            process.kill()


def png(pixels):
    """An image's file."""
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def files(*contents):
    """The multipart field of images."""
    return [("images", (f"{number}.png", content, "image/png")) for number, content in enumerate(contents)]


def lesson(name, images, labels, **settings):
    """What a request to teach takes."""
    data = {"name": name, "labels": list(labels), "settings": json.dumps(settings)}
    return {"files": files(*map(png, images)), "data": data}


def until(condition, seconds=PATIENCE):
    """Wait for something to be true; what it was."""
    ends = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.02)
    return value


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
