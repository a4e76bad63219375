"""An export computes what the classifier does, without lowshot."""

import dataclasses
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from peft import PeftModel
from PIL import Image
from torch import nn
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from lowshot import FewShotClassifier
from lowshot.conversion import FORMATS, export, onnx_graph
from lowshot.conversion.readme import readme
from lowshot.conversion.source import open_source
from lowshot.conversion.trained import trained_model
from lowshot.data import task_of_arrays
from lowshot.errors import InputError, MissingExtraError, OutputExistsError, RunError, UnknownNameError
from lowshot.heads import HEADS
from lowshot.methods import METHODS
from refusing import refused
from tiny_models import write_image_encoder

from .conftest import PEFT_OPTIONS, pictures

OF_WEIGHTS = [name for name, spec in METHODS.items() if spec.kind == "weights" and not spec.has_classifier]
WEIGHT_METHODS = [*OF_WEIGHTS, *PEFT_OPTIONS]
NOT_ON_NF4 = ("full", "clip-svd", "peft:oft")  # they need the weights themselves; of the last PEFT has no 4-bit layer
SCORED = ["zero-shot", *HEADS, "2sfs", "coop"]
ON_BASES = [(m, "none") for m in WEIGHT_METHODS] + [(m, "nf4") for m in WEIGHT_METHODS if m not in NOT_ON_NF4]
TOLERANCE = 1e-4

on_every_base = pytest.mark.parametrize(("method", "quantize"), ON_BASES)
every_format = pytest.mark.parametrize("name", ["peft", "merged", "onnx"])


def classes_of(folder):
    return json.loads((folder / "classes.json").read_text(encoding="utf-8"))


@torch.no_grad()
def probabilities(model, files, prompts, images):
    """By transformers alone: its tokenizer with prompts padded in full, its image processor, its logits."""
    tokens = AutoTokenizer.from_pretrained(files)(prompts, padding="max_length", return_tensors="pt")
    processor = AutoImageProcessor.from_pretrained(files, backend="pil")
    pixels = processor([Image.fromarray(image) for image in images], return_tensors="pt")
    return model.eval()(**tokens, **pixels).logits_per_image.softmax(-1).numpy()


def with_peft(model, folder):
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        return PeftModel.from_pretrained(model, folder)


def apart(table, expected):
    return np.abs(table - expected).max()


@on_every_base
def test_a_merged_model_is_the_classifier_in_transformers_alone(exported, method, quantize):
    made, classifier = exported("merged", method, quantize)
    images = pictures(5, seed=4)
    expected = classifier.predict_proba(images)
    model = AutoModel.from_pretrained(made.folder)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    table = probabilities(model, made.folder, classes_of(made.folder)["prompts"], images)
    assert apart(table, expected) < TOLERANCE
    assert made.largest_difference < TOLERANCE


@on_every_base
def test_training_changed_what_is_exported(saved, method, quantize):
    """Without this the comparisons would pass on exports that have lost the adapter."""
    _, classifier = saved(method, quantize)
    _, plain = saved("zero-shot", quantize)
    images = pictures(5, seed=4)
    assert plain.classes_.tolist() == classifier.classes_.tolist()
    assert apart(plain.predict_proba(images), classifier.predict_proba(images)) > 100 * TOLERANCE


@pytest.mark.parametrize("method", ["lora", "lora-xs", "dora", "peft:oft"])
def test_a_peft_folder_is_the_classifier_in_peft_alone(exported, tiny_clip, method):
    made, classifier = exported("peft", method)
    images = pictures(5, seed=4)
    model = with_peft(AutoModel.from_pretrained(tiny_clip), made.folder)
    table = probabilities(model, tiny_clip, classes_of(made.folder)["prompts"], images)
    assert apart(table, classifier.predict_proba(images)) < TOLERANCE
    assert made.largest_difference < TOLERANCE
    config = json.loads((made.folder / "adapter_config.json").read_text())
    assert config["peft_type"] in ("LORA", "OFT")
    assert config["base_model_name_or_path"] == classifier.record_.model["id"]


@pytest.mark.parametrize("method", ["lora", "zero-shot"])
def test_a_merged_model_has_the_projection_in_its_rounded_values(saved, tmp_path, method):
    adapter, _ = saved(method, "nf4", quantize_projection=True, precision="fp32")
    assert export(adapter, tmp_path / "out", format="merged").largest_difference < TOLERANCE


@pytest.mark.parametrize("projection", [False, True])
def test_a_peft_folder_of_a_quantised_base_is_checked_on_that_base(saved, tmp_path, projection):
    made = export(saved("lora-xs", "nf4", quantize_projection=projection)[0], tmp_path / "out", format="peft")
    assert made.largest_difference < TOLERANCE
    assert any("nf4" in note for note in made.notes)
    assert "quantised to nf4" in (made.folder / "README.md").read_text()


@pytest.mark.parametrize("side", ["input", "output"])
def test_lora_xs_becomes_lora_without_another_decomposition(saved, tmp_path, side):
    """The update of every layer is scaling * lora_B @ lora_A, to the last bits of float32."""
    from safetensors.torch import load_file

    adapter, _ = saved("lora-xs", scaling="rank", alpha=3.0, basis_side=side)
    made = export(adapter, tmp_path / "out", format="peft")
    tensors = load_file(made.folder / "adapter_model.safetensors")
    learner = FewShotClassifier.from_pretrained(adapter)._fitted[1]
    layers = {n: m for n, m in learner.adapter.model.named_modules() if hasattr(m, "lora_A") and "default" in m.lora_A}
    assert len(tensors) == 2 * len(layers) == 2 * 15
    for name, layer in layers.items():
        basis, r = layer.basis("default"), layer.lora_B["default"].R.detach()
        update = 3.0 / 4 * basis.left.T @ r @ basis.right
        exported = 3.0 / 4 * tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"]
        torch.testing.assert_close(exported, update, atol=1e-6, rtol=1e-5)
    config = json.loads((made.folder / "adapter_config.json").read_text())
    assert (config["use_rslora"], config["lora_alpha"], config["r"]) == (False, 3.0, 4)
    assert "basis_side" not in config  # which LoRA does not know, and would warn of


@pytest.mark.parametrize("method", ["lora", "dora", "peft:oft"])
def test_files_that_are_pefts_already_are_left_as_they_are(saved, exported, method):
    adapter, (made, _) = saved(method)[0], exported("peft", method)
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (made.folder / file).read_bytes() == (adapter / file).read_bytes()


@pytest.mark.parametrize("method", ["layernorm", "bitfit", "full", "clip-svd", "zero-shot"])
def test_methods_without_a_peft_adapter_are_sent_to_merged(saved, tmp_path, method):
    with refused(InputError, f"method {method}", "format peft", "--format merged"):
        export(saved(method)[0], tmp_path / "out", format="peft")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["peft", "merged"])
@pytest.mark.parametrize("method", ["2sfs", "coop", "gda", "tip-adapter"])
def test_what_is_more_than_weights_and_prompts_is_sent_to_onnx(saved, tmp_path, method, name):
    with refused(InputError, f"method {method}", f"format {name}", "--format onnx"):
        export(saved(method)[0], tmp_path / "out", format=name)
    assert list(tmp_path.iterdir()) == []


def test_what_no_format_has_says_what_is_left(saved, tmp_path):
    with refused(InputError, "method plot++", "format onnx", "no format", "predict and evaluate"):
        export(saved("plot++")[0], tmp_path / "out", format="onnx")


@pytest.mark.parametrize(("method", "quantize"), [*((m, "none") for m in SCORED), ("proker", "nf4"), ("2sfs", "nf4")])
def test_the_float32_function_of_any_classifier_is_the_classifier(saved, method, quantize):
    folder, classifier = saved(method, quantize)
    source, images = open_source(folder), pictures(5, seed=4)
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255
    assert apart(trained_model(source).probabilities(pixels), classifier.predict_proba(images)) < 1e-5


class OnOneTower(nn.Module):
    """Classifiers whose image tower is the same, which gives the probabilities ``(B, M, C)`` of all of them."""

    outputs = ("probabilities",)

    def __init__(self, classifiers):
        super().__init__()
        self.classifiers = nn.ModuleList(classifiers)

    def forward(self, images):
        embeddings = self.classifiers[0].encoders[0](images)
        scores = [each.scores(embeddings) / each._temperature for each in self.classifiers]
        return torch.stack(scores, 1).softmax(-1)


def answers_of(graph, count):
    import onnxruntime

    images = pictures(count, seed=count)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    inputs = np.stack(images).transpose(0, 3, 1, 2).astype(np.float32) / 255
    return images, session.run(["probabilities"], {"images": inputs})[0]


@pytest.mark.long
def test_whatever_scores_embeddings_is_a_graph(saved, tmp_path):
    """One graph has them all: each by itself would be the same tower ten times over."""
    folders, classifiers = zip(*(saved(method) for method in SCORED if method != "2sfs"), strict=True)
    trained = [trained_model(open_source(folder)) for folder in folders]
    graph = OnOneTower([onnx_graph.ImageClassifier(each, half=False) for each in trained]).eval()
    onnx_graph._graph(graph, trained[0].backbone.image_size).save(tmp_path / "model.onnx")
    for count in (1, 2, 7):
        images, table = answers_of(tmp_path / "model.onnx", count)
        for number, classifier in enumerate(classifiers):
            assert apart(table[:, number], classifier.predict_proba(images)) < 1e-5, classifier
    assert np.ptp(table, axis=0).max(-1).min() > 1e-3  # and no classifier's are all alike


@pytest.mark.long
def test_a_tower_with_scores_of_its_own_is_a_graph(saved, tmp_path):
    folder, classifier = saved("2sfs")
    made = export(folder, tmp_path / "out", format="onnx")
    assert made.largest_difference < 1e-5
    for count in (1, 2, 7):
        images, table = answers_of(made.folder / "model.onnx", count)
        assert apart(table, classifier.predict_proba(images)) < 1e-5
    assert np.ptp(table, axis=0).max() > 1e-3


@pytest.mark.long
@pytest.mark.parametrize(("precision", "size", "difference"), [("fp16", 0.8, 0.01), ("int8", 0.8, 0.2)])
def test_a_graph_in_fewer_bits_is_smaller_and_judged_on_a_task(saved, exported, tmp_path, precision, size, difference):
    folder, classifier = saved("lora")
    images = pictures(6)
    task = task_of_arrays(pictures(9, seed=9), [*classifier.classes_] * 3)
    made = export(folder, tmp_path / "out", format="onnx", precision=precision, data=task)
    whole = exported("onnx", "lora")[0].folder / "model.onnx"
    assert (made.folder / "model.onnx").stat().st_size < size * whole.stat().st_size
    assert 1e-6 < made.largest_difference < difference
    assert (made.precision, made.accuracy.images, made.accuracy.split) == (precision, 9, "unseen")
    table = onnx_graph.opened(made.folder)(np.stack(images).transpose(0, 3, 1, 2).astype(np.float32) / 255)
    assert apart(table, classifier.predict_proba(images)) < difference
    before = np.mean(classifier.predict(task.train.images) == [classifier.classes_[k] for k in task.train.labels])
    assert made.accuracy.before == before
    readme = (made.folder / "README.md").read_text()
    assert f"--precision {precision}" in readme
    assert f"{100 * before:.1f} % before" in readme
    assert made.notes == ()


@pytest.mark.parametrize(
    ("kind", "given", "facts"),
    [
        (InputError, {"format": "merged", "precision": "fp16"}, ("precision", "format merged", "onnx or page")),
        (InputError, {"format": "peft", "data": "digits"}, ("data", "format peft", "onnx or page")),
        (UnknownNameError, {"format": "onnx", "precision": "int4"}, ("precision 'int4'", "int8")),
    ],
)
def test_what_only_graphs_have_is_refused_elsewhere_before_anything_is_loaded(tmp_path, kind, given, facts):
    with refused(kind, *facts):
        export(tmp_path / "no such adapter", tmp_path / "out", **given)


def test_fewer_bits_need_onnxruntime(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with refused(MissingExtraError, "precision int8", "onnxruntime", "pip install"):
        export(tmp_path / "no such adapter", tmp_path / "out", format="onnx", precision="int8")


@pytest.mark.long
def test_a_graph_is_the_classifier_in_onnxruntime_alone(exported):
    import onnxruntime

    made, classifier = exported("onnx", "lora-xs")
    assert made.largest_difference < TOLERANCE
    session = onnxruntime.InferenceSession(made.folder / "model.onnx", providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == classifier.classes_.tolist()
    assert [(i.name, i.shape[1:]) for i in session.get_inputs()] == [("images", [3, 16, 16])]
    for count in (1, 2, 7):
        images = pictures(count, seed=count)
        inputs = np.stack(images).transpose(0, 3, 1, 2).astype(np.float32) / 255
        (table,) = session.run(["probabilities"], {"images": inputs})
        assert apart(table, classifier.predict_proba(images)) < TOLERANCE


@pytest.mark.long
def test_a_graph_keeps_no_trace_of_the_machine(exported):
    content = (exported("onnx", "lora-xs")[0].folder / "model.onnx").read_bytes()
    assert b"stack_trace" not in content
    assert b".py" not in content


@pytest.mark.long
def test_weights_too_large_for_one_file_lie_beside_the_graph(saved, tmp_path, monkeypatch):
    monkeypatch.setattr("lowshot.conversion.onnx_graph.LARGEST_SINGLE_FILE_BYTES", 0)
    made = export(saved("lora")[0], tmp_path / "out", format="onnx")
    beside = ("README.md", "classes.json", "classify.py")
    assert made.files == (*beside, "model.onnx", "model.onnx.data", "preprocessing.json")
    assert made.largest_difference < TOLERANCE


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_package_is_named_before_anything_is_loaded(tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with refused(MissingExtraError, "format onnx", f"package {package}", "pip install"):
        export(tmp_path / "no such adapter", tmp_path / "out", format="onnx")


def test_without_onnxruntime_the_graph_is_written_and_called_unchecked(saved, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(onnx_graph, "write", lambda *given: None)
    made = export(saved("lora")[0], tmp_path / "out", format="onnx")
    assert made.largest_difference is None
    assert any("not compared" in note for note in made.notes)


def test_zero_shot_can_be_merged(exported):
    made, classifier = exported("merged", "zero-shot", "nf4")
    images = pictures(5, seed=4)
    model = AutoModel.from_pretrained(made.folder)
    table = probabilities(model, made.folder, classes_of(made.folder)["prompts"], images)
    assert apart(table, classifier.predict_proba(images)) < TOLERANCE


def test_a_classifier_in_bfloat16_gives_its_float32_function_and_says_so(saved, tmp_path):
    adapter, _ = saved("lora", "nf4", precision="bf16")
    made = export(adapter, tmp_path / "out", format="merged")
    assert TOLERANCE < made.largest_difference < 0.3
    assert any("rounds its arithmetic" in note for note in made.notes)


@pytest.mark.long
@every_format
def test_the_same_adapter_gives_the_same_bytes(saved, exported, tmp_path, name):
    one = exported(name, "lora-xs")[0]
    two = export(saved("lora-xs", "none")[0], tmp_path / "two", format=name)
    assert one.files == two.files == tuple(sorted(path.name for path in one.folder.iterdir()))
    for file in one.files:
        assert (one.folder / file).read_bytes() == (two.folder / file).read_bytes(), file


@every_format
def test_classes_travel_along(exported, name):
    made, classifier = exported(name, "lora-xs")
    assert classes_of(made.folder) == {
        "classes": classifier.classes_.tolist(),
        "image_size": 16,
        "prompts": ["a photo of a grey cat.", "a photo of a owl.", "a photo of a small dog."],
        "template": "a photo of a {}.",
    }


def test_a_template_with_other_braces_is_taken_as_it_is(saved, tmp_path):
    made = export(saved("lora", template="{a} sketch, {} of it")[0], tmp_path / "out", format="peft")
    assert classes_of(made.folder)["prompts"][0] == "{a} sketch, grey cat of it"


def test_an_export_that_computes_something_else_does_not_appear(saved, tmp_path, monkeypatch):
    peft = FORMATS["peft"]
    monkeypatch.setitem(FORMATS, "peft", peft._replace(read_back=lambda *given: peft.read_back(*given)[:, ::-1]))
    with refused(RunError, "peft export", "at most 0.0001"):
        export(saved("lora")[0], tmp_path / "out", format="peft")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_is_refused_before_anything_is_loaded(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "kept").write_text("x")
    with pytest.raises(OutputExistsError):
        export(tmp_path / "no such adapter", tmp_path / "out", format="peft")
    assert (tmp_path / "out" / "kept").read_text() == "x"


def test_an_unknown_format_is_named(tmp_path):
    with refused(UnknownNameError, "format 'onx'", "did you mean onnx") as refusal:
        export(tmp_path, tmp_path / "out", format="onx")
    assert (refusal.value.kind, refusal.value.name, refusal.value.nearest) == ("format", "onx", ("onnx",))


def test_a_moved_backbone_is_given_by_name(saved, tmp_path, tiny_clip):
    moved = tmp_path / "moved"
    shutil.copytree(tiny_clip, moved)
    adapter, classifier = saved("lora-xs", model=moved)
    shutil.move(moved, tmp_path / "elsewhere")
    with refused(InputError, moved, "no such folder"):
        export(adapter, tmp_path / "out", format="peft")
    made = export(adapter, tmp_path / "out", format="peft", model=str(tmp_path / "elsewhere"))
    config = json.loads((made.folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == classifier.record_.model["id"] == str(moved)
    assert "elsewhere" not in "".join(path.read_text() for path in made.folder.glob("*.[mj]*"))


def lines_of(readme):
    """The README's own program, for this folder and this image."""
    (program,) = re.findall(r"```python\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
    return program.replace("path/to/this/folder", str(readme.parent))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """An adapter of the built-in model, and one image that it knows for certain."""
    from lowshot.data import builtin_task

    folder = tmp_path_factory.mktemp("digits")
    classifier = FewShotClassifier(method="lora-xs").fit("digits", shots=1)
    classifier.save_pretrained(folder / "adapter")
    test = builtin_task("digits").test
    rows = classifier.predict_proba([test.images[i] for i in range(40)])
    sure = int(rows.max(1).argmax())
    Image.fromarray(test.images[sure]).resize((32, 32), Image.Resampling.BICUBIC).save(folder / "image.png")
    return folder, classifier


@pytest.mark.long
def test_the_readmes_lines_work_in_a_process_without_lowshot(digits, tmp_path):
    folder, classifier = digits
    names = [name for name in FORMATS if name != "page"]  # which has no lines, and fetches what it runs in
    programs = {n: lines_of(export(folder / "adapter", tmp_path / n, format=n).folder / "README.md") for n in names}
    programs["peft"] += "print(*probabilities.tolist())\n"
    programs["onnx"] += "print(*table[0])\n"
    whole = "import sys\nsys.modules['torchvision'] = None\n"  # the tests' oracle needs one, which may fit no torch
    whole += "".join(f"print('==')\n{program}" for program in programs.values())
    whole += "import sys\nassert not any(name.split('.')[0] == 'lowshot' for name in sys.modules)\n"
    done = subprocess.run([sys.executable, "-c", whole], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    outputs = dict(zip(programs, (part.split("\n") for part in done.stdout.split("==\n")[1:]), strict=True))

    expected = classifier.predict_proba([folder / "image.png"])[0]
    best = classifier.classes_[expected.argmax()]
    assert (outputs["peft"][0], outputs["onnx"][0]) == (best, best)
    for name in ("peft", "onnx"):
        assert apart(np.array(outputs[name][1].split(), dtype=float), expected) < TOLERANCE, name
    scores = dict(line.rsplit(" ", 1) for line in outputs["merged"] if line)
    assert next(iter(scores)) == best
    assert apart(np.array([scores[c] for c in classifier.classes_], dtype=float), expected) < TOLERANCE


@pytest.mark.long
def test_a_siglip_is_exported_like_a_clip(saved, tmp_path, tiny_siglip):
    adapter, classifier = saved("lora-xs", model=tiny_siglip)
    images = pictures(5, seed=4)
    for name in ("peft", "merged", "onnx"):
        assert export(adapter, tmp_path / name, format=name).largest_difference < TOLERANCE, name
    model = AutoModel.from_pretrained(tmp_path / "merged")
    table = probabilities(model, tmp_path / "merged", classes_of(tmp_path / "merged")["prompts"], images)
    assert apart(table, classifier.predict_proba(images)) < TOLERANCE


@pytest.mark.long
@pytest.mark.parametrize("kind", ["tiny_metaclip2", "tiny_chinese_clip", "tiny_altclip"])
def test_so_is_every_other_family(saved, tmp_path, request, kind):
    model = request.getfixturevalue(kind)
    for method, name in (("lora-xs", "peft"), ("lora-xs", "onnx"), ("lora", "merged")):
        made = export(saved(method, model=model)[0], tmp_path / name, format=name)
        assert made.largest_difference < TOLERANCE, name


@pytest.mark.long
@pytest.mark.parametrize("model", ["tiny_pe_core", "tiny_mobileclip"])
def test_a_kind_that_transformers_has_not_is_exported_as_a_graph_alone(saved, tmp_path, request, model):
    adapter, _ = saved("lora-xs", model=request.getfixturevalue(model))
    made = export(adapter, tmp_path / "onnx", format="onnx")
    assert made.largest_difference < 1e-5
    for name in ("merged", "peft"):
        with refused(InputError, f"({model.removeprefix('tiny_')})", "--format onnx"):
            export(adapter, tmp_path / name, format=name)
        assert not (tmp_path / name).exists()


def test_an_image_encoder_without_text_is_exported_with_its_head(saved, tmp_path, tiny_image_encoder):
    for method, settings in (("nearest-mean", {"calibration_folds": 2}), ("lora-xs", {})):
        adapter, _ = saved(method, model=tiny_image_encoder, **settings)
        assert export(adapter, tmp_path / method, format="onnx").largest_difference < 5e-5


@pytest.mark.long
def test_so_is_a_head_that_would_have_looked_at_the_prompts(saved, tmp_path):
    adapter, _ = saved("proker", model=write_image_encoder(tmp_path / "vit", "vit"))
    assert export(adapter, tmp_path / "out", format="onnx").largest_difference < 5e-5


def test_what_has_a_classifier_beside_its_adapter_is_no_clip_and_no_peft_folder(saved, tmp_path):
    adapter, _ = saved("lora", model=write_image_encoder(tmp_path / "encoder", "dinov2"))
    for name in ("merged", "peft"):
        with refused(InputError, f"format {name}", "rows", "--format onnx"):
            export(adapter, tmp_path / "out", format=name)


@pytest.mark.long
def test_two_encoders_side_by_side_are_one_graph(saved, tmp_path, tiny_clip):
    second = write_image_encoder(tmp_path / "second", "dinov2")
    adapter, _ = saved("proker", model=tiny_clip, beside=str(second))
    assert export(adapter, tmp_path / "out", format="onnx").largest_difference < 5e-5


def test_what_torch_cannot_express_as_a_graph_is_sent_to_merged(saved, tmp_path, tiny_naflex):
    adapter, _ = saved("lora", model=tiny_naflex)
    with refused(InputError, "format onnx", "no graph", "--format merged"):
        export(adapter, tmp_path / "out", format="onnx")
    assert export(adapter, tmp_path / "out", format="merged").largest_difference < TOLERANCE


@pytest.fixture(scope="module")
def calibrated(saved):
    adapter, classifier = saved("lora-xs", calibration_folds=2)
    assert abs(classifier.calibration.temperature - 1) > 0.1  # else the tests would not see it
    return adapter, classifier


@pytest.mark.long
@every_format
def test_what_is_exported_of_a_calibrated_classifier_is_calibrated(calibrated, tmp_path, name):
    adapter, classifier = calibrated
    made = export(adapter, tmp_path / "out", format=name)
    assert made.largest_difference < TOLERANCE
    temperature = f"{classifier.calibration.temperature:.6g}"
    readme = (made.folder / "README.md").read_text()
    assert f"divided by a temperature of {temperature}, " in readme
    assert (f".div({temperature}).softmax(-1)" in readme) == (name == "peft")


def test_transformers_alone_gives_the_calibrated_probabilities_of_a_merged_model(calibrated, tmp_path):
    adapter, classifier = calibrated
    made, images = export(adapter, tmp_path / "out", format="merged"), pictures(5, seed=4)
    model = AutoModel.from_pretrained(made.folder)
    table = probabilities(model, made.folder, classes_of(made.folder)["prompts"], images)
    assert apart(table, classifier.predict_proba(images)) < TOLERANCE


@pytest.mark.long
@pytest.mark.parametrize(("method", "settings"), [("proker", {}), ("lora", {"calibration_folds": 2})])
def test_a_graph_tells_images_of_none_of_the_classes_as_the_classifier_does(saved, tmp_path, method, settings):
    adapter, classifier = saved(method, reject=0.3, **settings)
    export(adapter, tmp_path / "onnx", format="onnx")
    images = pictures(12, seed=7)
    spec = importlib.util.spec_from_file_location("classify", tmp_path / "onnx" / "classify.py")
    classify = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(classify)
    files = []
    for number, image in enumerate(images):
        files.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(image).save(files[-1])
    classes, told = classify.answers(files)
    assert classes == list(classifier.record_.classes)
    assert told["p_values"] == pytest.approx(classifier.p_values(files), abs=1.1 / 7)
    assert (told["none_of_these"] == (told["p_values"] <= 0.3)).all()
    np.testing.assert_array_equal(classify.probabilities(files)[1], told["probabilities"])
    assert "`none_of_these`" in (tmp_path / "onnx" / "README.md").read_text()
    if method == "lora":
        export(adapter, tmp_path / "merged", format="merged")
        assert "is in `--format onnx`" in (tmp_path / "merged" / "README.md").read_text()


@pytest.mark.parametrize("prompts", [(("a cat",), ("a dog",)), (("a cat", "cats"), ("a dog", "dogs"))])
def test_the_readme_of_an_adapter_on_a_checkpoint_of_open_clips_has_the_backbone_written_first(saved, prompts):
    record = dataclasses.replace(saved("lora")[1].record_, prompts=prompts, model={"id": 'local "dir"'})
    (program,) = re.findall(r"```python\n(.*?)```", readme(record, "peft", is_readable=False), re.DOTALL)
    compile(program, "README.md", "exec")
    assert '    write_backbone("local \\"dir\\"", base)\n' in program
    assert "write_backbone" not in readme(record, "peft")
