"""Byte-level vocabularies: where each token begins follows from the tokens alone.

The tokenizers library spends a good part of its time on offsets. Where a token is nothing but some bytes of the text,
as with GPT-2's byte-level BPE and its heirs, a sum over the lengths of the tokens gives the same places.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .chat import Span

Integers = npt.NDArray[np.int64]
Tokens = npt.NDArray[np.uint32]
NOTHING_LOST = ("Split", "Digits", "Punctuation", "ByteLevel")
"""Steps before the vocabulary that only cut a text, unless their behavior is to remove what they cut at."""


@dataclass(frozen=True, eq=False)
class ByteLevel:
    """A vocabulary whose tokens are bytes of the text.

    `lengths` is how many each token stands for, int64 `[vocabulary]`; `added` is which of them are looked for in the
    text before anything else is, bool `[vocabulary]`.
    """

    lengths: Integers
    added: npt.NDArray[np.bool_]

    def edges(self, tokens: Tokens, text: str, spans: Sequence[Span]) -> list[int] | None:
        """Return for each edge of the spans the first token that begins there or later; None if the bytes do not add up."""
        ends = self.lengths[tokens].cumsum()
        plain = text.isascii()
        total = len(text) if plain else len(text.encode("utf-8"))
        if (int(ends[-1]) if len(ends) else 0) != total:
            return None
        edges = [edge for span in spans for edge in span]
        places = edges if plain else [len(text[:edge].encode("utf-8")) for edge in edges]
        # A token begins where the one before it ends; the first one begins at 0.
        found = np.searchsorted(ends, places, side="left")
        return [int(i) + 1 if place > 0 else 0 for i, place in zip(found, places, strict=True)]

    def head(self, tokens: Tokens, text: str) -> tuple[Tokens, int]:
        """Return the tokens before the last added one, and the characters of the text that they stand for.

        What stands before an added token is cut without a look at what follows.
        """
        last = np.flatnonzero(self.added[tokens])[-1:]
        first = tokens[: int(last[0]) if len(last) else 0]
        size = int(self.lengths[first].sum())
        return first, len(text.encode("utf-8")[:size].decode("utf-8"))


def byte_level(backend: Any, parts: Mapping[str, Any]) -> ByteLevel | None:
    """Return what is known of a vocabulary; None where a token is more than some bytes of the text.

    `parts` are what the file of the tokenizer says.
    """
    if parts["normalizer"] is not None or not _keeps_bytes(parts["pre_tokenizer"]):
        return None
    if not _is_plain(parts["model"]) or any(map(_is_trimmed, _steps(parts["post_processor"]))):
        return None
    tokens = {token["content"]: token for token in parts["added_tokens"]}
    if any(token[side] for token in tokens.values() for side in ("lstrip", "rstrip")):
        return None
    vocabulary: dict[str, int] = backend.get_vocab(with_added_tokens=True)
    lengths = np.zeros(max(vocabulary.values(), default=-1) + 1, np.int64)
    added = np.zeros(len(lengths), np.bool_)
    for text, number in vocabulary.items():
        # In the vocabulary each byte is written as one character; an added token is written as it is.
        added[number] = text in tokens
        lengths[number] = len(text.encode("utf-8", "replace")) if text in tokens else len(text)
    return ByteLevel(lengths, added)


def _keeps_bytes(pre_tokenizer: Any) -> bool:
    steps = list(_steps(pre_tokenizer))
    return bool(steps) and steps[-1]["type"] == "ByteLevel" and all(map(_loses_nothing, steps))


def _loses_nothing(step: dict[str, Any]) -> bool:
    known = step["type"] in NOTHING_LOST and step.get("behavior") != "Removed"
    return known and not step.get("add_prefix_space", False)


def _is_plain(model: dict[str, Any]) -> bool:
    extras = ("unk_token", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
    # With dropout the same text gives other tokens each time.
    return model["type"] == "BPE" and not any(model.get(name) for name in (*extras, "dropout"))


def _is_trimmed(step: dict[str, Any]) -> bool:
    """Offsets that leave out white space are other places than those of the bytes."""
    return step["type"] == "ByteLevel" and bool(step.get("trim_offsets", True))


def _steps(step: Any) -> Iterator[dict[str, Any]]:
    """Yield the steps of a sequence, or the only one, or none."""
    if step is None:
        return
    if step["type"] != "Sequence":
        yield step
        return
    for inner in step.get("pretokenizers", step.get("processors", ())):
        yield from _steps(inner)
