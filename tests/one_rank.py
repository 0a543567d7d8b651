"""One process of several that train the same compiled runs, one after the other: `python one_rank.py RUN_DIR...`."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    """Train each run folder; the environment says which rank this is."""
    import inprocess

    for run_dir in map(Path, sys.argv[1:]):
        inprocess.train(run_dir)
        print(f"trained {run_dir.name}", flush=True)


if __name__ == "__main__":
    main()
