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
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def write_discs(folder, count, generator):
    """Write ``<class>/*.png`` into a folder: light and dark discs, no two alike."""
    rows, columns = np.mgrid[:24, :24]
    for label, level in (("dark_disc", 60), ("light_disc", 230)):
        (folder / label).mkdir(parents=True)
        for number in range(count):
            disc = (rows - 12) ** 2 + (columns - 12) ** 2 < generator.integers(6, 11) ** 2
            picture = np.where(disc, level, 128) + generator.integers(0, 20, disc.shape)
            Image.fromarray(picture.astype(np.uint8)).save(folder / label / f"{number}.png")


@pytest.fixture
def photos(tmp_path):
    """``photos/<class>/*.png``: light and dark discs."""
    write_discs(tmp_path / "photos", 4, np.random.default_rng(0))
    return tmp_path / "photos"


@pytest.fixture
def fit(run, tiny_clip, photos, tmp_path):
    """Fit the tiny CLIP on the photos."""

    def fit(*arguments, out=tmp_path / "adapter", fast=("--steps-per-shot", "5", "--learning-rate", "1e-2")):
        named = () if {"--method", "--recipe", "--preset"} & set(arguments) else ("--method", "lora")
        return run("fit", photos, "--out", out, "--model", tiny_clip, *fast, *named, *arguments)

    return fit
