"""How full packed rows are, by tunec and by its peers, and how much padding each way to form batches leaves.

Everything is counted from the lengths of samples alone; nothing is timed. The peers' own code packs, each in its venv.
"""

# mypy finds tunec only where MYPYPATH lays it out, as the tests do.
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import argparse
import json
import random
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from bench import REPO, table

from tunec.runtime.data.batches import GlobalBatches, MicroSize
from tunec.runtime.data.packing import best_fit

PEERS = {
    "LLaMA-Factory (`greedy_knapsack`)": """
import json, sys
from llamafactory.data.processor.processor_utils import greedy_knapsack
lengths, capacity, window = json.load(sys.stdin)
parts = [lengths[at:at + window] for at in range(0, len(lengths), window)]
print(sum(len(greedy_knapsack(part, capacity)) for part in parts))
""",
    "TRL (`bfd`)": """
import json, sys
from datasets import Dataset
from trl import pack_dataset
lengths, capacity, window = json.load(sys.stdin)
data = Dataset.from_dict({"input_ids": [[0] * length for length in lengths]})
print(len(pack_dataset(data, capacity, "bfd", {"batch_size": window})))
""",
}
WINDOW = 1000
"""Rows that the peers pack at a time, by their defaults."""


def main() -> None:
    """Count, and print both tables."""
    options = _parser().parse_args()
    known = json.loads(options.lengths.read_text())
    drawn = random.Random(0)
    sets = {
        f"{len(known):,}": known,
        "20,000": [max(8, round(drawn.choice(known) * drawn.uniform(0.7, 1.4))) for _ in range(20_000)],
    }  # fmt: skip
    pythons = {
        "LLaMA-Factory (`greedy_knapsack`)": options.llamafactory,
        "TRL (`bfd`)": options.trl,
    }
    rows = []
    for name in ("tunec", *PEERS):
        cells = [name]
        for lengths in sets.values():
            count = _rows(name, pythons.get(name), lengths, options.max_length)
            full = sum(lengths) / (count * options.max_length) if count else 0.0
            cells += [f"{count:,}", f"{100 * full:.2f} %"] if count else ["-", "-"]
        rows.append(cells)
    header = ["packed by"]
    header += [words for name in sets for words in (f"rows of {name} samples", "full")]
    print(table(header, rows), end="\n\n")
    print(table(["batches", "places", "padding"], list(_wastes(sets["20,000"], options))))


def _rows(name: str, python: Path | None, lengths: Sequence[int], capacity: int) -> int:
    cut = [min(length, capacity) for length in lengths]
    if name == "tunec":
        return len(best_fit(cut, capacity=capacity))
    if python is None:
        return 0
    done = subprocess.run(
        [str(python), "-c", PEERS[name]],
        input=json.dumps([cut, capacity, WINDOW]), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(done.stdout.split()[-1])


def _wastes(lengths: Sequence[int], options: argparse.Namespace) -> Iterable[list[str]]:
    """Yield a row for each way to form batches: all places of an epoch, and the share that is padding."""
    cut = [min(length, options.max_length) for length in lengths]
    size, micro = options.global_size, options.micro_size
    drawn = random.Random(0).sample(range(len(cut)), len(cut))
    yield _waste("random micro batches", _chunks(drawn, micro), cut)
    for name, grouped in (("sorted inside a step (tunec)", False), ("`group_by_length`", True)):
        order = GlobalBatches(cut, global_size=size, seed=0, shuffle=True, group_by_length=grouped)
        steps = [order.step(number) for number in range(len(cut) // size)]
        yield _waste(name, [m for step in steps for m in _chunks(step, micro)], cut)
        by_tokens = MicroSize(tokens=options.micro_tokens)
        micros = [m for step in steps for m in by_tokens.cut(step, cut)]
        yield _waste(f"{name}, by tokens", micros, cut)
    yield [f'`packing = "padding-free"`, {len(cut):,} samples', f"{sum(cut):,}", "0.00 %"]
    places = len(best_fit(cut, capacity=options.max_length)) * options.max_length
    yield ['`packing = "isolated"`', f"{places:,}", f"{100 * (1 - sum(cut) / places):.2f} %"]


def _waste(name: str, micros: Sequence[Sequence[int]], lengths: Sequence[int]) -> list[str]:
    places = sum(len(micro) * max(lengths[index] for index in micro) for micro in micros)
    real = sum(lengths[index] for micro in micros for index in micro)
    passes = f"{len(micros):,} passes"
    return [f"{name}, {passes}", f"{places:,}", f"{100 * (1 - real / places):.2f} %"]


def _chunks(order: Sequence[int], size: int) -> list[list[int]]:
    found = np.array_split(np.asarray(order), range(size, len(order), size))
    return [part.tolist() for part in found]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--lengths", type=Path, default=REPO / "tests" / "runtime" / "alpaca_lengths.json")
    add("--max-length", type=int, default=2048)
    add("--global-size", type=int, default=32)
    add("--micro-size", type=int, default=4)
    add("--micro-tokens", type=int, default=2048)
    add("--llamafactory", type=Path, help="Python of a venv with LLaMA-Factory")
    add("--trl", type=Path, help="Python of a venv with TRL")
    return parser


if __name__ == "__main__":
    main()
