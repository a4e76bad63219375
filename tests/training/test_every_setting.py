"""Each setting that decides the result changes it: a row without a change that shows it fails here."""

import functools
import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch.nn import functional

from lowshot.data import task_of_arrays
from lowshot.models import load_backbone
from lowshot.progress import silent
from lowshot.settings import SETTINGS, Decides, preset_recipe
from lowshot.training import create_learner

BASE = {"steps_per_shot": 1, "learning_rate": 1e-2, "crop_minimum": 0.5}
RANK = {"rank": 4}
METHODS = ("dora", "layernorm", "bitfit", "full", "clip-svd", "2sfs", "coop", "plot++", "peft:loha")
CHANGES = {
    "beside": [("nearest-mean", {}, {"beside": "builtin"})],
    "quantize": [("lora", RANK, {"quantize": "nf4"}), ("lora", RANK, {"quantize": "int8"})],
    "quantize_projection": [("lora", {**RANK, "quantize": q}, {"quantize_projection": True}) for q in ("nf4", "int8")],
    "precision": [("lora", RANK, {"precision": "bf16"}), ("lora", RANK, {"precision": "fp16"})],
    "adapter_precision": [("lora", {"precision": "bf16", "adapter_precision": "fp32"}, {"adapter_precision": "base"})],
    "method": [("lora", RANK, {"method": "lora-xs"}), *(("lora", {}, {"method": method}) for method in METHODS)],
    "encoder": [("lora", RANK, {"encoder": "vision"}), ("lora", RANK, {"encoder": "text"})],
    "projections": [("lora", RANK, {"projections": ("q",)}), ("lora", RANK, {"projections": ("fc1", "fc2")})],
    "position": [("lora", RANK, {"position": "up"}), ("lora", RANK, {"position": "0"})],
    "rank": [("lora", RANK, {"rank": 3})],
    "rank_by_depth": [("lora", RANK, {"rank_by_depth": course}) for course in ("increasing", "decreasing")],
    "alpha": [("lora", RANK, {"alpha": 2.0})],
    "scaling": [("lora", RANK, {"scaling": "rank"})],
    "basis_side": [("lora-xs", {**RANK, "basis_side": "input"}, {"basis_side": "output"})],
    "dropout": [("lora", RANK, {"dropout": 0.0})],
    "shrinkage": [("lora", RANK, {"shrinkage": 1.0})],
    "context": [("coop", {"context": 4}, {"context": 3}), ("plot++", {"context": 4}, {"context": 2})],
    "openings": [
        ("coop", {"context": 4}, {"openings": ("red",)}),
        ("plot++", {"context": 4, "openings": ("a",)}, {"openings": ("red", "ash")}),
    ],
    "first_stage": [("2sfs", {"first_stage": 0.3}, {"first_stage": 0.7})],
    "vision_prompts": [("plot++", {"context": 4}, {"vision_prompts": 2})],
    "peft": [("peft:loha", {"peft": ("r=2",)}, {"peft": ("r=4",)})],
    "steps_per_shot": [("lora", RANK, {"steps_per_shot": 2})],
    "base_steps": [("lora", RANK, {"base_steps": 3})],
    "batch_size": [("lora", RANK, {"batch_size": 5})],
    "gradient_accumulation_steps": [("lora", {**RANK, "batch_size": 4}, {"gradient_accumulation_steps": 2})],
    "optimizer": [("lora", RANK, {"optimizer": "sgd"})],
    "adam_epsilon": [("lora", RANK, {"adam_epsilon": 1e-2})],
    "learning_rate": [("lora", RANK, {"learning_rate": 2e-2})],
    "minimum_learning_rate": [("lora", RANK, {"minimum_learning_rate": 5e-3})],
    "weight_decay": [("lora", RANK, {"weight_decay": 0.5})],
    "crop_minimum": [("lora", RANK, {"crop_minimum": 1.0})],
    "flip": [("lora", RANK, {"flip": False})],
    "views": [("lora", RANK, {"views": 2})],
    "seed": [("lora", RANK, {"seed": 2}), ("coop", {"context": 4}, {"seed": 2})],
}
"""Setting -> method, what it has in both runs, what it has in the second."""
ELSEWHERE = {"time_budget"}  # decides which method auto takes: tests/fitting


@pytest.fixture(scope="module")
def examples():
    """Twelve pictures in which only the colour tells the class."""
    generator = np.random.default_rng(0)
    pictures = generator.integers(0, 60, (12, 20, 20, 3), dtype=np.uint8)
    for index, picture in enumerate(pictures):
        picture[..., index % 3] += 150
    return task_of_arrays(list(pictures), ["red", "green", "blue"] * 4).train


@pytest.fixture(scope="module")
def scores(tiny_clip, examples):
    """Scores ``(6, 3)`` of random images after training with a method and settings; each is trained once."""

    @functools.cache
    def trained(method, settings):
        recipe = preset_recipe("paper", method).replace(model=str(tiny_clip), **{**BASE, **dict(settings)})
        backbone = load_backbone(recipe.model.loaded)
        learner = create_learner(backbone, ("a blue", "a green", "a red"), recipe)
        learner.fit(examples, 4, silent)
        images = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(2))
        return learner.logits(functional.interpolate(images, size=backbone.image_size))

    return lambda method, settings: trained(method, tuple(sorted(settings.items())))


def test_every_setting_that_decides_the_result_is_here():
    assert {row.name for row in SETTINGS.values() if row.decides is Decides.RESULT} == {*CHANGES, *ELSEWHERE}


@pytest.mark.parametrize(
    ("method", "both", "changed"), [change for changes in CHANGES.values() for change in changes], ids=str
)
def test_a_setting_that_decides_the_result_changes_it(scores, method, both, changed):
    settings = {**both, **changed}
    assert not torch.equal(scores(method, both), scores(settings.pop("method", method), settings))


def test_a_checkpoint_belongs_to_the_settings_that_decide_the_result_and_to_no_others(tiny_clip, examples, tmp_path):
    recipe = preset_recipe("paper", "lora").replace(model=str(tiny_clip), **BASE)
    learner = create_learner(load_backbone(str(tiny_clip)), ("a blue", "a green", "a red"), recipe)
    learner.fit(examples, 4, silent, checkpoint=tmp_path / "state")
    with safe_open(str(tmp_path / "state"), framework="pt") as file:
        belongs_to = json.loads(file.metadata()["facts"])["belongs_to"]
    expected = {row.name for row in SETTINGS.values() if row.decides is Decides.RESULT}
    assert set(belongs_to) & set(SETTINGS) == expected
    assert all(belongs_to[name] == _plain(recipe.settings()[name]) for name in expected)


def _plain(value):
    return list(value) if isinstance(value, tuple) else value
