"""Step time and memory of DPO on a real model: tunec and TRL, with the reference computed at each step or beforehand.

    .venv/bin/python benchmarks/preference_speed.py
    .venv/bin/python benchmarks/preference_speed.py --method full --only tunec tunec-precomputed

All train on the same pairs, each in a process of its own, in turn. Start-up and the pass of a precomputed reference do
not count. The losses must agree: that is the proof that all did the same arithmetic.
"""

# mypy finds tunec only where MYPYPATH lays it out, as the tests do.
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import REPO, WORK, compile_and_prepare, machine, measured_on, table, write_json
from train_contestants import trl_python

FOLDER = WORK / "preference_speed"
DEMO = REPO / "examples" / "demo" / "data"
MIB = 2**20
TOLERANCE = 2e-3
_STEP_LINE = re.compile(rb"step (\d+)/\d+ ")
SPEC = """
[run]
output_dir = "run"
[model]
path = {model}
[data]
max_length = {length}
shuffle = false
sources = [{{ format = "preference", path = {pairs} }}]
[objective]
type = "dpo"
{reference}
[training]
steps = {steps}
learning_rate = {rate}
schedule = "constant"
precision = "fp32"
gradient_checkpointing = false
[batch]
global_size = {pairs_a_step}
micro_size = {pairs_a_step}
[launch]
device = "cpu"
processes = 1
[deepspeed]
zero_stage = 0
[checkpoints]
every_steps = 0
[logging]
every_steps = 1
plot = false
{method}
"""
METHODS = {
    "lora": '[method]\ntype = "lora"\nrank = 8\n',
    "full": '[method]\ntype = "full"\n',
}
REFERENCES = {"tunec": "", "tunec-precomputed": 'reference = { type = "precomputed" }'}
CONTESTANTS = ("tunec", "tunec-precomputed", "trl", "trl-precomputed")


@dataclass(frozen=True)
class Run:
    """What one process showed."""

    seconds_a_step: float
    peak_bytes: int
    losses: list[float]


def main() -> None:
    """Measure and print; ends with 1 when the losses differ."""
    options = _parser().parse_args()
    facts = machine()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    _write_pairs(FOLDER / "pairs.jsonl", options)
    commands = {name: _prepare(name, options) for name in options.only}
    runs: dict[str, list[Run]] = {name: [] for name in options.only}
    for number in range(options.rounds):
        turn = number % len(options.only)
        for name in options.only[turn:] + options.only[:turn]:
            found = _run(name, commands[name], options)
            runs[name].append(found)
            told = f"{found.seconds_a_step:.2f} s a step, {found.peak_bytes / MIB:,.0f} MiB"
            print(f"round {number + 1}  {name}: {told}", file=sys.stderr, flush=True)
    print(_text(facts, options, runs))
    if options.json is not None:
        record = {name: [vars(one) for one in each] for name, each in runs.items()}
        write_json(options.json, {"machine": facts, "runs": record})
    if _difference(runs) > TOLERANCE:
        sys.exit(f"error: losses differ by more than {TOLERANCE:g}: not the same arithmetic")


def _write_pairs(path: Path, options: argparse.Namespace) -> None:
    """Pairs that fill `length` tokens: a prompt of about half of them, and answers that are cut off."""
    rows = [json.loads(line) for line in (DEMO / "station.jsonl").read_text().splitlines()]
    texts = [message["content"] for row in rows for message in row["messages"]]
    words = itertools.cycle(" ".join(texts).split())
    with path.open("w", encoding="utf-8") as file:
        for _ in range(options.steps * options.pairs):
            # A word is more than one token here.
            prompt, chosen, rejected = (
                " ".join(itertools.islice(words, count))
                for count in (int(options.length * 0.35), options.length, options.length)
            )
            row = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
            file.write(json.dumps(row) + "\n")


def _prepare(name: str, options: argparse.Namespace) -> list[str]:
    """Return the command that starts a contestant; the data of all are prepared."""
    folder = FOLDER / name
    folder.mkdir()
    is_ours = name in REFERENCES
    text = SPEC.format(
        model=json.dumps(str(options.model.absolute())),
        length=options.length,
        pairs=json.dumps(str(FOLDER / "pairs.jsonl")),
        reference=REFERENCES.get(name, ""),
        steps=options.steps,
        rate=options.rate,
        pairs_a_step=options.pairs,
        method=METHODS[options.method],
    )
    (folder / "spec.toml").write_text(text, encoding="utf-8")
    compile_and_prepare(folder / "spec.toml")
    if is_ours:
        return [str(folder / "run" / "launch.sh"), "--overwrite"]
    _write_tokens(folder)
    command = [str(trl_python()), str(Path(__file__).parent / "preference_trl.py"), str(folder)]
    command += ["--model", str(options.model), "--method", options.method]
    command += ["--pairs", str(options.pairs), "--rate", str(options.rate)]
    return [*command, *(["--precomputed"] if name == "trl-precomputed" else [])]


def _write_tokens(folder: Path) -> None:
    """The pairs as tokens, as tunec prepared them."""
    from tunec.runtime import data
    from tunec.runtime.data.samples import IGNORED

    train, _ = data.load(folder / "run")
    found: list[dict[str, list[int]]] = []
    for sample in train:
        assert sample.rejected is not None
        size = sum(label == IGNORED for label in sample.labels)
        rejected = sample.rejected.input_ids
        assert rejected[:size] == sample.input_ids[:size]
        found.append(
            {
                "prompt_ids": sample.input_ids[:size],
                "chosen_ids": sample.input_ids[size:],
                "rejected_ids": rejected[size:],
            }
        )
    (folder / "tokens.json").write_text(json.dumps(found), encoding="utf-8")


def _run(name: str, command: list[str], options: argparse.Namespace) -> Run:
    folder, stamps = FOLDER / name, []
    env = {**os.environ, "TUNEC_PYTHON": sys.executable, "HF_HUB_OFFLINE": "1"}
    with (
        (folder / "log.txt").open("wb") as log,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            if _STEP_LINE.match(line):
                stamps.append(time.perf_counter())
            log.write(line)
    if process.returncode or len(stamps) != options.steps:
        tail = "\n".join((folder / "log.txt").read_text(errors="replace").splitlines()[-15:])
        sys.exit(f"error: {name} ended with {process.returncode}:\n{tail}")
    result = _ours(folder / "run") if name in REFERENCES else _theirs(folder)
    seconds = (stamps[-1] - stamps[options.warmup - 1]) / (options.steps - options.warmup)
    return Run(seconds, result["peak_bytes"], result["losses"])


def _ours(run_dir: Path) -> dict[str, Any]:
    report = json.loads((run_dir / "report.json").read_text(encoding="utf-8"))
    rows = map(json.loads, (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    losses = [row["loss"] for row in rows if "loss" in row]
    return {"peak_bytes": report["peak_memory_bytes"], "losses": losses}


def _theirs(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return found


def _text(facts: Any, options: argparse.Namespace, runs: dict[str, list[Run]]) -> str:
    first = options.only[0]
    base = statistics.median(one.seconds_a_step for one in runs[first])
    header = ["", "s a step", f"/ {first}", "peak MiB", "first loss", "last loss"]
    rows = []
    for name, each in runs.items():
        seconds = statistics.median(one.seconds_a_step for one in each)
        peak = statistics.median(one.peak_bytes for one in each) / MIB
        losses = [f"{each[-1].losses[at]:.5f}" for at in (0, -1)]
        rows.append([name, f"{seconds:.2f}", f"{seconds / base:.2f}", f"{peak:,.0f}", *losses])
    return (
        f"{measured_on(facts)}; {options.model.name}, DPO, {options.method}, fp32, {options.pairs} pairs of "
        f"2 x {options.length} tokens a step; {options.rounds} rounds of {options.steps - options.warmup} steps after "
        f"{options.warmup} for warm-up; medians\n\n{table(header, rows)}\n\n"
        f"largest relative difference of any step's loss: {_difference(runs):.1e}"
    )


def _difference(runs: dict[str, list[Run]]) -> float:
    every = [one.losses for each in runs.values() for one in each]
    steps: Iterator[tuple[float, ...]] = zip(*every, strict=True)
    return max((max(losses) - min(losses)) / min(losses) for losses in steps)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", type=Path, default=REPO / "models" / "smollm2-135m", help="folder of the model")
    add("--method", choices=list(METHODS), default="lora", help="what is trained (default: lora)")
    add("--length", type=int, default=1024, help="tokens of a sequence (default: 1024)")
    add("--pairs", type=int, default=1, help="pairs of a step (default: 1)")
    add("--rate", type=float, default=1e-4, help="learning rate (default: 1e-4)")
    add("--steps", type=int, default=4, help="steps of a run, warm-up included (default: 4)")
    add("--warmup", type=int, default=1, help="first steps, not timed (default: 1)")
    add("--rounds", type=int, default=2, help="runs of each contestant (default: 2)")
    add("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS), help="contestants")
    add("--json", type=Path, metavar="FILE", help="write all numbers to this file")
    return parser


if __name__ == "__main__":
    main()
