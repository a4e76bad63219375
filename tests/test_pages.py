"""Pages: commands that are understood, outputs that are printed, messages that are raised, grids that are read."""

import contextlib
import io
import re
import shlex
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if "results" not in page.relative_to(ROOT).parts[:-1]]
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\s*\Z", re.DOTALL)
"""What stands before a block whose output a test cannot have, and why."""


def blocks(page):
    """The fenced blocks of a page: language, text, and what stands before."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [(block[1], block[2], text[: block.start()]) for block in found]


def of_root(page):
    return page.relative_to(ROOT).as_posix()


def command_lines(text):
    """The commands of lowshot in a block, without what follows them in the shell."""
    joined = text.replace("\\\n", " ")
    found = (re.match(r"(?:\$ )?lowshot (.*)", line) for line in joined.splitlines())
    return [shlex.split(match[1], comments=True) for match in found if match]


COMMANDS = sorted(
    {(of_root(page), shlex.join(c)) for page in PAGES for _, text, _ in blocks(page) for c in command_lines(text)}
)


class Parsed(BaseException):
    """The arguments of a command were understood; nothing more is done."""


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=lambda value: value)
def test_commands_on_pages_are_understood(page, command, monkeypatch):
    import tyro

    from lowshot.cli import main

    parser = tyro.cli

    def parse(*args, **options):
        parser(*args, **options)
        raise Parsed

    monkeypatch.setattr("tyro.cli", parse)
    with pytest.raises(Parsed):
        assert main(shlex.split(command)) == 0


def sessions(page):
    """The commands of a page that show their output: ``(command, output)``, those that a test can run."""
    found = []
    for _, text, before in blocks(page):
        if not NOT_RUN.search(before):
            parts = re.split(r"^\$ (.+)\n", text, flags=re.MULTILINE)[1:]
            found += zip(parts[::2], parts[1::2], strict=True)
    return found


NUMBER = re.compile(r"(?<![\w-])[+-]?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?(?![\w])")


def likeness(text):
    """A text with a mark in place of each measured number, and these numbers.

    Measured is what has a decimal point or stands before a unit of time; counts have to be the same.
    """
    numbers = []

    def mark(match):
        measured = "." in match[0] or re.match(r" (s|ms|min)\b", text[match.end() :])
        if not measured:
            return match[0]
        numbers.append(None if re.match(r" (s|ms|min)\b", text[match.end() :]) else float(match[0].replace(",", "")))
        return "#"

    return re.sub(r" +", " ", NUMBER.sub(mark, text)).strip(), numbers


def assert_alike(printed, promised):
    """Words and counts are the same, times are any, and accuracies those of another processor."""
    (words, numbers), (expected, figures) = likeness(printed), likeness(promised)
    assert words == expected
    for number, figure in zip(numbers, figures, strict=True):
        if figure is not None:
            assert number == pytest.approx(figure, abs=3 if abs(figure) >= 3 else 1), promised


WITH_SESSIONS = [page for page in PAGES if sessions(page)]


@pytest.mark.long
@pytest.mark.parametrize("page", WITH_SESSIONS, ids=of_root)
def test_commands_on_pages_print_what_they_show(page, tmp_path, monkeypatch):
    from lowshot.cli import main

    shutil.copy(ROOT / "docs" / "demo" / "three.png", tmp_path)
    monkeypatch.chdir(tmp_path)
    for command, promised in sessions(page):
        program, *arguments = shlex.split(command)
        assert program == "lowshot", command
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            main(arguments)
        assert_alike(printed.getvalue(), promised)


def texts_of_the_package():
    """The code, with texts that go on in the next line as one."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src" / "lowshot").rglob("*.py"))
    return re.sub(r'"\s*\n\s*f?"', "", code)


def test_messages_of_the_troubleshooting_page_are_those_of_the_code():
    page = (ROOT / "docs" / "start" / "troubleshooting.md").read_text(encoding="utf-8")
    messages = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    assert len(messages) > 20
    texts = texts_of_the_package()
    for message in messages:
        for part in (part.strip(" ;:") for part in message.split("...")):
            assert part in texts or part.removeprefix("unknown ") in texts, message


@pytest.mark.parametrize("page", PAGES, ids=of_root)
def test_grids_on_pages_can_be_read(page, tmp_path):
    from lowshot.bench.grid import read_grid

    for language, text, _ in blocks(page):
        if language == "toml" and "[grid]" in text:
            (tmp_path / "grid.toml").write_text(text, encoding="utf-8")
            assert read_grid(tmp_path / "grid.toml")
