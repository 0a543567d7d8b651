"""Read the data of run while it trains: rows become tokens as they are needed, epoch after epoch.

Compiled by tunec 0.1.0 from spec.toml. Generated, do not edit: change the spec and compile again.
./launch.sh runs this file beside the processes that train. It stays a little ahead of them, and ends with them.
"""

from pathlib import Path

from tunec.runtime import data, session

RUN_DIR = Path(__file__).resolve().parent


def main() -> None:
    """Read, shuffle, tokenize and hand over, until the training has all its steps."""
    with session.program(light=True):
        data.feed(
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
            shuffle_buffer=16,
            num_steps=2,
            global_size=8,
            output=RUN_DIR,
        )


if __name__ == "__main__":
    main()
