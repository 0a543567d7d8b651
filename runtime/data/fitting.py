"""Fitting: what becomes of a sample that is too long, or that nothing can be learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..errors import ExitCode, UserError
from .chat import LossOn, ThoughtMarks
from .encode import Encoded, cut, overhang, shorten
from .ends import stop_tokens
from .items import Document, Item, Judged, Kind, Pair, Prompt

TooLong = Literal["truncate", "drop", "split", "error"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What decides the tokens of an item."""

    loss_on: LossOn = "assistant"
    max_length: int
    too_long: TooLong
    unlearned_thoughts: ThoughtMarks | None = None
    """The marks around thoughts that carry no loss; None: thoughts are learned like the rest of an answer."""
    reserved_answer: int = 1
    """Tokens of the answer that truncation keeps at least."""
    kind: Kind = "answers"
    """What is learned from, which decides how a row is read."""


@dataclass(frozen=True)
class Fitted:
    """A sample at its final length: one sequence, or the chosen and the rejected one of a pair."""

    sequences: tuple[Encoded, ...]
    truncated: bool = False
    endless: bool = False
    """The loss never sees the end-of-sequence token."""


def fitted(
    item: Item, sequences: Sequence[Encoded], *, tokenizer: Any, options: Options
) -> list[Fitted]:
    """Return the samples of an item as the options want them: one, several pieces of a text, or none if it is dropped.

    A pair is dropped, too, when both answers are the same tokens, in the beginning or up to where they are cut.

    Raises:
        UserError: (DATA) it is too long under `too_long = "error"`, no token of it carries loss, or the tokens of
            answers that are compared do not count alike.
    """
    found = tuple(sequences)
    if not (isinstance(item, Prompt) or all(sequence.num_learned for sequence in found)):
        raise answerless(item.place)
    if isinstance(item, Pair | Judged) and any(sequence.weights is not None for sequence in found):
        raise UserError(
            f"{item.place}: an answer that is compared has a weight, but its tokens have no loss of their own",
            code=ExitCode.DATA,
        )
    if _are_equal(found):
        return []
    if max(map(len, found)) <= options.max_length:
        return [Fitted(found, endless=_is_endless(item, found, tokenizer, options))]
    if options.too_long == "error":
        raise _too_long(item, max(map(len, found)), options.max_length)
    if options.too_long == "drop":
        return []
    if options.too_long == "split" and isinstance(item, Document):
        return [Fitted((piece,)) for piece in _pieces(found[0], options.max_length)]
    shortened = _shortened(item, found, tokenizer.bos_token_id, options)
    # What tells two answers apart may lie behind the cut.
    return [] if _are_equal(shortened) else [Fitted(shortened, truncated=True)]


def _is_endless(item: Item, sequences: Sequence[Encoded], tokenizer: Any, options: Options) -> bool:
    if isinstance(item, Prompt) or options.loss_on == "all":
        return False
    ends = stop_tokens(tokenizer)
    return not all(
        any(np.any(sequence.loss & (sequence.tokens == end)) for end in ends)
        for sequence in sequences
    )


def _pieces(encoded: Encoded, max_length: int) -> list[Encoded]:
    """Nothing predicts the first token of a piece: a single token that is left over is of no use."""
    pieces = [encoded[at : at + max_length] for at in range(0, len(encoded), max_length)]
    return [piece for piece in pieces if piece.num_learned]


def _shortened(
    item: Item, found: tuple[Encoded, ...], bos: int | None, options: Options
) -> tuple[Encoded, ...]:
    length, reserved = options.max_length, options.reserved_answer
    if isinstance(item, Prompt):
        # An answer follows the end of a prompt.
        return (cut(found[0], len(found[0]) - length, length, bos=bos),)
    if isinstance(item, Pair):
        # Both answers are to follow the same words.
        start = max(overhang(sequence, length, reserved) for sequence in found)
        return tuple(cut(sequence, start, length, bos=bos) for sequence in found)
    return (shorten(found[0], length, reserved_answer=reserved, bos=bos),)


def _are_equal(sequences: Sequence[Encoded]) -> bool:
    return len(sequences) == 2 and np.array_equal(sequences[0].tokens, sequences[1].tokens)


def are_same(sequences: Sequence[Encoded], options: Options) -> bool:
    """Tell of sequences that gave no sample whether they are the same tokens, and not just too long."""
    is_long = max(map(len, sequences)) > options.max_length
    is_pair = len(sequences) == 2
    return is_pair and (_are_equal(sequences) or not (is_long and options.too_long == "drop"))


def answerless(place: str) -> UserError:
    """Return the error for a sample that nothing can be learned from."""
    return UserError(
        f"{place}: no token of the sample carries loss, the chat template hides the answer",
        code=ExitCode.DATA,
    )


def all_dropped(num_read: int, max_length: int, num_same: int = 0) -> UserError:
    """Return the error for data of which nothing is left, of which so many are pairs of the same tokens."""
    if num_same:
        return UserError(
            f"none of {num_read:,} pairs is left: in {num_same:,} both answers are the same tokens, "
            f"up to `data.max_length` = {max_length:,} or as a whole",
            help="look at them with `tunec preview --problems`; where they differ further on, raise `data.max_length`",
            code=ExitCode.DATA,
        )
    return UserError(
        f"all {num_read:,} samples are longer than `data.max_length` = {max_length:,} and were dropped",
        help="raise `data.max_length`",
        code=ExitCode.DATA,
    )


def _too_long(item: Item, length: int, max_length: int) -> UserError:
    ways = '"split", "truncate" or "drop"' if isinstance(item, Document) else '"truncate" or "drop"'
    return UserError(
        f"{item.place}: the sample has {length:,} tokens, `data.max_length` is {max_length:,}",
        help=f"raise `data.max_length`, or set `data.too_long` to {ways}",
        code=ExitCode.DATA,
    )
