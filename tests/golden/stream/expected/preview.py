"""Look at the data of run: statistics, and samples as the loss sees them.

Compiled by tunec 0.1.0 from spec.toml. Generated, do not edit: change the spec and compile again.
Start it with `tunec preview`, or with `python preview.py --help`.
"""

from pathlib import Path

from tunec.runtime import data, preview, session

RUN_DIR = Path(__file__).resolve().parent


def main() -> None:
    """Prepare what is not prepared yet, of the first rows, and show it."""
    options = preview.options()
    with session.program(light=True):
        data.head(
            [
                data.Messages(
                    path=RUN_DIR / "../data/chat.jsonl",
                    name="chat",
                    weight=2.0,
                ),
                data.Alpaca(
                    path=RUN_DIR / "../data/facts.json",
                    name="facts",
                    weight=1.0,
                ),
            ],
            tokenizer=data.Tokenizer(
                path=RUN_DIR / "../model",
            ),
            options=data.Options(
                loss_on="assistant",
                max_length=96,
                too_long="truncate",
            ),
            seed=42,
            eval_rows=2,
            mix="interleave-over",
            output=RUN_DIR,
        )
        preview.show(
            RUN_DIR,
            tokenizer=data.Tokenizer(
                path=RUN_DIR / "../model",
            ),
            name="run",
            max_length=96,
            options=options,
        )


if __name__ == "__main__":
    main()
