"""A CLIP taught new classes from a few images each: how it begins, and how it is kept and read again."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..belonging import read_belonging, write_belonging
from ..data import task_of_names
from ..errors import AdapterError, InputError
from ..files import canonical_json, folder_written_aside, from_home, is_spelt_as_path, remove, write_text
from ..fitting import LoadBackbone
from ..heads import KEPT_SHOTS_FILE
from ..hub import adapter_folder, here, is_adapter, push_folder
from ..methods import ZERO_SHOT
from ..records import CARD_FILE, RECORD_FILE, RunRecord
from ..saved import backbone_of, check_backbone, opened_here, read_record
from ..settings import SETTINGS, Recipe
from ..torch_state import own_torch_state
from ..tracking import Tracking
from ..training import Learner, create_learner
from ..wording.brief import brief, html_table, learnt_text
from .learning import Learning

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..settings.keywords import AllKeywords, Keywords

_MOVABLE = tuple(name for name, row in SETTINGS.items() if row.movable)


class FewShotClassifier(Learning):
    """A CLIP taught new classes from a few images each.

    ```python
    classifier = FewShotClassifier(method="lora-xs", rank=16)
    classifier.fit("digits", shots=16)
    classifier.score("digits")
    classifier.save_pretrained("adapter")
    ```

    Args:
        model: ``builtin``, a Hub id, or a folder in transformers format.
        method: A name from ``lowshot methods``; ``auto`` chooses one by the shots, unless the preset is for others.
        preset: Where unnamed settings come from: ``builtin`` for the built-in model, else ``paper``.
        verbose: Whether progress and warnings are written to standard error.
        **settings: Any setting of ``lowshot.Recipe`` by name, such as ``rank``, ``shots`` or ``learning_rate``.

    Attributes:
        classes_: The labels as ``fit`` was given them, or the names of the classes, in the order of the probabilities'
            columns; set by ``fit``.
        record_: What was asked and what it took; set by ``fit``.
        warnings_: What was left out, cut short or not measured so far, one line each.

    Raises:
        InputError: A name is unknown or a value out of range.
    """

    def __init__(
        self,
        model: str = "builtin",
        *,
        method: str | None = None,
        preset: str | None = None,
        verbose: bool = False,
        **settings: Unpack[Keywords],
    ) -> None:
        super().__init__({"model": model, "method": method, "preset": preset, "verbose": verbose, **settings})

    @classmethod
    def from_recipe(cls, recipe: Recipe, load: LoadBackbone | None = None) -> FewShotClassifier:
        """An unfitted classifier with exactly these settings.

        Args:
            recipe: All settings.
            load: Gives ``fit`` a backbone of its own for a model and a device, such as ``KeptBackbone.load``, which
                reads a model once for many classifiers; else ``load_backbone``.
        """
        classifier = cls(**recipe.settings())
        classifier._load_backbone = load
        return classifier

    @classmethod
    def zero_shot(cls, classes: Any, model: str = "builtin", **settings: Unpack[Keywords]) -> FewShotClassifier:
        """A classifier by the names of classes alone: no image is needed, and none is learnt from.

        ```python
        FewShotClassifier.zero_shot(["cat", "dog"], "openai/clip-vit-base-patch16").predict(["a.jpg"])
        ```

        Args:
            classes: Two names or more, in the order of the probabilities' columns.
            model: As in the constructor.
            **settings: As in the constructor, such as ``template``; the method is ``zero-shot``.

        Raises:
            DataError: A name is no text, or two are alike.
            InputError: The settings cannot be used.
        """
        classifier = cls(model, method=ZERO_SHOT, **settings)
        if classifier.recipe.training.calibration_folds:
            raise InputError("calibration-folds needs images, but there are names alone; leave it out, or call fit")
        return classifier.fit(task_of_names(classes))

    @classmethod
    def from_pretrained(
        cls, source: str | os.PathLike[str], *, revision: str | None = None, **settings: Unpack[AllKeywords]
    ) -> FewShotClassifier:
        """A saved adapter gives the fitted classifier; anything else is taken for a backbone to start from.

        Args:
            source: A folder written by ``save_pretrained``, a repository that ``push_to_hub`` wrote, or a model as in
                the constructor.
            revision: Commit, tag or branch of a repository with an adapter; the newest if not given.
            **settings: For a backbone, the constructor's; for a saved adapter only ``model`` (where its backbone is
                now), ``device``, ``precision`` (what to compute in), ``root`` (where data sets are now), ``targets``
                (which of them a transfer is judged on) and ``on_bad_image``.

        Raises:
            AdapterError: The folder is incomplete, damaged, or belongs to another backbone.
            InputError: An adapter cannot be fetched, there is none of this revision, or a model is named twice.
        """
        folder = here(source, revision)
        if is_adapter(folder):
            return cls._load(folder, **settings)
        if is_spelt_as_path(str(source)) and not from_home(folder).exists():
            raise InputError(f"{source} is neither an adapter nor a model: there is no such folder")
        if revision is not None:
            raise InputError(
                f"{source} has no adapter of revision {revision}; expected a repository on the Hub with one"
            )
        given: dict[str, Any] = {**settings}
        if "model" in given:
            raise InputError(
                f"model is {given['model']!r}, but {source} is no adapter of a model; leave one of them out"
            )
        return cls(os.fspath(source), **given)

    def __repr__(self) -> str:
        """The call that makes such a classifier, and what it has learnt."""
        return super().__repr__() + (f", which {learnt_text(self.record_)}" if self.is_fitted else "")

    def _repr_html_(self) -> str:
        """The same as a table, for notebooks."""
        return html_table(super().__repr__(), brief(self.record_) if self.is_fitted else {})

    def __sklearn_is_fitted__(self) -> bool:
        return self.is_fitted

    def __sklearn_clone__(self) -> FewShotClassifier:
        copy = super().__sklearn_clone__()
        copy._load_backbone = self._load_backbone
        return copy

    @own_torch_state()
    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the adapter: PEFT's two files, the record and a model card. All of it appears at once, or nothing.

        Raises:
            NotFittedError: ``fit`` has not been called.
            OutputError: The folder exists and is not empty, or cannot be written.
        """
        self._ready()
        with folder_written_aside(Path(folder)) as aside:
            self.write(aside)

    def write(self, folder: Path) -> None:
        """Write the adapter's files into an existing folder, as ``save_pretrained`` does into one that is not there.

        Raises:
            NotFittedError: ``fit`` has not been called.
            OutputError: They cannot be written.
        """
        self._write_learnt(self._ready()[1], folder)
        self.write_record(folder)

    def _write_learnt(self, learner: Learner, folder: Path) -> None:
        learner.save(folder)
        if self._belonging is not None:
            write_belonging(folder, self._belonging)

    def write_record(self, folder: Path) -> None:
        """Write the record and the model card into an adapter's folder, in place of those that are there.

        Raises:
            OutputError: They cannot be written.
        """
        write_record(folder, self.record_)

    def push_to_hub(self, repository: str, *, private: bool = False, draw: bool = False) -> str:
        """Upload the adapter's folder to the Hugging Face Hub; returns the commit's address.

        Args:
            repository: ``owner/name``.
            private: Whether a repository that is made here is private.
            draw: Whether the record tells which images it learnt from: for images of one's own that is their file
                names. Without it ``--draw`` cannot repeat the draw from this adapter.

        Raises:
            InputError: The Hub refuses, or cannot be reached.
        """
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "adapter"
            self.save_pretrained(folder)
            remove(folder / KEPT_SHOTS_FILE)  # nobody needs it to predict, and it tells something of the images
            if not draw:
                record = dataclasses.replace(self.record_, draw=())
                write_text(folder / RECORD_FILE, canonical_json(record.to_dict()))
            return push_folder(folder, repository, private=private)

    def __getstate__(self) -> dict[str, Any]:
        """The pickled state: the parameters, and what was learnt as the files of a saved adapter; never the backbone.

        Layers that adapters are made of have classes that are made as they are needed, and no other process could
        import those. A backbone is read again where it is unpickled, and checked to be the same.
        """
        state = {**vars(self), "_tracking": None, "_load_backbone": None, "_belonging": None}
        if self._fitted is not None:
            with own_torch_state(), tempfile.TemporaryDirectory() as temporary:
                folder = Path(temporary)
                self._write_learnt(self._ready()[1], folder)
                write_text(folder / RECORD_FILE, canonical_json(self.record_.to_dict()))
                state["_fitted"] = {path.name: path.read_bytes() for path in folder.iterdir()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Read what was learnt as strictly as from a folder.

        Raises:
            InputError: There is no such backbone here.
            AdapterError: It is another.
        """
        vars(self).update(state, _tracking=Tracking(), _fitted=None)
        if state["_fitted"] is None:
            return
        with tempfile.TemporaryDirectory() as temporary:
            for name, content in state["_fitted"].items():
                (Path(temporary) / name).write_bytes(content)
            loaded = FewShotClassifier._load(Path(temporary))
        self._fitted, self._belonging = loaded._fitted, loaded._belonging
        self._warn([line for line in loaded.warnings_ if temporary not in line])

    @classmethod
    @own_torch_state()
    def _load(cls, folder: Path, **where: Any) -> FewShotClassifier:
        unknown = sorted(set(where) - set(_MOVABLE))
        if unknown:
            raise InputError(f"{unknown[0]} cannot be changed in a saved adapter; expected only {', '.join(_MOVABLE)}")
        record, given = read_record(folder), {name: value for name, value in where.items() if value is not None}
        recipe, notes = Recipe.from_dict(record.recipe).replace(**given), list[str]()
        if "device" not in given:
            recipe, notes = opened_here(folder, recipe)
        classifier = cls.from_recipe(recipe)
        backbone = backbone_of(folder, recipe.model.loaded, recipe.model.device, moved="model" in given)
        backbone.resize_as(record.resizing)
        classifier._warn([*notes, *check_backbone(folder, record, backbone)])
        if recipe.data.has_several != record.has_several:
            raise AdapterError(
                f"adapter {folder}: labels-per-image is {recipe.data.labels_per_image}, and the record has "
                f"{'a' if record.has_several else 'no'} presence of labels; expected it where images have several"
            )
        if record.stopped:
            classifier._warn([f"{folder} has the weights of step {record.steps}: {record.stopped}"])
        learner = create_learner(backbone, record.prompts, recipe, with_rows=bool(record.on_top))
        learner.load(folder)
        classifier._belonging = read_belonging(
            folder, record.belonging, classes=len(record.classes), width=backbone.embedding_size
        )
        classifier.classes_ = np.asarray(record.labels or record.classes)
        classifier.record_ = record
        classifier._fitted = backbone, learner
        return classifier


def write_record(folder: Path, record: RunRecord) -> None:
    """Write a record and its model card into an adapter's folder, in place of those that are there.

    Raises:
        OutputError: They cannot be written.
    """
    from ..wording.card import model_card

    write_text(folder / RECORD_FILE, canonical_json(record.to_dict()))
    write_text(folder / CARD_FILE, model_card(record))


def saved_adapter(folder: str | os.PathLike[str], **settings: Any) -> FewShotClassifier:
    """A saved adapter and nothing else: ``from_pretrained`` for callers to whom a backbone would be a mistake.

    Raises:
        AdapterError: There is no adapter in this folder or repository, or it cannot be loaded.
        InputError: It cannot be fetched.
    """
    return FewShotClassifier._load(adapter_folder(folder), **settings)
