"""Several processes learn what one does."""

import json
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file

from lowshot.cli import main
from lowshot.errors import InputError
from lowshot.models import load_backbone
from lowshot.settings import preset_recipe
from lowshot.training import create_learner
from lowshot.training.processes import Processes, is_first_process
from refusing import refused


@given(total=st.integers(0, 200), count=st.integers(1, 9))
def test_shares_are_everything_once_and_as_equal_as_can_be(total, count):
    shares = [Processes(index, count).share(total) for index in range(count)]
    assert [item for share in shares for item in share] == list(range(total))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert max(map(len, shares)) == Processes(0, count).largest_share(total)


def test_a_single_process_adds_nothing_up():
    parameter = torch.nn.Parameter(torch.zeros(2))
    Processes().add_up_gradients([parameter])
    assert parameter.grad is None
    one = torch.ones(2)
    Processes().add_up(one)
    assert torch.equal(one, torch.ones(2))


@pytest.fixture
def photos(tmp_path):
    """Three classes of seven pictures: neither is a multiple of two."""
    generator = np.random.default_rng(0)
    for index, label in enumerate(("red", "green", "blue")):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(7):
            picture = generator.integers(0, 90, (20, 20, 3), dtype=np.uint8)
            picture[..., index] += 100
            Image.fromarray(picture).save(tmp_path / "photos" / label / f"{number}.png")
    return tmp_path / "photos"


def a_free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@pytest.mark.long
def test_two_processes_over_gloo_learn_the_same_adapter_from_the_same_batches(tiny_clip, photos, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    settings = [
        "--model",
        tiny_clip,
        "--method",
        "lora",
        "--rank",
        4,
        "--batch-size",
        5,
        "--steps-per-shot",
        0,
        "--base-steps",
        12,
    ]
    settings += ["--learning-rate", 1e-3, "--images-per-pass", 2, "--prompts-per-pass", 1, "--shots", 6]
    arguments = [str(x) for x in ("fit", photos, *settings)]
    how = "--cpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no --main_process_port"
    launch = [sys.executable, "-m", "accelerate.commands.launch", *how.split(), str(a_free_port())]
    launched = subprocess.run(
        [*launch, "-m", "lowshot", *arguments, "--out", str(two)],
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert launched.returncode == 0, launched.stderr
    assert launched.stdout.count("lora learnt 18 images") == 1
    assert main([*arguments, "--out", str(one)]) == 0
    ours, theirs = (json.loads((folder / "lowshot.json").read_text()) for folder in (one, two))
    assert theirs["final_loss"] == pytest.approx(ours["final_loss"], abs=1e-5)
    assert theirs["draw"] == ours["draw"]
    expected, found = (load_file(folder / "adapter_model.safetensors") for folder in (one, two))
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-5, rtol=0)
    assert any(tensor.abs().max() > 1e-3 for name, tensor in expected.items() if "lora_B" in name)


@pytest.mark.parametrize(("world", "rank", "first"), [(None, "1", True), ("2", "1", False), ("2", "0", True)])
def test_the_rank_counts_only_among_several(monkeypatch, world, rank, first):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if world:
        monkeypatch.setenv("WORLD_SIZE", world)
    monkeypatch.setenv("RANK", rank)
    assert is_first_process() == first


def test_a_rank_that_is_no_number_is_named(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "many")
    with refused(InputError, "WORLD_SIZE", "'many'", "whole number"):
        is_first_process()


def test_a_learner_joins_nobody_before_it_trains(tiny_clip, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")  # there is no other: joining would wait for ever
    recipe = preset_recipe("paper", "lora").replace(model=str(tiny_clip))
    learner = create_learner(load_backbone(str(tiny_clip)), ("a", "b"), recipe)
    assert learner.logits(torch.zeros(1, 3, 16, 16)).shape == (1, 2)
