"""Tokenization: conversations become samples whose labels are exact to the token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np

from ..errors import ExitCode, UserError
from .chat import LossOn, render
from .conversation import Conversation
from .encode import Flags, Tokens, encode, shorten
from .samples import IGNORED, Sample, Samples

TooLong = Literal["truncate", "drop", "error"]
BATCH = 1000


def tokenize(
    conversations: Sequence[Conversation],
    *,
    tokenizer: Any,
    loss_on: LossOn,
    max_length: int,
    too_long: TooLong,
    reserved_answer: int = 1,
) -> Samples:
    """Return the samples of the conversations, in order.

    Each conversation is rendered whole and tokenized whole, so its tokens are those a server's prompt has.
    A token carries loss when it begins inside a span that does. Truncation keeps `reserved_answer` tokens
    that do, see `shorten`.

    Raises:
        UserError: (DATA) a sample above `max_length` under `too_long = "error"`, or one without a token that
            carries loss.
    """
    rows: list[Sample] = []
    truncated = dropped = endless = 0
    for conversation, ids, loss in _encoded(tokenizer, conversations, loss_on):
        if not loss[1:].any():
            raise answerless(conversation.place)
        if len(ids) > max_length:
            if too_long == "error":
                raise _too_long(conversation, len(ids), max_length)
            if too_long == "drop":
                dropped += 1
                continue
            truncated += 1
            ids, loss = shorten(
                ids, loss, max_length, reserved_answer=reserved_answer, bos=tokenizer.bos_token_id
            )
        elif loss_on != "all" and tokenizer.eos_token_id not in ids[loss]:
            endless += 1
        rows.append(Sample(ids.tolist(), np.where(loss, ids.astype(np.int64), IGNORED).tolist()))
    samples = Samples(rows, len(conversations), truncated, dropped, _warnings(tokenizer, endless))
    _check(samples, max_length)
    return samples


def _encoded(
    tokenizer: Any, conversations: Sequence[Conversation], loss_on: LossOn
) -> Iterator[tuple[Conversation, Tokens, Flags]]:
    for start in range(0, len(conversations), BATCH):
        part = conversations[start : start + BATCH]
        encoded = encode(tokenizer, render(tokenizer, part, loss_on=loss_on))
        for conversation, (ids, loss) in zip(part, encoded, strict=True):
            yield conversation, ids, loss


def answerless(place: str) -> UserError:
    """Return the error for a sample that nothing can be learned from."""
    return UserError(
        f"{place}: no token of the sample carries loss, the chat template hides the answer",
        code=ExitCode.DATA,
    )


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
