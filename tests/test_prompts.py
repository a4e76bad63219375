"""Prompts from the settings to the classifier, its record and what is made of it."""

import json
import re
import subprocess

import numpy as np
import pytest
import torch
from PIL import Image

from lowshot import FewShotClassifier
from lowshot.classifier import saved_adapter
from lowshot.cli import main
from lowshot.conversion import export
from lowshot.errors import AdapterError, DataError, InputError
from lowshot.models import load_backbone

COLOURS = ("blue", "green", "red")
TEMPLATES = ("a photo of a {}.", "a drawing of a {}.")


def pictures(count=12, seed=0):
    """Noise with a tint, and the tint's name."""
    images = np.random.default_rng(seed).integers(0, 100, (count, 16, 16, 3), dtype=np.uint8)
    for index, image in enumerate(images):
        image[..., (2, 1, 0)[index % 3]] += 120
    return list(images), [COLOURS[index % 3] for index in range(count)]


@pytest.fixture
def words(tmp_path):
    """Files of names and of descriptions, as settings."""
    (tmp_path / "names.json").write_text(json.dumps({"red": ["crimson", "scarlet"], "blue": "azure"}))
    (tmp_path / "descriptions.json").write_text(json.dumps({"green": ["Grass is green."]}))
    return {"class_names": tmp_path / "names.json", "descriptions": tmp_path / "descriptions.json"}


EXPECTED = (
    ("a photo of a azure.", "a drawing of a azure."),
    ("a photo of a green.", "a drawing of a green.", "Grass is green."),
    ("a photo of a crimson.", "a drawing of a crimson.", "a photo of a scarlet.", "a drawing of a scarlet."),
)


def fitted(tiny_clip, method="lora-xs", **settings):
    quick = {} if method == "zero-shot" else {"rank": 4, "steps_per_shot": 3, "learning_rate": 1e-2}
    classifier = FewShotClassifier(str(tiny_clip), method=method, precision="fp32", **quick, **settings)
    return classifier.fit(*pictures())


def test_zero_shot_is_the_nearest_mean_of_prompts_computed_by_hand(tiny_clip, words):
    classifier = fitted(tiny_clip, "zero-shot", template=TEMPLATES, **words)
    backbone = load_backbone(str(tiny_clip))
    images, _ = pictures(5, seed=1)
    with torch.no_grad():
        means = []
        for said in EXPECTED:
            mean = torch.cat([backbone.encode_prompts(backbone.tokenize([prompt])) for prompt in said]).mean(0)
            means.append(mean / mean.norm())
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
        scale = backbone.model.logit_scale.exp()
        expected = torch.softmax(scale * backbone.encode_images(pixels) @ torch.stack(means).T, dim=-1)
    np.testing.assert_allclose(classifier.predict_proba(images), expected.numpy(), atol=1e-5)
    assert classifier.classes_.tolist() == list(COLOURS)
    assert classifier.record_.prompts == EXPECTED


@pytest.mark.parametrize("method", ["zero-shot", "lora-xs"])
def test_a_saved_adapter_needs_none_of_the_files(tiny_clip, words, tmp_path, method):
    classifier = fitted(tiny_clip, method, template=TEMPLATES, **words)
    classifier.save_pretrained(tmp_path / "adapter")
    for path in words.values():
        path.unlink()
    loaded = saved_adapter(tmp_path / "adapter")
    assert loaded.record_ == classifier.record_
    images, _ = pictures(5, seed=1)
    np.testing.assert_array_equal(loaded.predict_proba(images), classifier.predict_proba(images))


def test_each_of_the_settings_changes_what_is_learnt(tiny_clip, words):
    settings = [{}, {"template": TEMPLATES}, *({name: path} for name, path in words.items())]
    images, _ = pictures(5, seed=1)
    tables = [fitted(tiny_clip, **chosen).predict_proba(images) for chosen in settings]
    for table in tables[1:]:
        assert not np.allclose(table, tables[0], atol=1e-5)


def test_a_template_may_be_given_alone_and_written_down_alone(tiny_clip, tmp_path):
    classifier = fitted(tiny_clip, template="{} everywhere")
    assert classifier.recipe.data.template == ("{} everywhere",)
    assert classifier.record_.prompts[0] == ("blue everywhere",)
    classifier.save_pretrained(tmp_path / "adapter")
    path = tmp_path / "adapter" / "lowshot.json"
    record = json.loads(path.read_text())
    record["recipe"]["data"]["template"] = "{} everywhere"
    path.write_text(json.dumps(record))
    images, _ = pictures(5, seed=1)
    again = saved_adapter(tmp_path / "adapter")
    np.testing.assert_array_equal(again.predict_proba(images), classifier.predict_proba(images))


def test_prompts_are_cleaned_when_they_are_made_and_never_again(tiny_clip, tmp_path):
    """An adapter that learnt from prompts as they were typed still means those."""
    classifier = fitted(tiny_clip, template="a {}\u2019s &amp; more")
    assert classifier.record_.prompts[0] == ("a blue's & more",)
    classifier.save_pretrained(tmp_path / "adapter")
    path = tmp_path / "adapter" / "lowshot.json"
    record = json.loads(path.read_text())
    record["prompts"] = [[f"a {name}\u2019s &amp; more"] for name in record["classes"]]
    path.write_text(json.dumps(record))
    images, _ = pictures(5, seed=1)
    older = saved_adapter(tmp_path / "adapter")
    assert older.record_.prompts[0] == ("a blue\u2019s &amp; more",)
    assert not np.allclose(older.predict_proba(images), classifier.predict_proba(images), atol=1e-5)


@pytest.mark.parametrize(
    "prompts",
    ["x", 3, [], ["a", "b", "c"], [["a"], ["b"]], [["a"], ["b"], []], [["a"], ["b"], [3]], [["a"], ["b"], "c"]],
    ids=str,
)
def test_damaged_prompts_in_a_record_are_refused(tiny_clip, tmp_path, prompts):
    fitted(tiny_clip, "zero-shot").save_pretrained(tmp_path / "adapter")
    path = tmp_path / "adapter" / "lowshot.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "prompts": prompts}))
    with pytest.raises(AdapterError, match=r"lowshot\.json .*prompts"):
        saved_adapter(tmp_path / "adapter")


def test_a_prompt_that_is_too_long_is_refused_with_its_class_before_anything_is_learnt(tiny_clip, tmp_path):
    (tmp_path / "d.json").write_text(json.dumps({"green": ["Grass.", "g" * 60]}))
    with pytest.raises(DataError, match=r"'green': .*'g{60}' .*\b62 .*\b48\b.*--class-names"):
        fitted(tiny_clip, descriptions=tmp_path / "d.json")


def test_settings_that_are_no_templates_or_files_are_refused():
    for template in ((), ("{}", ""), ("{}", "{} {}"), ("{}", "clip-80"), ("{}", 3), 3):
        with pytest.raises(InputError, match="template is "):
            FewShotClassifier(template=template)
    with pytest.raises(InputError, match="class-names is ''"):
        FewShotClassifier(class_names="")
    with pytest.raises(InputError, match="descriptions is 3"):
        FewShotClassifier(descriptions=3)


# -- exports -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    """An adapter of the built-in model with several prompts a class, and an image for it."""
    folder = tmp_path_factory.mktemp("ensemble")
    (folder / "names.json").write_text(json.dumps({"digit one": ["digit one", "one"]}))
    classifier = FewShotClassifier(method="lora", template=TEMPLATES, class_names=folder / "names.json", base_steps=5)
    classifier.fit("digits", shots=1).save_pretrained(folder / "adapter")
    picture = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(picture).save(folder / "image.png")
    return folder, classifier


@pytest.mark.long
def test_every_export_averages_too_and_its_own_lines_say_how(ensemble, tmp_path, forked):
    folder, classifier = ensemble
    program = ""
    for name in ("peft", "merged", "onnx"):
        made = export(folder / "adapter", tmp_path / name, format=name)
        assert made.largest_difference < 1e-4, name
        (lines,) = re.findall(r"```python\n(.*?)```", (made.folder / "README.md").read_text(), re.DOTALL)
        row = "table[0]" if name == "onnx" else "probabilities"
        program += lines.replace("path/to/this/folder", str(made.folder)) + f"print(*map(float, {row}))\n"
        classes = json.loads((made.folder / "classes.json").read_text())
        assert classes["prompts"] == [list(said) for said in classifier.record_.prompts]
        assert classes["template"] == list(TEMPLATES)
    done = subprocess.run([*forked, "-c", program], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    expected = classifier.predict_proba([folder / "image.png"])[0]
    said = done.stdout.splitlines()
    assert said[::2] == [classifier.classes_[expected.argmax()]] * 3
    for line in said[1::2]:
        np.testing.assert_allclose(np.array(line.split(), dtype=float), expected, atol=1e-4)


def test_the_card_says_how_many_prompts_there_are(ensemble):
    card = (ensemble[0] / "adapter" / "README.md").read_text()
    assert "| prompts | `22, averaged by class; all of them are in lowshot.json` |" in card
    assert "| template | `'a photo of a {}.' 'a drawing of a {}.'` |" in card


# -- the command -------------------------------------------------------------------------------------------------------


def test_fit_takes_templates_and_files_and_evaluate_needs_neither(tmp_path, capsys):
    (tmp_path / "names.json").write_text(json.dumps({"digit one": "one"}))
    out = ["--out", str(tmp_path / "adapter"), "--json"]
    words = ["--template", "a photo of a {}.", "{}", "--class-names", str(tmp_path / "names.json")]
    assert main(["fit", "digits", "--method", "zero-shot", *words, *out]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["prompts"][:2] == [["a photo of a digit zero.", "digit zero"], ["a photo of a one.", "one"]]
    assert record["classes"][1] == "digit one"
    (tmp_path / "names.json").unlink()
    assert main(["evaluate", str(tmp_path / "adapter"), "digits"]) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--template", "{}", "coop"], "template coop stands for nothing here: digits is none of the data sets"),
        (["--template", "{}", "clip-8"], "template is 'clip-8'; expected exactly one {} for the class name, or one of"),
        (["--class-names", "{tmp}/none.json"], "class-names {tmp}/none.json does not exist"),
        (["--class-names", "{tmp}/n.json"], "'digit_one' is no class of digits; did you mean 'digit one'?"),
        (["--descriptions", "{tmp}/d.json"], "class 'digit one': prompt 'one, one, one, "),
    ],
    ids=range(5),
)
def test_bad_words_give_one_line_and_status_2(tmp_path, capsys, arguments, said):
    (tmp_path / "n.json").write_text(json.dumps({"digit_one": "one"}))
    (tmp_path / "d.json").write_text(json.dumps({"digit one": "one, " * 90}))
    given = [argument.replace("{tmp}", str(tmp_path)) for argument in arguments]
    assert main(["fit", "digits", "--method", "zero-shot", "--out", str(tmp_path / "x"), *given]) == 2
    error = capsys.readouterr().err
    assert said.replace("{tmp}", str(tmp_path)) in error
    assert error.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_a_recipe_file_has_one_template_or_a_list(tmp_path):
    from lowshot.settings import read_recipe

    for written, read in (('"{}"', ("{}",)), ('["{}", "clip-7"]', ("{}", "clip-7"))):
        (tmp_path / "recipe.toml").write_text(f"[data]\ntemplate = {written}\n")
        assert read_recipe(tmp_path / "recipe.toml").data.template == read
