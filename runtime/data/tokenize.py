"""Tokenization: conversations become samples whose labels are exact to the token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .chat import LossOn
from .fitting import Options, TooLong, all_dropped, fitted
from .items import Item
from .samples import Samples, sample_of
from .sequences import Sequences, encoded

BATCH = 1000


def tokenize(
    items: Sequence[Item],
    *,
    tokenizer: Any,
    loss_on: LossOn,
    max_length: int,
    too_long: TooLong,
    reserved_answer: int = 1,
) -> Samples:
    """Return the samples of conversations or other items of one kind, in order.

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
    rows = []
    truncated = dropped = endless = 0
    for item, sequences in _encoded(tokenizer, items, options):
        kept = fitted(item, sequences, tokenizer=tokenizer, options=options)
        dropped += not kept
        truncated += sum(sample.truncated for sample in kept)
        endless += sum(sample.endless for sample in kept)
        rows += [sample_of(sample.sequences) for sample in kept]
    if not rows:
        raise all_dropped(len(items), max_length)
    return Samples(rows, len(items), truncated, dropped, _warnings(tokenizer, endless))


def _encoded(
    tokenizer: Any, items: Sequence[Item], options: Options
) -> Iterator[tuple[Item, Sequences]]:
    for start in range(0, len(items), BATCH):
        part = items[start : start + BATCH]
        yield from zip(part, encoded(tokenizer, part, options), strict=True)


def _warnings(tokenizer: Any, endless: int) -> tuple[str, ...]:
    if not endless:
        return ()
    return (
        f"{endless:,} samples never show the end-of-sequence token {tokenizer.eos_token!r} to the loss: "
        "the model may not learn to stop",
    )
