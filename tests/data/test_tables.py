import shutil
import tracemalloc

import pytest

from data.tables import csv, read, rows
from lowshot.data import draw_from, load_task
from lowshot.errors import DataError
from refusing import refused

pyarrow = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.parquet")


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


def test_a_folder_with_the_name_of_a_table_is_a_folder(pictures):
    for name in ("a", "b"):
        (pictures / "set.csv" / name).mkdir(parents=True)
        (pictures / "images" / f"{'ab'.index(name)}.png").rename(pictures / "set.csv" / name / "1.png")

    assert read(pictures / "set.csv")[0].class_names == ("a", "b")


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


# -- memory ------------------------------------------------------------------------------------------------------------


def test_many_rows_are_read_with_little_memory(tmp_path):
    """What is kept is a name and a label for each, and no image."""
    (tmp_path / "i").mkdir()
    for number in range(2_000):
        with (tmp_path / "i" / f"{number}.png").open("wb") as file:
            file.truncate(number)
    lines = "\n".join(f"i/{number}.png,class {number % 100}" for number in range(2_000))
    path = csv(tmp_path, f"file_name,label\n{lines}\n")
    load_task(path)  # what is imported on the way is not the rows' memory

    def traced():
        tracemalloc.start()
        task = load_task(path)
        memory = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (len(task.train), len(task.class_names)) == (2_000, 100)
        return memory

    remaining, peak = min(
        traced() for _ in range(2)
    )  # now and then Python's table of all names grows by 4 MB meanwhile
    assert remaining < 1e6
    assert peak < 4e6
