"""From the command to the first training step: a compiled run against a bare script of the same libraries.

    .venv/bin/python benchmarks/start_speed.py --data alpaca_en_demo.json

LoRA of a real model on one process. The script imports, loads, adapts and steps, and nothing else; the compiled run is
started by its `launch.sh`: supervisor, preparation of the data, DeepSpeed's engine, checks. Both take the same batch.
The first step counts in both.
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
from pathlib import Path

from bench import REPO, WORK, machine, measured_on, median_ratio, table, write_json

FOLDER = WORK / "start"
SPEC = """
[run]
output_dir = "run"
[model]
path = {model}
[data]
max_length = 256
shuffle = false
sources = [{{ format = "alpaca", path = "rows.json" }}]
[method]
type = "lora"
[training]
steps = 1
learning_rate = 1e-4
precision = "fp32"
gradient_checkpointing = false
[batch]
global_size = 4
micro_size = 4
[launch]
device = "cpu"
processes = 1
[logging]
every_steps = 1
plot = false
"""


def main() -> None:
    """Measure both in turn and print the table."""
    options = _parser().parse_args()
    facts = machine()
    _write_inputs(options)
    seconds: dict[str, list[float]] = {
        "bare script": [],
        "bare script, lean": [],
        "launch.sh": [],
        "launch.sh, prepared": [],
    }
    for _ in range(options.rounds):
        script = Path(__file__).resolve().parent / "start_limit.py"
        words = [sys.executable, str(script), str(options.model), str(FOLDER / "rows.json")]
        seconds["bare script"].append(_until("step 1", words))
        seconds["bare script, lean"].append(_until("step 1", [*words, "--lean"]))
        shutil.rmtree(FOLDER / "cache", ignore_errors=True)
        seconds["launch.sh"].append(_until("step 1/1", ["run/launch.sh", "--overwrite"]))
        seconds["launch.sh, prepared"].append(_until("step 1/1", ["run/launch.sh", "--overwrite"]))
    if options.json:
        write_json(options.json, {"machine": facts, "seconds": seconds})
    rows = [
        [
            name,
            f"{statistics.median(found):.1f}",
            f"{median_ratio(found, seconds['bare script']):.2f}",
        ]
        for name, found in seconds.items()
    ]
    print(f"{measured_on(facts)}, medians of {options.rounds}\n")
    print(table(["to the first step", "s", "x bare"], rows))


def _until(sign: str, words: list[str]) -> float:
    """Return the seconds until a line with `sign` is printed; the process may end afterwards as it likes."""
    env = {**os.environ, "TUNEC_PYTHON": sys.executable, "TUNEC_CACHE": str(FOLDER / "cache")}
    env["OMP_NUM_THREADS"] = str(os.cpu_count())
    started = time.perf_counter()
    with subprocess.Popen(
        words, cwd=FOLDER, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        printed = []
        for line in process.stdout:
            printed.append(line)
            if sign in line:
                found = time.perf_counter() - started
                process.stdout.read()
                return found
    sys.exit(f"{words[0]} never printed {sign!r}:\n{''.join(printed)[-3000:]}")


def _write_inputs(options: argparse.Namespace) -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    rows = json.loads(options.data.read_text(encoding="utf-8"))[:4]
    (FOLDER / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    spec = FOLDER / "spec.toml"
    spec.write_text(SPEC.format(model=json.dumps(str(options.model))), encoding="utf-8")
    command = [sys.executable, "-c", "from tunec.compiler.cli import main; main()"]
    subprocess.run([*command, "compile", str(spec)], check=True, stdout=subprocess.DEVNULL)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True, help="an alpaca file")
    parser.add_argument("--model", type=Path, default=REPO / "models" / "smollm2-135m")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="store every number")
    return parser


if __name__ == "__main__":
    main()
