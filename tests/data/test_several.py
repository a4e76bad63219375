"""Images of several labels: read from tables, lists, folders by content and ``datasets``; drawn k of each class."""

import hashlib
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lowshot.data import Examples, MemoryImages, Task, draw_from, load_task, task_from, write_draw
from lowshot.data.shots import draw_shots_of_several
from lowshot.errors import DataError, InputError
from lowshot.settings import Recipe
from refusing import refused


def picture(path, level):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (3, 2), (level, 0, 255)).save(path)


@pytest.fixture
def table(tmp_path):
    """``table(text, suffix)``: a table of that text beside four images."""
    for number in range(4):
        picture(tmp_path / f"{number}.png", number)

    def written(text, suffix=".csv"):
        path = tmp_path / f"table{suffix}"
        path.write_text(text)
        return path

    return written


def shown(task, split="train"):
    examples = task.splits()[split]
    return {name: task.names_at(split, row) for row, name in enumerate(examples.identities)}


EXPECTED = {"0.png": ["cat", "dog"], "1.png": ["dog"], "2.png": [], "3.png": ["cat", "polar bear"]}


@pytest.mark.parametrize(
    "text",
    [
        "file_name,label\n0.png,cat;dog\n1.png, dog\n2.png,\n3.png,polar_bear ; cat;cat\n",
        "file_name,label\n0.png,dog\n0.png,cat\n1.png,dog\n2.png,\n3.png,cat\n3.png,polar_bear\n",
    ],
)
def test_a_cell_of_a_table_has_several_labels_or_an_image_several_rows(table, text):
    task = load_task(table(text), several=";")
    assert task.class_names == ("cat", "dog", "polar bear") and task.has_several
    assert shown(task) == EXPECTED
    assert load_task(table(text.replace(";", "|")), several="|").train.labels.tolist() == task.train.labels.tolist()


def test_a_line_of_json_has_a_list(table):
    cells = {"0.png": ["dog", "cat"], "1.png": "dog", "2.png": [], "3.png": "polar_bear;cat"}
    text = "".join(json.dumps({"file_name": name, "label": label}) + "\n" for name, label in cells.items())
    assert shown(load_task(table(text, ".jsonl"), several=";")) == EXPECTED
    with pytest.raises(DataError, match="--labels-per-image several"):
        load_task(table(text, ".jsonl"))


def test_a_label_that_is_none_is_refused(table):
    for cell in ("cat;;dog", "cat;"):
        with refused(DataError, "line 2", f"'{cell}'", "';'"):
            load_task(table(f"file_name,label\n0.png,{cell}\n1.png,dog\n"), several=";")


def test_an_image_in_two_folders_of_classes_has_both_labels_where_that_is_asked_for(tmp_path):
    for level, places in enumerate((("cat/a", "dog/b"), ("cat/c",), ("dog/d", "dog/e"))):
        for place in places:
            picture(tmp_path / "train" / f"{place}.png", level)
    picture(tmp_path / "test/cat/a.png", 9)
    picture(tmp_path / "test/dog/a.png", 9)
    warn = []
    task = load_task(tmp_path, warn=warn, several=";")
    assert shown(task) == {"cat/a.png": ["cat", "dog"], "cat/c.png": ["cat"], "dog/d.png": ["dog"]}
    assert shown(task, "test") == {"cat/a.png": ["cat", "dog"]}
    assert "2 file(s) of train are copies of others, such as dog/b.png of cat/a.png" in warn[1]
    one = load_task(tmp_path, warn=(warned := []))
    assert len(one.train) == 5 and any("are in two classes at once" in line for line in warned)


def test_lists_in_memory_have_lists_or_a_table_of_labels():
    images = [np.full((2, 3, 3), level, np.uint8) for level in range(4)]
    task = task_from(images, [["b", "a"], "a", [], {"b"}], several=";")
    assert task.train.labels.tolist() == [[1, 1], [1, 0], [0, 0], [0, 1]]
    numbers = task_from(images, np.array([[1, 1], [1, 0], [0, 0], [0, 1]]), several=";")
    assert numbers.train.labels.tolist() == task.train.labels.tolist()
    assert numbers.class_labels == (0, 1)
    with pytest.raises(DataError, match="4 images have 3 labels"):
        task_from(images, [["a"], ["b"], ["a"]], several=";")
    with pytest.raises(DataError, match="other numbers than 0 and 1"):
        task_from(images, np.full((4, 2), 2), several=";")
    with pytest.raises(DataError):
        task_from(images, [["b", "a"], ["a"], [], ["b"]])


def test_a_task_of_one_label_is_one_of_several_where_that_is_asked_for_and_never_the_other_way():
    task = load_task("digits", several=";")
    assert task.train.labels.shape == (len(task.train), 10) and (task.train.labels.sum(1) == 1).all()
    with refused(DataError, "shapes", "--labels-per-image several"):
        load_task("shapes")
    with pytest.raises(DataError, match="images have several labels"):
        task_from(task)


def test_columns_of_lists_of_the_hub_are_read():
    datasets = pytest.importorskip("datasets")
    from lowshot.data.hub import _Split

    def png(level):
        Image.new("RGB", (3, 2), (level, 0, 255)).save(file := io.BytesIO(), "PNG")
        return {"bytes": file.getvalue(), "path": None}

    kind = datasets.Sequence(datasets.ClassLabel(names=["cat", "polar_bear"]))
    features = datasets.Features({"image": datasets.Image(), "label": kind})
    content = {"image": [png(0), png(1), png(2)], "label": [[1, 0], [], [1]]}
    rows = datasets.Dataset.from_dict(content, features=features)
    split = _Split("hf:x", "train", rows, (), {}, ";")
    assert split.known_names == ["cat", "polar_bear"]
    assert split.names() == [("polar bear", "cat"), (), ("polar bear",)]
    with refused(DataError, "column label", "--labels-per-image several"):
        _Split("hf:x", "train", rows, (), {}, None)


# -- draws -------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 50), st.integers(1, 5))
def test_each_class_has_k_images_or_all_it_has_and_draws_are_nested(seed, shots):
    generator = np.random.default_rng(seed)
    labels = (generator.random((40, 5)) < np.linspace(0.03, 0.5, 5)).astype(np.int64)
    names = [f"image {number}" for number in range(40)]
    drawn = draw_shots_of_several(names, labels, shots, seed)
    counts, all_of_them = labels[drawn.indices].sum(0), labels.sum(0)
    assert (counts >= np.minimum(shots, all_of_them)).all()
    assert (labels[drawn.indices].sum(1) == 0).sum() == min(shots, (labels.sum(1) == 0).sum())
    assert drawn.short == {c: n for c, n in enumerate(all_of_them.tolist()) if 0 < n < shots}
    more = draw_shots_of_several(names, labels, shots + 1, seed)
    assert set(drawn.indices.tolist()) <= set(more.indices.tolist())
    order = generator.permutation(40)
    again = draw_shots_of_several([names[i] for i in order], labels[order], shots, seed)
    assert order[again.indices].tolist() == drawn.indices.tolist()


def test_one_label_each_is_drawn_as_many_times_as_where_an_image_has_one():
    task = load_task("digits")
    one, several = draw_from(task, 3, 1), draw_from(task.of_several(), 3, 1)
    assert set(one.indices.tolist()) == set(several.indices.tolist())


def test_a_draw_is_listed_and_drawn_again(tmp_path):
    task = load_task("shapes", several=";")
    drawn = draw_from(task, 2, 1)
    write_draw(tmp_path / "draw.jsonl", task, drawn)
    again = draw_from(task, None, 1, str(tmp_path / "draw.jsonl"))
    assert again.indices.tolist() == drawn.indices.tolist()
    row, *others = (tmp_path / "draw.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "other.jsonl").write_text(
        json.dumps({**json.loads(row), "label": ["digit one"]}) + "\n" + "".join(others)
    )
    with refused(DataError, "other.jsonl", "line 1", "digit one", "other data"):
        draw_from(task, None, 1, str(tmp_path / "other.jsonl"))


def test_draws_of_others_and_other_protocols_are_refused():
    task = load_task("shapes", several=";")
    with refused(DataError, "draw coop", "shapes", "lowshot"):
        draw_from(task, 2, 1, "coop")
    several = Recipe().replace(labels_per_image="several")
    for name, value in (("draw", "coop"), ("draw", "clip-lora"), ("protocol", "base-to-new")):
        with refused(InputError, name, f"'{value}'", "labels-per-image several"):
            several.replace(**{name: value})
    with refused(InputError, "label-delimiter", "'|'", "--labels-per-image several"):
        Recipe().replace(label_delimiter="|")


def test_a_task_has_labels_of_one_kind_and_of_its_classes():
    images = MemoryImages(np.zeros((2, 3, 3, 3), np.uint8))
    several, one = (Examples(images, labels, ("a", "b")) for labels in (np.eye(2, dtype=int), np.array([0, 1])))
    with refused(DataError, "test", "several labels", "train"):
        Task("t", ("x", "y"), one, test=several)
    with refused(DataError, "train", "2 classes", 3):
        Task("t", ("x", "y", "z"), several)
    with pytest.raises(DataError, match="of 0 and 1"):
        Examples(images, np.full((2, 2), 3), ("a", "b"))


def test_shapes_are_fixed_by_their_identities():
    """A change here makes another benchmark."""
    task = load_task("shapes", several=";")
    assert [len(each) for each in task.splits().values()] == [360, 240, 600]
    assert set(task.train.labels.sum(1).tolist()) == {0, 2, 3}
    lines = [f"{split}\t{name}" for split, each in task.splits().items() for name in each.identities]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] == "c24e2b847c6140b6"
    for row in (0, 1):
        assert task.train.images[row].shape == (64, 64, 3)
        shapes = task.train.identities[row].split("/")[1]
        assert len(shapes) == task.train.labels[row].sum()
