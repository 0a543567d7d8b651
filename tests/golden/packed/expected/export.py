"""Write the trained model of run as one folder of safetensors, ready to be served.

Compiled by tunec 0.1.0 from spec.toml. Generated, do not edit: change the spec and compile again.
Start it with `tunec export`, or with `python export.py --help`.
"""

from pathlib import Path

from tunec.runtime import export, models

RUN_DIR = Path(__file__).resolve().parent


def main() -> None:
    """Merge, write, and compare the result with what was trained."""
    export.export(
        base=models.Base(
            RUN_DIR / "../model",
            attention="sdpa",
        ),
        method="full",
        trained=RUN_DIR / "final",
        output=RUN_DIR / "merged",
        dtype="same",
        max_shard_gib=5.0,
    )


if __name__ == "__main__":
    main()
