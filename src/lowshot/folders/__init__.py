"""What is done with folders of images that nobody has looked at: answers written down, files sorted by them."""

from .answers import Answers, CsvLines, json_line, most_probable, refuse_file, write_answers
from .journal import Journal
from .sorting import PARTIAL, PUT, folder_names, sort_folder

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
