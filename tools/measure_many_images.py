"""The memory that answers about a folder take, and whether that depends on how many images there are.

    python tools/measure_many_images.py 5000 100000

Puts so many names of the built-in digits' test images into a folder, in folders of a thousand, and has
`lowshot predict --out` answer about them by a `nearest-mean` of 4 shots. Prints the most memory that
the process held; on Linux alone.
"""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from lowshot.cli import main
from lowshot.data import load_task


def write_images(folder: Path, count: int) -> None:
    """Write the test images once, and give them hard links under other names until there are ``count``."""
    test = load_task("digits").test
    assert test is not None
    for row in range(count):
        path = folder / str(row // 1000) / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if row < len(test):
            Image.fromarray(test.images[row]).resize((32, 32)).save(path)
        else:
            first = row % len(test)
            path.hardlink_to(folder / str(first // 1000) / f"{first}.png")


def measured(arguments: list[str]) -> tuple[float, float]:
    """Most memory in megabytes, and processor seconds, of a command in a process of its own."""
    # Not getrusage's: that begins with what the process that started this one held.
    code = (
        "import re, sys, time; from pathlib import Path; from lowshot.cli import main; status = main(sys.argv[1:]); "
        "most = int(re.search(r'VmHWM:\\s+([0-9]+)', Path('/proc/self/status').read_text())[1]) / 1024; "
        "sys.stderr.write(f'{most} {time.process_time()}\\n'); sys.exit(status)"
    )
    ran = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True)
    megabytes, seconds = ran.stderr.splitlines()[-1].split()
    return float(megabytes), float(seconds)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        adapter = str(Path(temporary) / "adapter")
        with contextlib.redirect_stdout(io.StringIO()):
            main(["fit", "digits", "--shots", "4", "--method", "nearest-mean", "--out", adapter])
        for count in map(int, sys.argv[1:]):
            images = Path(temporary) / str(count)
            write_images(images, count)
            megabytes, seconds = measured(["predict", adapter, str(images), "--out", f"{images}.csv"])
            print(f"{count:,} images: {megabytes:,.0f} MB, {seconds:,.0f} s of processor time", flush=True)
