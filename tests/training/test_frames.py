"""From ``fit`` to the backward pass of a step there is little to read: few functions, in few files."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import lowshot
from lowshot import FewShotClassifier

PACKAGE = str(Path(lowshot.__file__).parent)
MOST_FRAMES, MOST_FILES = 9, 5


def own_frames(frame):
    """(file, function) of the package's own frames, from the innermost on; no one else's and no test's."""
    frames = []
    while frame is not None:
        if frame.f_code.co_filename.startswith(PACKAGE):
            frames.append((Path(frame.f_code.co_filename).name, frame.f_code.co_name))
        frame = frame.f_back
    return frames


@pytest.mark.parametrize(
    ("method", "chosen"),
    [
        ("lora", {}),
        ("lora", {"encoder": "vision"}),
        ("lora", {"images_per_pass": 2, "prompts_per_pass": 1}),
        ("2sfs", {}),
        ("plot++", {"template": ("{}.",)}),
    ],
    ids=str,
)
def test_from_fit_to_the_backward_pass_there_are_few_frames_in_few_files(tiny_clip, monkeypatch, method, chosen):
    seen, backward = [], torch.Tensor.backward

    def noting(self, *arguments, **keywords):
        seen.append(own_frames(sys._getframe(1)))
        return backward(self, *arguments, **keywords)

    monkeypatch.setattr(torch.Tensor, "backward", noting)
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 255, (20, 20, 3), dtype=np.uint8) for _ in range(6)]
    quick = {"base_steps": 4, "steps_per_shot": 0, "batch_size": 3, "precision": "fp32"}
    FewShotClassifier(str(tiny_clip), preset="paper", method=method, **quick, **chosen).fit(images, list("abc") * 2)
    assert seen
    for frames in seen:
        assert frames[-1] == ("learning.py", "fit")
        assert len(frames) <= MOST_FRAMES, frames
        assert len({file for file, _ in frames}) <= MOST_FILES, frames
