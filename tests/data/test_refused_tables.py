"""Tables of images that cannot be used, each refused with the place of what is wrong."""

import json
import os
import sys
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.tables import csv, place, read, rows
from lowshot.data import load_task
from lowshot.errors import DataError, MissingExtraError
from refusing import refused

pyarrow = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.parquet")


def test_missing_files_are_refused_before_anything_begins(write, pictures):
    (pictures / "images" / "4.png").unlink()
    (pictures / "images" / "5.png").unlink()

    path = write(rows(*"ababab"))
    with refused(DataError, "2 of 6", "4.png", place(path, 5), "--on-bad-image skip"):
        read(path)


def test_a_file_that_is_named_twice_in_a_split_is_refused_with_both_rows(write):
    twice = [*rows(*"ab"), {"file_name": "images/0.png", "label": "b"}]

    path = write(twice)
    with refused(DataError, place(path, 3), "images/0.png", place(path, 1)):
        read(path)


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "", "images/../../x", "C:\\x.png", "c:x.png"])
def test_a_path_out_of_the_folder_is_refused(write, name):
    path = write([{"file_name": name, "label": "a"}])
    with refused(DataError, path, place(path, 1), "file_name", repr(name)):
        read(path)


@pytest.mark.parametrize(
    ("table", "number", "facts"),
    [
        ([{"file": "a.png", "label": "a"}], 1, ("no column file_name", "split")),
        ([{"file_name": "a.png"}], 1, ("no column label", "split")),
        ([{"file_name": "images/0.png", "label": "  "}], 1, ("label is '", "a class")),
        (rows(*"ab", split=["train", "tests"]), 2, ("split is 'tests'", "train, val, valid")),
        (rows(*"ab", split=["test", "test"]), None, ("a test split", "no train")),
        (rows(*"aac", split=["train", "train", "test"]), None, ("class 'c'", "in test")),
        (rows("a", "a"), None, ("one class, 'a'", 2)),
        (rows("Cat", "cat"), None, ("'Cat' and 'cat'",)),
    ],
)
def test_a_table_that_does_not_fit_is_refused_with_the_row(write, table, number, facts):
    path = write(table)
    where = [] if number is None else [place(path, number)]
    with refused(DataError, path.stem, *where, *facts):
        read(path)


@pytest.mark.parametrize("label", [None, 1.5, True, ["a"], float("nan")])
def test_a_label_that_is_no_name_is_refused(pictures, label):
    (pictures / "pets.jsonl").write_text(json.dumps({"file_name": "images/0.png", "label": label}))

    with refused(DataError, "line 1", "label is", "a class"):
        read(pictures / "pets.jsonl")


@pytest.mark.parametrize(
    ("suffix", "content", "facts"),
    [
        ("csv", b"", ("no rows",)),
        ("csv", b"file_name,label\n", ("no rows",)),
        ("csv", b"file_name;label\na.png;a\n", ("no column file_name", "file_name;label")),
        ("csv", b"file_name,label\n\xff.png,a\n", ("as CSV", "UTF-8")),
        ("csv", b"file_name,label\na\0.png,a\n", ("line 2",)),
        ("csv", b"file_name,label\na.png\n", ("line 2", "label is None")),
        ("jsonl", b"[1]\n", ("line 1", "[1]", "an object")),
        ("jsonl", b"{\n", ("one JSON object",)),
        ("jsonl", b"[" * 100_000, ("one JSON object",)),
        ("jsonl", b"\xff", ("one JSON object",)),
        ("parquet", b"PAR1 no", ("as Parquet",)),
        ("parquet", b"", ("as Parquet",)),
    ],
)
def test_damaged_tables_are_refused(pictures, suffix, content, facts):
    (pictures / f"pets.{suffix}").write_bytes(content)
    with refused(DataError, f"pets.{suffix}", *facts):
        read(pictures / f"pets.{suffix}")


@pytest.mark.parametrize("unnamed", [None, "", "  "])
def test_rows_without_a_split_among_rows_with_one_are_refused(write, unnamed):
    """They were training images to JSON and Parquet, whatever the table's author meant."""
    path = write(rows(*"abab", split=["train", "test", unnamed, unnamed]))
    with refused(DataError, "2 row(s)", place(path, 3), "split"):
        read(path)


@pytest.mark.parametrize("unnamed", [None, ""])
def test_a_column_split_that_is_empty_is_none(write, unnamed):
    assert len(read(write(rows(*"abab", split=[unnamed] * 4)))[0].train) == 4


def test_one_file_under_two_labels_is_refused_also_across_splits(write):
    twice = [*rows(*"ab", split=["train", "train"]), {"file_name": "images/0.png", "label": "b", "split": "test"}]

    with refused(DataError, "images/0.png", "'a' in train", "'b' in test"):
        read(write(twice))


@pytest.mark.parametrize("column", ["file_name", "label", "split"])
def test_a_column_that_is_there_twice_is_refused(pictures, column):
    cells = {"file_name": "images/0.png", "label": "a", "split": "train"}
    (pictures / "pets.csv").write_text(f"{','.join(cells)},{column}\n{','.join(cells.values())},other\n")
    (pictures / "pets.jsonl").write_text(f'{{{json.dumps(cells)[1:-1]}, "{column}": "other"}}')
    arrays = [pyarrow.array([value]) for value in (*cells.values(), "other")]
    pyarrow.parquet.write_table(pyarrow.table(arrays, [*cells, column]), pictures / "pets.parquet")

    for suffix in ("csv", "jsonl", "parquet"):
        with refused(DataError, f"pets.{suffix}", f"2 columns {column}"):
            read(pictures / f"pets.{suffix}")


def test_a_row_with_more_cells_than_the_header_is_refused(pictures):
    """A comma that nobody quoted moved the cells behind it, and the label lost its end."""
    path = csv(pictures, "file_name,label\nimages/0.png,cat, big\nimages/1.png,dog\n")
    with refused(DataError, "line 2", "3 cells", 2, '"cat, big"'):
        read(path)


def test_a_quote_that_is_never_closed_is_refused(pictures):
    """It made one label of all the rows behind it."""
    path = csv(pictures, 'file_name,label\nimages/0.png,"cat\nimages/1.png,dog\nimages/2.png,dog\n')
    with refused(DataError, "pets.csv", "line 4", "unexpected end"):
        read(path)


def test_json_lines_may_begin_with_a_byte_order_mark(pictures):
    lines = "\r\n".join(json.dumps(row) for row in rows(*"ab"))
    (pictures / "pets.jsonl").write_bytes(f"\ufeff{lines}\r\n".encode())

    assert read(pictures / "pets.jsonl")[0].class_names == ("a", "b")


def test_an_endless_line_is_refused_before_it_fills_the_memory(pictures):
    for suffix, head in (("csv", b"file_name,label\n"), ("jsonl", b"\n")):
        path = pictures / f"pets.{suffix}"
        path.write_bytes(head + b'"')
        os.truncate(path, 1 << 30)  # a hole of a GB
        tracemalloc.start()
        with refused(DataError, path, "line 2", "1,048,576"):
            read(path)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 32e6


def test_half_a_character_is_no_name(pictures):
    """JSON can write it, and no draw or record can."""
    path = pictures / "pets.jsonl"
    for row, facts in (
        ({"file_name": "\ud800.png", "label": "a"}, ("line 1", "file_name", r"'\ud800.png'")),
        ({"file_name": "images/0.png", "label": "\ud800"}, (r"'\ud800'", "UTF-8")),
    ):
        path.write_text("\n".join(map(json.dumps, [row, *rows(*"xb")[1:]])))
        with refused(DataError, *facts) as caught:
            read(path)
        str(caught.value).encode()


def test_a_name_that_no_file_can_have_is_a_missing_file(write):
    path = write([*rows(*"ab"), {"file_name": f"{'x' * 300}.png", "label": "a"}])
    with refused(DataError, "1 of 3", place(path, 3), "--on-bad-image skip"):
        read(path)
    task, warned = read(path, on_bad_image="skip")
    assert (len(task.train), len(warned)) == (2, 1)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.timeout(20)
def test_a_named_pipe_is_not_waited_for(pictures, write):
    os.mkfifo(pictures / "pipe.png")
    os.mkfifo(pictures / "pipe.csv")
    path = write([*rows(*"ab"), {"file_name": "pipe.png", "label": "a"}])

    with refused(DataError, "1 of 3", "pipe.png", "--on-bad-image skip"):
        read(path)
    task, warned = read(path, on_bad_image="skip")
    assert (len(task.train), len(warned)) == (2, 1)
    assert "pipe.png is a pipe, socket or device; expected an image file" in warned[0]
    with refused(DataError, "pipe.csv", "no file"):
        read(pictures / "pipe.csv")


@given(st.sampled_from(["csv", "jsonl", "parquet"]), st.binary(max_size=200), st.booleans())
def test_whatever_the_bytes_nothing_but_our_errors_is_raised(tmp_path_factory, suffix, content, headed):
    path = tmp_path_factory.mktemp("garbage") / f"pets.{suffix}"
    heads = {"csv": b"file_name,label,split\n", "jsonl": b'{"file_name": "', "parquet": b"PAR1"}
    path.write_bytes((heads[suffix] if headed else b"") + content)

    with pytest.raises(DataError) as caught:
        load_task(path)
    str(caught.value).encode()


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_table_that_is_not_there_is_named(tmp_path, suffix):
    with refused(DataError, f"none.{suffix}", "does not exist"):
        read(tmp_path / f"none.{suffix}")


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read everything")
def test_a_table_that_may_not_be_read_is_refused(pictures):
    path = csv(pictures, "file_name,label\n")
    path.chmod(0)
    with pytest.raises(DataError, match="Permission denied"):
        read(path)


def test_parquet_without_pyarrow_names_the_extra(pictures, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (pictures / "pets.parquet").touch()
    with refused(MissingExtraError, "pets.parquet", "package pyarrow", "pip install"):
        read(pictures / "pets.parquet")
