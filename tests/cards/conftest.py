"""The page of cards, served on a thread of this process."""

import contextlib
import threading

import httpx2
import numpy as np
import pytest
from PIL import Image

from lowshot.cards import Card, Decisions, Session, Table
from lowshot.cards.app import create_app
from lowshot.serving.gate import Gate
from lowshot.serving.limits import Limits
from lowshot.serving.prometheus import Metrics
from lowshot.serving.server import listening_socket, names_of, runner, url_of

PATIENCE = 60


@contextlib.contextmanager
def served(session):
    """A client of the page."""
    ready = threading.Event()
    with listening_socket("127.0.0.1", 0, None) as listening:
        hosts = names_of(listening)
        gate = Gate(create_app(session), limits=Limits(), metrics=Metrics(), token=None, hosts=hosts)
        server = runner(gate, Limits(), ready.set)
        thread = threading.Thread(target=lambda: server.run(sockets=[listening]))
        thread.start()
        try:
            assert ready.wait(PATIENCE)
            with httpx2.Client(base_url=url_of(listening), timeout=PATIENCE, trust_env=False) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join(PATIENCE)


class Rounds:
    """A look that gives each round two or three of some images."""

    def __init__(self, images, per_round=3):
        self.images, self.per_round = images, per_round

    def __call__(self, decisions):
        closed = decisions.closed()
        open_ones = [image for image in self.images if image not in closed]
        return [Card("suggestion", (image,), (None,), "cat", 0.75, "unsure") for image in open_ones[: self.per_round]]


@pytest.fixture
def images(tmp_path):
    """Five images, one of which cannot be read."""
    files = []
    for number in range(5):
        path = tmp_path / "new" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((120 if number else 8, 160, 3), 40 * number, dtype=np.uint8)).save(path)
        files.append(str(path))
    (tmp_path / "new" / "4.png").write_text("no image")
    return files


@pytest.fixture
def session(tmp_path, images):
    with Decisions(Table(tmp_path / "labels.csv"), {"kind": "suggest"}) as decisions:
        session = Session(decisions, Rounds(images), kind="suggest", where=str(tmp_path / "labels.csv"), then="fit it")
        session.begin(["cat", "dog"])
        yield session
