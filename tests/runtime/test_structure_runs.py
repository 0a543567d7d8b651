"""Structure and numbers in whole runs: they reach the engine, and a resumed run equals the uninterrupted one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import inprocess
import runs

pytestmark = pytest.mark.heavy

NOISY = """
[model]
attention = "eager"
rope = { type = "yarn", factor = 2.0 }
[data]
max_length = 600
eval_rows = 4
[training]
steps = 4
neftune_alpha = 15.0
deterministic = true
detect_anomalies = true
gradient_checkpointing = true
[checkpoints]
every_steps = 2
"""


@pytest.fixture
def _numerics() -> object:
    import torch

    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("_numerics")
def test_noise_resumes(workspace: Path) -> None:
    """Noise goes on from the checkpoint bit for bit, and the final model carries its positions."""
    whole = inprocess.compiled(workspace, NOISY + '[method]\ntype = "full"\n', "whole")
    inprocess.prepare(whole)
    inprocess.train(whole)
    parts = inprocess.compiled(workspace, NOISY + '[method]\ntype = "full"\n', "parts")
    inprocess.prepare(parts)
    inprocess.train(parts, stop_after=2)
    inprocess.train(parts, resume=True)
    assert runs.exact_numbers(parts) == runs.exact_numbers(whole)
    assert runs.weights_digest(parts) == runs.weights_digest(whole)
    config = json.loads((whole / "final" / "config.json").read_text())
    assert config["rope_parameters"]["rope_type"] == "yarn"
    assert config["max_position_embeddings"] == 1024
    assert json.loads((whole / "report.json").read_text())["attention"] == "eager"
    quiet = NOISY.replace("neftune_alpha = 15.0\n", "") + '[method]\ntype = "full"\n'
    other = inprocess.compiled(workspace, quiet, "quiet")
    inprocess.prepare(other)
    inprocess.train(other)
    assert runs.losses(other)[0] != runs.losses(whole)[0]


def test_parts_in_fp32(workspace: Path) -> None:
    """Under DeepSpeed with bf16, norms keep fp32 weights and the loss comes from logits in fp32."""
    import torch

    from tunec.runtime.models.structure.numerics import is_norm

    run_dir = inprocess.compiled(
        workspace,
        "[model]\nfp32_norms = true\nfp32_logits = true\n[training]\nprecision = 'bf16'\n"
        "[deepspeed]\nzero_stage = 2\n",
    )
    inprocess.prepare(run_dir)
    model = inprocess.train(run_dir).model
    norms = [module for module in model.modules() if is_norm(module)]
    assert {norm.weight.dtype for norm in norms} == {torch.float32}
    others = {p.dtype for n, p in model.named_parameters() if "norm" not in n}
    assert others == {torch.bfloat16}
    ids = torch.tensor([[5, 60, 7]])
    assert model(input_ids=ids).logits.dtype == torch.float32
    assert len(runs.losses(run_dir)) == 4


def test_shifted_attention_trains(workspace: Path) -> None:
    """Rows of uneven length train in shifted groups, evaluate in full, and the report names it."""
    run_dir = inprocess.compiled(
        workspace,
        "[model]\nshifted_attention = true\n[data]\npad_multiple = 8\neval_rows = 4\n",
    )
    inprocess.prepare(run_dir)
    inprocess.train(run_dir)
    assert json.loads((run_dir / "report.json").read_text())["attention"] == "shifted_sdpa"
    plain = inprocess.compiled(workspace, "[data]\npad_multiple = 8\neval_rows = 4\n", "plain")
    inprocess.prepare(plain)
    inprocess.train(plain)
    assert runs.losses(run_dir)[0] != runs.losses(plain)[0]
    assert runs.losses(run_dir)[-1] < runs.losses(run_dir)[0]
