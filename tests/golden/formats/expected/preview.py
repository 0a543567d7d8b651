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
                data.ShareGpt(
                    path=RUN_DIR / "../data/calls.json",
                    name="calls",
                    weight=0.5,
                    tools="tools",
                    system="system",
                ),
                data.Alpaca(
                    path=RUN_DIR / "../data/facts.csv",
                    name="facts",
                    sample=12,
                    weight=0.25,
                ),
                data.Messages(
                    path=RUN_DIR / "../data/turns*.jsonl",
                    name="data",
                    limit=6,
                    weight=0.125,
                    messages="turns",
                    role="who",
                    content="text",
                ),
                data.Alpaca(
                    path=RUN_DIR / "../data/facts.json",
                    name="facts",
                    limit=5,
                    weight=0.125,
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
                loss_on="last",
                max_length=200,
                too_long="truncate",
                reserved_answer=8,
            ),
            seed=42,
            eval_rows=2,
            mix="interleave-over",
            output=RUN_DIR,
            tell=False,
        )
        preview.show(
            RUN_DIR,
            tokenizer=data.Tokenizer(
                path=RUN_DIR / "../model",
                # chatml
                chat_template=RUN_DIR / "chat_template.jinja",
                eos_token="<|im_end|>",
                stop_words=["<|im_start|>"],
            ),
            name="run",
            max_length=200,
            options=options,
        )


if __name__ == "__main__":
    main()
