"""The page's server: what it answers, and what it refuses."""

import io
import threading

import pytest
from PIL import Image

from lowshot.cards import Decisions, Session, Table

from .conftest import Rounds, served


@pytest.fixture
def client(session):
    with served(session) as client:
        yield client


def keys(state):
    return [card["key"] for card in state["cards"]]


def test_a_card_is_answered_and_the_next_round_has_others(client, images, tmp_path):
    state = client.get("v1/cards").json()
    assert keys(state) == images[:3]
    assert state["classes"] == ["cat", "dog"]
    for image, label in zip(images[:3], ["cat", "dog", "cat"], strict=True):
        client.post("v1/decisions", json={"card": image, "choice": {"label": label}}).raise_for_status()
    assert (tmp_path / "labels.csv").read_text().splitlines()[1:] == [
        '"new/0.png","cat"',
        '"new/1.png","dog"',
        '"new/2.png","cat"',
    ]
    then = client.post("v1/rounds", json={"after": state["round"]}).json()
    assert (keys(then), then["round"], then["labelled"]) == (images[3:], 2, 3)
    assert then["guesses"] == {"right": 2, "of": 3}
    late = client.post("v1/rounds", json={"after": state["round"]}).json()
    assert (late["round"], keys(late)) == (2, images[3:]), "a page that is behind gets the round that there is"


def test_a_class_is_added(client, images):
    assert client.post("v1/classes", json={"name": " red_fox "}).json()["name"] == "red fox"
    client.post("v1/decisions", json={"card": images[0], "choice": {"label": "red fox"}}).raise_for_status()
    assert client.get("v1/cards").json()["classes"] == ["cat", "dog", "red fox"]


def test_images_are_shown_and_one_that_cannot_be_read_says_so(client, images):
    state = client.get("v1/cards").json()
    kinds = []
    for card in state["cards"]:
        answer = client.get(f"images/{card['images'][0]['id']}")
        assert answer.headers["cache-control"].startswith("private")
        kinds.append(Image.open(io.BytesIO(answer.content)).format)
    assert kinds == ["JPEG", "JPEG", "JPEG"]
    state = client.post("v1/rounds", json={"after": 1}).json()
    for image in images[:3]:
        client.post("v1/decisions", json={"card": image, "choice": {"skip": True}}).raise_for_status()
    bad = client.post("v1/rounds", json={"after": 2}).json()["cards"][1]["images"][0]
    assert client.get(f"images/{bad['id']}").status_code == 422
    assert client.get("images/nothing").status_code == 404
    assert client.get("images/..%2F..%2Fetc%2Fpasswd").status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("v1/decisions", {"card": "no card", "choice": {}}, 404),
        ("v1/decisions", {"card": 0, "choice": {"label": "fox"}}, 404),
        ("v1/decisions", {"card": {"a": 1}}, 422),
        ("v1/decisions", [], 422),
        ("v1/classes", {"name": ""}, 422),
        ("v1/rounds", {"before": 1}, 422),
    ],
)
def test_what_cannot_be_is_refused(client, path, body, status):
    answer = client.post(path, json=body)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


def test_pages_of_other_sites_and_other_names_for_this_machine_are_refused(client, images):
    decision = {"card": images[0], "choice": {"skip": True}}
    for headers in {"Origin": "https://elsewhere.example"}, {"Sec-Fetch-Site": "cross-site"}:
        assert client.post("v1/decisions", json=decision, headers=headers).status_code == 403
    assert client.get("v1/cards", headers={"Host": "elsewhere.example"}).status_code == 400
    assert "default-src 'none'" in client.get("").headers["content-security-policy"]
    for script in "static/dom.js", "static/words.js", "cards/main.js", "cards/cards.css":
        assert client.get(script).status_code == 200


def test_many_at_once_are_answered_one_after_the_other(client, images, tmp_path):
    def answer(label):
        for image in images[:3] * 4:
            client.post("v1/decisions", json={"card": image, "choice": {"label": label}}).raise_for_status()

    threads = [threading.Thread(target=answer, args=(label,)) for label in ("cat", "dog")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    state = client.get("v1/cards").json()
    assert state["revision"] == 24
    shown = [f'"new/{number}.png","{card["choice"]["label"]}"' for number, card in enumerate(state["cards"])]
    assert sorted((tmp_path / "labels.csv").read_text().splitlines()[1:]) == shown


def test_a_server_that_is_started_again_shows_the_same_cards(session, images, tmp_path):
    session.decide(images[1], {"label": "dog"})
    with Decisions(Table(tmp_path / "labels.csv"), {"kind": "suggest"}) as decisions:
        again = Session(decisions, Rounds([]), kind="suggest", where="")
        again.begin(["cat", "dog"])
        cards = again.state()["cards"]
    assert [card["key"] for card in cards] == images[:3]
    assert [card["choice"] for card in cards] == [{}, {"label": "dog"}, {}]


def test_thousands_of_cards_are_told_at_once(tmp_path, images):
    from lowshot.cards import Card

    many = [Card("suggestion", (f"{images[0]}/{number}",), (None,), "cat", 0.5) for number in range(2_000)]
    with Decisions(Table(tmp_path / "many.csv"), {}) as decisions:
        decisions.begin_round(many, ["cat"])
        session = Session(decisions, lambda _: [], kind="suggest", where="")
        assert len(session.state()["cards"]) == 2_000
        for card in many[:5]:
            session.decide(card.key, {"skip": True})
