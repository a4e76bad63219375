from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess

import pytest

from lowshot.report.page import render_page

from ..factory import eleven_data_sets, measured, record, rival, showcase, zero_shot

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
    pytest.mark.long,
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
        outcome = re.search(r'<body[^>]* data-outcome="([^"]*)"', done.stdout)
        return (json.loads(html.unescape(outcome[1])) if outcome else None), console

    return browse


@pytest.fixture
def run_in_page(browse):
    """A function that runs JavaScript at the end of a page and gives what it returns, and the console's lines."""

    def run(page, body):
        script = f"document.body.dataset.outcome = JSON.stringify((() => {{ {body} }})());"
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        allowed = page.replace(
            "script-src ", f"script-src 'sha256-{digest}' ", 1
        )  # the page's policy refuses all others
        return browse(allowed.replace("</body>", f"<script>{script}</script></body>"))

    return run


@pytest.fixture(scope="module")
def page():
    learnt = [record(shots=shots, seed=seed, accuracy=0.9 + shots / 1000) for shots in (1, 16) for seed in (1, 2)]
    unmeasured = record("dora", accuracy=None, adapter_bytes=97_000)
    return render_page([zero_shot(), *learnt, unmeasured, rival(accuracy=0.85)], showcase(), "Digits")


@pytest.fixture(scope="module")
def grid_page():
    return render_page(
        eleven_data_sets((1, 4, 16), (1, 2), tasks=("eurosat", "dtd", "caltech101")), caveats=["One failed."]
    )


def many_page():
    variants = {f"r{i}": {"method": "lora", "settings": {"rank": i, "encoder": "vision tower"}} for i in range(1, 13)}
    return render_page(eleven_data_sets((4, 16), (1,), methods=variants, tasks=("eurosat", "dtd")))


def base_page():
    others = {"others": {"new": {"acc1": 0.7}, "another": {"acc1": 0.5}}, "harmonic_mean": 0.78}
    return render_page([record(metrics={**measured(0.9, 10), **others}), zero_shot(metrics=measured(0.5, 10))])


@pytest.mark.parametrize("kind", ["one", "grid", "many", "base"])
def test_a_page_has_no_errors_and_fits_phones_and_screens(browse, page, grid_page, kind):
    text = html.escape({"one": page, "grid": grid_page}.get(kind) or {"many": many_page, "base": base_page}[kind]())
    outcome, console = browse(
        f"""<body><iframe width="375" srcdoc="{text}"></iframe><iframe width="1280" srcdoc="{text}"></iframe>
        <script>
        const measured = (frame) => {{
          const root = frame.contentDocument.documentElement;
          const drawn = Array.from(root.querySelectorAll("svg[role=img]"), (svg) => svg.getBoundingClientRect().width);
          return [root.clientWidth, root.scrollWidth, drawn.filter((width) => width > 0)];  // of what is chosen
        }};
        onload = () => {{
          const frames = Array.from(document.querySelectorAll("iframe"), measured);
          document.body.dataset.outcome = JSON.stringify(frames);
        }};
        </script></body>"""
    )

    assert console == []
    assert len(outcome) == 2
    for client_width, scroll_width, charts in outcome:
        assert client_width == scroll_width
        assert len(charts) == {"one": 4, "grid": 1 + 3 + 3 + 2, "many": 3 + 2, "base": 1 + 2}[kind]
        assert all(250 < chart <= client_width for chart in charts)


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


def test_a_point_shows_where_it_comes_from_to_pointer_finger_and_keys(run_in_page, page):
    outcome, console = run_in_page(
        page,
        """
        const tip = document.getElementById("tip");
        const state = () => [tip.hidden, tip.textContent, tip.getBoundingClientRect().right <= window.innerWidth];
        const chart = document.querySelector("svg[role=img]");
        const point = chart.querySelector(".series-0 [data-tip]");
        const box = point.querySelector(".marker").getBoundingClientRect();
        const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
        const at = (dx) => ({ bubbles: true, clientX: x + dx, clientY: y });
        const seen = [];
        chart.dispatchEvent(new PointerEvent("pointermove", at(5)));
        seen.push(state());
        document.body.dispatchEvent(new PointerEvent("pointermove", { bubbles: true }));
        seen.push(state());
        chart.dispatchEvent(new PointerEvent("click", { ...at(-5), pointerType: "touch" }));
        seen.push(state());
        document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
        seen.push(state());
        for (const key of ["End", "ArrowRight", "ArrowRight"]) {
          chart.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
          seen.push(state());
        }
        const stops = Array.from(document.querySelectorAll("svg[role=img]"), (svg) => svg.tabIndex);
        return [...seen, Math.min(...stops)];
        """,
    )

    assert console == []
    near, away, tapped, escaped, last, first, second, stop = outcome
    assert near[0] is False
    assert near[2] is True
    for text in ("lora, 1 image per class", "seeds 1, 2; 2026-01-31", "commit 0123456789; Test CPU, 2 cores, Linux"):
        assert text in near[1]
    assert (away[0], tapped, escaped[0]) == (True, near, True)
    assert [shown[1].splitlines()[0] for shown in (last, first, second)] == [
        "pixels + logistic regression, 16 images per class",
        "zero-shot",
        "lora, 1 image per class",
    ]
    assert stop == 0


def test_buttons_choose_shots_and_data_set_without_a_script(run_in_page, grid_page):
    outcome, console = run_in_page(
        grid_page,
        """
        const parts = (choice) => Array.from(choice.querySelectorAll(":scope > .part"));
        const shown = (choice) => parts(choice).map((part) => part.offsetHeight > 0);
        const seen = [];
        for (const choice of document.querySelectorAll(".choice")) {
          const before = shown(choice);
          choice.querySelector("label").click();
          seen.push([before, shown(choice)]);
        }
        return seen;
        """,
    )

    largest, first = [False, False, True], [True, False, False]
    assert console == []
    assert outcome == [[largest, first], [first, first], [largest, first]]


def test_pointing_at_a_method_in_the_legend_fades_the_others_everywhere(run_in_page, grid_page):
    outcome, console = run_in_page(
        grid_page,
        """
        const entry = document.querySelector(".legend [data-series='1']");
        const faded = () => Array.from(document.querySelectorAll(".faded"), (part) => part.dataset.series);
        entry.dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
        const pointed = faded();
        document.body.dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
        const away = faded();
        entry.focus();
        return [new Set(pointed).has("0"), new Set(pointed).has("1"), away.length, faded().length === pointed.length];
        """,
    )

    assert console == []
    assert outcome == [True, False, 0, True]


def test_an_error_in_a_page_would_be_seen(run_in_page, page):
    _, console = run_in_page(page, "throw new Error('seen');")

    assert len(console) == 1
    assert "seen" in console[0]
