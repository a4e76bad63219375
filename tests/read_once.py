"""A model's files are read once in a session: tests load the same few hundreds of times, and reading is most of it.

``load_backbone`` itself runs as it is. What transformers gives it is a copy of what was read before, where each file of
the folder still has the size and the time that it had then.
"""

import copy
import functools
import io
import pickle
import sys
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import _disable_current_modes

from lowshot.models.transformers_checkpoint import TransformersCheckpoint


@pytest.fixture(scope="session", autouse=True)
def models_are_read_once():
    """From the first model that is loaded on: importing transformers takes seconds, which some tests can do without."""
    with pytest.MonkeyPatch.context() as patch:
        read = TransformersCheckpoint.read

        def begin():
            patch.setattr(TransformersCheckpoint, "read", read)
            read_once(patch)

        def begun(*arguments):
            begin()
            return read(*arguments)

        patch.setattr(TransformersCheckpoint, "read", begun)
        if "transformers" in sys.modules:  # some tests load models by it alone
            begin()
        yield lambda: TransformersCheckpoint.read is read or begin()


def read_once(patch):
    """Models are copied, since tests change them; nobody changes a tokenizer or an image processor."""
    import transformers

    for loader, keeper in (
        (transformers.PreTrainedModel, copies),
        (transformers.AutoTokenizer, itself),
        (transformers.AutoImageProcessor, itself),
    ):
        patch.setattr(loader, "from_pretrained", reading_once(loader.__dict__["from_pretrained"], keeper))


def reading_once(plain, keeper):
    """Stands in for a ``from_pretrained``."""
    known = {}

    @functools.wraps(plain.__func__)
    def from_pretrained(cls, source, *arguments, **options):
        read = functools.partial(plain.__func__, cls, source, *arguments, **options)
        if arguments or not Path(source).is_dir():
            return read()
        key = cls, *state_of(Path(source)), repr(sorted(options.items()))
        if key not in known:
            known[key] = keeper(read())
        return known[key]()

    return classmethod(from_pretrained)


def state_of(folder):
    """What changes if a file does."""
    facts = ((path.name, path.stat()) for path in sorted(folder.iterdir()))
    return str(folder), *((name, fact.st_size, fact.st_mtime_ns, fact.st_ino) for name, fact in facts)


def itself(value):
    return lambda: value


def copies(value):
    """Copies of a model and of what was reported of it, in a third of the time of ``copy.deepcopy``."""
    file = io.BytesIO()
    pickler = Pickler(file, protocol=pickle.HIGHEST_PROTOCOL)
    pickler.dump(value)
    content = file.getvalue()

    def another():
        with _disable_current_modes():  # one that looks at each operation for what it draws: copying draws nothing
            return Unpickler(io.BytesIO(content), pickler.tensors).load()

    return another


class Pickler(pickle.Pickler):
    """Tensors stay beside the file."""

    def __init__(self, file, **options):
        super().__init__(file, **options)
        self.tensors = {}

    def persistent_id(self, value):
        if not isinstance(value, torch.Tensor):
            return None
        self.tensors[id(value)] = value
        return id(value)


class Unpickler(pickle.Unpickler):
    """What was one tensor in two places is one again."""

    def __init__(self, file, tensors):
        super().__init__(file)
        self.persistent_load = functools.cache(lambda number: copied(tensors[number]))


def copied(tensor):
    """As ``copy.deepcopy`` does, in half of the time for what is no quantised weight."""
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        return copy.deepcopy(tensor)
    values = tensor.detach().clone()
    return torch.nn.Parameter(values, tensor.requires_grad) if type(tensor) is torch.nn.Parameter else values


@pytest.fixture
def models_are_read_anew(models_are_read_once, monkeypatch):
    """For tests of the reading itself."""
    import transformers

    models_are_read_once()
    for loader in (transformers.PreTrainedModel, transformers.AutoTokenizer, transformers.AutoImageProcessor):
        plain = loader.__dict__["from_pretrained"].__func__
        monkeypatch.setattr(loader, "from_pretrained", classmethod(getattr(plain, "__wrapped__", plain)))
