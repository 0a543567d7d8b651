"""Texts become tokens, and spans of text become the tokens that carry loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from .byte_level import ByteLevel
from .chat import Rendered, Span

Tokens = npt.NDArray[np.uint32]
Flags = npt.NDArray[np.bool_]
Weights = npt.NDArray[np.float32]
FEW_SPANS = 8
"""So many spans of a text are looked up one by one."""
MANY_TEXTS = 64
"""For fewer it does not pay to learn the length of every token of the vocabulary."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """Tokens, uint32 `[length]`, and which of them carry loss, bool `[length]`.

    `weights` is how much the loss of each counts, fp32 `[length]`; None where every one counts once.
    """

    tokens: Tokens
    loss: Flags
    weights: Weights | None = None

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.tokens)

    def __getitem__(self, part: slice) -> Encoded:
        """Return a part."""
        weights = None if self.weights is None else self.weights[part]
        return Encoded(self.tokens[part], self.loss[part], weights)

    @cached_property
    def num_learned(self) -> int:
        """Tokens that carry loss; nothing predicts the first."""
        return int(np.count_nonzero(self.loss[1:]))


def end_to_end(parts: Sequence[Encoded]) -> Encoded:
    """Return the parts as one."""
    weights = None
    if any(part.weights is not None for part in parts):
        weights = np.concatenate(
            [
                part.loss.astype(np.float32) if part.weights is None else part.weights
                for part in parts
            ]
        )
    tokens, loss = (
        np.concatenate([getattr(p, name) for p in parts]) for name in ("tokens", "loss")
    )
    return Encoded(tokens, loss, weights)


def encode(tokenizer: Any, texts: Sequence[tuple[str, Sequence[Span]]]) -> list[Encoded]:
    """Return for each text its tokens, and which of them carry loss: those that begin inside a span.

    Nothing is added, cut or padded.
    """
    return encode_weighed(tokenizer, [Rendered(text, list(spans), []) for text, spans in texts])


def encode_weighed(tokenizer: Any, rendered: Sequence[Rendered]) -> list[Encoded]:
    """Return what `encode` does; where the spans of a text do not all count once, also the weights of its tokens."""
    texts = [item.text for item in rendered]
    level = getattr(tokenizer, "byte_level", None) if len(texts) >= MANY_TEXTS else None
    if level is None:
        return [
            _weighed(_tokens(encoding), edges_of(encoding, item.spans), item.weights)
            for encoding, item in zip(_encodings(tokenizer, texts), rendered, strict=True)
        ]
    found = []
    for tokens, item in zip(_all_tokens(tokenizer, texts, level), rendered, strict=True):
        edges = level.edges(tokens, item.text, item.spans)
        if edges is None:
            encoding = _encodings(tokenizer, [item.text])[0]
            tokens, edges = _tokens(encoding), edges_of(encoding, item.spans)
        found.append(_weighed(tokens, edges, item.weights))
    return found


def _all_tokens(tokenizer: Any, texts: Sequence[str], level: ByteLevel) -> Iterator[Tokens]:
    """What all texts begin with, such as one system prompt, is cut into tokens once."""
    first, last = min(texts), max(texts)
    size = next((i for i, (a, b) in enumerate(zip(first, last)) if a != b), len(first))  # noqa: B905
    common = first[:size]
    whole = _tokens(_encodings(tokenizer, [common], offsets=False)[0])
    head, size = level.head(whole, common)
    rests = [text[size:] for text in texts] if size else texts
    for encoding in _encodings(tokenizer, rests, offsets=False):
        tokens = _tokens(encoding)
        yield np.concatenate([head, tokens]) if size else tokens


def _weighed(tokens: Tokens, edges: Sequence[int], weights: Sequence[float]) -> Encoded:
    loss = np.zeros(len(tokens), np.bool_)
    each = None if all(w == 1 for w in weights) else np.zeros(len(tokens), np.float32)
    for number, (first, end) in enumerate(zip(edges[::2], edges[1::2], strict=True)):
        loss[first:end] = True
        if each is not None:
            each[first:end] = weights[number]
    return Encoded(tokens, loss, each)


def _tokens(encoding: Any) -> Tokens:
    return np.asarray(encoding.ids, dtype=np.uint32)


def encode_documents(tokenizer: Any, texts: Sequence[str]) -> list[Encoded]:
    """Return the tokens of plain texts, all of which carry loss.

    A text begins as the tokenizer begins one, with a beginning-of-sequence token or none, and always ends with the
    end-of-sequence token: it is what keeps texts apart that are packed end to end.
    """
    found = []
    eos = tokenizer.eos_token_id
    for encoding in _encodings(tokenizer, texts, add_special_tokens=True, offsets=False):
        ids = encoding.ids if eos is None or encoding.ids[-1:] == [eos] else [*encoding.ids, eos]
        tokens = np.asarray(ids, dtype=np.uint32)
        found.append(Encoded(tokens, np.ones(len(tokens), np.bool_)))
    return found


def _encodings(
    tokenizer: Any, texts: Sequence[str], *, add_special_tokens: bool = False, offsets: bool = True
) -> list[Any]:
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    # Set each time: a tokenizer forgets it on its way to another process.
    backend.encode_special_tokens = tokenizer.split_special_tokens
    call = backend.encode_batch if offsets else backend.encode_batch_fast
    found: list[Any] = call(list(texts), add_special_tokens=add_special_tokens)
    return found


def edges_of(encoding: Any, spans: Sequence[Span]) -> list[int]:
    """Return for each edge of the spans, which are in order and apart, the first token that begins there or later."""
    found = _few_edges(encoding, spans) if len(spans) <= FEW_SPANS else None
    return _edges(encoding, spans) if found is None else found


def _few_edges(encoding: Any, spans: Sequence[Span]) -> list[int] | None:
    """A search for each edge is cheaper than a copy of all offsets, unless there are many; None where it cannot tell."""
    edges: list[int] = []
    count = len(encoding)
    end = encoding.token_to_chars(count - 1)[1] if count else 0
    for edge in (edge for span in spans for edge in span):
        token = count if edge >= end else encoding.char_to_token(edge)
        if token is None:
            return None
        token += token < count and encoding.token_to_chars(token)[0] < edge
        # Tokens without text of their own stand before the one that the character belongs to.
        if token and encoding.token_to_chars(token - 1)[0] >= edge:
            return None
        edges.append(token)
    return edges


def _edges(encoding: Any, spans: Sequence[Span]) -> list[int]:
    # One copy to Python, whatever the number of spans: asking for single tokens searches from the start each time.
    starts = np.fromiter((start for start, _ in encoding.offsets), np.int64, len(encoding))
    found = np.searchsorted(starts, np.asarray(spans, dtype=np.int64).ravel(), side="left")
    return [int(edge) for edge in found]


def shorten(
    encoded: Encoded, max_length: int, *, reserved_answer: int = 1, bos: int | None = None
) -> Encoded:
    """Cut a sample to `max_length` tokens without losing the answer.

    The end is cut, unless that leaves fewer than `reserved_answer` tokens with loss (or all there are): then the
    beginning is cut instead, up to where the last of these just fits. Cutting the prompt's end would take away the
    mark that opens the answer, and the words that an answer follows most closely. A beginning-of-sequence token
    stays: many models rely on it being there.
    """
    return cut(encoded, overhang(encoded, max_length, reserved_answer), max_length, bos=bos)


def overhang(encoded: Encoded, max_length: int, reserved_answer: int) -> int:
    """Return how many tokens of the beginning must go for so much of the answer to fit."""
    learned = np.flatnonzero(encoded.loss[1:]) + 1
    reserved = min(max(reserved_answer, 1), len(learned), max(max_length - 1, 1))
    return max(0, int(learned[reserved - 1]) + 1 - max_length) if reserved else 0


def cut(encoded: Encoded, start: int, max_length: int, *, bos: int | None = None) -> Encoded:
    """Return at most `max_length` tokens without the first `start`; a beginning-of-sequence token takes the place of one."""
    end = start + max_length
    if start and bos is not None and max_length > 1 and encoded.tokens[0] == bos:
        return end_to_end([encoded[:1], encoded[start + 1 : end]])
    return encoded[start:end]


def without_loss(encoded: Encoded) -> Encoded:
    """Return the tokens, none of which is learned."""
    return replace(encoded, loss=np.zeros(len(encoded), np.bool_), weights=None)
