"""Shifted sparse attention (S²-Attn) of LongLoRA (Chen et al. 2023, arXiv:2309.12307), for training on long texts.

A text is cut into four groups, and tokens attend within theirs. For half of the heads the groups are shifted by half
their size, so that what a group knows flows on to its neighbours. The last shifted group holds the end of the text and
its beginning, which here do not see each other; in the authors' code the beginning sees the end, and so what follows.

Shapes: b batch, h heads, t tokens, n groups, g tokens of a group, d width of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ...errors import ExitCode, UserError

NUM_GROUPS = 4
NAMES = {"eager": "shifted_eager", "sdpa": "shifted_sdpa"}
"""Name of each implementation with shifts, as the log and the report tell it."""

Attend = Callable[..., Tensor]
"""Attention of queries, keys and values with a mask (None: causal), dropout and a scale."""


def shift_attention(model: Any) -> None:
    """Let a Llama attend in shifted groups while it trains; evaluated or served it attends to everything, as ever.

    Raises:
        UserError: (ENVIRONMENT) the model is of another family, or has another attention.
    """
    kind, chosen = model.config.model_type, model.config._attn_implementation
    if kind != "llama" or chosen not in NAMES:
        what = f"models of type `{kind}`" if kind != "llama" else f"`{chosen}` attention"
        raise UserError(
            f"shifted attention does not go with {what}",
            help="remove `model.shifted_attention`",
            code=ExitCode.ENVIRONMENT,
        )
    _register()
    model.set_attn_implementation(NAMES[chosen])


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import eager_mask, sdpa_mask
    from transformers.models.llama.modeling_llama import eager_attention_forward

    ways = {
        "eager": (eager_attention_forward, eager_mask, _eager),
        "sdpa": (sdpa_attention_forward, sdpa_mask, _sdpa),
    }
    for name, (whole, mask, attend) in ways.items():
        AttentionInterface.register(NAMES[name], _forward(whole, attend))
        AttentionMaskInterface.register(NAMES[name], mask)


def _forward(whole: Any, attend: Attend) -> Any:
    def forward(
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        dropout: float = 0.0,
        scaling: float | None = None,
        **kwargs: Any,
    ) -> Any:
        if not module.training:
            return whole(
                module, query, key, value, attention_mask, dropout=dropout, scaling=scaling,
                **kwargs,
            )  # fmt: skip
        repeats = module.num_key_value_groups
        key, value = (each.repeat_interleave(repeats, dim=1) for each in (key, value))
        output_bhtd = attend_in_groups(
            query, key, value, attention_mask, attend, dropout, scaling or query.shape[-1] ** -0.5
        )
        return output_bhtd.transpose(1, 2).contiguous(), None

    return forward


def attend_in_groups(
    query_bhtd: Tensor,
    key_bhtd: Tensor,
    value_bhtd: Tensor,
    mask_b1tt: Tensor | None,
    attend: Attend,
    dropout: float,
    scaling: float,
) -> Tensor:
    """Return the attention of the first half of the heads in groups, and of the second half in shifted groups.

    `mask_b1tt` says which tokens see which, as a boolean or as a term that is added; None is causal.

    Raises:
        UserError: (DATA) the length does not divide into groups with whole halves.
    """
    heads, length = query_bhtd.shape[1:3]
    if length % (2 * NUM_GROUPS):
        raise UserError(
            f"a text of {length} tokens does not divide into {NUM_GROUPS} groups with whole halves",
            help=f"set `data.pad_multiple` to {2 * NUM_GROUPS}",
            code=ExitCode.DATA,
        )
    halves = []
    for part, shift in ((slice(heads // 2), 0), (slice(heads // 2, heads), length // NUM_GROUPS // 2)):  # fmt: skip
        grouped = [_cut(each[:, part], shift) for each in (query_bhtd, key_bhtd, value_bhtd)]
        if mask_b1tt is not None:
            output = attend(*grouped, _blocks(mask_b1tt, shift), dropout, scaling)
        elif shift == 0:
            output = attend(*grouped, None, dropout, scaling)
        else:
            # Only the last group is out of order.
            first = attend(*(each[:, :, :-1] for each in grouped), None, dropout, scaling)
            order = _cut(torch.arange(length, device=query_bhtd.device)[None, None, :, None], shift)
            order_g = order[0, 0, -1, :, 0]
            allowed_gg = (order_g[:, None] >= order_g).tril()
            last = attend(*(each[:, :, -1:] for each in grouped), allowed_gg, dropout, scaling)
            output = torch.cat([first, last], dim=2)
        halves.append(output.flatten(2, 3).roll(shift, dims=2))
    return torch.cat(halves, dim=1)


def _cut(each_bhtd: Tensor, shift: int) -> Tensor:
    """Return groups of tokens `[b, h, n, g, d]`, which begin `shift` tokens later."""
    batch, heads, length, width = each_bhtd.shape
    size = length // NUM_GROUPS
    return each_bhtd.roll(-shift, dims=2).reshape(batch, heads, NUM_GROUPS, size, width)


def _blocks(mask_b1tt: Tensor, shift: int) -> Tensor:
    """Return which tokens of each group see which, `[b, 1, n, g, g]`: none that stands behind it in the group.

    Each sees itself, also in padding: a token that sees nothing would be no number.
    """
    batch, _, length, _ = mask_b1tt.shape
    size = length // NUM_GROUPS
    rolled = mask_b1tt.roll((-shift, -shift), dims=(2, 3))
    cut = rolled.reshape(batch, 1, NUM_GROUPS, size, NUM_GROUPS, size)
    blocks = cut.diagonal(dim1=2, dim2=4).permute(0, 1, 4, 2, 3)
    ones = torch.ones((size, size), dtype=torch.bool, device=blocks.device)
    behind, itself = ones.triu(1), ones.tril() & ones.triu()
    if blocks.dtype == torch.bool:
        return (blocks & ~behind) | itself
    return blocks.masked_fill(behind, torch.finfo(blocks.dtype).min).masked_fill(itself, 0.0)


def _sdpa(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, scaling: float
) -> Tensor:
    return functional.scaled_dot_product_attention(
        query, key, value, mask, dropout_p=dropout, is_causal=mask is None, scale=scaling
    )


def _eager(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, scaling: float
) -> Tensor:
    scores = query @ key.transpose(-1, -2) * scaling
    if mask is None:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    else:
        scores = scores + mask
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    return functional.dropout(weights, dropout) @ value
