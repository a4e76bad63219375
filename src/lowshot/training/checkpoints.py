"""The state of a training run in a file: whoever runs the same again goes on where it ended, bit for bit."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..errors import InputError
from ..files import write_bytes
from ..settings import SETTINGS
from .state import TrainingState

_FORMAT = "1"
_SHARE_OF_TIME = 0.05


class CheckpointFile:
    """One safetensors file: trained values, the optimiser's state, losses; replaced as a whole.

    Args:
        path: The file; it need not exist.
        belongs_to: What the run is, by name: settings, hashes of weights, images and prompts. A file of another run is
            refused.
        seconds: Time between two writes at least. Where writing is slow they are further apart, so that no more than a
            twentieth of the time goes into it. 0 writes after every step all the same.
    """

    def __init__(self, path: Path, belongs_to: Mapping[str, Any], seconds: float) -> None:
        self.path = path
        self._belongs_to = json.loads(json.dumps(dict(belongs_to)))  # as it will be read
        self._seconds = seconds
        self._next = time.monotonic() + seconds

    def is_due(self) -> bool:
        """Whether it is time for the next write."""
        return self._seconds == 0 or time.monotonic() >= self._next

    def write(self, state: TrainingState) -> None:
        """Replace the file by this state.

        Raises:
            OutputError: It cannot be written.
        """
        started = time.monotonic()
        numbers, tensors = _taken_apart(state)
        facts = {"belongs_to": self._belongs_to, "optimizer": numbers, **state.facts()}
        copies = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
        write_bytes(self.path, save(copies, metadata={"format": _FORMAT, "facts": json.dumps(facts)}))
        took = time.monotonic() - started
        self._next = time.monotonic() + max(self._seconds, took / _SHARE_OF_TIME)

    def read_into(self, state: TrainingState) -> None:
        """Bring a fresh run to the state in the file; where there is no file it stays as it is.

        Raises:
            InputError: The file is damaged, or belongs to another run; the message says in what they differ.
        """
        if self.path.is_dir():
            raise InputError(f"training state {self.path} is a folder; expected a file, or none yet")
        if not self.path.exists():
            return
        try:
            with safe_open(str(self.path), framework="pt") as file:
                metadata = file.metadata() or {}
                facts = json.loads(metadata["facts"]) if metadata.get("format") == _FORMAT else None
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            if facts is not None:
                self._refuse_another_run(facts["belongs_to"])
                _put_together(state, facts, tensors)
        except InputError:
            raise
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
            raise InputError(f"training state {self.path} is damaged: {error}; remove it to begin anew") from None
        if facts is None:
            raise InputError(f"training state {self.path} is of another lowshot; remove it to begin anew")

    def _refuse_another_run(self, belongs_to: Mapping[str, Any]) -> None:
        younger = {row.name: row.default for row in SETTINGS.values() if row.younger}  # than the file, which lacks them
        for name in sorted(belongs_to.keys() | self._belongs_to.keys()):
            there, here = belongs_to.get(name, younger.get(name)), self._belongs_to.get(name)
            if there != here:
                raise InputError(
                    f"training state {self.path} is of another run: {name.replace('_', '-')} was {_short(there)} and "
                    f"is {_short(here)}; remove it to begin anew"
                )


def _taken_apart(state: TrainingState) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A state as what JSON can hold and what safetensors can; the optimiser's by ``optimizer.INDEX.FIELD`` in both."""
    numbers: dict[str, Any] = {}
    tensors = {"losses": torch.tensor(state.losses, dtype=torch.float64)}
    for index, (parameter, good) in enumerate(zip(state.parameters, state.good, strict=True)):
        tensors |= {f"parameter.{index}": parameter, f"good.{index}": good}
        for field, value in state.optimizer.state.get(parameter, {}).items():
            (tensors if isinstance(value, Tensor) else numbers)[f"optimizer.{index}.{field}"] = value
    return numbers, tensors


@torch.no_grad()
def _put_together(state: TrainingState, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    for index, (parameter, good) in enumerate(zip(state.parameters, state.good, strict=True)):
        parameter.copy_(tensors[f"parameter.{index}"])
        good.copy_(tensors[f"good.{index}"])
    for name, value in (*facts["optimizer"].items(), *tensors.items()):
        if name.startswith("optimizer."):
            _, index, field = name.split(".", 2)
            parameter = state.parameters[int(index)]
            here = value.to(parameter.device) if isinstance(value, Tensor) else value
            state.optimizer.state[parameter][field] = here
    state.go_on_from(facts, tensors["losses"].tolist())


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
