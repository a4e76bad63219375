"""Adapters on the Hub, through its real client in processes of their own, against a hub on loopback."""

import json
import os
import subprocess

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from fake_hub import running_hub
from lowshot import FewShotClassifier
from lowshot.errors import AdapterError, InputError
from lowshot.hub import adapter_folder, fetched_adapter
from lowshot.models import load_structure
from refusing import refused


@pytest.fixture(scope="module")
def hub():
    with running_hub() as hub:
        yield hub


@pytest.fixture(scope="module")
def images():
    return list(np.random.default_rng(0).integers(0, 255, (4, 20, 20, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def fitted(tiny_clip, images):
    classifier = FewShotClassifier(str(tiny_clip), method="lora", rank=2, steps_per_shot=2, learning_rate=1e-2)
    return classifier.fit(images, ["day", "night", "day", "night"])


@pytest.fixture(scope="module")
def run(hub, fitted, images, tmp_path_factory, forked):
    """Runs a program in a process whose Hub is ours; ``adapter`` and ``images`` lie in its folder."""
    folder = tmp_path_factory.mktemp("process")
    fitted.save_pretrained(folder / "adapter")
    np.save(folder / "images.npy", np.stack(images))

    def run(program, token="hf_right", **variables):
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        ours = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "home"), "HF_TOKEN": token, "HF_HUB_DISABLE_XET": "1"}
        done = subprocess.run(
            [*forked, "-c", program],
            env={**environment, **ours, **variables},
            cwd=folder,
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout.strip(), done.stderr

    return run


EXPORT = """
from lowshot.conversion import export
made = export("me/days", "exported", format="peft")
print(sorted(made.files))
"""
PUSH = """
from lowshot import FewShotClassifier
from lowshot.errors import LowshotError
try:
    print(FewShotClassifier.from_pretrained("adapter").push_to_hub("me/days", private=True))
except LowshotError as error:
    print("refused:", error)
"""
ASK = """
import sys, json, numpy
from lowshot import FewShotClassifier
from lowshot.errors import LowshotError
try:
    classifier = FewShotClassifier.from_pretrained("me/days")
    print(json.dumps(classifier.predict_proba(list(numpy.load("images.npy"))).tolist()))
except LowshotError as error:
    print("refused:", error)
"""


@pytest.mark.long
def test_what_is_pushed_is_fetched_and_predicts_the_same_offline_too(run, hub, fitted, images):
    status, printed, err = run(PUSH + ASK + EXPORT)
    pushed, answered, exported = printed.splitlines() if status == 0 else (printed, "", "")
    assert (status, pushed) == (0, f"{hub.url}/me/days/commit/{1:040d}"), err
    assert hub.private["me/days"]
    files = hub.repositories["me/days"][-1]
    assert set(files) == {"adapter_config.json", "adapter_model.safetensors", "lowshot.json", "README.md"}
    assert json.loads(files["lowshot.json"])["draw"] == []  # names of files are nobody's business
    assert fitted.record_.draw

    expected = fitted.predict_proba(images).tolist()
    assert json.loads(answered) == expected
    assert "adapter_model.safetensors" in exported
    before = len(hub.requests)
    status, printed, err = run(ASK, HF_HUB_OFFLINE="1")
    assert json.loads(printed) == expected
    assert len(hub.requests) == before


@pytest.mark.long
def test_a_hub_that_refuses_or_breaks_off_is_one_line(run, hub, tmp_path):
    hub.broken.add("adapter_model.safetensors")
    with_the_right_one = "import os; os.environ['HF_TOKEN'] = 'hf_right'\n"
    status, printed, err = run(PUSH + with_the_right_one + ASK, token="hf_wrong", HF_HOME=str(tmp_path))
    hub.broken.clear()
    assert (status, printed[:33]) == (0, "refused: pushing to 'me/days' fai"), err
    assert "\nrefused: adapter me/days cannot be fetched from the Hub:" in printed


@pytest.mark.parametrize("name", ["builtin", "me/days/more", "./me/days", "../days", "me/", "/tmp/x", "me/da ys", "-"])
def test_what_is_no_repositorys_name_is_not_asked_for(name):
    assert fetched_adapter(name) is None


@pytest.fixture
def no_hub(monkeypatch):
    """A proxy that refuses, and an empty cache; whoever asks more than once or would wait fails."""
    asked = []

    def ask(url, **_):
        asked.append(url)
        raise RuntimeError("403 Forbidden\nby the proxy")

    def fetch(*_, local_files_only=False, **__):
        assert local_files_only, "asked again, as often as the Hub's client does"
        raise LocalEntryNotFoundError("not in the cache")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", ask)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    return asked


def test_a_mistyped_path_is_one_line_where_the_hub_cannot_be_asked(no_hub, tmp_path, monkeypatch):
    """It took half a minute without a network, and was a traceback behind a proxy that refuses."""
    monkeypatch.chdir(tmp_path)
    with refused(AdapterError, "out/catz", "Hub", "403 Forbidden") as raised:
        adapter_folder("out/catz")
    assert len(no_hub) == 1
    assert len(str(raised.value).splitlines()) == 1


def test_a_mistyped_path_offers_the_adapter_beside_it(no_hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("cats", "dogs"):
        (tmp_path / "out" / name).mkdir(parents=True)
    (tmp_path / "out" / "cats" / "lowshot.json").touch()
    with refused(AdapterError, "out/catz", "out/cats") as raised:
        adapter_folder("out/catz")
    assert "dogs" not in str(raised.value)


def test_a_model_that_cannot_be_asked_for_is_asked_for_once_in_each_format(no_hub):
    with refused(InputError, "'openai/typo'", "Hub", "403 Forbidden") as raised:
        load_structure("openai/typo")
    assert len(str(raised.value).splitlines()) == 1
    assert [url.rpartition("/")[2] for url in no_hub] == ["config.json", "open_clip_config.json"]


def test_a_model_on_the_hub_is_still_a_model(hub, tmp_path):
    hub.repositories["me/clip"] = [{"config.json": b"{}"}]
    assert FewShotClassifier.from_pretrained("me/clip", method="lora").recipe.model.model == "me/clip"
