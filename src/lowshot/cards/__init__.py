"""Cards on a page: a person answers each with one key, every answer is on the disk at once, and teaching goes on."""

from .class_folders import ClassFolders
from .deciding import Card, Decisions, Place
from .looking import CopiedCards, DoubtedCards, Look, SuggestedCards
from .session import Session
from .table import Row, Table, rows_of, rows_of_images

__all__ = [
    "Card",
    "ClassFolders",
    "CopiedCards",
    "Decisions",
    "DoubtedCards",
    "Look",
    "Place",
    "Row",
    "Session",
    "SuggestedCards",
    "Table",
    "rows_of",
    "rows_of_images",
]
