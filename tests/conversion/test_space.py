"""A folder for a Space: what is in it, and that its own command serves the adapter."""

import base64
import contextlib
import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import urllib.request
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from PIL import Image

import lowshot
from lowshot import FewShotClassifier
from lowshot.conversion import export_space, space
from lowshot.data import builtin_task
from lowshot.errors import AdapterError, InputError, OutputExistsError, RunError
from refusing import refused

MODEL = "openai/clip-vit-base-patch16"


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """One that knows which files it learnt from."""
    folder = tmp_path_factory.mktemp("space") / "no"  # a word that is no text in YAML unless it is quoted
    classifier = FewShotClassifier(method="lora-xs", base_steps=1, steps_per_shot=1).fit("digits", shots=1)
    assert classifier.record_.draw
    classifier.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def made(adapter, tmp_path_factory):
    return export_space(adapter, tmp_path_factory.mktemp("made") / "space")


def front_matter(folder):
    start, matter, _ = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert start == ""
    return yaml.safe_load(matter)


def command_of(folder):
    [command] = re.findall(r"^CMD (\[.*\])$", (folder / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    return json.loads(command)


def requirements_of(folder):
    lines = (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if not line.startswith(("#", "--", "./"))]
    return {each.name: each for each in requirements}


def test_a_head_on_frozen_features_goes_into_a_space_too(tmp_path):
    FewShotClassifier(method="proker").fit("digits", shots=1).save_pretrained(tmp_path / "head")
    made = export_space(tmp_path / "head", tmp_path / "space")
    inside = [file for file in made.files if file.startswith("adapters/")]
    assert inside == [f"adapters/head/{name}" for name in ("README.md", "adapter_model.safetensors", "lowshot.json")]
    assert made.largest_difference < 1e-3


def test_the_folder_has_what_a_space_needs_and_nothing_else(made):
    adapter = ("README.md", "adapter_config.json", "adapter_model.safetensors", "lora_xs_basis.safetensors")
    assert made.files == (
        "Dockerfile",
        "README.md",
        *(f"adapters/no/{name}" for name in (*adapter, "lowshot.json")),
        f"lowshot-{lowshot.__version__}-py3-none-any.whl",
        "requirements.txt",
    )
    assert made.format == "space"
    assert 0 <= made.largest_difference < space.TOLERANCE


def test_the_front_matter_is_what_the_hub_reads(made):
    header = front_matter(made.folder)
    assert header == {
        "title": "no",
        "emoji": "🔎",
        "colorFrom": "gray",
        "colorTo": "indigo",
        "sdk": "docker",
        "app_port": 7860,
        "tags": ["lowshot", "clip", "few-shot"],
    }


def test_requirements_are_those_that_it_was_checked_with(made):
    requirements = requirements_of(made.folder)
    assert set(requirements) == {"torch", "transformers", "peft"}
    assert all(re.fullmatch(r"==[0-9.]+", str(each.specifier)) for each in requirements.values())


def test_a_model_on_the_hub_is_named_wherever_it_is_needed():
    [line] = [line for line in space.dockerfile(MODEL).splitlines() if line.startswith("CMD ")]
    assert json.loads(line.removeprefix("CMD "))[:5] == ["lowshot", "serve", "adapters", "--model", MODEL]
    assert yaml.safe_load(space.front_matter("a", MODEL).split("---\n")[1])["models"] == [MODEL]
    assert "./lowshot.whl[serve,quantize,siglip]\n" in space.requirements("lowshot.whl", MODEL, "nf4")


def test_it_brings_this_very_copy_of_lowshot_which_no_registry_has(made):
    [wheel] = made.folder.glob("*.whl")
    assert f"./{wheel.name}[serve]" in (made.folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    with zipfile.ZipFile(wheel) as archive:
        information = f"lowshot-{lowshot.__version__}.dist-info"
        assert f"Version: {lowshot.__version__}" in archive.read(f"{information}/METADATA").decode()
        assert "lowshot = lowshot.cli:main" in archive.read(f"{information}/entry_points.txt").decode()
        recorded = list(csv.reader(archive.read(f"{information}/RECORD").decode().splitlines()))
        assert {name for name, _, _ in recorded} == set(archive.namelist())
        for name, digest, size in recorded[:-1]:
            content = archive.read(name)
            expected = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
            assert (digest, size) == (f"sha256={expected}", str(len(content)))
        assert archive.read("lowshot/__init__.py") == Path(lowshot.__file__).read_bytes()
        assert not [name for name in archive.namelist() if "__pycache__" in name]


def test_nobody_learns_from_it_which_images_were_learnt_from(made, adapter):
    told = json.loads((made.folder / "adapters" / "no" / "lowshot.json").read_text(encoding="utf-8"))
    original = json.loads((adapter / "lowshot.json").read_text(encoding="utf-8"))
    assert original["draw"]
    assert original["learnt"]
    assert told == {**original, "draw": [], "learnt": []}
    assert FewShotClassifier.from_pretrained(made.folder / "adapters" / "no").classes_.tolist() == original["classes"]


def test_its_command_serves_the_adapter(made, adapter, tmp_path, forked):
    """Its own arguments, in its own folder, but for the address: this machine alone, at a port that is free."""
    command = command_of(made.folder)
    assert {"--no-teach", "--public"} <= set(command)
    at = {"0.0.0.0": "127.0.0.1", "7860": "0"}
    assert set(at) <= set(command)
    arguments = [at.get(argument, argument) for argument in command[1:]]
    image = builtin_task("digits").test.images[0]
    Image.fromarray(image).save(tmp_path / "image.png")
    expected = FewShotClassifier.from_pretrained(adapter).predict_proba([image])[0]
    with serving([*forked, "-m", command[0], *arguments], made.folder) as url:
        assert json.load(urllib.request.urlopen(f"{url}v1/server"))["teach"] is False
        content = (tmp_path / "image.png").read_bytes()
        head = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n'
        request = urllib.request.Request(
            f"{url}v1/adapters/no/predict?top=10",
            data=head + content + b"\r\n--x--\r\n",
            headers={"Content-Type": "multipart/form-data; boundary=x"},
        )
        [answer] = json.load(urllib.request.urlopen(request))["predictions"]
    chances = {chance["name"]: chance["probability"] for chance in answer["classes"]}
    classes = FewShotClassifier.from_pretrained(adapter).classes_
    assert chances == pytest.approx(dict(zip(classes, expected, strict=True)), abs=space.TOLERANCE)


@contextlib.contextmanager
def serving(command, folder):
    """A server in a process of its own; its address."""
    pipe = subprocess.PIPE
    environment = {**os.environ, "LOWSHOT_CACHE": str(folder.parent / "cache")}
    with subprocess.Popen(command, cwd=folder, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith("serving 1 adapter of builtin at "), line or process.stderr.read()
            yield line.split(" at ")[1].split()[0]
        finally:
            process.terminate()


def test_the_same_adapter_gives_the_same_bytes(made, adapter, tmp_path):
    again = export_space(adapter, tmp_path / "again")
    assert again.files == made.files
    for file in made.files:
        assert (made.folder / file).read_bytes() == (again.folder / file).read_bytes(), file


def test_a_backbone_that_no_space_can_fetch_is_refused_with_what_to_do(saved, tmp_path):
    with refused(InputError, "folder", "Space", "--model OWNER/NAME"):
        export_space(saved("lora-xs")[0], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_no_server_serves_is_refused(saved, tmp_path):
    with refused(AdapterError, "method dora"):
        export_space(saved("dora")[0], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_no_server_serves_is_refused(adapter, tmp_path):
    shutil.copytree(adapter, tmp_path / "two words")
    with refused(AdapterError, tmp_path / "two words", "rename the folder"):
        export_space(tmp_path / "two words", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_space_that_says_something_else_does_not_appear(adapter, tmp_path, monkeypatch):
    predict = space.AdapterBank.predict
    monkeypatch.setattr(space.AdapterBank, "predict", lambda bank, images, name: predict(bank, images, name)[::-1])
    with refused(RunError, "Space", adapter, "at most 0.005"):
        export_space(adapter, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_left_alone(adapter, tmp_path):
    (tmp_path / "kept").write_text("x")
    with pytest.raises(OutputExistsError):
        export_space(adapter, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
