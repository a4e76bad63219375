from __future__ import annotations

import html
import json
import re
import shutil
import subprocess

import pytest

from lowshot.report import render_page

from .factory import record, rival, showcase, zero_shot

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--v=0",
]
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]


@pytest.fixture
def browse(tmp_path):
    """A function that opens HTML text; gives what scripts left in ``body.dataset.outcome``, and the console's lines."""

    def browse(text):
        file = tmp_path / "page.html"
        file.write_text(text, encoding="utf-8")
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", file.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
        console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        found = re.search(r'<body[^>]* data-outcome="([^"]*)"', done.stdout)
        return (json.loads(html.unescape(found[1])) if found else None), console

    return browse


@pytest.fixture
def run_in_page(browse):
    """A function that runs JavaScript at the end of a page and gives what it returns, and the console's lines."""

    def run(page, body):
        script = f"<script>document.body.dataset.outcome = JSON.stringify((() => {{ {body} }})());</script>"
        return browse(page.replace("</body>", f"{script}</body>"))

    return run


@pytest.fixture(scope="module")
def page():
    learnt = [record(shots=shots, seed=seed, accuracy=0.9 + shots / 1000) for shots in (1, 16) for seed in (1, 2)]
    unmeasured = record("dora", accuracy=None, adapter_bytes=97_000)
    return render_page([zero_shot(), *learnt, unmeasured, rival(accuracy=0.85)], showcase(), "Digits")


@pytest.mark.parametrize("width", [375, 1280])
def test_a_page_has_no_errors_and_fits_its_window(browse, page, width):
    outcome, console = browse(
        f"""<body><iframe width="{width}" srcdoc="{html.escape(page)}"></iframe>
        <script>
        const frame = document.querySelector("iframe");
        frame.onload = () => {{
          const root = frame.contentDocument.documentElement;
          const charts = Array.from(root.querySelectorAll("svg"), (svg) => svg.getBoundingClientRect().width);
          document.body.dataset.outcome = JSON.stringify([root.clientWidth, root.scrollWidth, ...charts]);
        }};
        </script></body>"""
    )

    client_width, scroll_width, *charts = outcome
    assert console == []
    assert client_width == scroll_width
    assert len(charts) == 2
    assert all(250 < chart <= width for chart in charts)


def test_headings_sort_both_ways_and_keep_what_is_unknown_last(run_in_page, page):
    outcome, console = run_in_page(
        page,
        """
        const heading = document.querySelectorAll(".results thead th")[5];
        const cells = () => Array.from(document.querySelectorAll(".results tbody tr"), (row) => row.cells[5]);
        const column = () => cells().map((cell) => cell.textContent.slice(0, 4));
        const click = () => { heading.firstChild.click(); return [heading.getAttribute("aria-sort"), column()]; };
        return [click(), click()];
        """,
    )

    assert console == []
    assert outcome == [
        ["ascending", ["78.0", "85.0", "90.1", "91.6", "-"]],
        ["descending", ["91.6", "90.1", "85.0", "78.0", "-"]],
    ]


def test_words_sort_and_only_one_heading_is_marked(run_in_page, page):
    outcome, _ = run_in_page(
        page,
        """
        const buttons = document.querySelectorAll(".results button");
        buttons[1].click();
        buttons[0].click();
        const names = Array.from(document.querySelectorAll(".results tbody th"), (cell) => cell.textContent);
        return [names, document.querySelectorAll("[aria-sort=ascending], [aria-sort=descending]").length];
        """,
    )

    assert outcome == [["dora", "lora", "lora", "pixels + logistic regression", "zero-shot"], 1]


def test_a_point_shows_where_it_comes_from_while_the_pointer_is_over_it(run_in_page, page):
    outcome, console = run_in_page(
        page,
        """
        const tip = document.getElementById("tip");
        const point = document.querySelector("svg .series-0 [data-tip]");
        point.dispatchEvent(new PointerEvent("pointerenter", { clientX: 5000, clientY: 5 }));
        const shown = [tip.hidden, tip.textContent, tip.getBoundingClientRect().right <= window.innerWidth];
        point.dispatchEvent(new PointerEvent("pointerleave"));
        return [...shown, tip.hidden];
        """,
    )

    assert console == []
    hidden, text, is_inside, hidden_again = outcome
    assert (hidden, is_inside, hidden_again) == (False, True, True)
    assert "lora, 1 image per class" in text
    assert "seeds 1, 2" in text
    assert "commit 0123456789" in text


def test_an_error_in_a_page_would_be_seen(run_in_page, page):
    _, console = run_in_page(page, "throw new Error('seen');")

    assert len(console) == 1
    assert "seen" in console[0]
