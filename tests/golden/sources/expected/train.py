"""Train run.

Compiled by tunec 0.1.0 from spec.toml. Generated, do not edit: change the spec and compile again.
Start it with ./launch.sh, which runs this file once in each process.
"""

from pathlib import Path

from tunec.runtime import data, models, objectives, session, training

RUN_DIR = Path(__file__).resolve().parent
FINGERPRINT = "22e1981716fa5f83e044e004d8593d8faedb2ec9594c0739cfb4dd0cad37ae33"


def main() -> None:
    """Open the data, load the model, train it, save it."""
    with session.start(run_dir=RUN_DIR, seed=42) as run:
        tokenizer = models.load_tokenizer(
            RUN_DIR / "../model",
            chat_template=RUN_DIR / "../chat.jinja",
        )
        # Tokens are on disk: prepare.py made them before this process existed.
        train, evaluation = data.load(RUN_DIR, tokenizer)

        # From here on all processes work together.
        run.connect(
            deepspeed=RUN_DIR / "deepspeed.json",
            device="cpu",
        )
        model = models.load_causal_lm(
            models.Base(
                RUN_DIR / "../model",
            ),
            dtype="bf16",
        )
        model = models.add_lora(
            model,
            rank=4,
            # update scaled by 2
            alpha=8.0,
            dropout=0.0,
            # 2 modules
            targets=[
                "down_proj",
            ],
        )

        training.fit(
            run,
            model=model,
            tokenizer=tokenizer,
            objective=objectives.Sft(),
            train=train,
            evaluation=evaluation,
            num_epochs=0.5,
            micro_batch_size=2,
            # 4 / (2 x 1)
            accumulation_steps=2,
            eval_micro_batch_size=2,
            optimizer=training.AdamW(
                learning_rate=0.0001,
                beta1=0.9,
                beta2=0.999,
                epsilon=1e-08,
                weight_decay=0.0,
            ),
            schedule="constant",
            warmup_ratio=0.1,
            max_grad_norm=1.0,
            shuffle=True,
            save_every=0,
            keep_checkpoints=2,
            log_every=1,
            plot=False,
            fingerprint=FINGERPRINT,
            name="run",
        )


if __name__ == "__main__":
    main()
