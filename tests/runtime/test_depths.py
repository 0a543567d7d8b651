"""Mixture-of-Depths: equal to the paper's formula written as a loop over tokens; saved, loaded, trained."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

import inprocess
import runs
import tiny
from tunec.compiler.pipeline import analyse, plan_of
from tunec.runtime import models
from tunec.runtime.errors import UserError
from tunec.runtime.models.variants import whole

IDS = (torch.arange(40)[None] * 37 + torch.tensor([[5], [90]])) % 250
MASK = torch.ones_like(IDS)
MASK[1, 29:] = 0


@pytest.fixture(params=["sdpa", "eager"])
def model(request: pytest.FixtureRequest, tiny_model: Path) -> Any:
    """A tiny Llama, converted: its second block has a router with weights that matter."""
    base = models.Base(tiny_model, attention=request.param, mixture_of_depths="convert")
    converted = models.load_causal_lm(base, dtype="fp32")
    torch.manual_seed(1)
    for name, parameter in converted.named_parameters():
        if "router" in name:
            parameter.data.normal_(0, 0.0 if name.endswith("bias") else 0.5)
    return converted


def inputs_of(model: Any, **inputs: Any) -> tuple[Tensor, Tensor]:
    """What the block with a router gets and what it makes of it."""
    seen: list[Tensor] = []
    layer = model.model.layers[1]
    hook = layer.register_forward_hook(
        lambda _, args, output: seen.extend((args[0].detach(), output.detach()))
    )
    model(**inputs, use_cache=False)
    hook.remove()
    return seen[0], seen[1]


def by_hand(model: Any, hidden_td: Tensor, chosen: list[int]) -> Tensor:
    """Equation 1 of the paper for one text: chosen tokens get `r f(x~) + x`, the others x.

    The block is computed by the plain model's modules on the chosen tokens, each at its own position.
    """
    layer = model.model.layers[1]
    positions = torch.tensor(chosen)
    cos, sin = model.model.rotary_emb(hidden_td[None], positions[None])
    picked = hidden_td[positions][None]
    count = len(chosen)
    attention = layer.self_attn
    normed = layer.input_layernorm(picked)

    def heads(linear: Any, number: int) -> Tensor:
        split: Tensor = linear(normed).view(count, number, 8).transpose(0, 1)
        return split

    def rotated(each: Tensor) -> Tensor:
        turned = torch.cat([-each[..., 4:], each[..., :4]], -1)
        return each * cos[0] + turned * sin[0]

    query, key = rotated(heads(attention.q_proj, 4)), rotated(heads(attention.k_proj, 2))
    key, value = key.repeat_interleave(2, 0), heads(attention.v_proj, 2).repeat_interleave(2, 0)
    scores = (query @ key.transpose(1, 2) / math.sqrt(8)).masked_fill(
        torch.ones(count, count, dtype=torch.bool).triu(1), -torch.inf
    )
    mixed = attention.o_proj((scores.softmax(-1) @ value).transpose(0, 1).reshape(1, count, 32))
    middle = picked + mixed
    gain = mixed + layer.mlp(layer.post_attention_layernorm(middle))
    weight = 1 + hidden_td[positions] @ layer.router.weigh.weight[0]
    output = hidden_td.clone()
    output[positions] += weight[:, None] * gain[0]
    return output


@torch.no_grad()
def test_training_equals_the_formula(model: Any) -> None:
    """An eighth of the tokens pass, those with the largest weights of each text; padding never does."""
    hidden, output = inputs_of(model.train(), input_ids=IDS, attention_mask=MASK)
    for row, length in enumerate((40, 29)):
        weights = hidden[row, :length] @ model.model.layers[1].router.weigh.weight[0]
        chosen = sorted(weights.topk(5).indices.tolist())
        expected = by_hand(model, hidden[row], chosen)
        assert torch.allclose(output[row], expected, atol=1e-5)
        skipped = [number for number in range(40) if number not in chosen]
        assert torch.equal(output[row, skipped], hidden[row, skipped])


@torch.no_grad()
def test_evaluation_equals_the_formula(model: Any) -> None:
    """Outside of training a token passes when the small network says so, from the token alone."""
    hidden, output = inputs_of(model.eval(), input_ids=IDS, attention_mask=MASK)
    for row, length in enumerate((40, 29)):
        foretold = model.model.layers[1].router.foretell(hidden[row, :length])[:, 0]
        chosen = (foretold > 0).nonzero()[:, 0].tolist()
        assert 0 < len(chosen) < length
        assert torch.allclose(output[row], by_hand(model, hidden[row], chosen), atol=1e-5)


@torch.no_grad()
def test_no_token_sees_what_follows(model: Any) -> None:
    """Evaluated, a text has the logits that its beginning has alone: generation can go by them."""
    whole_text = model.eval()(input_ids=IDS, use_cache=False).logits
    beginning = model(input_ids=IDS[:, :17], use_cache=False).logits
    assert torch.allclose(whole_text[:, :17], beginning, atol=1e-5)
    with pytest.raises(UserError, match="does not go with a cache"):
        model(input_ids=IDS, use_cache=True)


def test_only_the_small_network_learns_to_foretell(model: Any) -> None:
    """Its loss is cross-entropy against what was chosen; the loss of the text does not reach it, nor its loss the text."""
    hidden, _ = inputs_of(model.train(), input_ids=IDS)
    router = model.model.layers[1].router
    model(input_ids=IDS, use_cache=False).logits.square().sum().backward()
    found = [p.grad.clone() for p in router.foretell.parameters()]
    assert float(router.weigh.weight.grad.abs().sum()) > 0
    chosen = (hidden @ router.weigh.weight[0]).topk(5, dim=-1).indices
    labels = torch.zeros(2, 40).scatter(1, chosen, 1.0)
    model.zero_grad()
    loss = functional.binary_cross_entropy_with_logits(router.foretell(hidden)[..., 0], labels)
    loss.backward()
    for gradient, parameter in zip(found, router.foretell.parameters(), strict=True):
        assert torch.allclose(gradient, parameter.grad, atol=1e-6)


def test_saved_and_loaded(model: Any, tiny_model: Path, tmp_path: Path) -> None:
    """A converted model is loaded with its routers by tunec, and by nobody else as a plain Llama."""
    model.save_pretrained(str(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "llama_mixture_of_depths"
    converted = models.Base(tiny_model, mixture_of_depths="convert")
    assert whole(converted, tmp_path) == models.Base(tmp_path, mixture_of_depths="load")
    again = models.load_causal_lm(whole(converted, tmp_path), dtype="fp32").eval()
    before = model.eval()(input_ids=IDS, use_cache=False).logits
    assert torch.allclose(again(input_ids=IDS, use_cache=False).logits, before, atol=1e-6)
    with pytest.raises(UserError, match="of type `llama` was not converted"):
        models.load_causal_lm(models.Base(tiny_model, mixture_of_depths="load"), dtype="fp32")


@pytest.mark.heavy
def test_a_run(workspace: Path) -> None:
    """A converted model trains with recomputed blocks, its loss falls, and it is what is loaded afterwards."""
    tiny.make_model(workspace / "model", layers=4)
    run_dir = inprocess.compiled(
        workspace,
        '[model]\nmixture_of_depths = "convert"\n[method]\ntype = "full"\n[data]\neval_rows = 4\n'
        "[training]\ngradient_checkpointing = true\n[generation]\nkv_cache = false\n",
    )
    inprocess.prepare(run_dir)
    inprocess.train(run_dir)
    report = json.loads((run_dir / "report.json").read_text())
    added = 2 * (32 + (32 * 16 + 16) + (16 + 1))
    weights = load_file(workspace / "model" / "model.safetensors").values()
    assert report["parameters"] == sum(w.numel() for w in weights) + added
    planned = plan_of(analyse(workspace / "first.toml", {})).parameters
    assert planned is not None
    assert (planned.total, planned.trainable) == (
        report["parameters"], report["trainable_parameters"],
    )  # fmt: skip
    losses = runs.losses(run_dir)
    assert losses[-1] < losses[0]
    base = models.Base(run_dir / "final", mixture_of_depths="load")
    model = models.load_causal_lm(base, dtype="fp32").eval()
    assert [hasattr(layer, "router") for layer in model.model.layers] == [False, True] * 2
