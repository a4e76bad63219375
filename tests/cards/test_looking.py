"""Cards from real data and a model: which ones come, and which no more once they are decided."""

import importlib.util
import re

import numpy as np
import pytest
from PIL import Image

from lowshot.cards import ClassFolders, CopiedCards, Decisions, DoubtedCards, SuggestedCards, Table, rows_of
from lowshot.cli import main
from lowshot.data import addition_from, load_task
from lowshot.errors import DataError
from lowshot.settings import preset_recipe
from refusing import refused


@pytest.fixture
def recipe(tiny_clip):
    return preset_recipe("paper", "gda").replace(model=str(tiny_clip), views=None)


def drawn(path, light, number):
    """Write noise that is light or dark."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(200, 250, (24, 24)).astype(np.uint8) - (0 if light else 190)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def photos(tmp_path):
    """Twelve images of each class, of which one of each lies in the other's folder."""
    for label, light in (("dark", False), ("light", True)):
        for number in range(12):
            drawn(tmp_path / "photos" / label / f"{number}.png", light != (number == 5), number + 100 * light)
    return tmp_path / "photos"


@pytest.fixture
def new(tmp_path):
    for number in range(12):
        drawn(tmp_path / "new" / f"{number}.png", number % 2, 300 + number)
    return tmp_path / "new"


def answered(decisions, look, label, count=3):
    """Answer so many cards of a round, and look for the next."""
    cards = look(decisions)
    decisions.begin_round(cards, ["dark", "light"])
    for card in cards[:count]:
        decisions.decide(card.key, {"label": label(card)})
    return cards


@pytest.mark.parametrize("put", ["table", "copy", "move"])
def test_suggestions_go_on_from_the_labels_also_in_another_process(tmp_path, photos, new, recipe, put):
    place = lambda: Table(tmp_path / "labels.csv") if put == "table" else ClassFolders(photos, "suggest", put)  # noqa: E731
    known, seen = addition_from(photos), []
    with Decisions(place(), {}) as decisions:
        look = SuggestedCards(new, recipe, known, count=4)
        for _ in range(2):
            seen += [card.key for card in answered(decisions, look, lambda _: "dark")[:3]]
        assert len(set(seen)) == 6
    with Decisions(place(), {}) as decisions:
        look = SuggestedCards(new, recipe, addition_from(photos), count=99)
        rest = {card.key for card in look(decisions)}
        assert rest == {str(path) for path in (tmp_path / "new").glob("*.png")} - set(seen)
        answered(decisions, look, lambda _: "dark", count=99)
        assert look(decisions) == []
    with Decisions(place(), {}) as decisions:
        assert SuggestedCards(new, recipe, addition_from(photos))(decisions) == []
    if put != "table":
        task = load_task(photos)
        assert np.bincount(task.train.labels).tolist() == [24, 12]


def test_without_any_class_the_first_ones_are_named_on_the_page(tmp_path, new, recipe):
    with Decisions(Table(tmp_path / "labels.csv"), {}) as decisions:
        look = SuggestedCards(new, recipe, count=3)
        decisions.begin_round(look(decisions))
        for card, name in zip(list(decisions.cards.values()), ("ink", "paper", "ink"), strict=True):
            assert (card.looks_like, card.why) == (None, "typical")
            decisions.decide(card.key, {"label": decisions.add_classes([name])[0]})
        assert {card.looks_like for card in look(decisions)} <= {"ink", "paper"}
    with refused(DataError, tmp_path / "empty", "no images"), Decisions(Table(tmp_path / "other.csv"), {}) as decisions:
        (tmp_path / "empty").mkdir()
        SuggestedCards(tmp_path / "empty", recipe)(decisions)


@pytest.mark.parametrize("in_place", [False, True])
def test_doubts_that_are_decided_are_not_asked_about_again(tmp_path, photos, recipe, in_place):
    task = load_task(photos)
    place = ClassFolders(photos, "doubt", "move") if in_place else Table(tmp_path / "clean.csv", rows_of(task))
    look = DoubtedCards(lambda: load_task(photos), recipe)
    with Decisions(place, {}) as decisions:
        cards = look(decisions)
        assert {(card.key, card.labels[0], card.looks_like) for card in cards} == {
            (str(photos / "dark" / "5.png"), "dark", "light"),
            (str(photos / "light" / "5.png"), "light", "dark"),
        }
        decisions.begin_round(cards, task.class_names)
        decisions.decide(str(photos / "dark" / "5.png"), {"label": "light"})
        decisions.decide(str(photos / "light" / "5.png"), {"left_out": [0]})
        assert look(decisions) == []
    task_again = load_task(photos if in_place else tmp_path / "clean.csv")
    assert np.bincount(task_again.train.labels).tolist() == [11, 12]


def test_copies_that_are_left_out_are_found_no_more(tmp_path, photos, recipe):
    Image.open(photos / "dark" / "0.png").save(photos / "light" / "copy.png")
    look = CopiedCards(lambda: load_task(photos), recipe)
    with Decisions(Table(tmp_path / "clean.csv", rows_of(load_task(photos))), {}) as decisions:
        [card, *others] = [each for each in look(decisions) if each.why == "the same pixels"]
        assert (card.labels, others) == (("dark", "light"), [])
        decisions.begin_round([card])
        decisions.decide(card.key, {"left_out": [1]})
        assert card.images not in {each.images for each in look(decisions)}
        assert len(load_task(tmp_path / "clean.csv").train) == 24


@pytest.fixture
def ran(monkeypatch, tiny_clip, capsys):
    """A command with a page that is not served: its status, and what it printed."""
    from lowshot.cards import app

    shown = []

    def serve(session, listening, announce):
        announce()
        shown.append(session.state())

    monkeypatch.setattr(app, "serve_cards", serve)

    def run(*arguments):
        status = main([*map(str, arguments), "--model", str(tiny_clip), "--port", "0"])
        printed = capsys.readouterr()
        return status, printed.out + printed.err, shown[-1] if shown else None

    return run


def test_the_commands_say_where_the_page_is(ran, photos, new, tmp_path):
    status, errors, state = ran("suggest", photos, new, "--count", 4, "--page", tmp_path / "labels.csv")
    assert status == 0
    assert re.match(r"4 cards at http://127\.0\.0\.1:\d+/, labels go to .*labels\.csv", errors)
    assert (state["classes"], state["then"]) == (["dark", "light"], f"lowshot fit {tmp_path / 'labels.csv'}")
    status, errors, state = ran("doubt", photos, "--page", tmp_path / "clean.csv")
    assert (status, errors.split(" at ")[0], state["kind"]) == (0, "2 cards", "doubt")
    assert ran("doubt", photos, "--copies", "--page", photos)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("suggest", "NEW", "--page", "labels.txt"), "ends in .csv or .jsonl"),
        (("suggest", "NEW", "--page", "NEW/classes"), "one in the other"),
        (("suggest", "NEW", "--page", "far/labels.csv"), "expected the labels in"),
        (("suggest", "NEW", "--page", "labels.csv", "--move"), "way to put images into folders"),
        (("suggest", "NEW", "--link", "--move"), "expected one of them"),
        (("suggest", "nowhere", "--page", "labels.csv"), "does not exist"),
        (("suggest", "NEW", "--page", "labels.csv", "--csv"), "expected one of them"),
        (("doubt", "PHOTOS", "--page", "other"), "or DATA itself"),
        (("doubt", "digits", "--page", "labels.csv"), "in files of their own"),
    ],
)
def test_a_page_that_cannot_be_is_refused(ran, photos, new, tmp_path, monkeypatch, arguments, reason):
    monkeypatch.chdir(tmp_path)
    status, errors, _ = ran(*(each.replace("NEW", "new").replace("PHOTOS", "photos") for each in arguments))
    assert status == 2
    assert reason in errors


def test_a_missing_package_is_named(ran, monkeypatch, new, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    status, errors, _ = ran("suggest", new, "--page", tmp_path / "labels.csv")
    assert status == 2
    assert "--page needs the package fastapi" in errors
