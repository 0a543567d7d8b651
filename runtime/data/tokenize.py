"""Tokenization: conversations become samples whose labels are exact to the token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from ..errors import ExitCode, UserError
from .chat import render
from .conversation import Conversation
from .encode import encode
from .samples import IGNORED, Sample, Samples

LossOn = Literal["assistant", "all"]
TooLong = Literal["truncate", "drop", "error"]
BATCH = 1000


def tokenize(
    conversations: Sequence[Conversation],
    *,
    tokenizer: Any,
    loss_on: LossOn,
    max_length: int,
    too_long: TooLong,
) -> Samples:
    """Return the samples of the conversations, in order.

    Each conversation is rendered whole and tokenized whole, so its tokens are those a server's prompt has.
    A token carries loss when it begins inside a span that does.

    Raises:
        UserError: (DATA) a sample above `max_length` under `too_long = "error"`, or not one token of the
            whole set carries loss.
    """
    rows: list[Sample] = []
    truncated = dropped = endless = 0
    for start in range(0, len(conversations), BATCH):
        part = conversations[start : start + BATCH]
        for conversation, sample in zip(part, _encode(tokenizer, part, loss_on), strict=True):
            length = len(sample.input_ids)
            if length > max_length:
                if too_long == "error":
                    raise _too_long(conversation, length, max_length)
                if too_long == "drop":
                    dropped += 1
                    continue
                truncated += 1
                sample = Sample(sample.input_ids[:max_length], sample.labels[:max_length])
            elif loss_on == "assistant" and tokenizer.eos_token_id not in sample.labels:
                endless += 1
            rows.append(sample)
    samples = Samples(rows, len(conversations), truncated, dropped, _warnings(tokenizer, endless))
    _check(samples, max_length)
    return samples


def _encode(tokenizer: Any, conversations: Sequence[Conversation], loss_on: LossOn) -> list[Sample]:
    encoded = encode(tokenizer, render(tokenizer, conversations, loss_on=loss_on))
    return [
        Sample(ids.tolist(), np.where(loss, ids.astype(np.int64), IGNORED).tolist())
        for ids, loss in encoded
    ]


def _too_long(conversation: Conversation, length: int, max_length: int) -> UserError:
    return UserError(
        f"{conversation.place}: the sample has {length:,} tokens, `data.max_length` is {max_length:,}",
        help='raise `data.max_length`, or set `data.too_long` to "truncate" or "drop"',
        code=ExitCode.DATA,
    )


def _warnings(tokenizer: Any, endless: int) -> tuple[str, ...]:
    if not endless:
        return ()
    return (
        f"{endless:,} samples never show the end-of-sequence token {tokenizer.eos_token!r} to the loss: "
        "the model may not learn to stop",
    )


def _check(samples: Samples, max_length: int) -> None:
    if not samples.rows:
        raise UserError(
            f"all {samples.num_read:,} samples are longer than `data.max_length` = {max_length:,} and were dropped",
            help="raise `data.max_length`",
            code=ExitCode.DATA,
        )
    if samples.num_trainable == 0:
        raise UserError(
            f"not one of {samples.num_tokens:,} tokens carries loss: the run would learn nothing",
            help=f"the answers begin after `data.max_length` = {max_length:,} tokens, or the template hides them; "
            "raise it, or check the data",
            code=ExitCode.DATA,
        )
