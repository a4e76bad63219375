"""FewShotClassifier: the door most users need."""

from .few_shot import FewShotClassifier, saved_adapter, write_record
from .judging import Data

__all__ = ["Data", "FewShotClassifier", "saved_adapter", "write_record"]
