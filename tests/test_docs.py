"""The documentation says what the code does."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def tool_of(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


def test_the_settings_page_is_written_from_the_code():
    tool = tool_of("write_reference")
    assert tool.PAGE.read_text(encoding="utf-8") == tool.page(), "run make docs"


def test_the_models_page_is_written_from_the_code():
    tool = tool_of("write_reference")
    assert tool.MODELS_PAGE.read_text(encoding="utf-8") == tool.models_page(), "run make docs"


def test_the_types_of_keyword_arguments_are_those_of_the_settings():
    tool = tool_of("write_reference")
    assert tool.KEYWORDS.read_text(encoding="utf-8") == tool.keywords(), "run make docs"


@pytest.mark.long
def test_a_type_checker_refuses_a_setting_that_there_is_not(tmp_path):
    (tmp_path / "user.py").write_text(
        "from lowshot import FewShotClassifier\n"
        'FewShotClassifier(method="lora", rank=4, template="a {}", learning_rate=1)\n'
        'FewShotClassifier(method="lora", rnk=4)\n'
        'FewShotClassifier(method="lora", rank="4")\n'
        'FewShotClassifier.zero_shot(["a", "b"], template=["a {}"], shuts=2)\n'
        'FewShotClassifier.from_pretrained("x", device="cpu", model="y")\n'
        'FewShotClassifier.from_pretrained("x", devise="cpu")\n'
    )
    # With what make check looks at, whose cache it finds: reading everything anew takes a minute.
    command = [sys.executable, "-m", "mypy", "src/lowshot", str(tmp_path / "user.py")]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = re.findall(r"user.py:(\d+): error: .*?\"(\w+)\"", checked.stdout, re.MULTILINE)
    assert [(line, name) for line, name in found if name != "FewShotClassifier"] == [
        ("3", "rnk"), ("4", "rank"), ("5", "shuts"), ("7", "devise")
    ], checked.stdout  # fmt: skip


def test_the_performance_tables_are_written_from_the_results():
    tool = tool_of("write_performance")
    tables = set()
    for path in tool.PAGES:
        page = path.read_text(encoding="utf-8")
        tables |= {name for name in tool.TABLES if f"<!-- end of {name} -->" in page}
        assert page == tool.with_tables(page), "run make docs"
    assert tables == set(tool.TABLES)
    assert tool.PAGE.read_text(encoding="utf-8") == tool.page(), "run make docs"
    assert "as published, fp32" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "page",
    ["README.md", "CONTRIBUTING.md", *sorted(p.relative_to(ROOT) for p in (ROOT / "docs").rglob("*.md"))],
    ids=str,
)
def test_links_between_pages_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith("http"):
            assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"


def test_every_page_is_in_the_sites_list():
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    listed = re.findall(r"^ +- .*?([\w/.-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(listed) == len({*listed})
    assert pages <= {*listed}


def test_every_figure_of_the_findings_is_one_of_the_committed_results():
    results = {line for page in (ROOT / "docs" / "results").glob("*/results.md") for line in table_rows(page)}
    findings = set(table_rows(ROOT / "docs" / "findings.md"))
    assert len(findings) > 30
    assert findings - set(tool_of("write_performance").photographs().splitlines()) <= results


def table_rows(page):
    """Lines of tables that hold figures: without headings, rules, and what stands in italics between."""
    lines = page.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith("| ") and not line.startswith(("| method", "| :--", "| *"))]


def test_the_version_of_the_changelog_is_that_of_the_package():
    from lowshot import __version__

    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert not released or released[0] == __version__


def test_everything_public_is_documented():
    import lowshot

    assert all(getattr(lowshot, name).__doc__ for name in lowshot.__all__ if name != "__version__")
    assert set(lowshot.__all__) == {"FewShotClassifier", "LowshotError", "Recipe", "Task", "__version__", "errors"}


def python_blocks(text):
    return re.findall(r"```python\n(.*?)```\s+prints\s+```\n(.*?)```", text, re.DOTALL)


@pytest.mark.long
def test_the_readmes_lines_print_what_it_says(tmp_path, monkeypatch, capsys):
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    monkeypatch.chdir(tmp_path)
    [(program, printed)] = python_blocks((ROOT / "README.md").read_text(encoding="utf-8"))
    exec(program, {})
    said, promised = capsys.readouterr().out.splitlines(), printed.splitlines()
    assert said[1:] == promised[1:]
    # The last digits of a training run differ between processors.
    assert float(said[0].split("%")[0]) == pytest.approx(float(promised[0].split("%")[0]), abs=3)


def test_the_demos_table_is_that_of_the_committed_records():
    from lowshot.records import RunRecord
    from lowshot.report.summary import format_table, summarize

    values = json.loads((ROOT / "docs" / "demo" / "demo.json").read_text(encoding="utf-8"))
    table = format_table(summarize([RunRecord.from_dict(record) for record in values["records"]]), style="text")
    page = (ROOT / "docs" / "start" / "demo.md").read_text(encoding="utf-8")
    assert all(line.rstrip() in page for line in table.splitlines())


def test_the_oldest_python_that_is_claimed_is_the_oldest_that_is_resolved():
    oldest = re.search(r'requires-python = ">=(3\.\d+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))[1]
    pythons = tool_of("resolve_pins").pythons()
    assert pythons == [f"3.{minor}" for minor in range(int(oldest[2:]), 15)]


MOST_WORDS = 45
"""Of a sentence on a page for readers whose language is not English; 30 are better."""


def sentences(page):
    """The sentences of a page: of its paragraphs, items and cells, with each piece of code as one word."""
    text = re.sub(r"```.*?```|<!--.*?-->", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    text = re.sub(r"^(#.*|\s*([-*]|\d+\.) )", "\n\n", text, flags=re.MULTILINE)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", re.sub(r"`[^`]*`", "code", text))
    text = re.sub(r"\||<br>", "\n\n", text)
    for part in re.split(r"\n\s*\n", text):
        yield from re.split(r"(?<=[.!?])(?:\*\*|\))?\s+", " ".join(part.split()))


def test_sentences_are_short():
    folders = [ROOT / "docs" / name for name in ("start", "how-to", "concepts")]
    pages = [page for folder in folders for page in folder.glob("*.md")]
    pages += [ROOT / "docs" / "findings.md", ROOT / "docs" / "reference" / "models.md"]
    long = [f"{page.name}: {each}" for page in pages for each in sentences(page) if len(each.split()) > MOST_WORDS]
    assert not long, "\n".join(long)
