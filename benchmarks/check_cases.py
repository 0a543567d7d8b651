"""`tunec check` where it has most to do: 40 mistakes, the headers of a 70B model, 1,000 specs in one call.

    .venv/bin/python benchmarks/check_cases.py

Whole processes are timed, in turn; each must end with the exit code and the number of findings that are expected.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import headers_70b
from bench import REPO, WORK, machine, measured_on, median_ratio, table, write_json

sys.path.insert(0, str(REPO / "tests"))

SPECS = REPO / "benchmarks" / "specs"
BARE = "python -c pass"


@dataclass(frozen=True)
class Case:
    """One command, and what must come out of it."""

    arguments: list[str]
    exit_code: int
    num_findings: int


def main() -> None:
    """Measure and print."""
    options = _parser().parse_args()
    facts = machine()
    cases = make_cases(options.model, options.specs)
    seconds: dict[str, list[float]] = {name: [] for name in (BARE, *cases)}
    for case in cases.values():
        verify(options.python, case)
    for _ in range(options.rounds):
        seconds[BARE].append(_wall_s([str(options.python), "-c", "pass"])[0])
        for name, case in cases.items():
            spent, code = _wall_s(_command(options.python, case))
            if code != case.exit_code:
                sys.exit(f"error: {name}: exit code {code}, expected {case.exit_code}")
            seconds[name].append(spent)
    print(f"{measured_on(facts)}, medians of {options.rounds}\n\n{_table(seconds, cases)}")
    if options.json is not None:
        write_json(options.json, {"machine": facts, "seconds": seconds})


def make_cases(model: Path, num_specs: int) -> dict[str, Case]:
    """Write what the cases need under the work folder and return them by name."""
    shutil.rmtree(WORK / "check", ignore_errors=True)
    base = WORK / "check"
    big = headers_70b.write(base / "model-70b")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (model / name).is_file():
            shutil.copy(model / name, big / name)
    demo = (REPO / "examples" / "demo" / "demo.toml").read_text()
    data = REPO / "examples" / "demo" / "data"
    (base / "data").symlink_to(data)
    (base / "demo.toml").write_text(_relocated(demo, model))
    (base / "big.toml").write_text(_relocated(demo, big))
    many = []
    for number in range(num_specs):
        path = base / f"spec-{number:04}.toml"
        path.write_text(_relocated(demo, model).replace("seed = ", f"# {number}\nseed = "))
        many.append(str(path))
    forty = _forty(base / "forty")
    return {
        "the demo's spec, clean": Case([str(base / "demo.toml")], 0, 0),
        "40 mistakes": Case([str(forty)], 1, 40),
        "70B model, 30 shards": Case([str(base / "big.toml")], 0, 0),
        f"{num_specs:,} specs in one call": Case(many, 0, 0),
    }


def _forty(folder: Path) -> Path:
    """Lay the spec with 40 mistakes beside the small model and the data it names."""
    import tiny

    tiny.make_model(folder / "model")
    tiny.write_chats(folder / "data" / "chat.jsonl", 24)
    rows = (folder / "data" / "chat.jsonl").read_text().splitlines()
    rows[5] = '{"messages": [{"role": "user", "content": "And?"}]}'
    (folder / "data" / "bad.jsonl").write_text("\n".join(rows) + "\n")
    return Path(shutil.copy(SPECS / "forty_mistakes.toml", folder))


def _relocated(text: str, model: Path) -> str:
    """Return the demo's spec with the model at another place."""
    lines = text.splitlines()
    start = lines.index("[model]")
    at = next(i for i in range(start, len(lines)) if lines[i].startswith("path"))
    lines[at] = f"path = {json.dumps(str(model))}"
    return "\n".join(lines) + "\n"


def verify(python: Path, case: Case) -> None:
    """End the benchmark unless the command finds what it must."""
    command = _command(python, case)
    done = subprocess.run(
        [*command, "--format", "json"], check=False, capture_output=True, text=True
    )
    found = len(json.loads(done.stdout)["diagnostics"])
    if found != case.num_findings:
        sys.exit(f"error: {found} findings, expected {case.num_findings}:\n{done.stdout[-2000:]}")


def _command(python: Path, case: Case) -> list[str]:
    return [str(python), str(python.parent / "tunec"), "check", *case.arguments]


def _wall_s(command: list[str]) -> tuple[float, int]:
    started = time.perf_counter()
    code = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, cwd=REPO).returncode
    return time.perf_counter() - started, code


def _table(seconds: dict[str, list[float]], cases: dict[str, Case]) -> str:
    rows = [
        [
            name if name in cases else f"`{name}`",
            str(cases[name].num_findings) if name in cases else "",
            f"{1000 * statistics.median(values):.0f}",
            f"{1000 * max(values):.0f}",
            f"{median_ratio(values, seconds[BARE]):.1f}",
        ]
        for name, values in seconds.items()
    ]
    return table(["whole process", "findings", "median ms", "max", "x bare"], rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", type=Path, default=REPO / "models" / "smollm2-135m", help="a model folder")
    add("--specs", type=int, default=1000, help="specs of the last case (default: 1,000)")
    add("--rounds", type=int, default=7, help="times each command runs (default: 7)")
    add("--python", type=Path, default=Path(sys.executable), help="interpreter to measure")
    add("--json", type=Path, metavar="FILE", help="write all numbers to this file")
    return parser


if __name__ == "__main__":
    main()
