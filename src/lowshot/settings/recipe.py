"""Recipe: all settings of a run, made from a preset, then a recipe file, then flags; later ones win."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError, UnknownNameError
from ..methods import ALIASES, AUTO, METHODS, PEFT_PREFIX, method_spec, refuse_idle_options, resolve_alias
from .row import Setting, refusal, rows_of
from .sections import DataConfig, EngineConfig, MethodConfig, ModelConfig, TrainingConfig
from .shipped import recipe_file

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that determines a trained classifier besides the images themselves.

    An alias such as ``qlora`` for a method sets the base precision too and is stored as what it stands for.
    """

    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    method: MethodConfig = dataclasses.field(default_factory=MethodConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    engine: EngineConfig = dataclasses.field(default_factory=EngineConfig)

    def __post_init__(self) -> None:
        if self.method.method in ALIASES:
            method, quantize = ALIASES[self.method.method]
            object.__setattr__(self, "method", dataclasses.replace(self.method, method=method))
            object.__setattr__(self, "model", dataclasses.replace(self.model, quantize=quantize))

    def replace(self, **settings: Any) -> Recipe:
        """A copy with some settings changed, named as on the command line: ``recipe.replace(rank=4, shots=16)``.

        Raises:
            UnknownNameError: No setting has this name.
            InputError: A value is out of range or of the wrong type, or an alias contradicts ``quantize``.
        """
        if settings.get("method") in ALIASES:
            settings["method"], settings["quantize"] = resolve_alias(settings["method"], settings.get("quantize"))
        changes: dict[str, dict[str, Any]] = {}
        for name, value in settings.items():
            if name not in SETTINGS:
                raise UnknownNameError("setting", name, SETTINGS)
            row = SETTINGS[name]
            changes.setdefault(row.section, {})[name] = _coerced(row, value)
        sections = {name: dataclasses.replace(getattr(self, name), **values) for name, values in changes.items()}
        return dataclasses.replace(self, **sections)

    def settings(self) -> dict[str, Any]:
        """All settings by name, flat."""
        return {name: getattr(getattr(self, row.section), name) for name, row in SETTINGS.items()}

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Nested plain values, as in a recipe file or a record."""
        return {
            section: {name: list(value) if isinstance(value, tuple) else value for name, value in vars(config).items()}
            for section, config in vars(self).items()
        }

    @classmethod
    def from_dict(cls, sections: Mapping[str, Mapping[str, Any]], base: Recipe | None = None) -> Recipe:
        """Read what ``to_dict`` or a recipe file gives, on top of ``base``; unknown sections and keys are refused."""
        settings: dict[str, Any] = {}
        known = {field.name for field in dataclasses.fields(cls)}
        for section, values in sections.items():
            if section not in known:
                raise UnknownNameError("recipe section", section, known)
            if not isinstance(values, Mapping):
                raise InputError(f"recipe section [{section}] is {values!r}; expected a table of settings")
            names = [name for name, row in SETTINGS.items() if row.section == section]
            for name in values:
                if name not in names:
                    raise UnknownNameError(f"setting in [{section}]", name, names)
            settings.update(values)
        return (base or cls()).replace(**settings)

    def refuse_idle_training(self) -> None:
        """Refuse what the method has no use for: it would look as if it did something.

        That are settings in ``[training]``, and options of a tuner of PEFT's (``methods.refuse_idle_options``).

        Raises:
            InputError: A setting is not the default, and the method does not obey it; or an option changes nothing.
        """
        if self.method.method.startswith(PEFT_PREFIX):
            refuse_idle_options(self.method.method, self.method.peft)
        obeyed = method_spec(self.method.method).training
        if obeyed is None or self.method.method == AUTO:  # which knows the preset it is of
            return
        for row in rows_of(TrainingConfig):
            value = getattr(self.training, row.name)
            if row.name not in obeyed and value != row.default:
                raise InputError(
                    f"{row.name.replace('_', '-')} is {value!r}, but method {self.method.method} has no use for it; "
                    f"leave it out (training settings of {self.method.method}: {', '.join(sorted(obeyed))})"
                )

    def refuse_unable(self) -> None:
        """Refuse a method, and what else cannot be learnt, where images may have several labels.

        Raises:
            InputError: Images have several labels, and the method learns one, or ``reject`` is given.
        """
        if not self.data.has_several:
            return
        if not method_spec(self.method.method).learns_several:
            able = ", ".join(name for name, row in METHODS.items() if row.learns_several)
            raise InputError(
                f"method {self.method.method} learns one label of an image, and labels-per-image is several; expected "
                f"one of {able} or {PEFT_PREFIX}TYPE (--method, or method= from Python)"
            )
        if self.training.reject is not None:
            raise refusal(
                "reject", self.training.reject, "none with labels-per-image several, where an image may have no label"
            )

    def steps(self, shots: int) -> int:
        """Optimiser steps for this many shots."""
        return self.training.base_steps + self.training.steps_per_shot * shots


SETTINGS: dict[str, Setting] = {row.name: row for section in vars(Recipe()).values() for row in rows_of(type(section))}
"""The table of settings, by name. Names are unique over all sections."""


def _coerced(row: Setting, value: Any) -> Any:
    """Return the value in its setting's type.

    TOML and JSON have lists for tuples and whole numbers for floats; callers have scalars and arrays of NumPy or torch.
    """
    types = row.types
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if tuple in types and isinstance(value, list):
        return tuple(value)
    if row.name == "template" and isinstance(value, str):
        return (value,)
    if row.name == "peft" and isinstance(value, Mapping):
        return tuple(f"{key}={json.dumps(option, default=str)}" for key, option in value.items())
    if float in types and type(value) is int and abs(value) < 1 << 64:
        return float(value)
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise refusal(row.name, value, " or ".join(kind.__name__ for kind in types))
    return value


def read_recipe(path: Path, base: Recipe | None = None) -> Recipe:
    """Read a TOML recipe file on top of ``base``.

    Raises:
        InputError: The file is missing or is not TOML, or a section, key or value does not fit.
    """
    sections = read_toml(path)
    if "grid" in sections:
        raise InputError(f"recipe {path} is a grid of runs; expected one run's settings, or lowshot bench {path}")
    return Recipe.from_dict(sections, base)


def read_toml(path: Path) -> dict[str, Any]:
    """The sections of a recipe file, as they stand there.

    Args:
        path: The file, or the name of a recipe that comes with lowshot.

    Raises:
        InputError: The file is missing or is not TOML.
    """
    try:
        text = recipe_file(path).read_text(encoding="utf-8-sig")  # Windows editors put a mark before it
        return tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"recipe {path} cannot be read: {error}") from error
