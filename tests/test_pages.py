"""Pages: commands that are understood, outputs that are printed, messages that are raised, grids that are read."""

import contextlib
import io
import itertools
import json
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
RUN_WITH = re.compile(r"<!-- run with: (.+?) -->\s*\Z")
"""What stands before a block whose commands the test gives more options, such as more time."""


def blocks(page):
    """The fenced blocks of a page: language, text, and what stands before."""
    text = page.read_text(encoding="utf-8")
    blocks = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [(block[1], block[2], text[: block.start()]) for block in blocks]


def of_root(page):
    return page.relative_to(ROOT).as_posix()


SHELL = {"|", ">", ">>", "<", "&&", ";", "2>&1"}


def command_lines(text):
    """The commands of lowshot in a block, without what follows them in the shell."""
    joined = text.replace("\\\n", " ")
    matches = (re.match(r"(?:\$ )?lowshot (.*)", line) for line in joined.splitlines())
    commands = [shlex.split(match[1], comments=True) for match in matches if match]
    return [[*itertools.takewhile(lambda word: word not in SHELL, command)] for command in commands]


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
    """The commands of a page that show their output: ``(command, options that the test adds, output)``."""
    promises = []
    for _, text, before in blocks(page):
        if NOT_RUN.search(before):
            continue
        added = RUN_WITH.search(before)
        parts = re.split(r"^\$ (.+)\n", text, flags=re.MULTILINE)[1:]
        for command, promised in zip(parts[::2], parts[1::2], strict=True):
            if command.startswith("lowshot "):
                promises.append((command, added[1] if added else "", promised))
    return promises


PIECES = re.compile(
    r"(?P<any>\.\.\.)|(?P<space>\s+)|(?P<number>(?<![A-Za-z\d_.])(?<![A-Za-z]-)[+-]?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?(?!\w))"
)
A_NUMBER = r"([+-]?\d[\d,.]*(?:e-?\d+)?)"
PROGRESS = re.compile(r"^.*: \d+ of \d+, \d+ s left\n", re.MULTILINE)


def pattern_of(promised):
    """A pattern of what is promised, and its measured numbers: those with a decimal point, and times, which are None.

    Words and counts have to be the same; ``...`` stands for anything.
    """
    pattern, numbers, end = "", [], 0
    for piece in PIECES.finditer(promised):
        pattern += re.escape(promised[end : piece.start()])
        end = piece.end()
        if piece["any"]:
            pattern += r"[\s\S]*?"
        elif piece["space"]:
            pattern += r"\s*"
        else:
            is_time = re.match(r" (s|ms|min)\b", promised[end:])
            numbers += [None if is_time else float(piece[0].replace(",", ""))] if is_time or "." in piece[0] else []
            pattern += A_NUMBER if is_time or "." in piece[0] else re.escape(piece[0])
    return rf"\s*{pattern}{re.escape(promised[end:])}\s*", numbers


def assert_alike(printed, promised):
    """Words and counts are the same, times are any, accuracies may be those of another processor."""
    pattern, numbers = pattern_of(promised)
    match = re.fullmatch(pattern, PROGRESS.sub("", printed))
    assert match, f"promised:\n{promised}\nprinted:\n{printed}"
    for text, number in zip(match.groups(), numbers, strict=True):
        if number is not None:
            assert float(text.replace(",", "")) == pytest.approx(number, abs=3 if abs(number) >= 3 else 1), printed


@pytest.mark.parametrize(
    ("promised", "printed", "is_alike"),
    [
        (
            "accuracy 96.3 % (95.0-97.6) on 901 images, 5.6 s\n",
            "accuracy 95 % (94.1-97.0) on 901 images, 12.0 s\n",
            True,
        ),
        ("accuracy 96.3 % on 901 images", "accuracy 92.3 % on 901 images", False),
        ("accuracy 96.3 % on 901 images", "accuracy 96.3 % on 900 images", False),
        ("lora   50.0%   11.3 s", "lora  49.1%  9.0 s", True),
        ("first\n...\nlast", "first\nmore 1.5\nlast", True),
        ("first\nlast", "first\nmore\nlast", False),
        ("largest difference 1.4e-04", "largest difference 1.9e-04", True),
    ],
)
def test_outputs_are_compared_by_words_counts_and_nearly_by_measures(promised, printed, is_alike):
    if is_alike:
        assert_alike(printed, promised)
    else:
        with pytest.raises(AssertionError):
            assert_alike(printed, promised)


def prepared(folder):
    """The files that pages speak of: images, photographs of cats, names of classes, a model's configuration."""
    import numpy as np
    from PIL import Image
    from transformers import CLIPConfig

    from lowshot.data import builtin_task

    shutil.copy(ROOT / "docs" / "demo" / "three.png", folder)
    draw = np.random.default_rng(0)
    for label in ("maine_coon", "siamese"):
        for split, count in (("train", 8), ("test", 4)):
            place = folder / "photos" / split / label
            place.mkdir(parents=True)
            for number in range(count):
                pixels = draw.integers(0, 255, (48, 48, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{split}{number}.jpg")
    test = folder / "photos" / "test"
    shutil.copy(folder / "photos" / "train" / "maine_coon" / "train0.jpg", test / "maine_coon" / "again.jpg")
    damaged = test / "siamese" / "test3.jpg"
    damaged.write_bytes(damaged.read_bytes()[:100])
    letters = builtin_task("letters").test.images
    (folder / "letters").mkdir()
    for number in range(100):
        Image.fromarray(letters[number]).save(folder / "letters" / f"{number}.png")
    shapes = builtin_task("shapes").test.images
    (folder / "shapes").mkdir()
    for number in range(3):
        Image.fromarray(shapes[number]).save(folder / "shapes" / f"{number}.png")
    names = {"digit one": ["digit one", "one"], "digit seven": "seven"}
    (folder / "names.json").write_text(json.dumps(names), encoding="utf-8")
    (folder / "misspelt.json").write_text(json.dumps({**names, "digit eigth": "eight"}), encoding="utf-8")
    vision, text = {"patch_size": 16, "num_attention_heads": 12}, {"eos_token_id": 49407}
    configuration = CLIPConfig(vision_config=vision, text_config=text)
    configuration.save_pretrained(folder / "openai" / "clip-vit-base-patch16")


def grid_of(page):
    """The last grid of a page, which its commands call grid.toml; empty if it has none."""
    return "".join([text for language, text, _ in blocks(page) if language == "toml" and "[grid]" in text][-1:])


def programs():
    """Pages with outputs, those that run the very same together."""
    groups = {}
    for page in PAGES:
        if ran := sessions(page):
            groups.setdefault((grid_of(page), *(each[:2] for each in ran)), []).append(page)
    return [*groups.values()]


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("pages", programs(), ids=lambda pages: "+".join(map(of_root, pages)))
def test_commands_on_pages_print_what_they_show(pages, tmp_path, monkeypatch):
    from lowshot.cli import main

    prepared(tmp_path)
    (tmp_path / "grid.toml").write_text(grid_of(pages[0]), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for same in zip(*map(sessions, pages), strict=True):
        command, added, _ = same[0]
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            main([*shlex.split(command)[1:], *shlex.split(added)])
        for *_, promised in same:
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


def measured(row):
    """Whether a row of a table has two figures or more with a decimal point, and nothing else beside them."""
    figure = r"[*+-]*\d[\d,]*\.\d+ ?%?(?: ± [\d.]+|-[\d.]+)?\**"
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    return sum(re.fullmatch(figure, cell) is not None for cell in cells) >= 2


COMMITTED = re.compile(r"(?:benchmarks|tools)/\w+\.(?:py|json)|recipes/[\w-]+\.toml|docs/demo/demo\.json")


def has_origin(section):
    """Whether text names what measured its figures: a program, a recipe, a command on a built-in task, results.

    Of a program that is no more the commit is named, of figures that are quoted the table elsewhere.
    """
    from lowshot.data import BUILTIN_TASKS, TASKS_OF_SEVERAL

    programs = any((ROOT / path).exists() for path in COMMITTED.findall(section))
    commands = {*re.findall(r"lowshot (?:fit|export) ([\w-]+)", section)} & {*BUILTIN_TASKS, *TASKS_OF_SEVERAL}
    quoted = re.search(r"\]\(https://[^)]+\.csv\)", section)
    return programs or commands or quoted or "](../results/" in section or re.search(r"\bcommit\W+[0-9a-f]{7}", section)


def without_origin(page, text):
    """The first row of each section whose figures are neither results nor have an origin."""
    results = (ROOT / "docs" / "results").glob("*/results.md")
    known = {line for path in results for line in path.read_text(encoding="utf-8").splitlines()}
    for section in re.split(r"^(?=#+ )", text, flags=re.MULTILINE):
        rows = [line for line in section.splitlines() if line.startswith("|") and measured(line) and line not in known]
        if rows and not has_origin(section):
            yield f"{page}: {rows[0]}"


def test_figures_of_pages_are_results_or_name_what_measured_them():
    texts = {of_root(page): page.read_text(encoding="utf-8") for page in PAGES if page.parent.name != "reference"}
    assert not [row for page, text in texts.items() for row in without_origin(page, text)]
    assert not [page for page, text in texts.items() if "was not kept" in text]
    choosing = texts["docs/start/choosing.md"].replace("62.8 ± 0.7", "63.8 ± 0.7")
    assert len([*without_origin("changed", choosing.replace("](../results/", "]("))]) == 1
