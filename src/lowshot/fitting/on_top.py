"""Classes on top of adapted towers: the towers stay as they are, and each new class has a row of its own.

How rows are made stands in ``class_rows``. Here is where the images come from, which of them can be trusted, and what
becomes of the record.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray

from ..data import Addition, Examples, Label, MemoryImages, Prompts, Task, draw_shots, examine, joined
from ..errors import DataError, InputError
from ..evaluation import embeddings_of
from ..heads import KeptShots
from ..methods import method_spec
from ..on_top import OnTop
from ..progress import Track
from ..records import RunRecord
from ..training import Learner
from ..training.prompts import refuse_alike
from .class_rows import Evidence
from .fit import Fitted
from .further import classes_with, labelled_as, named_apart, prompts_more, refuse_empty, why_anew

if TYPE_CHECKING:
    from ..training.weights import WeightsLearner

MOST_KNOWN = 16
"""Images of each class of the towers that are looked at: of more, so many are drawn."""
_Vectors = NDArray[np.float64]


def set_on_top(
    record: RunRecord,
    learner: Learner,
    addition: Addition,
    known: Task | None,
    shots: int | None,
    warn: Callable[[Sequence[str]], None],
    track: Track,
) -> tuple[Fitted, Examples]:
    """Set classes on top of the towers that an adapter has trained.

    Args:
        record: The adapter's.
        learner: It, with its own recipe.
        addition: Images of new classes, or of others on top. Those of the towers' classes count as known images.
        known: Other images of the towers' classes, of which those that the towers were trained on are passed over.
        shots: Images per class, drawn by the recipe's seed; None for all.
        warn: Is told what is left out.
        track: Shows progress.

    Returns:
        The adapter with these classes, and the images that they were made of.

    Raises:
        InputError: Nothing can be set on top of what this method trains.
        DataError: Nothing is new, an image cannot be read, or two classes cannot be told apart.
    """
    recipe, base = learner.recipe, _Base.of(record, learner)
    names, labels = classes_with(record.classes, record.labels, addition)
    if why := method_spec(recipe.method.method).why_no_rows:
        raise InputError(f"{why_anew(record, recipe)}. No class can be set on top of it: {why}")
    if not set(names[base.towers :]) & set(addition.class_names):
        raise InputError(f"{addition.name} has images of no class more: {why_anew(record, recipe)}")
    prompts = (*record.prompts, *prompts_more(record.prompts, record.classes, names, recipe, addition))
    refuse_alike(learner.backbone, names, prompts)
    images = _Images(names, base.towers, set(record.learnt), recipe.training.seed, warn, track)
    shown = images.new(addition, shots, record)
    others = images.known(addition, known, set(record.taught_to_towers), is_sure=bool(base.taught))
    if len(others.examples) and not base.taught:
        warn(
            [
                "this adapter does not know which images it was taught with: what images of its classes tell holds "
                "only if it was not taught with them"
            ]
        )
    grown = base.with_images(shown, others, learner, track)
    fitted = _fitted(record, learner, grown, names, labels, prompts)
    return fitted, shown.examples


@dataclasses.dataclass(frozen=True)
class _Some:
    """Images, with the hash of what each shows. Their labels are those of the changed adapter."""

    examples: Examples
    contents: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Images:
    """Draws the images of an addition.

    Args:
        names: All classes of the changed adapter.
        towers: How many of them the towers were trained for: the first ones.
        learnt: Hashes of images that were learnt from.
        seed: The draw's.
        warn: Is told what is left out.
        track: Shows progress.
    """

    names: Sequence[str]
    towers: int
    learnt: Collection[str]
    seed: int
    warn: Callable[[Sequence[str]], None]
    track: Track

    def new(self, addition: Addition, shots: int | None, record: RunRecord) -> _Some:
        """The images of classes on top that the adapter of this record has not learnt already.

        Raises:
            DataError: There are none, or none of a new class.
        """
        some = self._of(addition.examples, addition.class_names, lambda label: label >= self.towers)
        drawn = draw_shots(some.identities, some.labels, shots, self.seed)
        self.warn(drawn.warnings(self.names))
        unlearnt = self._unlearnt(some.subset(drawn.indices), warned=True)
        if not len(unlearnt.examples):
            raise DataError(f"{addition.name}: every image is learnt already; expected images of a class more")
        refuse_empty(unlearnt.examples.counts(len(self.names)), len(record.classes), self.names, addition.name)
        return dataclasses.replace(unlearnt, examples=named_apart(unlearnt.examples, record.draw, addition.name))

    def known(self, addition: Addition, known: Task | None, draw: Collection[str], *, is_sure: bool) -> _Some:
        """Images of the towers' classes that these were not trained on, so many of a class at most.

        Args:
            addition: Some of its images may be of these classes.
            known: More of them.
            draw: Identities of images that the towers were trained on. Others may have them in other data.
            is_sure: Whether the hashes of what those show are all known, so that they decide.

        Raises:
            DataError: Known images are given, and the towers were trained on all of them.
        """
        pools = [(addition.name, addition.examples, addition.class_names)]
        if known is not None:
            splits = known.train, known.validation
            pools += [(known.name, each, known.class_names) for each in splits if each is not None]
        together = _Some(Examples(MemoryImages([]), np.empty(0, dtype=np.int64), ()), ())
        for name, examples, class_names in pools:
            some = self._of(examples, class_names, lambda label: label < self.towers)
            alike = [row for row, identity in enumerate(some.identities) if identity in draw]
            others = self._unlearnt(some.subset(alike), warned=False).examples.identities if is_sure else ()
            left_out = {some.identities[row] for row in alike} - set(others)
            some = some.subset([row for row, identity in enumerate(some.identities) if identity not in left_out])
            if not len(some):
                continue
            drawn = draw_shots(some.identities, some.labels, MOST_KNOWN, self.seed)
            more = self._unlearnt(some.subset(drawn.indices), warned=False)
            fresh = [row for row, content in enumerate(more.contents) if content not in together.contents]
            apart = named_apart(more.examples.subset(fresh), together.examples.identities, name)
            together = _Some(
                joined(together.examples, apart, apart.labels.tolist()),
                (*together.contents, *(more.contents[row] for row in fresh)),
            )
        if known is not None and not len(together.examples):
            raise DataError(
                f"{known.name}: of the adapter's classes there are no images in its training and validation splits "
                "that were not learnt from; give others, or leave old out: then nothing is told of these classes"
            )
        return together

    def _of(self, examples: Examples, class_names: Sequence[str], is_wanted: Callable[[int], bool]) -> Examples:
        """Those of some classes, labelled as in the changed adapter."""
        some = labelled_as(examples, class_names, self.names)
        return some.subset([row for row, label in enumerate(some.labels.tolist()) if is_wanted(label)])

    def _unlearnt(self, examples: Examples, *, warned: bool) -> _Some:
        contents, damaged = examine(examples, self.track)
        self.warn(damaged)
        rows = [row for row, content in enumerate(contents) if content not in self.learnt]
        if warned and len(rows) < len(contents):
            self.warn([f"{len(contents) - len(rows)} of {len(contents)} images are learnt already and left out"])
        return _Some(examples.subset(rows), tuple(contents[row] for row in rows))


@dataclasses.dataclass(frozen=True)
class _Base:
    """The images and classes of an adapter, before others are set on top of it and after.

    Args:
        towers: How many classes the towers were trained for.
        embeddings: Unit embeddings of what was kept, ``(N, D)``: images of classes on top, then known images.
        labels: Their classes, ``(N,)``.
        images: How many of them are of classes on top.
        draw: Identities of the images of classes on top.
        contents: Hashes of what all N images show.
        taught: Hashes of the images that the towers were trained on; empty where the record does not have them.
        temperature: What scores were divided by when the first class was set on top.
    """

    towers: int
    embeddings: _Vectors
    labels: NDArray[np.int64]
    images: int
    draw: tuple[str, ...]
    contents: tuple[str, ...]
    taught: tuple[str, ...]
    temperature: float

    @classmethod
    def of(cls, record: RunRecord, learner: Learner) -> _Base:
        """Read it off an adapter.

        Raises:
            InputError: It has classes on top, and their images were not kept.
        """
        kept, on_top = learner.kept, record.on_top
        if not on_top:
            width = learner.backbone.embedding_size
            no_labels = np.empty(0, dtype=np.int64)
            return cls(
                record.tower_classes, np.empty((0, width)), no_labels, 0, (), (), record.learnt, record.temperature
            )
        if kept is None or len(kept) != on_top["images"] + on_top["known_images"] or len(kept) > len(record.learnt):
            raise InputError(
                "this adapter was saved without the images of its classes on top (shots.safetensors), as push_to_hub "
                "does: no other can be set beside them; give the images that it was taught with: --refit DATA "
                "(refit=DATA from Python) teaches all of it anew"
            )
        return cls(
            record.tower_classes,
            kept.features[0].double().numpy(),
            kept.labels.numpy(),
            on_top["images"],
            record.draw[len(record.taught_to_towers) :],
            record.learnt[-len(kept) :],
            record.learnt[: -len(kept)],
            on_top["temperature"],
        )

    def with_images(self, shown: _Some, known: _Some, learner: Learner, track: Track) -> _Base:
        """The same with images more."""
        own, count = self.images, len(shown.examples)
        more = joined(shown.examples, known.examples, known.examples.labels.tolist())
        encoded = embeddings_of(learner, more.images, track=track)
        new, others = encoded[:count], encoded[count:]
        labels = [self.labels[:own], shown.examples.labels, self.labels[own:], known.examples.labels]
        return dataclasses.replace(
            self,
            embeddings=np.concatenate([self.embeddings[:own], new, self.embeddings[own:], others], dtype=np.float64),
            labels=np.concatenate(labels),
            images=own + count,
            draw=(*self.draw, *shown.examples.identities),
            contents=(*self.contents[:own], *shown.contents, *self.contents[own:], *known.contents),
        )

    @property
    def kept(self) -> KeptShots:
        """The embeddings to keep, so that other classes can be set on top."""
        features = torch.from_numpy(self.embeddings.astype(np.float32))[None]
        return KeptShots(features, torch.from_numpy(self.labels), features[:0])


def _fitted(
    record: RunRecord,
    learner: Learner,
    base: _Base,
    names: Sequence[str],
    labels: Sequence[Label],
    prompts: Prompts,
) -> Fitted:
    """The adapter with the rows of its classes on top, and what held-out images tell of it."""
    weights = cast("WeightsLearner", learner)
    with torch.no_grad():
        fixed = weights.encode_classes()[: base.towers].float()
        has_text = learner.backbone.has_text
        own = weights.with_prompts(prompts[base.towers :]).encode_classes().cpu().double().numpy() if has_text else None
    scale = learner.backbone.logit_scale / base.temperature
    evidence = Evidence(fixed.cpu().double().numpy(), own, base.embeddings, base.labels, scale)
    placed = evidence.placed(np.ones(len(base.labels), dtype=np.bool_))
    held_out = evidence.held_out()
    is_wanted = bool(record.calibration or record.recipe["training"]["calibration_folds"])
    grown = weights.with_rows(prompts, torch.cat([fixed, torch.from_numpy(placed.rows).to(fixed)]), base.kept)
    on_top = OnTop(
        classes=len(names) - base.towers,
        images=base.images,
        known_images=len(base.labels) - base.images,
        blend=placed.blend,
        temperature=base.temperature,
        new=held_out.new,
        known=held_out.known,
    )
    changed = dataclasses.replace(
        record,
        classes=tuple(names),
        labels=tuple(labels),
        prompts=prompts,
        draw=(*record.taught_to_towers, *base.draw),
        learnt=(*base.taught, *base.contents),
        adapter_bytes=grown.adapter_bytes,
        calibration=held_out.calibration(base.temperature) if is_wanted else {},
        belonging={},
        metrics={},
        on_top=on_top.to_dict(),
    )
    return Fitted(grown, changed, tuple(_notes(record, changed)))


def _notes(before: RunRecord, now: RunRecord) -> list[str]:
    """Lines for a person on what is dropped, and on what is not known."""
    notes, more = [], "give images of every one of them that were not learnt from (--old DATA, or old=DATA from Python)"
    if before.calibration and not now.calibration:
        notes.append(
            "what held-out shots told was of other classes: their temperature stays, and sets of classes are not to be "
            "had any more"
        )
    if before.belonging:
        notes.append(
            "images of none of the classes are not told any more: what tells them was learnt of other classes; "
            "--refit DATA learns it anew"
        )
    if now.on_top["known"] is None and now.on_top["known_images"]:
        notes.append(
            "how well the classes from before are still recognised is not known: no class has two images of those "
            "given, so that none can be held out; to know it, give 2 or more of every class (--old DATA, or old=DATA "
            "from Python)"
        )
    elif now.on_top["known"] is None:
        notes.append(
            "how well the classes from before are still recognised is not known: the towers were trained on their "
            f"shots, which tell nothing of new images; to know it, {more}"
        )
    elif before.calibration and not now.calibration:
        notes.append(f"to calibrate anew {more}")
    return notes
