"""How long `tunec check` takes, as a user waits for it, against bare Python.

    .venv/bin/python benchmarks/check_speed.py
    .venv/bin/python benchmarks/check_speed.py --rounds 51 --json check.json --markdown

Whole processes are timed, the contestants in turn (A B C A B C ...), so that a busy minute hits them all.
"""

from __future__ import annotations

import argparse
import re
import shlex
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import REPO, machine, measured_on, median_ratio, table, write_json

BARE = "python -c pass"
CHECK = "tunec check"
_IMPORT_LINE = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \|\s+(\S+)")


@dataclass(frozen=True)
class Import:
    """One module as `-X importtime` saw it."""

    name: str
    self_us: int
    cumulative_us: int


def main() -> None:
    """Measure and print."""
    options = _parser().parse_args()
    facts = machine()
    commands = _commands(options.python, options.spec)
    seconds = measure(commands, rounds=options.rounds, warmup=options.warmup)
    imports = import_profile(commands[CHECK])
    text = f"{measured_on(facts)}, medians of {options.rounds}\n\n{_result_table(seconds)}"
    print(text if options.markdown else f"{text}\n\n{_profile_text(imports, options.top)}")
    if options.json is not None:
        write_json(options.json, _record(facts, seconds, imports))


def measure(commands: dict[str, list[str]], *, rounds: int, warmup: int) -> dict[str, list[float]]:
    """Return the wall seconds of each command in each round, after `warmup` rounds that do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(warmup + rounds):
        for name, command in commands.items():
            spent = _wall_s(command)
            if number >= warmup:
                seconds[name].append(spent)
    return seconds


def import_profile(command: Sequence[str]) -> list[Import]:
    """Return what the command imports, slowest first; the numbers are a little above those of a plain run."""
    profiled = [command[0], "-X", "importtime", *command[1:]]
    done = subprocess.run(profiled, check=True, capture_output=True, text=True, cwd=REPO)
    found = [
        Import(name, int(own), int(total)) for own, total, name in _IMPORT_LINE.findall(done.stderr)
    ]
    return sorted(found, key=lambda item: -item.self_us)


def by_package(imports: Iterable[Import]) -> dict[str, int]:
    """Return the microseconds each top-level package spends in its own modules, most first."""
    sums: dict[str, int] = defaultdict(int)
    for item in imports:
        sums[_package(item.name)] += item.self_us
    return dict(sorted(sums.items(), key=lambda pair: -pair[1]))


def _package(name: str) -> str:
    top = name.split(".", 1)[0]
    return "(standard library)" if top in sys.stdlib_module_names else top


def _wall_s(command: Sequence[str]) -> float:
    started = time.perf_counter()
    code = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, cwd=REPO).returncode
    spent = time.perf_counter() - started
    if code:
        sys.exit(f"error: exit code {code} from: {shlex.join(command)}")
    return spent


def _commands(python: Path, spec: Path) -> dict[str, list[str]]:
    """Return the contestants; `-S` shows what the environment's own start-up files cost."""
    tunec = python.parent / "tunec"
    if not tunec.exists():
        sys.exit(f"error: {tunec} is missing: install tunec into that environment first")
    if not spec.exists():
        sys.exit(f"error: there is no {spec}: name a spec")
    return {
        BARE: [str(python), "-c", "pass"],
        "python -S -c pass": [str(python), "-S", "-c", "pass"],
        "import attrs, cattrs": [str(python), "-c", "import attrs, cattrs"],
        CHECK: [str(python), str(tunec), "check", str(spec)],
    }


def _result_table(seconds: dict[str, list[float]]) -> str:
    rows = [
        [
            f"`{name}`",
            f"{1000 * statistics.median(values):.1f}",
            f"{1000 * min(values):.1f}",
            f"{1000 * max(values):.1f}",
            f"{median_ratio(values, seconds[BARE]):.2f}",
        ]
        for name, values in seconds.items()
    ]
    return table(["whole process", "median ms", "min", "max", "x bare"], rows)


def _profile_text(imports: Sequence[Import], top: int) -> str:
    packages = [
        [name, f"{spent / 1000:.1f}"] for name, spent in list(by_package(imports).items())[:top]
    ]
    modules = [
        [item.name, f"{item.self_us / 1000:.1f}", f"{item.cumulative_us / 1000:.1f}"]
        for item in imports[:top]
    ]
    total = sum(item.self_us for item in imports) / 1000
    return (
        f"imports of `{CHECK}`: {total:.0f} ms in {len(imports)} modules\n\n"
        + table(["package", "own ms"], packages)
        + "\n\n"
        + table(["module", "own ms", "with what it imports"], modules)
    )


def _record(
    facts: dict[str, str | int | float],
    seconds: dict[str, list[float]],
    imports: Sequence[Import],
) -> dict[str, object]:
    return {
        "machine": facts,
        "seconds": seconds,
        "median_s": {name: statistics.median(values) for name, values in seconds.items()},
        "ratio_to_bare": {
            name: median_ratio(values, seconds[BARE]) for name, values in seconds.items()
        },
        "imports_us": {item.name: [item.self_us, item.cumulative_us] for item in imports},
        "packages_us": by_package(imports),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "spec",
        type=Path,
        nargs="?",
        default=REPO / "examples" / "demo" / "demo.toml",
        help="the spec to check (default: the demo's)",
    )
    add("--rounds", type=int, default=21, help="times each command runs (default: 21)")
    add("--warmup", type=int, default=2, help="rounds before that are thrown away (default: 2)")
    add(
        "--python",
        type=Path,
        default=Path(sys.executable),
        help="interpreter of the environment to measure (default: this one); "
        "an editable install makes each start slower, also the bare one",
    )
    add("--top", type=int, default=15, help="lines of the import profile (default: 15)")
    add("--markdown", action="store_true", help="print only the table for the README")
    add("--json", type=Path, metavar="FILE", help="write all numbers to this file")
    return parser


if __name__ == "__main__":
    main()
