"""Training by the real engine: equal to an independent loop, for every stage, method and number of processes."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

import runs
from tunec.runtime import data, models
from tunec.runtime.data.batches import GlobalBatches, collate, lengths_of

pytestmark = pytest.mark.heavy

STEPS, GLOBAL = 4, 4
SHAPES = [(1, 0), (1, 2), (1, 3), (2, 0), (2, 1), (2, 2), (2, 3)]


@pytest.fixture(scope="module", params=["lora", "full"])
def reference(request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: Any) -> Any:
    """Losses and final weights of a loop written by hand: whole logits, one batch a step, torch's AdamW."""
    import tiny

    folder = tmp_path_factory.mktemp("reference")
    tiny.write_chats(folder / "chat.jsonl", 24)
    tokenizer = models.load_tokenizer(tiny_model)
    samples = data.tokenize(
        data.read([data.Messages(path=folder / "chat.jsonl", name="chat")]),
        tokenizer=tokenizer, loss_on="assistant", max_length=128, too_long="truncate",
    )  # fmt: skip
    torch.manual_seed(42)
    model = models.load_causal_lm(tiny_model, dtype="fp32")
    if request.param == "lora":
        model = models.add_lora(
            model, rank=4, alpha=8, dropout=0.0,
            targets=["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"],
        )  # fmt: skip
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.0)
    batches = GlobalBatches(lengths_of(samples), global_size=GLOBAL, seed=42, shuffle=True)
    losses = []
    for step in range(STEPS):
        batch = collate(
            [samples[i] for i in batches.step(step)], pad_token_id=tokenizer.pad_token_id
        )
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        loss = functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten()
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    weights = {
        name.replace(".default.", "."): p.detach().clone()
        for name, p in model.named_parameters()
        if p.requires_grad
    }
    return request.param, losses, weights


@pytest.mark.parametrize(("processes", "stage"), SHAPES)
def test_equal_to_a_loop_by_hand(
    reference: Any, workspace: Path, processes: int, stage: int
) -> None:
    """Every stage on one and two processes gives the losses and the whole weights of a plain loop."""
    method, losses, weights = reference
    run_dir = runs.compile_spec(
        workspace,
        f"""
        [method]
        type = "{method}"
        {"rank = 4" if method == "lora" else ""}
        [batch]
        global_size = {GLOBAL}
        micro_size = 1
        [deepspeed]
        zero_stage = {stage}
        [launch]
        processes = {processes}
        """,
    )
    done = runs.launch(run_dir)
    assert done.returncode == 0, done.stdout + done.stderr
    assert runs.losses(run_dir) == pytest.approx(losses, rel=2e-5)
    name = "adapter_model.safetensors" if method == "lora" else "model.safetensors"
    written = load_file(run_dir / "final" / name)
    assert written.keys() == weights.keys()
    for key, expected in weights.items():
        assert torch.allclose(written[key], expected, atol=2e-4), key


def test_report_and_picture(workspace: Path) -> None:
    """A finished run leaves a report with its numbers, metrics with evaluation, and a plot."""
    run_dir = runs.compile_spec(workspace, "[data]\neval_rows = 4\n[evaluation]\nevery_steps = 2\n")
    done = runs.launch(run_dir)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((run_dir / "report.json").read_text())
    assert report["steps"] == 4
    assert report["tokens"] == runs.metrics(run_dir)[-2]["tokens"]
    assert report["tokens_per_s"] > 0
    assert report["peak_memory_bytes"] > 2**27
    assert {"start", "data", "load", "train", "save", "evaluate"} <= report["seconds"].keys()
    assert [row["step"] for row in runs.metrics(run_dir) if "eval_loss" in row] == [2, 4]
    assert (run_dir / "plots" / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert "4 steps" in done.stdout
    assert runs.processes_of(run_dir) == []


def test_moved_checkout(workspace: Path, tmp_path: Path) -> None:
    """A compiled run goes on working when the whole checkout is moved to a path with blanks and quotes."""
    runs.compile_spec(workspace, "[training]\nsteps = 1\n")
    moved = tmp_path / "moved" / 'it\'s a "new" $place ü'
    moved.mkdir(parents=True)
    for name in ("model", "data", "runs"):
        shutil.move(workspace / name, moved / name)
    done = runs.launch(moved / "runs" / "first")
    assert done.returncode == 0, done.stdout + done.stderr
