"""Train the same samples padded and padding-free, in turn: real tokens a second, and the losses of both.

With `--llamafactory`, also by LLaMA-Factory's own trainer (its time of training alone, without start and data).

Each of the other contestants starts every round from the same weights and the same adapters; what is measured is forward, backward
and the optimizer's step on batches of samples in file order, on this machine's CPU.
"""

# mypy finds tunec only where MYPYPATH lays it out, as the tests do.
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from bench import REPO, WORK, machine, measured_on, median_ratio, table

from tunec.runtime import data, models, objectives
from tunec.runtime.data.batches import GlobalBatches, lengths_of
from tunec.runtime.data.layouts import Collator, num_tokens
from tunec.runtime.data.samples import Sample

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def main() -> None:
    """Measure both layouts in turn and print the table."""
    options = _parser().parse_args()
    facts = machine()
    tokenizer = models.load_tokenizer(options.model)
    batches = _batches(options, tokenizer)
    layouts = {
        "padded": Collator(int(tokenizer.pad_token_id)),
        "padding-free": Collator(int(tokenizer.pad_token_id), padding_free=True),
    }
    runs: dict[str, list[tuple[float, list[float]]]] = {name: [] for name in layouts}
    for _ in range(options.rounds):
        for name, collator in layouts.items():
            runs[name].append(_train(options, [collator(batch) for batch in batches]))
        if options.llamafactory is not None:
            real = sum(len(sample.input_ids) for batch in batches for sample in batch)
            runs.setdefault("LLaMA-Factory", []).append(_train_lf(options, real))
    _report(
        facts, {name: [collator(b) for b in batches] for name, collator in layouts.items()}, runs
    )


def _batches(options: argparse.Namespace, tokenizer: Any) -> list[list[Any]]:
    source = data.Alpaca(path=options.data, name="rows", limit=options.steps * options.batch)
    samples = data.tokenize(
        data.read([source]),
        tokenizer=tokenizer,
        loss_on="assistant",
        max_length=options.length,
        too_long="truncate",
    )
    order = GlobalBatches(lengths_of(samples), global_size=options.batch, seed=0, shuffle=False)
    return [[samples[index] for index in order.step(step)] for step in range(options.steps)]


def _train(
    options: argparse.Namespace, batches: Sequence[dict[str, torch.Tensor]]
) -> tuple[float, list[float]]:
    """Return real tokens a second, and the mean loss of each step."""
    torch.manual_seed(0)
    model = models.load_causal_lm(options.model, dtype=options.precision)
    model = models.add_lora(model, rank=8, alpha=16.0, dropout=0.0, targets=TARGETS).train()
    objective = objectives.Sft()
    objective.attach(model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    # Not measured: the first pass sets up threads and kernels, a short one is enough.
    torch.autograd.backward(objective.loss_sum(model, Collator(0)([Sample([1] * 32, [1] * 32)])))
    optimizer.zero_grad()
    losses = []
    started = time.perf_counter()
    for batch in batches:
        loss = objective.loss_sum(model, batch) / objective.num_items(batch)
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    seconds = time.perf_counter() - started
    return sum(int(num_tokens(batch)) for batch in batches) / seconds, losses


def _train_lf(options: argparse.Namespace, real_tokens: int) -> tuple[float, list[float]]:
    """Return real tokens a second of LLaMA-Factory's training, and the loss of each step."""
    folder = WORK / "padding_lf"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows = json.loads(options.data.read_text(encoding="utf-8"))[: options.steps * options.batch]
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    (folder / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": "rows.json"}}))
    config = {
        "model_name_or_path": str(options.model),
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "lora_rank": 8,
        "lora_alpha": 16,
        "lora_target": ",".join(TARGETS),
        "dataset": "rows",
        "dataset_dir": str(folder),
        "template": "smollm2",
        "cutoff_len": options.length,
        "disable_shuffling": True,
        "per_device_train_batch_size": options.batch,
        "gradient_accumulation_steps": 1,
        "max_steps": options.steps,
        "learning_rate": 1e-4,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_gradient_checkpointing": True,
        "report_to": "none",
        "use_cpu": True,
        "output_dir": str(folder / "out"),
    }
    # JSON is YAML; of its own reader for .json the file name is asked for text, which fails.
    (folder / "train.yaml").write_text(json.dumps(config), encoding="utf-8")
    program = options.llamafactory / "bin" / "llamafactory-cli"
    done = subprocess.run(
        [str(program), "train", str(folder / "train.yaml")],
        cwd=folder,
        env={**os.environ, "DISABLE_VERSION_CHECK": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"LLaMA-Factory ended with {done.returncode}:\n{done.stderr[-3000:]}")
    state = json.loads((folder / "out" / "trainer_state.json").read_text(encoding="utf-8"))
    losses = [row["loss"] for row in state["log_history"] if "loss" in row]
    return real_tokens / state["log_history"][-1]["train_runtime"], losses


def _report(
    facts: dict[str, str | int | float],
    batches: dict[str, list[dict[str, torch.Tensor]]],
    runs: dict[str, list[tuple[float, list[float]]]],
) -> None:
    padded = [rate for rate, _ in runs["padded"]]
    rows = []
    for name, measured in runs.items():
        rates = [rate for rate, _ in measured]
        # The peer pads as the padded layout does.
        laid = batches.get(name, batches["padded"])
        places = sum(batch["input_ids"].numel() for batch in laid)
        empty = 1 - sum(int(num_tokens(batch)) for batch in laid) / places
        apart = max(
            abs(a - b) / b for a, b in zip(measured[0][1], runs["padded"][0][1], strict=True)
        )
        rows.append(
            [name, f"{100 * empty:.0f} %", f"{max(rates):,.0f}", f"{median_ratio(rates, padded):.2f}",
             f"{apart:.1e}"]
        )  # fmt: skip
    print(measured_on(facts) + "\n")
    print(table(["layout", "padding", "best tokens/s", "x padded", "losses apart"], rows))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=REPO / "models" / "smollm2-135m")
    parser.add_argument("--data", type=Path, required=True, help="a file in the alpaca format")
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--llamafactory", type=Path, help="an environment with LLaMA-Factory")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    return parser


if __name__ == "__main__":
    main()
