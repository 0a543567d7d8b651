"""Faster code: the same numbers, the library that was asked for, or a refusal."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

import inprocess
import runs
from tunec.runtime import models
from tunec.runtime.errors import ExitCode, UserError
from tunec.runtime.models.structure.kernels import check_attention

IDS = torch.tensor([[5, 60, 7, 200, 9, 10]])


def load(path: Path, **settings: Any) -> Any:
    return models.load_causal_lm(models.Base(path, **settings), dtype="fp32")


# Attention


@pytest.mark.parametrize("attention", ["flash2", "flash3"])
@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without FlashAttention")
def test_attention_that_is_not_there(tiny_model: Path, attention: str) -> None:
    """A missing implementation is one line, and no other takes its place."""
    with pytest.raises(UserError, match="FlashAttention") as caught:
        load(tiny_model, attention=attention)
    assert caught.value.code is ExitCode.ENVIRONMENT


def test_never_another_attention(tiny_model: Path) -> None:
    """A library that chooses by itself is found out."""
    model = load(tiny_model, attention="eager")
    check_attention(model, "eager")
    with pytest.raises(UserError, match="would attend by `eager`, not by `flash2`"):
        check_attention(model, "flash2")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("attention", ["flash2", "flex"])
def test_attention_of_a_gpu(tiny_model: Path, attention: str) -> None:
    """On a GPU the logits equal those of eager attention, up to rounding."""
    if attention == "flash2":
        pytest.importorskip("flash_attn")
    base = models.Base(tiny_model, attention=attention)
    model = models.load_causal_lm(base, dtype="bf16").cuda().eval()
    plain = models.load_causal_lm(models.Base(tiny_model, attention="eager"), dtype="bf16")
    found, expected = model(IDS.cuda()).logits.cpu(), plain.eval()(IDS).logits
    assert torch.allclose(found, expected, atol=2e-2)


# torch.compile


@pytest.mark.parametrize("checkpointing", [False, True])
def test_compiled_blocks(tiny_model: Path, checkpointing: bool) -> None:
    """Compiled blocks have the gradients and the names of the plain ones, under an adapter and recomputed too."""
    results, compiled = [], []

    def backend(graph: Any, inputs: Any) -> Any:
        compiled.append(graph)
        return graph.forward

    for is_compiled in (False, True):
        torch.manual_seed(0)
        model = models.add_lora(
            load(tiny_model), rank=2, alpha=4, dropout=0.0, targets="all-linear"
        )
        if checkpointing:
            models.recompute_activations(model)
        if is_compiled:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(torch._dynamo, "list_backends", lambda **_: [backend])
                models.compile_blocks(model, backend=backend)  # type: ignore[arg-type]
        model.train()(input_ids=IDS, use_cache=False).logits.square().sum().backward()
        results.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    assert compiled
    assert results[0].keys() == results[1].keys()
    for name, gradient in results[0].items():
        assert torch.allclose(gradient, results[1][name], atol=1e-5), name


def test_unknown_backend(tiny_model: Path) -> None:
    """A backend that torch does not know is refused by its name."""
    with pytest.raises(UserError, match="no backend `indcutor`"):
        models.compile_blocks(load(tiny_model), backend="indcutor")


@pytest.mark.heavy
def test_compiled_run(workspace: Path) -> None:
    """A run with compiled blocks has the losses of the plain one."""
    losses = []
    for name, text in (
        ("plain", ""),
        ("compiled", "[kernels]\ncompile = true\ncompile_backend = 'aot_eager'\n"),
    ):
        run_dir = inprocess.compiled(workspace, "[data]\npad_multiple = 128\n" + text, name)
        inprocess.prepare(run_dir)
        inprocess.train(run_dir)
        losses.append(runs.losses(run_dir))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


# Liger


def test_liger_is_missing(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package, the message names it."""
    monkeypatch.setitem(sys.modules, "liger_kernel", None)
    with pytest.raises(UserError, match="needs a package") as caught:
        models.use_liger(load(tiny_model))
    assert caught.value.help == "pip install liger-kernel"


def test_liger_is_asked_for_no_loss(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels that are named go to the library; those of the loss are off, which the runtime fuses itself."""
    asked: dict[str, Any] = {}
    patch = SimpleNamespace(
        MODEL_TYPE_TO_APPLY_LIGER_FN={"llama": None},
        _apply_liger_kernel_to_instance=lambda **given: asked.update(given),
    )
    package = ModuleType("liger_kernel.transformers")
    package.monkey_patch = patch  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "liger_kernel", ModuleType("liger_kernel"))
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", package)
    model = load(tiny_model)
    models.use_liger(model, rope=False)
    assert asked == {
        "model": model, "rope": False, "cross_entropy": False, "fused_linear_cross_entropy": False,
    }  # fmt: skip
    model.config.model_type = "bespoke"
    with pytest.raises(UserError, match="no kernels for models of type `bespoke`"):
        models.use_liger(model)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_liger_on_a_gpu(tiny_model: Path) -> None:
    """Liger's kernels give the logits of the plain model."""
    pytest.importorskip("liger_kernel")
    model = load(tiny_model).cuda().eval()
    before = model(IDS.cuda()).logits
    models.use_liger(model)
    assert torch.allclose(model(IDS.cuda()).logits, before, atol=1e-3)
