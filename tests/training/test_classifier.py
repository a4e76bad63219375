"""Methods that train weights on an image encoder without text, with a classifier that starts from the shots' means."""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers
from peft import PeftModel
from safetensors.torch import load_file
from torch.nn import functional

from lowshot import FewShotClassifier
from lowshot.adapters import clip_svd, lora_xs
from lowshot.adapters.adapter import CONFIG_FILE
from lowshot.belonging import BELONGING_FILE
from lowshot.classifier import saved_adapter
from lowshot.data import Examples, MemoryImages, Task
from lowshot.errors import AdapterError, InputError
from lowshot.methods import METHODS
from lowshot.models import load_backbone
from lowshot.progress import silent
from lowshot.records import TENSOR_FILES
from lowshot.serving import AdapterBank
from lowshot.settings import preset_recipe
from lowshot.tensor_file import CLASSIFIER_FILE, TENSORS_FILE
from lowshot.training import create_learner
from lowshot.training.placing import count_parameters
from lowshot.training.planning import plan
from lowshot.training.step import Passes
from refusing import refused
from tiny_models import IMAGE_ENCODERS, write_image_encoder

from .steps import LABELS, ROWS, assert_same, crops, gradients, learner_on

ABLE = [name for name, row in METHODS.items() if row.kind == "weights" and row.without_text]
NEEDS_PROMPTS = [name for name, row in METHODS.items() if row.kind != "choice" and not row.without_text]
SHORT = {"base_steps": 4, "steps_per_shot": 0, "batch_size": 4, "learning_rate": 1e-2, "flip": False}
MEAN, STD = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in ((0.4, 0.5, 0.6), (0.2, 0.3, 0.25)))


@pytest.fixture(scope="module")
def dinov3(tmp_path_factory):
    return str(write_image_encoder(tmp_path_factory.mktemp("dinov3"), "dinov3_vit"))


def coloured(of_each, seed):
    labels = np.tile(np.arange(3), of_each)
    pixels = np.random.default_rng(seed).integers(0, 60, (len(labels), 20, 20, 3), dtype=np.uint8)
    for picture, label in zip(pixels, labels, strict=True):
        picture[..., label] += 150
    return Examples(MemoryImages(pixels), labels, tuple(f"{seed} {row}" for row in range(len(labels))))


@pytest.fixture(scope="module")
def task():
    return Task("colours", ("red", "green", "blue"), train=coloured(4, 0), test=coloured(2, 1))


def fitted(model, task, method, **settings):
    low_rank = {"rank": 2, "dropout": 0.25} if "rank" in METHODS[method].settings else {}
    return FewShotClassifier(model, method=method, **{**SHORT, **low_rank, **settings}).fit(task)


# --- The gradient -----------------------------------------------------------------------------------------------------


def written_out(folder, learner):
    """Loss and gradients by transformers' own model, LoRA's products inside its weights, by name of the parameter."""
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    model = getattr(transformers, IMAGE_ENCODERS[kind]).from_pretrained(folder).double().eval()
    values = {name: p.detach().clone().requires_grad_() for name, p in learner.adapter.model.named_parameters()
              if p.requires_grad}  # fmt: skip
    rows = learner.class_vectors.rows.detach().clone().requires_grad_()
    weights = dict(model.named_parameters())
    for name in values:
        if ".lora_A." in name:
            layer = name.removeprefix("base_model.model.").partition(".lora_A.")[0]
            b, scale = values[name.replace("lora_A", "lora_B")], learner.recipe.method.alpha / 4**0.5
            weights[f"{layer}.weight"] = weights[f"{layer}.weight"] + scale * (b @ values[name])
    pixels = (crops(ROWS) - MEAN) / STD
    seen = torch.func.functional_call(model, weights, (pixels,)).last_hidden_state[:, 0]
    cosines = functional.cosine_similarity(seen[:, None], rows[None], dim=-1)
    loss = functional.cross_entropy(20 * cosines, LABELS)
    loss.backward()
    return loss.item(), [*(value.grad for value in values.values()), rows.grad]


@pytest.mark.parametrize("kind", IMAGE_ENCODERS)
def test_loss_and_gradients_are_those_of_transformers_model_with_the_products_in_its_weights(tmp_path, kind):
    folder = write_image_encoder(tmp_path, kind)
    learner = learner_on(folder, dropout=0.0, scaling="sqrt-rank", projections=("q", "k", "v", "o", "fc1", "fc2"))
    learner.class_vectors.rows.data = learner.class_vectors.rows.data.double()
    loss, expected = written_out(folder, learner)
    for passes in (Passes(7, 5), Passes(3, 2), Passes(1, 1)):
        found = gradients(learner, passes)
        assert_same(found, (loss, expected), 1e-9)
    assert all(gradient.abs().max() > 0 for gradient in expected)


# --- The start --------------------------------------------------------------------------------------------------------


def test_it_starts_as_the_nearest_class_mean(dinov3, task):
    learners = [
        create_learner(load_backbone(dinov3), task.class_names, preset_recipe("paper", name).replace(model=dinov3))
        for name in ("lora", "nearest-mean")
    ]
    learners[0].class_vectors.begin(task.train, silent)
    learners[1].fit(task.train, 4, silent)
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(*(learner.logits(images) for learner in learners), atol=1e-5, rtol=0)


def test_shrinkage_takes_the_rows_back_towards_the_means_as_the_adapter_towards_nothing(dinov3, task):
    trained, shrunk = (fitted(dinov3, task, "lora", shrinkage=share)._fitted[1] for share in (0.0, 4.0))
    of_all, of_half = (learner.class_vectors.rows for learner in (trained, shrunk))
    torch.testing.assert_close(of_half, (trained.class_vectors._start + of_all) / 2)
    assert not torch.allclose(of_half, of_all)


# --- Saved, loaded, served --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ABLE)
def test_every_method_that_trains_weights_learns_and_comes_back_the_same(dinov3, task, tmp_path, method):
    classifier = fitted(dinov3, task, method)
    images = [task.test.images[row] for row in range(6)]
    table = classifier.predict_proba(images)
    start = classifier._fitted[1].class_vectors._start
    assert not torch.allclose(classifier._fitted[1].class_vectors.rows, start)
    classifier.save_pretrained(tmp_path / "adapter")
    assert {path.name for path in (tmp_path / "adapter").iterdir()} <= {*TENSOR_FILES, "lowshot.json", "README.md"}
    assert np.array_equal(saved_adapter(tmp_path / "adapter").predict_proba(images), table)
    counted = count_parameters(classifier.recipe.replace(shots=4), classes=3)
    record = classifier.record_
    assert (counted.trainable_parameters, counted.adapter_bytes) == (record.trainable_parameters, record.adapter_bytes)
    if METHODS[method].served:
        [answer] = {len(answers): answers for answers in [AdapterBank(tmp_path).predict(images, "adapter")]}.values()
        np.testing.assert_allclose([each.probabilities for each in answer], table, atol=5e-3)


@pytest.mark.filterwarnings(
    "ignore:.*is_gradient_checkpointing.*:FutureWarning"
)  # PEFT reads what transformers renamed
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_peft_alone_loads_the_adapter_and_the_rows_are_in_a_file_beside_it(dinov3, task, tmp_path, method):
    classifier = fitted(dinov3, task, method)
    classifier.save_pretrained(tmp_path / "adapter")
    with torch.random.fork_rng():
        model = PeftModel.from_pretrained(transformers.AutoModel.from_pretrained(dinov3), tmp_path / "adapter").eval()
    rows = load_file(tmp_path / "adapter" / CLASSIFIER_FILE)["classifier"]
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        seen = model((images - MEAN.float()) / STD.float()).pooler_output
    scores = 20 * functional.normalize(seen, dim=-1) @ functional.normalize(rows, dim=-1).T
    torch.testing.assert_close(scores, classifier._fitted[1].logits(images), atol=1e-4, rtol=0)


def test_an_interrupted_run_goes_on_to_the_very_same_rows(dinov3, task, tmp_path):
    class Killed(BaseException):
        pass

    class Report:
        def begin(self, run, losses):
            pass

        def step(self, taken):
            if taken.step == 2:
                raise Killed

    def unfitted():
        return FewShotClassifier(dinov3, method="lora", rank=2, **SHORT)

    whole = unfitted().fit(task)
    with pytest.raises(Killed):
        unfitted().fit(task, checkpoint=tmp_path / "state", report=Report())
    rest = unfitted().fit(task, checkpoint=tmp_path / "state")
    assert torch.equal(*(each._fitted[1].class_vectors.rows for each in (whole, rest)))


def test_a_folder_without_the_rows_or_with_others_is_refused(dinov3, task, tmp_path):
    fitted(dinov3, task, "lora").save_pretrained(tmp_path / "bank" / "whole")
    folder = shutil.copytree(tmp_path / "bank" / "whole", tmp_path / "bank" / "half")
    (folder / CLASSIFIER_FILE).unlink()
    with refused(AdapterError, "classifier.safetensors", "missing"):
        saved_adapter(folder)
    shutil.copy(folder / TENSORS_FILE, folder / CLASSIFIER_FILE)
    bank, image = AdapterBank(tmp_path / "bank"), np.zeros((16, 16, 3), dtype=np.uint8)
    with refused(AdapterError, "lacks 1", "classifier"):
        bank.predict([image], "half")
    assert bank.predict([image], "whole")[0].classes == ("red", "green", "blue")


def test_what_a_step_needs_is_foretold(dinov3):
    planned = plan(preset_recipe("paper", "lora").replace(model=dinov3), classes=5, shots=2)
    assert planned.prompts == planned.passes.prompts == 5
    assert planned.peak_bytes > planned.resident_bytes


# --- Refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", NEEDS_PROMPTS)
def test_what_needs_prompts_is_refused_by_name(dinov3, method):
    recipe = preset_recipe("paper", method).replace(model=dinov3)
    with refused(InputError, method, "no text tower", "lora"):
        create_learner(load_backbone(dinov3), ["a", "b"], recipe)


def test_classes_that_were_not_learnt_cannot_be_judged(dinov3, task):
    with pytest.raises(InputError, match="reads no class names"):
        fitted(dinov3, task, "lora").evaluate(task, new_classes=True)


def test_a_text_tower_that_is_not_there_is_not_adapted(dinov3, task):
    with refused(InputError, "encoder", "'text'", "no such tower"):
        fitted(dinov3, task, "lora", encoder="text")


def test_every_file_that_an_adapter_may_have_is_in_the_list_of_what_is_copied_fetched_and_watched():
    files = {CONFIG_FILE, TENSORS_FILE, CLASSIFIER_FILE, lora_xs.BASIS_FILE, clip_svd.BASIS_FILE, BELONGING_FILE}
    assert set(TENSOR_FILES) == files
