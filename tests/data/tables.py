"""Tables of images as tests write, read and speak of them."""

from lowshot.data import load_task


def rows(*labels, **columns):
    return [
        {"file_name": f"images/{i}.png", "label": label, **{key: value[i] for key, value in columns.items()}}
        for i, label in enumerate(labels)
    ]


def read(path, **options):
    warned = []
    return load_task(path, warn=warned, **options), warned


def place(path, row):
    """The name of a row in messages; a CSV file has its header in line 1."""
    return {".csv": f"line {row + 1}", ".jsonl": f"line {row}", ".parquet": f"row {row}"}[path.suffix]


def csv(pictures, text, encoding="utf-8"):
    (pictures / "pets.csv").write_bytes(text.encode(encoding))
    return pictures / "pets.csv"
