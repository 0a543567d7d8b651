"""Tokens that are added to a vocabulary, and the rows that embeddings and output head need for them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import ExitCode, UserError

Start = Literal["noise", "description", "description-noise"]


@dataclass(frozen=True, kw_only=True)
class NewRows:
    """How rows for `tokens`, which were added to a tokenizer, come into the model.

    With `resize`, embeddings too small for the tokenizer grow to a multiple of `pad_to_multiple` rows. `descriptions`
    says in words what a token means.
    """

    tokens: Sequence[str] = ()
    start: Start = "noise"
    descriptions: Mapping[str, str] = field(default_factory=dict)
    resize: bool = False
    pad_to_multiple: int = 64
    seed: int = 0


def add_tokens(tokenizer: Any, ordinary: Sequence[str], special: Sequence[str]) -> None:
    """Append tokens to the vocabulary; special ones are left out of what is shown to a reader.

    Raises:
        UserError: (DATA) the tokenizer has one of them already.
    """
    from tokenizers import AddedToken

    known = tokenizer.get_vocab()
    for token in (*ordinary, *special):
        if token in known:
            raise UserError(
                f"the tokenizer has the token {token!r} already",
                help="remove it from `[tokenizer]`",
                code=ExitCode.DATA,
            )
    tokenizer.add_tokens(list(ordinary))
    marks = [AddedToken(token, special=True, normalized=False) for token in special]
    tokenizer.add_tokens(marks, special_tokens=True)


def add_rows(model: Any, tokenizer: Any, rows: NewRows) -> Any:
    """Return the model with rows for all tokens of the tokenizer; new ones start as `rows` says.

    Without a description, a row is the mean of the old ones plus normal noise of deviation `1 / sqrt(dimension)`. Rows
    without a token, which fill up to the multiple, start the same way. All numbers follow from the seed.

    Raises:
        UserError: (DATA) there are more tokens than rows and the embeddings may not grow, or a description says
            nothing in old tokens.
    """
    vocabulary = tokenizer.get_vocab()
    ids = sorted(vocabulary[token] for token in rows.tokens)
    num_old, needed = int(model.get_input_embeddings().num_embeddings), max(vocabulary.values()) + 1
    if needed > num_old:
        if not rows.resize:
            raise UserError(
                f"the embeddings have {num_old:,} rows, the tokenizer has {needed:,} tokens",
                help="let the embeddings grow: `tokenizer.resize = true`",
                code=ExitCode.DATA,
            )
        num_new = math.ceil(needed / rows.pad_to_multiple) * rows.pad_to_multiple
        # transformers draws numbers for new rows; the run's own shall not depend on that.
        with torch.random.fork_rng(devices=[]):
            model.resize_token_embeddings(num_new, mean_resizing=False)
        ids = sorted({*ids, *range(num_old, num_new)})
    if ids:
        described = _described(tokenizer, rows, first=ids[0])
        generator = torch.Generator().manual_seed(rows.seed)
        for weight, bias in _matrices(model):
            with _whole([weight, bias]):
                _fill(weight, bias, ids, described, rows.start == "description-noise", generator)
    return model


def _described(tokenizer: Any, rows: NewRows, *, first: int) -> dict[int, list[int]]:
    """Return by the number of a described token the old tokens of its description."""
    found = {}
    for token, words in rows.descriptions.items() if rows.start != "noise" else ():
        if token not in rows.tokens:
            continue
        old = [i for i in tokenizer.encode(words, add_special_tokens=False) if i < first]
        if not old:
            raise UserError(
                f"the description of {token!r} says nothing in tokens that the model knows",
                help="see `tokenizer.described_tokens`",
                code=ExitCode.DATA,
            )
        found[tokenizer.convert_tokens_to_ids(token)] = old
    return found


def _matrices(model: Any) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield the embeddings, and the output head where it is another tensor, each with its bias."""
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    yield embeddings.weight, None
    if head is not None and head.weight is not embeddings.weight:
        yield head.weight, getattr(head, "bias", None)


@torch.no_grad()
def _fill(
    weight_vh: Tensor,
    bias_v: Tensor | None,
    ids: list[int],
    described: dict[int, list[int]],
    is_noisy: bool,
    generator: torch.Generator,
) -> None:
    old_vh = weight_vh[: ids[0]]
    shape = (len(ids), weight_vh.shape[1])
    noise_nh = torch.randn(shape, generator=generator) / math.sqrt(shape[1])
    start_nh = old_vh.mean(0, dtype=torch.float32).cpu() + noise_nh
    for place, number in enumerate(ids):
        if number in described:
            mean_h = old_vh[described[number]].mean(0, dtype=torch.float32).cpu()
            start_nh[place] = mean_h + noise_nh[place] if is_noisy else mean_h
    weight_vh[ids] = start_nh.to(weight_vh)
    if bias_v is not None:
        bias_v[ids] = bias_v[: ids[0]].mean()


@contextmanager
def _whole(parameters: Sequence[Tensor | None]) -> Iterator[None]:
    """Inside, parameters that ZeRO-3 has spread are whole; what is written on rank 0 is what all have afterwards."""
    spread = [each for each in parameters if hasattr(each, "ds_id")]
    if spread:
        import deepspeed

        gathered = deepspeed.zero.GatheredParameters(spread, modifier_rank=0)
    with gathered if spread else nullcontext():
        yield
