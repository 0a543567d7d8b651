"""Prepare the data of run: text becomes tokens, and those that carry loss are marked.

Compiled by tunec 0.1.0 from spec.toml. Generated, do not edit: change the spec and compile again.
./launch.sh runs this file first, before the processes that train exist: no time-out of theirs depends on the data.
"""

from pathlib import Path

from tunec.runtime import data, session

RUN_DIR = Path(__file__).resolve().parent


def main() -> None:
    """Read, tokenize and store; what fits already is used again."""
    with session.program(light=True):
        data.prepare(
            [
                data.Text(
                    path=RUN_DIR / "../data/facts.csv",
                    name="facts",
                    text="output",
                ),
            ],
            tokenizer=data.Tokenizer(
                path=RUN_DIR / "../model",
            ),
            options=data.Options(
                kind="text",
                max_length=32,
                too_long="split",
            ),
            seed=42,
            output=RUN_DIR,
        )


if __name__ == "__main__":
    main()
