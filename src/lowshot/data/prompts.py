"""Classes put into words: templates, names to say instead of labels, whole sentences."""

from __future__ import annotations

import collections
import contextlib
import difflib
import html
import json
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from ..errors import DataError, LongPromptError
from ..settings import COOP, TEMPLATE_SETS, DataConfig
from .listing import read_text
from .task import as_read, is_text

Prompts: TypeAlias = tuple[tuple[str, ...], ...]
"""The prompts of each class in label order, one or more each."""

_MOST_NAMED = 10
_NO_WORDS: Mapping[str, Sequence[str]] = {}
_LIGATURES = "".join(map(chr, (*range(0xFB00, 0xFB07), 0x132, 0x133, *range(0x1C4, 0x1CD), *range(0x1F1, 0x1F4))))
_WIDE = "\u3000" + "".join(map(chr, range(0xFF01, 0xFFF0)))  # of half and full width, as among Chinese and Japanese
_CONTROL = (*range(0x09), 0x0B, *range(0x0E, 0x20), 0x7F, *range(0x206A, 0x2070), 0xFEFF, *range(0xFFF9, 0xFFFD))
_PLAIN = str.maketrans(
    {
        **dict.fromkeys("\u02bc\u2018\u2019\u201a\u201b", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f", '"'),
        **{each: unicodedata.normalize("NFKC", each) for each in _LIGATURES + _WIDE},
        "\u0149": "'n",
        **dict.fromkeys(map(chr, _CONTROL)),
    }
)


def class_prompts(
    class_names: Sequence[str],
    templates: Sequence[str],
    names: Mapping[str, Sequence[str]] = _NO_WORDS,
    descriptions: Mapping[str, Sequence[str]] = _NO_WORDS,
) -> Prompts:
    """Return the prompts of each class: its names in every template, then its descriptions, none of them twice.

    Args:
        class_names: C classes in label order.
        templates: One or more, each with one ``{}``.
        names: Class -> what it is called; one that is not in here is called by its name, ``_`` read as a space.
        descriptions: Class -> whole sentences about it (CuPL, arXiv 2209.03320).
    """
    prompts = []
    for name in class_names:
        texts = names.get(name, [name.replace("_", " ")])
        filled = [template.replace("{}", text) for text in texts for template in templates]
        prompts.append(tuple(dict.fromkeys([*filled, *descriptions.get(name, ())])))
    return tuple(prompts)


def cleaned(text: str) -> str:
    """Return a text as CLIP's tokenizer cleans it, so that it meets the characters that it was trained with.

    OpenAI's code applies ftfy and undoes HTML entities twice (openai/CLIP, clip/simple_tokenizer.py), transformers'
    tokenizer does neither. Entities are undone here too; quotes become straight; ligatures and characters of full width
    become plain letters; control characters go, and white space is one space. Text that was decoded wrongly, which ftfy
    repairs, is left as it is.
    """
    plain = html.unescape(html.unescape(text)).translate(_PLAIN)
    return " ".join(unicodedata.normalize("NFC", plain).split())


def prompts_for(
    class_names: Sequence[str],
    config: DataConfig,
    *,
    data: str,
    template: str | None = None,
    others: Collection[str] = (),
) -> Prompts:
    """Return the prompts of each class as the settings have them, cleaned; the files they name are read.

    Args:
        class_names: C classes in label order.
        config: Of its settings ``template``, ``class_names`` and ``descriptions``.
        data: What these are the classes of, for messages.
        template: What ``coop`` stands for; None where the data have no template of their own.
        others: Classes besides these that the files may speak of: those of other tasks under the same settings.

    Raises:
        DataError: A file cannot be used or speaks of other classes, ``coop`` stands for nothing, or two classes come
            to the same prompts.
    """
    files = {"class-names": config.class_names, "descriptions": config.descriptions}
    words = [read_words(setting, path) for setting, path in files.items()]
    known = [*class_names, *others]
    for (setting, path), texts in zip(files.items(), words, strict=True):
        unknown = sorted(set(texts) - set(known))
        if unknown:
            near = difflib.get_close_matches(unknown[0], known, n=1, cutoff=0.5)
            shown = ", ".join(map(repr, known[:_MOST_NAMED])) + (", ..." if len(known) > _MOST_NAMED else "")
            more = f" (nor {len(unknown) - 1} more)" if len(unknown) > 1 else ""
            hint = f"did you mean {near[0]!r}?" if near else f"expected its classes: {shown}"
            raise DataError(f"{setting} {path}: {unknown[0]!r} is no class of {data}{more}; {hint}")
    if COOP in config.template and template is None:
        raise DataError(
            f"template {COOP} stands for nothing here: {data} is none of the data sets that CoOp has a template for; "
            f"expected one that says what its images are, such as {DataConfig.template[0]!r}"
        )
    sets = {**TEMPLATE_SETS, COOP: (template or "",)}
    templates = [each for name in config.template for each in sets.get(name, (name,))]
    prompts = tuple(
        tuple(dict.fromkeys(map(cleaned, texts))) for texts in class_prompts(class_names, templates, *words)
    )
    seen: dict[frozenset[str], str] = {}
    for name, sentences in zip(class_names, prompts, strict=True):
        key = frozenset(map(as_read, sentences))
        if key in seen:
            raise DataError(
                f"classes {seen[key]!r} and {name!r} have the same prompts, such as {sentences[0]!r}, so that nothing "
                "can tell them apart; expected something of its own to be said of each"
            )
        seen[key] = name
    return prompts


def read_words(setting: str, path: str | None) -> dict[str, tuple[str, ...]]:
    """Read the texts that a JSON file has for classes: ``{"class": "text"}`` or ``{"class": ["text", ...]}``.

    Args:
        setting: ``class-names`` or ``descriptions``, for messages.
        path: The file, UTF-8 with or without a byte order mark; None gives nothing.

    Raises:
        DataError: It is not there, is no such JSON, names a class twice, or has a text in which there is nothing.
    """
    if path is None:
        return {}
    file = f"{setting} {path}"
    values = _json_in(file, Path(path))
    if not isinstance(values, dict):
        raise DataError(f'{file} holds a {type(values).__name__}; expected an object: {{"class": ["what to say"]}}')
    if not values:
        raise DataError(f"{file} names no class; leave it out, or name one")
    words = {}
    for name, value in values.items():
        where = f"{file}: class {name!r}"
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise DataError(f"{where} is {str(value)[:80]!r}; expected a text, or a list of one or more texts")
        empty = [text for text in texts if not text.strip() or not is_text(text)]
        if empty:
            raise DataError(f"{where} has the text {empty[0]!r}; expected one with words in it")
        words[name] = tuple(text.strip() for text in texts)
    return words


@contextlib.contextmanager
def long_prompts_named(class_names: Sequence[str], prompts: Sequence[Sequence[str]]) -> Iterator[None]:
    """Say which class it is whose prompt turns out too long for the text tower in this block.

    Raises:
        DataError: One is too long.
    """
    try:
        yield
    except LongPromptError as error:
        names = [name for name, texts in zip(class_names, prompts, strict=True) if error.prompt in texts]
        raise DataError(f"class {names[0]!r}: {error}" if names else str(error)) from None


def _json_in(file: str, path: Path) -> Any:
    """Return the content of a JSON file in which no object has a key twice; ``file`` is its name in messages."""

    def once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice = [name for name, times in collections.Counter(name for name, _ in pairs).items() if times > 1]
        if twice:
            raise DataError(f"{file} names class {twice[0]!r} twice; expected each class once")
        return dict(pairs)

    text = read_text(path, file)
    try:
        return json.loads(text, object_pairs_hook=once_each)
    except DataError:
        raise
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is not JSON: {error}") from None
