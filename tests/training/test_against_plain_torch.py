"""lowshot's training is CLIP-LoRA, LoRA-XS and DoRA to the letter: the same numbers as ``plain_reference`` gives.

Differences are relative to scale: the largest absolute difference over a tensor, divided by the largest absolute value
of the expected tensor. What the reference computes in float64 is the truth for float32 too. Trained parameters must
also have moved by a good part of that value: what stayed where it was cannot hide what moved wrongly.
"""

import ast
import dataclasses
import logging
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from lowshot.data import task_of_arrays
from lowshot.data.crops import batches, random_crops
from lowshot.models import load_backbone
from lowshot.progress import silent
from lowshot.settings import preset_recipe
from lowshot.training import create_learner

from . import plain_reference as plain

log = logging.getLogger(__name__)

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
CLEARLY_WRONG = 1e-3
MOVED_AT_LEAST = 0.03
CLASSES = ("aye-aye", "cat", "dog", "yak on a hill")
TEMPLATE = "a photo of a {}."
RANK, ALPHA = 3, 1.5
STEPS, BATCH, SEED = 20, 4, 7
RATES = {"learning_rate": 1e-2, "minimum_learning_rate": 1e-3, "weight_decay": 0.1}
PROJECTIONS = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "out_proj"}

SIDES = {"lora-xs": "input", "clip-lora-xs": "output"}
every_method = pytest.mark.parametrize("method", ["lora", *SIDES, "dora"])
both_precisions = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])


# --- A checkpoint -----------------------------------------------------------------------------------------------------


def write_clip(folder, vision, text, projection, vocabulary):
    """A random CLIP of ViT-B/16's structure: class token, pre-norm blocks, QuickGELU, 77 tokens, scale 100."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    tokenizer = spelling_tokenizer(vocabulary)
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    config = CLIPConfig(
        vision_config={**vision, "projection_dim": projection},
        text_config={**text, **ids, "vocab_size": vocabulary, "projection_dim": projection},
        projection_dim=projection,
    )
    with torch.device("meta"):
        model = CLIPModel(config)
    model.to_empty(device="cpu")
    randomise_base(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    side = vision["image_size"]
    size = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    CLIPImageProcessorPil(**size).save_pretrained(folder)


def spelling_tokenizer(vocabulary):
    """CLIP's tokenizer without merges; as in the true one start and end of text have the two highest ids."""
    from tokenizers import pre_tokenizers
    from transformers import CLIPTokenizer

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(letter + "</w>" for letter in letters)]
    tokens += [f"<unused {i}>" for i in range(vocabulary - len(tokens) - 2)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[], model_max_length=77)


@torch.no_grad()
def randomise_base(model):
    """Weights of a scale at which every part of the model matters: transformers' own are near zero, biases at zero."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name == "logit_scale":
            parameter.fill_(math.log(100))
        elif "norm" in name:
            parameter.copy_(0.2 * noise + (1.0 if name.endswith("weight") else 0.0))
        elif "token_embedding" in name or "position_embedding" in name or "class_embedding" in name:
            parameter.copy_(0.5 * noise)
        else:
            parameter.copy_(noise * (parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1))


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A folder with a CLIP, and what of its configuration the weights do not tell."""

    folder: Path
    depths: dict
    heads: dict
    side: int


SMALL = {
    "vision": {"hidden_size": 48, "intermediate_size": 192, "num_attention_heads": 4, "num_hidden_layers": 3},
    "text": {"hidden_size": 32, "intermediate_size": 128, "num_attention_heads": 2, "num_hidden_layers": 2},
}
VIT_B_16 = {
    "vision": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12},
    "text": {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8, "num_hidden_layers": 12},
}


def checkpoint_of(folder, towers, *, side, patch, projection, vocabulary):
    vision = {**towers["vision"], "image_size": side, "patch_size": patch}
    text = {**towers["text"], "max_position_embeddings": 77}
    write_clip(folder, vision, text, projection, vocabulary)
    depths, heads = (
        {f"{tower}_model": settings[key] for tower, settings in towers.items()}
        for key in ("num_hidden_layers", "num_attention_heads")
    )
    return Checkpoint(folder, depths, heads, side)


PLACES = (3 + 2) * 3  # the small model's q, k and v


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def the_users_cache_is_left_alone(cache, monkeypatch):
    """LoRA-XS keeps the bases of weights it has seen."""
    monkeypatch.setenv("LOWSHOT_CACHE", str(cache))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small-vit")
    return checkpoint_of(folder, SMALL, side=24, patch=8, projection=24, vocabulary=600)


@pytest.fixture(scope="module")
def vit_b_16(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vit-b-16")
    yield checkpoint_of(folder, VIT_B_16, side=224, patch=16, projection=512, vocabulary=49408)
    shutil.rmtree(folder)  # 600 MB, of which pytest would keep three


# --- The two sides ----------------------------------------------------------------------------------------------------


def examples_of(side, count=11):
    """Noise of exactly the model's size; 11 images in batches of 4 make the last batch of a pass a small one."""
    images = np.random.default_rng(5).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return task_of_arrays(list(images), [CLASSES[i % len(CLASSES)] for i in range(count)]).train


def pixels_of(examples):
    """``(N, 3, H, W)`` in [0, 1]."""
    stacked = np.stack([examples.images[i] for i in range(len(examples))])
    return torch.from_numpy(stacked.astype(np.float32) / np.float32(255)).permute(0, 3, 1, 2)


def learner_on(checkpoint, method, dtype, *, start="random", **settings):
    """A learner whose batches are whole images, its adapter at ``random`` values or as lowshot makes it (``own``)."""
    if method in SIDES:
        method, settings = "lora-xs", {"basis_side": SIDES[method], **settings}
    recipe = preset_recipe("paper", method).replace(model=str(checkpoint.folder), rank=RANK, alpha=ALPHA, seed=SEED)
    recipe = recipe.replace(dropout=0.0, crop_minimum=1.0, flip=False, **RATES)
    recipe = recipe.replace(**{"steps_per_shot": 0, "base_steps": STEPS, "batch_size": BATCH, **settings})
    prompts = tuple(TEMPLATE.format(name) for name in CLASSES)
    learner = create_learner(load_backbone(str(checkpoint.folder)), prompts, recipe)
    learner.backbone.model.to(dtype)
    if start == "random":
        randomise_adapter(learner)
    return learner


@torch.no_grad()
def randomise_adapter(learner):
    """No factor zero, or the gradient of the other one would be; updates of a size that saturates no softmax."""
    generator = torch.Generator().manual_seed(3)
    for of_place in factors_of(learner).values():
        for name in sorted(of_place.keys() & {"A", "B", "R", "m"}):
            factor = of_place[name]
            noise = 0.3 * torch.randn(factor.shape, generator=generator, dtype=torch.float64)
            factor.copy_({"A": factor + noise * factor.shape[-1] ** -0.5, "m": factor * (1 + noise)}.get(name, noise))


def factors_of(learner):
    """Place -> factor -> lowshot's own tensor. The one function that knows what its layers call them."""
    found = {}
    for place, layer in learner.backbone.model.named_modules():
        if "default" not in getattr(layer, "lora_A", {}):
            continue
        into, out = layer.lora_A["default"], layer.lora_B["default"]
        if hasattr(out, "R"):
            found[place] = {"left": out.u, "R": out.R, "right": into.weight}
        else:
            found[place] = {"A": into.weight, "B": out.weight}
            for vector in layer.lora_magnitude_vector.values():
                found[place]["m"] = vector.weight
    return found


def values_of(learner):
    """A copy of all factors, in float64; of LoRA-XS's frozen ones the singular values apart from their vectors."""
    values = {}
    for place, of_place in factors_of(learner).items():
        values[place] = {name: factor.detach().double().clone() for name, factor in of_place.items()}
        if "R" in of_place:
            left, right = values[place].pop("left"), values[place].pop("right")
            on_the_right = learner.recipe.method.basis_side == "input"
            s = plain.row_norms(right if on_the_right else left.T)
            vectors = (left, right / s[:, None]) if on_the_right else (left / s, right)
            values[place] |= {"U": vectors[0], "s": s, "Vt": vectors[1]}
    return values


def method_of(learner):
    """What the reference calls it."""
    method = learner.recipe.method
    return next(
        (name for name, side in SIDES.items() if (method.method, method.basis_side) == ("lora-xs", side)), method.method
    )


def reference_of(learner, checkpoint):
    """The reference on the checkpoint's own file, its factors at the learner's present values, the scale by formula."""
    from safetensors.torch import load_file

    method = learner.recipe.method
    weights = load_file(checkpoint.folder / "model.safetensors")
    return plain.Clip(
        weights={name: tensor.double() for name, tensor in weights.items()},
        heads=checkpoint.heads,
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
        update=plain.FORMULAS[method_of(learner)],
        factors=values_of(learner),
        scale=method.alpha / (method.rank**0.5 if method.scaling == "sqrt-rank" else method.rank),
    )


def prompts_of(learner):
    """Token ids of each prompt by itself, without any padding."""
    return [learner.backbone.tokenizer(TEMPLATE.format(name))["input_ids"] for name in CLASSES]


def relative(got, expected):
    """Largest difference over largest expected value."""
    return float((got.detach().double() - expected).abs().max() / expected.abs().max())


def differences_in_one_step(learner, clip, examples):
    """Logits, loss and every gradient of one batch of all examples, through ``logits`` and the real ``fit``."""
    assert learner.recipe.steps(1) == 1
    assert learner.recipe.training.batch_size == len(examples)
    trained = plain.TRAINED[method_of(learner)]
    pixels, labels, prompts = pixels_of(examples), torch.from_numpy(examples.labels), prompts_of(learner)
    expected = plain.loss_and_gradients(clip, trained, pixels.double(), labels, prompts)
    scores = learner.logits(pixels.to(next(iter(learner.parameters)).dtype))
    found = {"logits": relative(scores, plain.logits(clip, pixels.double(), prompts))}
    outcome = learner.fit(examples, 1, silent)
    found["loss"] = relative(torch.tensor(outcome.final_loss, dtype=torch.float64), expected.loss)
    for place, of_place in factors_of(learner).items():
        for name in trained:
            # The gradient of the only step stays on the parameter: ``fit`` clears gradients before a step, not after.
            found[f"gradient of {name} at {place}"] = relative(of_place[name].grad, expected.gradients[place][name])
    return found


def differences_after_training(learner, clip, examples, schedule):
    """How far the parameters and the last losses are from the reference's after all steps of the real ``fit``."""
    trained = plain.TRAINED[method_of(learner)]
    pixels, labels = pixels_of(examples).double(), torch.from_numpy(examples.labels)
    order = [(pixels[rows], labels[rows]) for rows in batches(len(examples), BATCH, STEPS, SEED)]
    expected, losses = plain.train(clip, trained, order, prompts_of(learner), schedule)
    outcome = learner.fit(examples, 1, silent)
    last = torch.tensor(losses[-2:], dtype=torch.float64).mean()
    found = {"final loss": relative(torch.tensor(outcome.final_loss, dtype=torch.float64), last)}
    for place, of_place in factors_of(learner).items():
        for name in trained:
            assert relative(clip.factors[place][name], expected.factors[place][name]) > MOVED_AT_LEAST
            found[f"trained {name} at {place}"] = relative(of_place[name], expected.factors[place][name])
    return found


def schedule_of(steps=STEPS, **changed):
    return plain.Schedule(
        steps, RATES["learning_rate"], RATES["minimum_learning_rate"], RATES["weight_decay"], **changed
    )


def assert_the_same(found, tolerance):
    """Every difference is a number and small; ``--log-cli-level=info`` shows the largest."""
    worst = max(found, key=lambda name: found[name] if math.isfinite(found[name]) else math.inf)
    log.info("largest difference %.1e, of %s", found[worst], worst)
    assert math.isfinite(found[worst])
    assert found[worst] < tolerance, f"{worst} is off by {found[worst]:.1e} of its scale; expected below {tolerance}"


# --- What is proved ---------------------------------------------------------------------------------------------------


@every_method
@both_precisions
def test_logits_loss_and_gradients_are_those_of_the_formulas(small, method, dtype):
    examples = examples_of(small.side)
    learner = learner_on(small, method, dtype, base_steps=1, batch_size=len(examples))
    found = differences_in_one_step(learner, reference_of(learner, small), examples)
    assert len(found) == 2 + PLACES * len(plain.TRAINED[method])
    assert_the_same(found, TOLERANCE[dtype])


@every_method
@both_precisions
def test_training_takes_the_steps_of_the_formulas(small, method, dtype):
    learner = learner_on(small, method, dtype)
    found = differences_after_training(learner, reference_of(learner, small), examples_of(small.side), schedule_of())
    assert_the_same(found, TOLERANCE[dtype])


@every_method
def test_training_from_the_start_that_lowshot_makes_takes_the_steps_of_the_formulas(small, method):
    learner = learner_on(small, method, torch.float64, start="own")
    found = differences_after_training(learner, reference_of(learner, small), examples_of(small.side), schedule_of())
    assert_the_same(found, TOLERANCE[torch.float64])


def test_adams_epsilon_is_that_of_the_formula(small):
    learner = learner_on(small, "lora", torch.float64, adam_epsilon=1e-2)
    reference, schedule = reference_of(learner, small), schedule_of(epsilon=1e-2)
    assert_the_same(differences_after_training(learner, reference, examples_of(small.side), schedule), 1e-9)


@pytest.mark.parametrize(
    "settings",
    [{"batch_size": BATCH // 2, "gradient_accumulation_steps": 2}, {"gradient_checkpointing": True}],
    ids=["accumulation", "checkpointing"],
)
def test_saving_memory_changes_no_step(small, settings):
    learner = learner_on(small, "lora", torch.float64, **settings)
    found = differences_after_training(learner, reference_of(learner, small), examples_of(small.side), schedule_of())
    assert_the_same(found, TOLERANCE[torch.float64])


@pytest.mark.parametrize(
    ("settings", "towers", "projections"),
    [
        ({"encoder": "vision"}, ("vision",), "qkv"),
        ({"encoder": "text"}, ("text",), "qkv"),
        ({"projections": ("q", "k", "v", "o")}, ("vision", "text"), "qkvo"),
        ({"scaling": "rank"}, ("vision", "text"), "qkv"),
    ],
    ids=["vision", "text", "qkvo", "alpha-over-rank"],
)
def test_placement_and_scaling_are_those_of_the_formulas(small, settings, towers, projections):
    examples = examples_of(small.side)
    once = learner_on(small, "lora", torch.float64, base_steps=1, batch_size=len(examples), **settings)
    assert factors_of(once).keys() == {
        f"{tower}_model.encoder.layers.{layer}.self_attn.{PROJECTIONS[letter]}"
        for tower in towers
        for layer in range(small.depths[f"{tower}_model"])
        for letter in projections
    }
    found = differences_in_one_step(once, reference_of(once, small), examples)
    often = learner_on(small, "lora", torch.float64, **settings)
    found |= differences_after_training(often, reference_of(often, small), examples, schedule_of())
    assert_the_same(found, TOLERANCE[torch.float64])


@pytest.mark.parametrize("method", SIDES)
def test_lora_xs_keeps_the_leading_singular_vectors_of_each_weight(small, method):
    learner = learner_on(small, method, torch.float32)
    clip, found = reference_of(learner, small), {}
    for place, of_place in clip.factors.items():
        u, s, v = np.linalg.svd(clip.weights[f"{place}.weight"].numpy())
        signs = np.sign((of_place["U"].numpy() * u[:, :RANK]).sum(0))
        found[f"U at {place}"] = relative(of_place["U"], torch.from_numpy(u[:, :RANK] * signs))
        found[f"s at {place}"] = relative(of_place["s"], torch.from_numpy(s[:RANK].copy()))
        found[f"V^T at {place}"] = relative(of_place["Vt"], torch.from_numpy(signs[:, None] * v[:RANK]))
    assert len(found) == 3 * PLACES
    assert_the_same(found, 1e-6)


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_adapters_start_as_published(small, method):
    """A Kaiming uniform, B zero (CLIP-LoRA's code: bound 1/sqrt(I)); DoRA's magnitude is the weight's own norm."""
    learner = learner_on(small, method, torch.float32, start="own", rank=16)
    clip = reference_of(learner, small)
    for place, of_place in clip.factors.items():
        weight = clip.weights[f"{place}.weight"]
        bound = weight.shape[1] ** -0.5
        assert 0.98 * bound < of_place["A"].abs().max() <= bound
        assert of_place["B"].count_nonzero() == 0
        if method == "dora":
            assert relative(of_place["m"], plain.row_norms(weight)) < 1e-6


# --- What the proof rests on ------------------------------------------------------------------------------------------


def test_the_reference_stands_on_torch_tensors_alone():
    tree = ast.parse(Path(plain.__file__).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported == {"collections.abc", "dataclasses", "math", "torch"}
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not attributes & {"nn", "functional", "optim", "special"}


def test_the_reference_pads_what_lowshot_trims(small):
    learner = learner_on(small, "lora", torch.float32)
    lengths = {len(ids) for ids in prompts_of(learner)}
    tokens = learner.backbone.tokenize([TEMPLATE.format(name) for name in CLASSES])
    assert tokens["input_ids"].shape == (len(CLASSES), max(lengths))
    assert (
        min(lengths) < max(lengths) < plain.CONTEXT == learner.backbone.model.config.text_config.max_position_embeddings
    )


@pytest.mark.parametrize("side", [24, 224])
def test_a_crop_of_everything_is_the_image_itself(side):
    examples = examples_of(side, count=3)
    pixels = pixels_of(examples)
    for step in range(STEPS):
        keys = [(SEED, step, row) for row in range(3)]
        images = [examples.images[row] for row in range(3)]
        assert torch.equal(random_crops(images, side, crop_minimum=1.0, flip=False, keys=keys), pixels)


# --- The check can fail: each of these formulas is wrong, and is found out --------------------------------------------


def alpha_over_rank(clip, monkeypatch):
    return dataclasses.replace(clip, scale=ALPHA / RANK)


def gelu_instead_of_quick_gelu(clip, monkeypatch):
    monkeypatch.setattr(plain, "quick_gelu", lambda x: x * (1 + torch.erf(x / 2**0.5)) / 2)
    return clip


def update_of_q_under_k(clip, monkeypatch):
    swapped = {"q_proj": "k_proj", "k_proj": "q_proj", "v_proj": "v_proj"}
    names = {place: place.replace(last, swapped[last]) for place in clip.factors for last in [place.rsplit(".")[-1]]}
    return dataclasses.replace(clip, factors={place: clip.factors[names[place]] for place in clip.factors})


def update_transposed(clip, monkeypatch):
    return dataclasses.replace(clip, update=lambda weight, f, scale: weight + scale * (f["B"] @ f["A"]).T)


def prompts_that_see_their_padding(clip, monkeypatch):
    monkeypatch.setattr(plain, "forbid_the_future", lambda scores: scores)
    return clip


def singular_values_on_the_other_side(clip, monkeypatch):
    other = {plain.lora_xs: plain.clip_lora_xs, plain.clip_lora_xs: plain.lora_xs}
    return dataclasses.replace(clip, update=other[clip.update])


def norm_by_column(clip, monkeypatch):
    def wrong(weight, f, scale):
        updated = plain.lora(weight, f, scale)
        return f["m"][:, None] * updated / plain.row_norms(updated.T).detach()

    return dataclasses.replace(clip, update=wrong)


@pytest.mark.parametrize(
    ("method", "wrong"),
    [
        ("lora", alpha_over_rank),
        ("lora", gelu_instead_of_quick_gelu),
        ("lora", update_of_q_under_k),
        ("lora", update_transposed),
        ("lora", prompts_that_see_their_padding),
        ("lora-xs", alpha_over_rank),
        ("lora-xs", singular_values_on_the_other_side),
        ("clip-lora-xs", singular_values_on_the_other_side),
        ("dora", norm_by_column),
    ],
)
def test_a_wrong_formula_is_found_out(small, method, wrong, monkeypatch):
    examples = examples_of(small.side)
    learner = learner_on(small, method, torch.float32, base_steps=1, batch_size=len(examples))
    found = differences_in_one_step(learner, wrong(reference_of(learner, small), monkeypatch), examples)
    del found["loss"]  # one number, a mean, which could come out nearly right by chance
    assert min(found.values()) > CLEARLY_WRONG


def test_a_norm_that_is_differentiated_is_found_out_by_the_gradients_alone(small):
    def wrong(weight, f, scale):
        updated = plain.lora(weight, f, scale)
        return f["m"][:, None] * updated / plain.row_norms(updated)[:, None]

    examples = examples_of(small.side)
    learner = learner_on(small, "dora", torch.float64, base_steps=1, batch_size=len(examples))
    clip = dataclasses.replace(reference_of(learner, small), update=wrong)
    found = differences_in_one_step(learner, clip, examples)
    assert max(found["logits"], found["loss"]) < TOLERANCE[torch.float64]
    assert all((value > CLEARLY_WRONG) == (" of A at " in name or " of B at " in name) for name, value in found.items())


def decay_that_ignores_the_learning_rate_schedule(values, gradient, moments, step, schedule):
    """Decay by the first learning rate throughout."""
    plainly = dataclasses.replace(schedule, weight_decay=0.0)
    new, moments = RIGHT_ADAMW(values, gradient, moments, step, plainly)
    return new - schedule.highest * schedule.weight_decay * values, moments


def decay_in_the_gradient(values, gradient, moments, step, schedule):
    """Adam with an L2 penalty, not AdamW."""
    plainly = dataclasses.replace(schedule, weight_decay=0.0)
    return RIGHT_ADAMW(values, gradient + schedule.weight_decay * values, moments, step, plainly)


def cosine_one_step_late(values, gradient, moments, step, schedule):
    """The biases of the moments are as they should be, the rate is the previous step's."""
    late = max(step - 1, 0)
    rate = schedule.learning_rate(late)
    return RIGHT_ADAMW(values, gradient, moments, step, dataclasses.replace(schedule, highest=rate, lowest=rate))


RIGHT_ADAMW = plain.adamw


@pytest.mark.parametrize(
    "wrong", [decay_that_ignores_the_learning_rate_schedule, decay_in_the_gradient, cosine_one_step_late]
)
def test_a_wrong_optimiser_is_found_out(small, wrong, monkeypatch):
    monkeypatch.setattr(plain, "adamw", wrong)
    learner = learner_on(small, "lora", torch.float32)
    found = differences_after_training(learner, reference_of(learner, small), examples_of(small.side), schedule_of())
    del found["final loss"]  # as above
    assert min(found.values()) > CLEARLY_WRONG


# --- At full size -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(900)  # seconds; 20 when the machine has nothing else to do
@every_method
@both_precisions
def test_vit_b_16_has_the_logits_loss_and_gradients_of_the_formulas(vit_b_16, method, dtype):
    examples = examples_of(vit_b_16.side, count=2)
    learner = learner_on(vit_b_16, method, dtype, base_steps=1, batch_size=2, rank=2, alpha=1.0)
    assert learner.backbone.parameters == 149_620_737
    published = {"lora": 184_320, **dict.fromkeys(SIDES, 72 * 2**2), "dora": 184_320 + 36 * (768 + 512)}
    assert learner.trainable_parameters == published[method]
    found = differences_in_one_step(learner, reference_of(learner, vit_b_16), examples)
    assert len(found) == 2 + 72 * len(plain.TRAINED[method])
    assert max(found["logits"], found["loss"]) < TOLERANCE[dtype]
    # The gradients of some queries are a thousandth of the largest ones, and what float32 rounds is not: up to 1e-4 of
    # their scale. That it is rounding alone is what float64 shows.
    assert_the_same(found, {torch.float64: 1e-9, torch.float32: 5e-4}[dtype])
