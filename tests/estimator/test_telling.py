"""What a classifier and a task say of themselves, and what ``verbose`` says of what they do."""

import pytest

from lowshot import FewShotClassifier, errors
from lowshot.data import Examples, MemoryImages, Task


def test_a_classifier_is_written_as_the_call_that_makes_it():
    assert repr(FewShotClassifier()) == "FewShotClassifier(method='auto')"
    classifier = FewShotClassifier("org/clip", method="qlora", rank=3, verbose=True)
    assert repr(classifier) == "FewShotClassifier('org/clip', method='lora', verbose=True, quantize='nf4', rank=3)"
    assert repr(FewShotClassifier.from_recipe(FewShotClassifier(method="gda").recipe)) == repr(
        FewShotClassifier(method="gda")
    )


def test_a_fitted_one_tells_what_it_learnt(classifier, pictures):
    classifier.fit(*pictures())
    assert repr(classifier).endswith(
        "which learnt 3 classes (blue, green, red) from 12 images of images by nearest-mean"
    )
    table = classifier._repr_html_()
    assert table.startswith("<table>")
    assert "<td>3 classes (blue, green, red)</td>" in table


def test_nothing_in_a_notebook_is_markup():
    assert "<b>" not in FewShotClassifier("<b>", method="lora")._repr_html_()


def test_a_task_is_its_name_classes_and_sizes_and_not_its_pixels(pictures):
    images, labels = pictures(9)
    names = tuple("abcdefghi")
    examples = Examples(MemoryImages(images), labels=(labels == "red").astype(int), identities=names)
    task = Task("letters", names, examples, test=examples.subset([0, 1]))
    assert repr(task) == "Task('letters', 9 classes: a, b, c, d, e, ...; images: 9 train, 2 test)"
    assert repr(examples) == "Examples(9 images)"
    assert max(len(repr(images)) for images in (examples.images, examples.subset([0]).images)) < 100


def test_verbose_shows_progress_and_warnings(classifier, pictures, capsys):
    import lowshot.progress

    shown, shown_by = [], lowshot.progress.shown
    images, labels = pictures()
    classifier.fit(images, labels, shots=5).predict(images)
    assert capsys.readouterr().err == ""

    def told_too(items, *, what, total):
        shown.append(what)
        return shown_by(items, what=what, total=total)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lowshot.estimator.parameters.shown", told_too)
        classifier.set_params(verbose=True).fit(images, labels, shots=6).predict(images)
    assert shown[-1] == "evaluating"
    assert (
        "3 classes have fewer than the 6 shots asked for: 'blue' 4, 'green' 4, 'red' 4; all of it is used\n"
        in capsys.readouterr().err
    )
    with pytest.raises(errors.InputError, match="verbose"):
        classifier.set_params(verbose="yes")
