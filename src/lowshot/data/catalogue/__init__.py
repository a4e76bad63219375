"""The data sets of few-shot papers: what is known of them, where they lie, how they are read.

Installing one is ``preparing.prepare``; it brings the network with it and is imported by who needs it.
"""

from .facts import DataSet, Download, Sizes
from .places import ROOT_VARIABLE, Place, data_root, find, place_of
from .reading import data_set, lacks, read_data_set, wrong_sizes
from .rows import CATALOGUE
from .state import State, state_of

__all__ = [
    "CATALOGUE",
    "ROOT_VARIABLE",
    "DataSet",
    "Download",
    "Place",
    "Sizes",
    "State",
    "data_root",
    "data_set",
    "find",
    "lacks",
    "place_of",
    "read_data_set",
    "state_of",
    "wrong_sizes",
]
