"""Work on folders of images that nobody has looked at: answers written down, files sorted by them."""

from .answers import Answers, CsvLines, most_probable, refuse_file, write_answers
from .journal import Journal, json_line
from .placing import PARTIAL, PUT
from .sorting import folder_names, sort_folder

__all__ = [
    "PARTIAL",
    "PUT",
    "Answers",
    "CsvLines",
    "Journal",
    "folder_names",
    "json_line",
    "most_probable",
    "refuse_file",
    "sort_folder",
    "write_answers",
]
