"""Class names put into words."""

from __future__ import annotations

from collections.abc import Sequence


def class_prompts(class_names: Sequence[str], template: str) -> list[str]:
    """One prompt per class: ``template`` with ``{}`` replaced by the name, ``_`` in names read as a space."""
    return [template.replace("{}", name.replace("_", " ")) for name in class_names]
