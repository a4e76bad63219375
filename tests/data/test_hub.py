"""Data sets through the ``datasets`` package: local copies, since tests have no network."""

import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

from lowshot.data import check_images, draw_from, load_task
from lowshot.errors import DataError, ImageError, MissingExtraError
from refusing import refused

datasets = pytest.importorskip("datasets")
pyarrow = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.parquet")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """What datasets keeps goes away with the test."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))


def png(level):
    file = io.BytesIO()
    Image.new("RGB", (3, 2), (level, 0, 255)).save(file, "PNG")
    return file.getvalue()


def rows(labels, names=("ant", "polar_bear"), images=None, **columns):
    """A split with one picture per label."""
    kind = datasets.ClassLabel(names=list(names)) if names else datasets.Value("string")
    content = {
        "image": [{"bytes": png(i), "path": None} for i in range(len(labels))] if images is None else images,
        "label": labels,
        **columns,
    }
    features = {"image": datasets.Image(), "label": kind, **{c: datasets.Value("int64") for c in columns}}
    return datasets.Dataset.from_dict(content, features=datasets.Features(features))


@pytest.fixture
def saved(tmp_path):
    """Saves splits as Parquet files, as they lie on the Hub, and returns what to load."""

    def saved(**splits):
        for split, content in splits.items():
            content.to_parquet(tmp_path / "pets" / "data" / f"{split}-00000-of-00001.parquet")
        return f"hf:{tmp_path / 'pets'}"

    (tmp_path / "pets" / "data").mkdir(parents=True)
    return saved


def read(name, **options):
    warned = []
    return load_task(name, warn=warned, **options), warned


def test_splits_images_and_labels_are_read(saved):
    task, warned = read(saved(train=rows([1, 0, 1]), validation=rows([0]), test=rows([0, 1])))

    assert (task.name, task.class_names, warned) == ("pets", ("ant", "polar bear"), [])
    assert (task.train.labels.tolist(), task.validation.labels.tolist(), task.test.labels.tolist()) == (
        [1, 0, 1],
        [0],
        [0, 1],
    )
    assert [task.train.images[i][0, 0].tolist() for i in range(3)] == [[i, 0, 255] for i in range(3)]
    assert task.train.identities == ("train/0", "train/1", "train/2")
    assert check_images(task).images == 6


def test_class_names_keep_the_order_of_the_data_set(saved):
    assert read(saved(train=rows([0, 1], names=("zebra", "ant"))))[0].class_names == ("zebra", "ant")


def test_labels_may_be_texts(saved):
    task, _ = read(saved(train=rows(["zebra", "ant", "zebra"], names=None)))

    assert task.class_names == ("ant", "zebra")
    assert task.train.labels.tolist() == [1, 0, 1]


def test_a_folder_that_save_to_disk_wrote_is_read(tmp_path):
    datasets.DatasetDict(train=rows([0, 1]), test=rows([1])).save_to_disk(tmp_path / "dictionary")
    rows([0, 1]).save_to_disk(tmp_path / "one")

    assert len(read(f"hf:{tmp_path / 'dictionary'}")[0].test) == 1
    assert read(f"hf:{tmp_path / 'one'}")[0].test is None


def test_a_folder_of_images_as_datasets_has_it_is_read(tmp_path):
    for split, name in (("train", "ant"), ("train", "bear"), ("test", "bear")):
        (tmp_path / split / name).mkdir(parents=True)
        (tmp_path / split / name / "1.png").write_bytes(png(7))

    task, _ = read(f"hf:{tmp_path}")

    assert (task.class_names, task.test.labels.tolist()) == (("ant", "bear"), [1])
    assert task.train.images[0][0, 0].tolist() == [7, 0, 255]


def test_moving_a_local_copy_changes_no_draw(saved, tmp_path):
    name = saved(train=rows([0, 1] * 4))
    before = read(name)[0]
    (tmp_path / "pets").rename(tmp_path / "moved")
    after = read(f"hf:{tmp_path / 'moved'}")[0]

    assert before.train.identities == after.train.identities
    assert np.array_equal(draw_from(before, 2, 1).indices, draw_from(after, 2, 1).indices)


def test_images_are_decoded_by_our_rules(saved):
    """Transparency is laid on white; datasets itself would let the hidden colour through."""
    file = io.BytesIO()
    Image.new("RGBA", (2, 2), (200, 0, 0, 0)).save(file, "PNG")
    images = [{"bytes": file.getvalue(), "path": None}] * 2

    assert (read(saved(train=rows([0, 1], images=images)))[0].train.images[0] == 255).all()


def test_bad_images_are_named_or_left_out_on_request(saved):
    images = [{"bytes": content, "path": None} for content in (png(1), b"not an image", png(2), png(3))]
    name = saved(train=rows([0, 1, 1, 0], images=[*images[:3], None]))

    task, _ = read(name)
    with refused(ImageError, "pets train[1]", "AVIF"):
        task.train.images[1]
    with refused(ImageError, "pets train[3]", "empty"):
        task.train.images[3]
    skipped, warned = read(name, on_bad_image="skip")
    assert skipped.train.identities == ("train/0", "train/2")
    assert len(warned) == 2


def test_test_splits_with_secret_labels_and_unknown_splits_are_left_out_and_said(tmp_path):
    datasets.DatasetDict(train=rows([0, 1]), test=rows([-1, -1]), extra=rows([0])).save_to_disk(tmp_path / "pets")

    task, warned = read(f"hf:{tmp_path / 'pets'}")

    assert task.test is None
    assert warned == [
        f"hf:{tmp_path}/pets: left out split 'extra'; expected train, validation and test",
        f"hf:{tmp_path}/pets: left out split 'test', which has no labels",
    ]


def test_of_several_labels_the_one_of_the_usual_name_is_taken(saved):
    content = rows([0, 1]).add_column("fine", [0, 1]).cast_column("fine", datasets.ClassLabel(names=["x", "y"]))

    assert read(saved(train=content))[0].class_names == ("ant", "polar bear")
    with refused(DataError, "2 columns", "label", "image, coarse, fine", "label=coarse"):
        read(saved(train=content.rename_column("label", "coarse")))


def test_columns_can_be_named(saved):
    """CIFAR-100 has fine and coarse labels, and none of the usual name."""
    image, fine = datasets.Image(), datasets.ClassLabel(names=["x", "y"])
    pictures = [{"bytes": png(level), "path": None} for level in (1, 2)]
    columns = {"image": image, "coarse": datasets.ClassLabel(names=["ant", "polar_bear"]), "fine": fine, "other": image}
    content = {"image": pictures, "coarse": [0, 1], "fine": [1, 0], "other": pictures}
    name = saved(train=datasets.Dataset.from_dict(content, features=datasets.Features(columns)))

    for given in (f"{name},label=fine,image=other", f"{name},image=other,label=fine"):
        task, _ = read(given)
        assert (task.name, task.class_names, task.train.labels.tolist()) == ("pets", ("x", "y"), [1, 0])
    assert read(f"{name},label=coarse,image=image")[0].class_names == ("ant", "polar bear")
    for given, facts in (
        (f"{name},label=fine", ("2 columns", "the image", "image=image")),
        (f"{name},label=none,image=image", ("no column 'none'", "image, coarse, fine, other")),
        (f"{name},label=fine,image=fine", ("column of images", "'fine'")),
        (f"{name},label=fine,label=coarse", ("two columns", "the label")),
    ):
        with refused(DataError, *facts):
            read(given)


def test_a_class_name_that_no_image_has_is_left_out_and_said(saved):
    """The whole data set was refused."""
    task, warned = read(saved(train=rows([2, 0], names=("ant", "bee", "cat"))))

    assert (task.class_names, task.train.labels.tolist()) == (("ant", "cat"), [1, 0])
    assert len(warned) == 1
    assert "left out 1 class name(s) that no image has: bee" in warned[0]


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        (lambda: {"test": rows([0, 1])}, ("a test split", "no train")),
        (lambda: {"train": rows([0, 0])}, ("one class, 'ant'", 2)),
        (lambda: {"train": rows([0, 1]).remove_columns("image")}, ("0 columns", "the image", "image=COLUMN")),
        (lambda: {"train": rows([0, 1]).remove_columns("label")}, ("0 columns", "the label", "label=COLUMN")),
        (lambda: {"train": rows([0, 1, -1])}, ("train[2]", "label is -1")),
        (lambda: {"train": rows(["a", "b", " "], names=None)}, ("train[2]", "label is ' '")),
        (lambda: {"train": rows([-1, -1])}, ("no labelled split", "train, validation")),
    ],
)
def test_what_makes_no_task_is_refused(saved, content, facts):
    with refused(DataError, *facts):
        read(saved(**content()))


def test_without_a_network_a_name_is_refused_at_once_unless_something_of_it_is_kept(monkeypatch, tmp_path):
    """The package asked again and again for half a minute."""
    import datasets
    import huggingface_hub

    def unreachable(url):
        raise ConnectionError("Name or service not known\nand more")

    def asked(place, configuration):
        raise AssertionError("from the cache")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", unreachable)
    monkeypatch.setattr(datasets, "load_dataset", asked)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    with refused(DataError, "not on this machine", "Name or service"):
        read("hf:some/thing")
    (tmp_path / "some___thing").mkdir()
    with refused(DataError, "hf:some/thing", "from the cache"):
        read("hf:some/thing")


def test_a_name_that_cannot_be_loaded_is_refused_without_a_traceback(tmp_path):
    with refused(DataError, "hf:nobody/nothing", "cannot be loaded"):
        read("hf:nobody/nothing")
    with pytest.raises(DataError, match="cannot be loaded: "):
        read(f"hf:{tmp_path}")
    with refused(DataError, "'hf:'", "hf:FOLDER"):
        read("hf:")


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with refused(MissingExtraError, "hf:cifar10", "package datasets", "pip install"):
        read("hf:cifar10")


def test_the_configuration_follows_a_hash(saved, tmp_path):
    saved(train=rows([0, 1]))
    (tmp_path / "pets" / "README.md").write_text(
        "---\nconfigs:\n- config_name: small\n  data_files: data/train-*.parquet\n"
        "- config_name: large\n  data_files: data/train-*.parquet\n---\n"
    )
    name = f"hf:{tmp_path / 'pets'}"

    assert len(read(f"{name}#small")[0].train) == 2
    with pytest.raises(DataError, match="small"):
        read(name)


# -- files that a data set names ---------------------------------------------------------------------------------------


@pytest.fixture
def private(tmp_path):
    """A picture on this machine that no data set has a right to."""
    path = tmp_path / "private" / "1.png"
    path.parent.mkdir()
    path.write_bytes(png(99))
    return path


@pytest.fixture
def saved_as_it_is(saved, tmp_path):
    """Saves two rows whose images nobody looks at, and returns what to load."""

    def saved_as_it_is(*images):
        name = saved(train=rows([0, 1]))
        (path,) = (tmp_path / "pets" / "data").iterdir()
        schema = rows([0, 1]).features.arrow_schema
        table = pyarrow.Table.from_pydict({"image": images, "label": [0, 1]}, schema)
        pyarrow.parquet.write_table(table, path)
        return name

    return saved_as_it_is


@pytest.mark.parametrize("scheme", ["", "file://", "~"])
def test_a_row_that_names_a_file_is_not_followed(saved_as_it_is, private, scheme):
    hostile = {"bytes": None, "path": f"{scheme}{private}"}
    task, _ = read(saved_as_it_is(hostile, {"bytes": png(2), "path": "a/b.png"}))

    assert task.train.images[1][0, 0, 0] == 2
    with refused(ImageError, "train[0]", "not in its row", f"{scheme}{private}"):
        task.train.images[0]


def test_nor_is_one_that_names_a_file_of_another_data_set(saved_as_it_is):
    """What was fetched of others lies where this one's own files may lie."""
    others = datasets.config.HF_DATASETS_CACHE / "others" / "1.png"
    others.parent.mkdir()
    others.write_bytes(png(99))

    task, _ = read(saved_as_it_is({"bytes": None, "path": str(others)}, {"bytes": png(2), "path": None}))

    with refused(ImageError, "train[0]", "not in its row"):
        task.train.images[0]


def test_a_saved_data_set_that_names_a_file_is_not_followed_whatever_it_says_it_is(tmp_path, private):
    folder = tmp_path / "saved"
    rows([0, 1], images=[{"bytes": png(1), "path": None}] * 2).save_to_disk(folder)
    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps({**info, "builder_name": "imagefolder"}))
    (arrow,) = folder.glob("*.arrow")
    schema = rows([0, 1]).features.arrow_schema
    images = [{"bytes": None, "path": str(private)}, {"bytes": None, "path": str(folder / "1.png")}]
    with pyarrow.ipc.new_stream(arrow, schema) as writer:
        writer.write_table(pyarrow.Table.from_pydict({"image": images, "label": [0, 1]}, schema))
    (folder / "1.png").write_bytes(png(7))

    task, _ = read(f"hf:{folder}")

    for index in range(2):
        with refused(ImageError, f"train[{index}]", "not in its row"):
            task.train.images[index]


def test_a_link_in_a_folder_of_images_is_not_followed_out_of_it(tmp_path, private):
    folder = tmp_path / "pets"
    for name in ("ant", "bear"):
        (folder / "train" / name).mkdir(parents=True)
        (folder / "train" / name / "1.png").write_bytes(png(7))
    (folder / "train" / "bear" / "1.png").unlink()
    (folder / "train" / "bear" / "1.png").symlink_to(private)

    task, _ = read(f"hf:{folder}")

    assert task.train.images[0][0, 0, 0] == 7
    with refused(ImageError, "train[1]", "not in its row"):
        task.train.images[1]


@pytest.mark.parametrize("image", [None, {"bytes": None, "path": None}, {"bytes": None, "path": ""}])
def test_a_row_without_an_image_is_empty(saved_as_it_is, image):
    task, _ = read(saved_as_it_is(image, {"bytes": png(2), "path": None}))

    with pytest.raises(DataError, match=r"train\[0\]: image is empty"):
        task.train.images[0]


def test_a_label_of_truth_values_is_no_class(saved):
    content = rows([0, 1]).remove_columns("label").add_column("label", [True, False])

    with refused(DataError, "train[0]", "label is True"):
        read(saved(train=content))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"\0" * 500])
def test_a_damaged_file_is_no_traceback(tmp_path, content):
    (tmp_path / "train.parquet").write_bytes(content)
    with pytest.raises(DataError, match="cannot be loaded: "):
        read(f"hf:{tmp_path}")
    (tmp_path / "dataset_dict.json").write_bytes(content)
    with pytest.raises(DataError, match="cannot be loaded: "):
        read(f"hf:{tmp_path}")
