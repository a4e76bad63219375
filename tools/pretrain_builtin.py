"""Pre-train the built-in CLIP from scratch on rendered glyphs and their official Unicode names.

    .venv/bin/pip install -c constraints.txt -e '.[pretrain]'
    .venv/bin/python tools/pretrain_builtin.py --out src/lowshot/models/builtin

Every image is a character of the DejaVu fonts, distorted more and more as training goes on; every text is its Unicode
name in a prompt. No scanned digit and no glyph of the benchmark's held-out fonts is ever seen. The batch of a step
depends on (seed, step) alone, and model, optimiser and loss curve are checkpointed: a killed run that is started again
gives the same weights as one that was not. ``provenance.json`` beside the weights says how they came to be.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import math
import os
import platform
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import torch
import tyro
from scipy.ndimage import distance_transform_edt
from skimage.morphology import skeletonize
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from lowshot.data.glyphs import (
    HELD_OUT_FONTS,
    PRETRAINING_FONTS,
    characters_of,
    glyph_name,
    render_glyph,
)

# Chosen so that no two look alike once size and slant are gone: no O beside 0, no Greek or Cyrillic A beside
# the Latin one, of a letter whose small form is a small capital only one of the two.
CHARACTERS = (
    "0123456789"
    "ABCDEFGHJKLMNPQRSTUVWXYZ"
    "abdefghijmnqrty"
    "ÆŒØßðþŁĦŊÇÑÅÜÉĞŠæœđŧ"
    "ΓΔΘΛΞΠΣΦΨΩαβγδεζηθλμξπρσςτφχω"
    "БДЖИЙЛЦЧШЩЪЫЭЮЯЂЄЉЊЋѢ"
    "!?#$%&*+=@§¶©®£€¥¢<>[]{}()/\\~¿¡«»†‡‰"
    "←↑→↓↔↕↖↗↘↙⇐⇑⇒⇓⇔↩↪↺↻"
    "∀∂∃∅∇∈∋∏∑√∞∠∧∨∩∪∫∬∴≈≠≡≤≥⊂⊃⊆⊇⊕⊗⊥"
    "■□▲△▶▷▼▽◀◁◆◇○●★♀♂♠♣♥♦♪♫☺"
    "ԱԲԳԴԵԶԷԸԹԺԻԽԾԿՁՂՃՄՆՇՉՊՋՌՎՐՓՔ"
    "აბგდეზთიკლმნოპჟრსტუფქღყშჩცწჭჯჰ"
)
PROMPTS = (
    "a photo of a {}.",
    "a photo of a {}.",
    "a photo of a {}.",
    "{}",
    "the {}.",
    "a picture of a {}.",
    "a drawing of the {}.",
    "a blurry photo of a {}.",
    "an image of the {}.",
    "a handwritten {}.",
)
DIGIT_WEIGHT = 3.0  # a digit is drawn three times as often as another character: digits are what people write most
FIELD_SIZE = 64  # side of the stored distance fields, pixels


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings that determine the weights. Two runs with equal settings on equal versions give equal files."""

    out: Path
    """Folder for the finished model."""
    work: Path = Path("/tmp/lowshot-pretraining")
    """Folder for the checkpoint of a run under way."""
    steps: int = 9_000
    """Optimiser steps."""
    batch_size: int = 224
    """Images per step."""
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    warmup_steps: int = 300
    seed: int = 0
    checkpoint_every: int = 500
    threads: int = 2
    characters: str = CHARACTERS
    """Characters that are drawn and named; the first ten are the digits."""


def build_tokenizer(folder: Path, characters: str) -> CLIPTokenizer:
    """A CLIP byte-pair tokenizer in which each word of the names and prompts is one token.

    Training a BPE until nothing is left to merge makes every word of the corpus one token, and words it has never
    seen still become distinct sequences of pieces. As in OpenAI's vocabulary the two special tokens come last: a
    config with ``eos_token_id = 2`` would pool at the largest id instead of at EOS.
    """
    words = sorted({w for c in characters for p in PROMPTS for w in p.format(glyph_name(c)).replace(".", " .").split()})
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(vocab_size=1_000_000, end_of_word_suffix="</w>", show_progress=False)
    tokenizer.train_from_iterator(words, trainer)
    merges = [tuple(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet), *("".join(merge) for merge in merges)]
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    result = CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=merges, model_max_length=77)
    result.save_pretrained(folder)
    return result


def build_model(tokenizer: CLIPTokenizer) -> CLIPModel:
    """A CLIP of 1.5 M parameters: vision 4 layers x 128 on 32 x 32 pixels in patches of 8, text 2 layers x 128."""
    tower = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4, "projection_dim": 128}
    config = CLIPConfig(
        vision_config={**tower, "num_hidden_layers": 4, "image_size": 32, "patch_size": 8},
        text_config={
            **tower,
            "num_hidden_layers": 2,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 77,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        projection_dim=128,
    )
    return CLIPModel(config)


class Atlas:
    """Distance fields of glyphs: inside the stroke positive, in pixels of the ``FIELD_SIZE`` frame.

    A field plus a number is a bolder or lighter glyph. Letters and digits have a second field, the distance to
    their skeleton, which gives strokes of one width, as a pen leaves them.
    """

    def __init__(self, fonts: tuple[str, ...], characters: str) -> None:
        fields, skeletons, labels = [], [], []
        for label, character in enumerate(characters):
            for font in fonts:
                if character in characters_of(font):
                    outline, skeleton = self._fields(font, character)
                    fields.append(outline)
                    skeletons.append(skeleton)
                    labels.append(label)
        self.outlines = torch.from_numpy(np.stack(fields))
        self.skeletons = torch.from_numpy(np.stack(skeletons))
        self.labels = torch.tensor(labels)

    @staticmethod
    def _fields(font: str, character: str) -> tuple[np.ndarray, np.ndarray]:
        ink = render_glyph(font, character, size=4 * FIELD_SIZE, margin=28) >= 128
        outline = distance_transform_edt(ink) - distance_transform_edt(~ink)
        drawn_by_pen = character.isalpha() or character.isdigit()
        skeleton = 10.0 - distance_transform_edt(~skeletonize(ink)) if drawn_by_pen else outline
        shrink = (slice(2, None, 4), slice(2, None, 4))
        return outline[shrink].astype(np.float32) / 4, skeleton[shrink].astype(np.float32) / 4

    def draw_balanced(self, count: int, generator: torch.Generator, digit_labels: int = 10) -> Tensor:
        """``count`` rows, every character equally often whatever its number of fonts, digits ``DIGIT_WEIGHT`` times."""
        weight = 1.0 / torch.bincount(self.labels)[self.labels].double()
        weight[self.labels < digit_labels] *= DIGIT_WEIGHT
        return torch.multinomial(weight, count, replacement=True, generator=generator)


def smooth_noise(count: int, channels: int, cells: int, size: int, generator: torch.Generator) -> Tensor:
    """Random fields that vary over ``size / cells`` pixels, ``(count, channels, size, size)``, about unit variance."""
    coarse = torch.randn(count, channels, cells, cells, generator=generator)
    return functional.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False)


def draw_images(atlas: Atlas, rows: Tensor, strength: float, size: int, generator: torch.Generator) -> Tensor:
    """Distorted, coloured, degraded pictures of the atlas rows, ``(count, 3, size, size)`` in [0, 1].

    Args:
        atlas: The glyphs.
        rows: Which of them, ``(count,)``.
        size: Side of the pictures, pixels.
        generator: All randomness.
        strength: 0 draws clean white glyphs on black, 1 the full range of every distortion.
    """
    count = len(rows)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    severity = strength * uniform(0.0, 1.0).sqrt()
    by_pen = torch.rand(count, generator=generator) < 0.45 * strength
    field = torch.where(by_pen[:, None, None], atlas.skeletons[rows], atlas.outlines[rows])

    # Where each pixel of the picture looks in the glyph's frame: inverse affine map, then an elastic wobble.
    angle, shear = uniform(-0.3, 0.3) * severity, uniform(-0.5, 0.5) * severity
    stretch = torch.exp(uniform(-0.35, 0.35) * severity)
    extent = 1.0 - uniform(-0.12, 0.55) * severity  # share of the frame that the glyph fills
    shift_x, shift_y = (uniform(-1.0, 1.0) * ((1.05 - extent).clamp(min=0.0) + 0.06 * severity) for _ in range(2))
    cosine, sine = torch.cos(angle), torch.sin(angle)
    rotation = torch.stack([torch.stack([cosine, -sine], -1), torch.stack([sine, cosine], -1)], -2)
    skew = torch.zeros(count, 2, 2)
    skew[:, 0, 0], skew[:, 0, 1], skew[:, 1, 1] = stretch, shear, 1.0 / stretch
    matrix = rotation @ skew / extent[:, None, None]
    offset = -(matrix @ torch.stack([shift_x, shift_y], -1)[..., None])
    grid = functional.affine_grid(torch.cat([matrix, offset], -1), [count, 1, size, size], align_corners=False)
    wobble = smooth_noise(count, 2, 4, size, generator).permute(0, 2, 3, 1)
    grid = grid + wobble * (0.10 * severity)[:, None, None, None]

    # The stroke: bolder or lighter as a whole, and unevenly along its way.
    sampled = functional.grid_sample(field[:, None], grid, padding_mode="border", align_corners=False)[:, 0]
    bolder = uniform(-0.8, 2.6) * severity
    uneven = smooth_noise(count, 1, 5, size, generator)[:, 0] * (0.5 * severity)[:, None, None]
    softness = (0.5 * FIELD_SIZE / size) / extent * (1.0 + 1.2 * uniform(0.0, 1.0) * severity)
    ink = torch.sigmoid((sampled + bolder[:, None, None] + uneven) / softness[:, None, None] * 1.7)

    return degrade(colour(ink, strength, generator), strength, generator)


def colour(ink: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Paint ``(count, size, size)`` ink on paper: half of it plain grey levels, half two colours with texture."""
    count, size, _ = ink.shape
    paper = torch.rand(count, 3, generator=generator) * strength
    pen = torch.rand(count, 3, generator=generator)
    pen = 1.0 - (1.0 - pen) * strength
    grey = torch.rand(count, generator=generator) < 0.5
    dark = 0.25 * strength * torch.rand(count, 1, generator=generator)
    light = 1.0 - 0.35 * strength * torch.rand(count, 1, generator=generator)
    paper = torch.where(grey[:, None], dark.expand(-1, 3), paper)
    pen = torch.where(grey[:, None], light.expand(-1, 3), pen)
    # Legible means apart in brightness: push the two to opposite sides where they are too close.
    gap = (pen - paper).mean(-1, keepdim=True)
    push = (0.3 - gap.abs()).clamp(min=0.0) / 2 * torch.where(gap >= 0, 1.0, -1.0)
    pen, paper = (pen + push).clamp(0, 1), (paper - push).clamp(0, 1)
    inverted = torch.rand(count, generator=generator) < 0.4 * strength
    pen, paper = torch.where(inverted[:, None], paper, pen), torch.where(inverted[:, None], pen, paper)
    texture = smooth_noise(count, 3, 6, size, generator) + 0.7 * smooth_noise(count, 1, 14, size, generator)
    amount = 0.13 * strength * torch.rand(count, generator=generator) * ~grey
    ground = paper[:, :, None, None] + texture * amount[:, None, None, None]
    return ground + (pen[:, :, None, None] - ground) * ink[:, None]


def degrade(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Lose resolution (down to 8 x 8, in four groups of the batch) and gain noise."""
    size = images.shape[-1]
    degraded = []
    for group in images.chunk(4):
        lost = torch.rand((), generator=generator).item() < 0.6 * strength
        side = int(torch.randint(8, 25, (), generator=generator)) if lost else size
        if side < size:
            group = functional.interpolate(group, size=(side, side), mode="area")
            group = functional.interpolate(group, size=(size, size), mode="bicubic", align_corners=False)
        degraded.append(group)
    images = torch.cat(degraded)
    noise = torch.randn(images.shape, generator=generator)
    amount = 0.10 * strength * torch.rand(len(images), generator=generator) ** 2
    return (images + noise * amount[:, None, None, None]).clamp(0, 1)


class Prompts:
    """The names of all characters in each prompt, tokenised once and trimmed to the longest."""

    def __init__(self, tokenizer: CLIPTokenizer, characters: str) -> None:
        names = [glyph_name(c) for c in characters]
        self.batches = [
            tokenizer([p.format(n) for n in names], padding=True, return_tensors="pt") for p in dict.fromkeys(PROMPTS)
        ]
        order = list(dict.fromkeys(PROMPTS))
        self.draws = [order.index(p) for p in PROMPTS]


def features(model: CLIPModel, images: Tensor, tokens: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Unit image features ``(B, D)`` and name features ``(C, D)``."""
    image = model.get_image_features(pixel_values=images).pooler_output
    text = model.get_text_features(**tokens).pooler_output
    return functional.normalize(image, dim=-1), functional.normalize(text, dim=-1)


def contrastive_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Every image to all names, and every name in the batch to all images, ``logits (B, C)``."""
    to_names = functional.cross_entropy(logits, labels)
    present = labels.unique()
    same = (labels[None] == present[:, None]).float()
    to_images = -(functional.log_softmax(logits.T[present], dim=-1) * same).sum(-1) / same.sum(-1)
    return (to_names + to_images.mean()) / 2


@torch.no_grad()
def held_out_accuracy(model: CLIPModel, atlas: Atlas, prompts: Prompts, normalise) -> float:
    """Share of glyphs in held-out fonts, distorted at half strength, named right among all names."""
    generator = torch.Generator().manual_seed(12345)
    rows = torch.arange(len(atlas.labels))
    images = normalise(draw_images(atlas, rows, 0.5, 32, generator))
    model.eval()
    image, text = features(model, images, prompts.batches[0])
    model.train()
    return float(((image @ text.T).argmax(-1) == atlas.labels).float().mean())


def learning_rate_at(step: int, settings: Settings) -> float:
    """Linear warm-up, then a cosine to a hundredth."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    progress = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return settings.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)


def write_checkpoint(path: Path, state: dict) -> None:
    aside = path.with_suffix(".partial")
    with aside.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def train(settings: Settings) -> None:
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    settings.work.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer(settings.work / "tokenizer", settings.characters)
    model = build_model(tokenizer)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (processor.image_mean, processor.image_std))

    def normalise(images: Tensor) -> Tensor:
        return (images - mean) / std

    print(f"drawing {len(settings.characters)} characters", file=sys.stderr)
    atlas, held_out = (Atlas(fonts, settings.characters) for fonts in (PRETRAINING_FONTS, HELD_OUT_FONTS))
    prompts = Prompts(tokenizer, settings.characters)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98))

    checkpoint = settings.work / "checkpoint.pt"
    identity = {k: str(v) for k, v in dataclasses.asdict(settings).items() if k not in ("out", "work", "threads")}
    curve: list[dict[str, float]] = []
    start, seconds = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        if state["identity"] != identity:
            raise SystemExit(f"{checkpoint} belongs to a run with other settings; remove {settings.work} to start anew")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        start, seconds, curve = state["step"], state["seconds"], state["curve"]
        print(f"resuming after step {start}", file=sys.stderr)

    started = time.perf_counter() - seconds
    losses: list[float] = []
    bar = tqdm(range(start, settings.steps), initial=start, total=settings.steps, mininterval=5)
    for step in bar:
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        strength = min(1.0, (step + 1) / (0.35 * settings.steps))
        rows = atlas.draw_balanced(settings.batch_size, generator)
        images = normalise(draw_images(atlas, rows, strength, 32, generator))
        prompt = prompts.draws[int(torch.randint(len(prompts.draws), (), generator=generator))]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, settings)
        image, text = features(model, images, prompts.batches[prompt])
        loss = contrastive_loss(model.logit_scale.exp() * image @ text.T, atlas.labels[rows])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(100.0))
        losses.append(loss.item())
        if (step + 1) % settings.checkpoint_every == 0 or step + 1 == settings.steps:
            accuracy = held_out_accuracy(model, held_out, prompts, normalise)
            curve.append({"step": step + 1, "loss": round(float(np.mean(losses)), 4), "held_out": round(accuracy, 4)})
            losses.clear()
            bar.write(f"step {step + 1}: {curve[-1]}", file=sys.stderr)
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            elapsed = time.perf_counter() - started
            write_checkpoint(checkpoint, {**state, "identity": identity, "seconds": elapsed, "curve": curve})

    save(settings, model, processor, curve, time.perf_counter() - started, held_out)


def save(settings: Settings, model: CLIPModel, processor, curve: list, seconds: float, held_out: Atlas) -> None:
    """Write the finished model, tokenizer, image processor and provenance beside the target, then rename."""
    aside = settings.work / "finished"
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(settings.work / "tokenizer", aside)
    model.save_pretrained(aside)
    processor.save_pretrained(aside)
    provenance = {
        "what": "CLIP pre-trained from scratch on rendered glyphs of the DejaVu fonts and their Unicode names",
        "command": "python tools/pretrain_builtin.py " + " ".join(sys.argv[1:]),
        "settings": {k: v for k, v in dataclasses.asdict(settings).items() if k not in ("out", "work", "characters")},
        "characters": settings.characters,
        "fonts": list(PRETRAINING_FONTS),
        "held_out_fonts": list(HELD_OUT_FONTS),
        "held_out_glyphs": len(held_out.labels),
        "held_out_accuracy": curve[-1]["held_out"],
        "parameters": sum(p.numel() for p in model.parameters()),
        "training_seconds": round(seconds),
        "loss_curve": curve,
        "versions": {
            "python": platform.python_version(),
            **{
                p: importlib.metadata.version(p)
                for p in ("torch", "transformers", "numpy", "matplotlib", "scikit-image")
            },
        },
    }
    (aside / "provenance.json").write_text(json.dumps(provenance, indent=1, ensure_ascii=False) + "\n")
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(settings.out, ignore_errors=True)
    shutil.copytree(aside, settings.out)
    print(f"wrote {settings.out}: held-out fonts {curve[-1]['held_out']:.1%}", file=sys.stderr)


if __name__ == "__main__":
    train(tyro.cli(Settings))
