"""Commands, run as a user runs them."""

import numpy as np
import pytest
from PIL import Image

from lowshot.cli import main


@pytest.fixture
def run(capsys):
    """Run a command in this process: exit status, standard output, standard error."""

    def run(*arguments):
        status = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


@pytest.fixture
def photos(tmp_path):
    """``photos/<class>/*.png``: light and dark discs."""
    rows, columns = np.mgrid[:24, :24]
    generator = np.random.default_rng(0)
    for label, level in (("dark disc", 60), ("light disc", 230)):
        for number in range(4):
            radius = generator.integers(6, 11)
            disc = (rows - 12) ** 2 + (columns - 12) ** 2 < radius**2
            path = tmp_path / "photos" / label.replace(" ", "_") / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = np.where(disc, level, 128) + generator.integers(0, 20, disc.shape)  # no two are alike
            Image.fromarray(picture.astype(np.uint8)).save(path)
    return tmp_path / "photos"


@pytest.fixture
def fit(run, tiny_clip, photos, tmp_path):
    """Fit the tiny CLIP on the photos."""

    def fit(*arguments, out=tmp_path / "adapter", fast=("--steps-per-shot", "5", "--learning-rate", "1e-2")):
        named = () if {"--method", "--recipe", "--preset"} & set(arguments) else ("--method", "lora")
        return run("fit", photos, "--out", out, "--model", tiny_clip, *fast, *named, *arguments)

    return fit
