"""Talk to the model of run: before training, trained, or merged.

Compiled by tunec 0.1.0 from spec.toml. Generated, do not edit: change the spec and compile again.
Start it with `tunec chat`, or with `python chat.py --help`.
"""

from pathlib import Path

from tunec.runtime import inference, models

RUN_DIR = Path(__file__).resolve().parent


def main() -> None:
    """Load what the command line asks for and answer."""
    inference.chat(
        base=models.Base(
            RUN_DIR / "../model",
        ),
        method="lora",
        trained=RUN_DIR / "final",
        merged=RUN_DIR / "merged",
        checkpoints=RUN_DIR / "checkpoints",
        device="cpu",
        max_new_tokens=512,
        temperature=0.7,
        top_p=0.9,
        repetition_penalty=1.0,
    )


if __name__ == "__main__":
    main()
