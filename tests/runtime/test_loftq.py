"""LoftQ: adapters that make up for what quantizing loses, and belong to the model as every program quantizes it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

import inprocess
import runs
import tiny
from tunec.runtime import models
from tunec.runtime.errors import UserError
from tunec.runtime.models.adapters.loftq import low_rank
from tunec.runtime.models.quantization import dense_weight_of
from tunec.runtime.models.variants import load_trained

IDS = torch.tensor([[5, 60, 7, 200, 9, 10]])
RUN = """
[data]
shuffle = false
[training]
steps = 3
learning_rate = 1e-3
[batch]
global_size = 4
micro_size = 4
"""
KINDS = {
    "nf4": ('[quantization]\ntype = "bitsandbytes"\nbits = 4\ndouble = true\n', {"bits": 4, "double": True}),
    "int8": ('[quantization]\ntype = "bitsandbytes"\nbits = 8\n', {"bits": 8}),
}  # fmt: skip
LOFTQ = '[method]\ntype = "lora"\nrank = 16\nalpha = 24.0\ninit = { type = "loftq" }\n'


@pytest.fixture(scope="module")
def room(tmp_path_factory: Any, tiny_model: Path) -> Path:
    """A folder with a model and data for many runs; weights are large enough for their rounding to count."""
    workspace: Path = tmp_path_factory.mktemp("loftq")
    shutil.copytree(tiny_model, workspace / "model")
    file = workspace / "model" / "model.safetensors"
    weights = {n: v if "norm" in n else 8 * v for n, v in load_file(file).items()}
    save_file(weights, file, metadata={"format": "pt"})
    tiny.write_chats(workspace / "data" / "chat.jsonl", 24)
    return workspace


def trained(room: Path, text: str, name: str) -> tuple[Path, Any]:
    """Return the folder of a finished run and its trainer."""
    run_dir = inprocess.compiled(room, text + RUN, name)
    inprocess.prepare(run_dir)
    return run_dir, inprocess.train(run_dir)


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    """Return the logits of a few tokens."""
    found: torch.Tensor = model.eval()(input_ids=IDS, use_cache=False).logits
    return found


def test_low_rank_is_the_best_one() -> None:
    """What is left of a residual are the singular values behind the rank (Eckart and Young)."""
    residual = torch.randn(24, 16)
    values = torch.linalg.svdvals(residual)
    for rank in (1, 4, 16):
        b, a = low_rank(residual, rank=rank)
        assert (b.shape, a.shape) == ((24, rank), (rank, 16))
        left = (residual - b @ a).norm()
        torch.testing.assert_close(left, values[rank:].norm(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("bits", [4, 8])
def test_layers(tiny_model: Path, bits: Any) -> None:
    """In every layer `Q + s B A` is nearer to `W` than `Q`, the more so the higher the rank; `Q` stays as it is."""
    base = models.Base(tiny_model, quantization=models.BitsAndBytes(bits=bits, dtype="fp32"))
    whole = models.load_causal_lm(tiny_model, dtype="fp32")
    errors: dict[int, list[float]] = {}
    for rank in (0, 2, 8):
        model = models.load_causal_lm(base, dtype="fp32")
        before = {n: dense_weight_of(m)() for n, m in model.named_modules() if dense_weight_of(m)}  # type: ignore[misc]
        assert len(before) == 14
        config = LoraConfig(
            target_modules="all-linear", r=max(rank, 1), lora_alpha=3, use_rslora=True
        )
        adapted = get_peft_model(model, config)
        if rank:
            models.start_from_loss(adapted, whole)
        errors[rank] = []
        for name, layer in adapted.base_model.model.named_modules():
            if hasattr(layer, "lora_A"):
                rounded = dense_weight_of(layer.get_base_layer())()  # type: ignore[misc]
                assert torch.equal(rounded, before[name])
                update = layer.get_delta_weight("default").detach()
                left = whole.get_submodule(name).weight - rounded - update
                errors[rank].append(float(left.detach().norm()))
    assert all(a > b > c for a, b, c in zip(*errors.values(), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_run(room: Path, kind: str) -> None:
    """The first loss is nearer to that of the whole model than QLoRA's; the adapter reloads on the base as it is loaded."""
    text, settings = KINDS[kind]
    run_dir, trainer = trained(room, LOFTQ + text, f"{kind}-loftq")
    plain, _ = trained(
        room, LOFTQ.replace('init = { type = "loftq" }\n', "") + text, f"{kind}-plain"
    )
    whole, _ = trained(room, '[method]\ntype = "lora"\nrank = 16\n', f"{kind}-whole")
    first, rounded, exact = (runs.losses(each)[0] for each in (run_dir, plain, whole))
    assert abs(first - exact) < 0.5 * abs(rounded - exact)
    base = models.Base(room / "model", quantization=models.BitsAndBytes(**settings, dtype="fp32"))  # type: ignore[arg-type]
    again = load_trained(run_dir / "final", base=base, method="lora", dtype="fp32")
    torch.testing.assert_close(logits(again), logits(trainer.model), rtol=0, atol=1e-6)


def test_nothing_is_quantized(tiny_model: Path) -> None:
    """Without quantized layers there is nothing to make up for."""
    model = models.load_causal_lm(tiny_model, dtype="fp32")
    adapted = get_peft_model(model, LoraConfig(target_modules="all-linear", r=2))
    with pytest.raises(UserError, match="no layer with an adapter is quantized"):
        models.start_from_loss(adapted, model)
