"""FewShotClassifier: the door most users need."""

from .few_shot import CARD_FILE, FewShotClassifier, saved_adapter, write_record
from .judging import Data

__all__ = ["CARD_FILE", "Data", "FewShotClassifier", "saved_adapter", "write_record"]
