"""Loss, gradients and metrics of our objectives against TRL's, on the same model and the same tokens.

    python3 -m venv /tmp/venv-trl && /tmp/venv-trl/bin/pip install -c benchmarks/constraints-trl.txt trl peft
    .venv/bin/python benchmarks/parity/compare.py --trl /tmp/venv-trl

Differences are relative to the larger of the two, and absolute below 1; of gradients, relative to the largest of them.
Above 1e-5 the exit code is 1.
"""

# The scripts of this folder are no package.
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from bench import table  # noqa: E402
from cases import write  # noqa: E402

BOUND = 1e-5


def main() -> int:
    """Run both sides and print the differences."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trl", type=Path, required=True, help="virtual environment with TRL")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write(folder)
        ours = computed(Path(sys.executable), HERE / "ours.py", folder)
        theirs = computed(given.trl / "bin" / "python", HERE / "trl_side.py", folder)
    rows, worst = [], 0.0
    for case in ours:
        found = dict(differences(ours[case], theirs[case]))
        worst = max(worst, *found.values())
        others = max((v for n, v in found.items() if n not in ("loss", "gradients")), default=0.0)
        names = len(found) - 2
        rows.append([case, f"{ours[case]['loss']:.6f}", f"{theirs[case]['loss']:.6f}", *(f"{value:.0e}" for value in (found["loss"], found["gradients"], others)), str(names)])  # fmt: skip
    print(table(["case", "loss", "TRL", "loss differs", "gradients", "metrics", "of"], rows))
    print(f"\nlargest difference: {worst:.1e}")
    return int(worst > BOUND)


def computed(python: Path, script: Path, folder: Path) -> dict[str, Any]:
    """Return what a side writes."""
    out = folder / f"{script.stem}.json"
    done = subprocess.run(
        [python, script, folder, out], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{script.name} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield how far the values differ that both sides have."""
    for name in ours:
        if name in theirs:
            one, other = (value if isinstance(value, list) else [value] for value in (ours[name], theirs[name]))  # fmt: skip
            size = max(abs(value) for value in (*one, *other))
            # Margins are small differences of large sums.
            size = size if name == "gradients" else max(size, 1.0)
            yield name, max(abs(a - b) for a, b in zip(one, other, strict=True)) / size


if __name__ == "__main__":
    raise SystemExit(main())
