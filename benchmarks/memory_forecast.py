"""What a run needs against what the plan expects: peak memory of one process, methods by lengths.

    .venv/bin/python benchmarks/memory_forecast.py --data c4_demo.jsonl

SmolLM2-135M in fp32 on the CPU; rows are full (texts joined to rows of `data.max_length`), since that is what the forecast is about.
The peak is the resident memory the kernel counted (`VmHWM`), which the run's report holds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench import REPO, WORK, machine, measured_on, table, write_json

from tunec.compiler import from_toml
from tunec.compiler.pipeline import analyse
from tunec.compiler.rules.batch import micro_size
from tunec.compiler.rules.memory import Memory, count_parameters, estimate

FOLDER = WORK / "memory"
SPEC = """
[run]
output_dir = "run"
[model]
path = {model}
[data]
max_length = {length}
packing = "joined"
sources = [{{ format = "text", path = {data} }}]
[objective]
type = "pretraining"
[training]
steps = 2
learning_rate = 1e-4
precision = "fp32"
gradient_checkpointing = {checkpointing}
[batch]
global_size = {micro}
micro_size = {micro}
[deepspeed]
zero_stage = {stage}
[launch]
device = "cpu"
processes = 1
[checkpoints]
every_steps = 0
[logging]
plot = false
"""
METHODS = {
    "full": '[method]\ntype = "full"\n',
    "LoRA": '[method]\ntype = "lora"\nrank = 16\n',
    "freeze": '[method]\ntype = "freeze"\nblocks = 4\n',
    "QLoRA": '[method]\ntype = "lora"\nrank = 16\n[quantization]\ntype = "bitsandbytes"\nbits = 4\n',
}
SHAPES = ((256, 4, False), (1024, 2, False), (1024, 2, True))
"""Length, rows in a batch, gradient checkpointing."""


def main() -> None:
    """Run each method at each shape and print the table."""
    options = _parser().parse_args()
    facts = machine()
    found: list[dict[str, Any]] = []
    for name in options.only or METHODS:
        for length, micro, checkpointing in SHAPES:
            found.append(_measured(name, length, micro, checkpointing, options))
            print(json.dumps(found[-1]), file=sys.stderr, flush=True)
    if options.json:
        write_json(options.json, {"machine": facts, "runs": found})
    print(f"{measured_on(facts)}\n")
    header = ["", "rows × tokens", "checkpointing", "peak MiB", "forecast MiB", "off by"]
    print(table(header, [_row(run) for run in found]))


def _row(run: dict[str, Any]) -> list[str]:
    return [
        run["method"],
        f"{run['micro']} × {run['length']}",
        "yes" if run["checkpointing"] else "no",
        f"{run['peak_mib']:,.0f}",
        f"{run['forecast_mib']:,.0f}",
        f"{run['forecast_mib'] / run['peak_mib'] - 1:+.0%}",
    ]


def _measured(
    name: str, length: int, micro: int, checkpointing: bool, options: argparse.Namespace
) -> dict[str, Any]:
    folder = FOLDER / f"{name}-{length}-{checkpointing}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    text = SPEC.format(
        model=json.dumps(str(options.model)),
        data=json.dumps(str(options.data)),
        length=length,
        micro=micro,
        stage=options.stage,
        checkpointing="true" if checkpointing else "false",
    )
    spec = folder / "spec.toml"
    spec.write_text(text + METHODS[name], encoding="utf-8")
    forecast = _forecast(spec)
    _run(
        [
            sys.executable,
            "-c",
            "from tunec.compiler.cli import main; main()",
            "compile",
            "spec.toml",
        ],
        folder,
    )
    _run(["run/launch.sh"], folder)
    report = json.loads((folder / "run" / "report.json").read_text())
    return {
        "method": name,
        "length": length,
        "micro": micro,
        "checkpointing": checkpointing,
        "peak_mib": report["peak_memory_bytes"] / 2**20,
        "forecast_mib": forecast.total / 2**20,
        "parts_mib": {
            part: round(getattr(forecast, part) / 2**20)
            for part in ("weights", "gradients", "optimizer", "activations", "other")
        },
    }


def _forecast(path: Path) -> Memory:
    spec = from_toml(path)
    facts = analyse(path, {}).facts
    micro = micro_size(spec)
    assert facts is not None
    assert micro is not None
    memory = estimate(spec, facts, micro, count_parameters(spec, facts))
    assert memory is not None
    return memory


def _run(words: list[str], folder: Path) -> None:
    env = {**os.environ, "TUNEC_PYTHON": sys.executable}
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("--model", type=Path, default=REPO / "models" / "smollm2-135m")
    parser.add_argument("--data", type=Path, required=True, help="a file of texts")
    parser.add_argument("--stage", type=int, default=0, help="ZeRO stage")
    parser.add_argument("--only", nargs="+", choices=METHODS, help="these methods alone")
    parser.add_argument("--json", type=Path, help="store every number")
    return parser


if __name__ == "__main__":
    main()
