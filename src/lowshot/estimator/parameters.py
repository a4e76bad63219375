"""The parameters of an estimator, its tags and clones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import InputError
from ..progress import Track, shown, silent
from ..settings import Recipe, default_method, preset_for, preset_recipe

if TYPE_CHECKING:
    from sklearn.utils import Tags

_Estimator = TypeVar("_Estimator", bound="Estimator")


class Estimator:
    """The parameters of a classifier as they were given, and the recipe that they come to.

    Args:
        given: The constructor's parameters by name: ``model``, ``method``, ``preset``, ``verbose`` and settings.

    Raises:
        InputError: A name is unknown or a value out of range.
    """

    _estimator_type = "classifier"  # scikit-learn before 1.6 asks for no tags

    def __init__(self, given: dict[str, Any]) -> None:
        self._configure(given)

    def _configure(self, given: dict[str, Any]) -> None:
        """Preset first, then what was given by name: so a change of method brings that method's own settings."""
        settings = dict(given)
        verbose = settings.pop("verbose")
        if not isinstance(verbose, int):
            raise InputError(f"verbose is {verbose!r}; expected True or False")
        preset = preset_for(settings["model"], settings.pop("preset"))
        settings["method"] = settings["method"] or default_method(preset)
        self._recipe = preset_recipe(preset, settings["method"]).replace(**settings)
        self._preset = preset
        self._given = given

    @property
    def recipe(self) -> Recipe:
        """All settings: the preset's, and on top of them those that were given."""
        return self._recipe

    @property
    def preset(self) -> str:
        """The preset that settings come from that were not given."""
        return self._preset

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002 - scikit-learn passes it
        """Every parameter by name: those that were given as they were given, the others as the preset has them."""
        return {**self.recipe.settings(), **self._given}

    def set_params(self: _Estimator, **settings: Any) -> _Estimator:
        """Change parameters by name, all or none of them; they take effect at the next ``fit``.

        Raises:
            InputError: A name is unknown or a value out of range.
        """
        self._configure({**self._given, **settings})
        return self

    def _tracked(self, track: Track | None) -> Track:
        """The track that was asked for, else the one that ``verbose`` stands for."""
        return track or (shown if self._given["verbose"] else silent)

    def __repr__(self) -> str:
        """The call that makes such a classifier, without what goes without saying."""
        settings = self.recipe.settings()
        usual = preset_recipe(self.preset, settings["method"]).replace(model=settings["model"]).settings()
        named = {"preset": self._given["preset"], "verbose": self._given["verbose"]}
        changed = {name: value for name, value in settings.items() if value != usual[name]}
        arguments = {"method": settings["method"], **{n: v for n, v in named.items() if v}, **changed}
        model = [] if settings["model"] == "builtin" else [repr(settings["model"])]
        call = ", ".join([*model, *(f"{name}={value!r}" for name, value in arguments.items())])
        return f"{type(self).__name__}({call})"

    def __sklearn_clone__(self: _Estimator) -> _Estimator:
        """An unfitted copy that knows which parameters were given, so that the others still follow its method."""
        return type(self)(**self._given)

    def __sklearn_tags__(self) -> Tags:
        """A classifier of images, which are no rows of numbers."""
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(),
            transformer_tags=TransformerTags(preserves_dtype=[]),
            input_tags=InputTags(one_d_array=True, two_d_array=False, three_d_array=True, string=True),
        )
