"""From a file to tokens and loss mask: tunec, the bare tokenizer, TRL and LLaMA-Factory on the same rows, in turn.

    .venv/bin/python benchmarks/tokenize_speed.py --data alpaca.json --trl /tmp/venv-trl --llamafactory /tmp/venv-lf

The rows of an alpaca file are repeated with varied text, so that no cache of words helps. Two processes, cold caches.
Imports of the peers are not counted; of tunec the whole process is, as `launch.sh` starts it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench import REPO, WORK, machine, measured_on, median_ratio, table, write_json

FOLDER = WORK / "tokenize"
ROWS = FOLDER / "rows.json"
SPEC = """
[run]
output_dir = "run"
[model]
path = {model}
[data]
max_length = 2048
workers = {workers}
prepared_dir = "prepared"
sources = [{{ format = "alpaca", path = "rows.json" }}]
[method]
type = "lora"
[training]
learning_rate = 1e-4
precision = "fp32"
[batch]
global_size = 4
micro_size = 4
[launch]
type = "local"
processes = 1
device = "cpu"
"""


def main() -> None:
    """Measure all contestants in turn and print the table."""
    options = _parser().parse_args()
    facts = machine()
    _write_inputs(options)
    seconds: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        for name, contestant in _contestants(options).items():
            seconds.setdefault(name, []).append(contestant())
            print(f"{name}: {options.rows / seconds[name][-1]:,.0f} rows/s", file=sys.stderr)
    _report(options, facts, seconds)


def _contestants(options: argparse.Namespace) -> dict[str, Callable[[], float]]:
    peers = Path(__file__).resolve().parent
    found: dict[str, Callable[[], float]] = {
        "bare tokenizer (the limit)": lambda: _told(
            sys.executable, peers / "tokenize_limit.py", options
        ),
        "tunec": lambda: _prepare(cold=True),
        "tunec, prepared before": lambda: _prepare(cold=False),
    }
    for name, given in (("LLaMA-Factory", options.llamafactory), ("TRL", options.trl)):
        if given is not None:
            script = peers / f"tokenize_{'lf' if name == 'LLaMA-Factory' else 'trl'}.py"
            found[name] = lambda given=given, script=script: _told(  # type: ignore[misc]
                str(given / "bin" / "python"), script, options
            )
    return found


def _told(python: str, script: Path, options: argparse.Namespace) -> float:
    """Return the seconds that a script says it took."""
    cache = FOLDER / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    words = [python, str(script), str(ROWS), str(options.model), str(options.workers)]
    env = {**os.environ, "HF_DATASETS_CACHE": str(cache), "DISABLE_VERSION_CHECK": "1"}
    done = subprocess.run(
        words,
        cwd=FOLDER,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{script.name} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return float(done.stdout.splitlines()[-1])


def _prepare(*, cold: bool) -> float:
    if cold:
        shutil.rmtree(FOLDER / "prepared", ignore_errors=True)
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "run/prepare.py"], cwd=FOLDER, stdout=subprocess.DEVNULL, check=True
    )
    return time.perf_counter() - started


def _write_inputs(options: argparse.Namespace) -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    given = json.loads(options.data.read_text(encoding="utf-8"))
    rows = []
    for number in range(options.rows):
        row = dict(given[number % len(given)])
        # Another number in each text: no row is the same as one before.
        row["instruction"] = f"{row['instruction']} ({number})"
        row["output"] = f"{row['output']} ({number * 7 % 1000003})"
        rows.append(row)
    ROWS.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    model = json.dumps(str(options.model))
    spec = FOLDER / "spec.toml"
    spec.write_text(SPEC.format(model=model, workers=options.workers), encoding="utf-8")
    command = [sys.executable, "-c", "from tunec.compiler.cli import main; main()"]
    subprocess.run([*command, "compile", str(spec)], check=True, stdout=subprocess.DEVNULL)


def _report(
    options: argparse.Namespace,
    facts: dict[str, str | int | float],
    seconds: dict[str, list[float]],
) -> None:
    if options.json:
        write_json(options.json, {"machine": facts, "rows": options.rows, "seconds": seconds})
    limit = seconds["bare tokenizer (the limit)"]
    rows = [
        [
            name,
            f"{statistics.median(found):.1f}",
            f"{options.rows / statistics.median(found):,.0f}",
            f"{median_ratio(limit, found):.2f}",
        ]
        for name, found in seconds.items()
    ]
    print(f"{measured_on(facts)}, {options.rows:,} rows, medians of {options.rounds}\n")
    print(table(["", "s", "rows/s", "of the limit"], rows))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True, help="an alpaca file")
    parser.add_argument("--model", type=Path, default=REPO / "models" / "smollm2-135m")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--trl", type=Path, help="an environment with TRL")
    parser.add_argument("--llamafactory", type=Path, help="an environment with LLaMA-Factory")
    parser.add_argument("--json", type=Path, help="store every number")
    return parser


if __name__ == "__main__":
    main()
