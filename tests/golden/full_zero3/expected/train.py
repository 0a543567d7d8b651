"""Train full.

Compiled by tunec 0.1.0 from spec.toml. Generated, do not edit: change the spec and compile again.
Start it with ./launch.sh, which runs this file once in each process.
"""

from pathlib import Path

from tunec.runtime import data, models, objectives, session, training

RUN_DIR = Path(__file__).resolve().parent
FINGERPRINT = "cf40ab16b326bf20ffd76543000ce96224aeca16518f17267497793f69db304b"


def main() -> None:
    """Open the data, load the model, train it, save it."""
    with session.start(run_dir=RUN_DIR, seed=7) as run:
        tokenizer = models.load_tokenizer(
            RUN_DIR / "../../model",
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
                RUN_DIR / "../../model",
                attention="eager",
            ),
            dtype="fp32",
        )
        model = models.train_all(
            model,
        )

        training.fit(
            run,
            model=model,
            tokenizer=tokenizer,
            objective=objectives.Sft(),
            train=train,
            evaluation=evaluation,
            num_rows=24,
            num_steps=2,
            micro_batch_size=2,
            accumulation_steps=2,
            eval_micro_batch_size=2,
            optimizer=training.AdamW(
                learning_rate=0.001,
                beta1=0.9,
                beta2=0.999,
                epsilon=1e-08,
                weight_decay=0.1,
            ),
            schedule="linear",
            # 0.4 x 2 steps, rounded up
            warmup_steps=1,
            max_grad_norm=1.0,
            shuffle=True,
            save_every=1,
            keep_checkpoints=2,
            log_every=10,
            plot=True,
            fingerprint=FINGERPRINT,
            name="full",
        )


if __name__ == "__main__":
    main()
