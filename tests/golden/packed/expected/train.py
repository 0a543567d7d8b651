"""Train run.

Compiled by tunec 0.1.0 from spec.toml. Generated, do not edit: change the spec and compile again.
Start it with ./launch.sh, which runs this file once in each process.
"""

from pathlib import Path

from tunec.runtime import data, models, objectives, session, training

RUN_DIR = Path(__file__).resolve().parent
FINGERPRINT = "26ac92497e183bd4612bf7d30940f41ab5a35ce8641556c3480e4481fcf18e67"


def main() -> None:
    """Open the data, load the model, train it, save it."""
    with session.start(run_dir=RUN_DIR, seed=42) as run:
        tokenizer = models.load_tokenizer(
            RUN_DIR / "../model",
        )
        # Tokens are on disk: prepare.py made them before this process existed.
        train, evaluation = data.load(RUN_DIR, tokenizer)
        # Rows full of samples that do not see each other; from here on, a row is what batches count.
        train = data.pack(
            train,
            max_length=128,
        )

        # From here on all processes work together.
        run.connect(
            deepspeed=RUN_DIR / "deepspeed.json",
            device="cpu",
        )
        model = models.load_causal_lm(
            models.Base(
                RUN_DIR / "../model",
                attention="sdpa",
            ),
            dtype="fp32",
        )
        model = models.train_all(
            model,
        )
        models.recompute_activations(
            model,
        )

        training.fit(
            run,
            model=model,
            tokenizer=tokenizer,
            objective=objectives.Sft(),
            train=train,
            evaluation=evaluation,
            num_rows=21,
            num_epochs=2.0,
            micro_batch_size=2,
            # 4 / (2 x 1)
            accumulation_steps=2,
            eval_micro_batch_size=2,
            optimizer=training.AdamW(
                learning_rate=0.001,
                beta1=0.9,
                beta2=0.999,
                epsilon=1e-08,
                weight_decay=0.0,
            ),
            schedule="cosine",
            warmup_ratio=0.1,
            max_grad_norm=1.0,
            shuffle=True,
            save_every=100,
            keep_checkpoints=2,
            log_every=10,
            plot=True,
            fingerprint=FINGERPRINT,
            name="run",
        )


if __name__ == "__main__":
    main()
