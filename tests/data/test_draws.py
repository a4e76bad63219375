import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import layouts
from lowshot.data import (
    Examples,
    MemoryImages,
    Task,
    base_and_new,
    builtin_task,
    draw_from,
    draw_like_clip_lora,
    draw_like_coop,
    draw_sha256,
    draw_shots,
    load_task,
    write_draw,
)
from lowshot.errors import DataError, OutputError, UnknownNameError
from lowshot.records import RunRecord
from refusing import refused

GOLDEN = json.loads((Path(__file__).parent / "golden_draws.json").read_text(encoding="utf-8"))
COLOURS = ("red", "green", "blue")
RULES = st.sampled_from(["lowshot", "coop", "clip-lora"])


def examples(labels, names=None):
    images = MemoryImages([np.zeros((2, 2, 3), np.uint8)] * len(labels))
    names = tuple(names or (f"{COLOURS[label % 3]}/{i}.png" for i, label in enumerate(labels)))
    return Examples(images, np.asarray(labels, dtype=np.int64), names)


def task(labels=(0, 1, 2) * 4, classes=COLOURS, names=None, **splits):
    return Task("colours", classes, examples(labels, names), **splits)


def names_of(task, draw):
    return [task.train.identities[i] for i in draw.indices]


def listed(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def drawn(tmp_path):
    """Returns a function that draws from the colours by a list of these rows."""

    def draw(*rows, shots=None, of=None):
        return draw_from(of or task(), shots, 1, listed(tmp_path / "list.jsonl", *rows))

    return draw


# -- rules -------------------------------------------------------------------------------------------------------------


def test_a_task_draws_from_its_training_split():
    coloured = task(validation=examples([0, 1, 2] * 3))
    labels, held_out = coloured.train.labels, coloured.validation.labels
    expected = {
        "lowshot": draw_shots(coloured.train.identities, labels, 2, 3),
        "coop": draw_like_coop(labels, 2, 3),
        "clip-lora": draw_like_clip_lora(labels, held_out, 2, 3),
    }
    for rule, draw in expected.items():
        answer = draw_from(coloured, 2, 3, rule)
        assert (answer.indices.tolist(), answer.rule) == (draw.indices.tolist(), rule)
    assert draw_from(coloured, 2, 3).rule == "lowshot"


@pytest.mark.parametrize("rule", ["lowshot", "coop", "clip-lora"])
def test_a_class_without_training_images_is_named(rule):
    with refused(DataError, "colours", "training images", 2, "red, blue"):
        draw_from(task([1, 1]), 1, 1, rule)
    with refused(DataError, "training images", 3):
        draw_from(task([]), None, 1, rule)


def test_an_unknown_rule_offers_the_nearest():
    with refused(UnknownNameError, "draw", "'cop'", "did you mean coop"):
        draw_from(task(), 1, 1, "cop")


# CoOp's list of training images is not sorted by class everywhere: its first class here is the last by label.
LISTED = [3, 3, 0, 2, 1, 3, 0, 0, 2, 1, 1, 2, 3, 0, 1, 2]


@pytest.mark.parametrize("rule", ["lowshot", "coop", "clip-lora"])
def test_of_a_part_of_the_classes_those_are_drawn_that_are_drawn_of_all(rule):
    """CoOp draws from all classes and then leaves some out."""
    whole = task(LISTED, ("red", "green", "blue", "grey"))
    for part in base_and_new(whole):
        answer = draw_from(part, 2, 1, rule, whole=whole)
        of_all = names_of(whole, draw_from(whole, 2, 1, rule))
        assert names_of(part, answer) == [name for name in of_all if name in part.train.identities]
        assert (len(answer.indices), answer.shots, answer.rule, answer.short) == (4, 2, rule, {})
        assert part.train.labels[answer.indices].tolist().count(0) == 2


@pytest.mark.parametrize("name", ["dtd", "fgvc", "imagenet"])
def test_a_data_set_of_the_catalogue_is_drawn_from_in_the_published_order(tmp_path, monkeypatch, name):
    """In the order of CoOp's split file or of FGVC's list; ImageNet as torchvision's ImageFolder sorts it."""
    layouts.install(name, tmp_path, monkeypatch)
    if name == "dtd":
        split = json.loads((tmp_path / "dtd" / "split_zhou_DescribableTextures.json").read_text())
        items = [(path, label) for path, label, _ in split["train"]]
    elif name == "fgvc":
        lines = (tmp_path / "fgvc_aircraft" / "images_variant_train.txt").read_text().splitlines()
        items = [
            (line.split()[0] + ".jpg", layouts.CLASS_NAMES["fgvc"].index(line.partition(" ")[2])) for line in lines
        ]
    else:
        folders = sorted(p for p in (tmp_path / "imagenet" / "images" / "train").iterdir() if p.is_dir())
        items = [(f"{p.name}/{f.name}", label) for label, p in enumerate(folders) for f in sorted(p.iterdir())]
    expected = draw_like_coop(np.asarray([label for _, label in items]), 2, 1).indices
    read = load_task(name, root=tmp_path)
    assert names_of(read, draw_from(read, 2, 1, "coop")) == [items[i][0] for i in expected]


# -- the same on every machine -----------------------------------------------------------------------------------------


def golden_tasks():
    thousand = [f"class {i % 25:02}/image {i:04}.jpg" for i in range(1000)]
    labels = [i % 25 for i in range(1000)]
    names = tuple(f"class {i:02}" for i in range(25))
    return {
        "a thousand": task(labels, names, thousand),
        "letters": builtin_task("letters"),
        "digits": builtin_task("digits"),
    }


def test_the_same_draw_on_two_machines_has_the_same_hash():
    """The file was written once, on one machine; it is never written again, for published results depend on it."""
    draws = {
        name: {
            f"{shots} shots, seed {seed}": draw_sha256(names_of(task, draw_from(task, shots, seed)))
            for shots in (1, 2, 4, 8, 16)
            for seed in (1, 2, 3)
        }
        for name, task in golden_tasks().items()
    }
    assert draws == GOLDEN


def test_the_hash_is_that_of_the_names_as_json():
    assert draw_sha256(["a/1.png", "ü"]) == hashlib.sha256(b'["a/1.png","\\u00fc"]').hexdigest()
    assert draw_sha256(["b", "a"]) != draw_sha256(["a", "b"])  # another order is another training run


# -- lists -------------------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    items=st.lists(st.tuples(st.text(min_size=1, max_size=6), st.integers(0, 2)), min_size=3, unique_by=lambda i: i[0]),
    shots=st.none() | st.integers(1, 5),
    seed=st.integers(0, 2**31 - 1),
    rule=RULES,
)
def test_a_draw_that_was_written_is_replayed(tmp_path_factory, items, shots, seed, rule):
    names, labels = zip(
        *[("r", 0), ("g", 1), ("b", 2), *((f"{label}-{name}", label) for name, label in items)], strict=True
    )
    drawn_from = task(labels, names=names, validation=examples([0, 1, 2] * 4))
    path = tmp_path_factory.mktemp("draw") / "draw.jsonl"
    draw = draw_from(drawn_from, shots, seed, rule)

    write_draw(path, drawn_from, draw)
    again = draw_from(drawn_from, None, seed + 1, str(path))

    assert again.indices.tolist() == draw.indices.tolist()
    assert again.rule == f"sha256:{draw_sha256(names_of(drawn_from, draw))}"
    largest = max(np.bincount(drawn_from.train.labels[draw.indices]))
    assert (again.shots, again.short) == (largest, {})


def test_a_list_of_an_images_own_names_holds_wherever_the_images_lie(tmp_path):
    shuffled = task(LISTED[::-1], ("red", "green", "blue", "grey"), [f"{i}.png" for i in reversed(range(16))])
    original = task(LISTED, ("red", "green", "blue", "grey"), [f"{i}.png" for i in range(16)])
    draw = draw_from(original, 2, 1, "coop")
    write_draw(tmp_path / "draw.jsonl", original, draw)
    again = draw_from(shuffled, 2, 5, str(tmp_path / "draw.jsonl"))
    assert names_of(shuffled, again) == names_of(original, draw)


def test_a_written_draw_is_a_line_for_each_image(tmp_path):
    coloured = task(names=[f"rot/größe {i}.png" for i in range(12)])
    write_draw(tmp_path / "draw.jsonl", coloured, draw_from(coloured, 1, 1))
    lines = (tmp_path / "draw.jsonl").read_text(encoding="utf-8").splitlines()
    names = names_of(coloured, draw_from(coloured, 1, 1))
    assert lines == [f'{{"file_name": "{n}", "label": "{c}"}}' for n, c in zip(names, COLOURS, strict=True)]


def test_a_draw_is_not_written_over_anything(tmp_path):
    (tmp_path / "draw.jsonl").write_text("mine")
    with pytest.raises(OutputError, match=r"draw\.jsonl already exists"):
        write_draw(tmp_path / "draw.jsonl", task(), draw_from(task(), 1, 1))
    assert (tmp_path / "draw.jsonl").read_text() == "mine"


@pytest.mark.parametrize("name", ["dtd", "fgvc", "stanford_cars", "imagenet", "ucf101"])
def test_lists_of_2sfs_are_read(tmp_path, monkeypatch, name):
    """Their paths begin with the data set's folder in CoOp's layout; labels are numbers beside the names."""
    layouts.install(name, tmp_path, monkeypatch)
    read = load_task(name, root=tmp_path)
    draw = draw_from(read, 2, 3, "coop")
    prefix = {"fgvc": "fgvc_aircraft/images", "stanford_cars": "stanford_cars", "imagenet": "imagenet/images/train"}
    rows = [
        {
            "_impath": f"{prefix.get(name, f'{name}/images')}/{identity}",
            "_label": int(label),
            "_domain": 0,
            "_classname": "as CoOp has it",
        }
        for identity, label in zip(names_of(read, draw), read.train.labels[draw.indices], strict=True)
    ]
    again = draw_from(read, 2, 1, listed(tmp_path / "shot_2-seed_3_train.jsonl", *rows))
    assert again.indices.tolist() == draw.indices.tolist()


def test_labels_may_be_left_out_and_be_other_words(tmp_path):
    names = ["blue/2.png", "red/0.png", "green/1.png"]
    for labels in ((None, None, None), ("bleu", "rouge", "vert"), (2, 0, 1)):
        rows = [{"file_name": f"/somewhere/else/{n}", "label": label} for n, label in zip(names, labels, strict=True)]
        assert names_of(task(), draw_from(task(), 1, 1, listed(tmp_path / "list.jsonl", *rows))) == names


def test_names_that_are_no_training_images_are_refused_with_their_lines(drawn):
    rows = [{"file_name": name} for name in ("red/0.png", "a", "b/c", "green/1.png", "d", "e")]
    with refused(DataError, "4 of 6", "line 2 'a'", "line 3 'b/c'", "line 5 'd', ...", "'red/0.png'"):
        drawn(*rows)


def test_the_list_of_another_split_is_recognised(drawn):
    coloured = task(validation=examples([0], ["held out/0.png"]))
    with refused(DataError, "1 of 1", "validation split", "trained on"):
        drawn({"_impath": "colours/held out/0.png"}, of=coloured)


def test_names_that_may_be_several_images_are_refused(drawn):
    coloured = task(names=["x.png", "red/x.png", *(f"{i}.png" for i in range(10))])
    with refused(DataError, "1 of 1", "more than one", "line 1 'other/red/x.png'", "'red/x.png'"):
        drawn({"file_name": "other/red/x.png"}, of=coloured)
    rows = [{"file_name": name} for name in ("red/x.png", "x.png", "0.png")]  # these are names, not ends of names
    with refused(DataError, "shots is 7", 1):
        drawn(*rows, of=coloured, shots=7)


@pytest.mark.parametrize(
    ("labels", "facts"),
    [
        (("r", "r", "b"), ("line 2 'green/1.png'", "'r' and 'r'", "'red' and 'green'")),
        ((0, 1, 2, 3), ("line 4 'red/3.png'", "0 and 3", "'red' and 'red'")),
    ],
)
def test_lists_that_join_or_divide_classes_are_refused(drawn, labels, facts):
    names = ("red/0.png", "green/1.png", "blue/2.png", "red/3.png")
    rows = [{"file_name": name, "label": label} for name, label in zip(names, labels, strict=False)]
    with refused(DataError, "list.jsonl", "line 1 'red/0.png'", "colours", *facts):
        drawn(*rows)


def test_a_list_without_some_class_is_refused(drawn):
    with refused(DataError, "list.jsonl", "2 class(es)", "green, blue"):
        drawn({"file_name": "red/0.png"}, {"file_name": "red/3.png"})


def test_shots_must_agree_with_the_list(drawn, tmp_path):
    rows = [{"file_name": f"{COLOURS[i % 3]}/{i}.png"} for i in (0, 1, 2, 3)]
    with refused(DataError, "list.jsonl", "2 images", "shots is 4", "ask for 2"):
        drawn(*rows, shots=4)
    path = listed(tmp_path / "list.jsonl", *rows)
    assert (draw_from(task(), None, 1, path).shots, draw_from(task(), None, 1, path).short) == (2, {})
    assert draw_from(task(), 2, 1, path).warnings(COLOURS) == [
        "2 classes have fewer than the 2 shots asked for: 'green' 1, 'blue' 1; the draw has no more of it"
    ]


def test_a_list_of_all_classes_serves_a_part_of_them(tmp_path):
    whole = task(LISTED, ("red", "green", "blue", "grey"))
    base, new = base_and_new(whole)
    write_draw(tmp_path / "all.jsonl", whole, draw_from(whole, 2, 1))
    path = str(tmp_path / "all.jsonl")
    assert names_of(base, draw_from(base, 2, 9, path, whole=whole)) == names_of(base, draw_from(base, 2, 1))
    write_draw(tmp_path / "new.jsonl", new, draw_from(new, 2, 1))
    with refused(DataError, "new.jsonl", 2, "red, green"):
        draw_from(base, 2, 1, str(tmp_path / "new.jsonl"), whole=whole)


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        (b"", ("no images",)),
        (b"\n\n", ("no images",)),
        (b"\xff\xfe", ("JSON object",)),
        (b"{", ("JSON object",)),
        (b"[1]\n", ("line 1", "[1]", "an object")),
        (b'{"name": "a"}\n', ("line 1", '{"name": "a"}', "file_name or _impath")),
        (b'{"file_name": 3}\n', ("line 1", "file_name or _impath")),
        (b'{"file_name": ""}\n', ("line 1", "file_name or _impath")),
        (b'\n{"file_name": "red/0.png", "label": [1]}\n', ("line 2", "label", "'[1]'")),
        (b'{"file_name": "red/0.png", "label": true}\n', ("line 1", "label", "'True'")),
    ],
)
def test_files_that_are_no_lists_are_refused(tmp_path, content, facts):
    (tmp_path / "list.jsonl").write_bytes(content)
    with refused(DataError, "list.jsonl", *facts):
        draw_from(task(), None, 1, str(tmp_path / "list.jsonl"))


@pytest.mark.parametrize("source", ["nowhere.jsonl", "no/where", "x" * 300 + ".jsonl", "a\0b.jsonl"])
def test_a_list_that_is_not_there_is_refused(source):
    with refused(DataError, source, "neither"):
        draw_from(task(), None, 1, source)


def test_a_hash_alone_says_where_to_look():
    with refused(DataError, "sha256:ababababababa", "its hash alone"):
        draw_from(task(), None, 1, f"sha256:{'ab' * 32}")


# -- adapters ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def adapter(tmp_path):
    """Writes the record of an adapter that learnt from these images; returns its folder."""

    def adapter(*names):
        counts = {"trainable_parameters": 1, "total_parameters": 2, "adapter_bytes": 3, "steps": 4}
        costs = {"train_seconds": 0.5, "peak_memory_bytes": 6}
        told = {"task": "colours", "method": "lora", "quantize": "none", "shots": 1, "seed": 1}
        record = RunRecord(**told, **counts, **costs, recipe={}, classes=COLOURS, model={}, draw=names)
        (tmp_path / "adapter").mkdir()
        (tmp_path / "adapter" / "lowshot.json").write_text(json.dumps(record.to_dict()))
        return str(tmp_path / "adapter")

    return adapter


def test_what_an_adapter_learnt_from_is_replayed(adapter):
    names = ["blue/5.png", "red/3.png", "green/4.png"]
    assert names_of(task(), draw_from(task(), None, 1, adapter(*names))) == names


def test_an_adapter_that_learnt_from_other_images_is_refused(adapter):
    with refused(DataError, "1 of 2", "colours", "image 2", "'pink/3.png'"):
        draw_from(task(), None, 1, adapter("red/0.png", "pink/3.png"))


def test_an_adapter_that_does_not_say_what_it_learnt_from_is_refused(adapter):
    with pytest.raises(DataError, match="lists no images"):
        draw_from(task(), None, 1, adapter())


def test_a_folder_without_a_record_or_with_a_damaged_one_is_refused(tmp_path):
    with refused(DataError, tmp_path, "lowshot.json"):
        draw_from(task(), None, 1, str(tmp_path))
    for content in ("{", "[]", '{"format": 1}', '{"format": 1, "draw": 3}'):
        (tmp_path / "lowshot.json").write_text(content)
        with pytest.raises(DataError, match=r"lowshot\.json is damaged"):
            draw_from(task(), None, 1, str(tmp_path))
