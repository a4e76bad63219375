"""The pre-training script on five characters for six steps: the same weights however often it is killed."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

from lowshot.models import load_backbone

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def tool():
    path = Path(__file__).parents[2] / "tools" / "pretrain_builtin.py"
    spec = importlib.util.spec_from_file_location("pretrain_builtin", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def train(tool, tmp_path):
    """Train in a work folder of its own; returns the finished model's folder."""

    def train(name, **settings):
        out, work = tmp_path / name, tmp_path / f"{name}-work"
        quick = {"steps": 6, "batch_size": 8, "checkpoint_every": 2, "warmup_steps": 2, "threads": 1}
        with torch.random.fork_rng():
            tool.train(tool.Settings(out=out, work=work, characters="012AΩ", **quick, **settings))
        return out

    return train


class Killed(BaseException):
    """Stands for the power going out."""


def test_a_killed_run_goes_on_to_the_same_weights(tool, train, monkeypatch):
    whole = train("whole")
    write, calls = tool.write_checkpoint, []

    def die_after_the_second(path, state):
        write(path, state)
        calls.append(state["step"])
        if len(calls) == 2:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(tool, "write_checkpoint", die_after_the_second)
        with pytest.raises(Killed):
            train("killed")
    assert calls == [2, 4]
    resumed = train("killed")
    assert (resumed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    curves = [json.loads((folder / "provenance.json").read_text())["loss_curve"] for folder in (whole, resumed)]
    assert curves[0] == curves[1]
    assert [point["step"] for point in curves[0]] == [2, 4, 6]


def test_what_it_writes_is_a_backbone(train):
    backbone = load_backbone(str(train("model")))
    assert backbone.depths == {"vision": 4, "text": 2}
    assert backbone.tokenizer.eos_token_id == backbone.model.config.text_config.vocab_size - 1
    assert backbone.tokenize(["a photo of a greek capital letter omega."])["input_ids"].shape[1] == 11


def test_a_checkpoint_of_other_settings_is_refused(tool, train, monkeypatch):
    train("one")
    with pytest.raises(SystemExit, match="other settings"):
        train("one", seed=5)


def test_distortion_grows_with_strength(tool):
    atlas = tool.Atlas(("DejaVuSans",), "0123456789")
    rows = torch.arange(10)

    def drawn(strength):
        return tool.draw_images(atlas, rows, strength, 32, torch.Generator().manual_seed(0))

    clean = drawn(0.0)
    changes = [float((drawn(strength) - clean).abs().mean()) for strength in (0.1, 0.4, 1.0)]
    assert changes == sorted(changes)
    assert clean.min() >= 0
    assert clean.max() <= 1
    assert float(drawn(1.0).min()) >= 0
