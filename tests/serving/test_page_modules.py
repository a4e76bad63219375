"""Those modules of the page that compute and show nothing, run in one page of a browser."""

from __future__ import annotations

import pytest

from .browsing import ADDRESS, IN_BROWSER, LIMITS, MadeUpServer, chromium, opened

pytestmark = [pytest.mark.long, *IN_BROWSER]


@pytest.fixture(scope="module")
def call():
    """A function that calls one of the page's functions: module, name, arguments."""
    with chromium() as browser, opened(browser) as page:
        MadeUpServer().serve(page)
        page.goto(ADDRESS)
        script = "async ([module, name, given]) => (await import(`/static/${module}.js`))[name](...given)"
        yield lambda module, name, *given: page.evaluate(script, [module, name, given])


def of(name, *fingerprints):
    """A class in the form."""
    return {"name": name, "images": [{"name": f"{each}.png", "fingerprint": each} for each in fingerprints]}


CIRCLE, SQUARE = of("circle", 1, 2), of("square", 3)
UNTOUCHED = of("")


@pytest.mark.parametrize(
    ("classes", "name", "expected"),
    [
        ([CIRCLE, SQUARE, UNTOUCHED], "mine", []),
        ([UNTOUCHED], "mine", [(None, "There are no classes yet; two are needed.")]),
        ([CIRCLE, UNTOUCHED], "mine", [(None, "There is one class alone; to tell things apart takes two.")]),
        ([CIRCLE, of("star")], "mine", [(1, "“star” has no images: add a few, or remove the class.")]),
        ([CIRCLE, of(" ", 5)], "mine", [(1, "Class 2 has no name.")]),
        ([CIRCLE, of("Circle ", 5)], "mine", [(1, "Classes 1 and 2 are both called “Circle”.")]),
        ([CIRCLE, of("star", 2)], "mine", [(1, "2.png is in class 1 and in class 2; it can be in one.")]),
        ([CIRCLE, of("star", *range(9, 18))], "mine", [(1, "“star” has 9 images; expected at most 8.")]),
        (
            [of(str(n), n) for n in range(11)],
            "mine",
            [(None, "There are 11 classes; this server takes 10 at most.")],
        ),
        ([CIRCLE, SQUARE], "", [("name", "The classifier has no name.")]),
        (
            [CIRCLE, SQUARE],
            "taken",
            [("name", "There is a classifier called “taken” already; choose another name.")],
        ),
    ],
)
def test_all_that_is_wrong_with_a_form_is_found(call, classes, name, expected):
    problems = call("checks", "problemsOf", {"name": name, "classes": classes}, ["taken"], LIMITS)

    assert [(each["about"], each["message"]) for each in problems] == expected


@pytest.mark.parametrize("name", ["Shapes", "a b", "-a", "a..b", "a/b", "ä", "a" * 65, ".a"])
def test_a_name_that_the_server_would_refuse_is_told(call, name):
    [problem] = call("checks", "problemsOf", {"name": name, "classes": [CIRCLE, SQUARE]}, [], LIMITS)

    assert problem["about"] == "name"
    assert "cannot be a name" in problem["message"]


@pytest.mark.parametrize(
    ("classes", "names", "name"),
    [
        (["circle", "square"], [], "circle-square"),
        (["circle", "square"], ["circle-square", "circle-square-2"], "circle-square-3"),
        (["Oak leaf!", "Épinette"], [], "oak-leaf-e-pinette"),
        (["a", "b", "c", "d", "e"], [], "a-b-and-3-more"),
        (["漢", "字"], [], ""),
        (["x" * 100, "y"], [], "x" * 56),
    ],
)
def test_a_free_name_is_suggested_from_the_classes(call, classes, names, name):
    assert call("checks", "suggestedName", [of(each) for each in classes], names) == name


def test_what_is_taught_again_is_called_the_next_of_its_name(call):
    assert call("checks", "suggestedName", [CIRCLE], ["shapes", "shapes-2"], "shapes-2") == "shapes-3"


def files_at(*paths):
    """Files in folders."""
    parts = [path.split("/") for path in paths]
    return [{"name": name, "folders": folders} for *folders, name in parts]


@pytest.mark.parametrize(
    ("paths", "classes", "notes"),
    [
        (["cat/1.jpg", "cat/2.jpg"], {"cat": 2}, []),
        (["cat/1.jpg", "dog/2.jpg"], {"cat": 1, "dog": 1}, []),
        (["p/cat/1.jpg", "p/oak_leaf/deep/2.jpg"], {"cat": 1, "oak leaf": 1}, []),
        (["p/b10/1.jpg", "p/b9/2.jpg"], {"b9": 1, "b10": 1}, []),
        (["p/cat/.DS_Store", "p/cat/1.jpg", "p/dog/Thumbs.db", "p/dog/1.jpg"], {"cat": 1, "dog": 1}, []),
        (["p/cat/1.jpg", "p/dog/1.jpg", "p/2.jpg"], {"cat": 1, "dog": 1}, ["p/2.jpg left out: in no class's folder."]),
        (
            ["p/cat/1.jpg", "p/cat/a.txt", "p/dog/1.jpg", "p/dog/b.csv"],
            {"cat": 1, "dog": 1},
            ["p/cat/a.txt and 1 more file left out: by the name no image."],
        ),
        (
            ["p/train/cat/1.jpg", "p/train/dog/1.jpg", "p/test/cat/2.jpg", "p/val/dog/2.jpg"],
            {"cat": 1, "dog": 1},
            ["Only what is in train is taken: 2 images left out."],
        ),
        (["p/train/1.jpg", "p/bus/1.jpg"], {"bus": 1, "train": 1}, []),
        (
            [f"p/cat/{n}.jpg" for n in range(16)] + ["p/dog/1.jpg"],
            {"cat": 8, "dog": 1},
            ["“cat” has 16 images: 8 spread over them are taken."],
        ),
        ([], {}, []),
    ],
)
def test_folders_are_classes(call, paths, classes, notes):
    answer = call("folders", "classesOf", files_at(*paths), LIMITS)

    assert {each["name"]: len(each["files"]) for each in answer["classes"]} == classes
    assert [each["name"] for each in answer["classes"]] == list(classes)
    assert answer["notes"] == notes


@pytest.mark.parametrize(
    ("share", "words"),
    [(0, "0.0"), (0.0004, "< 0.1"), (0.5, "50.0"), (0.9714, "97.1"), (0.9994, "> 99.9"), (1, "100.0")],
)
def test_percent_never_rounds_up_to_certainty(call, share, words):
    assert call("words", "percent", share) == f"{words}\u202f%"


@pytest.mark.parametrize(
    ("count", "words"), [(999, "999 bytes"), (20_888, "21 KB"), (1_500_000, "1.5 MB"), (2e9, "2 GB")]
)
def test_bytes_are_counted_in_thousands(call, count, words):
    assert call("words", "bytes", count) == words


@pytest.mark.parametrize(
    ("count", "words"), [(4.21, "4.2 s"), (42.1, "42 s"), (95, "1 min 35 s"), (119.7, "2 min 0 s")]
)
def test_seconds_beyond_ninety_are_minutes(call, count, words):
    assert call("words", "seconds", count) == words
