"""Mixture-of-Depths (Raposo et al. 2024, arXiv:2404.02258) for models of the Llama family.

Every other block has a router, and only an eighth of the tokens, those with the largest weights, pass through it while
training; the others skip it. Which tokens these are depends on the whole text, so that the paper trains a small network
beside to foretell it from a token alone; evaluation and generation go by that. Its gradient reaches nothing else.

A token's weight is `1 + w x`, not `w x`: with a small w, a token that is chosen passes through a converted block about as
it did before.

Shapes: b batch, t tokens, k chosen tokens, d hidden size.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from ...errors import ExitCode, UserError
from .apply import DEPTHS

CAPACITY = 0.125
"""Share of the tokens that pass through a block with a router."""


class LlamaDepthsConfig(LlamaConfig):  # type: ignore[misc]
    """The configuration of a Llama with routers; other libraries do not know its type, and so do not load it wrongly."""

    model_type = DEPTHS
    depths_capacity: float = CAPACITY


class Router(nn.Module):
    """Gives each token a weight, and foretells from the token alone whether it is among the largest."""

    def __init__(self, hidden_size: int) -> None:
        """Make the weights."""
        super().__init__()
        self.weigh = nn.Linear(hidden_size, 1, bias=False)
        self.foretell = nn.Sequential(
            nn.Linear(hidden_size, hidden_size // 2), nn.SiLU(), nn.Linear(hidden_size // 2, 1)
        )


class _WithLoss(torch.autograd.Function):
    """Passes a tensor on, and takes a loss along into the backward pass."""

    @staticmethod
    def forward(ctx: Any, passed: Tensor, loss: Tensor) -> Tensor:
        ctx.save_for_backward(loss)
        return passed

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor]:
        (loss,) = ctx.saved_tensors
        return grads[0], torch.ones_like(loss)


class LlamaDepthsLayer(LlamaDecoderLayer):  # type: ignore[misc]
    """A block through which some tokens pass."""

    def __init__(self, config: LlamaDepthsConfig, layer_idx: int) -> None:
        """Make the block and its router."""
        super().__init__(config, layer_idx)
        self.capacity = config.depths_capacity
        self.router = Router(config.hidden_size)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        position_embeddings: Any = None,
        **kwargs: Any,
    ) -> Tensor:
        """Return the hidden states of all tokens, those of chosen ones changed, `[b, t, d]`.

        Raises:
            UserError: (ENVIRONMENT) there is a cache, which knows nothing of tokens that skip a block.
        """
        if past_key_values is not None:
            raise UserError(
                "mixture-of-depths does not go with a cache of keys and values",
                help="set `generation.kv_cache` to false",
                code=ExitCode.ENVIRONMENT,
            )
        weights_bt = 1 + self.router.weigh(hidden_states).squeeze(-1)
        foretold_bt = self.router.foretell(hidden_states.detach()).squeeze(-1)
        real_bt = _real(hidden_states, attention_mask)
        if self.training:
            count = max(1, math.ceil(self.capacity * hidden_states.shape[1]))
            ranked = weights_bt.detach().masked_fill(~real_bt, -torch.inf)
            chosen_bk = ranked.topk(count, dim=-1).indices.sort(dim=-1).values
            is_chosen = torch.zeros_like(real_bt).scatter(1, chosen_bk, True) & real_bt
            loss = functional.binary_cross_entropy_with_logits(
                foretold_bt[real_bt].float(), is_chosen[real_bt].float()
            )
            hidden_states = _WithLoss.apply(hidden_states, loss)  # type: ignore[no-untyped-call]
        else:
            is_chosen = (foretold_bt > 0) & real_bt
            count = max(1, int(is_chosen.sum(1).max()))
            # Chosen tokens first, in their order; rows with fewer are filled up with others.
            chosen_bk = (~is_chosen).to(torch.uint8).argsort(dim=-1, stable=True)[:, :count]
        passed = self._pass(
            hidden_states, chosen_bk, is_chosen, attention_mask, position_embeddings, kwargs
        )
        index = chosen_bk[..., None].expand(-1, -1, hidden_states.shape[-1])
        before = hidden_states.gather(1, index)
        gain = weights_bt.gather(1, chosen_bk) * is_chosen.gather(1, chosen_bk)
        return hidden_states.scatter_add(1, index, gain[..., None] * (passed - before))

    def _pass(
        self,
        hidden_states: Tensor,
        chosen_bk: Tensor,
        is_chosen: Tensor,
        mask: Tensor | None,
        position_embeddings: Any,
        kwargs: dict[str, Any],
    ) -> Tensor:
        """Return what the plain block makes of the chosen tokens, which see each other and no others, `[b, k, d]`."""
        rows, count = chosen_bk.shape
        hidden_bkd = _pick(hidden_states, chosen_bk)
        cos_sin = tuple(_pick(each.expand(rows, -1, -1), chosen_bk) for each in position_embeddings)
        # A token sees those before it in the text that are chosen too; and itself, so that softmax has something.
        order = chosen_bk[:, :, None] >= chosen_bk[:, None, :]
        itself = torch.eye(count, dtype=torch.bool, device=order.device)
        allowed = (order & is_chosen.gather(1, chosen_bk)[:, None, :] | itself)[:, None]
        if self.self_attn.config._attn_implementation == "eager":
            low = torch.finfo(hidden_bkd.dtype).min
            allowed = torch.zeros_like(allowed, dtype=hidden_bkd.dtype).masked_fill(~allowed, low)
        kwargs = {**kwargs, "use_cache": False}
        passed: Tensor = super().forward(
            hidden_bkd, attention_mask=allowed, position_embeddings=cos_sin, **kwargs
        )
        return passed


def _pick(each_btd: Tensor, chosen_bk: Tensor) -> Tensor:
    return each_btd.gather(1, chosen_bk[..., None].expand(-1, -1, each_btd.shape[-1]))


def _real(hidden_btd: Tensor, mask: Tensor | None) -> Tensor:
    """Return which tokens are no padding: those that the last token sees, `[b, t]`."""
    if mask is None:
        return torch.ones(hidden_btd.shape[:2], dtype=torch.bool, device=hidden_btd.device)
    last = mask[:, 0, -1, :].expand(hidden_btd.shape[:2])
    return last if last.dtype == torch.bool else last >= 0


class LlamaDepthsForCausalLM(LlamaForCausalLM):  # type: ignore[misc]
    """A Llama with routers in every other block."""

    config_class = LlamaDepthsConfig
    config: LlamaDepthsConfig

    def __init__(self, config: LlamaDepthsConfig) -> None:
        """Make a plain Llama, and every other block anew."""
        super().__init__(config)
        for number in range(1, config.num_hidden_layers, 2):
            self.model.layers[number] = LlamaDepthsLayer(config, number)
        self.post_init()


def register() -> None:
    """Let transformers find the family by its type."""
    AutoConfig.register(LlamaDepthsConfig.model_type, LlamaDepthsConfig, exist_ok=True)
    AutoModelForCausalLM.register(LlamaDepthsConfig, LlamaDepthsForCausalLM, exist_ok=True)


def with_routers(config: Any) -> LlamaDepthsConfig:
    """Return the configuration of a Llama as that of one with routers.

    Raises:
        UserError: (ENVIRONMENT) the model is of another family.
    """
    if config.model_type != "llama":
        raise UserError(
            f"a model of type `{config.model_type}` cannot be converted to mixture-of-depths",
            help="remove `model.mixture_of_depths`",
            code=ExitCode.ENVIRONMENT,
        )
    settings = {key: value for key, value in config.to_dict().items() if key != "model_type"}
    return LlamaDepthsConfig(**{**settings, "architectures": [LlamaDepthsForCausalLM.__name__]})
