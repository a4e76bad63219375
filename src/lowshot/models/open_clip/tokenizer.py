"""The tokenizer of an open_clip model: OpenAI's, whose byte pairs lie beside this file, or the one its folder names."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from ..checkpoint_files import CheckpointFiles

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MERGES = Path(__file__).parent / "merges.txt.gz"
"""OpenAI's, MIT; as the package open_clip has them."""
_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "sentencepiece.bpe.model", "spiece.model")


def open_clip_tokenizer(files: CheckpointFiles, text: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    """The tokenizer that open_clip takes for a configuration, from its files.

    Args:
        files: The model's.
        text: open_clip's ``text_cfg``.

    Raises:
        InputError: It is not there, or changes prompts in a way that transformers' tokenizers do not.
    """
    options, name = text.get("tokenizer_kwargs") or {}, text.get("hf_tokenizer_name")
    if not isinstance(options, Mapping):
        raise InputError(f"tokenizer_kwargs is {options!r}; expected options of a tokenizer by their names")
    # OpenAI's tokenizer reads all letters in lower case by itself, and a tokenizer of transformers' as it does.
    usual_cleaning = "whitespace" if name else "lower"
    options = {key: value for key, value in options.items() if (key, value) != ("clean", usual_cleaning)}
    if options or text.get("tokenizer_mode"):
        raise InputError(
            f"its tokenizer is set up by {sorted(options) or ['tokenizer_mode']}, which transformers' tokenizers do "
            "not know; expected none of tokenizer_kwargs and tokenizer_mode"
        )
    tokenizer = _named_tokenizer(files, str(name)) if name else openai_tokenizer(int(text.get("context_length", 77)))
    if text.get("no_causal_mask") and not name:
        tokenizer.pad_token = "!"  # is seen, and open_clip pads with 0
    size, rows = max(tokenizer.get_vocab().values()) + 1, int(text.get("vocab_size", 49408))
    if size > rows:
        raise InputError(f"its tokenizer has {size:,} tokens, but its configuration's vocab_size is {rows:,}")
    return tokenizer


def openai_tokenizer(context_length: int = 77) -> PreTrainedTokenizerBase:
    """OpenAI's tokenizer, as transformers has it: the very ids and names of openai/clip-vit-base-patch32."""
    from tokenizers import pre_tokenizers
    from transformers import CLIPTokenizer

    pairs = gzip.decompress(MERGES.read_bytes()).decode("utf-8").split("\n")
    merges = [tuple(pair.split(" ")) for pair in pairs]
    # Bytes in the order of OpenAI's table: those that can be printed, then the others under stand-ins.
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges)]
    vocabulary = {token: i for i, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    tokenizer: PreTrainedTokenizerBase = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=context_length)
    return tokenizer


def _named_tokenizer(files: CheckpointFiles, name: str) -> PreTrainedTokenizerBase:
    """A tokenizer of transformers: a folder has its own, a repository may name another repository's."""
    from transformers import AutoTokenizer

    if files.folder and not any((files.folder / file).exists() for file in _FILES):
        raise InputError(
            f"its configuration names the tokenizer {name}, of which no file is in the folder; put the files of that "
            f"repository there, such as {_FILES[0]}"
        )
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(files.folder or name))
    return tokenizer
