"""Runs ``prepare`` again and again, killed a step later each time, and finishes what was left. Run as a program.

A step is whatever Python reports of files below the root: one is opened, moved, made or removed. After each kill
``prepare`` is run to its end, and what lies below the root must be what an undisturbed run leaves there.
"""

import dataclasses
import functools
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest

from data import layouts
from lowshot.data.catalogue import CATALOGUE, lock
from lowshot.data.catalogue.preparing import prepare

EVENTS = {"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate", "shutil.rmtree"}
COUNTED_IMAGES = 2  # the others are like them


def below(root):
    """The files but for the lock: a killed run may leave that, and it stops nobody once its holder is dead."""
    files = (path for path in root.rglob("*") if path.is_file() and path.name != lock.FILE)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def in_child(work):
    """The exit status of a process that does the work; negative if a signal ended it."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        work()
    except BaseException as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        os._exit(1)
    os._exit(0)


def killed_at(step, root, name):
    left, images = step, COUNTED_IMAGES

    def count(event, arguments):
        nonlocal left, images
        if event not in EVENTS or not str(arguments[0]).startswith(str(root)):
            return
        if str(arguments[0]).endswith(".jpg"):
            images -= 1
        if images >= 0 or not str(arguments[0]).endswith(".jpg"):
            left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    prepare(name, root)


def main(name, needs):
    """Write how often it was killed."""
    layouts.install(name, Path(tempfile.mkdtemp()), pytest.MonkeyPatch())
    row = CATALOGUE[name]

    def served(file):
        return dataclasses.replace(file, **needs[file.file], md5=None, rounded_size=None)

    known = tuple(tuple(map(served, need)) for need in row.needs)
    CATALOGUE[name] = dataclasses.replace(row, needs=known)
    os.sync = os.fsync = lambda *_: None  # they guard against power cuts, and take long
    undisturbed = Path(tempfile.mkdtemp())
    assert in_child(functools.partial(prepare, name, undisturbed)) == 0
    for step in range(1, 10_000):
        root = Path(tempfile.mkdtemp())
        status = in_child(functools.partial(killed_at, step, root, name))
        assert status in (0, -signal.SIGKILL), step
        assert in_child(functools.partial(prepare, name, root)) == 0, step
        assert below(root) == below(undisturbed), (step, set(below(root)) ^ set(below(undisturbed)))
        shutil.rmtree(root)
        if status == 0:
            sys.stdout.write(f"{step - 1}\n")
            return


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
