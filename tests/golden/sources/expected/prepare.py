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
                data.Messages(
                    path=RUN_DIR / "../data/turns.jsonl",
                    name="turns",
                    messages="turns",
                    role="who",
                    content="text",
                ),
            ],
            evaluation=[
                data.Messages(
                    path=RUN_DIR / "../data/chat.jsonl",
                    name="chat",
                    limit=4,
                ),
            ],
            tokenizer=data.Tokenizer(
                path=RUN_DIR / "../model",
                chat_template=RUN_DIR / "../chat.jinja",
            ),
            options=data.Options(
                loss_on="assistant",
                max_length=100,
                too_long="drop",
            ),
            seed=42,
            output=RUN_DIR,
        )


if __name__ == "__main__":
    main()
