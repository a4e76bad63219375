"""From what a user calls a method to its row, and back."""

from __future__ import annotations

import importlib
import re
from typing import Any

from ..errors import InputError, UnknownNameError
from .row import MethodSpec, Quantization
from .rows import ALIASES, METHODS, PEFT_PREFIX, peft_method


def method_spec(name: str) -> MethodSpec:
    """The method of this name or alias.

    Raises:
        UnknownNameError: There is none; the message offers the nearest names.
    """
    method, _ = resolve_alias(name)
    if re.fullmatch(rf"{PEFT_PREFIX}[a-z0-9_]+", method):
        return peft_method(method)
    if method not in METHODS:
        raise UnknownNameError("method", name, [*METHODS, *ALIASES, f"{PEFT_PREFIX}TYPE"])
    return METHODS[method]


def settled_spec(name: str) -> MethodSpec:
    """The method of this name or alias, if it is one by itself.

    Raises:
        UnknownNameError: There is none.
        InputError: It stands for others until ``fit`` has seen the shots.
    """
    spec = method_spec(name)
    if spec.kind == "choice":
        raise InputError(f"method {name} is one that fit chooses by the shots; expected a method by its own name here")
    return spec


def resolve_alias(method: str, quantize: Quantization | None = None) -> tuple[str, Quantization | None]:
    """Split names such as ``qlora`` into method and base precision; other names pass through.

    Args:
        method: A method or an alias.
        quantize: The base precision if one was asked for.

    Raises:
        InputError: An alias stands for another precision than the one asked for.
    """
    if method not in ALIASES:
        return method, quantize
    name, precision = ALIASES[method]
    if quantize not in (None, precision):
        raise InputError(f"method {method} means quantize {precision}, but quantize is {quantize!r}; say method {name}")
    return name, precision


def display_name(method: str, quantize: str) -> str:
    """The alias of a combination where it has one, else ``method+quantize``: the inverse of ``resolve_alias``."""
    for alias, combination in ALIASES.items():
        if combination == (method, quantize):
            return alias
    return method if quantize == "none" else f"{method}+{quantize}"


def imported(code: str, room: str) -> Any:
    """The object that a row names as ``module:name``, in a room such as ``lowshot.heads``."""
    module, _, name = code.partition(":")
    return getattr(importlib.import_module(f"{room}.{module}"), name)
