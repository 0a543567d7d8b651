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
                    path=RUN_DIR / "../data/chat.jsonl",
                    name="chat",
                ),
            ],
            tokenizer=data.Tokenizer(
                path=RUN_DIR / "../model",
                # chatml
                chat_template=RUN_DIR / "chat_template.jinja",
                eos_token="<|im_end|>",
                stop_words=["<|im_start|>"],
            ),
            options=data.Options(
                loss_on="assistant",
                max_length=128,
                too_long="truncate",
            ),
            seed=42,
            bad_rows="skip",
            max_bad_share=0.01,
            output=RUN_DIR,
            prepared_dir=RUN_DIR / "../prepared",
            workers=2,
        )


if __name__ == "__main__":
    main()
