"""The command ``lowshot explain``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import tyro

from ..errors import InputError
from ..files import refuse_existing
from .arguments import AdapterFolder, OpenedAs, refuse_no_image
from .parsing import parse
from .printing import print_json, warned

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..classifier import FewShotClassifier

_NEAREST = 6
_SHARE = 0.5


class _Near(NamedTuple):
    """An image that was learnt from."""

    image: str
    label: str
    cosine: float
    """With the image that is explained, of the adapter's embeddings."""
    picture: Image


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Which parts of an image spoke for a class, as a picture.

    On the left is what the model saw, on the right the same with what spoke for the class in colour. Below are the
    nearest of the images that were learnt from, where they are at hand.
    """

    adapter: AdapterFolder
    image: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE")]
    """An image file."""
    label: Annotated[str | None, tyro.conf.arg(metavar="CLASS")] = None
    """The class to ask about, if not the most probable one."""
    data: Annotated[str | None, tyro.conf.arg(metavar="DATA")] = None
    """What the adapter learnt from, as `lowshot fit` was given it. An adapter of the server's page has its images."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")] = Path("explained.png")
    """Where to write the picture: a new file that ends in .png."""
    opened: OpenedAs = dataclasses.field(default_factory=OpenedAs)
    json: bool = False
    """Print one JSON object with `image`, `label`, `probability`, `relevance` by rows, `nearest` and `picture`."""


def run(arguments: Sequence[str]) -> int:
    """Explain, write the picture and print where it looked."""
    parsed = parse(Arguments, "explain", arguments)
    refuse_no_image(parsed.image)
    if parsed.out.suffix.lower() != ".png":
        raise InputError(f"out is {parsed.out}; expected a file that ends in .png")
    refuse_existing(parsed.out)
    from ..classifier import saved_adapter
    from ..explaining import picture_of
    from ..files import file_written_aside

    classifier = saved_adapter(parsed.adapter, **vars(parsed.opened))
    explanation = classifier.explain(parsed.image, parsed.label)
    nearest = _nearest(classifier, parsed)
    picture = picture_of(explanation, [(each.picture, each.label) for each in nearest])
    with file_written_aside(parsed.out) as file:
        picture.save(file, "PNG")
    if parsed.json:
        shown = [{"image": each.image, "label": each.label, "cosine": each.cosine} for each in nearest]
        print_json(
            {
                "image": str(parsed.image),
                "label": explanation.class_name,
                "probability": explanation.probability,
                "relevance": explanation.relevance.tolist(),
                "nearest": shown,
                "picture": str(parsed.out),
            }
        )
        return 0
    print(f"{parsed.image}  {explanation.class_name} {explanation.probability:.1%}")
    places = explanation.places_for(_SHARE)
    if places:
        print(f"half of what spoke for it lies in {places} of {explanation.relevance.size} places of the image")
    else:
        print("no place of the image spoke for it")
    for each in nearest:
        print(f"near, cosine {each.cosine:.2f}: {each.image} ({each.label})")
    print(f"picture: {parsed.out}")
    return 0


def _nearest(classifier: FewShotClassifier, parsed: Arguments) -> list[_Near]:
    """The nearest images that were learnt from, by the cosine of their embeddings, the nearest first."""
    import numpy as np
    from PIL import Image

    from ..data import as_pixels, draw_from
    from ..progress import shown
    from ..serving.examples import read_examples

    images: list[Any]
    if parsed.data is not None:
        with warned(classifier.warnings_):
            task = classifier.task(parsed.data)
        drawn = draw_from(task, None, 0, str(parsed.adapter)).indices
        examples = task.train.subset(drawn)
        images = [examples.images[row] for row in range(len(examples))]
        names = [", ".join(task.names_at("train", int(row))) for row in drawn]
        places = list(examples.identities)
    else:
        taught = read_examples(parsed.adapter)
        images, names = [each.path for each in taught], [each.class_name for each in taught]
        places = [str(path) for path in images]
    if not images:
        return []
    cosines = classifier.transform(images, track=shown) @ classifier.transform([parsed.image])[0]
    best = np.argsort(-cosines, kind="stable")[:_NEAREST]
    pictures = (Image.fromarray(as_pixels(images[row])) for row in best)
    return [
        _Near(places[row], names[row], round(float(cosines[row]), 6), picture)
        for row, picture in zip(best, pictures, strict=True)
    ]
