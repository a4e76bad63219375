"""The parts of ``fit``: draw the shots, put the classes into words, train, and write the record."""

from .auto import choice_file
from .fewer import fewer, left_without, without
from .fit import Fitted, fit_lesson
from .foreign import default_model
from .further import renamed, taught, taught_again, with_more
from .lesson import Lesson, LoadBackbone, kept_decoded, lesson_of
from .on_top import set_on_top
from .shortfalls import shortfalls

__all__ = [
    "Fitted",
    "Lesson",
    "LoadBackbone",
    "choice_file",
    "default_model",
    "fewer",
    "fit_lesson",
    "kept_decoded",
    "left_without",
    "lesson_of",
    "renamed",
    "set_on_top",
    "shortfalls",
    "taught",
    "taught_again",
    "with_more",
    "without",
]
