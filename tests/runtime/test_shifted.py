"""Shifted sparse attention: equal to the formula of the paper, and plain attention everywhere but in training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tunec.runtime import models
from tunec.runtime.errors import ExitCode, UserError
from tunec.runtime.models.structure.shifted import _eager, _sdpa, attend_in_groups

B, N, H, D = 2, 32, 4, 8
G = N // 4


def self_attention(qkv: Tensor) -> Tensor:
    """Causal attention of `[B, N, 3, H, D]`."""
    query, key, value = (each.transpose(1, 2) for each in qkv.unbind(2))
    scores = query @ key.transpose(-1, -2) * D**-0.5
    hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return (scores.masked_fill(hidden, -torch.inf).softmax(-1) @ value).transpose(1, 2).contiguous()


def paper(qkv: Tensor) -> Tensor:
    """Algorithm 1 of the paper (arXiv:2309.12307), line by line."""
    qkv = torch.cat((qkv.chunk(2, 3)[0], qkv.chunk(2, 3)[1].roll(-G // 2, 1)), 3).view(
        B * N // G, G, 3, H, D
    )
    out = self_attention(qkv)
    out = out.view(B, N, H, D)
    return torch.cat((out.chunk(2, 2)[0], out.chunk(2, 2)[1].roll(G // 2, 1)), 2)


def mine(qkv: Tensor, attend: Any, mask: Tensor | None = None) -> Tensor:
    query, key, value = (each.transpose(1, 2) for each in qkv.unbind(2))
    return attend_in_groups(query, key, value, mask, attend, 0.0, D**-0.5).transpose(1, 2)


@pytest.mark.parametrize("attend", [_sdpa, _eager])
@pytest.mark.parametrize("is_masked", [False, True])
def test_equal_to_the_paper(attend: Any, is_masked: bool) -> None:
    """All tokens have what the paper's algorithm gives; but the first of the text do not see its end."""
    torch.manual_seed(0)
    qkv = torch.randn(B, N, 3, H, D)
    mask = torch.ones(N, N, dtype=torch.bool).tril().expand(B, 1, N, N) if is_masked else None
    found, expected = mine(qkv, attend, mask), paper(qkv)
    assert torch.allclose(found[:, :, : H // 2], expected[:, :, : H // 2], atol=1e-6)
    assert torch.allclose(found[:, G // 2 :], expected[:, G // 2 :], atol=1e-6)
    start = self_attention(qkv[:, : G // 2])
    assert torch.allclose(found[:, : G // 2], start, atol=1e-6)
    assert not torch.allclose(expected[:, : G // 2], start, atol=1e-3)


@pytest.fixture(params=["sdpa", "eager"])
def model(request: pytest.FixtureRequest, tiny_model: Path) -> Any:
    """A tiny Llama with shifted attention."""
    base = models.Base(tiny_model, attention=request.param, shifted_attention=True)
    return models.load_causal_lm(base, dtype="fp32")


def test_no_token_sees_what_follows(model: Any) -> None:
    """The gradient of a token's logits reaches no later token."""
    seen = model.train().model.embed_tokens.weight[torch.arange(N)[None] + 9].detach()
    seen.requires_grad_(True)
    for position in (0, 2, 5, 17, N - 1):
        (gradient,) = torch.autograd.grad(
            model(inputs_embeds=seen, use_cache=False).logits[0, position].sum(), seen
        )
        reached = gradient[0].abs().sum(-1) > 0
        assert not reached[position + 1 :].any()
        assert reached[position]


def test_padding_changes_nothing(model: Any) -> None:
    """What stands in padding, a whole group of it, leaves the logits and gradients of the text as they are."""
    ids = torch.arange(N)[None].repeat(2, 1) + 9
    mask = torch.ones_like(ids)
    mask[:, 20:] = 0
    ids[1, 20:] = 3
    logits = model.train()(input_ids=ids, attention_mask=mask, use_cache=False).logits
    assert torch.allclose(logits[0, :20], logits[1, :20], atol=1e-6)
    logits[:, :20].sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters())


def test_plain_outside_of_training(model: Any, tiny_model: Path, tmp_path: Path) -> None:
    """Evaluation and generation attend to everything, and the saved model is a plain Llama."""
    ids = torch.arange(N)[None] + 9
    plain = models.load_causal_lm(tiny_model, dtype="fp32").eval()
    assert torch.allclose(model.eval()(ids).logits, plain(ids).logits, atol=1e-5)
    assert not torch.allclose(model.train()(ids).logits, plain(ids).logits, atol=1e-3)
    answer = model.eval().generate(ids, max_new_tokens=5, do_sample=False)
    assert torch.equal(answer, plain.generate(ids, max_new_tokens=5, do_sample=False))
    model.save_pretrained(str(tmp_path))
    assert (tmp_path / "config.json").read_text() == (tiny_model / "config.json").read_text()
    assert "shifted" not in json.dumps(model.config.to_dict())
    assert model.config._attn_implementation.startswith("shifted_")


def test_checkpointing_recomputes_the_same(tiny_model: Path) -> None:
    """Recomputed blocks attend as they did at first."""
    ids, gradients = torch.arange(N)[None] + 9, []
    for is_recomputed in (False, True):
        base = models.Base(tiny_model, shifted_attention=True)
        model = models.load_causal_lm(base, dtype="fp32").train()
        model = models.train_all(model)
        if is_recomputed:
            models.recompute_activations(model)
        model(input_ids=ids, use_cache=False).logits.square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(map(torch.equal, *gradients))


def test_lengths_that_do_not_divide(model: Any) -> None:
    """A row that cannot be cut is refused, not attended otherwise."""
    with pytest.raises(UserError, match="30 tokens does not divide") as caught:
        model.train()(input_ids=torch.arange(30)[None])
    assert caught.value.code is ExitCode.DATA


def test_other_families(tmp_path: Path) -> None:
    """A model that is no Llama is refused."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(str(tmp_path))
    with pytest.raises(UserError, match="does not go with models of type `qwen2`"):
        models.load_causal_lm(models.Base(tmp_path, shifted_attention=True), dtype="fp32")
