"""Tokens at the towers' inputs, which prompt learners train. The weights of the model stay as they are."""

from .adapter import ContextAdapter
from .tokens import TextContext, VisionContext

__all__ = ["ContextAdapter", "TextContext", "VisionContext"]
