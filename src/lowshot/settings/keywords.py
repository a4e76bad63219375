"""Types of settings as keyword arguments. Written by ``make docs`` from ``sections``; do not edit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal, TypedDict

from ..methods import Projection


class Keywords(TypedDict, total=False):
    """Every setting but the model and the method, which have parameters of their own."""

    beside: str | os.PathLike[str] | None
    quantize: Literal["none", "nf4", "int8"]
    quantize_projection: bool
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    adapter_precision: Literal["auto", "fp32", "base"]
    device: str | os.PathLike[str]
    encoder: Literal["both", "vision", "text"]
    projections: list[Projection] | tuple[Projection, ...]
    position: str | os.PathLike[str]
    rank: int
    rank_by_depth: Literal["uniform", "increasing", "decreasing"]
    alpha: float
    scaling: Literal["sqrt-rank", "rank"]
    basis_side: Literal["input", "output"]
    dropout: float
    shrinkage: float
    context: int
    openings: list[str] | tuple[str, ...]
    first_stage: float
    vision_prompts: int
    time_budget: float
    peft: list[str] | tuple[str, ...] | Mapping[str, Any]
    steps_per_shot: int
    base_steps: int
    batch_size: int
    gradient_accumulation_steps: int
    optimizer: Literal["adamw", "paged-adamw-8bit", "sgd"]
    adam_epsilon: float
    learning_rate: float
    minimum_learning_rate: float
    weight_decay: float
    crop_minimum: float
    flip: bool
    views: int | None
    seed: int
    calibration_folds: int
    reject: float | None
    shots: int | None
    draw: str | os.PathLike[str]
    protocol: Literal["few-shot", "base-to-new", "cross-dataset", "domain-generalisation"]
    targets: list[str] | tuple[str, ...]
    labels_per_image: Literal["one", "several"]
    label_delimiter: str | os.PathLike[str]
    template: list[str] | tuple[str, ...] | str
    class_names: str | os.PathLike[str] | None
    descriptions: str | os.PathLike[str] | None
    root: str | os.PathLike[str] | None
    on_bad_image: Literal["error", "skip", "error-damaged", "skip-damaged"]
    images_per_pass: int | None
    prompts_per_pass: int | None
    memory_budget: str | os.PathLike[str] | None
    gradient_checkpointing: bool
    cuda_graph: bool
    together: int | None
    image_memory: str | os.PathLike[str]
    image_disk: str | os.PathLike[str]
    threads: int | None
    checkpoint_seconds: float
    report_to: str | os.PathLike[str]
    logging_steps: int


class AllKeywords(Keywords, total=False):
    """All parameters of a classifier."""

    model: str | os.PathLike[str]
    method: str | None
    preset: str | None
    verbose: bool
