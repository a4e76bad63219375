"""The draw of k shots per class: pure functions of (items, k, seed)."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError

_MOST_HELD_OUT = 4  # of a class: shots for validation in CoOp's protocol
_NAMED = 3  # classes that are short, in a warning
_ALL = "all of it is used"
_OF_SHORT_CLASSES = {"lowshot": _ALL, "coop": _ALL, "clip-lora": "some of it is drawn several times"}


@dataclasses.dataclass(frozen=True)
class Draw:
    """The images that were drawn.

    Args:
        indices: Positions in the split they were drawn from, ``(n,)``, in the order in which they are learnt from.
        shots: Images per class that were asked for; the largest class's where all were taken.
        short: Label and number of images of each class that has fewer than ``shots``.
        rule: The recipe's setting for the same images again: one of ``config.DRAWS``, or ``sha256:`` and the draw's
            hash where a list fixed it.
    """

    indices: NDArray[np.int64]
    shots: int
    short: dict[int, int]
    rule: str

    def warnings(self, class_names: Sequence[str]) -> list[str]:
        """Return a line on the classes that are short: of many, those with the fewest images by name."""
        instead = _OF_SHORT_CLASSES.get(self.rule, "the draw has no more of it")
        fewest = sorted(self.short.items(), key=lambda each: each[1])
        if len(fewest) <= 1:
            return [
                f"class {class_names[label]!r} has {count} of the {self.shots} shots asked for; {instead}"
                for label, count in fewest
            ]
        named = ", ".join(f"{class_names[label]!r} {count}" for label, count in fewest[:_NAMED])
        more = f" and {len(fewest) - _NAMED:,} more" if len(fewest) > _NAMED else ""
        return [f"{len(fewest):,} classes have fewer than the {self.shots} shots asked for: {named}{more}; {instead}"]


def draw_shots(identities: Sequence[str], labels: NDArray[np.int64], shots: int | None, seed: int) -> Draw:
    """Draw ``shots`` images of each class.

    Images are ranked by a hash of (seed, identity) and the first of each class are taken. So the draw does not
    depend on the platform, on the order of files on disk, or on anything drawn before; the draws of one seed are
    nested (4 shots contain the 1 shot); and removing an undrawn image changes nothing.

    Args:
        identities: A unique name per image, N of them.
        labels: Class index per image, ``(N,)``.
        shots: Images per class, or None for all. A class with fewer gives all it has.
        seed: The number of the draw.

    Raises:
        DataError: Two images share an identity, there is nothing to draw from, or fewer than one shot is asked for.
    """
    _refuse_unnamed(identities, labels)
    _refuse_nothing(labels, shots)
    ranks = [hashlib.sha256(f"{seed}\0{identity}".encode()).digest() for identity in identities]
    indices: list[int] = []
    for members in dict(sorted(_by_label(labels).items())).values():
        indices += sorted(members, key=lambda i: ranks[i])[:shots]
    return as_draw(labels, indices, shots, "lowshot")


def draw_shots_of_several(identities: Sequence[str], labels: NDArray[np.int64], shots: int | None, seed: int) -> Draw:
    """Draw images until each class has ``shots`` of them, where an image may show several classes or none.

    Images are ranked as by ``draw_shots``. In round n the classes have their turn, that with the fewest images first,
    and of equals the one with the lower label. A class of which fewer than n images are drawn gets the next of its own.
    An image counts for all classes that it shows. In its turn after the others, n images that show none are drawn.

    So a class may get more than it asked for, and no fewer. The draws of one seed are nested, and an image that is
    removed where no draw has it changes nothing.

    Args:
        identities: A unique name per image, N of them.
        labels: 1 for each class that an image shows, else 0, ``(N, C)``.
        shots: Images per class, or None for all, also those that show none.
        seed: The number of the draw.

    Raises:
        DataError: As for ``draw_shots``.
    """
    _refuse_unnamed(identities, labels)
    _refuse_nothing(labels, shots)
    ranks = [hashlib.sha256(f"{seed}\0{identity}".encode()).digest() for identity in identities]
    ranked = np.asarray(sorted(range(len(identities)), key=lambda i: ranks[i]), dtype=np.int64)
    if shots is None:
        return as_draw(labels, ranked.tolist(), shots, "lowshot")
    # Images of none are one class more, the last.
    table = np.concatenate([labels, labels.sum(1, keepdims=True) == 0], axis=1)
    sizes = table.sum(0)
    order = [*np.argsort(sizes[:-1], kind="stable").tolist(), labels.shape[1]]
    waiting = [ranked[table[ranked, label] == 1].tolist() for label in range(table.shape[1])]
    counts, drawn = np.zeros_like(sizes), dict[int, None]()
    for wanted in range(1, min(shots, int(sizes.max())) + 1):
        for label in order:
            while counts[label] < min(wanted, sizes[label]):
                index = waiting[label].pop(0)
                if index not in drawn:
                    drawn[index] = None
                    counts += table[index]
    return as_draw(labels, list(drawn), shots, "lowshot")


def draw_like_coop(labels: NDArray[np.int64], shots: int | None, seed: int) -> Draw:
    """Draw the images that CoOp and code built on Dassl draw for a seed, so that their results can be matched.

    Python's ``random`` is seeded, images are grouped by class in the order in which the split's list first names the
    classes, and each group in turn gives ``random.sample(group, shots)``. A class with fewer images gives each of them
    once, in the order of the list, and takes nothing from the generator. So this draw depends on the order of the list
    and on all classes before: CoOp's split files keep theirs, folders are read sorted. Nothing is nested.

    Read in KaiyangZhou/Dassl.pytorch at c61a1b5 (``DatasetBase.generate_fewshot_dataset``, whose ``repeat`` is False
    since e3a15da of 2021-10-09) and KaiyangZhou/CoOp at ff61507 (``datasets/*.py``: for training first, for validation
    after that, and never with ``repeat``). An older Dassl fills short classes as ``draw_like_clip_lora`` does.

    The same code drew the shots that linzhiqiu/cross_modal_adaptation publishes, but for ImageNet: there it holds
    validation images of its own out of the list. CoOp lists ImageNet's files as the file system does, so no other
    machine can repeat its draw; here they are sorted, as torchvision's ``ImageFolder`` has them.

    Args:
        labels: Class index per image in the order of the list, ``(N,)``.
        shots: Images per class, or None for all.
        seed: What ``random.seed`` gets.

    Raises:
        DataError: There is nothing to draw from, or fewer than one shot is asked for.
    """
    _refuse_nothing(labels, shots)
    return as_draw(labels, _sampled(labels, shots, random.Random(seed), repeat=False), shots, "coop")


def draw_like_clip_lora(
    labels: NDArray[np.int64], validation_labels: NDArray[np.int64] | None, shots: int | None, seed: int
) -> Draw:
    """Draw the images that CLIP-LoRA draws for a seed.

    As ``draw_like_coop``, but min(shots, 4) images of each class are drawn from the validation split before, with the
    same generator, and a class with fewer images than shots gives ``random.choices(group, k=shots)``, that is some of
    them several times. Without a validation split, as for ImageNet, each class gives ``random.sample`` of that many
    more, of which the first are for training.

    Read in MaxZanella/CLIP-LoRA at a0d32de (``datasets/*.py``). 2SFS's code is built on it and draws so too, but then
    learns from the lists that it publishes, which ``draw_from`` reads.

    Args:
        labels: Class index per training image in the order of the list, ``(N,)``.
        validation_labels: The same of the validation split; None where there is none.
        shots: Images per class, or None for all.
        seed: What ``random.seed`` gets.

    Raises:
        DataError: There is nothing to draw from, fewer than one shot is asked for, or there is no validation split and
            a class is too small to do without.
    """
    _refuse_nothing(labels, shots)
    generator, held_out = random.Random(seed), min(shots or 0, _MOST_HELD_OUT)
    if validation_labels is not None or shots is None:
        if validation_labels is not None and shots is not None:
            _sampled(validation_labels, held_out, generator, repeat=True)  # for what it takes from the generator
        return as_draw(labels, _sampled(labels, shots, generator, repeat=True), shots, "clip-lora")
    indices: list[int] = []
    for label, members in _by_label(labels).items():
        if len(members) < shots + held_out:
            raise DataError(
                f"class number {label} has {len(members)} images; CLIP-LoRA draws {shots} + {held_out} of each where "
                "there is no validation split; ask for fewer shots, or choose another draw"
            )
        indices += generator.sample(members, shots + held_out)[:shots]
    return as_draw(labels, indices, shots, "clip-lora")


def as_draw(labels: NDArray[np.int64], indices: Sequence[int], shots: int | None, rule: str) -> Draw:
    """Return the draw of these images.

    Args:
        labels: Class index per image of the split, ``(N,)``, or 1 for each class that it shows, ``(N, C)``.
        indices: Positions of the drawn images.
        shots: Images per class that were asked for, or None for all.
        rule: As for ``Draw``.
    """
    if labels.ndim == 2:
        sizes = {label: count for label, count in enumerate(labels.sum(0).tolist()) if count}
    else:
        sizes = {label: len(members) for label, members in sorted(_by_label(labels).items())}
    wanted = max(sizes.values()) if shots is None else shots
    short = {label: size for label, size in sizes.items() if size < wanted} if shots is not None else {}
    return Draw(np.asarray(indices, dtype=np.int64), wanted, short, rule)


def _refuse_unnamed(identities: Sequence[str], labels: NDArray[np.int64]) -> None:
    if len(identities) != len(labels):
        raise DataError(f"{len(identities)} identities have {len(labels)} labels; expected one for each")
    if len(set(identities)) != len(identities):
        raise DataError("two images have the same identity; expected a unique name for every image")


def _refuse_nothing(labels: NDArray[np.int64], shots: int | None) -> None:
    if shots is not None and shots < 1:
        raise DataError(f"shots is {shots}; expected 1 or more, or None for all")
    if not len(labels):
        raise DataError("there are no images to draw shots from")


def _by_label(labels: NDArray[np.int64]) -> dict[int, list[int]]:
    """Return the positions of each class's images; classes in the order in which they first appear."""
    members: dict[int, list[int]] = {}
    for index, label in enumerate(labels.tolist()):
        members.setdefault(label, []).append(index)
    return members


def _sampled(labels: NDArray[np.int64], shots: int | None, generator: random.Random, *, repeat: bool) -> list[int]:
    """Draw as Dassl's ``generate_fewshot_dataset`` does; ``random.Random`` has the stream of the module it uses."""
    if shots is None:
        return list(range(len(labels)))
    indices: list[int] = []
    for members in _by_label(labels).values():
        if len(members) >= shots:
            indices += generator.sample(members, shots)
        else:
            indices += generator.choices(members, k=shots) if repeat else members
    return indices
