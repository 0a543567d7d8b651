"""Train run.

Compiled by tunec 0.1.0 from spec.toml. Generated, do not edit: change the spec and compile again.
Start it with ./launch.sh, which runs this file once in each process.
"""

from pathlib import Path

from tunec.runtime import data, models, objectives, session, training

RUN_DIR = Path(__file__).resolve().parent
FINGERPRINT = "5c0b3c5b3c18dbda81479e28c1e0df94ea51e7845286bea39a81b354ee8de679"


def main() -> None:
    """Open the data, load the model, train it, save it."""
    with session.start(run_dir=RUN_DIR, seed=42) as run:
        tokenizer = models.load_tokenizer(
            RUN_DIR / "../model",
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
            dtype="fp32",
        )
        model = models.add_lora(
            model,
            rank=2,
            # update scaled by 4
            alpha=8.0,
            dropout=0.1,
            # 4 modules
            targets=[
                "q_proj",
                "v_proj",
            ],
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
            num_rows=10,
            num_steps=2,
            # 4 / (1 x 2)
            micro_batch_size=2,
            accumulation_steps=1,
            eval_micro_batch_size=2,
            optimizer=training.AdamW(
                learning_rate=0.0001,
                beta1=0.9,
                beta2=0.999,
                epsilon=1e-08,
                weight_decay=0.0,
            ),
            schedule="cosine",
            max_grad_norm=1.0,
            shuffle=False,
            save_every=100,
            keep_checkpoints=2,
            log_every=10,
            plot=True,
            fingerprint=FINGERPRINT,
            name="run",
        )


if __name__ == "__main__":
    main()
