"""What ``lowshot data`` prints, where, and with which exit status."""

import dataclasses
import json

import pytest

from data import layouts
from lowshot.cli import main
from lowshot.data import BUILTIN_TASKS, TASKS_OF_SEVERAL
from lowshot.data.catalogue import CATALOGUE
from refusing import assert_states


@pytest.fixture
def run(capsys):
    """Run ``lowshot data`` in this process: exit status, standard output, standard error."""

    def run(*arguments):
        status = main(["data", *map(str, arguments)])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


@pytest.fixture(autouse=True)
def no_root(monkeypatch):
    monkeypatch.delenv("LOWSHOT_DATA", raising=False)


def test_the_list_has_every_data_set_and_says_which_are_there(run, tmp_path, monkeypatch):
    layouts.install("eurosat", tmp_path, monkeypatch)
    layouts.install("dtd", tmp_path, monkeypatch)
    next((tmp_path / "dtd").glob("split_zhou*")).unlink()

    status, out, err = run("list", "--root", tmp_path)
    lines = {line.split()[0]: line for line in out.splitlines() if line}

    assert (status, err) == (0, "")
    own = [*BUILTIN_TASKS, *TASKS_OF_SEVERAL]
    assert list(lines)[: len(own)] == own
    assert list(lines)[len(own) + 1 : -1] == list(CATALOGUE)
    assert lines["letters"].endswith("built in: Latin capitals, worn and torn, at 10 to 14 pixels")
    assert lines["eurosat"].endswith(f" installed: {tmp_path / 'eurosat' / '2750'}")
    lacks = "split_zhou_DescribableTextures.json is not there"
    assert lines["dtd"].endswith(f" incomplete: {tmp_path / 'dtd' / 'images'}; {lacks}")
    assert lines["imagenet"].split() == ["imagenet", "1,000", "1,281,167", "-", "50,000", "absent"]
    assert out.endswith("\nlowshot data prepare NAME completes what is incomplete, or says what stands in its way\n")


def test_the_list_without_a_root_says_that_nothing_was_looked_for(run, tmp_path, monkeypatch):
    status, out, _ = run("list")
    assert status == 0
    assert out.splitlines()[-1] == "nothing was looked for: give --root FOLDER or set LOWSHOT_DATA"

    monkeypatch.setenv("LOWSHOT_DATA", str(tmp_path))
    assert "looked for" not in run("list")[1]


def test_the_list_as_json(run, tmp_path, monkeypatch):
    layouts.install("fgvc", tmp_path, monkeypatch)
    (tmp_path / "fgvc_aircraft" / "variants.txt").unlink()

    status, out, _ = run("list", "--root", tmp_path, "--json")
    rows = {row["name"]: row for row in json.loads(out)}

    assert status == 0
    assert list(rows) == [*BUILTIN_TASKS, *TASKS_OF_SEVERAL, *CATALOGUE]
    assert rows["digits"]["state"] == "built in"
    assert (rows["fgvc"]["state"], rows["fgvc"]["missing"]) == ("incomplete", ["variants.txt is not there"])
    assert rows["fgvc"]["images"] == str(tmp_path / "fgvc_aircraft" / "images")
    assert (rows["dtd"]["state"], rows["dtd"]["images"], rows["dtd"]["missing"]) == ("absent", None, [])
    assert rows["dtd"]["template"] == "{} texture."
    assert (rows["sun397"]["licence"], rows["imagenet_r"]["train"]) == ("unknown", None)


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_data_set_in_miniature_passes_the_check(run, tmp_path, monkeypatch, name):
    row = layouts.install(name, tmp_path, monkeypatch)

    status, out, err = run("check", name, "--root", tmp_path)

    images = sum(size or 0 for size in (row.sizes.train, row.sizes.validation, row.sizes.test))
    assert (status, err) == (0, "")
    assert out.startswith(f"{name}: {images} images of {row.classes} classes (")
    assert out.endswith("): 0 missing, 0 corrupt, 0 damaged, 0 more than once\n")


def test_what_is_missing_or_corrupt_is_listed_and_fails(run, tmp_path, monkeypatch):
    layouts.install("dtd", tmp_path, monkeypatch)
    images = sorted((tmp_path / "dtd" / "images" / "banded").iterdir())
    images[0].unlink()
    images[1].write_text("not an image")

    status, out, err = run("check", "dtd", "--root", tmp_path)
    lines = out.splitlines()

    assert (status, err) == (1, "")
    assert lines[0] == "missing: train: banded/banded_0001.jpg"
    assert lines[1].startswith("corrupt: train: ")
    assert "banded_0004.jpg is not an image" in lines[1]
    assert lines[2].endswith(
        "(12 in train, 6 in validation, 9 in test): 1 missing, 1 corrupt, 0 damaged, 0 more than once"
    )

    status, out, _ = run("check", "dtd", "--root", tmp_path, "--json")
    answer = json.loads(out)
    assert (status, answer["ok"], answer["missing"]) == (1, False, ["train: banded/banded_0001.jpg"])
    assert (answer["classes"], answer["train"], answer["validation"], answer["test"]) == (3, 12, 6, 9)


def test_a_folder_with_fewer_images_than_published_fails_though_each_is_well(run, tmp_path, monkeypatch):
    layouts.install("imagenet_sketch", tmp_path, monkeypatch)
    next((tmp_path / "imagenet-sketch" / "images").rglob("*.JPEG")).unlink()

    status, out, err = run("check", "imagenet_sketch", "--root", tmp_path)

    assert (status, err) == (1, "")
    assert out.startswith("size: imagenet_sketch has 8 images in test; expected 9, as published\n")


def test_a_folder_of_ones_own_is_checked_and_copies_are_no_failure(run, tmp_path):
    for name in ("cat/1", "cat/2", "dog/1"):
        layouts.picture(tmp_path / "pets" / f"{name}.png")
    (tmp_path / "pets" / "dog" / "2.png").write_bytes((tmp_path / "pets" / "cat" / "2.png").read_bytes())
    (tmp_path / "pets" / "dog" / "notes.txt").write_text("x")

    status, out, err = run("check", tmp_path / "pets")

    assert status == 0
    assert out.splitlines() == [
        "copies: cat/2.png (train, cat) and dog/2.png (train, dog) show the same",
        "pets: 4 images of 2 classes (4 in train): 0 missing, 0 corrupt, 0 damaged, 1 more than once",
    ]
    assert "left out 1 file(s) without an image's suffix" in err


def test_files_that_a_table_names_and_that_are_missing_are_listed(run, tmp_path):
    layouts.picture(tmp_path / "1.png")
    layouts.write_text(tmp_path / "pets.csv", "file_name,label", "1.png,cat", "2.png,dog", "3.png,dog")

    status, out, _ = run("check", tmp_path / "pets.csv")

    assert status == 1
    assert out.splitlines()[:2] == ["missing: train: 2.png", "missing: train: 3.png"]


@pytest.fixture
def archives(tmp_path, monkeypatch):
    """A folder with DTD's files in miniature, which is all that the catalogue knows of them."""
    row = layouts.install("dtd", tmp_path / "published", monkeypatch)
    (tmp_path / "archives").mkdir()
    needs = []
    for (file,) in row.needs:
        (tmp_path / "archives" / file.file).write_bytes(layouts.published(file, tmp_path / "published"))
        needs.append((dataclasses.replace(file, urls=(), size=None, sha256=None, md5=None),))
    monkeypatch.setitem(CATALOGUE, "dtd", dataclasses.replace(row, needs=tuple(needs)))
    return tmp_path / "archives"


def test_prepare_installs_from_archives_and_says_what_it_did(run, archives, tmp_path):
    root = tmp_path / "root"

    status, out, err = run("prepare", "dtd", "--root", root, "--from", archives)

    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "Describable Textures (DTD, r1.0.1), https://www.robots.ox.ac.uk/~vgg/data/dtd/; licence: research",
        "dtd-r1.0.1.tar.gz: no checksum is published",
        "split_zhou_DescribableTextures.json: no checksum is published",
        f"in place: {root / 'dtd' / 'images'}",
        f"in place: {root / 'dtd' / 'split_zhou_DescribableTextures.json'}",
        "dtd is installed: 27 images of 3 classes (12 in train, 6 in validation, 9 in test); "
        f"next: lowshot data check dtd --root {root}",
    ]
    assert run("check", "dtd", "--root", root)[0] == 0

    status, out, _ = run("prepare", "dtd", "--root", root, "--json")  # nothing is left to do
    assert (status, json.loads(out)) == (0, [{"name": "dtd", "classes": 3, "train": 12, "validation": 6, "test": 9}])


def test_prepare_says_what_has_to_be_got_by_hand(run, tmp_path):
    status, out, err = run("prepare", "stanford_cars", "--root", tmp_path)
    assert (status, out) == (2, "")
    assert "Get cars_train.tgz, cars_test.tgz from" in err
    assert err.count("\n") == 1


def test_one_data_set_that_cannot_be_installed_does_not_stop_the_others(run, archives, tmp_path):
    root = tmp_path / "root"

    status, out, err = run("prepare", "stanford_cars", "dtd", "--root", root, "--from", archives, "--json")

    assert (status, [row["name"] for row in json.loads(out)]) == (1, ["dtd"])
    assert "lowshot: error: stanford_cars is not installed: Stanford Cars cannot be fetched from here" in err
    assert f"in place: {root / 'dtd' / 'images'}" in err  # standard output has the JSON alone
    assert run("check", "dtd", "--root", root)[0] == 0


def test_a_misspelt_name_stops_prepare_before_it_begins(run, archives, tmp_path):
    status, out, err = run("prepare", "dtd", "eurosta", "--root", tmp_path / "root", "--from", archives)
    assert (status, out) == (2, "")
    assert "unknown data set 'eurosta'; did you mean eurosat" in err
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["prepare"], ["no data set", "lowshot data list"]),
        (["prepare", "dtd"], ["--root FOLDER"]),
        (["chek"], ["data 'chek'", "mean check"]),
        (["check"], ["data check", "DATA", "--train"]),
        (["check", "dtd"], ["--root FOLDER"]),
        (["check", "dtd", "--root", "/none"], ["root /none", "no folder"]),
        (["list", "--root", "/none"], ["root /none", "no folder"]),
        (["check", "dtdd"], ["data set", "folder 'dtdd'", "mean dtd"]),
    ],
)
def test_bad_input_gives_one_line_and_status_2(run, arguments, facts):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert_states(err, *facts)
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_lists_the_actions(capsys, arguments):
    with pytest.raises(SystemExit) as left:
        main(["data", *arguments])
    printed = capsys.readouterr().out
    assert left.value.code == 0
    assert printed.startswith("usage: lowshot data ACTION")
    assert all(f"\n  {action} " in printed for action in ("list", "prepare", "check"))


def test_fit_and_evaluate_find_a_data_set_below_the_root_they_are_given(capsys, tmp_path, monkeypatch, tiny_clip):
    layouts.install("dtd", tmp_path / "here", monkeypatch)
    adapter = tmp_path / "adapter"
    settings = ["--model", str(tiny_clip), "--method", "lora", "--steps-per-shot", "1", "--rank", "2", "--shots", "1"]
    assert main(["fit", "dtd", "--root", str(tmp_path / "here"), "--out", str(adapter), *settings]) == 0
    (tmp_path / "here").rename(tmp_path / "moved")
    assert main(["evaluate", str(adapter), "dtd"]) == 2
    assert_states(capsys.readouterr().err, f"root {tmp_path / 'here'}", "no folder")
    assert main(["evaluate", str(adapter), "dtd", "--root", str(tmp_path / "moved")]) == 0
