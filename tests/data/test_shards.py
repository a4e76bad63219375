import contextlib
import io
import tarfile
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lowshot.data import check_images, load_task
from lowshot.errors import DataError, ImageError
from refusing import refused


def png(level):
    file = io.BytesIO()
    Image.new("RGB", (3, 2), (level, 0, 255)).save(file, "PNG")
    return file.getvalue()


def write(path, *members, mode="w"):
    """A tar file of (name, content); content may be text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, content in members:
            content = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def samples(*labels, start=0):
    return [
        member
        for i, label in enumerate(labels, start)
        for member in ((f"{i:06}.png", png(i)), (f"{i:06}.cls", str(label)), (f"{i:06}.json", "{}"))
    ]


def read(path, **options):
    warned = []
    return load_task(path, warn=warned, **options), warned


def test_one_tar_file_is_a_train_split(tmp_path):
    task, warned = read(write(tmp_path / "pets.tar", *samples("polar_bear", "ant", "polar_bear")))

    assert (task.name, task.class_names, warned) == ("pets", ("ant", "polar bear"), [])
    assert task.train.labels.tolist() == [1, 0, 1]
    assert task.train.identities == ("pets/000000", "pets/000001", "pets/000002")
    assert [task.train.images[i][0, 0].tolist() for i in range(3)] == [[i, 0, 255] for i in range(3)]
    assert task.test is None


def test_splits_of_several_shards_with_class_names_beside_them(tmp_path):
    """As CLIP benchmark has data sets on the Hub."""
    write(tmp_path / "train" / "0.tar", *samples(1, 0))
    write(tmp_path / "train" / "1.tar", *samples(2))
    write(tmp_path / "test" / "0.tar", *samples(2, 1))
    (tmp_path / "test" / "nshards.txt").write_text("1")
    (tmp_path / "classnames.txt").write_text("zebra\nant\npolar bear\n")

    task, warned = read(tmp_path)

    assert (task.class_names, warned) == (("zebra", "ant", "polar bear"), [])
    assert (task.train.labels.tolist(), task.test.labels.tolist()) == ([1, 0, 2], [2, 1])
    assert task.train.identities == ("0/000000", "0/000001", "1/000000")
    assert task.train.images[2][0, 0].tolist() == [0, 0, 255]


def test_a_folder_of_shards_without_splits_is_a_train_split(tmp_path):
    write(tmp_path / "b.tar", *samples("x"))
    write(tmp_path / "a.tar", *samples("y", "y"))

    assert read(tmp_path)[0].train.identities == ("a/000000", "a/000001", "b/000000")


def test_the_order_of_members_and_hidden_ones_do_not_matter(tmp_path):
    members = [("./a/2.cls", "x"), ("./a/._1.png", "?"), ("a/1.PNG", png(1)), ("a/1.cls", "y\n"), ("a/2.png", png(2))]

    task, _ = read(write(tmp_path / "s.tar", *members))

    assert dict(zip(task.train.identities, task.train.labels.tolist(), strict=True)) == {"s/a/2": 0, "s/a/1": 1}
    assert task.train.images[task.train.identities.index("s/a/2")][0, 0, 0] == 2


def test_labels_without_images_are_counted(tmp_path):
    path = write(tmp_path / "s.tar", *samples("x", "y"), ("9.cls", "z"))

    assert read(path)[1] == [f"{path}: left out 1 label(s) without an image"]


def test_bad_images_are_named_or_left_out_on_request(tmp_path):
    path = write(tmp_path / "s.tar", *samples("x", "y"), ("9.png", "no image"), ("9.cls", "x"))

    with refused(ImageError, "s/9", "AVIF"):
        read(path)[0].train.images[2]
    task, warned = read(path, on_bad_image="skip")
    assert (len(task.train), len(warned)) == (2, 1)
    assert check_images(read(path)[0]).corrupt[0].startswith("train: s/9: image is not an image")


def test_a_shard_that_is_gone_meanwhile_is_named(tmp_path):
    path = write(tmp_path / "s.tar", *samples("x", "y"))
    task, _ = read(path)
    path.unlink()

    with refused(DataError, "s.tar", "No such file"):
        task.train.images[0]


def test_what_lies_in_a_shard_is_not_kept_in_memory(tmp_path):
    picture = io.BytesIO()
    Image.effect_noise((512, 512), 90).save(picture, "PNG")  # 200 KB each
    members = [m for i in range(50) for m in ((f"{i}.png", picture.getvalue()), (f"{i}.cls", f"class {i % 2}"))]
    path = write(tmp_path / "s.tar", *members)
    tracemalloc.start()
    task = load_task(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert (len(task.train), path.stat().st_size > 5e6) == (50, True)
    assert peak < 1e6


@pytest.mark.parametrize(
    ("members", "facts"),
    [
        ([("1.png", png(1))], ("1 image(s)", "s/1", ".cls")),
        ([("1.json", "{}")], ("no images", "KEY.jpg and KEY.cls")),
        ([("1.png", png(1)), ("1.jpg", png(1)), ("1.cls", "x")], ("two files", "1.jpg")),
        ([("1.png", png(1)), ("1.cls", "x"), ("1.cls", "y")], ("two files", "1.cls")),
        ([("1.png", png(1)), ("1.cls", " \n")], ("1.cls", "empty")),
        ([("1.png", png(1)), ("1.cls", b"\xff")], ("1.cls", "UTF-8", "a class")),
        ([("1.png", png(1)), ("1.cls", "x" * 5000)], ("1.cls", "5,000", "4,096")),
        ([("\udcff.png", png(1)), ("\udcff.cls", "x")], (r"'\udcff.png'", "UTF-8", "rename it")),
        (samples("x"), ("one class, 'x'", 2)),
    ],
)
def test_shards_that_make_no_task_are_refused(tmp_path, members, facts):
    with refused(DataError, *facts):
        read(write(tmp_path / "s.tar", *members))


@pytest.mark.parametrize("label", ["2", "-1", "x", "1.0"])
def test_a_label_beyond_the_class_names_is_refused(tmp_path, label):
    (tmp_path / "classnames.txt").write_text("ant\nbear\n")
    with refused(DataError, "s/000001", f"'{label}'", 2, "classnames.txt"):
        read(write(tmp_path / "s.tar", *samples(0, label)))


def test_compressed_and_damaged_shards_are_refused(tmp_path):
    for name, content in (("zipped.tar", None), ("text.tar", b"x" * 5000), ("empty.tar", b"")):
        path = write(tmp_path / name, *samples("x", "y"), mode="w:gz")
        if content is not None:
            path.write_bytes(content)
        with refused(DataError, path, "plain tar file"):
            read(path)


@pytest.mark.parametrize("length", range(0, 6145, 256))
def test_a_shard_that_ends_early_is_refused(tmp_path, length):
    """Also between two files, where tarfile sees no damage."""
    path = write(tmp_path / "s.tar", *samples("x", "y"))
    assert path.stat().st_size == 10240  # the last of two empty blocks ends at 7,168
    path.write_bytes(path.read_bytes()[:length])

    with refused(DataError, "s.tar", "damaged"):
        read(path)


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path):
    """All that followed was silently missing."""
    path = write(tmp_path / "s.tar", *samples("x", "y", "x", "y"))
    content = bytearray(path.read_bytes())
    content[content.index(b"000002.png")] ^= 1
    path.write_bytes(content)

    with refused(DataError, "s.tar", "behind 000001.json"):
        read(path)


def test_a_hole_is_not_taken_for_the_end(tmp_path):
    path = write(tmp_path / "s.tar", *samples("x", "y", "x", "y"))
    content = bytearray(path.read_bytes())
    place = content.index(b"000002.png")
    content[place : place + 512] = bytes(512)
    path.write_bytes(content)

    with refused(DataError, "s.tar", "behind its end"):
        read(path)


def test_a_shard_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    path = write(tmp_path / "s.tar", *samples("x", "y"))
    opened = type(path).open

    def refusing(self, *arguments, **options):
        if self.name == "s.tar":
            raise PermissionError(13, "Permission denied")
        return opened(self, *arguments, **options)

    monkeypatch.setattr(type(path), "open", refusing)
    with refused(DataError, "s.tar", "Permission denied"):
        read(path)


@given(st.binary(max_size=600), st.integers(0, 6000), st.booleans())
def test_whatever_the_bytes_nothing_but_our_errors_is_raised(tmp_path_factory, content, position, inside):
    path = tmp_path_factory.mktemp("garbage") / "s.tar"
    whole = write(path, *samples("x", "y", "x", "y")).read_bytes()
    path.write_bytes(whole[:position] + content + whole[position + len(content) :] if inside else content)
    with contextlib.suppress(DataError):
        task = load_task(path)
        for index in range(len(task.train)):
            with contextlib.suppress(DataError):
                task.train.images[index]


# -- shards or a folder of classes? ------------------------------------------------------------------------------------


def picture(path):
    """One like no other: whose bytes another one has is a copy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = zlib.crc32("/".join(path.parts[-3:]).encode()).to_bytes(4, "big")
    Image.new("RGB", (3, 2), tuple(colour[:3])).save(path)


@pytest.mark.parametrize("stray", ["backup.tar", "cat/all.tar", "train/x.tar"])
def test_a_stray_tar_file_does_not_make_shards_of_a_folder_of_images(tmp_path, stray):
    """Also where a class is called as a split is."""
    for name in ("cat/1.png", "dog/1.png", "train/1.png"):
        picture(tmp_path / name)
    write(tmp_path / stray, *samples("x", "y"))

    task, warned = read(tmp_path)

    assert task.class_names == ("cat", "dog", "train")
    assert len(warned) == 1
    assert "left out 1 file(s)" in warned[0]


@pytest.mark.parametrize("stray", ["old.tar", "train/old.tar", "test/old.tar"])
def test_nor_of_one_with_splits(tmp_path, stray):
    for name in ("train/cat/1.png", "train/dog/1.png", "test/cat/2.png"):
        picture(tmp_path / name)
    write(tmp_path / stray, *samples("x", "y"))

    task, warned = read(tmp_path)

    assert (task.class_names, len(task.train), len(task.test)) == (("cat", "dog"), 2, 1)
    assert any("left out 1 file(s)" in line for line in warned)


def test_the_classes_in_a_split_count_one_by_one(tmp_path):
    for name in ("train/cat/1.png", "train/dog/1.png", "train/emu/1.png"):
        picture(tmp_path / name)
    for stray in ("0.tar", "1.tar"):
        write(tmp_path / "train" / stray, *samples("x", "y"))

    assert read(tmp_path)[0].class_names == ("cat", "dog", "emu")


def test_what_lies_beside_shards_and_looks_like_data_is_said(tmp_path):
    for number in range(3):
        write(tmp_path / "Train" / f"{number}.tar", *samples("x", "y"))
    write(tmp_path / "loose.tar", *samples("x", "y"))
    write(tmp_path / "Train" / "3.tar.gz", *samples("x", "y"), mode="w:gz")
    picture(tmp_path / "preview" / "1.png")
    (tmp_path / "logs").mkdir()

    task, warned = read(tmp_path)

    assert len(task.train) == 6
    assert warned == [
        f"{tmp_path}: left out 1 shard(s) in no split",
        f"{tmp_path}: left out 1 compressed shard(s); expected plain tar files",
        f"{tmp_path}: left out 1 folder(s) of images, such as preview",
    ]


def test_shards_may_be_links_and_a_link_to_itself_is_none(tmp_path):
    write(tmp_path / "blobs" / "a", *samples("x", "y"))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.tar").symlink_to(tmp_path / "blobs" / "a")
    (tmp_path / "set" / "b.tar").symlink_to(tmp_path / "set" / "b.tar")

    assert read(tmp_path / "set")[0].train.identities == ("a/000000", "a/000001")


@pytest.mark.parametrize("content", [b"\xff", None])
def test_class_names_that_cannot_be_read_are_refused(tmp_path, content):
    write(tmp_path / "s.tar", *samples(0, 1))
    if content is None:
        (tmp_path / "classnames.txt").mkdir()
    else:
        (tmp_path / "classnames.txt").write_bytes(content)
    with refused(DataError, "classnames.txt", "read"):
        read(tmp_path)


def test_an_image_of_absurd_size_is_refused_unread(tmp_path):
    path = write(tmp_path / "s.tar", *samples("x", "y"))
    content = bytearray(path.read_bytes())
    member = tarfile.TarInfo("9.png")
    member.size = 1 << 30
    with path.open("r+b") as file:
        file.write(member.tobuf())
        file.seek(512 + (1 << 30))
        file.write(bytes(content))

    with refused(DataError, "9.png", "1,073,741,824", "536,870,912"):
        read(path)


def test_two_folders_of_one_split_are_refused(tmp_path):
    for folder in ("val", "valid"):
        write(tmp_path / folder / "0.tar", *samples("x"))
    with refused(DataError, "two folders", "validation"):
        read(tmp_path)
