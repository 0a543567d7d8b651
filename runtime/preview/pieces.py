"""Tokens as text, each with what the loss makes of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..data.samples import IGNORED, Sample

SHORT_HEAD, SHORT_TAIL = 320, 160
"""Tokens that are left of a long sample."""
LONGEST_CHARACTER = 8
"""Tokens that may make one character: four bytes, and some for tokenizers that mark them."""


@dataclass(frozen=True)
class Piece:
    """A token, or several that make one character."""

    text: str
    ids: tuple[int, ...]
    loss: bool
    special: bool = False


@dataclass(frozen=True)
class Gap:
    """Tokens left out of a long sample."""

    count: int
    num_loss: int


def pieces_of(sample: Sample, tokenizer: Any, *, full: bool) -> list[Piece | Gap]:
    """Return a sample's tokens as text; unless `full`, a long one is shortened in its middle."""
    ids = sample.input_ids
    # Nothing predicts the first token, whatever its label says.
    loss = [False, *(label != IGNORED for label in sample.labels[1:])]
    decoder = Decoder(tokenizer)
    if full or len(ids) <= SHORT_HEAD + SHORT_TAIL:
        return list(decoder.pieces(ids, loss))
    tail = len(ids) - SHORT_TAIL
    return [
        *decoder.pieces(ids[:SHORT_HEAD], loss[:SHORT_HEAD]),
        Gap(tail - SHORT_HEAD, sum(loss[SHORT_HEAD:tail])),
        *decoder.pieces(ids[tail:], loss[tail:]),
    ]


class Decoder:
    """Decodes token by token; tokens that are parts of one character stay together."""

    def __init__(self, tokenizer: Any) -> None:
        """Remember which tokens are special."""
        self._backend = tokenizer.backend_tokenizer
        added = self._backend.get_added_tokens_decoder()
        self._special = {number: str(token.content) for number, token in added.items()}

    def pieces(self, ids: Sequence[int], loss: Sequence[bool]) -> Iterator[Piece]:
        """Yield the pieces of a sample."""
        at = 0
        before: tuple[int, ...] = ()
        while at < len(ids):
            special = self._special.get(ids[at])
            if special is not None:
                yield Piece(special, (ids[at],), loss[at], special=True)
                before, at = (), at + 1
                continue
            text, count = self._next(before, ids, at)
            found = tuple(ids[at : at + count])
            yield Piece(text, found, loss[at])
            before, at = found, at + count

    def _next(self, before: tuple[int, ...], ids: Sequence[int], at: int) -> tuple[str, int]:
        """Return the text that the next tokens add, and how many they are.

        They are decoded behind the piece before them: alone, some tokenizers drop the blank a word begins with.
        """
        known = self._text(before)
        for count in range(1, LONGEST_CHARACTER + 1):
            if at + count > len(ids) or (count > 1 and ids[at + count - 1] in self._special):
                break
            text = self._text((*before, *ids[at : at + count]))
            if text.startswith(known) and not text.endswith("\ufffd"):
                return text[len(known) :], count
        return self._text((ids[at],)), 1

    def _text(self, ids: tuple[int, ...]) -> str:
        return str(self._backend.decode(list(ids), skip_special_tokens=False)) if ids else ""
