import json
import os
import shutil
import sys
import tracemalloc

import pytest
from PIL import Image

from lowshot.data import draw_from, load_task
from lowshot.errors import DataError, MissingExtraError

pyarrow = pytest.importorskip("pyarrow")


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
            lines = [",".join(columns), *(",".join(str(row.get(c, "")) for c in columns) for row in rows)]
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

    with pytest.raises(DataError, match=r"2 of 6 files are not there, such as .*4.png \(row 5\); --on-bad-image skip"):
        read(write(rows(*"ababab")))


def test_a_file_that_is_named_twice_in_a_split_is_refused_with_both_rows(write):
    twice = [*rows(*"ab"), {"file_name": "images/0.png", "label": "b"}]

    with pytest.raises(DataError, match=r"row 3, names images/0.png again, as row 1 did"):
        read(write(twice))


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "", "images/../../x", "C:\\x.png", "c:x.png"])
def test_a_path_out_of_the_folder_is_refused(write, name):
    with pytest.raises(DataError, match=r"row 1: file_name is .*; expected a path below the table's folder"):
        read(write([{"file_name": name, "label": "a"}]))


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ([{"file": "a.png", "label": "a"}], "row 1, has no column file_name; it has .*; expected file_name, label and"),
        ([{"file_name": "a.png"}], "row 1, has no column label"),
        ([{"file_name": "images/0.png", "label": "  "}], r"row 1: label is '  '; expected the name of a class"),
        (rows(*"ab", split=["train", "tests"]), "row 2: split is 'tests'; expected one of train, val, valid"),
        (rows(*"ab", split=["test", "test"]), "has a test split and no train; expected images to learn from"),
        (rows(*"aac", split=["train", "train", "test"]), "class 'c' is in test but not in train"),
        (rows("a", "a"), "has one class, 'a'; expected at least 2"),
        (rows("Cat", "cat"), "classes 'Cat' and 'cat' differ only in case"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_with_the_row(write, table, said):
    with pytest.raises(DataError, match=said):
        read(write(table))


@pytest.mark.parametrize("label", [None, 1.5, True, ["a"], float("nan")])
def test_a_label_that_is_no_name_is_refused(pictures, label):
    (pictures / "pets.jsonl").write_text(json.dumps({"file_name": "images/0.png", "label": label}))

    with pytest.raises(DataError, match=r"row 1: label is .*; expected the name of a class"):
        read(pictures / "pets.jsonl")


@pytest.mark.parametrize(
    ("suffix", "content", "said"),
    [
        ("csv", b"", "has no rows; expected one per image"),
        ("csv", b"file_name,label\n", "has no rows"),
        ("csv", b"file_name;label\na.png;a\n", "has no column file_name; it has file_name;label; expected"),
        ("csv", b"file_name,label\n\xff.png,a\n", "cannot be read as CSV in UTF-8"),
        ("csv", b"file_name,label\na\0.png,a\n", "(cannot be read as CSV|expected a path below the table)"),
        ("csv", b"file_name,label\na.png\n", "row 1: label is None; expected the name of a class"),
        ("jsonl", b"[1]\n", r"row 1, is \[1\]; expected an object"),
        ("jsonl", b"{\n", "cannot be read as one JSON object per line"),
        ("jsonl", b"[" * 100_000, "cannot be read as one JSON object per line"),
        ("jsonl", b"\xff", "cannot be read as one JSON object per line"),
        ("parquet", b"PAR1 no", "cannot be read as Parquet"),
        ("parquet", b"", "cannot be read as Parquet"),
    ],
)
def test_damaged_tables_are_refused(pictures, suffix, content, said):
    (pictures / f"pets.{suffix}").write_bytes(content)
    with pytest.raises(DataError, match=rf"pets\.{suffix}.* {said}"):
        read(pictures / f"pets.{suffix}")


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_table_that_is_not_there_is_named(tmp_path, suffix):
    with pytest.raises(DataError, match=rf"data .*none\.{suffix} does not exist"):
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
    with pytest.raises(MissingExtraError, match=r"needs the package pyarrow: pip install 'lowshot\[datasets\]'"):
        read(pictures / "pets.parquet")


def test_many_rows_are_read_with_little_memory(tmp_path):
    """What is kept is a name and a label for each, and no image."""
    (tmp_path / "i").mkdir()
    for number in range(2_000):
        with (tmp_path / "i" / f"{number}.png").open("wb") as file:
            file.truncate(number)
    lines = "\n".join(f"i/{number}.png,class {number % 100}" for number in range(2_000))
    path = csv(tmp_path, f"file_name,label\n{lines}\n")
    tracemalloc.start()
    task = load_task(path)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert (len(task.train), len(task.class_names)) == (2_000, 100)
    assert kept < 1e6
    assert peak < 4e6
