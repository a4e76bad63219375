"""What prompt learners train: tokens at the towers' inputs. The weights of the model stay as they are."""

from .adapter import ContextAdapter, add_context
from .tokens import TextContext, VisionContext

METHODS = ("coop", "plot++")

__all__ = ["METHODS", "ContextAdapter", "TextContext", "VisionContext", "add_context"]
