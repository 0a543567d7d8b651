"""Tokenization: conversations become samples whose labels are exact to the token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..errors import ExitCode, UserError
from .chat import LossOn, render
from .conversation import Conversation
from .encode import Flags, Tokens, encode, shorten
from .samples import IGNORED, Sample, Samples

TooLong = Literal["truncate", "drop", "error"]
BATCH = 1000


@dataclass(frozen=True, kw_only=True)
class Options:
    """What decides the tokens of a conversation."""

    loss_on: LossOn
    max_length: int
    too_long: TooLong
    reserved_answer: int = 1
    """Tokens of the answer that truncation keeps at least."""


@dataclass(frozen=True)
class Fitted:
    """A sample at its final length, and what was noticed about it."""

    tokens: Tokens
    loss: Flags
    truncated: bool = False
    endless: bool = False
    """The loss never sees the end-of-sequence token."""


def fitted(
    conversation: Conversation, tokens: Tokens, loss: Flags, *, tokenizer: Any, options: Options
) -> Fitted | None:
    """Return the sample as the options want it, or None when it is dropped.

    Raises:
        UserError: (DATA) it is too long under `too_long = "error"`, or no token of it carries loss.
    """
    if not loss[1:].any():
        raise answerless(conversation.place)
    if len(tokens) <= options.max_length:
        eos = tokenizer.eos_token_id
        endless = options.loss_on != "all" and not (eos is not None and (tokens[loss] == eos).any())
        return Fitted(tokens, loss, endless=endless)
    if options.too_long == "error":
        raise _too_long(conversation, len(tokens), options.max_length)
    if options.too_long == "drop":
        return None
    reserved, bos = options.reserved_answer, tokenizer.bos_token_id
    shortened = shorten(tokens, loss, options.max_length, reserved_answer=reserved, bos=bos)
    return Fitted(*shortened, truncated=True)


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
    options = Options(
        loss_on=loss_on,
        max_length=max_length,
        too_long=too_long,
        reserved_answer=reserved_answer,
    )
    rows: list[Sample] = []
    truncated = dropped = endless = 0
    for conversation, ids, loss in _encoded(tokenizer, conversations, loss_on):
        kept = fitted(conversation, ids, loss, tokenizer=tokenizer, options=options)
        if kept is None:
            dropped += 1
            continue
        truncated += kept.truncated
        endless += kept.endless
        labels = np.where(kept.loss, kept.tokens.astype(np.int64), IGNORED)
        rows.append(Sample(kept.tokens.tolist(), labels.tolist()))
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
        raise all_dropped(samples.num_read, max_length)


def all_dropped(num_read: int, max_length: int) -> UserError:
    """Return the error for data of which nothing is left."""
    return UserError(
        f"all {num_read:,} samples are longer than `data.max_length` = {max_length:,} and were dropped",
        help="raise `data.max_length`",
        code=ExitCode.DATA,
    )
