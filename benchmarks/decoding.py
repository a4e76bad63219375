"""Decoding and cropping photographs: each lever of ``lowshot.data`` alone, against the plain way in the same run.

    .venv/bin/python benchmarks/decoding.py [--json] [--smoke] [--device cuda] [--repeats 15]

Crops: 32 random crops resized one by one on the CPU (and then sent to the device), or all at once on the device.
Pixels: 32 JPEG files of 500 x 375 pixels decoded again, by one thread or two, or taken from the store's memory or its
file. Telephone: a JPEG of 12 megapixels from its file to the crop that is judged, reduced while it is decoded or whole
in floating point as it was before, with the memory that the process takes more meanwhile; and a random crop of it as in
a step of training. Ways alternate, so that a busy machine disturbs them alike. Prints a table and writes
benchmarks/results/<date>-<hardware>-decoding.json.
"""

from __future__ import annotations

import dataclasses
import itertools
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import OnDevice, finish, in_turn, milliseconds
from PIL import Image
from torch import Tensor

from evaluation import PHOTO_SIZE, write_photographs
from lowshot.data import FileImages, Pixels
from lowshot.data.ahead import computed_ahead
from lowshot.data.crops import Portion, _as_floats, _cuts, _resize, central_crops, random_crops
from lowshot.data.decoding import load_picture
from lowshot.data.store import DecodedOnce

IMAGES = 32
CROPS = {"500 x 375 to 224": (375, 500, 224, 0.08), "28 x 28 to 32": (28, 28, 32, 0.5)}
"""Height, width, side of the crop, smallest share of the area."""
LARGE = 1 << 30
TELEPHONE = (4000, 3000)
"""Width and height of a photograph of 12 megapixels."""

Way = Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Arguments(OnDevice):
    """Repetitions, and the device of the crops; a smoke run measures everything once."""

    repeats: int = 15

    @property
    def times(self) -> int:
        """Number of measurements of each way."""
        return 1 if self.smoke else self.repeats


def ways_to_crop(height: int, width: int, size: int, crop_minimum: float, device: torch.device) -> dict[str, Way]:
    """32 crops of noise on a device, one by one or together."""
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(IMAGES)]
    cuts = list(_cuts(images, crop_minimum, True, [(0, i) for i in range(IMAGES)]))

    def one_by_one() -> None:
        crops = [(_resize(_as_floats(cut.pixels[None]), (size, size)), cut.mirrored) for cut in cuts]
        torch.cat([crop.flip(-1) if mirrored else crop for crop, mirrored in crops]).to(device)
        wait()

    def together() -> None:
        Portion.of(cuts, size, pinned=False).resized(size, device)
        wait()

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    return {"one by one": one_by_one, "together": together}


def ways_to_pixels(files: FileImages) -> dict[str, Way]:
    """32 decoded photographs, every pixel of them read."""
    memory, disk = DecodedOnce(files, LARGE, 0), DecodedOnce(files, 0, LARGE)
    rows = range(len(files))

    def read(images: Callable[[], Iterable[Pixels]]) -> Way:
        return lambda: [int(pixels.max()) for pixels in images()]

    return {
        "decoded again": read(lambda: (files[row] for row in rows)),
        "decoded ahead by two threads": read(lambda: computed_ahead(files.__getitem__, rows)),
        "from memory": read(lambda: (memory[row] for row in rows)),
        "from the store's file": read(lambda: (disk[row] for row in rows)),
    }


def ways_to_judge(path: Path) -> dict[str, Way]:
    """A telephone's photograph from its file to the crop that is judged."""

    def whole() -> Tensor:
        with Image.open(path) as image:
            floats = _as_floats(np.asarray(image)[None])
        return _resize(floats, (224, 224 * floats.shape[-1] // floats.shape[-2]))

    return {"whole in floating point": whole, "reduced": lambda: central_crops([load_picture(path)], 224)}


def ways_to_learn(path: Path) -> dict[str, Way]:
    """A random crop of the same photograph, whose pixels are decoded already."""
    images = {"whole": load_picture(path, whole=True).pixels(), "reduced": load_picture(path).pixels()}

    def learn(pixels: Pixels) -> Way:
        return lambda: random_crops([pixels], 224, crop_minimum=0.08, flip=True, keys=[(0, next(steps))])

    steps = itertools.count()
    return {name: learn(pixels) for name, pixels in images.items()}


def memory(ways: Mapping[str, Way]) -> dict[str, int | None]:
    """Bytes that the process takes more while it does each once; None where the system does not tell."""
    bytes_of: dict[str, int | None] = {}
    for name, work in ways.items():
        try:
            Path("/proc/self/clear_refs").write_text("5")
            before = _most_bytes()
            work()
            bytes_of[name] = _most_bytes() - before
        except OSError:
            bytes_of[name] = None
    return bytes_of


def _most_bytes() -> int:
    return 1024 * int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])


def main(arguments: Arguments) -> dict[str, Any]:
    """Measure, print, write; returns the result."""
    device = torch.device(arguments.on)
    result: dict[str, Any] = {"benchmark": "decoding", "device": arguments.on, "images": IMAGES, "crops": {}}
    for name, shape in CROPS.items():
        result["crops"][name] = milliseconds(in_turn(ways_to_crop(*shape, device), arguments.times))
    with tempfile.TemporaryDirectory() as folder:
        files = FileImages(write_photographs(Path(folder), IMAGES, PHOTO_SIZE))
        result["pixels"] = milliseconds(in_turn(ways_to_pixels(files), arguments.times))
        [photograph] = write_photographs(Path(folder), 1, PHOTO_SIZE if arguments.smoke else TELEPHONE)
        judge = ways_to_judge(photograph)
        result["telephone"] = milliseconds(in_turn(judge, arguments.times))
        result["telephone_bytes"] = memory(judge)
        result["telephone_step"] = milliseconds(in_turn(ways_to_learn(photograph), arguments.times))
    if not arguments.json:
        for title, ways in {
            **result["crops"],
            "500 x 375": result["pixels"],
            "12 MP, judged": result["telephone"],
            "12 MP, a step": result["telephone_step"],
        }.items():
            for way, row in ways.items():
                print(f"{title:<17} {way:<29} {row['median']:7.2f} ms ({row['least']:.2f} to {row['most']:.2f})")
        for way, count in result["telephone_bytes"].items():
            print(f"12 MP, judged     {way:<29} {'?' if count is None else f'{count / 1e6:.0f}'} MB")
    return finish(result, arguments)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Arguments))
