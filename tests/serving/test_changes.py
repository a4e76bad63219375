"""Adapters with other classes over HTTP: what is refused, and what the process that teaches makes of a request."""

import json
import shutil

import numpy as np
import pytest

from lowshot import FewShotClassifier, teaching
from lowshot.classifier import saved_adapter
from lowshot.serving import AdapterBank
from lowshot.serving.examples import read_examples, write_examples

from .conftest import CLASSES, pictures
from .running import error_of, files, png, running, until

IMAGES = list(pictures(8, seed=3))
LABELS = [CLASSES[row % 3] for row in range(6)]
LIMITS = {"classes": 4, "images_per_class": 3}


@pytest.fixture(scope="module")
def bank(tiny_clip, tmp_path_factory):
    """A bank with a head that has pictures, one without, and an adapter inside the towers."""
    folder = tmp_path_factory.mktemp("bank")
    for name, method in (("head", "nearest-mean"), ("bare", "nearest-mean"), ("inside", "lora")):
        fast = {} if method == "nearest-mean" else {"base_steps": 1, "steps_per_shot": 0, "rank": 2}
        FewShotClassifier(str(tiny_clip), method=method, **fast).fit(IMAGES[:6], LABELS).save_pretrained(folder / name)
    write_examples(folder / "head", IMAGES[:6], LABELS)
    return folder


@pytest.fixture(scope="module")
def idle(tiny_clip, bank):
    with running(bank, model=str(tiny_clip), **LIMITS) as served:
        yield served
        assert served.client.get("/v1/jobs").json() == {"jobs": []}
        assert sorted(path.name for path in bank.iterdir() if not path.name.startswith(".")) == [
            "bare",
            "head",
            "inside",
        ]


def add(server, of="head", name="more", images=IMAGES[6:], labels=("bee", "bee")):
    form = {"name": name, "labels": list(labels)}
    return server.client.post(f"/v1/adapters/{of}/add", files=files(*map(png, images)), data=form)


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ({"of": "nobody"}, 404, "unknown_name"),
        ({"name": "head"}, 409, "name_taken"),
        ({"name": "A b"}, 422, "unusable_name"),
        ({"labels": ("bee",)}, 400, "damaged_body"),
        ({"labels": ("bee", "")}, 422, "unusable_classes"),
        ({"labels": ("bee", CLASSES[0].upper())}, 422, "unusable_classes"),
        ({"labels": ("bee", "hen")}, 422, "unusable_classes"),
        ({"images": IMAGES[:4], "labels": ("bee",) * 4}, 422, "unusable_classes"),
    ],
    ids=str,
)
def test_what_cannot_be_added_is_refused_before_anything_is_queued(idle, asked, status, code):
    error_of(add(idle, **asked), status, code)


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("nobody/remove", {"name": "less", "classes": ["cat"]}, 404, "unknown_name"),
        ("head/remove", {"name": "less", "classes": ["bee"]}, 422, "unusable_classes"),
        ("head/remove", {"name": "less", "classes": []}, 422, "unusable_classes"),
        ("head/remove", {"name": "less", "classes": list(CLASSES[:2])}, 422, "unusable_classes"),
        ("head/remove", {"name": "less", "classes": "cat"}, 400, "damaged_body"),
        ("head/remove", {"name": "less"}, 400, "damaged_body"),
        ("head/remove", [], 400, "damaged_body"),
        ("head/rename", {"name": "other", "old": "bee", "new": "bull"}, 422, "unusable_classes"),
        ("head/rename", {"name": "other", "old": CLASSES[0], "new": CLASSES[1].upper()}, 422, "unusable_classes"),
        ("head/rename", {"name": "other", "old": CLASSES[0], "new": " "}, 422, "unusable_classes"),
        ("head/rename", {"name": "bare", "old": CLASSES[0], "new": "bull"}, 409, "name_taken"),
    ],
    ids=str,
)
def test_classes_that_cannot_go_or_be_renamed_are_refused(idle, path, body, status, code):
    error_of(idle.client.post(f"/v1/adapters/{path}", json=body), status, code)


def test_a_server_that_only_reads_changes_nothing(bank, tiny_clip):
    with running(bank, model=str(tiny_clip), teach=False) as server:
        error_of(add(server), 403, "read_only")
        error_of(server.client.post("/v1/adapters/head/rename", json={}), 403, "read_only")


def changed(bank, tmp_path, tiny_clip, what, of="head", **values):
    """What the process of a job makes of it, in this process."""
    folder = tmp_path / ".teaching" / "job"
    folder.mkdir(parents=True)
    images = values.pop("images", ())
    for number, image in enumerate(images):
        (folder / str(number)).write_bytes(png(image))
    listed = [{"file": str(number), "class": "bee"} for number in range(len(images))]
    job = {"name": "new", "model": str(tiny_clip), "change": {"what": what, "adapter": str(bank / of)}, **values}
    (folder / "job.json").write_text(json.dumps({**job, **({"images": listed} if images else {})}), encoding="utf-8")
    teaching.teach(folder)
    return folder / "adapter"


def test_added_images_are_learnt_and_are_among_the_pictures(bank, tmp_path, tiny_clip, capsys):
    folder = changed(bank, tmp_path, tiny_clip, "add", images=IMAGES[6:])
    whole = FewShotClassifier(str(tiny_clip), method="nearest-mean").fit(IMAGES, [*LABELS, "bee", "bee"])
    classifier, names = saved_adapter(folder), list(whole.classes_)
    order = [list(classifier.classes_).index(name) for name in names]
    np.testing.assert_allclose(classifier.predict_proba(IMAGES)[:, order], whole.predict_proba(IMAGES), atol=1e-6)
    before = read_examples(bank / "head")
    examples = read_examples(folder)
    assert [each.class_name for each in examples] == [*LABELS, "bee", "bee"]
    assert len({each.id for each in examples}) == 8
    assert [each.read() for each in examples[:6]] == [each.read() for each in before]
    assert json.loads(capsys.readouterr().out.splitlines()[0]) == {"what": "loading the model"}


def test_an_adapter_without_pictures_gets_none_of_the_new_images_alone(bank, tmp_path, tiny_clip):
    folder = changed(bank, tmp_path, tiny_clip, "add", of="bare", images=IMAGES[6:])
    assert "bee" in saved_adapter(folder).classes_
    assert read_examples(folder) == []


def test_a_class_on_top_of_adapted_towers_is_served_with_others_in_one_batch(bank, tmp_path, tiny_clip):
    folder = changed(bank, tmp_path, tiny_clip, "add", of="inside", images=IMAGES[6:])
    served = tmp_path / "served"
    shutil.copytree(bank, served)
    shutil.copytree(folder, served / "more")
    names = ["more", "inside", "head", "more"]
    answers = AdapterBank(served, model=str(tiny_clip), half_classes=False).predict(IMAGES[4:], names)
    for image, name, answer in zip(IMAGES[4:], names, answers, strict=True):
        alone = saved_adapter(served / name)
        assert answer.classes == tuple(alone.record_.classes)
        np.testing.assert_allclose(answer.probabilities, alone.predict_proba([image])[0], atol=1e-5)
    assert "bee" in answers[0].classes


def test_classes_go_with_their_pictures_and_names_with_theirs(bank, tmp_path, tiny_clip):
    less = changed(bank, tmp_path / "a", tiny_clip, "remove", classes=[CLASSES[0]])
    assert set(saved_adapter(less).classes_) == {each.class_name for each in read_examples(less)} == set(CLASSES[1:])
    inside = changed(bank, tmp_path / "b", tiny_clip, "remove", of="inside", classes=[CLASSES[0]])
    assert set(saved_adapter(inside).classes_) == set(CLASSES[1:])
    other = changed(bank, tmp_path / "c", tiny_clip, "rename", old=CLASSES[0], new="bull")
    assert {"bull", *CLASSES[1:]} == set(saved_adapter(other).classes_)
    assert {each.class_name for each in read_examples(other)} == {"bull", *CLASSES[1:]}


def test_an_adapter_that_is_gone_by_then_is_named_without_its_folder(tmp_path, tiny_clip, monkeypatch, capsys):
    monkeypatch.setattr(teaching, "end_with_the_server", lambda: None)
    monkeypatch.setattr(teaching.os, "nice", lambda by: None)
    monkeypatch.setattr(teaching.sys, "argv", ["teaching"])
    folder = tmp_path / ".teaching" / "job"
    folder.mkdir(parents=True)
    change = {"what": "remove", "adapter": str(tmp_path / "gone")}
    (folder / "job.json").write_text(json.dumps({"model": str(tiny_clip), "change": change}), encoding="utf-8")
    assert teaching.main(folder) == 2
    error = json.loads(capsys.readouterr().out.splitlines()[-1])["error"]
    assert "gone" in error and str(tmp_path) not in error


@pytest.mark.long
def test_a_class_that_is_added_over_http_is_served(bank, tiny_clip, tmp_path):
    shutil.copytree(bank / "head", tmp_path / "head")
    with running(tmp_path, model=str(tiny_clip), **LIMITS) as server:
        answer = add(server)
        assert answer.status_code == 202 and answer.headers["location"] == answer.json()["url"]
        job = until(lambda: (state := server.client.get(answer.json()["url"]).json())["state"] == "done" and state)
        assert job["adapter"] == "more"
        form = {"files": files(png(IMAGES[6])), "params": {"neighbours": 1}}
        [prediction] = server.client.post("/v1/adapters/more/predict", **form).json()["predictions"]
        assert prediction["classes"][0]["name"] == prediction["neighbours"][0]["class"] == "bee"
