"""Rules about rounding, fp8, LoftQ, groups of parameters and averages: what each combination is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tunec.compiler.diagnostics import Diagnostic, Level

Find = Callable[..., tuple[Diagnostic, ...]]
FULL = '[method]\ntype = "full"\n'
LORA = '[method]\ntype = "lora"\n'
GPU = '[launch]\ndevice = "gpu"\n'
NF4 = '[quantization]\ntype = "bitsandbytes"\n'
AWARE = "[quantization_aware]\ngroup_size = 16\n"
FP8 = '[training]\nprecision = "fp8"\n'
LOFTQ = f'{LORA}init = {{ type = "loftq" }}\n'
DECAY = "[training]\nema_decay = 0.9\n"
GROUPS = '[training]\ngroups = [{ pattern = "q_proj", rate_factor = 0.5 }]\n'
ANY_STAGE = "[deepspeed]\nzero_stage = {}\n"

CODES: dict[str, tuple[str, set[str]]] = {
    "rounding": (FULL + AWARE, set()),
    "rounding of blocks": ('[method]\ntype = "freeze"\nblocks = 1\n' + AWARE, set()),
    "rounding in pieces": (FULL + AWARE + ANY_STAGE.format(3), set()),
    "rounding beside adapters": (LORA + AWARE, {"Q613"}),
    "rounding of samples": ('[method]\ntype = "lisa"\n' + AWARE + ANY_STAGE.format(0), {"Q613"}),
    "rounding what is quantized": (FULL + AWARE + NF4, {"Q601"}),
    "rounding in groups of any size": (FULL + "[quantization_aware]\ngroup_size = 24\n", {"Q614"}),
    "fp8": (FULL + FP8 + GPU, set()),
    "fp8 beside adapters": (LORA + FP8 + GPU, set()),
    "fp8 on a CPU": (FULL + FP8, {"R845"}),
    "fp8 in pieces": (FULL + FP8 + GPU + ANY_STAGE.format(3), {"R840"}),
    "fp8 of quantized weights": (LORA + FP8 + GPU + NF4, {"R840"}),
    "fp8 of rounded weights": (FULL + FP8 + GPU + AWARE, {"R840"}),
    "fp8 by torchao": (FULL + FP8 + 'fp8_backend = "torchao"\n' + GPU, set()),
    "fp8 by others": (FULL + FP8 + 'fp8_backend = "transformer-engine"\n' + GPU, {"R840"}),
    "LoftQ": (LOFTQ + NF4, set()),
    "LoftQ in 8 bit": (LOFTQ + NF4 + "bits = 8\n", set()),
    "LoftQ of nothing": (LOFTQ, {"A827"}),
    "LoftQ of what cannot be read": (LOFTQ + '[quantization]\ntype = "eetq"\n' + GPU, {"A827"}),
    "LoftQ of a quantized checkpoint": (LOFTQ + '[model]\npath = "quantized-model"\n', {"A827"}),
    "LoftQ in pieces": (LOFTQ + NF4 + ANY_STAGE.format(3), {"A826"}),
    "LoftQ twice": (LOFTQ.replace('"loftq"', '"loftq", iterations = 2') + NF4, {"A841"}),
    "LoftQ with magnitudes": (LOFTQ + "dora = true\n" + NF4, {"A841"}),
    "groups": (FULL + GROUPS, set()),
    "groups of adapters": (LORA + GROUPS, set()),
    "groups of the embeddings": (FULL + GROUPS.replace("q_proj", "^model.embed_tokens"), set()),
    "groups of what is frozen": (LORA + GROUPS.replace("q_proj", "embed_tokens"), {"U814"}),
    "groups of nothing": (FULL + GROUPS.replace("q_proj", "quary"), {"U814"}),
    "groups of what is taken": (
        FULL + '[training]\ngroups = [{ pattern = "q_proj" }, { pattern = "self_attn.q" }]\n', {"U814"},
    ),
    "groups of no expression": (FULL + GROUPS.replace("q_proj", "(q"), {"U813"}),
    "groups of LoRA+": (LORA + "b_rate_ratio = 4.0\n" + GROUPS, {"U815"}),
    "groups of Adam-mini": (
        FULL + GROUPS + '[optimizer]\ntype = "adam-mini"\n' + ANY_STAGE.format(0), {"U815"},
    ),
    "average": (LORA + DECAY, set()),
    "average of pieces": (LORA + DECAY + ANY_STAGE.format(3), {"U816"}),
    "average of ranks that move": ('[method]\ntype = "adalora"\n' + DECAY, {"U816"}),
    "average of an average": (
        FULL + DECAY + '[optimizer]\ntype = "transformers"\nname = "schedule_free_adamw"\n' + ANY_STAGE.format(0),
        {"U816"},
    ),
    "Muon in pieces": (
        FULL + '[optimizer]\ntype = "muon"\n[training]\nmax_grad_norm = 0.0\n' + ANY_STAGE.format(2), set(),
    ),
    "Muon clipped in pieces": (FULL + '[optimizer]\ntype = "muon"\n' + ANY_STAGE.format(2), {"U803"}),
    "Muon on the host": (
        FULL + '[optimizer]\ntype = "muon"\n[training]\nmax_grad_norm = 0.0\n' + ANY_STAGE.format(2)
        + 'offload_optimizer = "cpu"\n',
        {"U806"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CODES)
def test_codes(name: str, found: Find) -> None:
    """Each combination runs, or is refused by the rule that says why."""
    text, expected = CODES[name]
    assert {item.code for item in found(text) if item.level is Level.ERROR} == expected
