import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lowshot import files
from lowshot.errors import DataError, InputError, OutputBusyError, OutputError, OutputExistsError
from lowshot.files import (
    _temporary_cache,
    cache_folder,
    canonical_json,
    claimed,
    folder_replaced,
    folder_written_aside,
    from_home,
    is_spelt_as_path,
    read_json_object,
    refuse_existing,
    remove,
    sync,
    write_text,
)
from lowshot.models import load_backbone
from refusing import refused


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "a" / "b"
    with folder_written_aside(target) as aside:
        (aside / "one").write_text("1")
        assert not target.exists()
    assert [p.name for p in target.iterdir()] == ["one"]
    assert [p.name for p in target.parent.iterdir()] == ["b"]


def test_a_failure_leaves_nothing_behind(tmp_path):
    with pytest.raises(ZeroDivisionError), folder_written_aside(tmp_path / "out") as aside:
        (aside / "one").write_text("1")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_replaced_as_a_whole_and_the_one_before_stays(tmp_path):
    place, before = tmp_path / "a", tmp_path / ".a.before"
    for number in range(3):
        with folder_replaced(place) if number else folder_written_aside(place) as aside:
            (aside / "file").write_text(str(number))
    assert ((place / "file").read_text(), (before / "file").read_text()) == ("2", "1")
    with pytest.raises(ZeroDivisionError), folder_replaced(place) as aside:
        (aside / "file").write_text(str(1 / 0))
    assert ((place / "file").read_text(), (before / "file").read_text()) == ("2", "1")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.before", "a"]


def test_kill_while_writing_leaves_the_target_absent(tmp_path):
    program = (
        "import os, sys; from pathlib import Path; from lowshot.files import folder_written_aside\n"
        "with folder_written_aside(Path(sys.argv[1])) as aside:\n"
        "    (aside / 'half').write_text('x'); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "out")])
    assert done.returncode == -9
    assert not (tmp_path / "out").exists()
    with folder_written_aside(tmp_path / "out") as aside:  # and the next attempt is not in its way
        (aside / "whole").write_text("x")
    assert (tmp_path / "out" / "whole").exists()


def test_an_empty_folder_may_be_filled(tmp_path):
    (tmp_path / "out").mkdir()
    with folder_written_aside(tmp_path / "out") as aside:
        (aside / "one").write_text("1")
    assert (tmp_path / "out" / "one").read_text() == "1"


def test_a_place_that_cannot_be_renamed_to_is_refused_before_the_work(monkeypatch, tmp_path):
    (tmp_path / "mounted").mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda self: self.name == "mounted")
    with refused(OutputExistsError, tmp_path / "mounted"):
        refuse_existing(tmp_path / "mounted")


def test_files_are_readable_by_others(tmp_path):
    with folder_written_aside(tmp_path / "out") as aside:
        (aside / "private").touch(mode=0o600)
    assert (tmp_path / "out" / "private").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o755


def test_the_current_folder_is_refused_although_it_is_empty(tmp_path, monkeypatch):
    """What is written would take its place, and whoever is in it would be nowhere."""
    monkeypatch.chdir(tmp_path)
    for path in (Path(), tmp_path, Path("..") / tmp_path.name):
        with refused(OutputExistsError, path):
            refuse_existing(path)


def test_what_exists_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("precious")
    (tmp_path / "file").write_text("precious")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("out", "file", "dangling"):
        with refused(OutputExistsError, tmp_path / name):
            refuse_existing(tmp_path / name)
    with refused(OutputError, tmp_path / "file"):
        refuse_existing(tmp_path / "file" / "below")
    assert (tmp_path / "out" / "mine").read_text() == "precious"


def test_a_name_that_is_not_utf8_is_refused_before_the_work(tmp_path):
    """Tensors can be written there, and not read."""
    with refused(OutputError, r"caf\udce9'", "UTF-8"):
        refuse_existing(tmp_path / "caf\udce9")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a place where even root cannot write")
def test_no_permission_is_said_before_the_work():
    with refused(OutputError, "/proc/out"):
        refuse_existing(Path("/proc/out"))


def test_write_text_replaces_whole(tmp_path):
    path = tmp_path / "sub" / "file.json"
    write_text(path, "old")
    write_text(path, "new")
    assert path.read_text() == "new"
    assert [p.name for p in path.parent.iterdir()] == ["file.json"]


def test_write_text_says_where_it_could_not(tmp_path):
    (tmp_path / "file").write_text("x")
    with refused(OutputError, tmp_path / "file" / "below"):
        write_text(tmp_path / "file" / "below", "text")


def test_canonical_json_is_the_same_for_equal_values():
    assert canonical_json({"b": 1, "a": [1, 2]}) == canonical_json({"a": [1, 2], "b": 1})
    assert json.loads(canonical_json({"a": "é"})) == {"a": "é"}
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json({"a": float("nan")})


def test_there_is_no_file_below_a_file(tmp_path):
    (tmp_path / "file").write_text("{}")
    with pytest.raises(FileNotFoundError) as caught:
        read_json_object(tmp_path / "file" / "below")
    assert caught.value.filename == str(tmp_path / "file" / "below")


def test_a_file_that_cannot_be_looked_at_is_one_line(tmp_path):
    with refused(InputError, "x" * 300, "File name too long"):
        read_json_object(tmp_path / ("x" * 300))


def test_a_file_is_removed_with_what_a_killed_process_left_of_it(tmp_path):
    state, other = tmp_path / "a.training.safetensors", tmp_path / ".ab.training.safetensors.x1"
    for path in (state, other, tmp_path / ".a.training.safetensors.k3j"):
        path.write_bytes(b"x")
    remove(state)
    assert list(tmp_path.iterdir()) == [other]
    remove(state)


def test_a_place_is_claimed_by_one_at_a_time(tmp_path):
    with claimed(tmp_path / "a" / "out"):
        with refused(OutputBusyError) as refusal, claimed(tmp_path / "a" / "out"):
            pass
        with claimed(tmp_path / "a" / "other"):
            pass
    assert (refusal.value.path, refusal.value.code) == (tmp_path / "a" / "out", "output_busy")
    assert f"process {os.getpid()} on " in refusal.value.holder
    assert list(tmp_path.iterdir()) == []  # nothing was put there
    with claimed(tmp_path / "a" / "out"):
        (tmp_path / "a" / "out").mkdir()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["out"]


def test_the_claim_of_a_dead_process_is_nobodys(tmp_path):
    program = (
        "import os, sys; from pathlib import Path; from lowshot.files import claimed\n"
        "with claimed(Path(sys.argv[1])):\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path / "out")]).returncode == -9
    assert (tmp_path / ".out.lock").exists()
    with claimed(tmp_path / "out"):
        pass
    assert not (tmp_path / ".out.lock").exists()


def test_a_lock_that_was_removed_after_it_was_opened_is_taken_once_more(tmp_path, monkeypatch):
    import filelock

    lock, locked, tries = tmp_path / ".out.lock", filelock.lock_descriptor, []

    def late(*arguments, **options):
        tries.append(lock.stat().st_ino)
        if len(tries) == 1:
            lock.unlink()
        return locked(*arguments, **options)

    monkeypatch.setattr(filelock, "lock_descriptor", late)
    with claimed(tmp_path / "out"):
        assert len(tries) == 2
        assert lock.exists()


def test_half_a_character_is_written_as_json_reads_it_back(tmp_path):
    """Python has one for each byte of a file's name that is no UTF-8, and the record names the command's files."""
    write_text(tmp_path / "record.json", canonical_json({"command": "lowshot fit caf\udce9", "class": "猫"}))

    assert read_json_object(tmp_path / "record.json") == {"command": "lowshot fit caf\udce9", "class": "猫"}


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """A user without HOME and without a line in /etc/passwd, and that user's folder for temporary files."""
    import pwd

    def unknown(user):
        raise KeyError(user)

    for name in ("HOME", "XDG_CACHE_HOME", "LOWSHOT_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for ask in ("getpwuid", "getpwnam"):
        monkeypatch.setattr(pwd, ask, unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    _temporary_cache.cache_clear()
    yield tmp_path
    _temporary_cache.cache_clear()


def test_the_cache_is_the_one_chosen_or_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("LOWSHOT_CACHE", "/chosen")
    assert cache_folder() == Path("/chosen")
    monkeypatch.delenv("LOWSHOT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_folder() == Path("/caches/lowshot")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "lowshot"


def test_without_a_home_the_cache_is_a_temporary_folder_of_the_users_own(nobody):
    assert cache_folder() == cache_folder() == nobody / f"lowshot-{os.getuid()}"
    assert cache_folder().stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("kind", ["a file", "a link", "a folder that others write to"])
def test_a_temporary_folder_that_others_could_have_filled_is_not_used(nobody, kind):
    folder = nobody / f"lowshot-{os.getuid()}"
    if kind == "a file":
        folder.touch()
    elif kind == "a link":
        folder.symlink_to(nobody, target_is_directory=True)
    else:
        folder.mkdir()
        folder.chmod(0o777)
    assert cache_folder() == cache_folder() != folder
    assert list(cache_folder().iterdir()) == []


@pytest.mark.parametrize("path", ["~/photos", "~stranger/photos"])
def test_a_home_that_nobody_knows_is_no_traceback(nobody, path):
    from lowshot import FewShotClassifier

    assert from_home(path) == Path(path)
    with refused(InputError, path):
        FewShotClassifier.from_pretrained(path)
    with refused(DataError, path):
        FewShotClassifier(root=path).task("caltech101")
    with refused(InputError, path):
        load_backbone(path)


# -- Windows, as far as another system shows it ------------------------------------------------------------------------


def test_a_file_is_closed_before_it_is_renamed(tmp_path, monkeypatch):
    def replace(aside, target):
        assert aside.resolve() not in {handle.resolve() for handle in Path("/proc/self/fd").iterdir()}
        aside.rename(target)

    monkeypatch.setattr(Path, "replace", replace)
    write_text(tmp_path / "a", "text")
    assert (tmp_path / "a").read_text() == "text"


@pytest.mark.parametrize(("on_windows", "refusals", "written"), [(True, 3, True), (True, 99, False), (False, 1, False)])
def test_a_file_that_somebody_reads_is_replaced_once_it_is_read(tmp_path, monkeypatch, on_windows, refusals, written):
    left = iter(range(refusals))

    def replace(aside, target):
        if next(left, None) is not None:
            raise PermissionError(13, "it is being used by another process")
        aside.rename(target)

    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(files, "ON_WINDOWS", on_windows)
    monkeypatch.setattr(files, "_SECONDS_BETWEEN", 0.0)
    if written:
        write_text(tmp_path / "a", "text")
    else:
        with refused(OutputError, tmp_path / "a", "used by another process"):
            write_text(tmp_path / "a", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["a"] * written


def test_what_is_synced_may_be_written_where_the_system_wants_that(tmp_path, monkeypatch):
    (tmp_path / "a").touch()
    flags, really_open = [], os.open
    monkeypatch.setattr(os, "open", lambda path, mode: flags.append(mode) or really_open(path, mode))
    for on_windows in (False, True):
        monkeypatch.setattr(files, "ON_WINDOWS", on_windows)
        sync(tmp_path / "a")
    sync(tmp_path)  # a folder has no handle there
    assert flags == [os.O_RDONLY, os.O_RDWR]


def test_the_byte_that_is_locked_is_none_that_others_read(tmp_path):
    with claimed(tmp_path / "out"):
        assert (tmp_path / ".out.lock").read_text().startswith(files.UNREAD)
        with refused(OutputBusyError, f"process {os.getpid()} on"), claimed(tmp_path / "out"):
            pass


@pytest.mark.parametrize(
    ("text", "separator", "is_path"),
    [
        ("./adapters", "/", True),
        ("~/adapters", "/", True),
        ("owner/name", "/", False),
        ("owner/name", "\\", False),
        ("adapters\\pets", "\\", True),
        ("C:\\adapters", "\\", True),
        ("odd\\name", "/", False),
    ],
)
def test_a_text_is_meant_as_a_path_where_no_name_is_spelt_so(monkeypatch, text, separator, is_path):
    monkeypatch.setattr(files.os, "sep", separator)
    assert is_spelt_as_path(text) == is_path
