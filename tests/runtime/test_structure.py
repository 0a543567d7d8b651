"""Noise, number formats and watching: equal to the formulas, off where they must be off."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from tunec.runtime import models
from tunec.runtime.errors import ExitCode, UserError
from tunec.runtime.models.structure.numerics import is_norm
from tunec.runtime.objectives.head import fuse_head

IDS = torch.tensor([[5, 60, 7, 200, 9, 10], [8, 90, 44, 2, 2, 2]])
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])


def load(path: Path, dtype: Any = "fp32", **settings: Any) -> Any:
    return models.load_causal_lm(models.Base(path, **settings), dtype=dtype)


# NEFTune


def embedded(model: Any, **inputs: Any) -> torch.Tensor:
    """What the first block gets."""
    seen: list[torch.Tensor] = []
    hook = model.model.layers[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    torch.manual_seed(3)
    model(**inputs, use_cache=False)
    hook.remove()
    return seen[0].detach()


def noise(rows: int, length: int, width: int) -> torch.Tensor:
    """The uniform numbers from -1 to 1 that come first after the seed."""
    torch.manual_seed(3)
    return torch.rand(rows, length, width) * 2 - 1


def test_noise_of_padded_samples(tiny_model: Path) -> None:
    """The noise is uniform in alpha / sqrt(L d) with the length of each sample; padding gets none."""
    model = load(tiny_model).train()
    models.add_embedding_noise(model, alpha=5.0)
    plain = model.model.embed_tokens.weight[IDS].detach()
    expected = noise(2, 6, 32)
    expected[0] *= 5.0 / math.sqrt(6 * 32)
    expected[1] *= 5.0 / math.sqrt(3 * 32)
    expected[1, 3:] = 0
    found = embedded(model, input_ids=IDS, attention_mask=MASK) - plain
    assert torch.allclose(found, expected, atol=1e-6)


def test_noise_of_samples_in_one_row(tiny_model: Path) -> None:
    """In a packed row each sample has the noise of its own length."""
    model = load(tiny_model).train()
    models.add_embedding_noise(model, alpha=5.0)
    positions = torch.tensor([[0, 1, 0, 1, 2, 3]])
    expected = noise(1, 6, 32)
    expected[0, :2] *= 5.0 / math.sqrt(2 * 32)
    expected[0, 2:] *= 5.0 / math.sqrt(4 * 32)
    plain = model.model.embed_tokens.weight[IDS[:1]].detach()
    found = embedded(model, input_ids=IDS[:1], position_ids=positions) - plain
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("adapted", [False, True])
def test_no_noise_in_evaluation(tiny_model: Path, adapted: bool) -> None:
    """An evaluated model answers as without noise, also inside an adapter and with checkpointing."""
    model = load(tiny_model)
    if adapted:
        model = models.add_lora(model, rank=2, alpha=4, dropout=0.0, targets="all-linear")
        models.recompute_activations(model)
    before = model.eval()(input_ids=IDS, attention_mask=MASK).logits
    models.add_embedding_noise(model, alpha=5.0)
    assert torch.equal(model(input_ids=IDS, attention_mask=MASK).logits, before)
    noisy = model.train()(input_ids=IDS, attention_mask=MASK).logits
    assert not torch.allclose(noisy, before, atol=1e-3)


# Number formats


def test_norms_in_fp32(tiny_model: Path) -> None:
    """Norms compute in fp32 with fp32 weights, though an engine casts all weights to bf16 after loading."""
    model = load(tiny_model, "bf16", fp32_norms=True).requires_grad_(False)
    kept = torch.linspace(0.5, 1.5, 32)  # not exact in bf16
    norms = [module for module in model.modules() if is_norm(module)]
    assert len(norms) == 5
    for norm in norms:
        norm.tunec_fp32["weight"] = norm.weight.data = kept.clone()
    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)
    hidden = torch.randn(2, 3, 32).to(torch.bfloat16)
    found = norms[0](hidden)
    wide = hidden.float()
    expected = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6) * kept
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected.to(torch.bfloat16))
    model(input_ids=IDS)
    assert {norm.weight.dtype for norm in norms} == {torch.float32}
    assert all(torch.equal(norm.weight, kept) for norm in norms)
    assert model.model.layers[0].mlp.up_proj.weight.dtype == torch.bfloat16


def test_logits_in_fp32(tiny_model: Path) -> None:
    """The head multiplies bf16 numbers and keeps all bits of the sums."""
    model = load(tiny_model, "bf16", fp32_logits=True).eval()
    last = model.model(input_ids=IDS).last_hidden_state
    logits = model(input_ids=IDS).logits
    assert logits.dtype == torch.float32
    assert torch.equal(logits, last.float() @ model.lm_head.weight.float().T)
    assert not torch.equal(logits, load(tiny_model, "bf16").eval()(input_ids=IDS).logits.float())
    copied = copy.deepcopy(model.lm_head)
    copied.weight.data.zero_()
    assert not copied(last).any()


def test_fused_loss_in_fp32(tiny_model: Path) -> None:
    """The fused loss is that of logits in fp32, with its gradients."""
    model = load(tiny_model, "bf16", fp32_logits=True)
    logits = model(input_ids=IDS).logits
    expected = functional.cross_entropy(logits.flatten(0, 1), IDS.flatten(), reduction="sum")
    expected.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    head = fuse_head(model)
    assert head is not None
    with head.targets(IDS):
        loss = model(input_ids=IDS).logits
    loss.backward()
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter.grad, gradients[name], rtol=2e-2, atol=1e-2), name


# Memory, bits, overflow


@pytest.mark.parametrize("reentrant", [False, True])
def test_offloading_changes_no_number(tiny_model: Path, reentrant: bool) -> None:
    """Loss and gradients are the same bits with and without offloading."""
    results = []
    for is_offloaded in (False, True):
        model = models.train_all(load(tiny_model))
        models.recompute_activations(model, reentrant=reentrant)
        if is_offloaded:
            models.offload_activations(model)
        model.train()(input_ids=IDS, use_cache=False).logits.square().sum().backward()
        results.append([parameter.grad for parameter in model.parameters()])
    assert all(map(torch.equal, *results))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_offloading_saves_memory(tiny_model: Path) -> None:
    """On a GPU, what is kept between the passes is smaller by the inputs of the blocks, and gradients are the same."""
    kept, gradients = [], []
    for is_offloaded in (False, True):
        model = models.train_all(load(tiny_model)).cuda().train()
        models.recompute_activations(model)
        if is_offloaded:
            models.offload_activations(model)
        before = torch.cuda.memory_allocated()
        loss = model(input_ids=IDS.repeat(64, 60).cuda(), use_cache=False).logits.square().mean()
        kept.append(torch.cuda.memory_allocated() - before)
        loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert kept[1] < kept[0]
    assert all(torch.allclose(a, b) for a, b in zip(*gradients, strict=True))


@pytest.fixture
def _numerics() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("_numerics")
def test_deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operation that has no deterministic form is refused."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    models.set_numerics(deterministic=True)
    with pytest.raises(RuntimeError, match="deterministic"):
        torch.zeros(4).put_(torch.tensor([1, 1]), torch.tensor([1.0, 2.0]), accumulate=False)


def test_the_module_that_overflows_is_named(tiny_model: Path) -> None:
    """The first module with an infinite output ends the run, with its name and the state of its inputs."""
    model = load(tiny_model).train()
    models.watch_overflow(model)
    model(input_ids=IDS).logits.sum().backward()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 4] = math.inf
    with pytest.raises(UserError) as caught:
        model(input_ids=IDS)
    assert caught.value.message == (
        "`model.layers.1.mlp.up_proj` gives values that overflow from inputs that do not"
    )
    assert caught.value.code is ExitCode.TRAINING


def test_the_gradient_that_overflows_is_named(tiny_model: Path) -> None:
    """A loss whose gradient is no number names the first parameter that it reaches."""
    model = load(tiny_model).train()
    models.watch_overflow(model)
    with pytest.raises(UserError, match=r"the gradient of `.*weight` overflows"):
        (model(input_ids=IDS).logits.sum() * math.inf).backward()
