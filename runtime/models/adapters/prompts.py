"""Virtual tokens: trained inputs in front of every text, the model itself frozen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch

from ...errors import UserError
from ..sharded import gathered
from .attach import attach, task_of


def add_prefix(
    model: Any,
    *,
    num_tokens: int,
    projection: bool = False,
) -> Any:
    """Return the model with trained keys and values of virtual tokens in every layer (arXiv:2101.00190)."""
    from peft import PrefixTuningConfig

    config = PrefixTuningConfig(
        task_type=task_of(model),
        num_virtual_tokens=num_tokens,
        prefix_projection=projection,
        encoder_hidden_size=model.config.get_text_config().hidden_size if projection else None,
    )
    return attach(model, config)


def add_prompt(
    model: Any,
    *,
    num_tokens: int,
    start: Sequence[int] = (),
) -> Any:
    """Return the model with trained embeddings of virtual tokens in front of every text (arXiv:2104.08691).

    They start from the embeddings of the tokens `start`, over and over where there are fewer; at random without any.
    """
    from peft import PromptTuningConfig

    config = PromptTuningConfig(task_type=task_of(model), num_virtual_tokens=num_tokens)
    adapted = attach(model, config)
    if start:
        _start_from(adapted, [start[i % len(start)] for i in range(num_tokens)])
    return adapted


def add_p_tuning(
    model: Any,
    *,
    num_tokens: int,
    network: Literal["mlp", "lstm"] = "mlp",
    hidden_size: int | None = None,
    num_layers: int = 2,
    dropout: float = 0.0,
) -> Any:
    """Return the model with virtual tokens in front of every text that a small network makes (arXiv:2103.10385).

    The network is as wide as the model, or `hidden_size`; `num_layers` and `dropout` are those of the LSTM.
    """
    from peft import PromptEncoderConfig

    config = PromptEncoderConfig(
        task_type=task_of(model),
        num_virtual_tokens=num_tokens,
        encoder_reparameterization_type=network.upper(),
        encoder_hidden_size=hidden_size or model.config.get_text_config().hidden_size,
        encoder_num_layers=num_layers,
        encoder_dropout=dropout,
    )
    return attach(model, config)


def num_virtual_tokens(model: Any) -> int:
    """Return how many positions the model puts in front of its input."""
    config: Any = getattr(model, "peft_config", {}).get("default")
    is_prompt = config is not None and config.peft_type in ("PROMPT_TUNING", "P_TUNING")
    return int(config.num_virtual_tokens) if is_prompt else 0


def token_ids(tokenizer: Any, tokens: Sequence[str]) -> list[int]:
    """Return the numbers of tokens given by their text.

    Raises:
        UserError: one is no token of the vocabulary.
    """
    vocabulary = tokenizer.get_vocab()
    for token in tokens:
        if token not in vocabulary:
            raise UserError(
                f"{token!r} is no token of the model", help="see `method.trainable_tokens`"
            )
    return [int(vocabulary[token]) for token in tokens]


def text_ids(tokenizer: Any, text: str) -> list[int]:
    """Return the numbers of the tokens of a text.

    Raises:
        UserError: it has none.
    """
    numbers = [int(number) for number in tokenizer(text, add_special_tokens=False)["input_ids"]]
    if not numbers:
        raise UserError("the text of the prompt has no tokens", help="see `method.text`")
    return numbers


@torch.no_grad()
def _start_from(adapted: Any, tokens: Sequence[int]) -> None:
    embeddings = adapted.get_input_embeddings().weight
    prompt = adapted.prompt_encoder["default"].embedding.weight
    with gathered(embeddings, prompt):
        prompt.copy_(embeddings[torch.tensor(tokens, device=embeddings.device)])
