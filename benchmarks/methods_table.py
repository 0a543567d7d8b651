"""Every kind of method on a real model: what it trains, what it needs, and whether it learns.

    .venv/bin/python benchmarks/methods_table.py

SmolLM2-135M on the demo's conversations, fp32 on the CPU, the same data in the same order; the loss is that of wordings which
are never trained on, before and after. `forecast` is the peak memory that `tunec plan` expects.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench import REPO, WORK, machine, measured_on, table, write_json

FOLDER = WORK / "methods"
DATA = REPO / "examples" / "demo" / "data"
TUNEC = [sys.executable, "-c", "from tunec.compiler.cli import main; main()"]
SPEC = """
[run]
output_dir = "run"
[model]
path = {model}
[data]
max_length = {length}
sources = [
    {{ format = "alpaca", path = {identity} }},
    {{ format = "messages", path = {station} }},
]
eval_sources = [{{ format = "messages", path = {heldout} }}]
[training]
steps = {steps}
learning_rate = {rate}
precision = "fp32"
gradient_checkpointing = false
[batch]
global_size = 8
micro_size = 8
[deepspeed]
zero_stage = 0
[launch]
device = "cpu"
processes = 1
[checkpoints]
every_steps = 0
[logging]
plot = false
"""
METHODS: dict[str, tuple[float, str]] = {
    "LoRA": (1e-3, '[method]\ntype = "lora"\nrank = 16\n'),
    "DoRA": (1e-3, '[method]\ntype = "lora"\nrank = 16\ndora = true\n'),
    "OFT": (1e-3, '[method]\ntype = "oft"\n'),
    "freeze, last 2 blocks": (3e-4, '[method]\ntype = "freeze"\nblocks = 2\n'),
    "QLoRA, nf4": (
        1e-3,
        '[method]\ntype = "lora"\nrank = 16\n[quantization]\ntype = "bitsandbytes"\nbits = 4\n',
    ),
    "full, AdamW": (1e-4, '[method]\ntype = "full"\n'),
    "full, GaLore": (
        1e-4,
        '[method]\ntype = "full"\n[optimizer]\ntype = "galore"\nrank = 64\ninterval = 10\n',
    ),
}


def main() -> None:
    """Train with each method in turn and print the table."""
    options = _parser().parse_args()
    facts = machine()
    before = _trained("before training", 1e-30, METHODS["LoRA"][1], options, steps=1)["eval_loss"]
    found: dict[str, dict[str, Any]] = {}
    for name in options.only or METHODS:
        rate, text = METHODS[name]
        found[name] = _trained(name, rate, text, options, steps=options.steps)
        print(f"{name}: {found[name]['eval_loss']:.3f}", file=sys.stderr, flush=True)
    if options.json:
        write_json(options.json, {"machine": facts, "before": before, "runs": found})
    print(
        f"{measured_on(facts)}, {options.steps} steps of 8; evaluation loss before: {before:.3f}\n"
    )
    header = ["", "loss after", "trained", "tokens/s", "peak MiB", "forecast MiB", "final MiB"]
    print(table(header, [_row(name, run) for name, run in found.items()]))
    worse = [name for name, run in found.items() if run["eval_loss"] >= before]
    if worse:
        sys.exit(f"error: these learned nothing: {', '.join(worse)}")


def _row(name: str, run: dict[str, Any]) -> list[str]:
    return [
        name,
        f"{run['eval_loss']:.3f}",
        f"{run['trainable_parameters']:,}",
        f"{run['tokens_per_s']:.0f}",
        f"{run['peak_memory_bytes'] / 2**20:,.0f}",
        f"{run['forecast_bytes'] / 2**20:,.0f}",
        f"{run['final_bytes'] / 2**20:,.1f}",
    ]


def _trained(
    name: str, rate: float, method: str, options: argparse.Namespace, *, steps: int
) -> dict[str, Any]:
    folder = FOLDER / re.sub(r"\W+", "-", name.lower())
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    places = {key: json.dumps(str(DATA / file)) for key, file in _FILES.items()}
    text = SPEC.format(
        model=json.dumps(str(options.model)),
        length=options.length,
        steps=steps,
        rate=rate,
        **places,
    )
    (folder / "spec.toml").write_text(text + method, encoding="utf-8")
    planned = _run([*TUNEC, "plan", "spec.toml"], folder)
    _run([*TUNEC, "compile", "spec.toml"], folder)
    _run(["run/launch.sh"], folder)
    report: dict[str, Any] = json.loads((folder / "run" / "report.json").read_text())
    trained = int(_number(r"trained +([\d,]+) of", planned))
    if trained != report["trainable_parameters"]:
        sys.exit(
            f"{name}: the plan says {trained:,} trainable parameters, {report['trainable_parameters']:,} are"
        )
    report["forecast_bytes"] = _number(r"about ([\d.]+) GiB a process", planned) * 2**30
    final = folder / "run" / "final"
    report["final_bytes"] = sum(path.stat().st_size for path in final.glob("*.safetensors"))
    return report


_FILES = {"identity": "identity.json", "station": "station.jsonl", "heldout": "heldout.jsonl"}


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        sys.exit(f"the plan has no {pattern!r}:\n{text}")
    return float(found[1].replace(",", ""))


def _run(words: list[str], folder: Path) -> str:
    env = {**os.environ, "TUNEC_PYTHON": sys.executable}
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("--model", type=Path, default=REPO / "models" / "smollm2-135m")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--length", type=int, default=192)
    parser.add_argument("--only", nargs="+", choices=METHODS, help="these methods alone")
    parser.add_argument("--json", type=Path, help="store every number")
    return parser


if __name__ == "__main__":
    main()
