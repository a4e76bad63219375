"""Archives, honest and hostile."""

import bz2
import contextlib
import errno
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowshot.data.catalogue import unpack as module
from lowshot.data.catalogue.unpack import unpack
from lowshot.errors import DataError, LowshotError, OutputError
from lowshot.progress import silent
from refusing import refused

FILES = {"set/images/a/1.jpg": b"one", "set/images/b/2.jpg": b"two" * 1000, "set/README": b"", "other/3.jpg": b"three"}


def tar_bytes(files, mode="w"):
    """A tar file; a value may be a TarInfo for what is no plain file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                tar.addfile(content)
            else:
                member = tarfile.TarInfo(name)
                member.size, member.mode = len(content), 0o777
                tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def zip_bytes(files, method=zipfile.ZIP_DEFLATED):
    """A zip file; a value may be (mode, content) for what is no plain file."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in files.items():
            member = zipfile.ZipInfo(name)
            member.compress_type = method
            if isinstance(content, tuple):
                member.external_attr, content = content[0] << 16, content[1]
            archive.writestr(member, content)
    return out.getvalue()


KINDS = {
    "tar": tar_bytes,
    "tar.gz": lambda files: gzip.compress(tar_bytes(files)),
    "tar.bz2": lambda files: bz2.compress(tar_bytes(files)),
    "tar.xz": lambda files: lzma.compress(tar_bytes(files)),
    "zip": zip_bytes,
    "stored.zip": lambda files: zip_bytes(files, zipfile.ZIP_STORED),
}


def special(kind, target=""):
    member = tarfile.TarInfo()
    member.type, member.linkname = kind, target
    return member


@pytest.fixture
def run(tmp_path):
    """Unpacks bytes; what came out as path -> content, and what was warned of."""

    def run(content, **options):
        archive, into, warned = tmp_path / "archive", tmp_path / "deep" / "into", []
        archive.write_bytes(content)
        into.mkdir(parents=True, exist_ok=True)
        unpack(archive, into, silent, warned, **options)
        assert {p.name for p in tmp_path.iterdir()} == {"archive", "deep"}
        assert [p.name for p in (tmp_path / "deep").iterdir()] == ["into"]
        return {p.relative_to(into).as_posix(): p.read_bytes() for p in into.rglob("*") if not p.is_dir()}, warned

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_everything_comes_out_whatever_the_kind_and_the_name(run, kind):
    assert run(KINDS[kind](FILES)) == (FILES, [])


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_only_what_is_wanted_comes_out(run, kind):
    wanted = {name: content for name, content in FILES.items() if name.startswith("set/images/")}
    assert run(KINDS[kind](FILES), wanted=["set/images"])[0] == wanted
    assert run(KINDS[kind]({"set/images2/1": b"", "set/imag": b""}), wanted=["set/images", "no"])[0] == wanted


def test_names_that_begin_with_a_dot_and_a_slash_are_the_same_names(run):
    assert run(tar_bytes({"./set/1": b"x", "./": special(tarfile.DIRTYPE)}), wanted=["set"])[0] == {"set/1": b"x"}


def test_tar_files_in_a_tar_file_come_out_into_folders_of_their_names(run):
    """As ImageNet's training images lie."""
    inner = {
        f"n0000000{i}.tar": tar_bytes({f"n0000000{i}_{j}.JPEG": bytes([i, j]) for j in range(3)}) for i in range(2)
    }

    files, _ = run(tar_bytes({**inner, "README": b"x"}), nested=True)

    expected = {f"n0000000{i}/n0000000{i}_{j}.JPEG": bytes([i, j]) for i in range(2) for j in range(3)}
    assert files == {**expected, "README": b"x"}
    assert set(run(tar_bytes(inner))[0]) == {*files, *inner}  # without being asked they stay files


def test_of_a_file_that_is_there_twice_the_last_one_counts(run):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for content in (b"first", b"second"):
            member = tarfile.TarInfo("a")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    assert run(out.getvalue())[0] == {"a": b"second"}


def test_no_permissions_are_taken_over(run, tmp_path):
    run(tar_bytes({"a": b"#!/bin/sh"}))
    assert not (tmp_path / "deep" / "into" / "a").stat().st_mode & (stat.S_IXUSR | stat.S_ISUID)


# -- hostile -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/tmp/evil", "..", "a\\..\\evil", "C:/evil", "c:evil"])
@pytest.mark.parametrize("make", [tar_bytes, zip_bytes])
def test_a_path_out_of_the_folder_stops_everything(run, tmp_path, make, name):
    with refused(DataError, "archive", "out of its folder"):
        run(make({name: b"evil", "z": b"after"}), wanted=["z"])
    assert not (tmp_path / "evil").exists()
    assert not (tmp_path / "deep" / "evil").exists()
    assert list((tmp_path / "deep" / "into").iterdir()) == []


def test_links_and_devices_are_left_out_and_counted(run, tmp_path):
    (tmp_path / "deep").mkdir()
    hostile = {
        "link": special(tarfile.SYMTYPE, "/etc"),
        "hard": special(tarfile.LNKTYPE, "/etc/passwd"),
        "pipe": special(tarfile.FIFOTYPE),
        "device": special(tarfile.CHRTYPE),
        "disk": special(tarfile.BLKTYPE),
        "link/passwd": b"through the link",
    }

    files, warned = run(tar_bytes(hostile))

    assert files == {"link/passwd": b"through the link"}
    assert not (tmp_path / "deep" / "into" / "link").is_symlink()
    assert warned == [f"archive {tmp_path / 'archive'}: left out 5 link(s) or device(s)"]


def test_links_in_zip_files_are_left_out_too(run):
    hostile = {"link": (stat.S_IFLNK | 0o777, b"/etc"), "link/passwd": b"x", "pipe": (stat.S_IFIFO, b"")}

    files, warned = run(zip_bytes(hostile))

    assert files == {"link/passwd": b"x"}
    assert "left out 2 link(s) or device(s)" in warned[0]


@pytest.mark.parametrize("kind", ["tar.gz", "tar.bz2", "tar.xz", "zip"])
def test_a_bomb_is_stopped_early(run, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(module, "_ALWAYS_ALLOWED_BYTES", 1 << 20)
    bomb = KINDS[kind]({f"{i}": bytes(4 << 20) for i in range(8)})
    assert len(bomb) < 1 << 16

    with refused(DataError, "20 times"):
        run(bomb)
    assert sum(p.stat().st_size for p in (tmp_path / "deep" / "into").iterdir()) < 4 << 20


def test_a_bomb_within_a_tar_file_is_stopped_too(run, monkeypatch):
    monkeypatch.setattr(module, "_ALWAYS_ALLOWED_BYTES", 1 << 20)
    inner = gzip.compress(tar_bytes({"zeros": bytes(8 << 20)}))

    with refused(DataError, "20 times"):
        run(tar_bytes({"n00000001.tar": inner}), nested=True)


def test_too_many_files_are_refused(run, monkeypatch):
    monkeypatch.setattr(module, "MAXIMUM_FILES", 10)
    for make in (tar_bytes, zip_bytes):
        assert len(run(make({f"{i}": b"" for i in range(10)}))[0]) == 10
        with pytest.raises(DataError, match="holds more than 10 files"):
            run(make({f"{i}": b"" for i in range(11)}))


# -- damaged -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"", b"no archive", b"PK\x03\x04", b"\x1f\x8b\x08\0", b"BZh9", b"\xfd7zXZ\0", bytes(512)]
)
def test_what_is_no_archive_is_refused(run, content):
    try:
        files, _ = run(content)
    except DataError as error:
        assert "is damaged, or no tar or zip file" in str(error)
    else:
        assert (files, content) == ({}, bytes(512))  # a tar file of nothing


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_that_ends_early_is_refused(run, kind):
    content = KINDS[kind]({"a": os.urandom(5000), "b": os.urandom(5000)})
    for length in (len(content) // 3, len(content) // 2):
        with refused(DataError, "archive", "damaged"):
            run(content[:length])


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
def test_an_archive_that_ends_between_two_files_is_refused(run, kind):
    """What was there was unpacked, and the rest was silently missing."""
    whole = tar_bytes({"a": b"x" * 512, "b": b"y" * 512})
    cut = whole[:1024] if kind == "tar" else gzip.compress(whole[:1024])
    with refused(DataError, "damaged", "behind a", "neither"):
        run(cut)


def test_a_damaged_header_is_not_taken_for_the_end(run):
    whole = bytearray(tar_bytes({"a": b"x" * 512, "b": b"y" * 512}))
    whole[1024] ^= 1
    with refused(DataError, "damaged", "behind a", "neither"):
        run(bytes(whole))


def test_the_file_that_is_damaged_is_named(run):
    whole = bytearray(zip_bytes({"a": b"x", "b/2.jpg": b"y" * 5000}, zipfile.ZIP_STORED))
    whole[whole.index(b"y" * 100)] ^= 1
    with refused(DataError, "damaged", "'b/2.jpg'", "Bad CRC-32"):
        run(bytes(whole))
    with refused(DataError, "damaged", "'c'", "unexpected end"):
        run(tar_bytes({"a": b"x", "c": b"y" * 5000})[:4000])


@pytest.mark.parametrize("kind", ["tar.gz", "tar.bz2", "tar.xz", "zip", "stored.zip"])
def test_wrong_bytes_in_an_archive_with_a_checksum_are_found(run, kind):
    content = bytearray(KINDS[kind]({"a": os.urandom(5000)}))
    content[len(content) // 2] ^= 0xFF
    with refused(DataError, "archive", "damaged"):
        run(bytes(content))


def test_a_file_that_goes_on_behind_its_end_is_refused(run):
    with refused(DataError, "behind its end"):
        run(gzip.compress(tar_bytes({"a": b"x"}) + bytes(20 << 20)))


def test_an_encrypted_zip_file_is_refused(run):
    content = bytearray(zip_bytes({"a": b"x"}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    with pytest.raises(DataError, match="encrypted"):
        run(bytes(content))


@given(
    st.sampled_from(sorted(KINDS)),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=9),
)
def test_whatever_the_bytes_nothing_but_our_errors_is_raised(tmp_path_factory, kind, changes):
    folder = tmp_path_factory.mktemp("damaged")
    content = bytearray(KINDS[kind](FILES))
    for position, value in changes:
        content[position % len(content)] = value
    (folder / "archive").write_bytes(content)
    (folder / "into").mkdir()
    with contextlib.suppress(LowshotError):
        unpack(folder / "archive", folder / "into", silent, [])
    assert {p.name for p in folder.iterdir()} == {"archive", "into"}


@pytest.mark.parametrize(
    ("names", "fact"),
    [
        (["x" * 256], "no file"),
        (["folder/" + "x" * 300 + "/1.jpg"], "no file"),
        (["a", "a/1.jpg"], "no file"),
        (["a/1.jpg", "a"], "no file"),
        (["/".join(["a"] * 65)], "65 folders"),
        (["a/" * 2000 + "1.jpg"], "2,001 folders"),
    ],
    ids=["long", "long folder", "file, then folder", "folder, then file", "deep", "very deep"],
)
@pytest.mark.parametrize("make", [tar_bytes, zip_bytes])
def test_names_that_no_file_can_have_are_the_archives_fault(run, make, names, fact):
    with refused(DataError, "archive", "holds", fact):
        run(make(dict.fromkeys(names, b"x")))


def test_a_disk_that_is_full_is_not(run, monkeypatch):
    opened = Path.open

    def full(self, mode="r", *arguments, **options):
        if mode == "wb" and self.name == "a":
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(self, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", full)
    with refused(OutputError, "into/a", "No space left"):
        run(tar_bytes({"a": b"x"}))


def test_an_archive_that_cannot_be_read_is_named(tmp_path):
    with refused(DataError, "none", "No such file"):
        unpack(tmp_path / "none", tmp_path, silent, [])


def test_progress_is_told_in_megabytes_of_the_archive(tmp_path):
    (tmp_path / "archive").write_bytes(tar_bytes({"a": os.urandom(3 << 20), "b": b""}))
    told = []

    def track(items, *, what, total):
        items = list(items)
        told.append((what, total, len(items)))
        return iter(items)

    (tmp_path / "into").mkdir()
    unpack(tmp_path / "archive", tmp_path / "into", track, [])
    assert told == [("unpacking archive (MB)", 3, 3)]
