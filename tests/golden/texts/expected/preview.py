"""Look at the data of run: statistics, and samples as the loss sees them.

Compiled by tunec 0.1.0 from spec.toml. Generated, do not edit: change the spec and compile again.
Start it with `tunec preview`, or with `python preview.py --help`.
"""

from pathlib import Path

from tunec.runtime import data, preview, session

RUN_DIR = Path(__file__).resolve().parent


def main() -> None:
    """Prepare what is not prepared yet, as prepare.py does, and show it."""
    options = preview.options()
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
            tell=False,
        )
        preview.show(
            RUN_DIR,
            tokenizer=data.Tokenizer(
                path=RUN_DIR / "../model",
            ),
            name="run",
            max_length=32,
            options=options,
        )


if __name__ == "__main__":
    main()
