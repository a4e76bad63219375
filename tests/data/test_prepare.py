"""Installing data sets from archives and from a server on this machine, in miniature but in their published form."""

import dataclasses
import errno
import hashlib
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.io

from data import layouts
from data.server import serving
from lowshot.data import check_images, load_task
from lowshot.data.catalogue import CATALOGUE, download, find, lock, preparing, state_of
from lowshot.data.catalogue.preparing import prepare
from lowshot.errors import DataError, OutputError, RunError, UnknownNameError
from refusing import refused

FETCHED = [name for name, row in CATALOGUE.items() if all(any(f.urls for f in need) for need in row.needs)]


def row_with(name, monkeypatch, change):
    """The catalogue's row with every file changed."""
    row = CATALOGUE[name]
    needs = tuple(tuple(change(file) for file in need) for need in row.needs)
    monkeypatch.setitem(CATALOGUE, name, dataclasses.replace(row, needs=needs))


@pytest.fixture
def server():
    with serving() as add:
        yield add


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(download.time, "sleep", lambda _: None)


@pytest.fixture
def offer(server, tmp_path_factory, monkeypatch):
    """Puts a data set in miniature on a server, with its checksums, and returns what is served by file."""

    def offer(name, **behaviour):
        installed = tmp_path_factory.mktemp("published")
        layouts.install(name, installed, monkeypatch)
        served = {}

        def change(file):
            content = layouts.published(file, installed)
            url, served[file.file] = server(f"/{file.file}", content, **behaviour)
            published = {
                "sha256": hashlib.sha256(content).hexdigest() if file.kind != "file" else None,
                "size": len(content) if file.size else None,
            }
            urls = (url,) if file.urls else ()
            return dataclasses.replace(file, urls=urls, md5=None, rounded_size=None, **published)

        row_with(name, monkeypatch, change)
        return served

    return offer


def install(name, root, archives=None):
    """The task, and what was said and warned of."""
    lines, warned = [], []
    return prepare(name, root, archives, say=lines.append, warn=warned), lines, warned


def files_below(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


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


# -- archives at hand --------------------------------------------------------------------------------------------------


@pytest.fixture
def hand_over(offer, tmp_path_factory, monkeypatch):
    """Puts the files of a data set into a folder; nothing can be fetched."""

    def hand_over(name):
        archives = tmp_path_factory.mktemp("archives")
        for file, behaviour in offer(name).items():
            (archives / file).write_bytes(behaviour.content)
        row_with(name, monkeypatch, lambda file: dataclasses.replace(file, urls=()))
        return archives

    return hand_over


@pytest.mark.parametrize("name", [name for name in CATALOGUE if name != "imagenet"])
def test_archives_that_are_there_are_used_and_left_alone(hand_over, name, tmp_path):
    archives = hand_over(name)
    before = files_below(archives)

    task, _, _ = install(name, tmp_path, archives)

    assert list(task.class_names) == layouts.CLASS_NAMES[name]
    assert files_below(archives) == before


def test_another_form_of_the_same_archive_will_do(hand_over, tmp_path):
    archives = hand_over("caltech101")
    (archives / "caltech-101.zip").unlink()
    assert (archives / "101_ObjectCategories.tar.gz").exists()

    assert len(install("caltech101", tmp_path, archives)[0].test) == 9


def test_what_nobody_has_is_said_at_once_and_altogether(offer, tmp_path):
    served = offer("stanford_cars")

    with refused(DataError, "cars_train.tgz, cars_test.tgz", "--from"):
        install("stanford_cars", tmp_path / "root")
    assert all(behaviour.requests == [] for behaviour in served.values())


def test_a_damaged_archive_of_the_users_is_named_and_kept(hand_over, tmp_path):
    archives = hand_over("dtd")
    (archives / "dtd-r1.0.1.tar.gz").write_bytes(b"?")

    with refused(DataError, "dtd-r1.0.1.tar.gz", "damaged", "1 bytes"):
        install("dtd", tmp_path, archives)
    assert (archives / "dtd-r1.0.1.tar.gz").exists()


def test_an_archive_of_something_else_is_refused(hand_over, tmp_path, monkeypatch):
    archives = hand_over("ucf101")
    layouts.picture(tmp_path / "x" / "1.jpg")
    (archives / "UCF-101-midframes.zip").write_bytes(layouts.zip_of(("videos", tmp_path / "x")))
    row_with("ucf101", monkeypatch, lambda file: dataclasses.replace(file, sha256=None, size=None))

    with refused(DataError, "UCF-101-midframes.zip", "UCF-101-midframes", "does not hold"):
        install("ucf101", tmp_path / "root", archives)
    assert list((tmp_path / "root").iterdir()) == []


def test_images_that_the_archive_lacks_are_found_at_the_end(hand_over, tmp_path):
    archives = hand_over("dtd")
    split = json.loads((archives / CATALOGUE["dtd"].split_file).read_text())
    split["val"][0][0] = "banded/banded_9999.jpg"
    (archives / CATALOGUE["dtd"].split_file).write_text(json.dumps(split))

    with refused(RunError, "dtd", "1 of 6", "validation", "banded_9999.jpg"):
        install("dtd", tmp_path, archives)


def test_a_folder_of_archives_that_is_none_is_refused(tmp_path):
    with refused(DataError, "--from", tmp_path / "none"):
        install("dtd", tmp_path, tmp_path / "none")
    (tmp_path / ".downloads").mkdir()
    with refused(DataError, "--from", ".downloads", "elsewhere"):
        install("dtd", tmp_path, tmp_path / ".downloads")


def test_a_disk_that_is_too_small_is_said_before_anything_is_fetched(offer, tmp_path, monkeypatch):
    served = offer("dtd")
    row_with("dtd", monkeypatch, lambda file: dataclasses.replace(file, size=1 << 60))

    with refused(OutputError, tmp_path, "2305843009.2 GB"):
        install("dtd", tmp_path)
    assert served["dtd-r1.0.1.tar.gz"].requests == []


def test_the_disk_need_not_hold_what_has_arrived_once_more(offer, tmp_path, monkeypatch):
    served = offer("dtd", drop_after=[1000, 0, 0, 0, 0])
    with pytest.raises(RunError, match="5 times in a row"):
        install("dtd", tmp_path)
    missing = 2 * len(served["dtd-r1.0.1.tar.gz"].content) - 1000

    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=missing - 1))
    with pytest.raises(OutputError, match="GB free; expected"):
        install("dtd", tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=missing))
    assert len(install("dtd", tmp_path)[0].test) == 9


def test_archives_at_hand_need_room_for_their_content_alone(hand_over, tmp_path, monkeypatch):
    archives = hand_over("caltech101")  # a zip file with a tar file in it, which is unpacked too
    needed = 2 * (archives / "caltech-101.zip").stat().st_size

    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=needed - 1))
    with refused(OutputError, "GB free", "caltech-101.zip"):
        install("caltech101", tmp_path, archives)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=needed))
    assert len(install("caltech101", tmp_path, archives)[0].test) == 9


@pytest.mark.parametrize(
    "content",
    [
        b"",
        bytes(2000),
        np.random.default_rng(0).bytes(2000),
        b"PK\x03\x04" + bytes(2000),
        b"\x1f\x8b\x08" + np.random.default_rng(1).bytes(2000),
        b"<html>",
        b"\xff" * 300,
    ],
    ids=["empty", "zeros", "random", "zip", "gzip", "page", "ones"],
)
@pytest.mark.parametrize("name", ["ucf101", "fgvc", "dtd"])
def test_garbage_is_refused_with_its_name_and_leaves_nothing(hand_over, tmp_path, monkeypatch, name, content):
    archives = hand_over(name)
    row_with(name, monkeypatch, lambda file: dataclasses.replace(file, sha256=None, size=None))
    for path in archives.iterdir():
        path.write_bytes(content)

    with refused(DataError, archives):
        install(name, tmp_path / "root", archives)
    assert list((tmp_path / "root").iterdir()) == []


def test_unknown_names_and_roots_that_cannot_be_made_are_refused(tmp_path):
    with refused(UnknownNameError, "data set", "'dtdd'", "did you mean dtd"):
        install("dtdd", tmp_path)
    (tmp_path / "file").touch()
    with refused(OutputError, tmp_path / "file" / "root"):
        install("dtd", tmp_path / "file" / "root")


# -- ImageNet ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def imagenet(tmp_path_factory, monkeypatch):
    """ImageNet's archives in miniature: tar files in a tar file, a heap of validation images, the development kit."""
    installed = tmp_path_factory.mktemp("published")
    layouts.install("imagenet", installed, monkeypatch)
    images, archives = installed / "imagenet" / "images", tmp_path_factory.mktemp("archives")
    unpacked = tmp_path_factory.mktemp("made")
    for folder in sorted((images / "train").iterdir()):
        content = layouts.tar_of(*((p.name, p) for p in sorted(folder.iterdir())), compress=False)
        (unpacked / f"{folder.name}.tar").write_bytes(content)
    (archives / "ILSVRC2012_img_train.tar").write_bytes(
        layouts.tar_of(*((p.name, p) for p in sorted(unpacked.iterdir())), compress=False)
    )
    synsets = list(layouts.SYNSETS)
    labels = [2, 1, 3, 3, 1, 2, 1, 2, 3]
    for number, label in enumerate(labels, 1):
        image = sorted((images / "val" / synsets[label - 1]).glob("ILSVRC2012_val_n*"))[0]
        image.rename(images / "val" / f"ILSVRC2012_val_{number:08}.JPEG")
    heap = sorted((images / "val").glob("*.JPEG"))
    (archives / "ILSVRC2012_img_val.tar").write_bytes(layouts.tar_of(*((p.name, p) for p in heap), compress=False))
    fields = [
        ("ILSVRC2012_ID", object),
        ("WNID", object),
        ("words", object),
        ("gloss", object),
        ("num_children", object),
    ]
    rows = [(i, synset, "", "", 0) for i, synset in enumerate(synsets, 1)] + [(4, "n00000001", "", "", 3)]
    meta = np.array([[row] for row in rows], dtype=fields)
    kit = installed / "kit"
    kit.mkdir()
    scipy.io.savemat(kit / "meta.mat", {"synsets": meta})
    layouts.write_text(kit / "ILSVRC2012_validation_ground_truth.txt", *labels)
    parts = [(f"ILSVRC2012_devkit_t12/data/{p.name}", p) for p in kit.iterdir()]
    (archives / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(layouts.tar_of(*parts))
    (archives / "classnames.txt").write_bytes((installed / "imagenet" / "classnames.txt").read_bytes())
    row_with("imagenet", monkeypatch, lambda file: dataclasses.replace(file, md5=None, sha256=None, size=None, urls=()))
    return archives, labels


def test_imagenet_is_unpacked_from_its_archives_and_its_validation_images_are_sorted(imagenet, tmp_path):
    archives, labels = imagenet

    task, _, warned = install("imagenet", tmp_path, archives)

    assert warned == []
    assert task.class_names == ("tench", "missile", "projectile")
    assert np.bincount(task.train.labels).tolist() == [4, 4, 4]
    for identity, label in zip(task.test.identities, task.test.labels, strict=True):
        number = int(identity[-13:-5])
        assert labels[number - 1] == label + 1
    assert check_images(task).corrupt == ()
    assert {p.name for p in (tmp_path / "imagenet").iterdir()} == {"images", "classnames.txt", "devkit"}


def test_of_imagenet_everything_that_is_missing_is_named_with_its_terms(tmp_path):
    files = ("img_train.tar", "devkit_t12.tar.gz", "img_val.tar")
    with refused(DataError, "terms of access", *(f"ILSVRC2012_{file}" for file in files)):
        install("imagenet", tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "facts"),
    [
        ("ILSVRC2012_validation_ground_truth.txt", b"1\n7\n", ("line 2", 7, "meta.mat")),
        ("ILSVRC2012_validation_ground_truth.txt", b"one\n", ("ILSVRC2012_validation_ground_truth.txt", "'one'")),
        ("ILSVRC2012_validation_ground_truth.txt", b"", ("ILSVRC2012_validation_ground_truth.txt", "not a line")),
        ("ILSVRC2012_validation_ground_truth.txt", b"1\n" * 10, ("lack", "ILSVRC2012_val_00000010.JPEG")),
        ("meta.mat", b"", ("meta.mat", "cannot be read")),
        ("meta.mat", b"?" * 1000, ("meta.mat", "cannot be read")),
    ],
)
def test_a_damaged_development_kit_is_refused(imagenet, tmp_path, file, content, facts):
    archives, _ = imagenet
    kit = tmp_path / "kit"
    with tarfile.open(archives / "ILSVRC2012_devkit_t12.tar.gz") as tar:
        for member in tar:
            (kit / member.name).parent.mkdir(parents=True, exist_ok=True)
            (kit / member.name).write_bytes(tar.extractfile(member).read())
    (kit / "ILSVRC2012_devkit_t12" / "data" / file).write_bytes(content)
    (archives / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(
        layouts.tar_of(("ILSVRC2012_devkit_t12", kit / "ILSVRC2012_devkit_t12"))
    )

    with refused(DataError, *facts):
        install("imagenet", tmp_path / "root", archives)
    assert not (tmp_path / "root" / "imagenet" / "images" / "val").exists()


@pytest.mark.parametrize("sorted_already", [0, 4], ids=["none", "some"])
def test_validation_images_that_lie_in_a_heap_are_sorted_where_they_are(imagenet, tmp_path, sorted_already):
    archives, _ = imagenet
    expected = install("imagenet", tmp_path, archives)[0].test.identities
    val = tmp_path / "imagenet" / "images" / "val"
    for image in sorted(val.rglob("*.JPEG"))[sorted_already:]:
        image.rename(val / image.name)
    for folder in val.iterdir():
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    shutil.rmtree(tmp_path / "imagenet" / "devkit")
    (archives / "ILSVRC2012_img_train.tar").unlink()
    (archives / "ILSVRC2012_img_val.tar").unlink()

    with refused(DataError, "Get ILSVRC2012_devkit_t12.tar.gz from"):
        install("imagenet", tmp_path)
    assert install("imagenet", tmp_path, archives)[0].test.identities == expected


def test_a_folder_that_lacks_an_archive_is_named(imagenet, tmp_path):
    archives, _ = imagenet
    (archives / "ILSVRC2012_img_train.tar").unlink()

    with refused(DataError, archives, "Get ILSVRC2012_img_train.tar from"):
        install("imagenet", tmp_path, archives)
