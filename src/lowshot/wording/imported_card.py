"""The README.md of an adapter that was imported: what is known of it, and what is not."""

from __future__ import annotations

import json

from ..records import RunRecord
from .provenance import listing


def imported_card(record: RunRecord) -> str:
    """Markdown with YAML front matter: where the adapter comes from, and that the rest is unknown."""
    origin = record.provenance["imported"]
    facts = {
        "file": origin["file"],
        "sha256": origin["sha256"],
        "written by": origin["format"],
        "imported": record.provenance.get("date"),
        "backbone": record.model.get("id"),
        "weights sha256": record.model.get("weights_sha256"),
        "settings": json.dumps(record.recipe, sort_keys=True, ensure_ascii=False),
        "parameters": f"{record.trainable_parameters:,} of {record.total_parameters:,}",
    }
    front = "---\nlibrary_name: lowshot\npipeline_tag: zero-shot-image-classification\n"
    front += "tags:\n- clip\n- lora\n- few-shot\n- lowshot\n---"
    title = (
        f"# {_TITLES[record.method]} adapter for CLIP, {len(record.classes)} classes, imported from {origin['format']}"
    )
    sections = [front, title, USE, f"## Where it comes from\n\n{listing(facts)}", _UNKNOWN]
    return "\n\n".join(sections) + "\n"


_TITLES = {"lora": "LoRA", "dora": "DoRA"}

USE = """## Use

```python
from lowshot import FewShotClassifier

classifier = FewShotClassifier.from_pretrained("path/to/this/folder")
print(classifier.predict(["image.png"]))
```"""

_UNKNOWN = """## What is not known

The file holds the update and its rank, alpha and place, nothing else. Which images it was trained on, for how many
steps and with which seed it does not say: zeros in `lowshot.json` stand for unknown. Backbone, class names and template
are those given at the import. ViT-B/16 and ViT-B/32 have the same shapes, so that only the accuracy shows whether the
backbone is the right one; measure it on images that were not trained on."""
