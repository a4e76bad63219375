"""What is refused before anything is learnt: settings that would look as if they did something."""

import dataclasses

import pytest

from lowshot.bench.grid import expand
from lowshot.data import builtin_task
from lowshot.errors import InputError
from lowshot.fitting import lesson_of
from lowshot.fitting.auto import concrete
from lowshot.methods import AUTO, METHODS
from lowshot.settings import Recipe, TrainingConfig, preset_recipe
from refusing import refused

OTHER = {
    "steps_per_shot": 7,
    "base_steps": 3,
    "batch_size": 9,
    "gradient_accumulation_steps": 2,
    "optimizer": "sgd",
    "adam_epsilon": 1e-5,
    "learning_rate": 0.5,
    "minimum_learning_rate": 0.0,
    "weight_decay": 0.3,
    "crop_minimum": 0.7,
    "flip": False,
    "views": 3,
    "seed": 4,
    "calibration_folds": 2,
    "reject": 0.05,
}
"""Of every training setting a value that is nowhere the default."""
CHOOSY = [spec for spec in METHODS.values() if spec.training is not None and spec.name != AUTO]
IDLE = [(spec.name, name) for spec in CHOOSY for name in OTHER if name not in spec.training]


def test_every_training_setting_is_asked_about():
    default = TrainingConfig()
    assert set(OTHER) == {field.name for field in dataclasses.fields(default)}
    assert all(getattr(default, name) != value for name, value in OTHER.items())


@pytest.mark.parametrize(("method", "name"), IDLE)
def test_a_training_setting_that_a_method_has_no_use_for_is_refused(method, name):
    recipe = preset_recipe("paper", method).replace(**{name: OTHER[name]})
    with refused(InputError, name.replace("_", "-"), OTHER[name], method, "has no use"):
        lesson_of(builtin_task("greek"), {}, recipe, warn=list)


def test_an_option_of_a_tuner_that_does_nothing_is_refused():
    recipe = preset_recipe("paper", "peft:lora").replace(peft={"init_lora_weights": "lora_ga"})
    with refused(InputError, "init_lora_weights", "peft:lora", "'lora_ga'"):
        lesson_of(builtin_task("greek"), {}, recipe, warn=list)


@pytest.mark.parametrize("preset", ["paper", "builtin"])
@pytest.mark.parametrize("method", [spec.name for spec in CHOOSY])
def test_no_preset_has_one(preset, method):
    preset_recipe(preset, method).refuse_idle_training()


@pytest.mark.parametrize("method", ["proker", "zero-shot"])
def test_auto_hands_on_what_its_choice_obeys_and_no_more(method):
    asked = preset_recipe("builtin", AUTO).replace(flip=False, calibration_folds=2, seed=4)
    chosen = concrete(asked, "builtin", method)
    chosen.refuse_idle_training()
    assert (chosen.training.seed, chosen.training.calibration_folds) == (4, 2)
    assert chosen.training.flip is (method != "proker")  # without shots there is nothing to mirror


def test_in_a_grid_a_method_goes_without_them():
    cells = expand({"data": ["greek"], "method": ["gda", "lora"]}, {"training": {"steps_per_shot": 5}})
    assert [cell.recipe.training.steps_per_shot for cell in cells] == [Recipe().training.steps_per_shot, 5]
    with refused(InputError, "steps-per-shot", "none of the methods"):
        expand({"data": ["greek"], "method": ["gda"]}, {"training": {"steps_per_shot": 5}})
