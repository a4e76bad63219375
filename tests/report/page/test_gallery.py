from __future__ import annotations

import pytest

from lowshot.errors import InputError
from lowshot.report.page import Prediction
from lowshot.report.page.gallery import most_confused, showcase_section
from refusing import refused

from ..factory import png, showcase


def test_a_mistake_is_told_in_words_and_shows_the_truth():
    html = showcase_section(showcase(predictions=(Prediction(png(), 1, 0, 0.61),)))

    assert 'class="wrong"' in html
    assert "✗" in html
    assert "<em>one</em>" in html
    assert 'alt="Test image of one, taken for zero"' in html


def test_a_right_prediction_does_not_repeat_the_truth():
    html = showcase_section(showcase(predictions=(Prediction(png(), 1, 1, 0.98),)))

    assert "✓" in html
    assert "<em>" not in html
    assert 'alt="Test image of one, recognised"' in html


def test_only_tiny_images_keep_their_pixels_sharp():
    tiny, photo = (
        showcase_section(showcase(predictions=(Prediction(png(width, width), 0, 0, 1.0),))) for width in (8, 224)
    )

    assert 'class="tiny"' in tiny
    assert 'class="tiny"' not in photo


def test_the_confusion_matrix_counts_mistakes_and_labels_both_ways():
    html = showcase_section(showcase())

    assert "3 of 403 test images are taken for another class." in html
    assert html.count('scope="col"') == html.count('scope="row"') == 10
    assert ">3</td>" in html


def test_a_large_matrix_shows_the_most_confused_classes_and_says_so():
    classes = tuple(f"class {i}" for i in range(102))
    confusion = [[5 if i == j else 0 for j in range(102)] for i in range(102)]
    confusion[90][7] = 9

    html = showcase_section(showcase(classes=classes, confusion=tuple(map(tuple, confusion))))

    assert "Shown are the 20 most confused of 102 classes." in html
    assert html.count('scope="row"') == 20
    assert "class 90" in html


def test_most_confused_counts_both_directions_and_keeps_label_order():
    confusion = [[9, 0, 0, 0], [0, 9, 0, 0], [0, 0, 9, 2], [3, 0, 0, 9]]

    assert most_confused(confusion, 3) == [0, 2, 3]
    assert most_confused(confusion, 20) == [0, 1, 2, 3]


def test_a_class_without_test_images_is_drawn():
    html = showcase_section(showcase(classes=("a", "b"), confusion=((0, 0), (0, 2))))

    assert "0 of 2 test images" in html


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"confusion": ((1, 0),)}, (10, "10 x 10")),
        ({"predictions": (Prediction(b"", 10, 0, 1.0),)}, ("truth 10", "predicted 0", "10 classes")),
        ({"predictions": (Prediction(b"", 0, -1, 1.0),)}, ("truth 0", "predicted -1")),
    ],
)
def test_a_showcase_that_does_not_fit_its_classes_is_refused(changes, facts):
    with refused(InputError, *facts):
        showcase(**changes)
