"""Processes of lowshot in a moment: forks of one that has imported everything, where a fresh one imports for seconds.

What runs in them is what ``python -m lowshot`` runs, with memory, folder, environment and output of its own, and they
end and are killed as any process. Only what a process imports is not shown by them.
"""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FOR_ALL_WORKERS = pytest.StashKey()


@contextlib.contextmanager
def forking():
    """What stands for ``sys.executable`` in a command."""
    if not hasattr(os, "pidfd_open"):
        yield [sys.executable]
        return
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listening:
        address = str(Path(folder) / "socket")
        listening.bind(address)
        listening.listen(64)  # who connects early waits until everything is imported
        command = [sys.executable, str(HERE / "server.py"), str(listening.fileno())]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        with subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[listening.fileno()], env=environment) as server:
            listening.close()
            yield [sys.executable, "-S", "-E", str(HERE / "client.py"), address]
            server.communicate()  # it ends with its input


@pytest.fixture(scope="session")
def forked(pytestconfig):
    """``[*forked, "-m", "lowshot", "methods"]`` does what ``[sys.executable, "-m", "lowshot", "methods"]`` does."""
    shared = getattr(pytestconfig, "workerinput", {}).get("forked")
    with contextlib.nullcontext(shared) if shared else forking() as command:
        subprocess.run([*command, "-c", ""], check=True)  # from here on everything is imported
        yield command


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    """One process forks for all workers of pytest-xdist; it imports while they collect. Only long tests need it."""
    config = node.config
    if config.option.markexpr.startswith("not long"):
        return
    if FOR_ALL_WORKERS not in config.stash:
        shared = contextlib.ExitStack()
        config.add_cleanup(shared.close)
        config.stash[FOR_ALL_WORKERS] = shared.enter_context(forking())
    node.workerinput["forked"] = config.stash[FOR_ALL_WORKERS]
