"""Train run.

Compiled by tunec 0.1.0 from spec.toml. Generated, do not edit: change the spec and compile again.
Start it with ./launch.sh, which runs this file once in each process.
"""

from pathlib import Path

from tunec.runtime import data, models, objectives, session, training

RUN_DIR = Path(__file__).resolve().parent
FINGERPRINT = "9db586a14df585dd3e8c8c0799cb83bc78f485b46ea6ec941f48b928d8d18b48"


def main() -> None:
    """Open the data, load the model, train it, save it."""
    with session.start(run_dir=RUN_DIR, seed=42) as run:
        tokenizer = models.load_tokenizer(
            RUN_DIR / "../model",
        )
        # Tokens are on disk: prepare.py made them before this process existed.
        train, evaluation = data.load(RUN_DIR, tokenizer)
        # Texts end to end in rows of one length; from here on, a row is what batches count.
        train = data.join(
            train,
            max_length=32,
        )

        # From here on all processes work together.
        run.connect(
            deepspeed=RUN_DIR / "deepspeed.json",
            device="cpu",
        )
        model = models.load_causal_lm(
            models.Base(
                RUN_DIR / "../model",
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
            objective=objectives.Pretraining(),
            train=train,
            evaluation=evaluation,
            num_epochs=2.0,
            micro_batch_size=1,
            # 2 / (1 x 1)
            accumulation_steps=2,
            eval_micro_batch_size=1,
            optimizer=training.AdamW(
                learning_rate=0.0001,
                beta1=0.9,
                beta2=0.999,
                epsilon=1e-08,
                weight_decay=0.0,
            ),
            schedule="cosine",
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
