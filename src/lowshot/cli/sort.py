"""The command ``lowshot sort``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from ..errors import ImageError, InputError
from .arguments import AdapterFolder, OpenedAs, the_given
from .parsing import parse
from .printing import note, print_json, warned


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Put each image of a folder into a folder of its class, by a saved adapter.

    An image goes to `OUT/CLASS/`, one that the adapter is not sure of to `OUT/unsure/`, one that is of none of the
    classes to `OUT/none-of-these/` (if it was fitted with `--reject`), under the path that it has in the folder. One
    that cannot be read stays where it is. `OUT/index.html` shows them. The same command goes on where
    one was ended, and sorts what came to the folder later. Where images have several labels, each goes to the folder of
    each of them, or to `OUT/no-label/`.
    """

    adapter: AdapterFolder
    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """The images, also in folders in it, to any depth."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Where to: a new folder, or one that this command has begun."""
    copy: bool = False
    """Copy the images; what is done if nothing is said."""
    link: bool = False
    """Give them a second name (hard links), which takes no space; on the same disk alone."""
    move: bool = False
    """Move them: each has gone from the folder when it is in its new place, and never before."""
    sure: Annotated[float | None, tyro.conf.arg(metavar="PROBABILITY")] = None
    """Least probability of the most probable class, 0.5 if not given; images with less go to `OUT/unsure/`. Where
    images have several labels it is that of each label that counts."""
    transductive: bool = False
    """Judge the images together: what is said of one depends on those that are like it. It helps where there were no
    shots, or one of each class; all images are read before the first is put anywhere."""
    opened: OpenedAs = dataclasses.field(default_factory=OpenedAs)
    json: bool = False
    """Print one JSON object with `images` by folder, their `total`, the `errors` and the `page`."""


def run(arguments: Sequence[str]) -> int:
    """Sort and print how many images are where."""
    parsed = parse(Arguments, "sort", arguments)
    put = the_given(parsed, "copy", "link", "move") or "copy"
    if not parsed.folder.is_dir():
        raise InputError(f"{parsed.folder} {'is no folder' if parsed.folder.exists() else 'does not exist'}")
    from ..classifier import saved_adapter
    from ..folders import sort_folder
    from ..progress import shown

    classifier = saved_adapter(parsed.adapter, **vars(parsed.opened))
    with warned([]) as warnings:
        done = sort_folder(
            classifier,
            parsed.folder,
            parsed.out,
            put=put,
            sure=parsed.sure,
            transductive=parsed.transductive,
            track=shown,
            warn=warnings,
        )
    for error in done.errors:
        note(f"error: {error}")
    if parsed.json:
        print_json({"images": done.images, "total": done.total, "errors": list(done.errors), "page": str(done.page)})
    else:
        width = max(map(len, done.images), default=0)
        for folder, count in done.images.items():
            print(f"{folder:<{width}}  {count:,}")
        left = f"; {len(done.errors):,} left where they are" if done.errors else ""
        print(f"\n{done.total:,} images{left}\nlook them over: {done.page}")
    return ImageError.exit_status if done.errors else 0
