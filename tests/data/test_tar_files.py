"""Archives that the module tarfile lets through."""

import gzip
import io
import tarfile
import tracemalloc

import pytest

from lowshot.data.tar_files import MAXIMUM_HEADER_BYTES, tar_members
from refusing import refused


def header(name="file", size=0, kind=tarfile.REGTYPE):
    """A member's first block; a size below zero is written as GNU tar writes large ones, in base 256."""
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


def padded(content):
    return content + bytes(-len(content) % 512)


def pax(*records, kind=tarfile.XHDTYPE):
    """Extended headers as POSIX has them, for what follows."""
    lines = b""
    for keyword, value in records:
        line = b" %s=%s\n" % (keyword.encode(), value)
        length = len(line) + 1
        while len(str(length)) + len(line) != length:
            length += 1
        lines += str(length).encode() + line
    return header("pax", len(lines), kind) + padded(lines)


END = bytes(1024)
ONE = header("one", 3) + padded(b"one")
TWO = header("two", 3) + padded(b"two")


def read(content):
    """Name and content of each plain file."""
    return [
        (member.name, opener().read() if member.isreg() else None)
        for member, opener in tar_members(io.BytesIO(content))
    ]


def test_an_honest_archive_is_read_whole():
    assert read(ONE + TWO + END) == [("one", b"one"), ("two", b"two")]
    assert read(gzip.compress(ONE + TWO + bytes(10240))) == [("one", b"one"), ("two", b"two")]
    assert read(ONE + header("folder", kind=tarfile.DIRTYPE) + END) == [("one", b"one"), ("folder", None)]
    assert read(END) == []


def test_long_names_in_either_manner_are_read():
    name = "n" * 1000
    gnu = header("././@LongLink", 1001, tarfile.GNUTYPE_LONGNAME) + padded(name.encode() + b"\0")

    assert read(gnu + ONE + TWO + END)[0][0] == name
    assert read(pax(("path", name.encode())) + ONE + TWO + END)[0][0] == name


@pytest.mark.parametrize("end", [b"", bytes(100), bytes(511)])
def test_without_the_mark_of_the_end_it_was_cut_short(end):
    with pytest.raises(tarfile.ReadError, match="behind two: "):
        read(ONE + TWO + end)


@pytest.mark.parametrize("damage", [b"\1", b"x" * 512, b"PK\3\4"])
def test_a_damaged_header_is_not_the_end(damage):
    damaged = damage + TWO[len(damage) :]
    with refused(tarfile.ReadError, "behind one", "neither"):
        read(ONE + damaged + ONE + END)


def test_a_hole_in_the_place_of_a_header_is_not_the_end():
    with refused(tarfile.ReadError, "behind its end"):
        read(ONE + bytes(512) + TWO[512:] + END)


def test_two_archives_one_behind_the_other_are_not_one():
    with refused(tarfile.ReadError, "behind its end"):
        read(ONE + END + TWO + END)


@pytest.mark.parametrize("length", [1, 512, 700, 1024, 1500, 2048])
def test_whatever_is_cut_off_is_missed(length):
    for whole in (ONE + TWO + END, gzip.compress(ONE + TWO + END)):
        with pytest.raises((tarfile.ReadError, EOFError)):
            read(whole[: min(length, len(whole) - 1)])


@pytest.mark.parametrize(
    "bomb",
    [
        header("pax", 1 << 30, tarfile.XHDTYPE),
        header("pax", 1 << 30, tarfile.XGLTYPE),
        header("././@LongLink", 1 << 30, tarfile.GNUTYPE_LONGNAME),
        header("././@LongLink", 1 << 30, tarfile.GNUTYPE_LONGLINK),
    ],
    ids=["pax", "global pax", "long name", "long link"],
)
@pytest.mark.parametrize("before", [b"", ONE], ids=["first", "second"])
def test_a_header_that_would_fill_the_memory_is_not_read(bomb, before):
    """A KB of gzip may be a MB of zeros."""
    content = gzip.compress(before + bomb + bytes(64 << 20))
    tracemalloc.start()
    with refused(tarfile.ReadError, "a header", "64 KB"):
        read(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4e6


def test_many_headers_for_one_member_are_too_many():
    one = pax(("comment", b"x" * 4000))
    few, many = (MAXIMUM_HEADER_BYTES // len(one) - 1, MAXIMUM_HEADER_BYTES // len(one) + 1)

    assert read(one * few + ONE + END) == [("one", b"one")]
    with refused(tarfile.ReadError, "a header", "64 KB"):
        read(one * many + ONE + END)


def test_a_map_of_holes_that_would_fill_the_memory_is_not_read():
    """The pieces of a sparse file in format 1.0 are listed in its content, two bytes for each."""
    sparse = pax(("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"1"))
    pieces = padded(b"%d\n" % (16 << 20) + b"1\n" * (32 << 20))
    content = gzip.compress(sparse + header("holes", len(pieces)) + pieces + END, 1)
    tracemalloc.start()
    with refused(tarfile.ReadError, "a header", "64 KB"):
        read(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16e6


def test_a_sparse_file_is_refused():
    sparse = pax(("GNU.sparse.map", b"0,3"), ("GNU.sparse.size", b"1000000000000"))
    with refused(tarfile.ReadError, "one", "sparse"):
        read(sparse + ONE + END)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("before", [b"", TWO], ids=["first", "second"])
@pytest.mark.parametrize("size", [b"-512", b"-1024", b"-2048"])
def test_a_negative_size_leads_into_no_circle(before, size):
    with pytest.raises(tarfile.ReadError):
        read(before + pax(("size", size)) + ONE + END)


@pytest.mark.timeout(20)
def test_a_negative_size_in_the_header_itself_neither():
    for kind in (tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
        with pytest.raises(tarfile.ReadError):
            read(ONE + header("back", -1024, kind) + END)


@pytest.mark.parametrize("before", [b"", TWO], ids=["first", "second"])
def test_whatever_a_header_leads_into_is_an_error_of_the_archive(before):
    with pytest.raises(tarfile.ReadError, match="behind two: " if before else "at its beginning: "):
        read(before + pax(("GNU.sparse.map", b"x,y")) + ONE + END)  # int() of it, deep inside of tarfile


def test_only_plain_files_can_be_opened():
    link = header("link", kind=tarfile.SYMTYPE)
    (_, opener), *_ = tar_members(io.BytesIO(link + ONE + END))
    with pytest.raises(tarfile.ReadError, match="link has no content"):
        opener()


def test_what_may_not_be_compressed_is_not_decompressed():
    with pytest.raises(tarfile.ReadError, match="at its beginning: "):
        list(tar_members(io.BytesIO(gzip.compress(ONE + END)), may_be_compressed=False))


def test_headers_are_not_kept():
    content = b"".join(header(f"{number}") for number in range(2000)) + END
    file = io.BytesIO(content)
    tracemalloc.start()
    count = sum(1 for _ in tar_members(file))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert count == 2000
    assert peak < 2e5
