"""Installing data sets from archives and from a server on this machine, in miniature but in their published form."""

import dataclasses
import errno
import hashlib
import json
import os
import queue
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from data import layouts
from data.preparing import files_below, install, row_with
from lowshot.data import check_images, load_task
from lowshot.data.catalogue import CATALOGUE, download, find, lock, preparing, state_of
from lowshot.data.catalogue.preparing import prepare
from lowshot.errors import DataError, OutputError, RunError
from refusing import refused

pytestmark = pytest.mark.usefixtures("no_waiting")
FETCHED = [name for name, row in CATALOGUE.items() if all(any(f.urls for f in need) for need in row.needs)]


def test_all_but_two_can_be_fetched():
    assert set(CATALOGUE) - set(FETCHED) == {"imagenet", "stanford_cars"}


@pytest.mark.parametrize("name", FETCHED)
def test_a_data_set_is_fetched_checked_and_unpacked_into_its_published_place(offer, name, tmp_path):
    offer(name)
    root = tmp_path / "new" / "root"

    task, lines, warned = install(name, root)

    row = CATALOGUE[name]
    assert warned == []
    assert list(task.class_names) == layouts.CLASS_NAMES[name]
    assert load_task(name, root=root).test.identities == task.test.identities
    assert check_images(task).missing == ()
    assert lines[0] == f"{row.title}, {row.homepage}; licence: {row.licence}"
    assert [line.partition(": ")[2] for line in lines if line.startswith("in place")]
    assert {p.name for p in root.iterdir()} == {row.folders[0].split("/")[0]}  # nothing is left beside it


def test_what_is_in_its_place_is_not_fetched_again(offer, tmp_path):
    served = offer("dtd")
    install("dtd", tmp_path)
    before = files_below(tmp_path)

    _, lines, _ = install("dtd", tmp_path)

    assert all(len(behaviour.requests) == 1 for behaviour in served.values())
    assert files_below(tmp_path) == before
    assert len(lines) == 3


def test_a_part_that_is_lost_is_fetched_alone(offer, tmp_path):
    served = offer("fgvc")
    install("fgvc", tmp_path)
    before = files_below(tmp_path)
    (tmp_path / "fgvc_aircraft" / "variants.txt").unlink()
    image = next((tmp_path / "fgvc_aircraft" / "images").iterdir())
    image.write_bytes(b"what a person changed")

    install("fgvc", tmp_path)

    assert len(served["fgvc-aircraft-2013b.tar.gz"].requests) == 2
    assert files_below(tmp_path) == {**before, f"fgvc_aircraft/images/{image.name}": b"what a person changed"}


def test_an_interrupted_download_is_continued_by_the_next_run(offer, tmp_path):
    served = offer("dtd", drop_after=[1000, 0, 0, 0, 0])
    with refused(RunError, "5 times", "kept", "--from FOLDER"):
        install("dtd", tmp_path)

    task, _, _ = install("dtd", tmp_path)

    assert len(task.test) == 9
    assert served["dtd-r1.0.1.tar.gz"].requests[-1][0] == 1000


def test_a_run_that_was_killed_while_unpacking_is_simply_run_again(offer, tmp_path, monkeypatch):
    served = offer("dtd")

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(preparing, "unpack", killed)
        with pytest.raises(KeyboardInterrupt):
            install("dtd", tmp_path)
    (tmp_path / "dtd" / ".dtd.unpacking" / "content").mkdir(parents=True)  # as kill -9 leaves it
    (tmp_path / "dtd" / ".dtd.unpacking" / "content" / "half.jpg").touch()

    install("dtd", tmp_path)

    assert len(served["dtd-r1.0.1.tar.gz"].requests) == 1  # what was fetched and checked was kept
    assert {p.name for p in tmp_path.iterdir()} == {"dtd"}
    assert {p.name for p in (tmp_path / "dtd").iterdir()} == {"images", CATALOGUE["dtd"].split_file}


def test_a_data_set_may_be_linked_to_another_place(offer, tmp_path):
    offer("dtd")
    (tmp_path / "large disk").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "dtd").symlink_to(tmp_path / "large disk")

    install("dtd", tmp_path / "root")

    assert {p.name for p in (tmp_path / "large disk").iterdir()} == {"images", CATALOGUE["dtd"].split_file}


def test_wrong_bytes_are_refused_and_nothing_appears(offer, tmp_path):
    served = offer("dtd")
    served["dtd-r1.0.1.tar.gz"].content = served["dtd-r1.0.1.tar.gz"].content[:-1] + b"!"

    with refused(RunError, "dtd-r1.0.1.tar.gz", "sha256", CATALOGUE["dtd"].needs[0][0].sha256):
        install("dtd", tmp_path)
    assert not (tmp_path / "dtd").exists()


@pytest.mark.parametrize(
    ("name", "content", "facts"),
    [
        ("dtd", b"<html>Sign in</html>", ("web page", "b'<html>Sign in")),
        ("imagenet_r", b"\n <!DOCTYPE html>", ("web page", r"b'\n <!DOCTYPE")),
        ("dtd", b'{"error": {"code": 403}}', ('{"error"', "no list", "'train'", 12)),
        ("dtd", b'{"train": [', ('{"train"', "damaged")),
        ("dtd", b'{"train": [["a.jpg", 0, "a"]]}', ("1 entries", "'train'", 12)),
        ("dtd", b'{"train": [' + b", ".join([b"1"] * 12) + b"]}", ("some entry", "'train'", "a path")),
        ("imagenet_r", b"n01440764 tench\nn03773504 mis", ("not classnames.txt", "2 synsets", 3)),
        ("imagenet_r", b"tench\n", ("line 1", "'tench'", "a synset")),
        ("imagenet_r", b"", ("b''", "0 synsets", 3)),
        ("ucf101", b'{"error": "quota"}', ("not UCF-101-midframes.zip", '{"error"', "zip file")),
    ],
)
def test_a_file_that_is_something_else_never_appears_and_is_fetched_anew(
    offer, monkeypatch, tmp_path, name, content, facts
):
    served = offer(name)
    row_with(name, monkeypatch, lambda file: dataclasses.replace(file, sha256=None, size=None))
    suffixes = (".zip",) if name == "ucf101" else (".json", ".txt")
    (wrong,) = (file for file in served if file.endswith(suffixes))
    right, served[wrong].content = served[wrong].content, content

    with refused(RunError, wrong, *facts, "http", "--from FOLDER"):
        install(name, tmp_path)
    assert list(tmp_path.rglob(f"*{wrong}*")) == []

    served[wrong].content = right
    assert len(install(name, tmp_path)[0].test)


@pytest.mark.parametrize("announced", [True, False])
def test_a_small_file_that_is_large_is_refused(offer, monkeypatch, tmp_path, announced):
    served = offer("dtd")
    file = CATALOGUE["dtd"].split_file
    monkeypatch.setattr(download, "LARGEST_LIST_BYTES", 100)
    served[file].announced = announced
    assert len(served[file].content) > 100

    with refused(RunError, file, "bytes", 100):
        install("dtd", tmp_path)
    assert list(tmp_path.rglob(f"*{file}*")) == []


@pytest.mark.parametrize(
    ("name", "file"), [("dtd", "split_zhou_DescribableTextures.json"), ("imagenet_r", "classnames.txt")]
)
def test_a_wrong_file_that_is_in_its_place_already_is_named_with_the_way_out(offer, tmp_path, name, file):
    offer(name)
    install(name, tmp_path)
    (path,) = tmp_path.rglob(file)
    path.write_text("{}")

    with refused(DataError, path, file, "Remove it"):
        install(name, tmp_path)

    path.unlink()
    assert len(install(name, tmp_path)[0].test)


# -- what is there already ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "folder"), [(row.name, folder) for row in CATALOGUE.values() for folder in row.folders]
)
def test_a_data_set_in_any_of_its_places_is_complete_and_nothing_is_fetched(tmp_path, monkeypatch, name, folder):
    """Not ImageNet's development kit either, where the validation images are sorted."""
    layouts.install(name, tmp_path, monkeypatch)
    layouts.move(tmp_path, name, folder)
    row_with(name, monkeypatch, lambda file: dataclasses.replace(file, urls=()))
    before = files_below(tmp_path)

    task, lines, warned = install(name, tmp_path)

    assert warned == []
    assert list(task.class_names) == layouts.CLASS_NAMES[name]
    assert files_below(tmp_path) == before
    assert any(str(tmp_path / folder) in line for line in lines)


def test_what_a_data_set_in_another_place_lacks_is_put_beside_it(offer, tmp_path, monkeypatch):
    served = offer("sun397")
    layouts.install("sun397", tmp_path, monkeypatch)
    layouts.move(tmp_path, "sun397", "SUN397")  # images in SUN397/a/..., so that beside them would be the root
    next(tmp_path.rglob("split_zhou*")).unlink()

    assert len(install("sun397", tmp_path)[0].test) == 9
    assert (tmp_path / "SUN397" / "split_zhou_SUN397.json").is_file()
    assert served["SUN397.tar.gz"].requests == []


def test_a_shift_uses_the_class_names_of_imagenet(offer, tmp_path, monkeypatch):
    served = offer("imagenet_a")
    layouts.install("imagenet", tmp_path, monkeypatch)

    assert install("imagenet_a", tmp_path)[0].class_names == ("tench", "missile")
    assert served["classnames.txt"].requests == []
    assert not (tmp_path / "imagenet-adversarial" / "classnames.txt").exists()


@pytest.mark.parametrize("below", ["dtd/images", "dtd/images/banded", "DTD/images"])
def test_empty_folders_are_no_data_set_and_not_in_the_way(offer, tmp_path, below):
    offer("dtd")
    (tmp_path / below).mkdir(parents=True)
    assert find(CATALOGUE["dtd"], tmp_path) is None

    install("dtd", tmp_path)

    assert find(CATALOGUE["dtd"], tmp_path).images == tmp_path / "dtd" / "images"


def test_other_files_where_the_images_belong_are_never_removed(offer, tmp_path):
    offer("dtd")
    layouts.write_text(tmp_path / "dtd" / "images" / "banded" / "notes.txt", "mine")

    images = tmp_path / "dtd" / "images"
    with refused(OutputError, images, "in the way"):
        install("dtd", tmp_path)
    assert (images / "banded" / "notes.txt").read_text() == "mine\n"


def test_a_data_set_unpacked_by_half_is_refused_with_a_way_that_leads_out(offer, tmp_path):
    offer("dtd")
    install("dtd", tmp_path)
    next((tmp_path / "dtd" / "images" / "banded").iterdir()).unlink()
    assert state_of(CATALOGUE["dtd"], tmp_path).name == "incomplete"

    images = tmp_path / "dtd" / "images"
    with refused(RunError, "not there", 1, f"Move {images} away"):
        install("dtd", tmp_path)

    images.rename(tmp_path / "away")
    install("dtd", tmp_path)
    assert state_of(CATALOGUE["dtd"], tmp_path).name == "installed"


def test_what_a_killed_run_left_is_removed_though_everything_is_in_its_place(offer, tmp_path):
    served = offer("dtd")
    install("dtd", tmp_path)
    before = files_below(tmp_path)
    layouts.write_text(tmp_path / ".downloads" / "dtd-r1.0.1.tar.gz", "x")
    layouts.write_text(tmp_path / "dtd" / ".dtd.unpacking" / "inner.tar.gz", "x")
    layouts.write_text(tmp_path / ".downloads" / ".dtd-r1.0.1.tar.gz.partial.json.a1b2c3d_", "x")
    aside = f".{CATALOGUE['dtd'].split_file}"
    layouts.write_text(tmp_path / "dtd" / f"{aside}.a1b2c3d_", "x")
    layouts.write_text(tmp_path / "dtd" / f"{aside}.swp", "of an editor")
    before[f"dtd/{aside}.swp"] = b"of an editor\n"

    install("dtd", tmp_path)

    assert files_below(tmp_path) == before
    assert len(served["dtd-r1.0.1.tar.gz"].requests) == 1


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that can be killed")
@pytest.mark.parametrize("name", ["caltech101", "fgvc"])  # an archive in an archive and a list; many parts of one
def test_prepare_may_be_killed_at_any_step_and_is_simply_run_again(server, tmp_path_factory, monkeypatch, name):
    published = tmp_path_factory.mktemp("published")
    layouts.install(name, published, monkeypatch)
    needs = {}
    for file in (file for need in CATALOGUE[name].needs for file in need):
        content = layouts.published(file, published)
        url, _ = server(f"/{file.file}", content)
        needs[file.file] = {"urls": [url], "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    paths = {"PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path_factory.mktemp("roots"))}

    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("killing.py"), name, json.dumps(needs)],
        env={**os.environ, **paths},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 40


# -- one at a time -----------------------------------------------------------------------------------------------------


def test_who_comes_second_waits_and_says_for_whom(offer, tmp_path, monkeypatch):
    served = offer("dtd")
    lines, done = queue.Queue(), []
    monkeypatch.setattr(lock, "SECONDS_BETWEEN_TRIES", 0.01)

    def second():
        done.append(prepare("dtd", tmp_path, say=lines.put))

    with lock.locked(tmp_path, "lowshot data prepare food101", pytest.fail):
        thread = threading.Thread(target=second)
        thread.start()
        while "waiting" not in (line := lines.get(timeout=30)):
            pass
        holder = rf"lowshot data prepare food101 \(process {os.getpid()} on .*\)"
        assert re.fullmatch(rf"waiting for {holder}, which works in {tmp_path}", line)
        assert not done
        assert served["dtd-r1.0.1.tar.gz"].requests == []
    thread.join(timeout=30)

    assert len(done) == 1
    assert {p.name for p in tmp_path.iterdir()} == {"dtd"}


def test_two_at_once_fetch_each_file_once(offer, tmp_path, monkeypatch):
    served = offer("dtd")
    monkeypatch.setattr(lock, "SECONDS_BETWEEN_TRIES", 0.01)

    with ThreadPoolExecutor(4) as pool:
        tasks = list(pool.map(lambda _: prepare("dtd", tmp_path), range(4)))

    assert [len(task.test) for task in tasks] == [9] * 4
    assert [len(behaviour.requests) for behaviour in served.values()] == [1, 1]


def test_a_lock_that_was_removed_while_it_was_waited_for_is_not_taken_for_one(tmp_path, monkeypatch):
    """Its holder removes it when it is done; who had it open already would hold a lock that nobody else can see."""
    fcntl = pytest.importorskip("fcntl")
    tried, really = [], fcntl.flock

    def removed_meanwhile(handle, operation):
        really(handle, operation)
        if operation & fcntl.LOCK_EX:
            tried.append(handle)
            if len(tried) == 1:
                (tmp_path / lock.FILE).unlink()

    monkeypatch.setattr(fcntl, "flock", removed_meanwhile)
    with lock.locked(tmp_path, "work", lambda _: None):
        assert len(tried) == 2
        assert (tmp_path / lock.FILE).read_text().startswith("work (process ")
    assert list(tmp_path.iterdir()) == []


def test_a_lock_whose_holder_died_stops_nobody(offer, tmp_path):
    offer("dtd")
    (tmp_path / lock.FILE).write_text("lowshot data prepare dtd (process 1 on elsewhere)")

    _, lines, _ = install("dtd", tmp_path)

    assert not any("waiting" in line for line in lines)
    assert {p.name for p in tmp_path.iterdir()} == {"dtd"}


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks_is_used_without(offer, tmp_path, monkeypatch, number):
    offer("dtd")

    def unsupported(*_):
        raise OSError(number, "No locks available")

    monkeypatch.setattr("fcntl.flock", unsupported)
    assert len(install("dtd", tmp_path)[0].test) == 9
