"""The page that an adapter can become: its file, what runs it, and its answers in headless Chromium."""

import base64
import contextlib
import dataclasses
import functools
import http.server
import io
import os
import re
import shutil
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lowshot import FewShotClassifier
from lowshot.conversion import FORMATS, export, onnx_graph, page, web_runtime
from lowshot.errors import InputError, RunError
from refusing import refused

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = ["--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"]


def real_package():
    """npm's package where somebody has it already: no test fetches anything."""
    cached = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lowshot" / web_runtime.PACKAGE.file
    path = Path(os.environ.get("LOWSHOT_ONNXRUNTIME_WEB") or cached)
    return path if path.is_file() else None


RUNTIME = real_package()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of two small files in the place of npm's."""
    path = tmp_path / web_runtime.PACKAGE.file
    with tarfile.open(path, "w:gz") as file:
        for name, content in ((web_runtime.SCRIPT, b"script"), (web_runtime.BINARY, b"binary")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    known = {"size": path.stat().st_size, "sha256": None}
    monkeypatch.setattr(web_runtime, "PACKAGE", dataclasses.replace(web_runtime.PACKAGE, **known))
    return path


@pytest.fixture
def graph(tmp_path):
    """The files that an ONNX export leaves to be bundled."""
    folder = tmp_path / "graph"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(bytes(range(200)))
    (folder / "preprocessing.json").write_text('{"size": 16}')
    for name in ("classify.py", "classes.json", "README.md"):
        (folder / name).write_text("")
    return folder


def bundled(folder, title="birds & more", classes=("owl", "</script><b>"), **facts):
    page.bundle(folder, (b"script", b"binary"), title=title, classes=list(classes), facts=facts)
    return (folder / "index.html").read_text(encoding="utf-8")


def test_a_model_that_is_small_is_in_the_page(graph):
    text = bundled(graph, method="gda <b>")
    assert sorted(path.name for path in graph.iterdir()) == ["README.md", "classes.json", "index.html"]
    [model] = re.findall(r'<script id="model" type="text/plain">(.*?)</script>', text)
    assert base64.b64decode(model) == bytes(range(200))
    assert "<title>birds &amp; more</title>" in text
    assert "gda &lt;b&gt;" in text
    assert "<b>" not in text
    assert text.count("</script>") == 5
    assert not re.search(r"(src|href)=|https?://", text.replace(page.BESIDE.joinpath("page.js").read_text(), ""))


def test_a_page_of_several_labels_says_what_it_finds(graph):
    page.bundle(graph, (b"script", b"binary"), title="beach", classes=["sea", "sky"], facts={}, has_several=True)
    assert "Finds which of 2 an image shows: sea, sky." in (graph / "index.html").read_text(encoding="utf-8")


def test_a_model_that_is_large_lies_beside_it_in_parts(graph, monkeypatch):
    monkeypatch.setattr(page, "LARGEST_IN_PAGE", 100)
    monkeypatch.setattr(page, "PART_BYTES", 90)
    text = bundled(graph)
    parts = re.findall(r'<script src="(.*?)">', text)
    assert parts == ["model-0.js", "model-1.js", "model-2.js"]
    pushed = [re.search(r'push\("(.*)"\)', (graph / name).read_text())[1] for name in parts]
    assert base64.b64decode("".join(pushed)) == bytes(range(200))
    assert '"parts": 3' in text
    assert page.PART_BYTES % 3 == 0


def test_a_model_that_no_browser_holds_is_refused(graph):
    (graph / "model.onnx.data").write_bytes(b"")
    with refused(InputError, "2 GB", "--precision int8", "--format onnx"):
        bundled(graph)


def test_what_runs_it_is_taken_from_a_file(package):
    assert web_runtime.web_runtime(package) == (b"script", b"binary")


def test_what_runs_it_is_fetched_once(package, tmp_path, monkeypatch):
    monkeypatch.setenv("LOWSHOT_CACHE", str(tmp_path / "cache"))
    fetched = []

    def fetch(file, folder, track):
        fetched.append(file.urls)
        folder.mkdir()
        shutil.copy(package, folder / file.file)

    monkeypatch.setattr(web_runtime, "fetch", fetch)
    assert web_runtime.web_runtime() == web_runtime.web_runtime() == (b"script", b"binary")
    assert fetched == [("https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-1.30.0.tgz",)]


def test_without_a_network_the_way_out_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("LOWSHOT_CACHE", str(tmp_path))

    def fetch(*_):
        raise RunError("no such host")

    monkeypatch.setattr(web_runtime, "fetch", fetch)
    with refused(RunError, "no such host", "onnxruntime-web@1.30.0", "--onnxruntime-web onnxruntime-web-1.30.0.tgz"):
        web_runtime.web_runtime()


@pytest.mark.parametrize("content", [None, b"", b"something else"])
def test_another_file_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "x.tgz").write_bytes(content)
    with refused(InputError, tmp_path / "x.tgz", "onnxruntime-web@1.30.0"):
        web_runtime.web_runtime(tmp_path / "x.tgz")


def test_a_package_without_its_files_is_refused(package, monkeypatch):
    with tarfile.open(package, "w:gz"):
        pass
    known = {"size": package.stat().st_size}
    monkeypatch.setattr(web_runtime, "PACKAGE", dataclasses.replace(web_runtime.PACKAGE, **known))
    with refused(InputError, package, web_runtime.SCRIPT):
        web_runtime.web_runtime(package)


def photographs(folder):
    """Files that a browser decodes as lowshot does: without loss, transparent, turned, and larger than they look."""
    rng = np.random.default_rng(5)
    smooth = Image.fromarray(rng.integers(0, 256, (6, 7, 3), dtype=np.uint8)).resize(
        (231, 190), Image.Resampling.BICUBIC
    )
    smooth.save(folder / "plain.png")
    clear = smooth.copy()
    clear.putalpha(Image.linear_gradient("L").resize(smooth.size))
    clear.save(folder / "clear.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    smooth.save(folder / "turned.jpg", exif=exif, quality=95)
    smooth.resize((2690, 2688)).save(folder / "large.png", compress_level=1)
    return sorted(folder.iterdir())


@pytest.mark.long
@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.skipif(RUNTIME is None, reason="nobody has fetched onnxruntime-web: lowshot export --format page does")
def test_its_answers_are_the_classifiers(saved, tmp_path, monkeypatch):
    """From a disk and in one file, then from a server and in parts; by files that are chosen, and one that is none."""
    adapter, classifier = saved("proker")
    (tmp_path / "images").mkdir()
    files = photographs(tmp_path / "images")
    expected = classifier.predict_proba(files)
    (tmp_path / "no image.png").write_bytes(b"no image")
    with monkeypatch.context() as patched:
        export(adapter, tmp_path / "one", format="page", onnxruntime_web=RUNTIME)
        patched.setattr(page, "LARGEST_IN_PAGE", 0)
        patched.setattr(page, "PART_BYTES", 3 * 5000)
        parts = export(adapter, tmp_path / "parts", format="page", precision="int8", onnxruntime_web=RUNTIME)
    assert len([name for name in parts.files if name.startswith("model-")]) > 1
    with chromium() as browser, serving(tmp_path / "parts") as address:
        for place, far in ((f"file://{tmp_path}/one/index.html", 2e-3), (f"{address}/index.html", 0.3)):
            tab, faults, asked = browser.new_page(), [], []
            tab.on("pageerror", lambda error, faults=faults: faults.append(str(error)))
            tab.on("console", lambda line, faults=faults: faults.append(line.text) if line.type == "error" else None)
            tab.on("request", lambda request, asked=asked: asked.append(request.url))
            tab.goto(place)
            tab.wait_for_selector("#files:enabled", state="attached", timeout=60_000)
            tab.set_input_files("#files", [*map(str, files), str(tmp_path / "no image.png")])
            tab.wait_for_selector("#problem:not([hidden])", timeout=60_000)
            assert tab.inner_text("#problem") == "no image.png cannot be read as an image"
            assert tab.locator("#answers > li").count() == len(files)
            for file, row in zip(files, expected, strict=True):
                answer = tab.evaluate(CLASSIFY, base64.b64encode(file.read_bytes()).decode())
                assert np.abs(np.array(answer) - row).max() < far, file
            shown = tab.locator("#answers > li").first.locator(".share").first.inner_text()
            if far < 0.1:
                assert shown.split("\n")[0] == classifier.classes_[expected[-1].argmax()]
            assert faults == []
            assert {url.split(":")[0] for url in asked} <= {place.split(":")[0], "blob"}
            tab.close()


@pytest.mark.long
@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.skipif(RUNTIME is None, reason="nobody has fetched onnxruntime-web: lowshot export --format page does")
@pytest.mark.parametrize("model", ["tiny_pe_core", "tiny_mobileclip"])
def test_so_are_those_of_a_kind_that_transformers_has_not(saved, tmp_path, request, model):
    adapter, classifier = saved("lora-xs", model=request.getfixturevalue(model))
    (tmp_path / "images").mkdir()
    files = photographs(tmp_path / "images")
    expected = classifier.predict_proba(files)
    assert np.ptp(expected, axis=0).max() > 1e-3  # the image matters
    export(adapter, tmp_path / "page", format="page", onnxruntime_web=RUNTIME)
    with chromium() as browser:
        tab = browser.new_page()
        tab.goto(f"file://{tmp_path}/page/index.html")
        tab.wait_for_selector("#files:enabled", state="attached", timeout=60_000)
        for file, row in zip(files, expected, strict=True):
            answer = tab.evaluate(CLASSIFY, base64.b64encode(file.read_bytes()).decode())
            assert np.abs(np.array(answer) - row).max() < 1e-4, file


@pytest.mark.long
@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.skipif(RUNTIME is None, reason="nobody has fetched onnxruntime-web: lowshot export --format page does")
def test_of_several_labels_those_that_an_image_has_stand_out(tiny_clip, tmp_path):
    (tmp_path / "images").mkdir()
    files, shown = photographs(tmp_path / "images"), [["sky"], ["sky", "sea"], [], ["sea"]]
    classifier = FewShotClassifier(str(tiny_clip), method="proker", labels_per_image="several").fit(files, shown)
    presence = {**classifier.record_.presence, "thresholds": [0.3, 0.9]}
    classifier.record_ = dataclasses.replace(classifier.record_, presence=presence)
    classifier.save_pretrained(tmp_path / "adapter")
    export(tmp_path / "adapter", tmp_path / "page", format="page", onnxruntime_web=RUNTIME)
    with chromium() as browser:
        tab = browser.new_page()
        tab.goto(f"file://{tmp_path}/page/index.html")
        tab.wait_for_selector("#files:enabled", state="attached", timeout=60_000)
        tab.set_input_files("#files", [str(files[0])])
        answer = tab.locator("#answers > li").first
        answer.wait_for()
        [labels] = classifier.predict(files[:1])
        words = [text.split("\n")[0] for text in answer.locator(".said").all_inner_texts()]
        assert words == list(labels)
        assert ("no label" in answer.inner_text()) == (not labels)
        assert answer.locator(".share").count() == 2
        assert "Finds which of 2 an image shows: " in tab.inner_text(".standfirst")


CLASSIFY = """async (text) => {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return Array.from(await classify(new Blob([bytes])));
}"""


@contextlib.contextmanager
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, chromium_sandbox=False)
        try:
            yield browser
        finally:
            browser.close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(folder):
    """A plain static server of a folder; its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_page_is_an_onnx_export_until_it_is_bundled(saved, package, tmp_path, monkeypatch):
    stub = {"write": lambda source, trained, folder: write_stub(folder), "read_back": lambda *given: None}
    monkeypatch.setitem(FORMATS, "page", FORMATS["page"]._replace(**stub))
    made = export(saved("gda")[0], tmp_path / "out", format="page", onnxruntime_web=package)
    assert made.files == ("README.md", "classes.json", "index.html")
    assert "from a disk or from any web server" in (made.folder / "README.md").read_text()
    text = (made.folder / "index.html").read_text()
    assert "<dt>method</dt><dd>gda on " in text


def write_stub(folder):
    (folder / onnx_graph.MODEL_FILE).write_bytes(b"model")
    (folder / "preprocessing.json").write_text("{}")
    (folder / "classify.py").write_text("")
