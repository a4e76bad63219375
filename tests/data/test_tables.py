import json
import os
import shutil
import sys
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lowshot.data import draw_from, load_task
from lowshot.errors import DataError, MissingExtraError
from refusing import refused

pyarrow = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def pictures(tmp_path):
    """``images/<number>.png``, six of them, each of its own colour."""
    (tmp_path / "images").mkdir()
    for number in range(6):
        Image.new("RGB", (3, 2), (number, 0, 255)).save(tmp_path / "images" / f"{number}.png")
    return tmp_path


@pytest.fixture(params=["csv", "jsonl", "parquet"])
def write(request, pictures):
    """Writes rows as a table of each format in turn."""

    def write(rows):
        from pyarrow import Table, parquet

        path = pictures / f"pets.{request.param}"
        columns = list(dict.fromkeys(column for row in rows for column in row))
        if request.param == "csv":
            cells = [["" if row.get(c) is None else str(row[c]) for c in columns] for row in rows]
            lines = [",".join(line) for line in (columns, *cells)]
            path.write_text("\n".join(lines), encoding="utf-8")
        elif request.param == "jsonl":
            path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
        else:
            parquet.write_table(Table.from_pydict({c: [row.get(c) for row in rows] for c in columns}), path)
        return path

    return write


def rows(*labels, **columns):
    return [
        {"file_name": f"images/{i}.png", "label": label, **{key: value[i] for key, value in columns.items()}}
        for i, label in enumerate(labels)
    ]


def read(path, **options):
    warned = []
    return load_task(path, warn=warned, **options), warned


def place(path, row):
    """The name of a row in messages; a CSV file has its header in line 1."""
    return {".csv": f"line {row + 1}", ".jsonl": f"line {row}", ".parquet": f"row {row}"}[path.suffix]


def csv(pictures, text, encoding="utf-8"):
    (pictures / "pets.csv").write_bytes(text.encode(encoding))
    return pictures / "pets.csv"


# -- what is read ------------------------------------------------------------------------------------------------------


def test_every_row_is_an_image_of_the_train_split(write):
    task, warned = read(write(rows("maine_coon", "siamese", "maine_coon")))

    assert (task.name, task.class_names, warned) == ("pets", ("maine coon", "siamese"), [])
    assert sorted(zip(task.train.identities, task.train.labels.tolist(), strict=True)) == [
        ("images/0.png", 0),
        ("images/1.png", 1),
        ("images/2.png", 0),
    ]
    for identity, index in zip(task.train.identities, range(3), strict=True):
        assert task.train.images[index][0, 0, 0] == int(identity[7])
    assert (task.validation, task.test) == (None, None)


@pytest.fixture
def two_tables(write):
    """A table of each of two splits, in the same format."""
    first = write(rows("cat", "dog", "cat"))
    train = first.rename(first.with_stem("train"))
    test = write(rows("cat", "dog", "cat", "dog")[3:])
    return {"train": train, "test": test.rename(test.with_stem("test"))}


def test_each_split_may_be_a_table_of_its_own(two_tables, pictures):
    task, warned = read(two_tables)
    assert (task.name, task.class_names, warned) == (pictures.name, ("cat", "dog"), [])
    assert (len(task.train), len(task.test), task.validation) == (3, 1, None)
    assert task.test.images[0][0, 0, 0] == 3


def test_one_split_may_be_a_table_and_another_a_folder(two_tables, pictures):
    (pictures / "folder" / "dog").mkdir(parents=True)
    shutil.copy(pictures / "images" / "5.png", pictures / "folder" / "dog")
    task, _ = read({**two_tables, "test": pictures / "folder"})
    assert task.test.identities == ("dog/5.png",)
    assert task.test.labels.tolist() == [1]


def test_a_table_of_a_split_may_say_so_in_each_row_and_nothing_else(write):
    path = write(rows("cat", "dog", split=["train", "training"]))
    assert len(read({"train": path})[0].train) == 2
    path = write(rows("cat", "dog", split=["train", "test"]))
    with refused(DataError, "split test", "handed over", "train"):
        read({"train": path})


def test_a_table_in_memory_beside_a_path_is_refused(two_tables):
    with refused(DataError, "test is a dict", "path"):
        read({**two_tables, "test": {"image": ["a.png"], "label": ["cat"]}})


def test_a_table_of_a_split_that_is_not_there_is_said(two_tables, pictures):
    with refused(DataError, "missing.csv", "does not exist"):
        read({**two_tables, "test": pictures / "missing.csv"})


def test_a_column_split_divides_it(write):
    task, _ = read(write(rows(*"abbaab", split=["train", "train", "val", "validation", "test", "Test"])))

    assert sorted(task.train.identities) == ["images/0.png", "images/1.png"]
    assert sorted(task.validation.identities) == ["images/2.png", "images/3.png"]
    assert task.test.identities == ("images/4.png", "images/5.png")
    assert task.test.labels.tolist() == [0, 1]


def test_labels_may_be_numbers_and_other_columns_are_passed_over(write):
    task, warned = read(write(rows(10, 9, width=[3, 3])))

    assert (task.class_names, warned) == (("10", "9"), [])


def test_the_order_of_rows_and_the_place_of_the_folder_change_no_draw(write, pictures, tmp_path_factory):
    def drawn(path):
        task = load_task(path)
        return [task.train.identities[i] for i in draw_from(task, 2, 1).indices]

    before = drawn(write(rows(*"ababab")))
    assert drawn(write(rows(*"ababab")[::-1])) == before
    path = write(rows(*"ababab"))
    moved = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(pictures, moved, dirs_exist_ok=True)
    assert drawn(moved / path.name) == before


def test_a_space_after_a_comma_is_no_part_of_a_name(pictures):
    """The header was refused for want of a column ``label``."""
    path = csv(pictures, 'file_name, label , split\nimages/0.png, cat, train\nimages/1.png, "dog, big", train\n')
    task, _ = read(path)

    assert (task.class_names, task.train.identities) == (("cat", "dog, big"), ("images/0.png", "images/1.png"))


def test_what_spreadsheets_write_is_read(pictures):
    """A mark of the byte order, quotes, CRLF, and a comma in a name."""
    path = csv(pictures, '\ufefffile_name,label\r\nimages/0.png,"cat, big"\r\nimages/1.png,"dog"\r\n')

    assert read(path)[0].class_names == ("cat, big", "dog")


def test_names_of_files_are_normalised(pictures):
    path = csv(pictures, "file_name,label\n./images/0.png,a\nimages//1.png,b\n")

    assert read(path)[0].train.identities == ("images/0.png", "images/1.png")


def test_the_suffix_may_be_in_capitals_and_a_name_without_a_slash(pictures, monkeypatch):
    csv(pictures, "file_name,label\nimages/0.png,a\nimages/1.png,b\n").rename(pictures / "PETS.CSV")
    monkeypatch.chdir(pictures)

    assert read("PETS.CSV")[0].class_names == ("a", "b")


# -- warned of ---------------------------------------------------------------------------------------------------------


def test_missing_and_bad_images_are_left_out_on_request_each_with_a_warning(write, pictures):
    (pictures / "images" / "0.png").unlink()
    (pictures / "images" / "1.png").write_text("not an image")

    task, warned = read(write(rows(*"ababab")), on_bad_image="skip")

    assert len(task.train) == 4
    assert len(warned) == 2
    assert warned[0].endswith("0.png does not exist")
    assert "1.png is not an image" in warned[1]


def test_one_image_in_two_splits_or_classes_is_said(write, pictures):
    for copy, original in ((3, 0), (5, 1)):
        (pictures / "images" / f"{copy}.png").write_bytes((pictures / "images" / f"{original}.png").read_bytes())
    split = ["train", "train", "train", "test", "train", "train"]

    _, warned = read(write(rows(*"abbaaa", split=split)))

    assert len(warned) == 2
    assert "1 image(s) are in two splits at once" in warned[0]
    assert "1 image(s) are in two classes at once" in warned[1]


def test_one_file_in_two_splits_is_said(write):
    twice = [*rows(*"ab", split=["train", "train"]), {"file_name": "images/0.png", "label": "a", "split": "test"}]

    assert "1 image(s) are in two splits at once" in read(write(twice))[1][0]


# -- refused -----------------------------------------------------------------------------------------------------------


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


def test_a_folder_with_the_name_of_a_table_is_a_folder(pictures):
    for name in ("a", "b"):
        (pictures / "set.csv" / name).mkdir(parents=True)
        (pictures / "images" / f"{'ab'.index(name)}.png").rename(pictures / "set.csv" / name / "1.png")

    assert read(pictures / "set.csv")[0].class_names == ("a", "b")


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


def test_many_rows_are_read_with_little_memory(tmp_path):
    """What is kept is a name and a label for each, and no image."""
    (tmp_path / "i").mkdir()
    for number in range(2_000):
        with (tmp_path / "i" / f"{number}.png").open("wb") as file:
            file.truncate(number)
    lines = "\n".join(f"i/{number}.png,class {number % 100}" for number in range(2_000))
    path = csv(tmp_path, f"file_name,label\n{lines}\n")
    load_task(path)  # what is imported on the way is not the rows' memory
    tracemalloc.start()
    task = load_task(path)
    remaining, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert (len(task.train), len(task.class_names)) == (2_000, 100)
    assert remaining < 1e6
    assert peak < 4e6
