"""Adapters, their pictures and files, the figures and the page."""

import io
import re
import shutil
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from lowshot import FewShotClassifier
from lowshot.serving import entries, schema

from ..conftest import CLASSES, taught
from ..running import PATIENCE, error_of, png, predict, running, until
from .conftest import IMAGES


def test_the_list_has_every_adapter_and_why_others_are_not_served(client):
    answer = schema.AdaptersAnswer.model_validate(client.get("/v1/adapters").json())
    by_name = {line.name: line for line in answer.adapters}
    assert set(by_name) == {"xs4", "lora4", "zero", "calibrated"}
    assert (by_name["xs4"].method, by_name["xs4"].rank, by_name["xs4"].classes) == ("lora-xs", 4, 3)
    assert by_name["calibrated"].calibrated and not by_name["xs4"].calibrated
    held_out = schema.HeldOutFigure(right=1, images=1, best_of=1)
    assert by_name["calibrated"].held_out == held_out and by_name["xs4"].held_out is None
    [refused] = answer.refused
    assert refused.name == "damaged" and "lowshot.json" in refused.reason


def test_a_list_is_made_of_what_was_read_when_the_server_began(folder, monkeypatch):
    with running(folder, teach=False) as server:
        alone = [server.client.get(f"/v1/adapters/{name}").json() for name in ("calibrated", "lora4", "xs4", "zero")]

        def read_again(path):
            raise AssertionError(f"{path} was read again")

        monkeypatch.setattr(entries, "read_record_and_recipe", read_again)
        lines = server.client.get("/v1/adapters").json()["adapters"]
    assert lines == [{key: told[key] for key in lines[0]} for told in alone]


def test_a_list_has_what_was_added_replaced_and_removed(kinds, copied):
    folder = copied("xs4", "zero")
    with running(folder, teach=False) as server:
        shutil.rmtree(folder / "zero")
        shutil.rmtree(folder / "xs4")
        shutil.copytree(kinds / "lora2", folder / "xs4")
        shutil.copytree(kinds / "calibrated", folder / "new")
        lines = server.client.get("/v1/adapters").json()["adapters"]
    rows = [(line["name"], line["method"], line["rank"], line["classes"]) for line in lines]
    assert rows == [("new", "lora-xs", 4, 2), ("xs4", "lora", 2, 3)]


def test_an_adapter_tells_its_classes_and_pictures(client):
    answer = schema.AdapterAnswer.model_validate(client.get("/v1/adapters/xs4").json())
    assert answer.class_names == list(CLASSES)
    assert [(picture.id, picture.class_) for picture in answer.examples] == list(zip("012", CLASSES, strict=True))


def test_a_download_is_the_adapter_without_its_pictures(client, folder, tmp_path, alone):
    response = client.get("/v1/adapters/xs4/download")
    assert response.headers["content-type"] == "application/zip"
    assert 'filename="xs4.zip"' in response.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        archive.extractall(tmp_path)
    assert not (tmp_path / "xs4" / "examples").exists()
    again = FewShotClassifier.from_pretrained(tmp_path / "xs4").predict_proba(list(IMAGES[:1]))
    assert np.array_equal(again, alone(folder / "xs4", IMAGES[:1]))


def test_the_server_says_what_it_takes(client):
    answer = schema.ServerAnswer.model_validate(client.get("/v1/server").json())
    assert answer.limits["image_bytes"] == 20_000 and answer.teach and not answer.token_required
    assert answer.methods == ["lora-xs", "lora", "zero-shot", "auto"] and "rank" in answer.settings


def test_an_adapter_replaced_while_it_is_asked_is_the_old_one_or_the_new_one(tiny_clip, tmp_path):
    old, new = (taught(tiny_clip, "lora-xs", seed=seed) for seed in (1, 2))
    allowed = {}
    for name, classifier in (("old", old), ("new", new)):
        classifier.save_pretrained(tmp_path / name)
        allowed[name] = classifier.predict_proba(list(IMAGES[:1]))[0].max()
    bank = tmp_path / "bank"
    shutil.copytree(tmp_path / "old", bank / "one")
    with running(bank, teach=False) as server, ThreadPoolExecutor(4) as pool:
        asked, stop = [], threading.Event()
        workers = [pool.submit(ask_until, stop, server.client, asked) for _ in range(4)]
        until(lambda: len(asked) > 4)
        for turn in range(10):
            aside = tmp_path / f"turn{turn}"
            shutil.copytree(tmp_path / ("new" if turn % 2 == 0 else "old"), aside)
            (bank / "one").rename(tmp_path / f"away{turn}")
            aside.rename(bank / "one")
            count = len(asked)
            until(lambda count=count: len(asked) > count + 4)
        stop.set()
        for worker in workers:
            worker.result(PATIENCE)
    answers = [response.json() for response in asked if response.status_code == 200]
    missing = [response for response in asked if response.status_code != 200]
    assert all(response.status_code == 404 for response in missing)  # between the two renames
    best = np.array([answer["predictions"][0]["classes"][0]["probability"] for answer in answers])
    distances = np.abs(best[:, None] - np.array(list(allowed.values())))
    assert len(best) > 4 and (distances.min(1) < 5e-3).all() and len(set(distances.argmin(1))) == 2


def ask_until(stop, client, asked):
    while not stop.is_set():
        asked.append(predict(client, png(IMAGES[0]), name="one"))


LINE = re.compile(r'[a-z_]+(?:{[a-z]+="[^"]*"(?:,[a-z]+="[^"]*")*})? -?[0-9.e+]+')


def test_figures_have_labels_from_a_small_set_whatever_is_asked(client):
    for number in range(30):
        client.get(f"/made-up/{number}")
        client.get(f"/v1/adapters/made-up-{number}")
        client.request(f"MADE{number}", "/")
    text = client.get("/metrics").text
    assert all(line.startswith("#") or LINE.fullmatch(line) for line in text.splitlines()), text
    assert "made-up" not in text.lower() and "MADE" not in text
    assert 'route="/v1/adapters/{name}",status="404"' in text and 'method="other"' in text
    types = re.findall(r"# TYPE (\S+)", text)
    assert len(types) == len(set(types))


def test_the_page_may_load_nothing_from_elsewhere(client):
    page = client.get("/")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert page.headers["X-Content-Type-Options"] == "nosniff" and page.headers["X-Frame-Options"] == "DENY"
    assert client.get("/v1/adapters").headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["", "/", "../app.py", "%2e%2e/app.py", "..%2fapp.py", "nothing.js", "/etc/passwd"])
def test_static_files_are_those_of_the_page(client, path):
    assert client.get(f"/static/{path}").status_code == 404


def test_no_documentation_loads_scripts_from_elsewhere(client):
    page = client.get("/docs")
    assert page.status_code == 200 and not re.search(r'(src|href)="(?!static/|\./|openapi\.json)', page.text)
    assert client.get("/redoc").status_code == 404


def test_every_error_is_described_in_the_one_form_that_all_have(client):
    document = client.get("/openapi.json").json()
    answers = [
        answer for path in document["paths"].values() for how in path.values() for answer in how["responses"].items()
    ]
    forms = {str(answer.get("content")) for status, answer in answers if int(status) >= 400}
    assert len(forms) == 1 and "ErrorAnswer" in forms.pop()


def test_a_server_that_does_not_teach_changes_nothing(copied):
    folder = copied("xs4")
    with running(folder, teach=False) as server:
        assert server.client.get("/v1/server").json()["teach"] is False
        assert server.client.get("/v1/jobs").json() == {"jobs": []}
        error_of(server.client.delete("/v1/adapters/xs4"), 403, "read_only")
        error_of(server.client.post("/v1/adapters", data={"name": "a"}), 403, "read_only")
    assert (folder / "xs4").is_dir() and not (folder / ".teaching").exists()
