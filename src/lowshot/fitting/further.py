"""The lesson that a classifier was taught once more, by itself or with classes or images more.

What is learnt from such a lesson is what fitting all of its shots learns, since it is fitted by the same code. The
shots of a method on frozen features are known by their embeddings; those of any other method must be at hand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..data import (
    Addition,
    Draw,
    Examples,
    Images,
    Label,
    MemoryImages,
    Prompts,
    Task,
    draw_of_record,
    draw_sha256,
    draw_shots,
    draw_shots_of_several,
    examine,
    joined,
    prompts_for,
)
from ..data.task import as_read
from ..errors import DataError, InputError, UnknownNameError
from ..heads import KeptShots
from ..methods import method_spec
from ..progress import Track
from ..records import RunRecord
from ..settings import COOP, Recipe
from ..training.kept_images import KeptImages
from .lesson import Lesson, LoadBackbone, kept_decoded


def taught(record: RunRecord, recipe: Recipe, kept: KeptShots | None, load: LoadBackbone) -> Lesson:
    """The lesson that an adapter was taught, by what it has kept of its shots.

    Args:
        record: The adapter's.
        recipe: Its recipe, with a method that is one by itself.
        kept: What it has kept; None where it has nothing.
        load: Gives a backbone for a model and a device.

    Raises:
        InputError: It has kept nothing, so that it must be fitted anew.
    """
    learns = method_spec(recipe.method.method).learns
    if not learns and not recipe.training.calibration_folds and not record.has_several:
        none = Examples(MemoryImages([]), np.empty(0, dtype=np.int64), ())
        return _lesson(record, recipe, none, (), load)
    if kept is None or len(kept) != len(record.learnt):
        raise InputError(why_anew(record, recipe))
    if record.has_several and recipe.training.views and not len(kept.central):
        raise InputError(why_anew(record, recipe))  # what its labels are told by was not kept at first
    names = record.draw if len(record.draw) == len(kept) else record.learnt  # pushed without the names of files
    examples = Examples(KeptImages(kept, MemoryImages([])), kept.labels.numpy(), names)
    return _lesson(record, recipe, examples, record.learnt, load)


def why_anew(record: RunRecord, recipe: Recipe) -> str:
    """The reason why an adapter must be fitted anew, and how that is done."""
    method = recipe.method.method
    anew = "give the images that it was taught with: --refit DATA (refit=DATA from Python) teaches all of it anew"
    if not method_spec(method).learns:
        return (
            f"offsets and thresholds of labels are told by shots, and method {method} keeps no shots; fit it anew with "
            "the class: lowshot fit DATA"
        )
    if method_spec(method).kind != "features":
        return f"method {method} learns inside the towers, so that one class more changes all of it; {anew}"
    if len(record.classes) and not record.learnt:
        return f"this adapter does not know which images it was taught with; {anew}"
    return f"this adapter was saved without its shots, as lowshot did before it could add classes; {anew}"


def taught_again(
    record: RunRecord,
    recipe: Recipe,
    data: Task,
    track: Track,
    load: LoadBackbone,
    *,
    supplied: Collection[str] = (),
) -> Lesson:
    """The same by the images themselves: those that the record names, of classes that the adapter still has.

    Of classes on top of the towers the data may have the images or not, where others are supplied.

    Args:
        record: The adapter's.
        recipe: As for ``taught``.
        data: The images that it was taught with, among others or not.
        track: Shows progress.
        load: As for ``taught``.
        supplied: Classes that images will be added of.

    Raises:
        DataError: There is an image, or a class, that the data lacks.
    """
    rows = draw_of_record(data, record.taught_to_towers)
    row_of = {identity: row for row, identity in enumerate(data.train.identities)}
    on_top = (row_of.get(identity) for identity in record.draw[len(record.taught_to_towers) :])
    of_towers = set(rows)
    rows += [row for row in on_top if row is not None and row not in of_towers]
    some = labelled_as(data.train.subset(rows), data.class_names, record.classes)
    empty = np.flatnonzero(some.counts(len(record.classes)) == 0).tolist()
    lacking = [record.classes[at] for at in empty if at < record.tower_classes or record.classes[at] not in supplied]
    if lacking:
        raise DataError(
            f"{data.name} has none of the shots of class {lacking[0]!r}; expected the images that the adapter was "
            "taught with in folders of its classes, by the names that they have now"
        )
    examples = kept_decoded(some, recipe)
    contents, _ = examine(examples, track)
    return _lesson(record, recipe, examples, contents, load)


def labelled_as(examples: Examples, class_names: Sequence[str], names: Sequence[str]) -> Examples:
    """The images of those classes that are among others, labelled by their places there.

    Where images have several labels all of them are left, with those labels alone.

    Args:
        examples: Labelled by their places in ``class_names``.
        class_names: The classes that they have.
        names: The others.
    """
    place = {name: label for label, name in enumerate(names)}
    elsewhere = len(names)
    some = examples.relabelled(np.asarray([place.get(name, elsewhere) for name in class_names]), elsewhere + 1)
    if some.has_several:
        return dataclasses.replace(some, labels=some.labels[:, :-1])
    return some.subset(np.flatnonzero(some.labels < elsewhere))


def with_more(
    lesson: Lesson,
    addition: Addition,
    shots: int | None,
    warn: Callable[[Sequence[str]], None],
    track: Track,
    *,
    anew: bool = False,
) -> Lesson:
    """The lesson with other images behind its own: of classes that it has, and of new ones behind its classes.

    Where images have several labels, its own show none of the new classes, but for those that are among the other
    images too: they get the labels that they have there besides.

    Args:
        lesson: With the hashes of what its shots show.
        addition: The images.
        shots: Images per class, drawn by the recipe's seed; None for all.
        warn: Is told what is left out.
        track: Shows progress.
        anew: Whether it is enough to learn the lesson once more: then nothing need be new.

    Raises:
        DataError: Nothing is new, an image cannot be read, or a class cannot be told from another.
    """
    names, labels = classes_with(lesson.task.class_names, lesson.task.class_labels, addition)
    if not method_spec(lesson.recipe.method.method).learns and not lesson.examples.has_several:
        return changed_lesson(lesson, names, labels, _prompts_with(lesson, names, addition), lesson.examples, ())
    draw_of = draw_shots_of_several if lesson.examples.has_several else draw_shots
    draw = draw_of(addition.examples.identities, addition.examples.labels, shots, lesson.recipe.training.seed)
    warn(draw.warnings(addition.class_names))
    drawn = addition.examples.subset(draw.indices).relabelled(
        np.asarray([names.index(name) for name in addition.class_names]), len(names)
    )
    contents, damaged = examine(drawn, track)
    warn(damaged)
    known = {content: row for row, content in enumerate(lesson.contents)}
    rows = [row for row, content in enumerate(contents) if content not in known]
    own, relabelled = lesson.examples, 0
    if own.has_several:
        again = {row: known[content] for row, content in enumerate(contents) if content in known}
        own, relabelled = _with_labels_more(own, drawn, again, len(names))
        warn([f"{relabelled} of {len(contents)} images are learnt already, and get labels more"] if relabelled else [])
    if passed_over := len(contents) - len(rows) - relabelled:
        warn([f"{passed_over} of {len(contents)} images are learnt already and left out"])
    if not rows and not relabelled:
        if anew:
            return lesson
        raise DataError(f"{addition.name}: every image is learnt already; expected images of a class more, or others")
    more = named_apart(drawn.subset(rows), own.identities, addition.name)
    counts = more.counts(len(names)) + (own.counts(len(names)) if own.has_several else 0)
    refuse_empty(counts, len(lesson.task.class_names), names, addition.name)
    if isinstance(own.images, KeptImages):
        images: Images = KeptImages(own.images.shots, more.images)
        labels_of_all = np.concatenate([own.labels, more.labels])
        together = Examples(images, labels_of_all, (*own.identities, *more.identities))
    else:
        together = kept_decoded(joined(own, more, more.labels), lesson.recipe)
    prompts = _prompts_with(lesson, names, addition)
    return changed_lesson(
        lesson, names, labels, prompts, together, (*lesson.contents, *(contents[row] for row in rows))
    )


def refuse_empty(counts: NDArray[np.int64], known: int, names: Sequence[str], data: str) -> None:
    """Refuse a new class that no image is left of.

    Args:
        counts: Images of each class, ``(C,)``.
        known: How many of the classes are not new: the first ones.
        names: All C classes.
        data: Name of the data that has the new ones.

    Raises:
        DataError: There is such a class.
    """
    lacking = np.flatnonzero(counts[known:] == 0)
    if len(lacking):
        raise DataError(
            f"{data}: every image of class {names[known + lacking[0]]!r} is learnt already as one of another class"
        )


def _with_labels_more(own: Examples, others: Examples, again: Mapping[int, int], classes: int) -> tuple[Examples, int]:
    """The same images of several labels with those that some have among others too, and how many have got any.

    Args:
        own: Images of some of the classes.
        others: Images of all of them, with the labels that they have there.
        again: Row among the others -> its row here.
        classes: How many there are.
    """
    wider = own.relabelled(np.arange(own.labels.shape[1]), classes)
    labels = wider.labels.copy()
    for row, of_own in again.items():
        labels[of_own] |= others.labels[row]
    return dataclasses.replace(wider, labels=labels), int((labels != wider.labels).any(1).sum())


def named_apart(more: Examples, known: Sequence[str], name: str) -> Examples:
    """The same examples, where one has the identity of a known image with the name of their data before it."""
    used, identities = set(known), []
    for identity in more.identities:
        while identity in used:
            identity = f"{name}/{identity}"
        used.add(identity)
        identities.append(identity)
    return dataclasses.replace(more, identities=tuple(identities))


def renamed(record: RunRecord, old: str, new: str) -> RunRecord:
    """The record with another name for a class: its prompts stay, and so does all that it answers.

    Raises:
        UnknownNameError: There is no class of the old name.
        DataError: The new name is no text, or that of another class.
        InputError: Its classes are known by numbers.
    """
    if record.labels:
        raise InputError(
            f"the classes of this adapter are known by labels such as {record.labels[0]!r}, not by names; expected an "
            "adapter that was fitted with names"
        )
    if old not in record.classes:
        raise UnknownNameError("class", old, record.classes)
    classes = tuple(new if name == old else name for name in record.classes)
    namesake = next((name for name in record.classes if name != old and as_read(name) == as_read(new)), None)
    if namesake is not None:
        raise DataError(
            f"there is a class {namesake!r} already, and two cannot become one by a name; expected another name, or "
            "remove one of them and add its images to the other"
        )
    nothing = Examples(MemoryImages([]), np.empty(0, dtype=np.int64), ())
    Task(record.task, classes, nothing)  # refuses what is no name
    return dataclasses.replace(record, classes=classes)


def _lesson(
    record: RunRecord, recipe: Recipe, examples: Examples, contents: tuple[str, ...], load: LoadBackbone
) -> Lesson:
    task = Task(record.task, record.classes, examples, class_labels=tuple(record.labels))
    draw = Draw(np.arange(len(examples)), record.shots, {}, recipe.data.draw)
    return Lesson(task, {}, recipe, draw, record.prompts, examples, load, contents=contents)


def changed_lesson(
    lesson: Lesson,
    names: Sequence[str],
    labels: Sequence[Label],
    prompts: Prompts,
    examples: Examples,
    contents: tuple[str, ...],
) -> Lesson:
    """The lesson with other classes and shots.

    Args:
        lesson: Settings and backbone stay those of this one.
        names: Of the classes.
        labels: What callers know them by, where that is not their names.
        prompts: Of the classes.
        examples: The shots.
        contents: Hashes of what they show.
    """
    task = Task(lesson.task.name, tuple(names), examples, class_labels=tuple(labels))
    most = examples.shots if len(examples) else 0
    rule = f"sha256:{draw_sha256(examples.identities)}" if len(examples) else lesson.recipe.data.draw
    return dataclasses.replace(
        lesson,
        task=task,
        recipe=lesson.recipe.replace(draw=rule),
        draw=Draw(np.arange(len(examples)), most, {}, rule),
        prompts=prompts,
        examples=examples,
        contents=contents,
    )


def classes_with(
    class_names: Sequence[str], class_labels: Sequence[Label], addition: Addition
) -> tuple[list[str], list[Label]]:
    """The names of all classes, new ones last, and what callers know them by where that is not their names.

    Args:
        class_names: Those that there are.
        class_labels: What callers know them by, where that is not their names.
        addition: May have others.

    Raises:
        DataError: Labels are of two kinds.
    """
    names = list(class_names)
    names += [name for name in addition.class_names if name not in names]
    if not class_labels and not addition.class_labels:
        return names, []
    values = dict(zip(class_names, class_labels or class_names, strict=True))
    for name, label in zip(addition.class_names, addition.class_labels or addition.class_names, strict=True):
        values.setdefault(name, label)
    kinds = {type(value).__name__ for value in values.values()}
    if len(kinds) > 1:
        raise DataError(
            f"the labels are both {' and '.join(sorted(kinds))}; expected labels as the classifier has them"
        )
    return names, [values[name] for name in names]


def _prompts_with(lesson: Lesson, names: Sequence[str], addition: Addition) -> Prompts:
    """The prompts of all classes: those that were learnt with as they are, new ones by the recipe's settings."""
    return (*lesson.prompts, *prompts_more(lesson.prompts, lesson.task.class_names, names, lesson.recipe, addition))


def prompts_more(
    prompts: Prompts, class_names: Sequence[str], names: Sequence[str], recipe: Recipe, addition: Addition
) -> Prompts:
    """The prompts of new classes, by the recipe's settings.

    Args:
        prompts: Of the known classes.
        class_names: Those classes.
        names: All classes, new ones last.
        recipe: Says how classes are put into words.
        addition: What the new ones come from.
    """
    new, config = names[len(class_names) :], recipe.data
    if not new:
        return ()
    template = addition.template
    if template is None and COOP in config.template:  # the one of its own that the known prompts were made by
        name, known = class_names[0].replace("_", " "), prompts[0][0]
        template = known.replace(name, "{}", 1) if name in known else None
    return prompts_for(new, config, data=addition.name, template=template, others=names)
