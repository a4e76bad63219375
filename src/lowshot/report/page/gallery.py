"""Test images with what the classifier of a showcase sees in them, and its confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...markup import Markup, data_address, element, scrollable, section, table
from ...wording.quantities import images_per_class, percent
from .showcase import Showcase

MOST_CLASSES = 20
"""A larger confusion matrix is cut to the classes with the most confusions."""
SHADES = 12
"""Number of ``shade-N`` classes in the style sheet: half the colour at most, for numbers must stay readable on it."""
_TINY_PIXELS = 96


def showcase_section(showcase: Showcase) -> Markup:
    """Test images with their predictions, and the confusion matrix."""
    who = f"{showcase.method}, {images_per_class(showcase.shots)}." if showcase.shots else f"{showcase.method}."
    note = element("p", f"{who} {showcase.note}".strip(), class_="note")
    cards = []
    for prediction in showcase.predictions:
        predicted, truth = showcase.classes[prediction.predicted], showcase.classes[prediction.truth]
        is_right = prediction.predicted == prediction.truth
        # Right and wrong differ in a word, a sign and the kind of border, not in colour alone.
        verdict = [
            element("span", "✓" if is_right else "✗", class_="sign", aria_hidden="true"),
            element("strong", predicted),
            " ",
            element("span", percent(prediction.probability), class_="quiet"),
        ]
        if not is_right:
            verdict.append(element("span", "is ", element("em", truth), class_="truth"))
        alt = f"Test image of {truth}, {'recognised' if is_right else f'taken for {predicted}'}"
        width = int.from_bytes(prediction.image_png[16:20], "big")  # the first field of a PNG's first chunk
        source = data_address(prediction.image_png, "image/png")
        image = element("img", src=source, alt=alt, class_="tiny" if width <= _TINY_PIXELS else None)
        cards.append(element("li", image, element("p", *verdict), class_="right" if is_right else "wrong"))
    grid = [element("ul", *cards, class_="gallery")] if cards else []
    images = section("What it sees", note, *grid, identity="predictions")
    return Markup(images + section("What it takes for what", _matrix(showcase), identity="confusion"))


def most_confused(confusion: Sequence[Sequence[int]], most: int) -> list[int]:
    """Indices of the classes with the most confusions, as truth or as prediction, in label order."""
    count = len(confusion)
    mistakes = [sum(confusion[i]) + sum(row[i] for row in confusion) - 2 * confusion[i][i] for i in range(count)]
    return sorted(sorted(range(count), key=lambda i: -mistakes[i])[:most])


def _matrix(showcase: Showcase) -> Markup:
    """The rows and columns of the most confused classes, below a sentence on all of them."""
    confusion = showcase.confusion
    indices = most_confused(confusion, MOST_CLASSES)
    corner = element("td", "truth ↓ taken for →", class_="corner")
    names = (element("th", element("span", showcase.classes[i]), scope="col") for i in indices)
    body = []
    for i in indices:
        cells = [element("th", showcase.classes[i], scope="row")]
        for j in indices:
            count = confusion[i][j]
            # The root lets rare confusions be seen.
            shade = max(1, round((SHADES - 1) * math.sqrt(count / (sum(confusion[i]) or 1))))
            style = f"{'right' if j == i else 'wrong'} shade-{shade}" if count else "none"
            cells.append(element("td", str(count or "·"), class_=style))
        body.append(element("tr", *cells))
    images = sum(map(sum, confusion))
    wrong = images - sum(row[i] for i, row in enumerate(confusion))
    note = (
        f"{wrong:,} of {images:,} test images are taken for another class. A darker cell is a larger share of its row."
    )
    if len(indices) < len(showcase.classes):
        note += f" Shown are the {len(indices)} most confused of {len(showcase.classes)} classes."
    return scrollable(table((corner, *names), body, "confusion"), note, "confusion-note")
