"""Fixtures that several files of tests share."""

import dataclasses
import hashlib
import json

import pytest
from PIL import Image, ImageFile

from data import layouts
from data.preparing import row_with
from data.server import serving
from lowshot.data.catalogue import download


@pytest.fixture
def no_decoding(monkeypatch):
    """Whoever decodes a pixel fails."""

    def load(self):
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)


@pytest.fixture
def make(tmp_path):
    """Writes small pictures, each of its own colour, under ``data`` and returns that folder."""
    root = tmp_path / "data"

    def make(*names):
        root.mkdir(exist_ok=True)
        for number, name in enumerate(names):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (3, 2), (number, 0, 255)).save(path)
        return root

    return make


@pytest.fixture
def two_classes(make):
    return make("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png")


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Writes data sets in miniature below one root, which it returns."""

    def install(*names):
        for name in names:
            layouts.install(name, tmp_path, monkeypatch)
        return tmp_path

    return install


@pytest.fixture
def server():
    with serving() as add:
        yield add


@pytest.fixture
def no_waiting(monkeypatch):
    monkeypatch.setattr(download.time, "sleep", lambda _: None)


@pytest.fixture
def offer(server, tmp_path_factory, monkeypatch):
    """Puts a data set in miniature on a server, with its checksums, and returns what is served by file."""

    def offer(name, **behaviour):
        installed = tmp_path_factory.mktemp("published")
        layouts.install(name, installed, monkeypatch)
        served = {}

        def change(file):
            content = layouts.published(file, installed)
            url, served[file.file] = server(f"/{file.file}", content, **behaviour)
            published = {
                "sha256": hashlib.sha256(content).hexdigest() if file.kind != "file" else None,
                "size": len(content) if file.size else None,
            }
            urls = (url,) if file.urls else ()
            return dataclasses.replace(file, urls=urls, md5=None, rounded_size=None, **published)

        row_with(name, monkeypatch, change)
        return served

    return offer


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
