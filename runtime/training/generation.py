"""Answers to prompts, drawn in a way that depends on their numbers alone: not on what shares their batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import ExitCode, UserError
from ..objectives.online import Sampling


class Drawing:
    """A logits processor that leaves one token of each row: the one that a number of the row's own picks.

    Each answer has a stream of uniform numbers that follows from its seed, one for each of its tokens, which are
    looked up in the cumulated probabilities. So the same model gives the same answers on any number of processes.
    """

    def __init__(self, sampling: Sampling, seeds: Sequence[int], device: torch.device) -> None:
        """Draw the numbers of all rows."""
        self.sampling = sampling
        streams = [
            torch.rand(sampling.max_new_tokens, generator=torch.Generator().manual_seed(seed))
            for seed in seeds
        ]
        self.uniform_bt = torch.stack(streams).to(device)
        self.done = 0
        self.sound = torch.ones((), dtype=torch.bool, device=device)
        """Whether all predictions so far were numbers."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the logits `[rows, vocabulary]` with all but the picked token at minus infinity."""
        picked = pick(scores, self.uniform_bt[:, self.done], self.sampling)
        self.done += 1
        self.sound &= ~scores.isnan().any()
        chosen = torch.full_like(scores, -torch.inf)
        return chosen.scatter_(1, picked[:, None], 0.0)


def pick(logits_bv: Tensor, uniform_b: Tensor, sampling: Sampling) -> Tensor:
    """Return the token of each row whose share of the cumulated probabilities holds `uniform_b`, int64 `[rows]`."""
    logits_bv = logits_bv.float() / sampling.temperature
    if not sampling.top_k and sampling.top_p >= 1:
        return _looked_up(logits_bv.softmax(-1), uniform_b)
    count = min(sampling.top_k or logits_bv.shape[1], logits_bv.shape[1])
    likely, order = logits_bv.topk(count)
    shares = likely.softmax(-1)
    if sampling.top_p < 1:
        # The first that reach the probability together; the very first always stays.
        shares = shares.masked_fill(shares.cumsum(-1) - shares >= sampling.top_p, 0.0)
    return order.gather(1, _looked_up(shares, uniform_b)[:, None]).squeeze(1)


def _looked_up(shares_bv: Tensor, uniform_b: Tensor) -> Tensor:
    reached = shares_bv.cumsum(-1)
    total = reached[:, -1:]
    # Rounding must not put the number at the very end, where no token is left.
    below = torch.nextafter(total, torch.zeros_like(total))
    wanted = torch.minimum(uniform_b[:, None] * total, below)
    found = torch.searchsorted(reached, wanted, right=True).squeeze(1)
    # Where predictions are no numbers, anything will do: `generate` ends the run.
    return found.clamp(max=shares_bv.shape[1] - 1)


@torch.no_grad()
def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    sampling: Sampling,
    seeds: Sequence[int],
    ends: frozenset[int],
    pad_token_id: int,
    device: torch.device,
) -> list[list[int]]:
    """Return the tokens of an answer to each prompt, the end mark included where there is one.

    The answers are generated together, prompts padded on the left. `model` is in evaluation mode; one that is spread
    over the processes (ZeRO stage 3) goes on until the longest answer of all of them ends.

    Raises:
        UserError: (TRAINING) the model predicts something that is no number.
    """
    from transformers import GenerationConfig, LogitsProcessorList

    longest = max(map(len, prompts))
    input_ids = torch.full((len(prompts), longest), pad_token_id, dtype=torch.long)
    mask = torch.zeros_like(input_ids)
    for row, prompt in enumerate(prompts):
        input_ids[row, longest - len(prompt) :] = torch.tensor(list(prompt))
        mask[row, longest - len(prompt) :] = 1
    settings = GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=sampling.max_new_tokens,
        repetition_penalty=sampling.repetition_penalty,
        use_cache=sampling.kv_cache,
        eos_token_id=sorted(ends),
        pad_token_id=pad_token_id,
    )
    drawing = Drawing(sampling, seeds, device)
    generated = model.generate(
        input_ids=input_ids.to(device),
        attention_mask=mask.to(device),
        generation_config=settings,
        logits_processor=LogitsProcessorList([drawing]),
    )
    if not bool(drawing.sound):
        raise UserError(
            "the model's predictions are no numbers: its weights are broken",
            help="lower `training.learning_rate`, set `training.max_grad_norm`, or use fp32; the last checkpoint is kept",
            code=ExitCode.TRAINING,
        )
    return [_ended(row, ends) for row in generated[:, longest:].tolist()]


def _ended(tokens: list[int], ends: frozenset[int]) -> list[int]:
    """Return the tokens up to the first end mark."""
    for at, token in enumerate(tokens):
        if token in ends:
            return tokens[: at + 1]
    return tokens
