"""What all tests share: no network, one thread, and models small enough to train in milliseconds."""

import os
import socket

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

pytest_plugins = ["forking", "long_tests", "workers"]  # these import nothing that takes long; workers sorts first


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory):
    """What the library keeps between runs is kept from one test to the next, and thrown away with them."""
    os.environ["LOWSHOT_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    del os.environ["LOWSHOT_CACHE"]


@pytest.fixture(scope="session", autouse=True)
def no_network():
    """Only this machine can be reached."""
    connect = socket.socket.connect

    def only_here(self, address):
        if self.family == socket.AF_UNIX or str(address[0]) in ("127.0.0.1", "::1", "localhost"):
            return connect(self, address)
        raise OSError(f"a test tried to reach {address}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", only_here)
        yield


@pytest.fixture(autouse=True)
def random_state_is_left_alone():
    """The library draws from generators of its own: torch's global state is the same after every test."""
    import torch

    before = torch.random.get_rng_state()
    yield
    assert torch.equal(before, torch.random.get_rng_state()), "the global random state was changed"


@pytest.fixture
def passes(monkeypatch):
    """The number of images of each forward pass of a vision tower."""
    from lowshot.models import Backbone

    seen, encode = [], Backbone.encode_images

    def counted(self, images):
        seen.append(len(images))
        return encode(self, images)

    monkeypatch.setattr(Backbone, "encode_images", counted)
    return seen
