"""Reward models: decoders of transformers that classify sequences, with one label, its value being the score."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data.ends import stop_tokens
from ..errors import ExitCode, UserError
from .dtypes import Dtype
from .folder import display
from .load import Base, Kind, load_model
from .parts import SCORE, score_head
from .score import compute_in_fp32
from .sharded import gathered

WEIGHT = f"{SCORE}.weight"


def load_reward_model(
    base: Base | Path | str, *, dtype: Dtype, tokenizer: Any = None, seed: int | None = 0
) -> Any:
    """Return the model `base` as one that gives each text a score; all else is as in `load_causal_lm`.

    A model that writes gets a new head, drawn by `seed` the way its family draws weights; one that scores keeps its
    own; without a seed it must have one, or get it from the adapters that are merged. The head multiplies in fp32.
    With `tokenizer`, model and tokenizer agree on a token of padding that no text
    ends in: whoever loads what is saved then reads scores at the same token, alone or in a padded batch.

    Raises:
        UserError: as `load_causal_lm`; or transformers has no class for it whose scores are read at the last token,
            it has more than one label, no head, or there is no token for padding.
    """
    settings = base if isinstance(base, Base) else Base(base)
    pad_token_id = None if tokenizer is None else padding_apart(tokenizer)
    change = partial(_one_label, path=settings.path, pad_token_id=pad_token_id)
    new: list[Any] = []
    make = partial(_draw, seed=seed or 0, new=new)
    kind = Kind(partial(_classes, path=settings.path), change, (WEIGHT,), make)
    model = load_model(settings, kind, dtype=dtype, tokenizer=tokenizer)
    head = score_head(model)
    if seed is None and head in new:
        raise UserError(
            f"{display(settings.path)}: this model has no head that scores",
            help='name a reward model, or with `adapters` those that `[objective] type = "reward"` trained',
            code=ExitCode.ENVIRONMENT,
        )
    if type(head) is not nn.Linear or head.bias is not None:
        raise _refused(settings.path, model.config.model_type)
    compute_in_fp32(head)
    return model


def padding_apart(tokenizer: Any) -> int:
    """Return the token for padding after making sure that no text ends in it.

    Raises:
        UserError: every special token may end a text.
    """
    ends = set(stop_tokens(tokenizer))
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id in ends:
        tokenizer.pad_token = _apart(tokenizer, ends)
    return int(tokenizer.pad_token_id)


def _apart(tokenizer: Any, ends: set[int]) -> str:
    added = tokenizer.added_tokens_decoder
    names = {number: str(token) for number, token in added.items() if token.special}
    free = {number: name for number, name in names.items() if number not in ends}
    template = str(tokenizer.chat_template or "")
    # What stands in the template may be the end of a text, but for the mark at its beginning.
    sure = {tokenizer.unk_token_id, tokenizer.bos_token_id}
    found = [n for n, name in free.items() if n in sure or name not in template]
    if not found:
        raise UserError(
            f"texts may end in every special token, such as {tokenizer.eos_token!r}: none is left for padding",
            help='add one: `[tokenizer] add_special_tokens = ["<|pad|>"]` and `resize = true`',
            code=ExitCode.DATA,
        )
    order = [tokenizer.unk_token_id, tokenizer.bos_token_id]
    places = {number: place for place, number in enumerate(order)}
    best = min(found, key=lambda n: ("pad" not in free[n].lower(), places.get(n, 2), n))
    return free[best]


def _classes(config: Any, path: Path | str) -> Any:
    from transformers import AutoModelForSequenceClassification

    if type(config) not in AutoModelForSequenceClassification._model_mapping:
        raise _refused(path, config.model_type)
    return AutoModelForSequenceClassification


def _one_label(config: Any, path: Path | str, pad_token_id: int | None) -> None:
    """Let the configuration name one label, and the token of padding."""
    names = config.architectures or []
    classifies = any(name.endswith("ForSequenceClassification") for name in names)
    if classifies and config.num_labels != 1:
        raise UserError(
            f"{display(path)}: this model tells {config.num_labels} classes apart, a reward model gives one score",
            help="start from the model it was made of, or from a reward model",
            code=ExitCode.ENVIRONMENT,
        )
    config.num_labels = 1
    text = config.get_text_config()
    if pad_token_id is not None:
        config.pad_token_id = text.pad_token_id = pad_token_id
    elif text.pad_token_id is None:
        # Only a guess; without any, transformers takes no batch.
        end = text.eos_token_id
        text.pad_token_id = end[0] if isinstance(end, list) else end


@torch.no_grad()
def _draw(model: Any, seed: int, new: list[Any]) -> None:
    new.append(score_head(model))
    weight = new[0].weight
    generator = torch.Generator().manual_seed(seed)
    with gathered(weight):
        deviation = getattr(model.config.get_text_config(), "initializer_range", 0.02)
        start = torch.randn(weight.shape, generator=generator) * deviation
        weight.copy_(start.to(weight))


def _refused(path: Path | str, model_type: str) -> UserError:
    return UserError(
        f"{display(path)}: transformers has no class for models of type `{model_type}` that scores a text at its end",
        help="use another model for the reward",
        code=ExitCode.ENVIRONMENT,
    )
