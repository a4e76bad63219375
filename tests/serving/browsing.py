"""The page of ``lowshot serve`` in headless Chromium, and a made-up server that answers inside the browser.

The made-up server says what a test wants (a failed training, a busy moment, a wrong token) at once; what the page and
the real server do together is tested in ``test_page_live.py``.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import struct
import time
import zlib
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from playwright.sync_api import sync_playwright

from lowshot.serving.pages import FOLDER as PAGE
from lowshot.serving.pages import PAGES
from lowshot.serving.pages import page as page_at

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
IN_BROWSER = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]
"""Marks of a module whose tests run in it, besides ``long``, which is looked for in its text (``long_tests``)."""
FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
]
ADDRESS = "http://127.0.0.1:9"
INTERFACE = {
    "info": {"description": "Errors are `{error}`."},
    "paths": {
        "/v1/a": {
            "get": {
                "description": "All of `a`.",
                "parameters": [
                    {
                        "name": "top",
                        "in": "query",
                        "schema": {"type": "integer", "minimum": 1, "maximum": 9, "default": 5},
                    }
                ],
                "responses": {
                    "200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/A"}}}},
                    "400": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/E"}}}},
                    "404": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/E"}}}},
                },
            }
        }
    },
    "components": {
        "schemas": {
            "A": {"properties": {"names": {"type": "array", "items": {"type": "string"}}}},
            "E": {"properties": {"error": {"type": "string"}}},
        }
    },
}
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
LIMITS = {
    "image_bytes": 1 << 20,
    "images_per_request": 64,
    "request_bytes": 4 << 20,
    "teaching_bytes": 4 << 20,
    "classes": 10,
    "images_per_class": 8,
}
SHAPES = ["circle", "square", "star"]


@contextlib.contextmanager
def chromium():
    """A browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, chromium_sandbox=False)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def opened(browser, *, width=1200, height=900, **options):
    """A page in a window of its own. Leaving the block fails if a script failed or the policy was broken."""
    faults = []
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: faults.append(line.text) if is_fault(line) else None)
    try:
        yield page
        assert faults == []
    finally:
        context.close()


def until(page, expression, *, seconds=20.0):
    """Wait for an expression to hold. Playwright's own waiting needs ``eval`` in the page, which its policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"still not: {expression}"
        page.wait_for_timeout(30)


def is_fault(line):
    """Whether the console tells of a fault of the page; that an answer had a bad status is the browser's own remark."""
    return line.type in ("error", "warning") and "Failed to load resource" not in line.text


def png(red, green=None, blue=None, *, side=32):
    """A picture of one colour."""
    pixel = bytes([red, red if green is None else green, red if blue is None else blue])
    rows = b"".join(b"\0" + pixel * side for _ in range(side))

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def file(name, content, kind="image/png"):
    """What Playwright takes as a chosen file."""
    return {"name": name, "mimeType": kind, "buffer": content}


def pictures(first, count):
    """Chosen files that all differ."""
    return [file(f"{number}.png", png(number, 90, 200 - number)) for number in range(first, first + count)]


class MadeUpServer:
    """Answers a page's requests. ``refusals`` maps (method, path) to answers that come first, one after the other."""

    def __init__(self, adapters=("shapes",), **facts):
        self.facts = {
            "version": "0", "model": "openai/clip-vit-base-patch16", "reads_names": True,
            "methods": ["lora-xs", "lora", "auto"],
            "settings": ["calibration_folds"],
            "limits": LIMITS, "teach": True, "token_required": False, "demo": False, **facts,
        }  # fmt: skip
        self.adapters = {name: described(name, SHAPES) for name in adapters}
        self.refused = []
        self.refusals = {}
        self.asked = []  # (method, path, body)
        self.states = [
            {"state": "queued"},
            {"state": "running", "step": 10, "steps": 40, "loss": 1.2},
            {"state": "running", "step": 30, "steps": 40, "loss": 0.4},
            {"state": "done", "step": 40, "steps": 40, "loss": 0.1, "seconds": 3.2},
        ]
        self.token = None
        self.polls = 0
        self.taught = None
        self.prediction = {
            "classes": chances(square=0.913, star=0.071, circle=0.016),
            "zero_shot": chances(circle=0.52, square=0.4, star=0.08),
            "neighbours": [{"id": "a", "class": "square", "similarity": 0.97, "url": "/x"}],
        }

    def serve(self, page):
        """Answer this page from now on."""
        page.route(f"{ADDRESS}/**", self._answer)

    def _answer(self, route):
        request = route.request
        address = urlsplit(request.url)
        path = unquote(address.path)
        if path in ("/", "/docs") or path.startswith("/static/"):
            return route.fulfill(**static(path))
        if path == "/openapi.json":
            return route.fulfill(**json_answer(INTERFACE))
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}" and path != "/v1/server":
            return route.fulfill(**refusal(401, "send the token"))
        body = request.post_data_buffer or b""
        self.asked.append((request.method, path, body))
        waiting = self.refusals.get((request.method, path))
        if waiting:
            answer = waiting.pop(0)
            return route.abort() if answer is None else route.fulfill(**answer)
        return route.fulfill(**self._reply(request.method, path, parse_qs(address.query), body))

    def _reply(self, method, path, query, body):
        if path == "/v1/server":
            return json_answer(self.facts)
        if path == "/v1/adapters" and method == "GET":
            return json_answer({"adapters": list(self.adapters.values()), "refused": self.refused})
        if path == "/v1/adapters":
            self.taught = {"name": fields(body, "name")[0], "labels": fields(body, "labels"), "body": body}
            return json_answer({"job": "7", "url": "/v1/jobs/7"}, 202)
        if path == "/v1/jobs":
            return json_answer({"jobs": []})
        if path.startswith("/v1/jobs/"):
            return self._job(method)
        return self._adapter(method, *path.removeprefix("/v1/adapters/").partition("/")[::2], query, body)

    def _job(self, method):
        if method == "DELETE":
            self.states = [{"state": "cancelled", "message": "cancelled"}]
            self.polls = 0
            return {"status": 204}
        state = self.states[min(self.polls, len(self.states) - 1)]
        self.polls += 1
        name = self.taught["name"]
        if state["state"] == "done":
            self.adapters[name] = described(name, list(dict.fromkeys(self.taught["labels"])))
        at_first = {"step": 0, "steps": 0, "loss": None, "seconds": 1.0, "message": "", "notes": []}
        job = {"id": "7", "name": name, **at_first, **state}
        return json_answer({**job, "adapter": name if state["state"] == "done" else None})

    def _change(self, name, what, body):
        """Begin to make another classifier of one."""
        labels = list(self.adapters[name]["class_names"])
        if what == "add":
            new = fields(body, "name")[0]
            labels += fields(body, "labels")
        else:
            asked = json.loads(body)
            new = asked["name"]
            labels = [asked["new"] if each == asked.get("old") else each for each in labels]
            labels = [each for each in labels if each not in asked.get("classes", ())]
        self.taught = {"name": new, "labels": labels, "body": body}
        return json_answer({"job": "7", "url": "/v1/jobs/7"}, 202)

    def _adapter(self, method, name, rest, query, body):
        if name not in self.adapters:
            return refusal(404, f"there is no adapter {name!r}; GET /v1/adapters lists them")
        if method == "DELETE":
            del self.adapters[name]
            return {"status": 204}
        if rest == "download":
            return {"status": 200, "body": b"PK\x05\x06" + bytes(18), "content_type": "application/zip"}
        if rest.startswith("examples/"):
            return {"status": 200, "body": png(zlib.crc32(rest.encode()) % 256, 90, 160), "content_type": "image/png"}
        if rest in ("add", "remove", "rename"):
            return self._change(name, rest, body)
        if rest == "predict":
            answer = dict(self.prediction)
            if query["zero_shot"] == ["false"]:
                answer.pop("zero_shot", None)
            count = body.count(b'name="images"')
            return json_answer({"adapter": name, "predictions": [answer] * count, "milliseconds": 12.0})
        return json_answer(self.adapters[name])


def static(path):
    name, source = path.removeprefix("/static/"), PAGE / path.removeprefix("/static/")
    if path not in PAGES and not source.is_file():
        return {"status": 404}
    kind = TYPES["html" if path in PAGES else name.rpartition(".")[2]]
    return {
        "status": 200,
        "body": page_at(path).encode() if path in PAGES else source.read_bytes(),
        "content_type": kind,
        "headers": {"Content-Security-Policy": POLICY, "Content-Type": kind},
    }


def json_answer(value, status=200):
    return {"status": status, "body": json.dumps(value), "content_type": "application/json"}


def refusal(status, message, **headers):
    """An error in the interface's form."""
    error = {"error": {"code": "x", "message": message}}
    return {"status": status, "body": json.dumps(error), "headers": {"Content-Type": "application/json", **headers}}


def described(name, classes, **facts):
    """An adapter as the interface describes it."""
    return {
        "name": name, "method": "lora-xs", "classes": len(classes), "class_names": classes, "shots": 4, "rank": 16,
        "bytes": 20_888, "trainable_parameters": 4608, "created": "2026-11-21T12:00:00Z", "calibrated": False,
        "accuracy": None, "held_out": None, "prompts": [], "record": {}, "examples": [], **facts,
    }  # fmt: skip


def chances(**probabilities):
    return [{"name": name, "probability": share} for name, share in probabilities.items()]


def fields(body, name):
    """Values of a form's text fields of this name, in their order."""
    values = re.findall(rb'name="' + name.encode() + rb'"\r\n\r\n(.*?)\r\n--', body, re.DOTALL)
    return [value.decode() for value in values]


def draw(page, canvas, strokes):
    """Draw with the mouse; strokes are lists of points in shares of the pad."""
    box = canvas.bounding_box()
    for stroke in strokes:
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point, steps=3)
        page.mouse.up()


def pixels(content):
    """A picture's file as RGB pixels ``(height, width, 3)``."""
    import numpy as np
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
