"""Peak memory of preparing a large file, all processes together, and how long a second start takes.

    .venv/bin/python benchmarks/prepare_memory.py --rows 2000000

The sum of the proportional set sizes is read ten times a second, so that pages shared by processes count once.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from bench import REPO, WORK, machine, measured_on, table

FOLDER = WORK / "memory"
SPEC = """
[run]
output_dir = "run"
[model]
path = {model}
[data]
max_length = 512
workers = 2
prepared_dir = "prepared"
sources = [{{ format = "messages", path = "rows.jsonl" }}]
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
    """Generate, prepare, start again, and print the table."""
    options = _parser().parse_args()
    facts = machine()
    FOLDER.mkdir(parents=True, exist_ok=True)
    _write_rows(options.rows)
    spec = FOLDER / "spec.toml"
    spec.write_text(SPEC.format(model=json.dumps(str(options.model))), encoding="utf-8")
    command = [sys.executable, "-c", "from tunec.compiler.cli import main; main()"]
    subprocess.run([*command, "compile", str(spec)], check=True, stdout=subprocess.DEVNULL)
    results = [_prepare("first start", ["--rebuild"]), _prepare("second start", [])]
    size = (FOLDER / "rows.jsonl").stat().st_size / 2**20
    print(f"{measured_on(facts)}, {options.rows:,} rows of {size:,.0f} MiB, 2 workers\n")
    print(table(["", "s", "rows/s", "peak MiB"], [_row(options.rows, *found) for found in results]))


def _row(rows: int, name: str, seconds: float, peak: int) -> list[str]:
    return [name, f"{seconds:.1f}", f"{rows / seconds:,.0f}", f"{peak / 2**20:,.0f}"]


def _write_rows(count: int) -> None:
    with (FOLDER / "rows.jsonl").open("w", encoding="utf-8") as file:
        for number in range(count):
            talk = [
                {"role": "user", "content": f"What is {number} plus {number % 97}?"},
                {"role": "assistant", "content": f"It is {number + number % 97}, of course."},
            ]
            file.write(json.dumps({"messages": talk}) + "\n")


def _prepare(name: str, flags: list[str]) -> tuple[str, float, int]:
    if flags:
        subprocess.run(["rm", "-rf", str(FOLDER / "prepared")], check=True)
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "run/prepare.py"], cwd=FOLDER, stdout=subprocess.DEVNULL
    )
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(map(_memory, _family(process.pid))))
        time.sleep(0.1)
    if process.returncode:
        sys.exit(f"prepare.py ended with {process.returncode}")
    return name, time.perf_counter() - started, peak


def _family(pid: int) -> list[int]:
    """Return a process and its children."""
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except OSError:
        return []
    return [pid, *(int(child) for child in listed.split())]


def _memory(pid: int) -> int:
    """Return the proportional set size of a process in bytes, 0 when it has gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--model", type=Path, default=REPO / "models" / "smollm2-135m")
    return parser


if __name__ == "__main__":
    main()
