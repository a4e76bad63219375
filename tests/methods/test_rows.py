"""A row is all that is known of a method: another one is its file and its row, as CONTRIBUTING says."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lowshot
from lowshot.methods import METHODS, imported, method_spec
from lowshot.settings import PRESETS, SETTINGS, preset_recipe

ROOMS = {"features": "lowshot.heads", "weights": "lowshot.adapters", "prompts": "lowshot.adapters"}
EVERY = [row for row in [*METHODS.values(), method_spec("peft:oft")] if row.kind != "choice"]
HEAD = '''
"""A head that somebody adds: the mean of a class's shots, twice as loud."""

import dataclasses
from typing import ClassVar

from .head import Fit, as_saved


@dataclasses.dataclass(frozen=True)
class LoudMean:
    """Twice the similarity to the mean of a class's shots."""

    AXES: ClassVar = {"means": "CD"}
    TRAINED: ClassVar = ()
    OTHER_CLASSES: ClassVar = "none"

    means: object

    @classmethod
    def fit(cls, shots, schedule, report):
        """Average."""
        return Fit(cls(as_saved(shots.class_sums())))

    def scores(self, images, text):
        """Class scores ``(B, C)``."""
        return 2 * text.scale * images @ self.means.to(images).T
'''
ROWS = """
    _head("loud-mean", "loud_mean:LoudMean", "a head of somebody's", _ON_VIEWS),
    MethodSpec(
        "oft", "weights", "PEFT's OFT under a name of its own", "peft_adapter:add_tuner",
        settings=_PLACE | {"peft"}, presets=_presets(builtin={**_BUILTIN, "learning_rate": 2e-3}),
    ),
"""
PROGRAM = """
import json, sys
import lowshot
from lowshot.data import load_task
from lowshot.serving import AdapterBank

scores = {}
for method, settings in {"loud-mean": {}, "oft": {"base_steps": 15, "steps_per_shot": 0}}.items():
    classifier = lowshot.FewShotClassifier(method=method, shots=2, **settings).fit("digits")
    scores[method] = classifier.score("digits")
    classifier.save_pretrained(sys.argv[1] + "/" + method)
bank = AdapterBank(sys.argv[1])
task = load_task("digits")
scores["served"] = [answer.adapter for answer in bank.predict([task.test.images[0]], ["loud-mean"])]
print(json.dumps([lowshot.__file__, scores]))
"""


@pytest.mark.parametrize("row", EVERY, ids=lambda row: row.name)
def test_a_row_names_code_that_is_there(row):
    assert callable(imported(row.learner, "lowshot.training"))
    assert row.code == "" or callable(imported(row.code, ROOMS[row.kind]))
    assert (row.code == "") == (not row.learns)


@pytest.mark.parametrize("row", METHODS.values(), ids=lambda row: row.name)
def test_a_row_obeys_settings_that_there_are_and_its_presets_set_no_others(row):
    sections = {name: setting.section for name, setting in SETTINGS.items()}
    assert {sections[name] for name in row.settings} <= {"method"}
    assert {sections[name] for name in row.training or ()} <= {"training"}
    for preset in row.presets:
        assert row.name in PRESETS[preset]
        recipe = preset_recipe(preset, row.name)
        for name, value in row.presets[preset].items():
            assert recipe.settings()[name] == value


@pytest.mark.long
def test_one_more_head_is_its_file_and_its_row_and_one_more_tuner_of_peft_is_its_row(tmp_path):
    package = tmp_path / "tree" / "lowshot"
    shutil.copytree(Path(lowshot.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "heads" / "loud_mean.py").write_text(HEAD, encoding="utf-8")
    rows = (package / "methods" / "rows.py").read_text(encoding="utf-8")
    before, auto, after = rows.partition("    MethodSpec(\n        AUTO,")
    assert auto
    (package / "methods" / "rows.py").write_text(before + ROWS + auto + after, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(package.parent)}
    adapters = tmp_path / "adapters"
    adapters.mkdir()
    command = [sys.executable, "-c", PROGRAM, str(adapters)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr
    file, scores = json.loads(done.stdout)
    assert file.startswith(str(package))
    assert min(scores["loud-mean"], scores["oft"]) > 0.4
    assert scores["served"] == ["loud-mean"]
