"""Texts become tokens, and spans of text become the tokens that carry loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .chat import Span

Tokens = npt.NDArray[np.uint32]
Flags = npt.NDArray[np.bool_]


def encode(
    tokenizer: Any, rendered: Sequence[tuple[str, Sequence[Span]]]
) -> list[tuple[Tokens, Flags]]:
    """Return for each text its tokens, and which of them carry loss: those that begin inside a span.

    Tokens are uint32 `[length]`, flags bool `[length]`. Nothing is added, cut or padded.
    """
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    encodings = backend.encode_batch([text for text, _ in rendered], add_special_tokens=False)
    return [
        (np.asarray(encoding.ids, dtype=np.uint32), flags_of(encoding, spans))
        for encoding, (_, spans) in zip(encodings, rendered, strict=True)
    ]


def flags_of(encoding: Any, spans: Sequence[Span]) -> Flags:
    """Return which tokens of an encoding begin inside one of the spans, which are in order and apart."""
    flags = np.zeros(len(encoding), dtype=np.bool_)
    if not spans:
        return flags
    # One copy to Python, whatever the number of spans: asking for single tokens searches from the start each time.
    starts = np.fromiter((start for start, _ in encoding.offsets), np.int64, len(encoding))
    edges = np.searchsorted(starts, np.asarray(spans, dtype=np.int64).ravel(), side="left")
    for first, end in edges.reshape(-1, 2):
        flags[first:end] = True
    return flags


def shorten(
    tokens: Tokens,
    loss: Flags,
    max_length: int,
    *,
    reserved_answer: int = 1,
    bos: int | None = None,
) -> tuple[Tokens, Flags]:
    """Cut a sample to `max_length` tokens without losing the answer.

    The end is cut, unless that leaves fewer than `reserved_answer` tokens with loss (or all there are): then the
    beginning is cut instead, up to where the last of these just fits. Cutting the prompt's end would take away the
    mark that opens the answer, and the words that an answer follows most closely. A beginning-of-sequence token
    stays: many models rely on it being there.
    """
    learned = np.flatnonzero(loss[1:]) + 1
    reserved = min(max(reserved_answer, 1), len(learned), max(max_length - 1, 1))
    end = max_length if reserved == 0 else max(max_length, int(learned[reserved - 1]) + 1)
    start = end - max_length
    if start and bos is not None and max_length > 1 and tokens[0] == bos:
        return (
            np.concatenate([tokens[:1], tokens[start + 1 : end]]),
            np.concatenate([loss[:1], loss[start + 1 : end]]),
        )
    return tokens[start:end], loss[start:end]
